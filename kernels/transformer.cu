// The transformer encoders' kernels; the matrix products between them are cuBLASLt's. Twins: src/kernel/linear.rs,
// attention.rs, norm.rs and activation.rs. Launched by src/model/transformer/gpu.rs.
//
// Tokens of all sequences of a pack lie end to end, without padding: activations are [tokens, channels], in 32-bit
// floats, bfloat16 or float16; every sum is in 32 bits. Biases and residuals are added by the matrix products
// (bias epilogue, beta = 1), so that a layer norm reads one array.
//
// Operations and bytes a token of a layer of BERT-base in 16 bits (H = 768, I = 3072, L tokens a sequence), counted
// from the formulas:
//   matrix products   2 (4 H H + 2 H I) = 14.2 million operations; weights from L2
//   attention         4 L H operations [0.6 million for L = 198] on tensor cores; 6 H bytes in, 2 H out [6 kB], keys
//                     and values again for every 64 queries, from L2
//   norm, twice       2 H in, 2 H out each [6 kB in all]; 5 operations a number
//   GELU              2 I in, 2 I out [12 kB]; about 30 operations a number
// So 24 kB cross memory outside of the products: 5 ns a token at the 4.8 TB/s of an H200's data sheet, where the
// products take 14 ns at its 989 TFLOP/s. cuBLASLt's GELU epilogue would save 12 kB but is the tanh form: it serves
// only models that ask for that form.
//
// Attention keeps no scores in memory: a block has 64 queries of a head, four warps of 16 rows each; blocks of 64
// keys and values come by asynchronous copies, one ahead; the softmax is carried along as a running maximum and sum
// (Dao 2022, FlashAttention). On chip 5 x 64 x (width + 8) x 2 bytes: 46 KB and 141 registers a thread for heads of
// 64, so three blocks fit on an A100 or H100, 12 warps; 87 KB and 196 registers for heads of 128, one block on an
// A100 (163 KiB), two on an H100 (227 KiB). Rows are 16 bytes longer than a multiple of 32 bytes, so that the eight
// rows of a ldmatrix fall on different banks. Norms have one warp a row and the row in shared memory (4 H bytes a
// warp); they and the kernels of single numbers are bound by memory, at 48 registers or fewer.
// THESE ARE ESTIMATES: nothing here has been run on a GPU.
//
// Results do not depend on the pack that a sequence is in: sums have a fixed order that depends on the place in the
// sequence alone.
//
// Compiled for a GPU by scripts/kernels.sh, and as C++ by kernels/shim for the test on the processor.

#include "numbers.cuh"

// What src/model/transformer/gpu/arguments.rs lays out; the library for tests checks the sizes at every launch.

struct Embed {
    const unsigned *tokens;
    const unsigned *places;      // of each token in its sequence, from 0
    const void *words;           // [vocabulary, hidden]
    const void *positions;       // [places, hidden], or null
    const float *weights;        // of the norm, [hidden], or null: no norm
    const float *bias;           // [hidden], or null
    void *output;                // [rows, hidden]
    unsigned rows;
    unsigned hidden;
    float epsilon;
    unsigned reserved;
};

struct Norm {
    const void *input;           // [rows, hidden]
    const float *weights;
    const float *bias;           // or null
    void *output;
    unsigned rows;
    unsigned hidden;
    float epsilon;
    unsigned reserved;
};

struct Activate {
    const void *input;           // [rows, width], or [rows, 2 width] where gated
    void *output;                // [rows, width]
    unsigned rows;
    unsigned width;
    unsigned function;
    unsigned gated;              // the second half is multiplied by the function of the first
};

struct Rotate {
    void *values;                // [rows, stride]: queries and keys of all heads, side by side at the front
    const unsigned *places;
    const float *table;          // [places, width / 2, 2]: cosine and sine
    unsigned rows;
    unsigned heads;              // of queries and of keys
    unsigned width;
    unsigned stride;
};

// Queries of one sequence that a block takes.
struct Tile {
    unsigned start;              // the sequence's first row
    unsigned length;
    unsigned query;              // its first query, in the sequence
    unsigned reserved;
};

struct Attend {
    const void *inputs;          // [rows, 3 heads width]: queries, keys, values
    void *output;                // [rows, heads width]
    const Tile *tiles;
    const float *slopes;         // [heads]: what a token of distance takes off a score, or null
    unsigned tile_count;
    unsigned heads;
    unsigned width;
    float scale;
};

struct Pool {
    const void *input;           // [rows, hidden]
    const unsigned *ranges;      // [count, 2]: first row and the one after the last
    float *output;               // [count, hidden]
    unsigned count;
    unsigned hidden;
};

enum Function { kNone = 0, kRelu = 1, kGelu = 2, kGeluTanh = 3, kSilu = 4, kTanh = 5 };

namespace {

constexpr unsigned kWarp = 32;
constexpr unsigned kFull = 0xffffffffu;
constexpr unsigned kRowWarps = 4;
constexpr unsigned kElementwise = 256;
constexpr unsigned kAttention = 128;
// Queries of a block and keys of a step: as many in 16 bits.
constexpr unsigned kKeys = 64;
constexpr unsigned kSingleQueries = 16;
constexpr unsigned kSingleKeys = 32;
constexpr unsigned kSingleWidth = 128;
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kMinusHuge = -3.0e38f;

static_assert(sizeof(Embed) == 72 && sizeof(Norm) == 48 && sizeof(Activate) == 32, "as in arguments.rs");
static_assert(sizeof(Rotate) == 40 && sizeof(Tile) == 16 && sizeof(Attend) == 48 && sizeof(Pool) == 32,
              "as in arguments.rs");

// ---- Sums and maxima over lanes; all of them get the result, of the same order of additions. ----

__device__ __forceinline__ float warp_sum(float value) {
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(kFull, value, distance);
    return value;
}

__device__ __forceinline__ float warp_max(float value) {
    for (int distance = 16; distance > 0; distance /= 2) value = fmaxf(value, __shfl_xor_sync(kFull, value, distance));
    return value;
}

// ---- Layer norm: a warp a row, which waits in shared memory. ----

// A lane's part of a row: its i-th numbers, each at the place of the 16 bytes that it came with.
struct Row {
    float *cache;
    unsigned packs;
    unsigned lane;
};

template <typename T>
__device__ Row row_of_warp(unsigned hidden) {
    float *const cache = reinterpret_cast<float *>(dynamic_shared);
    return {cache + threadIdx.x / kWarp * hidden, hidden / kPack<T>, threadIdx.x % kWarp};
}

template <typename T>
__device__ void normalize(const Row &row, const float *weights, const float *bias, float epsilon, T *output) {
    constexpr unsigned kP = kPack<T>;
    const float count = float(row.packs * kP);
    float sum = 0.0f;
    for (unsigned pack = row.lane; pack < row.packs; pack += kWarp) {
        UNROLL for (unsigned i = 0; i < kP; i++) sum += row.cache[i * row.packs + pack];
    }
    const float mean = warp_sum(sum) / count;
    float squares = 0.0f;
    for (unsigned pack = row.lane; pack < row.packs; pack += kWarp) {
        UNROLL for (unsigned i = 0; i < kP; i++) {
            const float centred = row.cache[i * row.packs + pack] - mean;
            squares += centred * centred;
        }
    }
    const float scale = 1.0f / sqrtf(warp_sum(squares) / count + epsilon);
    for (unsigned pack = row.lane; pack < row.packs; pack += kWarp) {
        float values[kP];
        UNROLL for (unsigned i = 0; i < kP; i++) {
            const float value = (row.cache[i * row.packs + pack] - mean) * scale * __ldg(weights + pack * kP + i);
            values[i] = bias ? value + __ldg(bias + pack * kP + i) : value;
        }
        store(values, output + size_t(pack) * kP);
    }
}

template <typename T>
__device__ void norm(const Norm &a) {
    const unsigned at = blockIdx.x * kRowWarps + threadIdx.x / kWarp;
    if (at >= a.rows) return;
    const Row row = row_of_warp<T>(a.hidden);
    const T *const input = static_cast<const T *>(a.input) + size_t(at) * a.hidden;
    for (unsigned pack = row.lane; pack < row.packs; pack += kWarp) {
        float values[kPack<T>];
        load(input + pack * kPack<T>, values);
        // Only this lane reads them again.
        UNROLL for (unsigned i = 0; i < kPack<T>; i++) row.cache[i * row.packs + pack] = values[i];
    }
    normalize(row, a.weights, a.bias, a.epsilon, static_cast<T *>(a.output) + size_t(at) * a.hidden);
}

template <typename T>
__device__ __forceinline__ void add_row(const void *table, unsigned at, unsigned hidden, unsigned pack,
                                        float (&sums)[kPack<T>]) {
    float values[kPack<T>];
    load(static_cast<const T *>(table) + size_t(at) * hidden + pack * kPack<T>, values);
    UNROLL for (unsigned i = 0; i < kPack<T>; i++) sums[i] += values[i];
}

// Embeddings of words and places, and their norm.
template <typename T>
__device__ void embed(const Embed &a) {
    const unsigned at = blockIdx.x * kRowWarps + threadIdx.x / kWarp;
    if (at >= a.rows) return;
    const Row row = row_of_warp<T>(a.hidden);
    T *const output = static_cast<T *>(a.output) + size_t(at) * a.hidden;
    const unsigned token = a.tokens[at], place = a.places[at];
    for (unsigned pack = row.lane; pack < row.packs; pack += kWarp) {
        float sums[kPack<T>] = {};
        add_row<T>(a.words, token, a.hidden, pack, sums);
        if (a.positions) add_row<T>(a.positions, place, a.hidden, pack, sums);
        if (!a.weights) {
            store(sums, output + pack * kPack<T>);
            continue;
        }
        UNROLL for (unsigned i = 0; i < kPack<T>; i++) row.cache[i * row.packs + pack] = sums[i];
    }
    if (a.weights) normalize(row, a.weights, a.bias, a.epsilon, output);
}

// ---- Functions of single numbers. ----

__device__ __forceinline__ float function(unsigned which, float x) {
    switch (which) {
        case kRelu: return x < 0.0f ? 0.0f : x;
        case kGelu: return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
        case kGeluTanh: return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
        case kSilu: return x / (1.0f + exp2f(-x * kLog2E));
        case kTanh: return tanhf(x);
        default: return x;
    }
}

// 16 bytes of output a thread.
template <typename T>
__device__ void activate(const Activate &a) {
    constexpr unsigned kP = kPack<T>;
    const size_t pack = size_t(blockIdx.x) * kElementwise + threadIdx.x;
    const unsigned packs = a.width / kP;
    if (pack >= size_t(a.rows) * packs) return;
    const size_t row = pack / packs, column = pack % packs * kP;
    const size_t stride = a.gated ? 2 * size_t(a.width) : a.width;
    const T *const input = static_cast<const T *>(a.input) + row * stride + column;
    float values[kP];
    load(input, values);
    UNROLL for (unsigned i = 0; i < kP; i++) values[i] = function(a.function, values[i]);
    if (a.gated) {
        float others[kP];
        load(input + a.width, others);
        UNROLL for (unsigned i = 0; i < kP; i++) values[i] *= others[i];
    }
    store(values, static_cast<T *>(a.output) + row * a.width + column);
}

// Turns queries and keys: channel j and channel j + width / 2 are a pair, whose angle grows with the place.
template <typename T>
__device__ void rotate(const Rotate &a) {
    constexpr unsigned kP = kPack<T>;
    const size_t at = size_t(blockIdx.x) * kElementwise + threadIdx.x;
    const unsigned half = a.width / 2, packs = half / kP, heads = 2 * a.heads;
    if (at >= size_t(a.rows) * heads * packs) return;
    const unsigned pack = unsigned(at % packs), head = unsigned(at / packs % heads);
    const size_t row = at / packs / heads;
    T *const first = static_cast<T *>(a.values) + row * a.stride + size_t(head) * a.width + pack * kP;
    const float *const angles = a.table + (size_t(a.places[row]) * half + pack * kP) * 2;
    float x[kP], y[kP], turned_x[kP], turned_y[kP];
    load(first, x);
    load(first + half, y);
    UNROLL for (unsigned i = 0; i < kP; i++) {
        const float cosine = __ldg(angles + 2 * i), sine = __ldg(angles + 2 * i + 1);
        turned_x[i] = x[i] * cosine - y[i] * sine;
        turned_y[i] = y[i] * cosine + x[i] * sine;
    }
    store(turned_x, first);
    store(turned_y, first + half);
}

// Means over ranges of rows; a range of one row copies it. 16 bytes of input a row and thread.
template <typename T>
__device__ void pool(const Pool &a) {
    constexpr unsigned kP = kPack<T>;
    const size_t at = size_t(blockIdx.x) * kElementwise + threadIdx.x;
    const unsigned packs = a.hidden / kP;
    if (at >= size_t(a.count) * packs) return;
    const size_t range = at / packs, column = at % packs * kP;
    const unsigned first = a.ranges[2 * range], after = a.ranges[2 * range + 1];
    float sums[kP] = {};
    for (unsigned row = first; row < after; row++) {
        float values[kP];
        load(static_cast<const T *>(a.input) + size_t(row) * a.hidden + column, values);
        UNROLL for (unsigned i = 0; i < kP; i++) sums[i] += values[i];
    }
    const float count = after > first ? float(after - first) : 1.0f;
    float *const to = a.output + range * a.hidden + column;
    UNROLL for (unsigned i = 0; i < kP; i++) sums[i] /= count;
    UNROLL for (unsigned i = 0; i < kP; i += 4) {
        const float four[4] = {sums[i], sums[i + 1], sums[i + 2], sums[i + 3]};
        store(four, to + i);
    }
}

// ---- Attention in 16 bits, on tensor cores. Width is a multiple of 16; narrower heads are filled up with zeros. ----

// Begins to copy 64 rows of a head; rows after the last and channels after the width become zero.
template <typename T, unsigned Width>
__device__ __forceinline__ void copy_rows(T *to, const T *from, unsigned stride, unsigned rows, unsigned width) {
    constexpr unsigned kPacks = Width / kPack<T>;
    for (unsigned pack = threadIdx.x; pack < kKeys * kPacks; pack += kAttention) {
        const unsigned row = pack / kPacks, channel = pack % kPacks * kPack<T>;
        const bool there = row < rows && channel < width;
        copy_later(to + row * (Width + kPack<T>) + channel, there ? from + size_t(row) * stride + channel : from, there);
    }
}

// What a warp carries along: of its 16 rows, a lane has rows lane / 4 and lane / 4 + 8.
template <unsigned Width>
struct Running {
    float sums[Width / 8][4];
    float maximum[2];
    float total[2];
};

// Makes scores powers of two, and brings what was carried along to the new maximum.
template <unsigned Width>
__device__ __forceinline__ void soften(float (&scores)[kKeys / 8][4], Running<Width> &running) {
    UNROLL for (int half = 0; half < 2; half++) {
        float maximum = running.maximum[half];
        UNROLL for (unsigned n = 0; n < kKeys / 8; n++) {
            maximum = fmaxf(maximum, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
        }
        maximum = fmaxf(maximum, __shfl_xor_sync(kFull, maximum, 1));
        maximum = fmaxf(maximum, __shfl_xor_sync(kFull, maximum, 2));
        const float shrink = exp2f(running.maximum[half] - maximum);
        float total = 0.0f;
        UNROLL for (unsigned n = 0; n < kKeys / 8; n++) {
            UNROLL for (int i = 2 * half; i < 2 * half + 2; i++) {
                scores[n][i] = exp2f(scores[n][i] - maximum);
                total += scores[n][i];
            }
        }
        running.maximum[half] = maximum;
        running.total[half] = running.total[half] * shrink + total;
        UNROLL for (unsigned n = 0; n < Width / 8; n++) {
            running.sums[n][2 * half] *= shrink;
            running.sums[n][2 * half + 1] *= shrink;
        }
    }
}

// Scores of the warp's 16 queries and 64 keys, as exponents of two; keys after the last score nothing.
template <typename T, unsigned Width>
__device__ __forceinline__ void score(float (&scores)[kKeys / 8][4], const unsigned (&queries)[Width / 16][4],
                                      const T *keys, unsigned query, unsigned key, unsigned length, float scale,
                                      float slope) {
    const unsigned lane = threadIdx.x % kWarp;
    UNROLL for (unsigned n = 0; n < kKeys / 8; n += 2) {
        UNROLL for (int i = 0; i < 4; i++) scores[n][i] = scores[n + 1][i] = 0.0f;
        const T *const row = keys + (n * 8 + lane / 16 * 8 + lane % 8) * (Width + kPack<T>) + lane / 8 % 2 * 8;
        UNROLL for (unsigned step = 0; step < Width / 16; step++) {
            unsigned b[4];
            load_matrices(b, row + step * 16);
            multiply_add<T>(scores[n], queries[step], b[0], b[1]);
            multiply_add<T>(scores[n + 1], queries[step], b[2], b[3]);
        }
    }
    UNROLL for (unsigned n = 0; n < kKeys / 8; n++) {
        UNROLL for (int i = 0; i < 4; i++) {
            const unsigned q = query + lane / 4 + i / 2 * 8, k = key + n * 8 + lane % 4 * 2 + i % 2;
            const float distance = fabsf(float(int(q) - int(k)));
            scores[n][i] = k < length ? scores[n][i] * scale - slope * distance : kMinusHuge;
        }
    }
}

// sums += powers x values.
template <typename T, unsigned Width>
__device__ __forceinline__ void gather(Running<Width> &running, const float (&powers)[kKeys / 8][4], const T *values) {
    const unsigned lane = threadIdx.x % kWarp;
    UNROLL for (unsigned step = 0; step < kKeys / 16; step++) {
        const float(&low)[4] = powers[2 * step], (&high)[4] = powers[2 * step + 1];
        const unsigned a[4] = {narrow_pair<T>(low[0], low[1]), narrow_pair<T>(low[2], low[3]),
                               narrow_pair<T>(high[0], high[1]), narrow_pair<T>(high[2], high[3])};
        const T *const row = values + (step * 16 + lane % 16) * (Width + kPack<T>) + lane / 16 * 8;
        UNROLL for (unsigned n = 0; n < Width / 8; n += 2) {
            unsigned b[4];
            load_transposed(b, row + n * 8);
            multiply_add<T>(running.sums[n], a, b[0], b[1]);
            multiply_add<T>(running.sums[n + 1], a, b[2], b[3]);
        }
    }
}

// Divides by the totals and writes the warp's rows, by way of shared memory that only this warp uses.
template <typename T, unsigned Width>
__device__ __forceinline__ void finish(const Running<Width> &running, T *staged, T *output, unsigned stride,
                                       unsigned rows, unsigned width) {
    constexpr unsigned kStride = Width + kPack<T>, kPacks = Width / kPack<T>;
    const unsigned lane = threadIdx.x % kWarp;
    UNROLL for (int half = 0; half < 2; half++) {
        float total = running.total[half];
        total += __shfl_xor_sync(kFull, total, 1);
        total += __shfl_xor_sync(kFull, total, 2);
        const float scale = 1.0f / total;
        T *const row = staged + (lane / 4 + half * 8) * kStride + lane % 4 * 2;
        UNROLL for (unsigned n = 0; n < Width / 8; n++) {
            const float first = running.sums[n][2 * half] * scale, second = running.sums[n][2 * half + 1] * scale;
            *reinterpret_cast<unsigned *>(row + n * 8) = narrow_pair<T>(first, second);
        }
    }
    __syncwarp();
    for (unsigned pack = lane; pack < 16 * kPacks; pack += kWarp) {
        const unsigned row = pack / kPacks, channel = pack % kPacks * kPack<T>;
        if (row >= rows || channel >= width) continue;
        const uint4 raw = *reinterpret_cast<const uint4 *>(staged + row * kStride + channel);
        *reinterpret_cast<uint4 *>(output + size_t(row) * stride + channel) = raw;
    }
}

template <typename T, unsigned Width>
__device__ void attend(const Attend &a) {
    constexpr unsigned kStride = Width + kPack<T>, kBlock = kKeys * kStride;
    T *const queries = reinterpret_cast<T *>(dynamic_shared);
    T *const keys = queries + kBlock, *const values = keys + 2 * kBlock;
    const Tile tile = a.tiles[blockIdx.x / a.heads];
    const unsigned head = blockIdx.x % a.heads, all = a.heads * a.width, stride = 3 * all;
    const unsigned lane = threadIdx.x % kWarp, first_row = threadIdx.x / kWarp * 16;
    const T *const sequence = static_cast<const T *>(a.inputs) + size_t(tile.start) * stride + head * a.width;
    const auto copy_keys = [&](unsigned block) {
        const unsigned first = block * kKeys;
        const T *const from = sequence + size_t(first) * stride;
        copy_rows<T, Width>(keys + block % 2 * kBlock, from + all, stride, tile.length - first, a.width);
        copy_rows<T, Width>(values + block % 2 * kBlock, from + 2 * all, stride, tile.length - first, a.width);
        close_copies();
    };
    copy_rows<T, Width>(queries, sequence + size_t(tile.query) * stride, stride, tile.length - tile.query, a.width);
    copy_keys(0);
    const float slope = a.slopes ? a.slopes[head] * kLog2E : 0.0f;
    Running<Width> running = {};
    running.maximum[0] = running.maximum[1] = kMinusHuge;
    unsigned own[Width / 16][4];
    const unsigned blocks = (tile.length + kKeys - 1) / kKeys;
    for (unsigned block = 0; block < blocks; block++) {
        if (block + 1 < blocks) {
            copy_keys(block + 1);
            await_copies<1>();
        } else {
            await_copies<0>();
        }
        __syncthreads();
        if (block == 0) {
            const T *const row = queries + (first_row + lane % 16) * kStride + lane / 16 * 8;
            UNROLL for (unsigned step = 0; step < Width / 16; step++) load_matrices(own[step], row + step * 16);
        }
        float scores[kKeys / 8][4];
        score<T, Width>(scores, own, keys + block % 2 * kBlock, tile.query + first_row, block * kKeys, tile.length,
                        a.scale * kLog2E, slope);
        soften<Width>(scores, running);
        gather<T, Width>(running, scores, values + block % 2 * kBlock);
        // The next round but one overwrites what this one has read.
        __syncthreads();
    }
    const unsigned query = tile.query + first_row, rows = query < tile.length ? tile.length - query : 0;
    T *const output = static_cast<T *>(a.output) + (size_t(tile.start) + query) * all + head * a.width;
    finish<T, Width>(running, queries + first_row * kStride, output, all, rows, a.width);
}

// ---- Attention in 32 bits, for parity: four warps of four queries each; a lane has a key, then channels. ----

__device__ void load_singles(float *to, const float *from, unsigned stride, unsigned rows, unsigned rows_max,
                             unsigned width) {
    for (unsigned at = threadIdx.x; at < rows_max * width; at += kAttention) {
        const unsigned row = at / width, channel = at % width;
        to[row * (kSingleWidth + 1) + channel] = row < rows ? from[size_t(row) * stride + channel] : 0.0f;
    }
}

// One block of keys for one query; the warp shows its lanes' weights in `weights`.
__device__ __forceinline__ void step_single(const float *query, const float *keys, const float *values, float *weights,
                                            unsigned width, float bias, bool there, float scale,
                                            float (&sums)[kSingleWidth / kWarp], float &maximum, float &total) {
    const unsigned lane = threadIdx.x % kWarp;
    float score = 0.0f;
    for (unsigned channel = 0; channel < width; channel++) {
        score += query[channel] * keys[lane * (kSingleWidth + 1) + channel];
    }
    score = there ? score * scale - bias : kMinusHuge;
    const float highest = fmaxf(maximum, warp_max(score));
    const float shrink = exp2f(maximum - highest), power = exp2f(score - highest);
    total = total * shrink + warp_sum(power);
    maximum = highest;
    weights[lane] = power;
    __syncwarp();
    UNROLL for (unsigned i = 0; i < kSingleWidth / kWarp; i++) sums[i] *= shrink;
    for (unsigned key = 0; key < kSingleKeys; key++) {
        const float weight = weights[key];
        UNROLL for (unsigned i = 0; i < kSingleWidth / kWarp; i++) {
            const unsigned channel = i * kWarp + lane;
            if (channel < width) sums[i] += weight * values[key * (kSingleWidth + 1) + channel];
        }
    }
    __syncwarp();
}

__device__ void attend_single(const Attend &a) {
    constexpr unsigned kRow = kSingleWidth + 1, kEach = kSingleQueries / 4, kChannels = kSingleWidth / kWarp;
    float *const queries = reinterpret_cast<float *>(dynamic_shared);
    float *const keys = queries + kSingleQueries * kRow, *const values = keys + kSingleKeys * kRow;
    float *const weights = values + kSingleKeys * kRow + threadIdx.x / kWarp * kSingleKeys;
    const Tile tile = a.tiles[blockIdx.x / a.heads];
    const unsigned head = blockIdx.x % a.heads, all = a.heads * a.width, stride = 3 * all;
    const unsigned lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp * kEach;
    const float *const sequence = static_cast<const float *>(a.inputs) + size_t(tile.start) * stride + head * a.width;
    load_singles(queries, sequence + size_t(tile.query) * stride, stride, tile.length - tile.query, kSingleQueries,
                 a.width);
    const float slope = a.slopes ? a.slopes[head] * kLog2E : 0.0f;
    float sums[kEach][kChannels] = {}, maximum[kEach], total[kEach] = {};
    UNROLL for (unsigned q = 0; q < kEach; q++) maximum[q] = kMinusHuge;
    for (unsigned key = 0; key < tile.length; key += kSingleKeys) {
        const float *const from = sequence + size_t(key) * stride;
        load_singles(keys, from + all, stride, tile.length - key, kSingleKeys, a.width);
        load_singles(values, from + 2 * all, stride, tile.length - key, kSingleKeys, a.width);
        __syncthreads();
        UNROLL for (unsigned q = 0; q < kEach; q++) {
            const float distance = fabsf(float(int(tile.query + first + q) - int(key + lane)));
            step_single(queries + (first + q) * kRow, keys, values, weights, a.width, slope * distance,
                        key + lane < tile.length, a.scale * kLog2E, sums[q], maximum[q], total[q]);
        }
        __syncthreads();
    }
    UNROLL for (unsigned q = 0; q < kEach; q++) {
        const unsigned query = tile.query + first + q;
        if (query >= tile.length) continue;
        float *const output = static_cast<float *>(a.output) + (size_t(tile.start) + query) * all + head * a.width;
        UNROLL for (unsigned i = 0; i < kChannels; i++) {
            const unsigned channel = i * kWarp + lane;
            if (channel < a.width) output[channel] = sums[q][i] / total[q];
        }
    }
}

}  // namespace

#define NYX_FOR(number, T)                                                                                       \
    extern "C" __global__ void __launch_bounds__(kRowWarps *kWarp) embed_##number(const Embed a) { embed<T>(a); } \
    extern "C" __global__ void __launch_bounds__(kRowWarps *kWarp) norm_##number(const Norm a) { norm<T>(a); }    \
    extern "C" __global__ void __launch_bounds__(kElementwise) activate_##number(const Activate a) { activate<T>(a); } \
    extern "C" __global__ void __launch_bounds__(kElementwise) rotate_##number(const Rotate a) { rotate<T>(a); }  \
    extern "C" __global__ void __launch_bounds__(kElementwise) pool_##number(const Pool a) { pool<T>(a); }

NYX_FOR(f32, float)
NYX_FOR(bf16, bf16)
NYX_FOR(f16, f16)

// Heads of up to 64 leave room for three blocks of 170 registers a thread, wider ones for two of 255.
#define NYX_ATTEND(number, T, width, blocks)                                                                     \
    extern "C" __global__ void __launch_bounds__(kAttention, blocks) attend_##number##_##width(const Attend a) { \
        attend<T, width>(a);                                                                                     \
    }

NYX_ATTEND(bf16, bf16, 32, 3)
NYX_ATTEND(bf16, bf16, 64, 3)
NYX_ATTEND(bf16, bf16, 80, 2)
NYX_ATTEND(bf16, bf16, 128, 2)
NYX_ATTEND(f16, f16, 32, 3)
NYX_ATTEND(f16, f16, 64, 3)
NYX_ATTEND(f16, f16, 80, 2)
NYX_ATTEND(f16, f16, 128, 2)

extern "C" __global__ void __launch_bounds__(kAttention) attend_f32(const Attend a) { attend_single(a); }
