//! The innermost loop of a matrix product: up to twelve rows by one strip of thirty-two columns, in registers.
//!
//! Each number is one chain: what stands in the sums, then the taps in order. All instruction sets compute the
//! same chain, so they agree bit for bit, and a product may be cut along its taps anywhere.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod unit;

use super::Instructions;
use super::instructions::vectorize;
pub(super) use unit::{Four, Pair, Unit};

/// Columns of a strip.
pub(super) const WIDTH: usize = 32;
/// Rows of a tile.
pub(super) const HEIGHT: usize = 12;

/// What one tap (of `T::GROUP` inputs) contributes to the columns of a strip.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Strip<T>(pub [T; WIDTH]);

/// The sums of a tile, in and out.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sums<T>(pub [[T; WIDTH]; HEIGHT]);

/// Rows to multiply, and the strip to multiply them by.
#[derive(Clone, Copy)]
pub(super) struct Job<'a, T> {
    /// Rows, each of as many units as the strip has taps.
    pub rows: &'a [T],
    /// Units from one row to the next.
    pub stride: usize,
    /// `[taps]`.
    pub strip: &'a [Strip<T>],
}

/// Adds `rows · strip` of the first `count` rows to the sums.
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
    assert!(count <= HEIGHT && (count == 0 || (count - 1) * job.stride + job.strip.len() <= job.rows.len()));
    T::multiply(instructions, job, count, sums);
}

vectorize!(
    /// Rounds a row to pairs; an odd last value gets a zero beside it.
    pub(super) fn round_pairs(values: &[f32], pairs: &mut [Pair]) = unit::round_pairs
);
