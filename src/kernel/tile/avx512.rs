//! Tiles in 512-bit vectors: twelve positions by two panels fill 24 of 32 registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::{Corner, Job, LANES, cover, store};

const HEIGHT: usize = 12;

pub(super) fn run(job: &Job, positions: usize, output: &mut [f32]) {
    let panels = job.channels.div_ceil(LANES);
    for panel in (0..panels).step_by(2) {
        let output = RefCell::new(&mut *output);
        let corner = |position| Corner { position, panel };
        // SAFETY: `Instructions::Avx512` exists only where the processor has avx512f, `Job::check` has
        // seen that all positions and panels exist, and `cover` stays within `positions`.
        unsafe {
            if panel + 1 < panels {
                cover(
                    positions,
                    HEIGHT,
                    |position| tile::<HEIGHT, 2>(job, corner(position), *output.borrow_mut()),
                    |position| tile::<1, 2>(job, corner(position), *output.borrow_mut()),
                );
            } else {
                cover(
                    positions,
                    HEIGHT,
                    |position| tile::<HEIGHT, 1>(job, corner(position), *output.borrow_mut()),
                    |position| tile::<1, 1>(job, corner(position), *output.borrow_mut()),
                );
            }
        }
    }
}

/// Computes `M` positions by `P` panels.
///
/// # Safety
///
/// The processor has avx512f; the job holds positions `corner.position..+M` and panels `corner.panel..+P`.
#[target_feature(enable = "avx512f")]
unsafe fn tile<const M: usize, const P: usize>(job: &Job, corner: Corner, output: &mut [f32]) {
    let taps = job.taps();
    let mut sums = [[_mm512_setzero_ps(); P]; M];
    // SAFETY: by this function's contract every address lies in its slice.
    unsafe {
        for row in &mut sums {
            for (p, sum) in row.iter_mut().enumerate() {
                *sum = _mm512_loadu_ps(job.bias.as_ptr().add((corner.panel + p) * LANES));
            }
        }
        let first = job.input.as_ptr().add(corner.position * job.step);
        let mut weights = job.weights.as_ptr().add(corner.panel * taps * LANES);
        for run in job.runs {
            let values = first.add(run.offset);
            for tap in 0..run.length {
                let mut weight = [_mm512_setzero_ps(); P];
                for (p, weight) in weight.iter_mut().enumerate() {
                    *weight = _mm512_loadu_ps(weights.add(p * taps * LANES));
                }
                for (m, row) in sums.iter_mut().enumerate() {
                    let value = _mm512_set1_ps(*values.add(m * job.step + tap));
                    for (sum, weight) in row.iter_mut().zip(weight) {
                        *sum = _mm512_fmadd_ps(value, weight, *sum);
                    }
                }
                weights = weights.add(LANES);
            }
        }
    }
    for (m, row) in sums.iter().enumerate() {
        for (p, sum) in row.iter().enumerate() {
            let mut values = [0.0; LANES];
            // SAFETY: `values` has room for one vector.
            unsafe { _mm512_storeu_ps(values.as_mut_ptr(), *sum) };
            store(job, corner.panel + p, corner.position + m, &values, output);
        }
    }
}
