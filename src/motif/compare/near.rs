//! Euclidean distances in 32 bits, and whatever they leave open in 64: the heights that [`super::wide`] has, to the
//! last one, in a third of the time.
//!
//! Squares and their roots in 32 bits are off by less than [`ERROR`]. A median lies among the few columns that are
//! nearer to it than that, and is looked for in steps of 16 bits first; a height is open only near the half between
//! two, and a scale only where a bound is whole.

use super::Profile;
use super::columns::{BLOCK, Columns};
use super::levels::Scale;
use super::wide::{height_of, median_ranks, of_rank};
use crate::kernel::Instructions;
use crate::kernel::instructions::vectorize;

/// How far a distance, or its square, of two columns in 32 bits lies from that in 64. Probabilities lie within 2⁻²⁵ of
/// theirs, so differences within 2⁻²⁴ and a rounding; the norm of four such errors is below 3·10⁻⁷, that of the
/// squares below 10⁻⁶, and roundings of sums add less than as much.
const ERROR: f32 = 2e-6;
/// The largest factor that a scale may have: one of more levels would leave more open than it saves.
const FACTOR: f64 = 200.0;
/// Adding and taking it away rounds numbers of 32 bits.
const ROUND: f32 = 12_582_912.0;
/// Steps of a square distance of 1 in 16 bits: [`ERROR`] is much less than one of them.
const STEPS: f32 = 16_383.0;
/// Squares from which a median is guessed.
const SAMPLE: usize = 256;
/// How far the guess reaches, as a part of the sample.
const REACH: usize = SAMPLE / 12;
/// Columns among which a median is looked for in 64 bits.
const FEW: u64 = 32;
/// Rounds in which they become few, as long as they are not all the same.
const ROUNDS: usize = 12;
/// Columns whose step is compared at once.
const LANES: usize = 16;

/// The room that the squares of a query take.
pub(super) struct Near<'a> {
    columns: &'a Columns,
    squares: Vec<f32>,
    /// The squares of one position in steps.
    steps: Vec<i16>,
    ranks: [u64; 2],
    /// Numbers of blocks that are looked at again.
    blocks: Vec<u32>,
}

impl<'a> Near<'a> {
    pub fn new(columns: &'a Columns) -> Self {
        // Scores are negative distances, so that ranks count from the other end.
        let last = columns.total.saturating_sub(1);
        let [first, second] = median_ranks(columns);
        let ranks = [last.saturating_sub(second), last.saturating_sub(first)];
        Self { columns, squares: Vec::new(), steps: vec![0; columns.stride()], ranks, blocks: Vec::new() }
    }

    /// Writes how far above the lowest score the scores of each position lie, [`Columns::stride`] for each. `None`
    /// where 32 bits do not suffice to find the scale.
    pub fn heights(&mut self, query: &Profile, heights: &mut [u8]) -> Option<Scale> {
        let (stride, instructions) = (self.columns.stride(), Instructions::detect());
        let mut squares = std::mem::take(&mut self.squares);
        squares.resize(query.columns.len() * stride, 0.0);
        let (mut shifts, mut least, mut most) = (Vec::new(), f64::INFINITY, f64::NEG_INFINITY);
        for (column, squares) in query.columns.iter().zip(squares.chunks_exact_mut(stride)) {
            let mut extent = [f32::INFINITY, 0.0];
            let near = column.map(|p| p as f32);
            square(instructions, near, &self.columns.near, squares, &mut self.steps, &mut extent);
            let shift = self.median(column, squares, extent);
            shifts.push(shift);
            let [high, low] = extent.map(|square| -f64::from(square.sqrt()));
            (least, most) = (least.min(low - shift), most.max(high - shift));
        }
        let scale = certain(least, most);
        if let Some(scale) = scale {
            let places = squares.chunks_exact(stride).zip(heights.chunks_exact_mut(stride));
            for ((column, shift), (squares, heights)) in query.columns.iter().zip(shifts).zip(places) {
                self.scale(column, shift, scale, squares, heights);
            }
        }
        self.squares = squares;
        scale
    }

    /// Returns the median of the scores of a column with all, from its squared distances and the smallest and the
    /// largest of these.
    fn median(&mut self, column: &[f64; 4], squares: &[f32], extent: [f32; 2]) -> f64 {
        let (low, high, below) = self.bracket(extent.map(|square| (square * STEPS + ROUND).to_bits() as i16));
        // What lies a whole step lower is smaller in 64 bits, too.
        let (mut before, mut candidates) = (below, Vec::new());
        self.blocks.clear();
        between(Instructions::detect(), &self.steps, [low - 1, high], &mut self.blocks);
        for &block in &self.blocks {
            let columns = self.steps.iter().zip(&self.columns.counts).zip(squares).enumerate();
            for (index, ((&step, &count), &square)) in columns.skip(block as usize * LANES).take(LANES) {
                if low - 1 <= step && step <= high && count > 0 {
                    before -= if step < low { u64::from(count) } else { 0 };
                    candidates.push((square, index, count));
                }
            }
        }
        self.exactly(column, before, candidates)
    }

    /// Returns the median from the columns among which it lies, with their squares and occurrences, and how many have
    /// smaller ones.
    fn exactly(&self, column: &[f64; 4], mut before: u64, mut candidates: Vec<(f32, usize, u32)>) -> f64 {
        candidates.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let [first, second] = self.ranks.map(|rank| {
            let mut smaller = before;
            let mut reaches = |count: u32| {
                smaller += u64::from(count);
                smaller > rank
            };
            candidates.iter().find(|(.., count)| reaches(*count)).expect("the rank lies among them").0
        });
        let (from, to) = (first - 2.0 * ERROR, second + 2.0 * ERROR);
        let mut exact = Vec::new();
        for (square, index, count) in candidates {
            if square < from {
                before += u64::from(count);
            } else if square <= to {
                exact.push((-self.score(column, index), count));
            }
        }
        let [first, second] = self.ranks.map(|rank| of_rank(&mut exact, before, rank));
        (-second - first) / 2.0
    }

    /// Returns two steps between which the ranks of the median lie, the second not included, with few columns between
    /// them, and how many columns lie below the first.
    fn bracket(&self, [least, most]: [i16; 2]) -> (i16, i16, u64) {
        let (mut low, mut below) = (least, 0);
        let (mut high, mut up_to) = (most + 1, self.columns.total);
        let mut pivots = self.guess();
        for _ in 0..ROUNDS {
            for (pivot, count) in pivots.into_iter().zip(self.counts_below(pivots)) {
                if count <= self.ranks[0] && pivot > low {
                    (low, below) = (pivot, count);
                } else if count > self.ranks[1] && pivot < high {
                    (high, up_to) = (pivot, count);
                }
            }
            let inside = up_to - below;
            if inside <= FEW || high - low <= 1 {
                break;
            }
            let part = (self.ranks[0] - below) as f32 / inside as f32;
            let reach = f32::max(0.02, 0.4 * FEW as f32 / inside as f32);
            let width = f32::from(high - low);
            let at = |part: f32| low + ((part * width) as i16).clamp(1, high - low - 1);
            pivots = [at(part - reach), at(part + reach) + 1];
        }
        (low, high, below)
    }

    /// Returns two steps between which the median probably lies: of some columns, those around theirs.
    fn guess(&self) -> [i16; 2] {
        let count = self.columns.len();
        let mut sample: [i16; SAMPLE] = std::array::from_fn(|index| self.steps[index * count / SAMPLE]);
        let (_, low, others) = sample.select_nth_unstable(SAMPLE / 2 - REACH);
        [*low, *others.select_nth_unstable(2 * REACH).1]
    }

    /// Returns how many columns lie below each of two steps.
    fn counts_below(&self, pivots: [i16; 2]) -> [u64; 2] {
        let mut counts = [0; 2];
        let (singles, others) = self.steps.split_at(self.columns.singles);
        let weights = &self.columns.counts[self.columns.singles..];
        below(Instructions::detect(), singles, others, weights, pivots, &mut counts);
        counts
    }

    /// Writes the heights of one position.
    fn scale(&mut self, column: &[f64; 4], shift: f64, scale: Scale, squares: &[f32], heights: &mut [u8]) {
        let near = NearScale::new(shift, scale);
        self.blocks.clear();
        near_heights(Instructions::detect(), squares, near, heights, &mut self.blocks);
        for &block in &self.blocks {
            let first = block as usize * BLOCK;
            let columns = squares.iter().zip(heights.iter_mut()).enumerate().take(self.columns.len());
            for (index, (&square, height)) in columns.skip(first).take(BLOCK) {
                if near.is_open(near.of(square)) {
                    *height = height_of(self.score(column, index), shift, scale);
                }
            }
        }
    }

    /// Returns the score of a column with one of the targets, as [`super::score`] has it.
    fn score(&self, query: &[f64; 4], index: usize) -> f64 {
        let target = self.columns.column(index);
        let [a, c, g, t]: [f64; 4] = std::array::from_fn(|base| query[base] - target[base]);
        -(a * a + c * c + g * g + t * t).sqrt()
    }
}

/// Returns the scale of scores between about `least` and `most`, where what these are off makes no difference.
fn certain(least: f64, most: f64) -> Option<Scale> {
    let error = f64::from(ERROR);
    let scales = [-error, error].map(|by| Scale::new(least + by, most + by, true));
    let [scale, other] = scales;
    (scale == other && scale.factor <= FACTOR && most - least > 1e-3).then_some(scale)
}

/// A scale for squared distances in 32 bits.
#[derive(Clone, Copy)]
struct NearScale {
    zero: f32,
    factor: f32,
    /// A height that is farther from a whole number is open.
    limit: f32,
}

impl NearScale {
    fn new(shift: f64, scale: Scale) -> Self {
        let factor = scale.factor as f32;
        Self { zero: (-shift - scale.offset) as f32, factor, limit: 0.5 - 1e-5 - ERROR * factor }
    }

    #[inline(always)]
    fn of(self, square: f32) -> f32 {
        (self.zero - square.sqrt()) * self.factor
    }

    #[inline(always)]
    fn is_open(self, height: f32) -> bool {
        (height - (height + ROUND - ROUND)).abs() > self.limit
    }
}

vectorize! {
    /// Writes the squared distances of one column to all, also in steps, and their extent.
    fn square(
        query: [f32; 4], near: &[Vec<f32>; 4], squares: &mut [f32], steps: &mut [i16], extent: &mut [f32; 2],
    ) = square_body
}

#[inline(always)]
fn square_body(
    query: [f32; 4],
    near: &[Vec<f32>; 4],
    squares: &mut [f32],
    steps: &mut [i16],
    extent: &mut [f32; 2],
) {
    let count = squares.len();
    let [a, c, g, t] = near.each_ref().map(|values| values[..count].as_chunks::<BLOCK>().0);
    let (mut low, mut high) = ([f32::INFINITY; LANES], [0.0f32; LANES]);
    let blocks = squares.as_chunks_mut::<BLOCK>().0.iter_mut().zip(steps.as_chunks_mut::<BLOCK>().0);
    for (block, (squares, steps)) in blocks.enumerate() {
        let (a, c, g, t) = (&a[block], &c[block], &g[block], &t[block]);
        for (index, (square, step)) in squares.iter_mut().zip(steps).enumerate() {
            let (da, dc) = (query[0] - a[index], query[1] - c[index]);
            let (dg, dt) = (query[2] - g[index], query[3] - t[index]);
            *square = da * da + dc * dc + dg * dg + dt * dt;
            // Squares are at most 2, so that their steps have 15 bits; they are rounded, which keeps their order.
            *step = (*square * STEPS + ROUND).to_bits() as i16;
        }
        for squares in squares.as_chunks::<LANES>().0 {
            for ((low, high), &square) in low.iter_mut().zip(&mut high).zip(squares) {
                *low = if square < *low { square } else { *low };
                *high = if square > *high { square } else { *high };
            }
        }
    }
    *extent = [low.into_iter().fold(f32::INFINITY, f32::min), high.into_iter().fold(0.0, f32::max)];
}

vectorize! {
    /// Counts the steps below each pivot: those that count once, and others with their weights.
    fn below(singles: &[i16], others: &[i16], weights: &[u32], pivots: [i16; 2], counts: &mut [u64; 2]) = below_body
}

#[inline(always)]
fn below_body(singles: &[i16], others: &[i16], weights: &[u32], pivots: [i16; 2], counts: &mut [u64; 2]) {
    *counts = [0; 2];
    // Sums of 16 bits, which may not run over.
    for singles in singles.chunks(BLOCK * i16::MAX as usize) {
        let [mut first, mut second] = [[0i16; BLOCK]; 2];
        let (chunks, rest) = singles.as_chunks::<BLOCK>();
        for steps in chunks {
            for (first, &step) in first.iter_mut().zip(steps) {
                *first += i16::from(step < pivots[0]);
            }
            for (second, &step) in second.iter_mut().zip(steps) {
                *second += i16::from(step < pivots[1]);
            }
        }
        for (count, (sums, pivot)) in counts.iter_mut().zip([first, second].iter().zip(pivots)) {
            *count += sums.iter().map(|&sum| sum as u64).sum::<u64>();
            *count += rest.iter().filter(|&&step| step < pivot).count() as u64;
        }
    }
    let [mut first, mut second] = [[0u32; LANES]; 2];
    // Both are filled up to whole blocks, with weights of 0, but do not begin with one.
    let (steps, weights) = (others.as_rchunks::<LANES>(), weights.as_rchunks::<LANES>());
    for (steps, weights) in steps.1.iter().zip(weights.1) {
        for (((first, second), &step), &weight) in first.iter_mut().zip(&mut second).zip(steps).zip(weights) {
            *first += if step < pivots[0] { weight } else { 0 };
            *second += if step < pivots[1] { weight } else { 0 };
        }
    }
    for (count, (sums, pivot)) in counts.iter_mut().zip([first, second].iter().zip(pivots)) {
        *count += sums.iter().map(|&sum| u64::from(sum)).sum::<u64>();
        for (&step, &weight) in steps.0.iter().zip(weights.0) {
            *count += if step < pivot { u64::from(weight) } else { 0 };
        }
    }
}

vectorize! {
    /// Writes the blocks of [`LANES`] that hold a step from one to another, this one included.
    fn between(steps: &[i16], range: [i16; 2], found: &mut Vec<u32>) = between_body
}

#[inline(always)]
fn between_body(steps: &[i16], [from, to]: [i16; 2], found: &mut Vec<u32>) {
    // Loops, not closures, which might be compiled without the instructions of the caller.
    for (block, steps) in steps.as_chunks::<BLOCK>().0.iter().enumerate() {
        let mut any = false;
        for &step in steps {
            any |= (from <= step) & (step <= to);
        }
        // Most blocks hold none, which vector code sees at once.
        if !any {
            continue;
        }
        for (part, steps) in steps.as_chunks::<LANES>().0.iter().enumerate() {
            let mut any = false;
            for &step in steps {
                any |= (from <= step) & (step <= to);
            }
            if any {
                found.push((block * BLOCK / LANES + part) as u32);
            }
        }
    }
}

vectorize! {
    /// Writes heights, and the blocks in which some are open.
    fn near_heights(squares: &[f32], scale: NearScale, heights: &mut [u8], open: &mut Vec<u32>) = near_heights_body
}

#[inline(always)]
fn near_heights_body(squares: &[f32], scale: NearScale, heights: &mut [u8], open: &mut Vec<u32>) {
    let blocks = squares.as_chunks::<BLOCK>().0.iter().zip(heights.as_chunks_mut::<BLOCK>().0);
    for (block, (squares, heights)) in blocks.enumerate() {
        let mut any = false;
        for (height, &square) in heights.iter_mut().zip(squares) {
            let exact = scale.of(square);
            *height = (exact + ROUND).to_bits() as u8;
            any |= scale.is_open(exact);
        }
        if any {
            open.push(block as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::super::columns::Index;
    use super::super::wide::Wide;
    use super::*;
    use proptest::prelude::*;

    /// Columns of few counts, so that many scores are equal or lie just between two levels.
    fn column() -> impl Strategy<Value = [f64; 4]> {
        prop::array::uniform4(0u32..9).prop_map(|counts| {
            let sum = f64::from(counts.iter().sum::<u32>().max(1));
            counts.map(|count| (f64::from(count) / sum * 20.0 + 0.025) / 20.1)
        })
    }

    proptest! {
        #[test]
        fn heights_and_scale_are_those_in_64_bits(
            known in prop::collection::vec((column(), 1usize..4), 2..400), query in prop::collection::vec(column(), 1..12),
        ) {
            let mut index = Index::default();
            for (column, times) in &known {
                (0..*times).for_each(|_| {
                    index.number(column, 20.0);
                });
            }
            let (columns, _) = index.finish();
            let query = Profile { columns: query, sites: 20.0 };
            let mut heights = vec![0; query.columns.len() * columns.stride()];
            let mut expected = heights.clone();
            if let Some(scale) = Near::new(&columns).heights(&query, &mut heights) {
                let wide = Wide::new(&columns).heights(&query, &Options::default(), &mut expected);
                prop_assert_eq!(scale, wide);
                let places = heights.chunks(columns.stride()).zip(expected.chunks(columns.stride()));
                for (found, expected) in places {
                    prop_assert_eq!(&found[..columns.len()], &expected[..columns.len()]);
                }
            }
        }
    }

    #[test]
    fn a_scale_at_a_whole_bound_is_left_to_64_bits() {
        assert!(certain(-0.9, 0.4).is_some());
        assert!(certain(-1.0, 0.4).is_none() && certain(-0.9, 1e-7 - 0.0).is_none());
        assert!(certain(-0.5, -0.5).is_none());
    }
}
