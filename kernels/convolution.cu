// Convolutions over positions, and what stands between them. Twins: src/kernel/stack.rs, conv.rs, pool.rs. Launched
// by src/model/trunk_gpu.rs.
//
// Activations are [rows, positions, channels], channels last and filled up with zeros to a multiple of 8, in 32-bit
// floats, bfloat16 or float16; every sum is in 32 bits. A convolution is a matrix product without the matrix: the row
// of output (r, p) is the product of the weights with taps x channels numbers of row r, of which each tap's channels
// lie side by side (p stride + tap dilation - left). Nothing is copied together in memory; a block brings 32 of those
// numbers for its 128 outputs, and for its 64 filters, to shared memory, and the next 32 while it multiplies.
//
// Operations and bytes an output of BPNet's layers of 64 to 64 channels and 3 taps in 16 bits: 2 x 64 x 3 x 64 = 24,576
// operations; 128 bytes out, 128 in for the residual, and 3 x 128 in, of which the caches of a block's neighbours hold
// two thirds. At the 4.8 TB/s and 989 TFLOP/s of an H200's data sheet that is 80 ns a thousand for memory, 25 ns for
// tensor cores: bound by memory, unless layers are joined, which is left for when it can be measured. A block of four
// warps has 128 x 64 sums in registers (64 a thread) and 30 KB of shared memory: so four blocks or more on a
// multiprocessor. In 32 bits (no tensor cores, no TF32) a block has 64 x 64 sums, 32 a thread.
// THESE ARE ESTIMATES: nothing here has been run on a GPU.
//
// Results do not depend on the rows that share a launch: a sum goes along taps and channels in order.
//
// Compiled for a GPU by scripts/kernels.sh, and as C++ by kernels/shim for the test on the processor.

#include "numbers.cuh"

// What src/model/trunk_gpu/arguments.rs lays out; the library for tests checks the sizes at every launch.

struct Convolve {
    const void *input;           // [rows, length, inputs]
    const void *weights;         // [filters up to a multiple of 64, taps x inputs up to a multiple of 32]
    const float *bias;           // [filters up to a multiple of 64]
    void *output;                // [rows, count, outputs]
    unsigned rows;
    unsigned length;
    unsigned inputs;             // a multiple of 8
    unsigned count;              // positions that come out
    unsigned outputs;            // a multiple of 8
    unsigned depth;              // taps x inputs
    unsigned stride;
    unsigned dilation;
    unsigned left;               // zeros before the first position
    unsigned relu;
    unsigned residual;           // the input is added to what comes out
    unsigned reserved;
};

// The maximum over windows of positions, of numbers that are scaled, shifted and cut at zero before: every layer
// without products is one of these.
struct Window {
    const void *input;           // [rows, length, channels]
    const float *scale;          // [channels], or null
    const float *shift;
    void *output;                // [rows, count, channels]
    unsigned rows;
    unsigned length;
    unsigned count;
    unsigned channels;           // a multiple of 8
    unsigned start;              // of the first window
    unsigned size;
    unsigned stride;
    unsigned relu;
};

struct Unpack {
    const void *input;           // [rows, padded]
    float *output;               // [rows, channels]
    unsigned rows;
    unsigned padded;
    unsigned channels;
    unsigned reserved;
};

namespace {

constexpr unsigned kWarp = 32;
constexpr unsigned kThreads = 128;
constexpr unsigned kElementwise = 256;
constexpr unsigned kFilters = 64;
// Outputs of a block, and numbers that it brings at a time, in 16 bits and in 32.
constexpr unsigned kOutputs = 128;
constexpr unsigned kStep = 32;
constexpr unsigned kSingleOutputs = 64;
constexpr unsigned kSingleStep = 16;
// Rows in shared memory: 80 bytes, so that the eight rows of a ldmatrix fall on different banks; 272 bytes.
constexpr unsigned kPitch = kStep + 8;
constexpr unsigned kSinglePitch = kSingleOutputs + 4;

static_assert(sizeof(Convolve) == 80 && sizeof(Window) == 64 && sizeof(Unpack) == 32, "as in arguments.rs");

// Where the taps of an output begin: its row of input, and a position that may be before it.
struct Source {
    size_t row;
    int position;
};

__device__ __forceinline__ Source source_of(const Convolve &a, size_t output) {
    const size_t all = size_t(a.rows) * a.count;
    // Outputs beyond the last, which nobody keeps, read what the last reads.
    const size_t at = output < all ? output : all - 1;
    const unsigned position = unsigned(at % a.count);
    return {at / a.count * a.length, int(position * a.stride) - int(a.left)};
}

// Returns the numbers at `depth` of what an output is the product with, or nothing where they are zeros.
template <typename T>
__device__ __forceinline__ const T *numbers_at(const Convolve &a, const Source &source, unsigned depth) {
    const unsigned tap = depth / a.inputs, channel = depth - tap * a.inputs;
    const int position = source.position + int(tap * a.dilation);
    if (depth >= a.depth || position < 0 || position >= int(a.length)) return nullptr;
    return static_cast<const T *>(a.input) + (source.row + unsigned(position)) * a.inputs + channel;
}

__device__ __forceinline__ float finish(const Convolve &a, float sum, unsigned filter) {
    const float value = sum + __ldg(a.bias + filter);
    return a.relu && value < 0.0f ? 0.0f : value;
}

// ---- In 16 bits, on tensor cores: a warp has 32 outputs of all 64 filters. ----

template <typename T>
struct Tiles {
    T inputs[kOutputs * kPitch];
    T weights[kFilters * kPitch];
};

// Begins to copy 32 numbers for every output and every filter. A thread has the same eight of them in every row.
template <typename T>
__device__ __forceinline__ void bring(const Convolve &a, const Source (&sources)[4], unsigned first_filter,
                                      unsigned step, Tiles<T> &to) {
    const unsigned row = threadIdx.x / 4, column = threadIdx.x % 4 * 8, depth = step * kStep + column;
    UNROLL for (unsigned i = 0; i < 4; i++) {
        const T *const from = numbers_at<T>(a, sources[i], depth);
        copy_later(&to.inputs[(row + 32 * i) * kPitch + column], from ? from : a.input, from != nullptr);
    }
    const size_t pitch = (a.depth + kStep - 1) / kStep * kStep;
    const T *const weights = static_cast<const T *>(a.weights) + depth;
    UNROLL for (unsigned i = 0; i < 2; i++) {
        const unsigned filter = row + 32 * i;
        copy_later(&to.weights[filter * kPitch + column], weights + (first_filter + filter) * pitch, true);
    }
    close_copies();
}

// sums [32, 64] += inputs [32, 32] weightsᵀ [32, 64].
template <typename T>
__device__ __forceinline__ void multiply(const Tiles<T> &tiles, float (&sums)[2][8][4]) {
    const unsigned lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp * 32;
    UNROLL for (unsigned k = 0; k < kStep; k += 16) {
        unsigned inputs[2][4];
        UNROLL for (unsigned half = 0; half < 2; half++) {
            const unsigned row = first + 16 * half + lane % 16;
            load_matrices(inputs[half], &tiles.inputs[row * kPitch + k + lane / 16 * 8]);
        }
        UNROLL for (unsigned pair = 0; pair < 4; pair++) {
            // Matrices: filters 0 to 7 and 8 to 15 of the pair, each of the first and of the last eight numbers.
            const unsigned filter = 16 * pair + lane / 16 * 8 + lane % 8;
            unsigned weights[4];
            load_matrices(weights, &tiles.weights[filter * kPitch + k + lane / 8 % 2 * 8]);
            UNROLL for (unsigned half = 0; half < 2; half++) {
                multiply_add<T>(sums[half][2 * pair], inputs[half], weights[0], weights[1]);
                multiply_add<T>(sums[half][2 * pair + 1], inputs[half], weights[2], weights[3]);
            }
        }
    }
}

// Two numbers of 16 bits side by side.
template <typename T>
__device__ __forceinline__ void store_pair(const Convolve &a, size_t output, unsigned filter, float x, float y) {
    if (output >= size_t(a.rows) * a.count || filter >= a.outputs) return;
    const size_t at = output * a.outputs + filter;
    x = finish(a, x, filter), y = finish(a, y, filter + 1);
    if (a.residual) {
        const unsigned pair = *reinterpret_cast<const unsigned *>(static_cast<const T *>(a.input) + at);
        x += widen(T{(unsigned short)(pair & 0xffff)});
        y += widen(T{(unsigned short)(pair >> 16)});
    }
    *reinterpret_cast<unsigned *>(static_cast<T *>(a.output) + at) = narrow_pair<T>(x, y);
}

template <typename T>
__device__ void convolve(const Convolve &a) {
    Tiles<T> *const tiles = reinterpret_cast<Tiles<T> *>(dynamic_shared);
    const unsigned groups = (a.outputs + kFilters - 1) / kFilters;
    const size_t first_output = size_t(blockIdx.x / groups) * kOutputs;
    const unsigned first_filter = blockIdx.x % groups * kFilters;
    Source sources[4];
    UNROLL for (unsigned i = 0; i < 4; i++) sources[i] = source_of(a, first_output + threadIdx.x / 4 + 32 * i);
    float sums[2][8][4] = {};
    const unsigned steps = (a.depth + kStep - 1) / kStep;
    bring(a, sources, first_filter, 0, tiles[0]);
    for (unsigned step = 0; step < steps; step++) {
        if (step + 1 < steps) {
            bring(a, sources, first_filter, step + 1, tiles[(step + 1) % 2]);
            await_copies<1>();
        } else {
            await_copies<0>();
        }
        __syncthreads();
        multiply(tiles[step % 2], sums);
        // The next copies overwrite what this step has read.
        __syncthreads();
    }
    const unsigned lane = threadIdx.x % kWarp;
    const size_t output = first_output + threadIdx.x / kWarp * 32 + lane / 4;
    UNROLL for (unsigned half = 0; half < 2; half++) {
        UNROLL for (unsigned eight = 0; eight < 8; eight++) {
            const unsigned filter = first_filter + 8 * eight + 2 * (lane % 4);
            const float(&four)[4] = sums[half][eight];
            store_pair<T>(a, output + 16 * half, filter, four[0], four[1]);
            store_pair<T>(a, output + 16 * half + 8, filter, four[2], four[3]);
        }
    }
}

// ---- In 32 bits: a thread has 8 outputs of 4 filters. ----

struct SingleTiles {
    float inputs[kSingleStep * kSinglePitch];
    float weights[kSingleStep * kSinglePitch];
};

// Copies 16 numbers for every output and every filter, numbers first.
__device__ __forceinline__ void bring_single(const Convolve &a, const Source (&sources)[2], unsigned first_filter,
                                             unsigned step, SingleTiles &to) {
    const unsigned row = threadIdx.x / 4, column = threadIdx.x % 4 * 4, depth = step * kSingleStep + column;
    const size_t pitch = (a.depth + kStep - 1) / kStep * kStep;
    UNROLL for (unsigned i = 0; i < 2; i++) {
        float inputs[4] = {}, weights[4];
        if (const float *const from = numbers_at<float>(a, sources[i], depth)) load(from, inputs);
        const unsigned filter = row + 32 * i;
        load(static_cast<const float *>(a.weights) + (first_filter + filter) * pitch + depth, weights);
        UNROLL for (unsigned j = 0; j < 4; j++) {
            to.inputs[(column + j) * kSinglePitch + row + 32 * i] = inputs[j];
            to.weights[(column + j) * kSinglePitch + filter] = weights[j];
        }
    }
}

__device__ void convolve_single(const Convolve &a) {
    SingleTiles &tiles = *reinterpret_cast<SingleTiles *>(dynamic_shared);
    const unsigned groups = (a.outputs + kFilters - 1) / kFilters;
    const size_t first_output = size_t(blockIdx.x / groups) * kSingleOutputs;
    const unsigned first_filter = blockIdx.x % groups * kFilters;
    Source sources[2];
    UNROLL for (unsigned i = 0; i < 2; i++) sources[i] = source_of(a, first_output + threadIdx.x / 4 + 32 * i);
    const unsigned mine = threadIdx.x / 16 * 8, own_filters = threadIdx.x % 16 * 4;
    float sums[8][4] = {};
    for (unsigned step = 0; step * kSingleStep < a.depth; step++) {
        bring_single(a, sources, first_filter, step, tiles);
        __syncthreads();
        UNROLL for (unsigned k = 0; k < kSingleStep; k++) {
            float first[4], second[4], weights[4];
            load(&tiles.inputs[k * kSinglePitch + mine], first);
            load(&tiles.inputs[k * kSinglePitch + mine + 4], second);
            load(&tiles.weights[k * kSinglePitch + own_filters], weights);
            UNROLL for (unsigned i = 0; i < 4; i++) {
                UNROLL for (unsigned j = 0; j < 4; j++) {
                    sums[i][j] += first[i] * weights[j];
                    sums[i + 4][j] += second[i] * weights[j];
                }
            }
        }
        __syncthreads();
    }
    const unsigned filter = first_filter + own_filters;
    UNROLL for (unsigned i = 0; i < 8; i++) {
        const size_t output = first_output + mine + i;
        if (output >= size_t(a.rows) * a.count || filter >= a.outputs) continue;
        const size_t at = output * a.outputs + filter;
        float values[4], residual[4] = {};
        if (a.residual) load(static_cast<const float *>(a.input) + at, residual);
        UNROLL for (unsigned j = 0; j < 4; j++) values[j] = finish(a, sums[i][j], filter + j) + residual[j];
        store(values, static_cast<float *>(a.output) + at);
    }
}

// ---- Layers without products, and the way back. ----

__device__ __forceinline__ float widen(float x) { return x; }

// 16 bytes of output a thread.
template <typename T>
__device__ void window(const Window &a) {
    constexpr unsigned kP = kPack<T>;
    const size_t at = size_t(blockIdx.x) * kElementwise + threadIdx.x;
    const unsigned packs = a.channels / kP;
    if (at >= size_t(a.rows) * a.count * packs) return;
    const unsigned channel = unsigned(at % packs) * kP;
    const size_t output = at / packs, row = output / a.count;
    const size_t first = row * a.length + a.start + output % a.count * a.stride;
    float best[kP] = {};
    for (unsigned i = 0; i < a.size; i++) {
        float values[kP];
        load(static_cast<const T *>(a.input) + (first + i) * a.channels + channel, values);
        UNROLL for (unsigned j = 0; j < kP; j++) {
            float x = values[j];
            if (a.scale) x = x * __ldg(a.scale + channel + j) + __ldg(a.shift + channel + j);
            if (a.relu && x < 0.0f) x = 0.0f;
            // Whatever is no number stays so.
            if (i == 0 || x > best[j] || x != x) best[j] = x;
        }
    }
    store(best, static_cast<T *>(a.output) + output * a.channels + channel);
}

// One number of output a thread.
template <typename T>
__device__ void unpack(const Unpack &a) {
    const size_t at = size_t(blockIdx.x) * kElementwise + threadIdx.x;
    if (at >= size_t(a.rows) * a.channels) return;
    a.output[at] = widen(static_cast<const T *>(a.input)[at / a.channels * a.padded + at % a.channels]);
}

}  // namespace

#define KERNELS(number, type)                                                                                     \
    extern "C" __global__ void __launch_bounds__(kElementwise) window_##number(const Window a) { window<type>(a); } \
    extern "C" __global__ void __launch_bounds__(kElementwise) unpack_##number(const Unpack a) { unpack<type>(a); }

KERNELS(f32, float)
KERNELS(bf16, bf16)
KERNELS(f16, f16)

extern "C" __global__ void __launch_bounds__(kThreads) convolve_f32(const Convolve a) { convolve_single(a); }
extern "C" __global__ void __launch_bounds__(kThreads) convolve_bf16(const Convolve a) { convolve<bf16>(a); }
extern "C" __global__ void __launch_bounds__(kThreads) convolve_f16(const Convolve a) { convolve<f16>(a); }
