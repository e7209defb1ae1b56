//! Tiles in plain Rust: the reference for the vector code, and what other processors run.

use super::{Job, Sums, Unit};

pub(super) fn multiply<T: Unit>(job: Job<T>, count: usize, sums: &mut Sums<T::Sum>) {
    for (row, sums) in sums.0.iter_mut().enumerate().take(count) {
        *sums = *job.begin;
        for (run, strip) in job.strip.chunks((job.strip.len() / job.runs).max(1)).enumerate() {
            for (value, weights) in job.rows[row * job.stride + run * job.gap..].iter().zip(strip) {
                for (sum, &weight) in sums.iter_mut().zip(&weights.0) {
                    *sum = value.add(weight, *sum);
                }
            }
        }
    }
}
