//! The chances of scores when the columns of a target are drawn from all columns.
//!
//! What matters are tails, the chances of a score of at least s. Two independent ones combine to
//! `p ⊕ q = p + q − p·q`, which loses nothing however small they are.

use std::ops::Range;

use super::Targets;
use super::align;
use super::columns::{Histogram, Levels};
use crate::kernel::Instructions;
use crate::kernel::instructions::vectorize;

/// Scores that are computed side by side.
const TILE: usize = 32;

/// Chances of the sums of scores over a span of the query's columns.
struct Span {
    low: i32,
    /// Chances of the scores from `low` on, between `margin` zeros on either side.
    chances: Vec<f64>,
    margin: usize,
    instructions: Instructions,
    next: Vec<f64>,
}

impl Span {
    /// Creates the span of no columns, which can grow by all of `histograms`.
    fn new(histograms: &[Histogram]) -> Self {
        let margin = histograms.iter().map(|histogram| histogram.chances.len()).max().unwrap_or(0) + TILE;
        let mut chances = vec![0.0; 2 * margin + 1];
        chances[margin] = 1.0;
        Self { low: 0, chances, margin, instructions: Instructions::detect(), next: Vec::new() }
    }

    fn len(&self) -> usize {
        self.chances.len() - 2 * self.margin
    }

    /// Adds a column.
    fn grow(&mut self, histogram: &Histogram) {
        let length = self.len() + histogram.chances.len() - 1;
        // Tiles may write beyond the end, where zeros must stand.
        self.next.clear();
        self.next.resize(length + 2 * self.margin, 0.0);
        convolve(
            self.instructions,
            &self.chances[self.margin - (histogram.chances.len() - 1)..],
            &histogram.chances,
            &mut self.next[self.margin..self.margin + length],
        );
        std::mem::swap(&mut self.chances, &mut self.next);
        self.low += histogram.low;
    }

    /// Writes the chances of at least each of `scores`.
    fn tail(&self, scores: &Range<i32>, tail: &mut [f64]) {
        let chances = &self.chances[self.margin..self.margin + self.len()];
        let high = self.low + chances.len() as i32;
        let mut sum = 0.0;
        // Scores above all that are asked for still count.
        let above = (scores.end - self.low).clamp(0, chances.len() as i32) as usize;
        chances[above..].iter().rev().for_each(|chance| sum += chance);
        for (score, tail) in scores.clone().zip(tail).rev() {
            if (self.low..high).contains(&score) {
                sum += chances[(score - self.low) as usize];
            }
            *tail = f64::min(sum, 1.0);
        }
    }
}

vectorize! {
    /// Convolves: `out[i] = Σ_k taps[k] · values[i + taps.len() − 1 − k]`.
    fn convolve(values: &[f64], taps: &[f64], out: &mut [f64]) = convolve_body
}

#[inline(always)]
fn convolve_body(values: &[f64], taps: &[f64], out: &mut [f64]) {
    let reach = taps.len() - 1;
    let mut tiles = out.chunks_exact_mut(TILE);
    let mut first = 0;
    for tile in &mut tiles {
        let mut sums = [0.0f64; TILE];
        for (k, &tap) in taps.iter().enumerate() {
            let values: &[f64; TILE] = values[first + reach - k..][..TILE].try_into().expect("a tile");
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = tap.mul_add(*value, *sum);
            }
        }
        tile.copy_from_slice(&sums);
        first += TILE;
    }
    for (index, out) in tiles.into_remainder().iter_mut().enumerate() {
        let values = &values[first + index..];
        *out = taps.iter().enumerate().fold(0.0, |sum, (k, tap)| tap.mul_add(values[reach - k], sum));
    }
}

vectorize! {
    /// Combines chances: `chances ⊕= others`.
    fn either(chances: &mut [f64], others: &[f64]) = either_body
}

#[inline(always)]
fn either_body(chances: &mut [f64], others: &[f64]) {
    for (p, q) in chances.iter_mut().zip(others) {
        *p += q - *p * q;
    }
}

/// Returns, for each of `widths` (ascending), the chance that the best offset and strand of a random target of that
/// width has at least each of `scores`.
pub(super) fn of_the_best(
    levels: &Levels,
    widths: &[usize],
    strands: usize,
    scores: Range<i32>,
) -> Vec<Vec<f64>> {
    let (query, count, instructions) = (levels.width, scores.len(), Instructions::detect());
    // By length: spans that a target hanging over one end covers, and spans within the query. The last is all of it.
    let mut edges = vec![vec![0.0; count]; query + 1];
    let mut inside = vec![vec![0.0; count]; query + 1];
    let mut tail = vec![0.0; count];
    for start in 0..query {
        let mut span = Span::new(&levels.histograms);
        for end in start + 1..=query {
            span.grow(&levels.histograms[end - 1]);
            let length = end - start;
            let edge = (start == 0 || end == query) && length < query;
            let window = length == query || widths.binary_search(&length).is_ok();
            if edge || window {
                span.tail(&scores, &mut tail);
            }
            if edge {
                either(instructions, &mut edges[length], &tail);
            }
            if window {
                either(instructions, &mut inside[length], &tail);
            }
        }
    }
    let mut hanging = vec![0.0; count];
    let mut lengths = 1;
    let mut whole = vec![0.0; count];
    let mut wholes = 0;
    let one = |&width: &usize| {
        while lengths < width.min(query) {
            either(instructions, &mut hanging, &edges[lengths]);
            lengths += 1;
        }
        let mut chances = hanging.clone();
        if width < query {
            either(instructions, &mut chances, &inside[width]);
        } else {
            while wholes < width - query + 1 {
                either(instructions, &mut whole, &inside[query]);
                wholes += 1;
            }
            either(instructions, &mut chances, &whole);
        }
        let strand = chances.clone();
        (1..strands).for_each(|_| either(instructions, &mut chances, &strand));
        chances
    };
    widths.iter().map(one).collect()
}

/// Returns, target after target, the chance of at least the score at each offset.
pub(super) fn of_each_offset(levels: &Levels, targets: &Targets) -> Vec<f64> {
    let (query, instructions) = (levels.width, Instructions::detect());
    let mut sums = vec![0; targets.widths.last().copied().unwrap_or(0) + levels.lanes];
    // Where each target's offsets begin, and by the span of the query that an offset covers, who covers it.
    let mut scores = Vec::new();
    let mut covering = vec![Vec::new(); query * query];
    for laid in &targets.laid {
        align::lay(instructions, levels, targets.columns_of(laid), &mut sums);
        for (place, &sum) in sums[..query + laid.width - 1].iter().enumerate() {
            let start = (query - 1).saturating_sub(place);
            let length = align::overlap(place, query, laid.width);
            covering[start * query + length - 1].push(scores.len());
            scores.push(i32::from(sum));
        }
    }
    let mut chances = vec![1.0; scores.len()];
    let mut tail = Vec::new();
    for start in 0..query {
        let mut span = Span::new(&levels.histograms);
        for length in 1..=query - start {
            span.grow(&levels.histograms[start + length - 1]);
            let range = span.low..span.low + span.len() as i32;
            tail.resize(range.len(), 0.0);
            span.tail(&range, &mut tail);
            for &index in &covering[start * query + length - 1] {
                chances[index] = tail[(scores[index] - span.low) as usize];
            }
        }
    }
    chances
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tail_is_the_sum_over_all_combinations(
            columns in prop::collection::vec(prop::collection::vec(0.01f64..1.0, 1..70), 1..4), low in -20i32..5,
        ) {
            let normal = |weights: &Vec<f64>| -> Vec<f64> {
                weights.iter().map(|weight| weight / weights.iter().sum::<f64>()).collect()
            };
            let histograms: Vec<Histogram> =
                columns.iter().map(|weights| Histogram { low, chances: normal(weights) }).collect();
            let mut span = Span::new(&histograms);
            let mut combinations = vec![(0, 1.0)];
            for histogram in &histograms {
                span.grow(histogram);
                let chances = histogram.chances.iter().enumerate();
                combinations = chances
                    .flat_map(|(level, chance)| {
                        let level = low + level as i32;
                        combinations.iter().map(move |(score, other)| (score + level, chance * other))
                    })
                    .collect();
                if combinations.len() > 100_000 {
                    return Ok(());
                }
            }
            let scores = span.low - 3..span.low + span.len() as i32 - 1;
            let mut tail = vec![0.0; scores.len()];
            span.tail(&scores, &mut tail);
            for (score, tail) in scores.zip(tail) {
                let expected: f64 = combinations.iter().filter(|(sum, _)| *sum >= score).map(|(_, p)| p).sum();
                prop_assert!((tail - expected).abs() < 1e-12 * expected.max(1e-3), "{score}: {tail} {expected}");
            }
        }
    }
}
