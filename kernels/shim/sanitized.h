// What programs for sanitizers share: arrays of just their bytes, and launches in two orders of threads.
#pragma once

#include <vector>

namespace {

// An allocation of just so many bytes, of small numbers in any format.
struct Array {
    std::vector<unsigned char> bytes;

    explicit Array(size_t count) : bytes(count) {
        for (size_t i = 0; i < count; i++) bytes[i] = (unsigned char)(i % 4 == 3 ? 0x3c : i * 37 % 64);
    }

    template <typename T = void>
    T *at() {
        return reinterpret_cast<T *>(bytes.data());
    }
};

template <typename Argument, void (*Kernel)(const Argument)>
void run(unsigned blocks, unsigned threads, size_t shared, Argument argument) {
    for (uint64_t seed = 1; seed <= 2; seed++) {
        const auto body = [](void *at) { Kernel(*static_cast<const Argument *>(at)); };
        shim::launch(blocks, threads, shared, seed, body, &argument);
    }
}

}  // namespace
