//! Tiles in plain Rust: the reference for the vector code, and what other processors run.

use super::{Corner, Job, LANES, Place};

/// Rows of a tile.
const HEIGHT: usize = 4;

pub(super) fn add(job: &Job, sums: &mut Place) {
    for left in (0..job.left.width).step_by(HEIGHT) {
        for right in (0..job.right.width).step_by(LANES) {
            tile(job, Corner { left, right }, sums);
        }
    }
}

fn tile(job: &Job, corner: Corner, sums: &mut Place) {
    let rows = (job.left.width - corner.left).min(HEIGHT);
    let lanes = (job.right.width - corner.right).min(LANES);
    let mut total = [[0.0f32; LANES]; HEIGHT];
    for y in 0..job.size[0] {
        for x in 0..job.size[1] {
            let place = |pitch: [usize; 2]| y * pitch[0] + x * pitch[1];
            let left = &job.left.values[place(job.left.pitch) + corner.left..][..rows];
            let right = &job.right.values[place(job.right.pitch) + corner.right..][..lanes];
            for (total, &left) in total.iter_mut().zip(left) {
                for (total, &right) in total.iter_mut().zip(right) {
                    *total = left.mul_add(right, *total);
                }
            }
        }
    }
    for (row, total) in total.iter().enumerate().take(rows) {
        let sums = &mut sums.values[(corner.left + row) * sums.pitch + corner.right..][..lanes];
        sums.iter_mut().zip(total).for_each(|(sum, total)| *sum += total);
    }
}
