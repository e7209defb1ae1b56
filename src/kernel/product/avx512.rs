//! Tiles in 512-bit vectors: twelve rows by one strip (two vectors) fill 24 of 32 registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Four, HEIGHT, Job, Pair, Sums};

macro_rules! kernel {
    ($name:ident, $tile:ident, $unit:ty, $sum:ty, $features:literal, $product:expr) => {
        pub(super) fn $name(job: Job<$unit>, count: usize, sums: &mut Sums<$sum>) {
            let mut row = 0;
            while row < count {
                // SAFETY: `unit` comes here only where the processor has the features, and
                // `super::multiply` has seen that the rows exist.
                row += unsafe {
                    match count - row {
                        12.. => $tile::<12>(job, row, sums),
                        8.. => $tile::<8>(job, row, sums),
                        4.. => $tile::<4>(job, row, sums),
                        2.. => $tile::<2>(job, row, sums),
                        _ => $tile::<1>(job, row, sums),
                    }
                };
            }
        }

        /// Computes rows `first..first + M` and returns `M`.
        ///
        /// # Safety
        ///
        /// The processor has the features; the job holds the rows, and they are at most `HEIGHT`.
        #[target_feature(enable = $features)]
        unsafe fn $tile<const M: usize>(job: Job<$unit>, first: usize, sums: &mut Sums<$sum>) -> usize {
            debug_assert!(first + M <= HEIGHT);
            // Loops by index, not iterators: they unroll into registers at low optimization levels, too.
            // SAFETY: by this function's contract every address lies in its slice.
            unsafe {
                let place = sums.0.as_mut_ptr().add(first).cast::<[__m512i; 2]>();
                let begin = job.begin.as_ptr().cast::<i32>();
                let begin = [_mm512_loadu_epi32(begin), _mm512_loadu_epi32(begin.add(16))];
                let mut total = [[_mm512_setzero_si512(); 2]; M];
                let mut m = 0;
                while m < M {
                    total[m] = begin;
                    m += 1;
                }
                let mut values = job.rows.as_ptr().add(first * job.stride).cast::<i32>();
                let mut weights = job.strip.as_ptr().cast::<__m512i>();
                let taps = job.strip.len() / job.runs;
                let mut run = 0;
                while run < job.runs {
                    let end = weights.add(2 * taps);
                    while weights < end {
                        let (low, high) = (*weights, *weights.add(1));
                        _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(16).cast());
                        _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(17).cast());
                        let mut m = 0;
                        while m < M {
                            let value = _mm512_set1_epi32(*values.add(m * job.stride));
                            total[m][0] = $product(total[m][0], value, low);
                            total[m][1] = $product(total[m][1], value, high);
                            m += 1;
                        }
                        values = values.add(1);
                        weights = weights.add(2);
                    }
                    // After the last piece this is an address that is never read.
                    values = values.wrapping_add(job.gap).wrapping_sub(taps);
                    run += 1;
                }
                let mut m = 0;
                while m < M {
                    *place.add(m) = total[m];
                    m += 1;
                }
            }
            M
        }
    };
}

kernel!(multiply_f32, tile_f32, f32, f32, "avx512f", |sum, value, weight| _mm512_castps_si512(
    _mm512_fmadd_ps(_mm512_castsi512_ps(value), _mm512_castsi512_ps(weight), _mm512_castsi512_ps(sum))
));
kernel!(multiply_bf16, tile_bf16, Pair, f32, "avx512f,avx512bf16", |sum, value, weight| {
    let pairs = |bits| std::mem::transmute::<__m512i, __m512bh>(bits);
    let (value, weight) = (pairs(value), pairs(weight));
    _mm512_castps_si512(_mm512_dpbf16_ps(_mm512_castsi512_ps(sum), value, weight))
});
kernel!(multiply_int8, tile_int8, Four, i32, "avx512f,avx512vnni", |sum, value, weight| {
    _mm512_dpbusd_epi32(sum, value, weight)
});

/// Rounds as `Pair::new` does.
pub(super) fn round_pairs(values: &[f32], pairs: &mut [Pair]) {
    let (whole, rest) = values.as_chunks::<16>();
    let (places, last) = pairs.split_at_mut(8 * whole.len());
    // SAFETY: `super::round_pairs` has seen that the processor has avx512bf16.
    unsafe { round_chunks(whole, places) };
    super::unit::round_pairs(rest, last);
}

/// Rounds sixteen numbers at a time.
#[target_feature(enable = "avx512f,avx512bf16")]
fn round_chunks(values: &[[f32; 16]], pairs: &mut [Pair]) {
    for (values, pairs) in values.iter().zip(pairs.as_chunks_mut::<8>().0) {
        // SAFETY: both have 16 numbers, of 32 and of 16 bits.
        unsafe {
            let rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(values.as_ptr()));
            _mm256_storeu_si256(pairs.as_mut_ptr().cast(), std::mem::transmute::<__m256bh, __m256i>(rounded));
        }
    }
}
