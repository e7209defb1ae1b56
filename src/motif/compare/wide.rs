//! Scores in 64 bits, of any distance, and their medians.

use super::columns::Columns;
use super::levels::Scale;
use super::{Options, Profile};
use crate::kernel::Instructions;
use crate::kernel::instructions::vectorize;

/// Bins in which a median is looked for.
const BINS: usize = 2048;
/// Adding and taking it away rounds to the nearest whole number, to the even one of two as near.
pub(super) const ROUND: f64 = 6_755_399_441_055_744.0;

/// The room that the scores of a query take.
pub(super) struct Wide<'a> {
    columns: &'a Columns,
    scores: Vec<f64>,
    median: Median<'a>,
}

impl<'a> Wide<'a> {
    pub fn new(columns: &'a Columns) -> Self {
        Self { columns, scores: Vec::new(), median: Median::new(columns) }
    }

    /// Writes how far above the lowest score the scores of each position lie, [`Columns::stride`] for each.
    pub fn heights(&mut self, query: &Profile, options: &Options, heights: &mut [u8]) -> Scale {
        let (width, count) = (query.columns.len(), self.columns.len());
        self.scores.resize(width * count, 0.0);
        let (mut shifts, mut least, mut most) = (Vec::new(), f64::INFINITY, f64::NEG_INFINITY);
        for (column, scores) in query.columns.iter().zip(self.scores.chunks_exact_mut(count)) {
            options.distance.scores(*column, query.sites, self.columns, options.background, scores);
            let (low, high) = extent(Instructions::detect(), scores);
            let shift = if options.complete { self.median.of(scores, low, high) } else { 0.0 };
            shifts.push(shift);
            (least, most) = (least.min(low - shift), most.max(high - shift));
        }
        let scale = Scale::new(least, most, options.complete);
        let places = heights.chunks_exact_mut(self.columns.stride());
        for ((scores, shift), heights) in self.scores.chunks_exact(count).zip(shifts).zip(places) {
            scaled(Instructions::detect(), scores, shift, scale, heights);
        }
        scale
    }
}

vectorize! {
    /// Writes the heights of scores.
    fn scaled(scores: &[f64], shift: f64, scale: Scale, heights: &mut [u8]) = scaled_body
}

#[inline(always)]
fn scaled_body(scores: &[f64], shift: f64, scale: Scale, heights: &mut [u8]) {
    for (height, score) in heights.iter_mut().zip(scores) {
        *height = height_of(*score, shift, scale);
    }
}

/// Returns how far above the lowest score a score lies.
#[inline(always)]
pub(super) fn height_of(score: f64, shift: f64, scale: Scale) -> u8 {
    ((score - shift - scale.offset) * scale.factor + ROUND).to_bits() as u8
}

vectorize! {
    /// Returns the lowest and the highest of some numbers.
    fn extent_into(values: &[f64], extent: &mut (f64, f64)) = extent_body
}

fn extent(instructions: Instructions, values: &[f64]) -> (f64, f64) {
    let mut extent = (f64::INFINITY, f64::NEG_INFINITY);
    extent_into(instructions, values, &mut extent);
    extent
}

#[inline(always)]
fn extent_body(values: &[f64], extent: &mut (f64, f64)) {
    // Many lanes side by side, so that no comparison waits for the one before it.
    let (mut low, mut high) = ([f64::INFINITY; 32], [f64::NEG_INFINITY; 32]);
    let chunks = values.chunks_exact(32);
    let rest = chunks.remainder();
    for chunk in chunks {
        for ((low, high), value) in low.iter_mut().zip(&mut high).zip(chunk) {
            *low = if *value < *low { *value } else { *low };
            *high = if *value > *high { *value } else { *high };
        }
    }
    extent.0 = low.iter().chain(rest).copied().fold(extent.0, f64::min);
    extent.1 = high.iter().chain(rest).copied().fold(extent.1, f64::max);
}

/// Returns the two ranks, among all that occur, of the scores whose mean is the median: one below those of a median,
/// as MEME has it.
pub(super) fn median_ranks(columns: &Columns) -> [u64; 2] {
    let rank = |half: u64| half.saturating_sub(1);
    [rank(columns.total / 2), rank(columns.total.div_ceil(2))]
}

/// Finds medians of scores that occur several times.
struct Median<'a> {
    counts: &'a [u32],
    ranks: [u64; 2],
    bins: Vec<u16>,
    sums: Vec<u32>,
}

impl<'a> Median<'a> {
    fn new(columns: &'a Columns) -> Self {
        let counts = &columns.counts[..columns.len()];
        Self { counts, ranks: median_ranks(columns), bins: vec![0; counts.len()], sums: vec![0; BINS] }
    }

    /// Returns the median of scores between `low` and `high`.
    fn of(&mut self, scores: &[f64], low: f64, high: f64) -> f64 {
        if low == high {
            return low;
        }
        binned(Instructions::detect(), scores, low, (BINS - 1) as f64 / (high - low), &mut self.bins);
        self.sums.fill(0);
        for (&bin, &count) in self.bins.iter().zip(self.counts) {
            self.sums[usize::from(bin) % BINS] += count;
        }
        let first = self.at(scores, self.ranks[0]);
        let second = if self.ranks[0] == self.ranks[1] { first } else { self.at(scores, self.ranks[1]) };
        (first + second) / 2.0
    }

    /// Returns the score of a rank. Bins keep the order, so only the rank's own needs sorting.
    fn at(&self, scores: &[f64], rank: u64) -> f64 {
        let (mut before, mut bin) = (0, 0);
        while before + u64::from(self.sums[bin]) <= rank {
            before += u64::from(self.sums[bin]);
            bin += 1;
        }
        let inside = self.bins.iter().enumerate().filter(|(_, other)| usize::from(**other) == bin);
        let mut inside: Vec<(f64, u32)> =
            inside.map(|(index, _)| (scores[index], self.counts[index])).collect();
        of_rank(&mut inside, before, rank)
    }
}

/// Returns the value of a rank among values that occur several times, of which `before` more are smaller.
pub(super) fn of_rank(values: &mut [(f64, u32)], mut before: u64, rank: u64) -> f64 {
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    for &(value, count) in &*values {
        before += u64::from(count);
        if before > rank {
            return value;
        }
    }
    unreachable!("the rank lies among the values")
}

vectorize! {
    /// Writes the bin of each score.
    fn binned(scores: &[f64], low: f64, factor: f64, bins: &mut [u16]) = binned_body
}

#[inline(always)]
fn binned_body(scores: &[f64], low: f64, factor: f64, bins: &mut [u16]) {
    for (bin, score) in bins.iter_mut().zip(scores) {
        *bin = ((score - low) * factor + ROUND).to_bits() as u16;
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::Index;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_median_is_that_of_the_sorted_list(scores in prop::collection::vec((-50i32..50, 1u32..4), 2..200)) {
            let mut index = Index::default();
            for (number, &(_, count)) in scores.iter().enumerate() {
                (0..count).for_each(|_| {
                    index.number(&[number as f64, 0.0, 0.0, 0.0], 1.0);
                });
            }
            let (columns, indices) = index.finish();
            let mut values = vec![0.0; scores.len()];
            let mut list: Vec<f64> = Vec::new();
            for (number, &(score, count)) in scores.iter().enumerate() {
                let value = f64::from(score) * 0.37;
                values[indices[number] as usize] = value;
                list.extend(std::iter::repeat_n(value, count as usize));
            }
            list.sort_by(f64::total_cmp);
            let half = list.len() as f64 / 2.0;
            let expected = (list[half.floor() as usize - 1] + list[half.ceil() as usize - 1]) / 2.0;
            let (low, high) = extent(Instructions::Portable, &values);
            prop_assert_eq!((low, high), (list[0], list[list.len() - 1]));
            prop_assert_eq!(Median::new(&columns).of(&values, low, high), expected);
        }
    }

    #[test]
    fn halves_are_rounded_to_even_levels() {
        let scale = Scale { offset: -1.0, factor: 1.0, lowest: -1 };
        let mut heights = [0; 4];
        scaled(Instructions::Portable, &[-1.0, -0.5, 0.5, 1.5], 0.0, scale, &mut heights);
        assert_eq!(heights, [0, 0, 2, 2]);
    }
}
