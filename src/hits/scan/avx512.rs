//! Sixteen filters in one 512-bit vector, eight positions side by side.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Job, LANES, Positions, ROWS, TILE};

pub(super) fn run<const PROJECTED: bool>(job: &Job, positions: Positions, note: &mut impl FnMut(usize, u16)) {
    for position in positions {
        // SAFETY: `Instructions::Avx512` exists only where the processor has avx512f, and `Job::check` has seen
        // that the tile exists.
        let lanes = unsafe { tile::<PROJECTED>(job, position) };
        if lanes != [0; TILE] {
            for (row, &lanes) in lanes.iter().enumerate().filter(|(_, lanes)| **lanes != 0) {
                note(position + row, lanes);
            }
        }
    }
}

/// Returns the lanes above their bounds at positions `position..+TILE`.
///
/// # Safety
///
/// The processor has avx512f; `position` is below an `end` that [`Job::check`] has seen.
#[target_feature(enable = "avx512f")]
unsafe fn tile<const PROJECTED: bool>(job: &Job, position: usize) -> [u16; TILE] {
    let mut sums = [_mm512_setzero_ps(); TILE];
    let taps = job.weights.len() / (ROWS * LANES);
    let mut lanes = [0; TILE];
    // SAFETY: by this function's contract every address lies in its slice; rows begin at most three rows into
    // a tap. Loops by index unroll into registers.
    unsafe {
        let mut weights = job.weights.as_ptr();
        let mut rows = job.rows.as_ptr().add(position);
        let mut residual = job.residual.as_ptr().add(if PROJECTED { position } else { position * 4 });
        for _ in 0..taps {
            let mut m = 0;
            if PROJECTED {
                while m < TILE {
                    let weight = _mm512_loadu_ps(weights.add(*rows.add(m) as usize));
                    sums[m] = _mm512_fmadd_ps(weight, _mm512_set1_ps(*residual.add(m)), sums[m]);
                    m += 1;
                }
                rows = rows.add(1);
                residual = residual.add(1);
            } else {
                let mut base = 0;
                while base < 4 {
                    let weight = _mm512_loadu_ps(weights.add(base * LANES));
                    m = 0;
                    while m < TILE {
                        let value = _mm512_set1_ps(*residual.add(m * 4 + base));
                        sums[m] = _mm512_fmadd_ps(weight, value, sums[m]);
                        m += 1;
                    }
                    base += 1;
                }
                residual = residual.add(4);
            }
            weights = weights.add(ROWS * LANES);
        }
        let bounds = _mm512_loadu_ps(job.bounds.as_ptr());
        let mut m = 0;
        while m < TILE {
            let bound = _mm512_mul_ps(bounds, _mm512_set1_ps(*job.roots.as_ptr().add(position + m)));
            lanes[m] = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(sums[m], bound);
            m += 1;
        }
    }
    lanes
}
