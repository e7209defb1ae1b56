//! Tiles in 512-bit vectors: twelve positions by two panels fill 24 of 32 registers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::cell::RefCell;

use super::{Corner, Job, LANES, cover};

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
    // Loops by index, not iterators: they unroll into registers at low optimization levels, too.
    // SAFETY: by this function's contract every address lies in its slice.
    unsafe {
        let bias = job.bias.as_ptr().add(corner.panel * LANES);
        let mut p = 0;
        while p < P {
            let mut m = 0;
            while m < M {
                sums[m][p] = _mm512_loadu_ps(bias.add(p * LANES));
                m += 1;
            }
            p += 1;
        }
        let first = job.input.as_ptr().add(corner.position * job.step);
        let mut weights = job.weights.as_ptr().add(corner.panel * taps * LANES);
        for run in job.runs {
            let mut values = first.add(run.offset);
            let end = values.add(run.length);
            while values < end {
                let mut weight = [_mm512_setzero_ps(); P];
                let mut p = 0;
                while p < P {
                    weight[p] = _mm512_loadu_ps(weights.add(p * taps * LANES));
                    p += 1;
                }
                let mut m = 0;
                while m < M {
                    let value = _mm512_set1_ps(*values.add(m * job.step));
                    let mut p = 0;
                    while p < P {
                        sums[m][p] = _mm512_fmadd_ps(value, weight[p], sums[m][p]);
                        p += 1;
                    }
                    m += 1;
                }
                values = values.add(1);
                weights = weights.add(LANES);
            }
        }
    }
    // By index again: a reference into `sums` would keep them in memory all along.
    let mut p = 0;
    while p < P {
        let first = (corner.panel + p) * LANES;
        let real = (job.channels - first).min(LANES);
        let mask = (u32::MAX >> (32 - real)) as u16;
        let mut m = 0;
        while m < M {
            let relu = _mm512_max_ps(_mm512_setzero_ps(), sums[m][p]);
            let value = if job.relu { relu } else { sums[m][p] };
            let place = (corner.position + m) * job.channels + first;
            // SAFETY: `Job::check` has seen that the output holds all real channels of all positions.
            unsafe { _mm512_mask_storeu_ps(output.as_mut_ptr().add(place), mask, value) };
            m += 1;
        }
        p += 1;
    }
}
