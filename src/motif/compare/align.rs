//! Laying targets along a query: the offset at which they fit best.
//!
//! Offsets are counted from 0, where the target's first column lies on the query's last, to the query's width plus
//! the target's less two, where the target's last lies on the query's first.

use super::columns::Levels;
use super::{Options, Targets};
use crate::kernel::Instructions;
use crate::kernel::instructions::vectorize;

/// Levels in one vector.
const LANES: usize = 16;

/// Where a target fits best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Best {
    /// Position of the target at which the query begins.
    pub offset: i64,
    /// Columns that overlap.
    pub overlap: usize,
}

impl Best {
    fn at(place: usize, query: usize, target: usize) -> Self {
        let offset = place as i64 + 1 - query as i64;
        Self { offset, overlap: overlap(place, query, target) }
    }
}

/// Returns how many columns overlap at an offset.
pub(super) fn overlap(place: usize, query: usize, target: usize) -> usize {
    (place + 1).min(query).min(target).min(query + target - 1 - place)
}

/// Returns the first and the last offset that may be taken.
pub(super) fn allowed(query: usize, target: usize, options: &Options) -> (usize, usize) {
    let (narrow, wide) = (query.min(target), query.max(target));
    if options.internal {
        return (narrow - 1, wide - 1);
    }
    let least = options.min_overlap.clamp(1, narrow);
    (least - 1, query + target - 1 - least)
}

/// Returns the offset with the highest sum of levels for each target, and the sum; of equal ones the first of those
/// with the largest overlap.
pub(super) fn best(levels: &Levels, targets: &Targets, options: &Options) -> Vec<(Best, i32)> {
    let widest = targets.widths.last().copied().unwrap_or(0);
    let mut sums = vec![0; widest + levels.lanes];
    let instructions = Instructions::detect();
    let one = |laid: &super::Laid| {
        lay(instructions, levels, targets.columns_of(laid), &mut sums);
        let (first, last) = allowed(levels.width, laid.width, options);
        let most = sums[first..=last].iter().copied().max().expect("an offset is allowed");
        let mut best = Best { offset: 0, overlap: 0 };
        for place in (first..=last).filter(|&place| sums[place] == most) {
            let found = Best::at(place, levels.width, laid.width);
            best = if found.overlap > best.overlap { found } else { best };
        }
        (best, i32::from(most))
    };
    targets.laid.iter().map(one).collect()
}

/// Returns the offset of the smallest number, of equal ones the first of those with the largest overlap.
pub(super) fn least(chances: &[f64], query: usize, target: usize, options: &Options) -> (Best, f64) {
    let (first, last) = allowed(query, target, options);
    let least = chances[first..=last].iter().copied().fold(f64::INFINITY, f64::min);
    let mut best = Best { offset: 0, overlap: 0 };
    for place in (first..=last).filter(|&place| chances[place] == least) {
        let found = Best::at(place, query, target);
        best = if found.overlap > best.overlap { found } else { best };
    }
    (best, least)
}

vectorize! {
    /// Adds up the levels of a target's columns at every offset: `sums[place]`.
    pub(super) fn lay(levels: &Levels, columns: &[u32], sums: &mut [i16]) = lay_body
}

#[inline(always)]
fn lay_body(levels: &Levels, columns: &[u32], sums: &mut [i16]) {
    if levels.lanes == LANES {
        return lay_narrow(levels, columns, sums);
    }
    sums[..columns.len() + levels.lanes].fill(0);
    for (position, &column) in columns.iter().enumerate() {
        let row = levels.row(column);
        for (sum, level) in sums[position..position + levels.lanes].iter_mut().zip(row) {
            *sum += i16::from(*level);
        }
    }
}

/// The same for a query of one vector: the sums of the offsets that a column still adds to move through it.
#[inline(always)]
fn lay_narrow(levels: &Levels, columns: &[u32], sums: &mut [i16]) {
    let mut open = [0i16; LANES];
    for (sum, &column) in sums.iter_mut().zip(columns) {
        let row: &[i8; LANES] = levels.row(column).try_into().expect("a row of one vector");
        for lane in 0..LANES {
            open[lane] += i16::from(row[lane]);
        }
        *sum = open[0];
        let mut next = [0i16; LANES];
        next[..LANES - 1].copy_from_slice(&open[1..]);
        open = next;
    }
    sums[columns.len()..columns.len() + LANES].copy_from_slice(&open);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_those_of_laying_one_on_the_other() {
        for (query, target) in [(1, 1), (3, 5), (5, 3), (4, 4)] {
            for place in 0..query + target - 1 {
                // Column t of the target lies on column t + query − 1 − place of the query.
                let on = (0..target).filter(|t| (place..place + query).contains(&(t + query - 1))).count();
                assert_eq!(overlap(place, query, target), on, "{place} of {query} and {target}");
            }
        }
    }
}
