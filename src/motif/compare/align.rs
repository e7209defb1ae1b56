//! Laying targets along a query: the offset at which they fit best.
//!
//! Offsets are counted from 0, where the target's first column lies on the query's last, to the query's width plus
//! the target's less two, where the target's last lies on the query's first.

use super::levels::Levels;
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
    let mut sums = vec![0; (widest + levels.lanes).next_multiple_of(LANES)];
    let instructions = Instructions::detect();
    let preferences: Vec<Preference> =
        targets.widths.iter().map(|&width| Preference::new(levels.width, width, options)).collect();
    let one = |laid: &super::Laid| {
        lay(instructions, levels, targets.columns_of(laid), &mut sums);
        let preference = &preferences[laid.kind];
        let mut highest = i64::MIN;
        preferred(instructions, &sums, &preference.ranks, &mut highest);
        let place = preference.places[(highest & i64::from(u32::MAX)) as usize];
        (Best::at(place, levels.width, laid.width), (highest >> 32) as i32)
    };
    targets.laid.iter().map(one).collect()
}

/// Which of several offsets with the same sum is taken, for targets of one width.
struct Preference {
    /// By offset: the higher, the better; far below 0 where it may not be taken.
    ranks: Vec<i64>,
    /// The offset of each rank.
    places: Vec<usize>,
}

impl Preference {
    fn new(query: usize, target: usize, options: &Options) -> Self {
        let (first, last) = allowed(query, target, options);
        let mut places: Vec<usize> = (first..=last).collect();
        places.sort_by_key(|&place| (overlap(place, query, target), std::cmp::Reverse(place)));
        let mut ranks = vec![i64::MIN / 4; (query + target - 1).next_multiple_of(LANES)];
        places.iter().enumerate().for_each(|(rank, &place)| ranks[place] = rank as i64);
        Self { ranks, places }
    }
}

vectorize! {
    /// Finds the highest sum with its rank: `sum · 2³² + rank`.
    fn preferred(sums: &[i16], ranks: &[i64], highest: &mut i64) = preferred_body
}

#[inline(always)]
fn preferred_body(sums: &[i16], ranks: &[i64], highest: &mut i64) {
    let mut best = [i64::MIN; LANES];
    for (sums, ranks) in sums.as_chunks::<LANES>().0.iter().zip(ranks.as_chunks::<LANES>().0) {
        for ((best, &sum), &rank) in best.iter_mut().zip(sums).zip(ranks) {
            let key = (i64::from(sum) << 32) + rank;
            *best = if key > *best { key } else { *best };
        }
    }
    *highest = best.into_iter().fold(i64::MIN, i64::max);
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
        for (open, level) in open.iter_mut().zip(row) {
            *open += i16::from(*level);
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

    #[test]
    fn of_equal_sums_the_first_with_the_largest_overlap_is_taken() {
        for (query, target, internal) in
            [(3, 5, false), (5, 3, false), (4, 4, false), (9, 12, false), (3, 5, true)]
        {
            let options = Options { internal, min_overlap: 2, ..Options::default() };
            let (first, last) = allowed(query, target, &options);
            let preference = Preference::new(query, target, &options);
            let places = query + target - 1;
            let mut sums = vec![i16::MAX; places.next_multiple_of(LANES) + LANES];
            for seed in 0..50usize {
                (0..places).for_each(|place| sums[place] = ((place * 7 + seed * 13) % 5) as i16 - 2);
                let mut highest = 0;
                preferred(Instructions::detect(), &sums, &preference.ranks, &mut highest);
                let most = *sums[first..=last].iter().max().unwrap();
                let equal = (first..=last).filter(|&place| sums[place] == most);
                let expected = equal.rev().max_by_key(|&place| overlap(place, query, target)).unwrap();
                assert_eq!((highest >> 32) as i16, most);
                assert_eq!(preference.places[(highest & 0xFFFF_FFFF) as usize], expected, "{sums:?}");
            }
        }
    }
}
