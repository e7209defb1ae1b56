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
        let mut m = 0;
        while m < M {
            sums[m] = [_mm256_loadu_ps(bias), _mm256_loadu_ps(bias.add(8))];
            m += 1;
        }
        let first = job.input.as_ptr().add(corner.position * job.step);
        let mut weights = job.weights.as_ptr().add(corner.panel * taps * LANES);
        for run in job.runs {
            let mut values = first.add(run.offset);
            let end = values.add(run.length);
            while values < end {
                let (low, high) = (_mm256_loadu_ps(weights), _mm256_loadu_ps(weights.add(8)));
                // By index, not by iterator: this unrolls into registers at low optimization levels, too.
                let mut m = 0;
                while m < M {
                    let value = _mm256_set1_ps(*values.add(m * job.step));
                    sums[m][0] = _mm256_fmadd_ps(value, low, sums[m][0]);
                    sums[m][1] = _mm256_fmadd_ps(value, high, sums[m][1]);
                    m += 1;
                }
                values = values.add(1);
                weights = weights.add(LANES);
            }
        }
    }
    // By index again: a reference into `sums` would keep them in memory all along.
    let zero = _mm256_setzero_ps();
    let first = corner.panel * LANES;
    let whole = first + LANES <= job.channels;
    let mut m = 0;
    while m < M {
        let [mut low, mut high] = sums[m];
        if job.relu {
            (low, high) = (_mm256_max_ps(zero, low), _mm256_max_ps(zero, high));
        }
        let position = corner.position + m;
        // SAFETY: `Job::check` has seen that the output holds all real channels of all positions; a panel
        // that is not whole goes through `values`, which has room for two vectors.
        unsafe {
            if whole {
                let place = output.as_mut_ptr().add(position * job.channels + first);
                _mm256_storeu_ps(place, low);
                _mm256_storeu_ps(place.add(8), high);
            } else {
                let mut values = [0.0; LANES];
                _mm256_storeu_ps(values.as_mut_ptr(), low);
                _mm256_storeu_ps(values.as_mut_ptr().add(8), high);
                store(job, corner.panel, position, &values, output);
            }
        }
        m += 1;
    }
}
