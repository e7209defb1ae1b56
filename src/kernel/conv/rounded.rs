//! Convolution of deep layers in bfloat16: a multiplication takes two inputs at a time.
//!
//! Inputs and weights are rounded to nearest, sums are f32, and what leaves the layer is f32 again, as in
//! [`crate::kernel::linear`]. A row is rounded block by block, each position once: the rows of the product overlap in
//! the rounded input, in one piece where taps lie side by side, in a piece for each tap where they are apart.

use std::ops::Range;

use super::pairs::{Finish, PairWeights, Pitch};
use super::row::Row;
use crate::kernel::Instructions;
use crate::kernel::linear::{resize, stride_of};
use crate::kernel::product::{self, HEIGHT, Pair};

/// Bytes of rounded input of a block: they stay in the second cache, beside one strip of weights.
const BLOCK_BYTES: usize = 320 << 10;

/// The filters of a one-dimensional convolution in bfloat16.
pub(super) struct Rounded {
    inputs: usize,
    width: usize,
    outputs: usize,
    weights: PairWeights,
}

impl Rounded {
    /// Packs weights `[outputs, width, inputs]`.
    pub fn new(plain: &[f32], [outputs, width, inputs]: [usize; 3], bias: &[f32]) -> Self {
        debug_assert_eq!(bias.len(), outputs);
        Self { inputs, width, outputs, weights: PairWeights::new(plain, inputs, bias) }
    }

    /// Returns the pairs of a position.
    fn pairs(&self) -> usize {
        self.inputs.div_ceil(2)
    }

    fn pitch(&self, row: &Row) -> Pitch {
        let pairs = self.pairs();
        match (self.width, row.dilation) {
            // Rows that share nothing are put apart, so that they do not fall on the same few lines of the first
            // cache.
            (1, _) => Pitch::whole(stride_of(pairs)),
            (_, 1) => Pitch::whole(row.stride * pairs),
            (runs, dilation) => Pitch { stride: row.stride * pairs, runs, gap: dilation * pairs },
        }
    }

    /// Computes some positions of a row, `first` the first of them: `output` is `[positions, outputs]`.
    pub fn run(
        &self,
        instructions: Instructions,
        row: &Row,
        first: usize,
        output: &mut [f32],
        scratch: &mut Vec<Pair>,
    ) {
        let pitch = self.pitch(row);
        let fit = (BLOCK_BYTES / (pitch.stride * size_of::<Pair>())).max(1).next_multiple_of(HEIGHT);
        for (block, output) in output.chunks_mut(fit * self.outputs).enumerate() {
            let (first, count) = (first + block * fit, output.len() / self.outputs);
            let start = (first * row.stride) as isize - row.left as isize;
            match self.width {
                1 => self.round_rows(instructions, row, start, (pitch.stride, count), scratch),
                _ => self.round_span(instructions, row, start, count, scratch),
            }
            let residual = row.residual.map(|residual| &residual[first * self.outputs..][..output.len()]);
            let finish = Finish { relu: row.relu, residual };
            self.weights.apply(instructions, scratch, pitch, finish, output);
        }
    }

    /// Rounds the positions that `count` outputs see, from `start` on, one after the other.
    fn round_span(
        &self,
        instructions: Instructions,
        row: &Row,
        start: isize,
        count: usize,
        scratch: &mut Vec<Pair>,
    ) {
        let (pairs, span) = (self.pairs(), (count - 1) * row.stride + (self.width - 1) * row.dilation + 1);
        resize(scratch, span * pairs);
        let inside = inside(start, span, row.length);
        let (before, rest) = scratch[..span * pairs].split_at_mut(inside.start * pairs);
        let (within, after) = rest.split_at_mut(inside.len() * pairs);
        before.fill(Pair::default());
        after.fill(Pair::default());
        if inside.is_empty() {
            return;
        }
        let from = (start + inside.start as isize) as usize;
        let values = &row.input[from * self.inputs..][..inside.len() * self.inputs];
        if self.inputs.is_multiple_of(2) {
            product::round_pairs(instructions, values, within);
        } else {
            let positions = values.chunks_exact(self.inputs).zip(within.chunks_exact_mut(pairs));
            positions.for_each(|(values, pairs)| product::round_pairs(instructions, values, pairs));
        }
    }

    /// Rounds the one position that each of `count` outputs sees, `stride` pairs apart.
    fn round_rows(
        &self,
        instructions: Instructions,
        row: &Row,
        start: isize,
        (stride, count): (usize, usize),
        scratch: &mut Vec<Pair>,
    ) {
        resize(scratch, count * stride);
        for (output, pairs) in scratch.chunks_exact_mut(stride).take(count).enumerate() {
            let position = usize::try_from(start + (output * row.stride) as isize).ok();
            match position.filter(|&position| position < row.length) {
                Some(position) => {
                    let values = &row.input[position * self.inputs..][..self.inputs];
                    product::round_pairs(instructions, values, pairs);
                }
                None => pairs.fill(Pair::default()),
            }
        }
    }
}

/// Returns which of `span` positions from `start` on a row of this length has.
fn inside(start: isize, span: usize, length: usize) -> Range<usize> {
    let first = start.min(0).unsigned_abs().min(span);
    let last = (length as isize - start).clamp(0, span as isize) as usize;
    first..last.max(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_of_the_row_is_not_read() {
        assert_eq!(inside(-3, 10, 20), 3..10);
        assert_eq!(inside(5, 10, 12), 0..7);
        assert_eq!(inside(-4, 30, 20), 4..24);
        assert!(inside(-9, 5, 20).is_empty());
        assert!(inside(25, 5, 20).is_empty());
    }
}
