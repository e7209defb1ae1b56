//! The innermost loop of a convolution: some positions by some channels, held in registers.
//!
//! Each output is one chain of fused multiply-adds: the bias, then the taps in order. All instruction
//! sets compute the same chain, so they agree bit for bit.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::Instructions;

/// Output channels of one panel of packed weights.
pub(super) const LANES: usize = 16;

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

    /// Panics unless all that a tile will touch exists; the vector code reads without further checks.
    fn check(&self, positions: usize, output: &[f32]) {
        let panels = self.channels.div_ceil(LANES);
        let reach = self.runs.iter().map(|run| run.offset + run.length).max().unwrap_or(0);
        assert!(positions > 0 && output.len() == positions * self.channels);
        assert!((positions - 1) * self.step + reach <= self.input.len());
        assert_eq!(self.weights.len(), panels * self.taps() * LANES);
        assert_eq!(self.bias.len(), panels * LANES);
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

/// Copies the real channels of one position's panel to the output, after the activation.
fn store(job: &Job, panel: usize, position: usize, values: &[f32; LANES], output: &mut [f32]) {
    let first = panel * LANES;
    let count = (job.channels - first).min(LANES);
    let target = &mut output[position * job.channels + first..][..count];
    target.copy_from_slice(&values[..count]);
    if job.relu {
        for value in target {
            // Written so that NaN passes, as it does in PyTorch.
            *value = if *value < 0.0 { 0.0 } else { *value };
        }
    }
}
