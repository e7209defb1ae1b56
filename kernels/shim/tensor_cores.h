// The parts of CUDA's language that work on matrices, on the processor; continues cuda_on_host.h.
//
// Products of a warp: all lanes show their fragments, then each computes its four sums. Of
// asynchronous copies some are done at once and the others not before their thread waits for them, drawn from the
// seed, so that a wait that is missing shows, and a copy that begins too early.
#pragma once

#include "cuda_on_host.h"

#include <vector>

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

namespace shim {

struct Fragments {
    unsigned a[4];
    unsigned b[2];
    const unsigned short *row;
};

inline Fragments shown_fragments[2][kThreadsMax];

// Shows a lane's fragments to the warp; returns all 32.
SHIM_UNWATCHED inline const Fragments *show_fragments(const Fragments &own, char operation) {
    Fiber *const fiber = machine.current;
    Fragments *const shown = shown_fragments[fiber->parity ^= 1];
    shown[fiber->thread] = own;
    wait(warp_gate(0xffffffffu), 32, operation, 0xffffffffu);
    return shown + fiber->thread / 32 * 32;
}

struct Copy {
    void *to;
    const void *from;
    bool there;
};

struct Copies {
    // A group ends where the next begins; the last one is open.
    std::vector<std::vector<Copy>> groups = {{}};
};

inline Copies copies[kThreadsMax];

inline void perform(const Copy &copy) {
    if (copy.there) {
        memcpy(copy.to, copy.from, 16);
    } else {
        memset(copy.to, 0, 16);
    }
}

inline unsigned half_of(unsigned pair, unsigned which) { return pair >> (16 * which) & 0xffffu; }

}  // namespace shim

inline void load_matrices(unsigned (&to)[4], const void *row) {
    shim::Fragments own = {};
    own.row = static_cast<const unsigned short *>(row);
    if (uintptr_t(row) % 16 != 0) shim::fail("loads a matrix row that is not aligned to 16 bytes");
    const shim::Fragments *const all = shim::show_fragments(own, 'l');
    const unsigned lane = shim::thread() % 32;
    for (unsigned matrix = 0; matrix < 4; matrix++) {
        memcpy(&to[matrix], all[matrix * 8 + lane / 4].row + lane % 4 * 2, sizeof(unsigned));
    }
}

inline void load_transposed(unsigned (&to)[4], const void *row) {
    shim::Fragments own = {};
    own.row = static_cast<const unsigned short *>(row);
    if (uintptr_t(row) % 16 != 0) shim::fail("loads a matrix row that is not aligned to 16 bytes");
    const shim::Fragments *const all = shim::show_fragments(own, 't');
    const unsigned lane = shim::thread() % 32;
    for (unsigned matrix = 0; matrix < 4; matrix++) {
        const unsigned first = matrix * 8 + lane % 4 * 2, column = lane / 4;
        to[matrix] = all[first].row[column] | unsigned(all[first + 1].row[column]) << 16;
    }
}

// sums [16, 8] += a [16, 16] b [16, 8] in the layout of mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16"):
// words of a are rows lane/4 and lane/4 + 8 of columns 2 (lane % 4), then the same of columns 8 farther; words of b
// are rows 2 (lane % 4) and 8 farther of column lane/4; sums are rows lane/4 and lane/4 + 8, columns 2 (lane % 4).
template <typename T>
void multiply_add(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    const shim::Fragments *const all = shim::show_fragments({{a[0], a[1], a[2], a[3]}, {b0, b1}, nullptr}, 'm');
    const unsigned lane = shim::thread() % 32;
    const auto number = [](unsigned pair, unsigned which) {
        return widen(T{(unsigned short)shim::half_of(pair, which)});
    };
    for (unsigned i = 0; i < 4; i++) {
        const unsigned row = lane / 4, column = lane % 4 * 2 + i % 2, lower = i / 2;
        float sum = 0.0f;
        for (unsigned k = 0; k < 16; k++) {
            const unsigned owner = k % 8 / 2, word = k / 8;
            const float left = number(all[row * 4 + owner].a[lower + 2 * word], k % 2);
            const float right = number(all[column * 4 + owner].b[word], k % 2);
            sum += left * right;
        }
        sums[i] += sum;
    }
}

inline void copy_later(void *to, const void *from, bool there) {
    if (uintptr_t(to) % 16 != 0 || uintptr_t(from) % 16 != 0) shim::fail("copies what is not aligned to 16 bytes");
    const shim::Copy copy = {to, from, there};
    if (shim::draw() % 2) {
        shim::perform(copy);
    } else {
        shim::copies[shim::thread()].groups.back().push_back(copy);
    }
}

inline void close_copies() { shim::copies[shim::thread()].groups.push_back({}); }

template <int Open>
void await_copies() {
    auto &groups = shim::copies[shim::thread()].groups;
    // Of the closed groups all but the last few; copies in no group are not waited for.
    while (groups.size() > Open + 1) {
        for (const auto &copy : groups.front()) shim::perform(copy);
        groups.erase(groups.begin());
    }
}
