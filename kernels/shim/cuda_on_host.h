// Enough of CUDA's language to compile a kernel as C++ and to run it on the processor, for tests.
//
// Blocks run one after the other. The threads of a block are fibers of one thread of the system: each runs until
// it waits at a barrier, a shuffle or a vote, and then another one runs, in an order drawn anew for every round
// from a seed. So a result that depends on the order of threads shows, and so does a barrier that some threads
// never reach: that aborts. Lanes of a warp that meet in different operations abort, too.
//
// Under -fsanitize=address the end of the dynamic shared memory and of the arrays in it is watched. Under
// -fsanitize=thread every fiber counts as a thread, and only __syncthreads and __syncwarp order their accesses
// (shuffles and votes do not, as CUDA has it), so that every race between two barriers is found, whatever the
// order in which the fibers happened to run.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
// What the shim itself does between fibers is no race of the kernel's.
#define SHIM_UNWATCHED __attribute__((no_sanitize_thread, noinline))
#else
#define SHIM_UNWATCHED __attribute__((noinline))
#endif

#define __global__
#define __device__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __restrict__
#define __launch_bounds__(...)
// Blocks run one after the other, so that one copy serves them all.
#define __shared__ static

using std::size_t;

struct alignas(16) float4 {
    float x, y, z, w;
};

struct alignas(16) double2 {
    double x, y;
};

struct dim3 {
    unsigned x, y, z;
};

namespace shim {

// Where threads wait for each other.
struct Gate {
    unsigned arrived;
    unsigned generation;
    char operation;
    unsigned mask;
    // What orders accesses, in turns: a thread that is late in leaving must not see what an early one has
    // already brought to the next barrier.
    uint64_t tokens[2];
};

struct Fiber {
    ucontext_t context;
    unsigned thread;
    char *stack;
    const Gate *waits_at;
    unsigned waits_for;
    unsigned parity;
    bool finished;
    void *sanitizer;
};

constexpr unsigned kThreadsMax = 1024;
constexpr size_t kStack = 256 * 1024;

struct Machine {
    ucontext_t scheduler;
    Fiber fibers[kThreadsMax];
    Fiber *current;
    Gate block;
    Gate warps[kThreadsMax / 32];
    // What the lanes of a warp show each other; two sets, because a lane may be one operation ahead.
    uint64_t shown[2][kThreadsMax];
    dim3 grid, size, index;
    unsigned char *shared;
    size_t shared_bytes;
    uint64_t seed;
    void (*body)(void *);
    void *argument;
    void *sanitizer;
    const void *stack;
    size_t stack_bytes;
};

inline Machine machine;

[[noreturn]] inline void fail(const char *what) {
    fprintf(stderr, "cuda_on_host: block %u, thread %u: %s\n", machine.index.x,
            machine.current ? machine.current->thread : 0, what);
    abort();
}

// Gives the processor to the scheduler.
SHIM_UNWATCHED inline void pause() {
    Fiber *const fiber = machine.current;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(fiber->finished ? nullptr : &fiber->sanitizer, machine.stack, machine.stack_bytes);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(machine.sanitizer, 1);
#endif
    swapcontext(&fiber->context, &machine.scheduler);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fiber->sanitizer, nullptr, nullptr);
#endif
}

// Waits until `expected` threads have come to the gate.
SHIM_UNWATCHED inline void wait(Gate &gate, unsigned expected, char operation, unsigned mask) {
    if (gate.arrived > 0 && (gate.operation != operation || gate.mask != mask)) {
        fail("meets others of its warp in another operation or with another mask");
    }
    gate.operation = operation;
    gate.mask = mask;
    const unsigned generation = gate.generation;
    if (++gate.arrived == expected) {
        gate.arrived = 0;
        gate.generation++;
        return;
    }
    machine.current->waits_at = &gate;
    machine.current->waits_for = generation;
    pause();
}

#if defined(__SANITIZE_THREAD__)
SHIM_UNWATCHED inline void *token_of(Gate &gate) { return &gate.tokens[gate.generation % 2]; }
#endif

// Waits, and orders memory accesses before against those after.
inline void barrier(Gate &gate, unsigned expected, char operation, unsigned mask) {
#if defined(__SANITIZE_THREAD__)
    void *const token = token_of(gate);
    __tsan_release(token);
#endif
    wait(gate, expected, operation, mask);
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(token);
#endif
}

SHIM_UNWATCHED inline unsigned thread() { return machine.current->thread; }

SHIM_UNWATCHED inline Gate &warp_gate(unsigned mask) {
    if (!(mask >> (machine.current->thread % 32) & 1)) fail("is not in its own mask");
    return machine.warps[machine.current->thread / 32];
}

// Shows a value to the warp and waits for all in the mask; returns what all have shown.
SHIM_UNWATCHED inline const uint64_t *show(unsigned mask, uint64_t value, char operation) {
    Fiber *const fiber = machine.current;
    uint64_t *const shown = machine.shown[fiber->parity ^= 1];
    shown[fiber->thread] = value;
    wait(warp_gate(mask), unsigned(__builtin_popcount(mask)), operation, mask);
    return shown + fiber->thread / 32 * 32;
}

template <typename T>
SHIM_UNWATCHED inline T shuffle(unsigned mask, T value, unsigned source, char operation) {
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle takes up to eight bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(T));
    const uint64_t *const shown = show(mask, bits, operation);
    if (!(mask >> source & 1)) fail("reads from a lane that is not in the mask");
    memcpy(&value, &shown[source], sizeof(T));
    return value;
}

SHIM_UNWATCHED inline unsigned vote(unsigned mask, bool value) {
    const uint64_t *const shown = show(mask, value, 'v');
    unsigned votes = 0;
    for (unsigned lane = 0; lane < 32; lane++) {
        if (mask >> lane & 1) votes |= unsigned(shown[lane]) << lane;
    }
    return votes;
}

// Watches a gap behind an array in shared memory; only where addresses are checked is there one.
inline unsigned char *red_zone(unsigned char *at) {
#if defined(__SANITIZE_ADDRESS__)
    unsigned char *const from = at + (8 - uintptr_t(at) % 8) % 8;
    __asan_poison_memory_region(from, 24);
    return from + 24;
#else
    return at;
#endif
}

SHIM_UNWATCHED inline void enter() {
    Fiber *const fiber = machine.current;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &machine.stack, &machine.stack_bytes);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(&machine.body);
#endif
    machine.body(machine.argument);
#if defined(__SANITIZE_THREAD__)
    __tsan_release(&machine.argument);
#endif
    fiber->finished = true;
    pause();
}

SHIM_UNWATCHED inline uint64_t draw() {
    machine.seed = machine.seed * 6364136223846793005u + 1442695040888963407u;
    return machine.seed >> 33;
}

SHIM_UNWATCHED inline void resume(Fiber &fiber) {
    machine.current = &fiber;
#if defined(__SANITIZE_ADDRESS__)
    void *own;
    __sanitizer_start_switch_fiber(&own, fiber.stack, kStack);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(fiber.sanitizer, 1);
#endif
    swapcontext(&machine.scheduler, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#endif
}

SHIM_UNWATCHED inline void start(Fiber &fiber, unsigned thread) {
    char *const stack = fiber.stack ? fiber.stack : static_cast<char *>(malloc(kStack));
    memset(static_cast<void *>(&fiber), 0, sizeof fiber);
    fiber.stack = stack;
    fiber.thread = thread;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stack;
    fiber.context.uc_stack.ss_size = kStack;
    makecontext(&fiber.context, enter, 0);
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack, kStack);
#endif
#if defined(__SANITIZE_THREAD__)
    fiber.sanitizer = __tsan_create_fiber(0);
#endif
}

// Runs the fibers of a block until all have finished.
SHIM_UNWATCHED inline void run_block() {
    const unsigned threads = machine.size.x;
    for (unsigned thread = 0; thread < threads; thread++) start(machine.fibers[thread], thread);
    for (unsigned unfinished = threads; unfinished > 0;) {
        bool any = false;
        // Multiplying by an odd number and adding another permutes 0..1024.
        const unsigned factor = unsigned(draw()) | 1, offset = unsigned(draw());
        for (unsigned i = 0; i < kThreadsMax; i++) {
            const unsigned thread = (i * factor + offset) % kThreadsMax;
            Fiber &fiber = machine.fibers[thread];
            if (thread >= threads || fiber.finished) continue;
            if (fiber.waits_at && fiber.waits_at->generation == fiber.waits_for) continue;
            fiber.waits_at = nullptr;
            any = true;
            resume(fiber);
            unfinished -= fiber.finished;
        }
        if (!any) fail("waits for threads that never come");
    }
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(&machine.argument);
    for (unsigned thread = 0; thread < threads; thread++) __tsan_destroy_fiber(machine.fibers[thread].sanitizer);
#endif
}

// Launches `body`, which calls the kernel, with `shared` bytes of dynamic shared memory.
inline void launch(unsigned blocks, unsigned threads, size_t shared, uint64_t seed, void (*body)(void *), void *argument) {
    if (threads == 0 || threads > kThreadsMax || threads % 32 != 0) fail("a block has 32 to 1024 threads, whole warps");
    machine.grid = {blocks, 1, 1};
    machine.size = {threads, 1, 1};
    machine.seed = seed;
    machine.body = body;
    machine.argument = argument;
    machine.shared_bytes = shared;
#if defined(__SANITIZE_THREAD__)
    machine.sanitizer = __tsan_get_current_fiber();
#endif
    for (unsigned block = 0; block < blocks; block++) {
        machine.index = {block, 1, 1};
        // Room for the gaps between arrays where addresses are checked.
#if defined(__SANITIZE_ADDRESS__)
        const size_t room = shared + 1024;  // NYX_RED_ZONES
#else
        const size_t room = shared;
#endif
        if (posix_memalign(reinterpret_cast<void **>(&machine.shared), 16, room)) fail("no memory");
        // What a block finds in shared memory is not zero.
        memset(machine.shared, 0xa5, room);
        memset(&machine.block, 0, sizeof machine.block);
        memset(machine.warps, 0, sizeof machine.warps);
#if defined(__SANITIZE_THREAD__)
        __tsan_release(&machine.body);
#endif
        run_block();
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(machine.shared, room);
#endif
        free(machine.shared);
    }
}

}  // namespace shim

#define NYX_RED_ZONE(at) (::shim::red_zone(at))
#if defined(__SANITIZE_ADDRESS__)
#define NYX_RED_ZONES 1024
#else
#define NYX_RED_ZONES 0
#endif
#define dynamic_shared (::shim::machine.shared)
#define threadIdx (dim3{::shim::thread(), 0, 0})
#define blockIdx (::shim::machine.index)
#define blockDim (::shim::machine.size)
#define gridDim (::shim::machine.grid)

inline void __syncthreads() { shim::barrier(shim::machine.block, shim::machine.size.x, 'b', 0); }

inline void __syncwarp(unsigned mask = 0xffffffffu) {
    shim::barrier(shim::warp_gate(mask), unsigned(__builtin_popcount(mask)), 'w', mask);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source) {
    return shim::shuffle(mask, value, unsigned(source) % 32, 's');
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int distance) {
    return shim::shuffle(mask, value, (shim::thread() ^ unsigned(distance)) % 32, 'x');
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance) {
    const unsigned lane = shim::thread() % 32;
    return shim::shuffle(mask, value, lane >= distance ? lane - distance : lane, 'u');
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance) {
    const unsigned lane = shim::thread() % 32;
    return shim::shuffle(mask, value, lane + distance < 32 ? lane + distance : lane, 'd');
}

inline unsigned __ballot_sync(unsigned mask, bool value) { return shim::vote(mask, value); }
inline bool __all_sync(unsigned mask, bool value) { return shim::vote(mask, value) == mask; }
inline bool __any_sync(unsigned mask, bool value) { return shim::vote(mask, value) != 0; }

template <typename T>
T atomicAdd(T *at, T value) {
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}

inline unsigned atomicOr(unsigned *at, unsigned value) { return __atomic_fetch_or(at, value, __ATOMIC_RELAXED); }

template <typename T>
T __ldg(const T *at) {
    return *at;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }

inline float __int_as_float(int bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
