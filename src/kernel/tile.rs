//! The innermost loop of a convolution: some positions by some channels, held in registers.
//!
//! Each output is one chain of fused multiply-adds: the bias, then the taps in order. Where a few channels
//! are left over they are not worth a panel: sixteen chains share the taps of each, and are summed by
//! halves. All instruction sets do the same operations in the same order, so they agree bit for bit.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::Instructions;

/// Output channels of one panel of packed weights.
pub(super) const LANES: usize = 16;

/// Weights of one-hot inputs at one tap: a panel for each base, and one of zeros for none.
pub(super) const CODES: usize = 5;

/// The code of no base: it adds nothing.
pub(super) const NO_BASE: u32 = (4 * LANES) as u32;

/// The code of what is no one-hot column.
pub(super) const NOT_ONE_HOT: u32 = u32::MAX;

/// Taps that lie side by side in the input.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// Where the run begins, in values after the first value of a position.
    pub offset: usize,
    /// Values in the run.
    pub length: usize,
}

/// A row of positions, and the filters to apply at each.
pub(super) struct Job<'a> {
    /// Values, beginning with those of the first position.
    pub input: &'a [f32],
    /// Values from one position to the next.
    pub step: usize,
    /// Where the taps of a position lie.
    pub runs: &'a [Run],
    /// Weights, `[panels, taps, LANES]`.
    pub weights: &'a [f32],
    /// Weights of the last channels, which have no panel: `[channels, taps]`. May be empty.
    pub rest: &'a [f32],
    /// Biases, `[panels, LANES]`.
    pub bias: &'a [f32],
    /// Output channels that are real; the rest of the last panel is padding.
    pub channels: usize,
    /// Whether negative outputs become zero.
    pub relu: bool,
}

impl Job<'_> {
    fn taps(&self) -> usize {
        self.runs.iter().map(|run| run.length).sum()
    }

    /// Returns the channels that have panels, and the panels they have.
    fn wide(&self) -> (usize, usize) {
        let channels = self.channels - self.rest.len() / self.taps().max(1);
        (channels, channels.div_ceil(LANES))
    }

    /// Panics unless all that a tile will touch exists; the vector code reads without further checks.
    fn check(&self, positions: usize, output: &[f32]) {
        let (channels, panels) = self.wide();
        let reach = self.runs.iter().map(|run| run.offset + run.length).max().unwrap_or(0);
        assert!(positions > 0 && output.len() == positions * self.channels);
        assert!((positions - 1) * self.step + reach <= self.input.len());
        assert_eq!(self.weights.len(), panels * self.taps() * LANES);
        assert_eq!(self.rest.len(), (self.channels - channels) * self.taps());
        assert!(self.rest.is_empty() || channels.is_multiple_of(LANES));
        assert!(self.bias.len() >= self.channels.next_multiple_of(LANES));
    }
}

/// A row of positions of one-hot columns, and the filters to apply at each: what [`Job`] says, with additions
/// for products. A product with one is exact, one with zero adds nothing, so the bits are those of the job.
pub(super) struct OneHot<'a> {
    /// What stands at each position: the number of its base times [`LANES`], or [`NO_BASE`].
    pub codes: &'a [u32],
    /// Positions from one output to the next.
    pub step: usize,
    /// Positions from one tap to the next.
    pub dilation: usize,
    /// Taps of a filter.
    pub taps: usize,
    /// Weights, `[panels, taps, CODES, LANES]`; the last code's are zero.
    pub weights: &'a [f32],
    /// Biases, `[panels, LANES]`.
    pub bias: &'a [f32],
    /// Output channels that are real.
    pub channels: usize,
    /// Whether negative outputs become zero.
    pub relu: bool,
}

impl OneHot<'_> {
    /// Panics unless all that a tile will touch exists.
    fn check(&self, positions: usize, output: &[f32]) {
        let panels = self.channels.div_ceil(LANES);
        assert!(positions > 0 && self.taps > 0 && output.len() == positions * self.channels);
        assert!((positions - 1) * self.step + (self.taps - 1) * self.dilation < self.codes.len());
        assert_eq!(self.weights.len(), panels * self.taps * CODES * LANES);
        assert!(self.bias.len() >= panels * LANES);
        assert!(self.codes.iter().all(|&code| code <= NO_BASE));
    }
}

/// One tile of a job: where it begins.
#[derive(Clone, Copy)]
struct Corner {
    position: usize,
    panel: usize,
}

impl Instructions {
    /// Computes a job: `output` is `[positions, channels]`.
    pub(super) fn run(self, job: &Job, positions: usize, output: &mut [f32]) {
        job.check(positions, output);
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::run(job, positions, output),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::run(job, positions, output),
            Self::Portable => portable::run(job, positions, output),
        }
    }

    /// Computes a job on one-hot columns: `output` is `[positions, channels]`.
    pub(super) fn look_up(self, job: &OneHot, positions: usize, output: &mut [f32]) {
        job.check(positions, output);
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::look_up(job, positions, output),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::look_up(job, positions, output),
            Self::Portable => portable::look_up(job, positions, output),
        }
    }

    /// Runs plain code compiled for these instructions.
    pub(super) fn compiled<W: Work>(self, work: W) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::compiled(work),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::compiled(work),
            Self::Portable => work.run(),
        }
    }
}

/// Plain code that is worth compiling for each instruction set. It must not fuse products with sums, and all it
/// calls is inlined, or is compiled for none.
pub(super) trait Work {
    /// Does the work; implementations are `#[inline(always)]`.
    fn run(self);
}

/// Calls `tile` with corners that cover all positions, `height` at a time. The last tile moves back to
/// stay inside: what it computes twice comes out the same twice. Fewer positions than one tile go one by one
/// to `single`.
fn cover(positions: usize, height: usize, mut tile: impl FnMut(usize), mut single: impl FnMut(usize)) {
    if positions < height {
        (0..positions).for_each(&mut single);
        return;
    }
    (0..positions / height).for_each(|index| tile(index * height));
    if !positions.is_multiple_of(height) {
        tile(positions - height);
    }
}

/// Returns the height, of those from the tallest down, at which tiles cover so many positions soonest: a tile has
/// some cost besides that of its positions. Where even the lowest is too tall, positions go one by one.
fn height(positions: usize, heights: &[usize]) -> usize {
    const OVERHEAD: usize = 2;
    let cost = |height: &usize| positions.div_ceil(*height) * (height + OVERHEAD);
    heights.iter().copied().filter(|&height| height <= positions).min_by_key(cost).unwrap_or(1)
}

/// Copies as many channels as there is room for to the output, after the activation.
fn store(target: &mut [f32], values: &[f32; LANES], relu: bool) {
    target.copy_from_slice(&values[..target.len()]);
    if relu {
        target.iter_mut().for_each(|value| *value = rectified(*value));
    }
}

/// Makes a negative number zero. Written so that NaN passes, as it does in PyTorch.
fn rectified(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}

/// Sums sixteen chains by halves.
fn sum_by_halves(mut values: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            values[lane] += values[lane + half];
        }
        half /= 2;
    }
    values[0]
}
