// Kernels in a shared library, each launched by its name; Rust's side is the test backend.
#pragma once

#include <string.h>
#include <sys/mman.h>

namespace shim {

constexpr size_t kPage = 4096;

inline size_t pages(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

struct Entry {
    const char *name;
    size_t bytes;
    void (*call)(void *);
};

}  // namespace shim

#define NYX_KERNEL(Argument, kernel)                                                             \
    shim::Entry {                                                                                \
        #kernel, sizeof(Argument), [](void *at) { kernel(*static_cast<const Argument *>(at)); } \
    }

// Returns 0, or 1 where there is no such kernel, or 2 where its argument is of another size.
#define NYX_LIBRARY(...)                                                                                           \
    extern "C" int nyx_launch(const char *name, unsigned blocks, unsigned threads, size_t shared, uint64_t seed,   \
                              void *argument, size_t bytes) {                                                      \
        static const shim::Entry entries[] = {__VA_ARGS__};                                                        \
        for (const auto &entry : entries) {                                                                        \
            if (strcmp(entry.name, name) != 0) continue;                                                           \
            if (entry.bytes != bytes) return 2;                                                                    \
            shim::launch(blocks, threads, shared, seed, entry.call, argument);                                     \
            return 0;                                                                                              \
        }                                                                                                          \
        return 1;                                                                                                  \
    }

// Returns memory between two pages that nobody may touch, which ends (but for the alignment of 16 bytes) where the
// second begins: a kernel that reads or writes beyond it ends the process.
extern "C" void *nyx_allocate(size_t bytes) {
    const size_t inner = shim::pages(bytes ? bytes : 1);
    void *const start = mmap(nullptr, inner + 2 * shim::kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return nullptr;
    unsigned char *const usable = static_cast<unsigned char *>(start) + shim::kPage;
    if (mprotect(usable, inner, PROT_READ | PROT_WRITE) != 0) return nullptr;
    return usable + inner - (bytes + 15) / 16 * 16;
}

extern "C" void nyx_release(void *at, size_t bytes) {
    unsigned char *const end = static_cast<unsigned char *>(at) + (bytes + 15) / 16 * 16;
    const size_t inner = shim::pages(bytes ? bytes : 1);
    munmap(end - inner - shim::kPage, inner + 2 * shim::kPage);
}
