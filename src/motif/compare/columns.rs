//! The scores of a query's columns with all columns of the targets, as whole numbers.

use std::collections::HashMap;

use super::{Options, Profile};
use crate::kernel::Instructions;
use crate::kernel::instructions::vectorize;

/// Levels that the scores of one column spread over.
const RANGE: f64 = 100.0;
/// Bins in which a median is looked for.
const BINS: usize = 2048;
/// Columns that are scaled and transposed together.
const BLOCK: usize = 256;
/// Adding and taking it away rounds to the nearest whole number, to the even one of two as near.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// Distinct columns, and how often each occurs.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    /// Probabilities by base.
    pub bases: [Vec<f64>; 4],
    /// Sequences of the motif that the column comes from.
    pub sites: Vec<f64>,
    /// Occurrences.
    pub counts: Vec<u32>,
    total: u64,
}

impl Columns {
    fn len(&self) -> usize {
        self.counts.len()
    }
}

/// Numbers columns as they come.
#[derive(Default)]
pub(super) struct Index {
    columns: Columns,
    numbers: HashMap<[u64; 5], u32>,
}

impl Index {
    /// Returns the number of a column, a new one if it is new, and counts it.
    pub fn number(&mut self, column: &[f64; 4], sites: f64) -> u32 {
        let [a, c, g, t] = column.map(f64::to_bits);
        let columns = &mut self.columns;
        columns.total += 1;
        let number = *self.numbers.entry([a, c, g, t, sites.to_bits()]).or_insert_with(|| {
            columns.bases.iter_mut().zip(column).for_each(|(values, &value)| values.push(value));
            columns.sites.push(sites);
            columns.counts.push(0);
            columns.counts.len() as u32 - 1
        });
        columns.counts[number as usize] += 1;
        number
    }

    /// Returns the columns.
    pub fn finish(self) -> Columns {
        self.columns
    }
}

/// How often a column of the query has each score.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    /// The lowest score.
    pub low: i32,
    /// Probabilities of the scores from `low` on.
    pub chances: Vec<f64>,
}

/// Scaled scores of a query, and the room that they take, which the next query uses again.
pub(super) struct Levels<'a> {
    columns: &'a Columns,
    /// Columns of the query.
    pub width: usize,
    /// Scores in a row of `rows`: the width, rounded up, with zeros.
    pub lanes: usize,
    /// For each column of the targets a row of scores, that of the query's last column first.
    rows: Vec<i8>,
    /// By column of the query.
    pub histograms: Vec<Histogram>,
    scores: Vec<f64>,
    median: Median<'a>,
}

impl<'a> Levels<'a> {
    /// Creates the room.
    pub fn new(columns: &'a Columns) -> Self {
        Self {
            columns,
            width: 0,
            lanes: 0,
            rows: Vec::new(),
            histograms: Vec::new(),
            scores: Vec::new(),
            median: Median::new(columns),
        }
    }

    /// Scores, shifts and scales. Complete scores have their median near 0, others are not negative.
    pub fn compute(&mut self, query: &Profile, options: &Options) {
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
        self.width = width;
        self.lanes = width.next_multiple_of(16);
        self.fill(&shifts, Scale::new(least, most, options.complete));
    }

    /// Returns the row of a column of the targets.
    pub fn row(&self, column: u32) -> &[i8] {
        &self.rows[column as usize * self.lanes..][..self.lanes]
    }

    /// Scales blocks of columns, counts their levels and lays them beside each other.
    fn fill(&mut self, shifts: &[f64], scale: Scale) {
        let (count, instructions) = (self.columns.len(), Instructions::detect());
        self.rows.clear();
        self.rows.resize(self.lanes * count, 0);
        let mut counts = vec![[0u32; 256]; self.width];
        let mut block = vec![[0i8; BLOCK]; self.width];
        for first in (0..count).step_by(BLOCK) {
            let size = BLOCK.min(count - first);
            for (position, (block, &shift)) in block.iter_mut().zip(shifts).enumerate() {
                let scores = &self.scores[position * count + first..][..size];
                scaled(instructions, scores, shift, scale, &mut block[..size]);
            }
            let rows = self.rows[first * self.lanes..].chunks_exact_mut(self.lanes);
            for (index, (row, &occurrences)) in
                rows.zip(&self.columns.counts[first..first + size]).enumerate()
            {
                // Positions side by side, so that no count waits for the one before it.
                let places = row[..self.width].iter_mut().rev().zip(&block).zip(&mut counts);
                for ((place, block), counts) in places {
                    *place = block[index];
                    counts[usize::from((block[index] as u8).wrapping_sub(scale.lowest as u8))] += occurrences;
                }
            }
        }
        let total = self.columns.total;
        self.histograms = counts.iter().map(|counts| histogram(counts, scale.lowest, total)).collect();
    }
}

fn histogram(counts: &[u32; 256], lowest: i8, total: u64) -> Histogram {
    let first = counts.iter().position(|&count| count > 0).unwrap_or(0);
    let last = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
    let chances = counts[first..=last].iter().map(|&count| f64::from(count) / total as f64).collect();
    Histogram { low: i32::from(lowest) + first as i32, chances }
}

/// From scores to levels: `round((score − offset) · factor) + lowest`.
#[derive(Clone, Copy)]
struct Scale {
    offset: f64,
    factor: f64,
    /// The level of the lowest score: 0, or for complete scores the one at which 0 stays 0.
    lowest: i8,
}

impl Scale {
    /// Scales `least..=most` to at most [`RANGE`] levels. Offset and factor are whole numbers, so that a score of 0
    /// has a whole level.
    fn new(least: f64, most: f64, complete: bool) -> Self {
        let offset = if least == most { most - 1.0 } else { least }.floor();
        let factor = (RANGE / (most - offset)).floor();
        let lowest = if complete { (offset * factor) as i8 } else { 0 };
        Self { offset, factor, lowest }
    }
}

vectorize! {
    /// Writes the levels of scores.
    fn scaled(scores: &[f64], shift: f64, scale: Scale, levels: &mut [i8]) = scaled_body
}

#[inline(always)]
fn scaled_body(scores: &[f64], shift: f64, scale: Scale, levels: &mut [i8]) {
    for (level, score) in levels.iter_mut().zip(scores) {
        let rounded = (score - shift - scale.offset) * scale.factor + ROUND;
        *level = (rounded.to_bits() as i8).wrapping_add(scale.lowest);
    }
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
        for lane in 0..32 {
            low[lane] = if chunk[lane] < low[lane] { chunk[lane] } else { low[lane] };
            high[lane] = if chunk[lane] > high[lane] { chunk[lane] } else { high[lane] };
        }
    }
    extent.0 = low.iter().chain(rest).copied().fold(extent.0, f64::min);
    extent.1 = high.iter().chain(rest).copied().fold(extent.1, f64::max);
}

/// Finds medians of scores that occur several times.
struct Median<'a> {
    counts: &'a [u32],
    /// Ranks of the two scores whose mean is the median.
    ranks: [u64; 2],
    bins: Vec<u16>,
    sums: Vec<u32>,
}

impl<'a> Median<'a> {
    /// The two ranks are one below those of a median, as MEME has it.
    fn new(columns: &'a Columns) -> Self {
        let rank = |half: u64| half.saturating_sub(1);
        let ranks = [rank(columns.total / 2), rank(columns.total.div_ceil(2))];
        Self { counts: &columns.counts, ranks, bins: vec![0; columns.len()], sums: vec![0; BINS] }
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
        let mut inside = Vec::new();
        for (block, bins) in self.bins.chunks(64).enumerate() {
            // Most blocks hold none of the bin, which vector code sees at once.
            if bins.iter().fold(false, |any, &other| any | (usize::from(other) == bin)) {
                let hits = bins.iter().enumerate().filter(|(_, other)| usize::from(**other) == bin);
                inside.extend(
                    hits.map(|(index, _)| (scores[64 * block + index], self.counts[64 * block + index])),
                );
            }
        }
        inside.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        for &(score, count) in &inside {
            before += u64::from(count);
            if before > rank {
                return score;
            }
        }
        unreachable!("the rank lies in the bin")
    }
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
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_median_is_that_of_the_sorted_list(scores in prop::collection::vec((-50i32..50, 1u32..4), 2..200)) {
            let values: Vec<f64> = scores.iter().map(|&(value, _)| f64::from(value) * 0.37).collect();
            let counts: Vec<u32> = scores.iter().map(|&(_, count)| count).collect();
            let total = counts.iter().map(|&count| u64::from(count)).sum();
            let columns = Columns { counts: counts.clone(), total, ..Columns::default() };
            let mut list: Vec<f64> = Vec::new();
            for (value, count) in values.iter().zip(&counts) {
                list.extend(std::iter::repeat_n(*value, *count as usize));
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
        let mut levels = [0; 4];
        scaled(Instructions::Portable, &[-1.0, -0.5, 0.5, 1.5], 0.0, scale, &mut levels);
        assert_eq!(levels, [-1, -1, 1, 1]);
    }
}
