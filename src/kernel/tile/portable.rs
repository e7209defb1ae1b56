//! Tiles in plain Rust: the reference for the vector code, and what other processors run.

use std::cell::RefCell;

use super::{CODES, Corner, Job, LANES, OneHot, cover, rectified, store, sum_by_halves};

const HEIGHT: usize = 4;

pub(super) fn run(job: &Job, positions: usize, output: &mut [f32]) {
    let (wide, panels) = job.wide();
    for panel in 0..panels {
        let output = RefCell::new(&mut *output);
        cover(
            positions,
            HEIGHT,
            |position| tile::<HEIGHT>(job, Corner { position, panel }, *output.borrow_mut()),
            |position| tile::<1>(job, Corner { position, panel }, *output.borrow_mut()),
        );
    }
    for position in 0..positions {
        for channel in wide..job.channels {
            output[position * job.channels + channel] = single(job, position, channel, channel - wide);
        }
    }
}

/// Computes one channel that has no panel.
fn single(job: &Job, position: usize, channel: usize, row: usize) -> f32 {
    let taps = job.taps();
    let mut weights = &job.rest[row * taps..][..taps];
    let mut sums = [0.0; LANES];
    for run in job.runs {
        let values = &job.input[position * job.step + run.offset..][..run.length];
        let (now, later) = weights.split_at(run.length);
        weights = later;
        for (values, weights) in values.chunks(LANES).zip(now.chunks(LANES)) {
            for lane in 0..LANES {
                let get = |from: &[f32]| from.get(lane).copied().unwrap_or(0.0);
                sums[lane] = get(values).mul_add(get(weights), sums[lane]);
            }
        }
    }
    let sum = sum_by_halves(sums) + job.bias[channel];
    if job.relu { rectified(sum) } else { sum }
}

pub(super) fn look_up(job: &OneHot, positions: usize, output: &mut [f32]) {
    for (position, output) in output.chunks_exact_mut(job.channels).enumerate().take(positions) {
        for (panel, output) in output.chunks_mut(LANES).enumerate() {
            let weights = &job.weights[panel * job.taps * CODES * LANES..];
            let mut sums: [f32; LANES] = job.bias[panel * LANES..][..LANES].try_into().expect("one panel");
            for tap in 0..job.taps {
                let code = job.codes[position * job.step + tap * job.dilation] as usize;
                let weights = &weights[tap * CODES * LANES + code..][..LANES];
                sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
            }
            store(output, &sums, job.relu);
        }
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
    let first = corner.panel * LANES;
    let count = (job.channels - first).min(LANES);
    for (m, sums) in sums.iter().enumerate() {
        store(&mut output[(corner.position + m) * job.channels + first..][..count], sums, job.relu);
    }
}
