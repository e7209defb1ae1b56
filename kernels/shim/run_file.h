// Runs one launch that stands in a file, and writes what the buffers hold afterwards into another.
//
// All numbers are little-endian. The input: the bytes "nyxlnch1"; u32 blocks, threads; u64 dynamic shared bytes,
// seed, bytes of the argument, number of buffers; the argument; per buffer u64 where its address stands in the
// argument, u64 its bytes, and the bytes. The output: the bytes of every buffer. Rust's side is the test beside
// the launcher.
#pragma once

#include <stdio.h>
#include <string.h>

#include <string>
#include <utility>
#include <vector>

namespace shim {

template <typename Argument>
struct Kernel {
    const char *name;
    void (*body)(const Argument);
};

inline void read(FILE *file, void *to, size_t bytes) {
    if (bytes > 0 && fread(to, 1, bytes, file) != bytes) {
        fprintf(stderr, "the launch file ends early\n");
        exit(2);
    }
}

template <typename T>
T number(FILE *file) {
    T value;
    read(file, &value, sizeof value);
    return value;
}

template <typename Argument>
struct Call {
    Argument argument;
    void (*body)(const Argument);
};

template <typename Argument>
void call(void *call) {
    const auto *const that = static_cast<Call<Argument> *>(call);
    that->body(that->argument);
}

template <typename Argument>
int run_file(int argc, char **argv, const std::vector<Kernel<Argument>> &kernels) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s KERNEL IN OUT\n", argv[0]);
        return 2;
    }
    Call<Argument> launched = {};
    for (const auto &kernel : kernels) {
        if (strcmp(kernel.name, argv[1]) == 0) launched.body = kernel.body;
    }
    FILE *const in = fopen(argv[2], "rb"), *const out = fopen(argv[3], "wb");
    if (!launched.body || !in || !out) {
        fprintf(stderr, "no such kernel, or a file cannot be opened\n");
        return 2;
    }
    char magic[8];
    read(in, magic, sizeof magic);
    const auto blocks = number<uint32_t>(in), threads = number<uint32_t>(in);
    const auto shared = number<uint64_t>(in), seed = number<uint64_t>(in);
    const auto bytes = number<uint64_t>(in), count = number<uint64_t>(in);
    if (memcmp(magic, "nyxlnch1", 8) != 0 || bytes != sizeof(Argument)) {
        fprintf(stderr, "not a launch file for this kernel: %zu bytes of argument wanted\n", sizeof(Argument));
        return 2;
    }
    read(in, &launched.argument, sizeof(Argument));
    std::vector<std::pair<unsigned char *, size_t>> buffers;
    for (uint64_t i = 0; i < count; i++) {
        const auto offset = number<uint64_t>(in), size = number<uint64_t>(in);
        // Each its own allocation of just this size, so that what lies behind it is watched.
        void *memory = nullptr;
        if (offset + sizeof(void *) > sizeof(Argument) || posix_memalign(&memory, 256, size ? size : 1)) return 2;
        read(in, memory, size);
        memcpy(reinterpret_cast<char *>(&launched.argument) + offset, &memory, sizeof memory);
        buffers.emplace_back(static_cast<unsigned char *>(memory), size);
    }
    launch(blocks, threads, shared, seed, call<Argument>, &launched);
    for (const auto &[memory, size] : buffers) {
        if (fwrite(memory, 1, size, out) != size) return 2;
        free(memory);
    }
    fclose(in);
    return fclose(out) == 0 ? 0 : 2;
}

}  // namespace shim
