// Numbers of 16 bits, tensor cores and asynchronous copies, and sixteen bytes at a time: what the kernels of models
// share. On the processor shim/tensor_cores.h has the second of these.
#pragma once

#ifdef NYX_ON_HOST
#include "shim/cuda_on_host.h"
#include "shim/tensor_cores.h"
#define UNROLL
#else
extern __shared__ double2 dynamic_shared[];
#define UNROLL _Pragma("unroll")
#endif

namespace {

// ---- Numbers of 16 bits. Two stand in a word, the first in the low half. ----

struct bf16 {
    unsigned short bits;
};

struct f16 {
    unsigned short bits;
};

#ifdef NYX_ON_HOST

float widen(bf16 x) { return __int_as_float(int(unsigned(x.bits) << 16)); }

float widen(f16 x) {
    _Float16 value;
    memcpy(&value, &x, sizeof value);
    return float(value);
}

void narrow(float x, bf16 &to) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    const bool nan = x != x;
    to.bits = nan ? 0x7fff : (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

void narrow(float x, f16 &to) {
    const _Float16 value = _Float16(x);
    memcpy(&to, &value, sizeof to);
}

template <typename T>
unsigned narrow_pair(float first, float second) {
    T low, high;
    narrow(first, low);
    narrow(second, high);
    return low.bits | unsigned(high.bits) << 16;
}

#else

__device__ __forceinline__ float widen(bf16 x) { return __int_as_float(int(unsigned(x.bits) << 16)); }

__device__ __forceinline__ float widen(f16 x) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(x.bits));
    return value;
}

template <typename T>
__device__ __forceinline__ unsigned narrow_pair(float first, float second);

template <>
__device__ __forceinline__ unsigned narrow_pair<bf16>(float first, float second) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}

template <>
__device__ __forceinline__ unsigned narrow_pair<f16>(float first, float second) {
    unsigned pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}

// ---- Tensor cores and asynchronous copies; on the processor they are in shim/tensor_cores.h. ----

__device__ __forceinline__ unsigned shared_address(const void *at) { return unsigned(__cvta_generic_to_shared(at)); }

// Loads four 8 x 8 matrices of 16-bit numbers; lane i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

__device__ __forceinline__ void load_transposed(unsigned (&to)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// sums [16, 8] += a [16, 16] b [16, 8], over the lanes of a warp.
template <typename T>
__device__ __forceinline__ void multiply_add(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);

template <>
__device__ __forceinline__ void multiply_add<bf16>(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ __forceinline__ void multiply_add<f16>(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Begins to copy 16 bytes to shared memory, or 16 zero bytes.
__device__ __forceinline__ void copy_later(void *to, const void *from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(there ? 16 : 0)
                 : "memory");
}

// Closes a group of copies.
__device__ __forceinline__ void close_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for this thread's copies, but for the last `Open` groups.
template <int Open>
__device__ __forceinline__ void await_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Open) : "memory");
}

#endif

// ---- Sixteen bytes at a time. ----

template <typename T>
constexpr unsigned kPack = 16 / sizeof(T);

__device__ __forceinline__ void load(const float *from, float (&to)[4]) {
    const float4 four = *reinterpret_cast<const float4 *>(from);
    to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
}

template <typename T>
__device__ __forceinline__ void load(const T *from, float (&to)[8]) {
    const uint4 raw = *reinterpret_cast<const uint4 *>(from);
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
    UNROLL for (int i = 0; i < 4; i++) {
        to[2 * i] = widen(T{(unsigned short)(words[i] & 0xffff)});
        to[2 * i + 1] = widen(T{(unsigned short)(words[i] >> 16)});
    }
}

__device__ __forceinline__ void store(const float (&from)[4], float *to) {
    *reinterpret_cast<float4 *>(to) = {from[0], from[1], from[2], from[3]};
}

template <typename T>
__device__ __forceinline__ void store(const float (&from)[8], T *to) {
    uint4 raw;
    raw.x = narrow_pair<T>(from[0], from[1]);
    raw.y = narrow_pair<T>(from[2], from[3]);
    raw.z = narrow_pair<T>(from[4], from[5]);
    raw.w = narrow_pair<T>(from[6], from[7]);
    *reinterpret_cast<uint4 *>(to) = raw;
}

}  // namespace
