// The hit caller's exact solver, one region per thread block. Twin: src/hits/active.rs.
//
// Minimizes 1/2 |y - sum c v|^2 + sum lambda c over c >= 0, v the filters laid over the region and scaled (the
// formulas stand in src/hits.rs). As on the processor: a dense pass in 32 bits finds the places whose
// correlation with the residual exceeds their penalty; they join the working set, which falls apart into
// clusters of overlapping windows; each cluster that gained a member is solved exactly in 64 bits by one warp;
// the residual changes under it, and the next pass looks there alone. It ends at the true duality gap, in 64
// bits, which is returned. Blocks are persistent: each takes the next region from a counter.
//
// Operations and bytes per region (L positions, F filters of W bases after trimming, pp; in brackets for 1000 bp,
// 100 filters, 8.9 bases, counted from the formulas):
//   first pass   L F W multiply-adds in 32 bits, one weight each, looked up by the base   [0.89 million, padded
//                to groups of 16 filters 1.0 million]; hypothetical contributions 4 times as many
//   later passes the same over the windows of changed clusters: a tenth to a third of it each, two or three
//   clusters     some ten of three to ten members: 10^4 to 10^5 operations in 64 bits, bound by latency
//   global       5 L bytes in (17 L hypothetical), 12 bytes per hit and 32 per region out, the weights (16 F W
//                bytes, from L2) once per pass; no array of filters x positions anywhere
// On chip per block: 25 L bytes (72 L hypothetical), 20 KiB for 512 members, and the larger of 22 KiB for eight
// warps' clusters and of 2 L + 6 KiB + 256 W for a pass: 67 KiB for 1000 bp pp. A thread has up to 128 registers
// (scripts/kernels.sh prints them), so that two blocks of 256 threads share a multiprocessor, on an A100 (163 KiB)
// as on an H100 (227 KiB), a quarter of its threads; each has 16 sums in flight, which covers much of the latency
// of shared memory.
// Roofline: a pass loads four weights (16 bytes, four different addresses per warp) for four multiply-adds, so
// shared memory bounds it: at 128 bytes a clock between 1/4 (no merging of equal addresses) and all of the 128
// multiply-adds that a multiprocessor does in a clock. At 1/4 of an H200 that is 7 million first passes a second;
// the pipe to the host, at 25 GB/s and 5 kB, brings 5 million regions. Tensor cores do not pay: a one-hot
// product in 32 bits does four times the work, TF32 would miss places. THESE ARE ESTIMATES: nothing here has
// been run on a GPU.
//
// What does not fit (a region too long, more than 512 members, a cluster of more than 128) is left to the
// processor, never cut short. Results do not depend on the order in which threads or blocks run.
//
// Compiled for a GPU by scripts/kernels.sh, and as C++ by kernels/shim for the test on the processor.

// Loops of unknown length are not unrolled: registers and code stay few.
#ifdef NYX_ON_HOST
#include "shim/cuda_on_host.h"
#define UNROLL
#define LOOP for
#else
extern __shared__ double2 dynamic_shared[];
#define NYX_RED_ZONE(at) (at)
#define NYX_RED_ZONES 0
#define UNROLL _Pragma("unroll")
#define LOOP _Pragma("unroll 1") for
#endif

// What src/hits/cuda.rs lays out; its tests compare the sizes.

// Up to 16 filters of similar width, as in src/hits/dictionary.rs.
struct Group {
    unsigned width;     // largest trimmed width
    unsigned shortest;  // smallest trimmed width
    unsigned weights;   // where its weights begin, in float4: width x 4 quads of lanes x 4 bases
    unsigned reserved;
};

struct Filter {
    unsigned start;    // first position of the trimmed span in the filter
    unsigned span;     // trimmed width
    unsigned width;    // untrimmed width
    unsigned columns;  // where its trimmed columns begin, in float4 (A C G T)
    float lambda;
    unsigned reserved[3];
};

struct Region {
    unsigned length;  // L
    unsigned offset;  // its first position in values and bases
};

// What became of a region.
enum Status { kConverged = 0, kTimedOut = 1, kTooMuch = 2, kBadLaunch = 3 };

struct Outcome {
    double gap;      // duality gap / L of the coefficients that are returned
    double nll;      // 1/2 sum r^2 / L
    unsigned steps;  // passes
    unsigned status;
    unsigned first;  // its hits begin here
    unsigned count;
};

struct Hit {
    unsigned filter;
    unsigned position;  // of the trimmed span in the region
    float value;
};

struct Arguments {
    const Group *groups;
    const unsigned *lanes;       // groups x 16: the filter, or anything where the bound is infinite
    const float *bounds;         // groups x 16: what a correlation must exceed to be looked at
    const float4 *weights;
    const Filter *filters;
    const float4 *columns;
    const Region *regions;
    const float *values;         // y, planes fastest
    const unsigned char *bases;  // 0..3, 4 for none; not read for hypothetical contributions
    unsigned *cursors;           // the next region and the next hit, both zero at first
    Outcome *outcomes;
    Hit *hits;
    void *scratch;               // a Work<kLarge> per block, for clusters of more than 16
    double tolerance;
    unsigned group_count;
    unsigned region_count;
    unsigned length_max;         // of the regions of this launch
    unsigned reach;              // largest trimmed width
    unsigned shared_bytes;
    unsigned reserved;
    unsigned max_steps;
    unsigned hit_capacity;
};

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kLanes = 16;
// Members of the working set, and places that a pass may report.
constexpr int kMembers = 512;
constexpr int kFound = 512;
constexpr int kShare = kMembers / kThreads;
// Clusters that are solved in shared memory, and those that are solved at all.
constexpr int kSmall = 16;
constexpr int kLarge = 128;
constexpr unsigned kFull = 0xffffffffu;
constexpr double kHuge = 1.0e300;
constexpr double kTiny = 2.2250738585072014e-308;

// As in src/hits/nnls.rs.
constexpr double kRounding = 1e-11;
constexpr double kRidge = 1e-13;
constexpr int kMany = 64;
constexpr int kSweeps = 40;
constexpr int kRefinements = 8;

static_assert(kFound == kMembers, "a thread takes as many found places as members");
static_assert(sizeof(Group) == 16 && sizeof(Filter) == 32 && sizeof(Region) == 8, "as in src/hits/cuda.rs");
static_assert(sizeof(Outcome) == 32 && sizeof(Hit) == 12 && sizeof(Arguments) == 144, "as in src/hits/cuda.rs");

// ---- Sums and maxima of a warp and of the block. All threads get the result. ----

__device__ double warp_sum(double value) {
    for (int distance = 16; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(kFull, value, distance);
    }
    return value;
}

__device__ double warp_max(double value) {
    for (int distance = 16; distance > 0; distance /= 2) {
        value = fmax(value, __shfl_xor_sync(kFull, value, distance));
    }
    return value;
}

// Sums and maxima over the block, in an order that does not depend on timing.
template <int SUMS, int MAXIMA>
__device__ void block_reduce(double (&sums)[SUMS], double (&maxima)[MAXIMA]) {
    __shared__ double partial[kWarps][SUMS + MAXIMA];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int i = 0; i < SUMS; i++) {
        const double sum = warp_sum(sums[i]);
        if (lane == 0) partial[warp][i] = sum;
    }
    for (int i = 0; i < MAXIMA; i++) {
        const double largest = warp_max(maxima[i]);
        if (lane == 0) partial[warp][SUMS + i] = largest;
    }
    __syncthreads();
    for (int i = 0; i < SUMS; i++) {
        sums[i] = 0.0;
        LOOP (int w = 0; w < kWarps; w++) sums[i] += partial[w][i];
    }
    for (int i = 0; i < MAXIMA; i++) {
        LOOP (int w = 0; w < kWarps; w++) maxima[i] = fmax(maxima[i], partial[w][SUMS + i]);
    }
    __syncthreads();
}

// The sum of `value` over all threads before this one, and the sum of all.
template <typename T>
__device__ T block_scan(T value, T &total) {
    __shared__ T warps[kWarps];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    T inclusive = value;
    for (int distance = 1; distance < 32; distance *= 2) {
        const T before = __shfl_up_sync(kFull, inclusive, distance);
        if (lane >= distance) inclusive += before;
    }
    if (lane == 31) warps[warp] = inclusive;
    T exclusive = __shfl_up_sync(kFull, inclusive, 1);
    if (lane == 0) exclusive = T(0);
    __syncthreads();
    T before = T(0);
    total = T(0);
    LOOP (int w = 0; w < kWarps; w++) {
        if (w < warp) before += warps[w];
        total += warps[w];
    }
    __syncthreads();
    return before + exclusive;
}

// ---- Memory ----

// Takes arrays off a piece of memory, one after the other.
struct Carver {
    unsigned char *start;
    unsigned char *at;

    __device__ explicit Carver(void *memory)
        : start(static_cast<unsigned char *>(memory)), at(static_cast<unsigned char *>(memory)) {}

    template <typename T>
    __device__ T *take(size_t count) {
        const size_t offset = (at - start + sizeof(T) - 1) / sizeof(T) * sizeof(T);
        T *const taken = reinterpret_cast<T *>(start + offset);
        at = start + offset + count * sizeof(T);
        return taken;
    }

    // Takes an array whose end is watched where the host's shim can.
    template <typename T>
    __device__ void next(T *&array, size_t count) {
        array = take<T>(count);
        at = NYX_RED_ZONE(at);
    }
};

// The lower triangle of a symmetric matrix, row by row.
__device__ inline int entry(int row, int column) { return row * (row + 1) / 2 + column; }

__device__ inline int either(int a, int b) { return a > b ? entry(a, b) : entry(b, a); }

enum State { kZero = 0, kFree = 1, kRefused = 2 };

// A cluster's problem of up to N unknowns: minimize 1/2 x'Gx - h'x over x >= 0; of one warp.
template <int N>
struct Work {
    double gram[N * (N + 1) / 2];
    double factor[N * (N + 1) / 2];  // of G over the free unknowns; the diagonal holds inverses
    double linear[N];                // h
    double x[N];
    double slope[N];  // h - Gx
    double step[N];
    unsigned short free[N];  // unknowns that are not held at zero, in the order in which they came
    unsigned char state[N];
};

// The working set, by position and filter.
struct Set {
    double coefficient[kMembers];
    double with_signal[kMembers];
    double scale[kMembers];
    double correlation[kMembers];
    unsigned key[kMembers];  // position << 16 | filter
    unsigned short end[kMembers];
    unsigned short cluster[kMembers];        // first members, in any order
    unsigned short large[kMembers / kSmall];  // those of large clusters
    unsigned char fresh[kMembers];           // kOld, kAgain or kJoined
};

enum Fresh { kOld = 0, kAgain = 1, kJoined = 2 };

// Places that a pass has found; the weights of a group and the positions to look at follow.
struct Sites {
    double correlation[kFound];
    unsigned key[kFound];
};

static_assert(sizeof(Set) == 21056 && sizeof(Sites) == 6144 && sizeof(Work<kSmall>) == 2736 &&
                  sizeof(Work<kLarge>) == 136576,
              "as in src/hits/cuda.rs");
static_assert(sizeof(Set) % 16 == 0 && sizeof(Sites) % 16 == 0, "what follows is aligned");

// ---- The small exact problem, by one warp: see src/hits/nnls.rs ----

// Sets slope = h - Gx.
template <int N>
__device__ void measure(Work<N> &work, int n) {
    __syncwarp();
    LOOP (int i = threadIdx.x % 32; i < n; i += 32) {
        double slope = work.linear[i];
        LOOP (int j = 0; j < n; j++) {
            const double x = work.x[j];
            if (x != 0.0) slope -= x * work.gram[either(i, j)];
        }
        work.slope[i] = slope;
    }
    __syncwarp();
}

// Minimizes along each coordinate in turn; slope is kept.
template <int N>
__device__ void sweep(Work<N> &work, int n) {
    const int lane = threadIdx.x % 32;
    LOOP (int i = 0; i < n; i++) {
        const double diagonal = work.gram[entry(i, i)], x = work.x[i];
        const double next = diagonal > 0.0 ? fmax(x + work.slope[i] / diagonal, 0.0) : 0.0;
        __syncwarp();
        if (next != x) {
            LOOP (int k = lane; k < n; k += 32) work.slope[k] -= (next - x) * work.gram[either(k, i)];
            if (lane == 0) work.x[i] = next;
        }
        __syncwarp();
    }
}

// Keeps those free unknowns that are above zero; returns how many. `intact` becomes the number of leading ones
// that did not move.
template <int N>
__device__ int retain(Work<N> &work, int count, int &intact) {
    const int lane = threadIdx.x % 32;
    int kept = 0;
    intact = count;
    LOOP (int base = 0; base < count; base += 32) {
        const int unknown = base + lane < count ? work.free[base + lane] : 0;
        const bool stays = base + lane < count && work.x[unknown] > 0.0;
        const unsigned mask = __ballot_sync(kFull, stays);
        // All have read before any writes.
        __syncwarp();
        const unsigned there = count - base >= 32 ? kFull : (1u << (count - base)) - 1;
        if (mask != there && intact == count) intact = base + __ffs(there & ~mask) - 1;
        if (stays) work.free[kept + __popc(mask & ((1u << lane) - 1))] = unknown;
        if (!stays && base + lane < count) work.state[unknown] = kZero;
        kept += __popc(mask);
        __syncwarp();
    }
    return kept;
}

// Appends rows `done..count` to the Cholesky factor of G, with a slight ridge, over the free unknowns.
template <int N>
__device__ void factorize(Work<N> &work, int done, int count) {
    const int lane = threadIdx.x % 32;
    LOOP (int r = done; r < count; r++) {
        const int unknown = work.free[r];
        double *const row = work.factor + entry(r, 0);
        LOOP (int c = lane; c < r; c += 32) row[c] = work.gram[either(unknown, work.free[c])];
        __syncwarp();
        double squares = 0.0;
        LOOP (int c = 0; c < r; c++) {
            const double value = row[c] * work.factor[entry(c, c)];
            squares += value * value;
            __syncwarp();
            LOOP (int k = c + 1 + lane; k < r; k += 32) row[k] -= value * work.factor[entry(k, c)];
            if (lane == 0) row[c] = value;
            __syncwarp();
        }
        const double diagonal = work.gram[entry(unknown, unknown)];
        const double pivot = fmax(fmax(diagonal * (1.0 + kRidge) - squares, kRidge * diagonal), kTiny);
        if (lane == 0) row[r] = 1.0 / sqrt(pivot);
        __syncwarp();
    }
}

// Solves G step = slope over the free unknowns.
template <int N>
__device__ void newton(Work<N> &work, int count) {
    const int lane = threadIdx.x % 32;
    LOOP (int r = lane; r < count; r += 32) work.step[r] = work.slope[work.free[r]];
    __syncwarp();
    LOOP (int r = 0; r < count; r++) {
        const double value = work.step[r] * work.factor[entry(r, r)];
        __syncwarp();
        LOOP (int k = r + 1 + lane; k < count; k += 32) work.step[k] -= value * work.factor[entry(k, r)];
        if (lane == 0) work.step[r] = value;
        __syncwarp();
    }
    LOOP (int r = count - 1; r >= 0; r--) {
        const double value = work.step[r] * work.factor[entry(r, r)];
        __syncwarp();
        LOOP (int k = lane; k < r; k += 32) work.step[k] -= value * work.factor[entry(r, k)];
        if (lane == 0) work.step[r] = value;
        __syncwarp();
    }
}

// Finds how far the step may go before an unknown reaches zero, and which one; -1 when it may go all the way.
template <int N>
__device__ double reach_of_step(Work<N> &work, int count, int &blocking) {
    double length = 1.0;
    int first = count;
    LOOP (int r = threadIdx.x % 32; r < count; r += 32) {
        const double x = work.x[work.free[r]], step = work.step[r];
        if (x + step < 0.0 && x / -step < length) {
            length = x / -step;
            first = r;
        }
    }
    for (int distance = 16; distance > 0; distance /= 2) {
        const double other = __shfl_xor_sync(kFull, length, distance);
        const int at = __shfl_xor_sync(kFull, first, distance);
        if (other < length || (other == length && at < first)) {
            length = other;
            first = at;
        }
    }
    blocking = first < count ? first : -1;
    return length;
}

// Solves for the free unknowns; those that reach zero on the way leave. Returns how many stay. `done` rows of
// the factor are valid.
template <int N>
__device__ int settle(Work<N> &work, int n, int count, int &done) {
    const int lane = threadIdx.x % 32;
    int refinements = 0;
    while (count > 0 && refinements < kRefinements) {
        factorize(work, done, count);
        done = count;
        newton(work, count);
        bool finite = true;
        LOOP (int r = lane; r < count; r += 32) finite = finite && isfinite(work.step[r]);
        if (!__all_sync(kFull, finite)) return count;
        int blocking;
        const double length = reach_of_step(work, count, blocking);
        LOOP (int r = lane; r < count; r += 32) {
            const int unknown = work.free[r];
            // The one that blocks leaves whatever rounding says, so that each round makes progress.
            work.x[unknown] = r == blocking ? 0.0 : fmax(work.x[unknown] + length * work.step[r], 0.0);
        }
        __syncwarp();
        int intact;
        const int kept = retain(work, count, intact);
        measure(work, n);
        if (kept == count) {
            bool settled = true;
            LOOP (int r = lane; r < count; r += 32) {
                settled = settled && fabs(work.slope[work.free[r]]) <= 0.1 * kRounding;
            }
            if (__all_sync(kFull, settled)) return count;
            refinements++;
        }
        done = intact;
        count = kept;
    }
    return count;
}

// Returns the unknown at zero that gains most by growing, the first of equals; -1 when none gains.
template <int N>
__device__ int entering(Work<N> &work, int n) {
    double largest = kRounding;
    int best = n;
    LOOP (int i = threadIdx.x % 32; i < n; i += 32) {
        if (work.state[i] == kZero && work.slope[i] > largest) {
            largest = work.slope[i];
            best = i;
        }
    }
    for (int distance = 16; distance > 0; distance /= 2) {
        const double other = __shfl_xor_sync(kFull, largest, distance);
        const int at = __shfl_xor_sync(kFull, best, distance);
        if (other > largest || (other == largest && at < best)) {
            largest = other;
            best = at;
        }
    }
    // All have read before the caller changes anything.
    __syncwarp();
    return best < n ? best : -1;
}

// Solves the problem in `work` from a feasible x.
template <int N>
__device__ __noinline__ void minimize(Work<N> &work, int n) {
    const int lane = threadIdx.x % 32;
    if (n >= kMany) {
        measure(work, n);
        LOOP (int i = 0; i < kSweeps; i++) sweep(work, n);
    }
    measure(work, n);
    LOOP (int i = lane; i < n; i += 32) {
        work.free[i] = i;
        work.state[i] = kFree;
    }
    __syncwarp();
    int done = 0, intact;
    int count = settle(work, n, retain(work, n, intact), done);
    LOOP (int round = 0; round < 50 + 10 * n; round++) {
        const int next = entering(work, n);
        if (next < 0) return;
        if (lane == 0) {
            work.free[count] = next;
            work.state[next] = kFree;
        }
        __syncwarp();
        count = settle(work, n, count + 1, done);
        const bool entered = work.x[next] > 0.0;
        __syncwarp();
        LOOP (int i = lane; i < n && entered; i += 32) {
            if (work.state[i] == kRefused) work.state[i] = kZero;
        }
        if (!entered && lane == 0 && work.state[next] == kZero) work.state[next] = kRefused;
        __syncwarp();
    }
}

// ---- One region ----

// What a pass over the places found; the same in all threads.
struct Pass {
    double squares;      // sum r^2
    double with_signal;  // sum r y
    double penalty;      // sum lambda c
    double total;        // sum c
    double slack;        // sum c |lambda - g|
    double ratio;        // largest g / lambda, but at least 1
    double excess;       // largest g - lambda, but at least 0
    bool unbounded;      // a place without a penalty would still gain
    int violators;
};

// Counters of the block.
struct Counters {
    unsigned region;
    unsigned first_hit;
    int found;
    int clusters;
    int next_cluster;
    int large;
    int too_much;
};

// All arrays are in shared memory; PLANES values per position.
template <int PLANES>
struct Solver {
    const Arguments &arguments;
    Counters &counters;
    int length;
    int members;
    Set &set;
    // What a pass needs and what clusters need is never needed together.
    Sites &sites;
    Work<kSmall> *works;    // one per warp
    float4 *stage;          // the weights of a group
    unsigned short *queue;  // positions to look at
    float *residual32;      // [L + reach][PLANES], zeros behind L
    float *signal;          // [L][PLANES]
    double *residual;       // [L][PLANES]
    double *prefix;         // [L + 1] sums of y^2 before each position
    unsigned *visit;        // bits: positions whose correlations have changed
    unsigned char *base;    // [L + reach]

    __device__ Solver(const Arguments &arguments, Counters &counters, unsigned char *memory)
        : arguments(arguments),
          counters(counters),
          length(0),
          members(0),
          set(*reinterpret_cast<Set *>(memory)),
          sites(*reinterpret_cast<Sites *>(memory + sizeof(Set))),
          works(reinterpret_cast<Work<kSmall> *>(memory + sizeof(Set))),
          stage(reinterpret_cast<float4 *>(memory + sizeof(Set) + sizeof(Sites))) {}

    // Divides what depends on the lengths; returns how many bytes are used.
    __device__ size_t divide() {
        const size_t longest = arguments.length_max, padded = longest + arguments.reach;
        Carver memory(stage);
        memory.take<float4>(arguments.reach * size_t(kLanes));
        memory.next(queue, longest);
        unsigned char *const works_end = reinterpret_cast<unsigned char *>(works + kWarps);
        if (memory.at < works_end) memory.at = works_end;
        memory.next(residual32, padded * PLANES);
        memory.next(signal, longest * PLANES);
        memory.next(residual, longest * PLANES);
        memory.next(prefix, longest + 1);
        memory.next(visit, longest / 32 + 1);
        memory.next(base, padded);
        return memory.at - reinterpret_cast<unsigned char *>(&set);
    }

    // The weights of a filter at tap k of a window, over position `at`, times values there.
    __device__ double weigh(const Filter &filter, int k, int at, const double *values) const {
        const float4 weight = __ldg(arguments.columns + filter.columns + k);
        if (PLANES == 1) return pick(weight, base[at]) * values[at];
        const double *const four = values + at * PLANES;
        return weight.x * four[0] + weight.y * four[1] + weight.z * four[2] + weight.w * four[3];
    }

    __device__ double weigh(const Filter &filter, int k, int at, const float *values) const {
        const float4 weight = __ldg(arguments.columns + filter.columns + k);
        if (PLANES == 1) return pick(weight, base[at]) * values[at];
        const float *const four = values + at * PLANES;
        return double(weight.x) * four[0] + double(weight.y) * four[1] + double(weight.z) * four[2] +
               double(weight.w) * four[3];
    }

    __device__ static double pick(const float4 &weight, unsigned char base) {
        return base == 0 ? weight.x : base == 1 ? weight.y : base == 2 ? weight.z : base == 3 ? weight.w : 0.0f;
    }

    __device__ Filter filter_of(unsigned key) const { return arguments.filters[key & 0xffff]; }

    __device__ double scale_of(int position, int span) const {
        return 1.0 / sqrt(prefix[position + span] - prefix[position] + 1.0);
    }

    // The inner product of a filter laid over the region, unscaled, with values, by one warp.
    template <typename T>
    __device__ double inner(unsigned key, const T *values) const {
        const Filter filter = filter_of(key);
        const int position = key >> 16;
        double sum = 0.0;
        LOOP (int k = threadIdx.x % 32; k < int(filter.span); k += 32) {
            sum += weigh(filter, k, position + k, values);
        }
        return warp_sum(sum);
    }

    // Takes up a region; its residual is the signal, and all places are to be looked at.
    __device__ void load(const Region &region) {
        length = int(region.length);
        members = 0;
        const float *const values = arguments.values + size_t(region.offset) * PLANES;
        LOOP (int i = threadIdx.x; i < length * PLANES; i += kThreads) {
            const float value = values[i];
            signal[i] = value;
            residual32[i] = value;
            residual[i] = value;
        }
        const int padded = length + int(arguments.reach);
        LOOP (int i = length * PLANES + threadIdx.x; i < padded * PLANES; i += kThreads) residual32[i] = 0.0f;
        LOOP (int i = threadIdx.x; i < padded; i += kThreads) {
            base[i] = PLANES == 1 && i < length ? arguments.bases[region.offset + i] : 4;
        }
        visit_all();
        sum_energy();
    }

    // Fills `prefix`: each thread sums a run of positions.
    __device__ void sum_energy() {
        const int run = (length + kThreads - 1) / kThreads;
        const int start = min(int(threadIdx.x) * run, length), stop = min(start + run, length);
        double sum = 0.0, total;
        LOOP (int i = start * PLANES; i < stop * PLANES; i++) sum += double(signal[i]) * signal[i];
        double before = block_scan(sum, total);
        LOOP (int position = start; position < stop; position++) {
            prefix[position] = before;
            LOOP (int i = position * PLANES; i < (position + 1) * PLANES; i++) before += double(signal[i]) * signal[i];
        }
        if (stop == length && start < stop) prefix[length] = before;
        if (length == 0 && threadIdx.x == 0) prefix[0] = 0.0;
        __syncthreads();
    }

    // Lists the positions to look at; returns how many.
    __device__ int list() {
        const int words = (length + 31) / 32;
        int listed = 0;
        LOOP (int base = 0; base < words; base += kThreads) {
            const int word = base + int(threadIdx.x);
            unsigned bits = word < words ? visit[word] : 0;
            int total;
            int slot = listed + block_scan(__popc(bits), total);
            LOOP (; bits != 0; bits &= bits - 1) queue[slot++] = word * 32 + __ffs(bits) - 1;
            listed += total;
        }
        __syncthreads();
        return listed;
    }

    // Looks at all listed positions: appends the places whose correlation may exceed `boost` times their penalty.
    __device__ void scan(int listed, float boost) {
        LOOP (unsigned g = 0; g < arguments.group_count; g++) {
            const Group group = arguments.groups[g];
            if (int(group.shortest) > length) continue;
            LOOP (int i = threadIdx.x; i < int(group.width) * kLanes; i += kThreads) {
                stage[i] = __ldg(arguments.weights + group.weights + i);
            }
            __syncthreads();
            constexpr int kTogether = PLANES == 1 ? 1 : 2;
            LOOP (int i = threadIdx.x; i < listed; i += kThreads * kTogether) {
                correlate<kTogether>(g, group, i, listed, boost);
            }
            __syncthreads();
        }
    }

    // Correlates 16 filters at `TOGETHER` listed positions.
    template <int TOGETHER>
    __device__ void correlate(unsigned g, const Group &group, int item, int listed, float boost) {
        float sums[TOGETHER][kLanes] = {};
        int position[TOGETHER];
        for (int p = 0; p < TOGETHER; p++) position[p] = queue[min(item + p * kThreads, listed - 1)];
        for (int tap = 0; tap < int(group.width); tap++) {
            if (PLANES == 1) {
                const int at = position[0] + tap;
                // A position without a base has no residual, so that any weight does.
                const float4 *const row = stage + tap * kLanes + (base[at] & 3);
                multiply(sums[0], row, residual32[at]);
            } else {
                UNROLL for (int b = 0; b < 4; b++) {
                    UNROLL for (int p = 0; p < TOGETHER; p++) {
                        const float value = residual32[(position[p] + tap) * PLANES + b];
                        multiply(sums[p], stage + tap * kLanes + b, value);
                    }
                }
            }
        }
        UNROLL for (int p = 0; p < TOGETHER; p++) {
            if (item + p * kThreads < listed && position[p] + int(group.shortest) <= length) {
                note_above(g, group, position[p], boost, sums[p]);
            }
        }
    }

    // Adds value times the weights of one base, which lie four filters at a time.
    __device__ static void multiply(float (&sums)[kLanes], const float4 *row, float value) {
        UNROLL for (int quad = 0; quad < 4; quad++) {
            const float4 weight = row[quad * 4];
            sums[quad * 4] = fmaf(weight.x, value, sums[quad * 4]);
            sums[quad * 4 + 1] = fmaf(weight.y, value, sums[quad * 4 + 1]);
            sums[quad * 4 + 2] = fmaf(weight.z, value, sums[quad * 4 + 2]);
            sums[quad * 4 + 3] = fmaf(weight.w, value, sums[quad * 4 + 3]);
        }
    }

    // Appends the filters whose correlation at `position` is above its bound and that may lie there.
    __device__ void note_above(unsigned g, const Group &group, int position, float boost,
                               const float (&sums)[kLanes]) {
        const float root = boost * sqrtf(float(prefix[position + group.shortest] - prefix[position]) + 1.0f);
        UNROLL for (int lane = 0; lane < kLanes; lane++) {
            if (sums[lane] > __ldg(arguments.bounds + g * kLanes + lane) * root) {
                const unsigned index = arguments.lanes[g * kLanes + lane];
                const Filter filter = arguments.filters[index];
                const int first = position - int(filter.start);
                if (first >= 0 && first + int(filter.width) <= length) {
                    const int slot = atomicAdd(&counters.found, 1);
                    if (slot < kFound) sites.key[slot] = unsigned(position) << 16 | index;
                }
            }
        }
    }

    __device__ bool is_member(unsigned key) const {
        const int place = members_before(key);
        return place < members && set.key[place] == key;
    }

    // Correlates the working set and what was found in 64 bits, and says how far things are. What is found and
    // does not violate, or is a member, gets the correlation -kHuge.
    __device__ Pass inspect() {
        const int found = counters.found, lane = threadIdx.x % 32;
        LOOP (int i = threadIdx.x / 32; i < members + found; i += kWarps) {
            const bool member = i < members;
            const unsigned at = member ? set.key[i] : sites.key[i - members];
            if (member) {
                const double g = inner(at, residual) * set.scale[i];
                if (lane == 0) set.correlation[i] = g;
            } else {
                const bool known = is_member(at);
                const double g = known ? -kHuge : inner(at, residual) * scale_of(at >> 16, filter_of(at).span);
                if (lane == 0) sites.correlation[i - members] = g;
            }
        }
        __syncthreads();
        double sums[6] = {}, maxima[3] = {1.0, 0.0, 0.0};
        LOOP (int i = threadIdx.x; i < members; i += kThreads) {
            const double lambda = filter_of(set.key[i]).lambda, c = set.coefficient[i];
            note(set.correlation[i], lambda, maxima);
            sums[2] += lambda * c;
            sums[3] += c;
            sums[4] += c * fabs(lambda - set.correlation[i]);
        }
        LOOP (int i = threadIdx.x; i < found; i += kThreads) {
            const double lambda = filter_of(sites.key[i]).lambda, g = sites.correlation[i];
            if (g == -kHuge) continue;
            note(g, lambda, maxima);
            if (g > lambda + kRounding) {
                sums[5] += 1.0;
            } else {
                sites.correlation[i] = -kHuge;
            }
        }
        LOOP (int i = threadIdx.x; i < length * PLANES; i += kThreads) {
            sums[0] += residual[i] * residual[i];
            sums[1] += residual[i] * signal[i];
        }
        block_reduce(sums, maxima);
        return Pass{sums[0],   sums[1],   sums[2],         sums[3],     sums[4],
                    maxima[0], maxima[1], maxima[2] > 0.0, int(sums[5])};
    }

    __device__ static void note(double g, double lambda, double (&maxima)[3]) {
        maxima[1] = fmax(maxima[1], g - lambda);
        if (lambda > 0.0) {
            maxima[0] = fmax(maxima[0], g / lambda);
        } else if (g - lambda > kRounding) {
            maxima[2] = 1.0;
        }
    }

    // The value of the dual point that is the residual, scaled to be feasible.
    __device__ static double dual(const Pass &pass) {
        const double factor = 1.0 / pass.ratio;
        return factor * pass.with_signal - 0.5 * factor * factor * pass.squares;
    }

    // Where a place without a penalty would gain there is no dual point: the violation of the optimality
    // conditions.
    __device__ static double violation(const Pass &pass) {
        return pass.total == 0.0 ? double(__int_as_float(0x7f800000)) : pass.slack + pass.excess * pass.total;
    }

    __device__ static double gap(const Pass &pass) {
        if (pass.unbounded) return violation(pass);
        return fmax(0.5 * pass.squares + pass.penalty - dual(pass), 0.0);
    }

    // Takes all violators into the working set, which stays sorted.
    __device__ void enlist(int violators) {
        int places[kShare], joins[kShare];
        for (int share = 0; share < kShare; share++) {
            const int i = int(threadIdx.x) + share * kThreads;
            places[share] = i < members ? i + joined_before(set.key[i]) : -1;
            joins[share] = -1;
            if (i < counters.found && sites.correlation[i] > -kHuge) {
                joins[share] = joined_before(sites.key[i]) + members_before(sites.key[i]);
            }
        }
        __syncthreads();
        move(set.key, places);
        move(set.coefficient, places);
        move(set.with_signal, places);
        move(set.scale, places);
        move(set.fresh, places);
        move(set.end, places);
        for (int share = 0; share < kShare; share++) {
            if (joins[share] >= 0) join(sites.key[int(threadIdx.x) + share * kThreads], joins[share]);
        }
        members += violators;
        __syncthreads();
        LOOP (int i = threadIdx.x / 32; i < members; i += kWarps) {
            if (set.fresh[i] != kJoined) continue;
            const double product = inner(set.key[i], signal) * set.scale[i];
            if (threadIdx.x % 32 == 0) set.with_signal[i] = product;
        }
        __syncthreads();
    }

    // The number of violators with a smaller key.
    __device__ int joined_before(unsigned key) const {
        int before = 0;
        LOOP (int i = 0; i < counters.found; i++) before += sites.correlation[i] > -kHuge && sites.key[i] < key;
        return before;
    }

    // The number of members with a smaller key.
    __device__ int members_before(unsigned wanted) const {
        int low = 0, high = members;
        while (low < high) {
            const int middle = (low + high) / 2;
            if (set.key[middle] < wanted) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return low;
    }

    // Moves this thread's share of an array's items to their new places.
    template <typename T>
    __device__ static void move(T *array, const int (&places)[kShare]) {
        T items[kShare];
        for (int share = 0; share < kShare; share++) {
            if (places[share] >= 0) items[share] = array[int(threadIdx.x) + share * kThreads];
        }
        __syncthreads();
        for (int share = 0; share < kShare; share++) {
            if (places[share] >= 0) array[places[share]] = items[share];
        }
        __syncthreads();
    }

    __device__ void join(unsigned key, int place) {
        const int span = int(filter_of(key).span), position = int(key >> 16);
        set.key[place] = key;
        set.coefficient[place] = 0.0;
        set.scale[place] = scale_of(position, span);
        set.fresh[place] = kJoined;
        set.end[place] = position + span;
    }

    // Solves every cluster that has a fresh member.
    __device__ void solve() {
        LOOP (int word = threadIdx.x; word <= length / 32; word += kThreads) visit[word] = 0;
        LOOP (int i = threadIdx.x; i < members; i += kThreads) {
            const int position = int(set.key[i] >> 16);
            bool first = true;
            LOOP (int j = i - 1; j >= 0 && int(set.key[j] >> 16) + int(arguments.reach) > position; j--) {
                first = first && set.end[j] <= position;
            }
            if (first) set.cluster[atomicAdd(&counters.clusters, 1)] = i;
        }
        __syncthreads();
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        for (;;) {
            int index = lane == 0 ? atomicAdd(&counters.next_cluster, 1) : 0;
            index = __shfl_sync(kFull, index, 0);
            if (index >= counters.clusters) break;
            const int first = set.cluster[index], count = size_of(first);
            if (count > kLarge) {
                if (lane == 0) atomicAdd(&counters.too_much, 1);
            } else if (count > kSmall) {
                if (lane == 0) set.large[atomicAdd(&counters.large, 1)] = first;
            } else if (count > 0) {
                solve_cluster(works[warp], first, count);
            }
        }
        __syncthreads();
        LOOP (int i = 0; i < counters.large && warp == 0; i++) {
            solve_cluster(static_cast<Work<kLarge> *>(arguments.scratch)[blockIdx.x], set.large[i], size_of(set.large[i]));
        }
        __syncthreads();
    }

    // The number of members of a cluster, or 0 when none is fresh.
    __device__ int size_of(int first) const {
        bool any = false;
        int last = first, stop = set.end[first];
        while (last < members && int(set.key[last] >> 16) < stop) {
            any = any || set.fresh[last] != kOld;
            stop = max(stop, int(set.end[last]));
            last++;
        }
        return any ? last - first : 0;
    }

    template <int N>
    __device__ void solve_cluster(Work<N> &work, int first, int count) {
        const int lane = threadIdx.x % 32;
        int row = 0, column = lane;
        for (;;) {
            while (column > row && row < count) column -= ++row;
            if (row >= count) break;
            work.gram[entry(row, column)] = product(first + column, first + row);
            column += 32;
        }
        LOOP (int i = lane; i < count; i += 32) {
            const Filter filter = filter_of(set.key[first + i]);
            work.linear[i] = set.with_signal[first + i] - double(filter.lambda);
            work.x[i] = set.coefficient[first + i];
        }
        __syncwarp();
        minimize(work, count);
        __syncwarp();
        int stop = 0;
        LOOP (int i = 0; i < count; i++) stop = max(stop, int(set.end[first + i]));
        LOOP (int i = lane; i < count; i += 32) {
            set.coefficient[first + i] = work.x[i];
            set.fresh[first + i] = kOld;
        }
        __syncwarp();
        subtract(first, count, stop);
    }

    // The inner product of two members, the first of which does not begin later.
    __device__ double product(int left, int right) const {
        const Filter a = filter_of(set.key[left]), b = filter_of(set.key[right]);
        const int start = int(set.key[left] >> 16), shift = int(set.key[right] >> 16);
        const int stop = min(int(set.end[left]), int(set.end[right]));
        double sum = 0.0;
        LOOP (int at = shift; at < stop; at++) {
            const float4 u = __ldg(arguments.columns + a.columns + (at - start));
            const float4 v = __ldg(arguments.columns + b.columns + (at - shift));
            if (PLANES == 1) {
                sum += pick(u, base[at]) * pick(v, base[at]);
            } else {
                sum += double(u.x) * v.x + double(u.y) * v.y + double(u.z) * v.z + double(u.w) * v.w;
            }
        }
        return sum * set.scale[left] * set.scale[right];
    }

    // Recomputes the residual under a cluster, which ends before `stop`, and marks what that changes.
    __device__ void subtract(int first, int count, int stop) {
        const int start = int(set.key[first] >> 16), lane = threadIdx.x % 32;
        LOOP (int at = start + lane; at < stop; at += 32) {
            double left[PLANES];
            for (int plane = 0; plane < PLANES; plane++) left[plane] = signal[at * PLANES + plane];
            LOOP (int i = first; i < first + count; i++) subtract_member(i, set.coefficient[i], at, left);
            for (int plane = 0; plane < PLANES; plane++) {
                residual[at * PLANES + plane] = left[plane];
                residual32[at * PLANES + plane] = float(left[plane]);
            }
        }
        const int from = max(start - int(arguments.reach) + 1, 0);
        LOOP (int word = from / 32 + lane; word <= (stop - 1) / 32; word += 32) {
            const unsigned low = from > word * 32 ? kFull << (from - word * 32) : kFull;
            const unsigned high = stop < word * 32 + 32 ? (1u << (stop - word * 32)) - 1 : kFull;
            atomicOr(&visit[word], low & high);
        }
    }

    __device__ void subtract_member(int i, double c, int at, double (&left)[PLANES]) const {
        const int k = at - int(set.key[i] >> 16);
        if (!(c > 0.0) || k < 0 || at >= int(set.end[i])) return;
        const float4 weight = __ldg(arguments.columns + filter_of(set.key[i]).columns + k);
        if (PLANES == 1) {
            left[0] -= c * (set.scale[i] * pick(weight, base[at]));
        } else {
            const float four[4] = {weight.x, weight.y, weight.z, weight.w};
            for (int plane = 0; plane < PLANES; plane++) left[plane] -= c * (set.scale[i] * four[plane]);
        }
    }

    // Rounds the coefficients to 32 bits, certifies what is returned, and writes it.
    __device__ void finish(const Pass &pass, unsigned steps, Outcome *outcome) {
        double sums[2] = {}, none[1] = {};
        LOOP (int at = threadIdx.x; at < length; at += kThreads) {
            double left[PLANES];
            for (int plane = 0; plane < PLANES; plane++) left[plane] = signal[at * PLANES + plane];
            LOOP (int i = 0; i < members && int(set.key[i] >> 16) <= at; i++) {
                subtract_member(i, double(float(set.coefficient[i])), at, left);
            }
            for (int plane = 0; plane < PLANES; plane++) sums[0] += left[plane] * left[plane];
        }
        int mine = 0;
        const int start = int(threadIdx.x) * kShare;
        LOOP (int i = start; i < min(start + kShare, members); i++) {
            const float c = float(set.coefficient[i]);
            sums[1] += double(filter_of(set.key[i]).lambda) * double(c);
            mine += c > 0.0f;
        }
        block_reduce(sums, none);
        const double gap = pass.unbounded ? violation(pass) : fmax(0.5 * sums[0] + sums[1] - dual(pass), 0.0);
        int count;
        int slot = block_scan(mine, count);
        if (threadIdx.x == 0) counters.first_hit = atomicAdd(&arguments.cursors[1], unsigned(count));
        __syncthreads();
        const unsigned first = counters.first_hit;
        const bool fits = first <= arguments.hit_capacity && unsigned(count) <= arguments.hit_capacity - first;
        LOOP (int i = start; i < min(start + kShare, members); i++) {
            const float c = float(set.coefficient[i]);
            if (fits && c > 0.0f) arguments.hits[first + slot++] = Hit{set.key[i] & 0xffff, set.key[i] >> 16, c};
        }
        if (threadIdx.x == 0) {
            const unsigned status = gap <= arguments.tolerance * length ? kConverged : kTimedOut;
            *outcome = Outcome{gap / length,        0.5 * sums[0] / length, steps,
                               fits ? status : unsigned(kTooMuch), first, unsigned(count)};
        }
    }

    __device__ void give_up(unsigned steps, Outcome *outcome) {
        if (threadIdx.x == 0) *outcome = Outcome{0.0, 0.0, steps, kTooMuch, 0, 0};
    }

    __device__ void reset_counters() {
        if (threadIdx.x == 0) counters = Counters{counters.region, 0, 0, 0, 0, 0, 0};
        __syncthreads();
    }

    __device__ void visit_all() {
        LOOP (int word = threadIdx.x; word <= length / 32; word += kThreads) {
            const int bits = length - word * 32;
            visit[word] = bits >= 32 ? kFull : (1u << bits) - 1;
        }
        __syncthreads();
    }

    // Fits the region that was loaded.
    __device__ void fit(Outcome *outcome) {
        const double enough = arguments.tolerance * length;
        double last = kHuge;
        // Above 1 when too many places violate to be taken at once: those that violate most come first, and then
        // all places are looked at again.
        float boost = 1.0f;
        LOOP (unsigned steps = 1;; steps++) {
            reset_counters();
            scan(list(), boost);
            if (counters.found > kFound) {
                if (boost > 1e6f) return give_up(steps, outcome);
                boost *= 1.25f;
                steps--;
                __syncthreads();
                continue;
            }
            const Pass pass = inspect();
            const double now = gap(pass);
            // Columns that depend on each other can leave a cluster unsettled; another round helps, or nothing.
            const bool stuck = pass.violators == 0 && now > 0.9 * last;
            if (boost == 1.0f) {
                if (now <= enough || stuck || steps > arguments.max_steps) return finish(pass, steps, outcome);
                last = now;
            } else if (pass.violators == 0 || steps > arguments.max_steps) {
                return give_up(steps, outcome);
            }
            if (members + pass.violators > kMembers) return give_up(steps, outcome);
            if (pass.violators == 0) {
                LOOP (int i = threadIdx.x; i < members; i += kThreads) set.fresh[i] = kAgain;
                __syncthreads();
            }
            enlist(pass.violators);
            solve();
            if (counters.too_much > 0) return give_up(steps, outcome);
            if (boost > 1.0f) visit_all();
            boost = 1.0f;
            __syncthreads();
        }
    }
};

template <int PLANES>
__device__ void solve_regions(const Arguments &arguments) {
    __shared__ Counters counters;
    Solver<PLANES> solver(arguments, counters, reinterpret_cast<unsigned char *>(dynamic_shared));
    const bool fits = solver.divide() <= arguments.shared_bytes + NYX_RED_ZONES && blockDim.x == kThreads;
    for (;;) {
        if (threadIdx.x == 0) counters.region = atomicAdd(&arguments.cursors[0], 1u);
        __syncthreads();
        const unsigned index = counters.region;
        if (index >= arguments.region_count) return;
        const Region region = arguments.regions[index];
        if (!fits || region.length > arguments.length_max || region.length == 0) {
            if (threadIdx.x == 0) arguments.outcomes[index] = Outcome{0.0, 0.0, 0, kBadLaunch, 0, 0};
        } else {
            solver.load(region);
            solver.fit(&arguments.outcomes[index]);
        }
        __syncthreads();
    }
}

}  // namespace

// Contributions on the observed bases.
extern "C" __global__ void __launch_bounds__(256, 2) hits_projected(const Arguments arguments) {
    solve_regions<1>(arguments);
}

// Contributions of all four bases.
extern "C" __global__ void __launch_bounds__(256, 2) hits_hypothetical(const Arguments arguments) {
    solve_regions<4>(arguments);
}
