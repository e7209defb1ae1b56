//! Tiles in 256-bit vectors: six rows by half a strip (two vectors) fill 12 of 16 registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Four, HEIGHT, Job, Pair, Sums};

macro_rules! kernel {
    ($name:ident, $tile:ident, $unit:ty, $sum:ty, $tall:literal, $product:expr) => {
        pub(super) fn $name(job: Job<$unit>, count: usize, sums: &mut Sums<$sum>) {
            let mut row = 0;
            while row < count {
                let tall = count - row >= $tall;
                for half in 0..2 {
                    // SAFETY: `unit` comes here only where the processor has avx2 and fma, and
                    // `super::multiply` has seen that the rows exist.
                    unsafe {
                        if tall {
                            $tile::<$tall>(job, row, half, sums);
                        } else {
                            $tile::<1>(job, row, half, sums);
                        }
                    }
                }
                row += if tall { $tall } else { 1 };
            }
        }

        /// Computes rows `first..first + M` of half a strip.
        ///
        /// # Safety
        ///
        /// The processor has avx2 and fma; the job holds the rows, and they are at most `HEIGHT`.
        #[target_feature(enable = "avx2,fma")]
        unsafe fn $tile<const M: usize>(job: Job<$unit>, first: usize, half: usize, sums: &mut Sums<$sum>) {
            debug_assert!(first + M <= HEIGHT);
            // Loops by index, not iterators: they unroll into registers at low optimization levels, too.
            // SAFETY: by this function's contract every address lies in its slice.
            unsafe {
                let place = sums.0.as_mut_ptr().add(first).cast::<[[__m256i; 2]; 2]>();
                let begin = job.begin.as_ptr().add(16 * half).cast::<__m256i>();
                let begin = [_mm256_loadu_si256(begin), _mm256_loadu_si256(begin.add(1))];
                let mut total = [[_mm256_setzero_si256(); 2]; M];
                let mut m = 0;
                while m < M {
                    total[m] = begin;
                    m += 1;
                }
                let mut values = job.rows.as_ptr().add(first * job.stride).cast::<i32>();
                let mut weights = job.strip.as_ptr().cast::<__m256i>().wrapping_add(2 * half);
                let taps = job.strip.len() / job.runs;
                let mut run = 0;
                while run < job.runs {
                    let mut tap = 0;
                    while tap < taps {
                        let (low, high) = (*weights, *weights.add(1));
                        let mut m = 0;
                        while m < M {
                            let value = _mm256_set1_epi32(*values.add(m * job.stride));
                            total[m][0] = $product(total[m][0], value, low);
                            total[m][1] = $product(total[m][1], value, high);
                            m += 1;
                        }
                        values = values.add(1);
                        weights = weights.wrapping_add(4);
                        tap += 1;
                    }
                    // After the last piece this is an address that is never read.
                    values = values.wrapping_add(job.gap).wrapping_sub(taps);
                    run += 1;
                }
                let mut m = 0;
                while m < M {
                    (*place.add(m))[half] = total[m];
                    m += 1;
                }
            }
        }
    };
}

/// Multiplies and adds in 32 bits.
///
/// # Safety
///
/// The processor has fma.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn fused(sum: __m256i, value: __m256i, weight: __m256i) -> __m256i {
    let (value, weight) = (_mm256_castsi256_ps(value), _mm256_castsi256_ps(weight));
    _mm256_castps_si256(_mm256_fmadd_ps(value, weight, _mm256_castsi256_ps(sum)))
}

/// Makes subnormal numbers zero of their sign.
///
/// # Safety
///
/// The processor has avx2.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn flush(value: __m256i) -> __m256i {
    let exponent = _mm256_and_si256(value, _mm256_set1_epi32(0x7f80_0000));
    let subnormal = _mm256_cmpeq_epi32(exponent, _mm256_setzero_si256());
    _mm256_andnot_si256(_mm256_and_si256(subnormal, _mm256_set1_epi32(0x7fff_ffff)), value)
}

/// Multiplies pairs of bfloat16 as `Pair::add` does.
///
/// # Safety
///
/// The processor has avx2 and fma.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn pairs(sum: __m256i, value: __m256i, weight: __m256i) -> __m256i {
    let second = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    // SAFETY: by this function's contract the processor has avx2 and fma.
    unsafe {
        let (b, d) = (_mm256_and_si256(value, second), _mm256_and_si256(weight, second));
        let (a, c) = (_mm256_slli_epi32(value, 16), _mm256_slli_epi32(weight, 16));
        let sum = flush(fused(flush(sum), flush(b), flush(d)));
        flush(fused(sum, flush(a), flush(c)))
    }
}

/// Multiplies fours of bytes as `Four::add` does.
///
/// # Safety
///
/// The processor has avx2.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn fours(sum: __m256i, value: __m256i, weight: __m256i) -> __m256i {
    // In 16 bits, the even bytes and the odd: the products of a pair need up to 17.
    let even = _mm256_and_si256(value, _mm256_set1_epi16(0xff));
    let odd = _mm256_srli_epi16(value, 8);
    let even_weight = _mm256_srai_epi16(_mm256_slli_epi16(weight, 8), 8);
    let odd_weight = _mm256_srai_epi16(weight, 8);
    let products = _mm256_add_epi32(_mm256_madd_epi16(even, even_weight), _mm256_madd_epi16(odd, odd_weight));
    _mm256_add_epi32(sum, products)
}

kernel!(multiply_f32, tile_f32, f32, f32, 6, |sum, value, weight| fused(sum, value, weight));
kernel!(multiply_bf16, tile_bf16, Pair, f32, 3, |sum, value, weight| pairs(sum, value, weight));
kernel!(multiply_int8, tile_int8, Four, i32, 3, |sum, value, weight| fours(sum, value, weight));
