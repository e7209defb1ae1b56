//! The scores of a query's columns with all columns of the targets, as whole numbers.

use super::columns::{BLOCK, Columns};
use super::near::Near;
use super::tally::Tally;
use super::wide::Wide;
use super::{Distance, Options, Profile};
use crate::kernel::Instructions;
use crate::kernel::instructions::vectorize;

/// Levels that the scores of one column spread over.
const RANGE: f64 = 100.0;

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
    /// By column of the query, then of the targets: how far above the lowest score.
    heights: Vec<u8>,
    near: Near<'a>,
    wide: Wide<'a>,
    tally: Tally,
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
            heights: Vec::new(),
            near: Near::new(columns),
            wide: Wide::new(columns),
            tally: Tally::default(),
        }
    }

    /// Scores, shifts and scales. Complete scores have their median near 0, others are not negative.
    pub fn compute(&mut self, query: &Profile, options: &Options) {
        self.width = query.columns.len();
        self.lanes = self.width.next_multiple_of(16);
        let stride = self.columns.stride();
        self.heights.resize(self.width * stride, 0);
        let near = (options.complete && options.distance == Distance::Euclidean)
            .then(|| self.near.heights(query, &mut self.heights))
            .flatten();
        let scale = near.unwrap_or_else(|| self.wide.heights(query, options, &mut self.heights));
        let total = self.columns.total;
        let histogram =
            |heights: &[u8]| histogram(&self.tally.count(heights, self.columns), scale.lowest, total);
        self.histograms = self.heights.chunks_exact(stride.max(1)).map(histogram).collect();
        self.rows.resize(self.lanes * stride, 0);
        turn(Instructions::detect(), &self.heights, stride, self.lanes, scale.lowest, &mut self.rows);
    }

    /// Returns the row of a column of the targets.
    pub fn row(&self, column: u32) -> &[i8] {
        &self.rows[column as usize * self.lanes..][..self.lanes]
    }
}

fn histogram(counts: &[u32; 128], lowest: i8, total: u64) -> Histogram {
    let first = counts.iter().position(|&count| count > 0).unwrap_or(0);
    let last = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
    let chances = counts[first..=last].iter().map(|&count| f64::from(count) / total as f64).collect();
    Histogram { low: i32::from(lowest) + first as i32, chances }
}

/// From scores to levels: `round((score − shift − offset) · factor) + lowest`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub offset: f64,
    pub factor: f64,
    /// The level of the lowest score: 0, or for complete scores the one at which 0 stays 0.
    pub lowest: i8,
}

impl Scale {
    /// Scales `least..=most` to at most [`RANGE`] levels. Offset and factor are whole numbers, so that a score of 0
    /// has a whole level.
    pub fn new(least: f64, most: f64, complete: bool) -> Self {
        let offset = if least == most { most - 1.0 } else { least }.floor();
        let factor = (RANGE / (most - offset)).floor();
        let lowest = if complete { (offset * factor) as i8 } else { 0 };
        Self { offset, factor, lowest }
    }
}

vectorize! {
    /// Lays the heights of all positions, `stride` for each, beside each other: for each column a row of `lanes` levels,
    /// the last position first, then zeros.
    fn turn(heights: &[u8], stride: usize, lanes: usize, lowest: i8, rows: &mut [i8]) = turn_body
}

#[inline(always)]
fn turn_body(heights: &[u8], stride: usize, lanes: usize, lowest: i8, rows: &mut [i8]) {
    let width = heights.len() / stride.max(1);
    for (block, rows) in rows.chunks_exact_mut(BLOCK * lanes).enumerate() {
        for group in (0..lanes).step_by(8) {
            let mut words = [[0u64; 8]; 8];
            for (lane, words) in (group..width).zip(&mut words) {
                let position = width - 1 - lane;
                let heights = &heights[position * stride + block * BLOCK..][..BLOCK];
                for (word, heights) in words.iter_mut().zip(heights.as_chunks::<8>().0) {
                    *word = plus(u64::from_le_bytes(*heights), lowest);
                }
            }
            transpose(&mut words);
            for (place, words) in words.iter().enumerate() {
                for (eighth, word) in words.iter().enumerate() {
                    let row = &mut rows[(8 * eighth + place) * lanes + group..][..8];
                    row.copy_from_slice(&word.to_le_bytes().map(|level| level as i8));
                }
            }
        }
    }
}

/// Adds a number to each of eight bytes, none of which runs over into the next.
#[inline(always)]
fn plus(bytes: u64, more: i8) -> u64 {
    const LOW: u64 = 0x7F7F_7F7F_7F7F_7F7F;
    let more = u64::from(more as u8) * 0x0101_0101_0101_0101;
    ((bytes & LOW) + (more & LOW)) ^ ((bytes ^ more) & !LOW)
}

/// Transposes eight squares of 8 × 8 bytes: byte i of word j becomes byte j of word i.
#[inline(always)]
fn transpose(words: &mut [[u64; 8]; 8]) {
    const STEPS: [(usize, u32, u64); 3] =
        [(4, 32, 0x0000_0000_FFFF_FFFF), (2, 16, 0x0000_FFFF_0000_FFFF), (1, 8, 0x00FF_00FF_00FF_00FF)];
    for (distance, shift, mask) in STEPS {
        for first in (0..8).filter(|place| place & distance == 0) {
            let (head, tail) = words.split_at_mut(first + distance);
            for (a, b) in head[first].iter_mut().zip(&mut tail[0]) {
                let swapped = ((*a >> shift) ^ *b) & mask;
                *b ^= swapped;
                *a ^= swapped << shift;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_the_positions_backwards() {
        for (width, lanes) in [(1, 16), (7, 16), (16, 16), (19, 32)] {
            let stride = 2 * BLOCK;
            let height = |position: usize, column: usize| ((7 * position + 13 * column) % 101) as u8;
            let heights: Vec<u8> = (0..width * stride).map(|at| height(at / stride, at % stride)).collect();
            let mut rows = vec![99; lanes * stride];
            turn(Instructions::detect(), &heights, stride, lanes, -40, &mut rows);
            for (at, &level) in rows.iter().enumerate() {
                let (column, lane) = (at / lanes, at % lanes);
                let expected = if lane < width { height(width - 1 - lane, column) as i16 - 40 } else { 0 };
                assert_eq!(i16::from(level), expected, "{column} {lane} of {width}");
            }
        }
    }
}
