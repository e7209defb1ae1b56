//! Tiles in plain Rust: the reference for the vector code, and what other processors run.

use std::cell::RefCell;

use super::{Corner, Job, LANES, cover, store};

const HEIGHT: usize = 4;

pub(super) fn run(job: &Job, positions: usize, output: &mut [f32]) {
    for panel in 0..job.channels.div_ceil(LANES) {
        let output = RefCell::new(&mut *output);
        cover(
            positions,
            HEIGHT,
            |position| tile::<HEIGHT>(job, Corner { position, panel }, *output.borrow_mut()),
            |position| tile::<1>(job, Corner { position, panel }, *output.borrow_mut()),
        );
    }
}

fn tile<const M: usize>(job: &Job, corner: Corner, output: &mut [f32]) {
    let taps = job.taps();
    let mut weights =
        job.weights[corner.panel * taps * LANES..][..taps * LANES].as_chunks::<LANES>().0.iter();
    let bias: &[f32; LANES] = job.bias[corner.panel * LANES..][..LANES].try_into().expect("one panel");
    let mut sums = [*bias; M];
    for run in job.runs {
        for tap in 0..run.length {
            let weight = weights.next().expect("the panel has all taps");
            for (m, sums) in sums.iter_mut().enumerate() {
                let value = job.input[(corner.position + m) * job.step + run.offset + tap];
                for lane in 0..LANES {
                    sums[lane] = value.mul_add(weight[lane], sums[lane]);
                }
            }
        }
    }
    for (m, sums) in sums.iter().enumerate() {
        store(job, corner.panel, corner.position + m, sums, output);
    }
}
