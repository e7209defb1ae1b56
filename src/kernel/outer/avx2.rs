//! Tiles in 256-bit vectors: six rows by two vectors fill 12 of 16 registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Corner, Job, LANES, Place};

/// Numbers of a vector.
const HALF: usize = LANES / 2;

pub(super) fn add(job: &Job, sums: &mut Place) {
    for right in (0..job.right.width).step_by(LANES) {
        let mut left = 0;
        while left < job.left.width {
            let corner = Corner { left, right };
            // SAFETY: `Instructions::Avx2` exists only where the processor has avx2 and fma, and `super::add` has seen
            // that all numbers and sums exist; no tile is taller than what is left.
            left += unsafe {
                match job.left.width - left {
                    6.. => tile::<6>(job, corner, sums),
                    4.. => tile::<4>(job, corner, sums),
                    2.. => tile::<2>(job, corner, sums),
                    _ => tile::<1>(job, corner, sums),
                }
            };
        }
    }
}

/// Returns the mask of the first `count` numbers of a vector.
#[target_feature(enable = "avx2")]
fn mask(count: usize) -> __m256i {
    let places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_cmpgt_epi32(_mm256_set1_epi32(count.min(HALF) as i32), places)
}

/// Adds `M` rows by sixteen sums, and returns `M`.
///
/// # Safety
///
/// The processor has avx2 and fma; the numbers `corner.left..+M` and sixteen from `corner.right` on, as far as the
/// width goes, exist at all positions and have sums.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const M: usize>(job: &Job, corner: Corner, sums: &mut Place) -> usize {
    let [rows, columns] = job.size;
    let count = job.right.width - corner.right;
    let masks = [mask(count), mask(count.saturating_sub(HALF))];
    let mut total = [[_mm256_setzero_ps(); 2]; M];
    // Loops by index, not iterators: they unroll into registers at low optimization levels, too.
    // SAFETY: by this function's contract every address that is read or written lies in its slice, as far as the masks
    // go.
    unsafe {
        let mut y = 0;
        while y < rows {
            let mut left = job.left.values.as_ptr().add(y * job.left.pitch[0] + corner.left);
            let mut right = job.right.values.as_ptr().add(y * job.right.pitch[0] + corner.right);
            let mut x = 0;
            while x < columns {
                let low = _mm256_maskload_ps(right, masks[0]);
                let high = _mm256_maskload_ps(right.wrapping_add(HALF), masks[1]);
                let mut m = 0;
                while m < M {
                    let value = _mm256_set1_ps(*left.add(m));
                    total[m][0] = _mm256_fmadd_ps(value, low, total[m][0]);
                    total[m][1] = _mm256_fmadd_ps(value, high, total[m][1]);
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
            let mut half = 0;
            while half < 2 {
                let row = sums.values.as_mut_ptr().add((corner.left + m) * sums.pitch + corner.right);
                let place = row.wrapping_add(half * HALF);
                let sum = _mm256_add_ps(_mm256_maskload_ps(place, masks[half]), total[m][half]);
                _mm256_maskstore_ps(place, masks[half], sum);
                half += 1;
            }
            m += 1;
        }
    }
    M
}
