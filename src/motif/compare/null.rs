//! The chances of scores when the columns of a target are drawn from all columns.
//!
//! What matters are tails, the chances of a score of at least s. Two independent ones combine to
//! `p ⊕ q = p + q − p·q`, which loses nothing however small they are.

use std::ops::Range;

use super::Targets;
use super::align;
use super::levels::{Histogram, Levels};
use crate::kernel::Instructions;
use crate::kernel::instructions::vectorize;

/// Scores that are computed side by side.
const TILE: usize = 32;
/// Below every score.
const ALL: i32 = -(1 << 30);

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
        let (chances, next) = (Vec::new(), Vec::new());
        let mut span = Self { low: 0, chances, margin, instructions: Instructions::detect(), next };
        span.empty();
        span
    }

    /// Begins again, with no columns.
    fn empty(&mut self) {
        self.low = 0;
        self.chances.clear();
        self.chances.resize(2 * self.margin + 1, 0.0);
        self.chances[self.margin] = 1.0;
    }

    fn len(&self) -> usize {
        self.chances.len() - 2 * self.margin
    }

    /// Adds a column. Scores below `floor` are forgotten.
    fn grow(&mut self, histogram: &Histogram, floor: i32) {
        let length = self.len() + histogram.chances.len() - 1;
        let low = self.low + histogram.low;
        let cut = (floor - low).clamp(0, length as i32 - 1) as usize;
        self.next.clear();
        self.next.resize(length - cut + 2 * self.margin, 0.0);
        convolve(
            self.instructions,
            &self.chances[self.margin + cut - (histogram.chances.len() - 1)..],
            &histogram.chances,
            &mut self.next[self.margin..self.margin + length - cut],
        );
        std::mem::swap(&mut self.chances, &mut self.next);
        self.low = low + cut as i32;
    }

    /// Writes the chances of at least each of `scores`, none of which may be forgotten.
    fn tail(&self, scores: &Range<i32>, tail: &mut [f64]) {
        let chances = &self.chances[self.margin..self.margin + self.len()];
        let at = |score: i32| (score - self.low).clamp(0, chances.len() as i32) as usize;
        let (first, above) = (at(scores.start), at(scores.end));
        // Scores above all that are asked for still count.
        let over: f64 = chances[above..].iter().rev().sum();
        // Below the lowest score everything is certain, above the highest nothing is left.
        let below = (self.low - scores.start).clamp(0, tail.len() as i32) as usize;
        let inside = &mut tail[below..below + (above - first)];
        suffix_sums(&chances[first..above], over, inside);
        let certain = inside.first().copied().unwrap_or(over);
        tail[..below].fill(certain.min(1.0));
        tail[below + (above - first)..].fill(over);
    }
}

/// Writes the sum of each number and all that follow it and of `over`, at most 1.
fn suffix_sums(values: &[f64], over: f64, sums: &mut [f64]) {
    // Four parts side by side, so that not every addition waits for the one before it.
    let part = values.len() / 4;
    let (rest, whole) = values.split_at(values.len() - 4 * part);
    let parts: [&[f64]; 4] = std::array::from_fn(|index| &whole[index * part..(index + 1) * part]);
    let mut running = [0.0, 0.0, 0.0, over];
    for index in (0..3).rev() {
        running[index] = running[index + 1] + parts[index + 1].iter().sum::<f64>();
    }
    for place in (0..part).rev() {
        for (index, (running, values)) in running.iter_mut().zip(parts).enumerate() {
            *running += values[place];
            sums[rest.len() + index * part + place] = running.min(1.0);
        }
    }
    let mut sum = running[0];
    for (out, value) in sums.iter_mut().zip(rest).rev() {
        sum += value;
        *out = sum.min(1.0);
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

/// Returns, for each column that a span may end before, the lowest score from which `least` can be reached, however
/// many columns follow.
fn floors(histograms: &[Histogram], least: i32) -> Vec<i32> {
    let mut floors = vec![least; histograms.len() + 1];
    for (index, histogram) in histograms.iter().enumerate().rev() {
        let highest = histogram.low + histogram.chances.len() as i32 - 1;
        floors[index] = floors[index + 1] - highest.max(0);
    }
    floors
}

/// Chances of the best of all offsets and strands, and the room that they take, which the next query uses again.
#[derive(Default)]
pub(super) struct Tails {
    /// The scores that have a chance.
    scores: Range<i32>,
    /// By length of a span, a row of chances: of spans that a target hanging over one end covers, and of spans within the
    /// query. The last is all of it.
    edges: Vec<f64>,
    inside: Vec<f64>,
    /// By width of a target.
    tails: Vec<f64>,
    one: Vec<f64>,
}

impl Tails {
    /// Returns the chance that the best offset and strand of a random target has at least a score; `kind` is the index
    /// of its width.
    pub fn chance(&self, kind: usize, score: i32) -> f64 {
        self.tails[kind * self.scores.len() + (score - self.scores.start) as usize]
    }

    /// Computes the chances of `scores` for targets of each of `widths`, which ascend.
    pub fn compute(&mut self, levels: &Levels, widths: &[usize], strands: usize, scores: Range<i32>) {
        let (query, count) = (levels.width, scores.len());
        for (room, rows) in [
            (&mut self.edges, query + 1),
            (&mut self.inside, query + 1),
            (&mut self.tails, widths.len()),
            (&mut self.one, 1),
        ] {
            room.clear();
            room.resize(rows * count, 0.0);
        }
        self.scores = scores;
        self.spans(levels, widths);
        self.widths(query, widths, strands);
    }

    /// Combines the chances of all spans of a length.
    fn spans(&mut self, levels: &Levels, widths: &[usize]) {
        let (query, count, instructions) = (levels.width, self.scores.len(), Instructions::detect());
        let floors = floors(&levels.histograms, self.scores.start);
        let mut span = Span::new(&levels.histograms);
        for start in 0..query {
            span.empty();
            for (end, &floor) in floors.iter().enumerate().skip(start + 1) {
                span.grow(&levels.histograms[end - 1], floor);
                let length = end - start;
                let edge = (start == 0 || end == query) && length < query;
                let window = length == query || widths.binary_search(&length).is_ok();
                if edge || window {
                    span.tail(&self.scores, &mut self.one);
                }
                let row = length * count..(length + 1) * count;
                if edge {
                    either(instructions, &mut self.edges[row.clone()], &self.one);
                }
                if window {
                    either(instructions, &mut self.inside[row], &self.one);
                }
            }
        }
    }

    /// Combines what a target of each width covers: spans at the ends of a query, and those within it or all of it.
    fn widths(&mut self, query: usize, widths: &[usize], strands: usize) {
        let (count, instructions) = (self.scores.len(), Instructions::detect());
        let row = |index: usize| index * count..(index + 1) * count;
        // Beginning with the narrowest, what hangs over only grows, and so do the offsets of all of the query.
        let (mut lengths, mut wholes) = (1, 0);
        let hanging = &mut self.one;
        hanging.fill(0.0);
        // The row of no length is free.
        let (whole, inside) = self.inside.split_at_mut(count);
        for (kind, &width) in widths.iter().enumerate() {
            while lengths < width.min(query) {
                either(instructions, hanging, &self.edges[row(lengths)]);
                lengths += 1;
            }
            let chances = &mut self.tails[row(kind)];
            chances.copy_from_slice(hanging);
            if width < query {
                either(instructions, chances, &inside[row(width - 1)]);
            } else {
                while wholes < width - query + 1 {
                    either(instructions, whole, &inside[row(query - 1)]);
                    wholes += 1;
                }
                either(instructions, chances, whole);
            }
            if strands > 1 {
                twice(instructions, chances);
            }
        }
    }
}

vectorize! {
    /// Combines chances with themselves.
    fn twice(chances: &mut [f64]) = twice_body
}

#[inline(always)]
fn twice_body(chances: &mut [f64]) {
    for p in chances {
        *p += *p - *p * *p;
    }
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
            span.grow(&levels.histograms[start + length - 1], ALL);
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
                span.grow(histogram, ALL);
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
            // Those that cannot reach a score any more make no difference to its tail.
            let high = scores.start + tail.len() as i32 / 2;
            let (mut short, floors) = (Span::new(&histograms), floors(&histograms, high));
            for (histogram, floor) in histograms.iter().zip(&floors[1..]) {
                short.grow(histogram, *floor);
            }
            let mut upper = vec![0.0; (scores.end - high) as usize];
            short.tail(&(high..scores.end), &mut upper);
            let differ = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-12 * b;
            prop_assert!(!upper.iter().zip(&tail[(high - scores.start) as usize..]).any(differ));
            for (score, tail) in scores.zip(tail) {
                let expected: f64 = combinations.iter().filter(|(sum, _)| *sum >= score).map(|(_, p)| p).sum();
                prop_assert!((tail - expected).abs() < 1e-12 * expected.max(1e-3), "{score}: {tail} {expected}");
            }
        }
    }
}
