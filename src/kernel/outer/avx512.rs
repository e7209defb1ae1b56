//! Tiles in 512-bit vectors: twenty-four rows by one vector, or twelve by two, fill 24 of 32 registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Corner, Job, LANES, Place};

pub(super) fn add(job: &Job, sums: &mut Place) {
    let mut right = 0;
    while right < job.right.width {
        let rest = job.right.width - right;
        // SAFETY: `Instructions::Avx512` exists only where the processor has avx512f, and `super::add` has seen that
        // all numbers and sums exist; the vectors begin within the width.
        right += unsafe {
            if rest > LANES { columns::<2>(job, right, sums) } else { columns::<1>(job, right, sums) }
        };
    }
}

/// Adds all rows of `N` vectors of sums, and returns the numbers of these.
///
/// # Safety
///
/// The processor has avx512f; `super::add` has checked the job, and all vectors from `right` on begin within its width.
unsafe fn columns<const N: usize>(job: &Job, right: usize, sums: &mut Place) -> usize {
    let mut row = 0;
    while row < job.left.width {
        let corner = Corner { left: row, right };
        // SAFETY: by this function's contract; no tile is taller than what is left.
        row += unsafe {
            match job.left.width - row {
                24.. if N == 1 => tile::<24, N>(job, corner, sums),
                16.. if N == 1 => tile::<16, N>(job, corner, sums),
                12.. => tile::<12, N>(job, corner, sums),
                8.. => tile::<8, N>(job, corner, sums),
                6.. => tile::<6, N>(job, corner, sums),
                4.. => tile::<4, N>(job, corner, sums),
                3 => tile::<3, N>(job, corner, sums),
                2 => tile::<2, N>(job, corner, sums),
                _ => tile::<1, N>(job, corner, sums),
            }
        };
    }
    N * LANES
}

/// Adds `M` rows by `N` vectors of sums, and returns `M`.
///
/// # Safety
///
/// The processor has avx512f; the numbers `corner.left..+M` and those of `N` vectors from `corner.right` on, as far as
/// the width goes, exist at all positions and have sums.
#[target_feature(enable = "avx512f")]
unsafe fn tile<const M: usize, const N: usize>(job: &Job, corner: Corner, sums: &mut Place) -> usize {
    let [rows, columns] = job.size;
    let mut masks = [u16::MAX; N];
    masks[N - 1] = u16::MAX >> (LANES - (job.right.width - corner.right - (N - 1) * LANES).min(LANES));
    let mut total = [[_mm512_setzero_ps(); N]; M];
    // Loops by index, not iterators: they unroll into registers at low optimization levels, too.
    // SAFETY: by this function's contract every address that is read or written lies in its slice.
    unsafe {
        let mut y = 0;
        while y < rows {
            let mut left = job.left.values.as_ptr().add(y * job.left.pitch[0] + corner.left);
            let mut right = job.right.values.as_ptr().add(y * job.right.pitch[0] + corner.right);
            let mut x = 0;
            while x < columns {
                let mut vectors = [_mm512_setzero_ps(); N];
                let mut n = 0;
                while n < N {
                    vectors[n] = _mm512_maskz_loadu_ps(masks[n], right.add(n * LANES));
                    n += 1;
                }
                let mut m = 0;
                while m < M {
                    let value = _mm512_set1_ps(*left.add(m));
                    let mut n = 0;
                    while n < N {
                        total[m][n] = _mm512_fmadd_ps(value, vectors[n], total[m][n]);
                        n += 1;
                    }
                    m += 1;
                }
                // After the last position these are addresses that are never read.
                left = left.wrapping_add(job.left.pitch[1]);
                right = right.wrapping_add(job.right.pitch[1]);
                x += 1;
            }
            y += 1;
        }
        let mut m = 0;
        while m < M {
            let mut n = 0;
            while n < N {
                let place =
                    sums.values.as_mut_ptr().add((corner.left + m) * sums.pitch + corner.right + n * LANES);
                let sum = _mm512_add_ps(_mm512_maskz_loadu_ps(masks[n], place), total[m][n]);
                _mm512_mask_storeu_ps(place, masks[n], sum);
                n += 1;
            }
            m += 1;
        }
    }
    M
}
