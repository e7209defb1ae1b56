//! The innermost loop of a matrix product: up to twelve rows by one strip of thirty-two columns, in registers.
//!
//! Each number is one chain: what it begins with, then the taps in order. All instruction sets compute the same
//! chain, so they agree bit for bit.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod unit;

use super::Instructions;
use super::instructions::{self, vectorize};
pub(super) use unit::{Four, Pair, Unit};

/// Columns of a strip.
pub(super) const WIDTH: usize = 32;
/// Rows of a tile.
pub(super) const HEIGHT: usize = 12;

/// What one tap (of `T::GROUP` inputs) contributes to the columns of a strip.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Strip<T>(pub [T; WIDTH]);

/// The sums of a tile.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sums<T>(pub [[T; WIDTH]; HEIGHT]);

/// Rows to multiply, and the strip to multiply them by.
#[derive(Clone, Copy)]
pub(super) struct Job<'a, T: Unit> {
    /// What the sums of every row begin with.
    pub begin: &'a [T::Sum; WIDTH],
    /// Rows, each of as many units as the strip has taps.
    rows: &'a [T],
    /// Units from one row to the next.
    stride: usize,
    /// `[taps]`.
    strip: &'a [Strip<T>],
    /// Pieces in which a row lies, all of one length.
    runs: usize,
    /// Units from the beginning of a piece to that of the next.
    gap: usize,
}

impl<'a, T: Unit> Job<'a, T> {
    /// Creates the job of rows that lie in one piece each, `stride` units apart, and may overlap.
    pub fn new(begin: &'a [T::Sum; WIDTH], rows: &'a [T], stride: usize, strip: &'a [Strip<T>]) -> Self {
        Self { begin, rows, stride, strip, runs: 1, gap: 0 }
    }

    /// Lets each row lie in so many pieces, which begin `gap` units apart.
    pub fn in_runs(self, runs: usize, gap: usize) -> Self {
        Self { runs, gap, ..self }
    }

    /// Returns the units from the first of a row to behind its last.
    fn reach(&self) -> usize {
        (self.runs - 1) * self.gap + self.strip.len() / self.runs
    }
}

/// Computes `begin + rows · strip` of the first `count` rows.
///
/// # Panics
///
/// When there are not as many rows, or more than [`HEIGHT`].
pub(super) fn multiply<T: Unit>(
    instructions: Instructions,
    job: Job<T>,
    count: usize,
    sums: &mut Sums<T::Sum>,
) {
    assert!(job.runs > 0 && job.strip.len().is_multiple_of(job.runs));
    assert!(count <= HEIGHT && (count == 0 || (count - 1) * job.stride + job.reach() <= job.rows.len()));
    T::multiply(instructions, job, count, sums);
}

/// Rounds a row to pairs; an odd last value gets a zero beside it.
pub(super) fn round_pairs(instructions: Instructions, values: &[f32], pairs: &mut [Pair]) {
    #[cfg(target_arch = "x86_64")]
    if instructions == Instructions::Avx512 && instructions::has_bf16() {
        return avx512::round_pairs(values, pairs);
    }
    round_pairs_plain(instructions, values, pairs);
}

vectorize!(fn round_pairs_plain(values: &[f32], pairs: &mut [Pair]) = unit::round_pairs);
