//! Tiles in 256-bit vectors: six positions by one panel (two vectors) fill 12 of 16 registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::{Corner, Job, LANES, cover, store};

const HEIGHT: usize = 6;

pub(super) fn run(job: &Job, positions: usize, output: &mut [f32]) {
    for panel in 0..job.channels.div_ceil(LANES) {
        let output = RefCell::new(&mut *output);
        let corner = |position| Corner { position, panel };
        // SAFETY: `Instructions::Avx2` exists only where the processor has avx2 and fma, `Job::check` has
        // seen that all positions and panels exist, and `cover` stays within `positions`.
        unsafe {
            cover(
                positions,
                HEIGHT,
                |position| tile::<HEIGHT>(job, corner(position), *output.borrow_mut()),
                |position| tile::<1>(job, corner(position), *output.borrow_mut()),
            );
        }
    }
}

/// Computes `M` positions by one panel.
///
/// # Safety
///
/// The processor has avx2 and fma; the job holds positions `corner.position..+M` and the panel.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const M: usize>(job: &Job, corner: Corner, output: &mut [f32]) {
    let taps = job.taps();
    let mut sums = [[_mm256_setzero_ps(); 2]; M];
    // SAFETY: by this function's contract every address lies in its slice.
    unsafe {
        let bias = job.bias.as_ptr().add(corner.panel * LANES);
        sums.fill([_mm256_loadu_ps(bias), _mm256_loadu_ps(bias.add(8))]);
        let first = job.input.as_ptr().add(corner.position * job.step);
        let mut weights = job.weights.as_ptr().add(corner.panel * taps * LANES);
        for run in job.runs {
            let values = first.add(run.offset);
            for tap in 0..run.length {
                let (low, high) = (_mm256_loadu_ps(weights), _mm256_loadu_ps(weights.add(8)));
                for (m, row) in sums.iter_mut().enumerate() {
                    let value = _mm256_set1_ps(*values.add(m * job.step + tap));
                    row[0] = _mm256_fmadd_ps(value, low, row[0]);
                    row[1] = _mm256_fmadd_ps(value, high, row[1]);
                }
                weights = weights.add(LANES);
            }
        }
    }
    for (m, row) in sums.iter().enumerate() {
        let mut values = [0.0; LANES];
        // SAFETY: `values` has room for two vectors.
        unsafe {
            _mm256_storeu_ps(values.as_mut_ptr(), row[0]);
            _mm256_storeu_ps(values.as_mut_ptr().add(8), row[1]);
        }
        store(job, corner.panel, corner.position + m, &values, output);
    }
}
