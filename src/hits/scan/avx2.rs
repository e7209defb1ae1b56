//! Sixteen filters in two 256-bit vectors, four positions side by side.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Job, LANES, Positions, ROWS, TILE};

/// Positions whose sums fit into registers.
const HALF: usize = TILE / 2;

pub(super) fn run<const PROJECTED: bool>(job: &Job, positions: Positions, note: &mut impl FnMut(usize, u16)) {
    for first in positions {
        for position in [first, first + HALF] {
            // SAFETY: `Instructions::Avx2` exists only where the processor has AVX2 and FMA, and `Job::check`
            // has seen that the tile exists.
            let lanes = unsafe { tile::<PROJECTED>(job, position) };
            for (row, &lanes) in lanes.iter().enumerate().filter(|(_, lanes)| **lanes != 0) {
                note(position + row, lanes);
            }
        }
    }
}

/// Returns the lanes above their bounds at positions `position..+HALF`.
///
/// # Safety
///
/// The processor has AVX2 and FMA; `position..+HALF` lies within the tiles that [`Job::check`] has seen.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const PROJECTED: bool>(job: &Job, position: usize) -> [u16; HALF] {
    let mut sums = [[_mm256_setzero_ps(); 2]; HALF];
    let taps = job.weights.len() / (ROWS * LANES);
    let mut lanes = [0; HALF];
    // SAFETY: by this function's contract every address lies in its slice; rows begin at most three rows into
    // a tap. Loops by index unroll into registers.
    unsafe {
        let mut weights = job.weights.as_ptr();
        let mut rows = job.rows.as_ptr().add(position);
        let mut residual = job.residual.as_ptr().add(if PROJECTED { position } else { position * 4 });
        for _ in 0..taps {
            let mut base = 0;
            while base < if PROJECTED { 1 } else { 4 } {
                let mut m = 0;
                while m < HALF {
                    let row = weights.add(if PROJECTED { *rows.add(m) as usize } else { base * LANES });
                    let value = *residual.add(if PROJECTED { m } else { m * 4 + base });
                    let value = _mm256_set1_ps(value);
                    sums[m][0] = _mm256_fmadd_ps(_mm256_loadu_ps(row), value, sums[m][0]);
                    sums[m][1] = _mm256_fmadd_ps(_mm256_loadu_ps(row.add(8)), value, sums[m][1]);
                    m += 1;
                }
                base += 1;
            }
            rows = if PROJECTED { rows.add(1) } else { rows };
            residual = residual.add(if PROJECTED { 1 } else { 4 });
            weights = weights.add(ROWS * LANES);
        }
        let low = _mm256_loadu_ps(job.bounds.as_ptr());
        let high = _mm256_loadu_ps(job.bounds.as_ptr().add(8));
        let mut m = 0;
        while m < HALF {
            let root = _mm256_set1_ps(*job.roots.as_ptr().add(position + m));
            let low = _mm256_cmp_ps::<_CMP_GT_OQ>(sums[m][0], _mm256_mul_ps(low, root));
            let high = _mm256_cmp_ps::<_CMP_GT_OQ>(sums[m][1], _mm256_mul_ps(high, root));
            lanes[m] = (_mm256_movemask_ps(low) | _mm256_movemask_ps(high) << 8) as u16;
            m += 1;
        }
    }
    lanes
}
