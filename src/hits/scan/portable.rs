//! Sixteen filters at a time in plain Rust.

use super::{Job, LANES, Positions, ROWS, TILE};

pub(super) fn run<const PROJECTED: bool>(job: &Job, positions: Positions, note: &mut impl FnMut(usize, u16)) {
    for first in positions {
        for position in first..first + TILE {
            let sums = correlate::<PROJECTED>(job, position);
            let root = job.roots[position];
            let above = (0..LANES).filter(|&lane| sums[lane] > job.bounds[lane] * root);
            let lanes = above.fold(0u16, |lanes, lane| lanes | 1 << lane);
            if lanes != 0 {
                note(position, lanes);
            }
        }
    }
}

fn correlate<const PROJECTED: bool>(job: &Job, position: usize) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    let mut add = |weights: &[f32], residual: f32| {
        for (sum, &weight) in sums.iter_mut().zip(weights) {
            *sum = weight.mul_add(residual, *sum);
        }
    };
    for (offset, weights) in job.weights.chunks_exact(ROWS * LANES).enumerate() {
        let at = position + offset;
        if PROJECTED {
            add(&weights[job.rows[at] as usize..][..LANES], job.residual[at]);
        } else {
            for (base, row) in weights.chunks_exact(LANES).take(4).enumerate() {
                add(row, job.residual[at * 4 + base]);
            }
        }
    }
    sums
}
