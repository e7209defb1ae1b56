//! Convolution of deep layers in bfloat16: a multiplication takes two inputs at a time.
//!
//! Inputs and weights are rounded to nearest, sums are f32, and what leaves the layer is f32 again, as in
//! [`crate::kernel::linear`]. A row is rounded block by block. Where taps lie side by side the rows of the product
//! overlap in the rounded input; where they are apart each row is laid out by itself.

use super::pairs::{Finish, PairWeights};
use super::row::Row;
use crate::kernel::Instructions;
use crate::kernel::linear::{resize, stride_of};
use crate::kernel::product::{self, HEIGHT, Pair};

/// Bytes of rounded input of a block: they stay in the second cache, beside one strip of weights.
const BLOCK_BYTES: usize = 192 << 10;

/// The filters of a one-dimensional convolution in bfloat16.
pub(super) struct Rounded {
    inputs: usize,
    width: usize,
    outputs: usize,
    weights: PairWeights,
}

/// How the rows of a block's product lie in its rounded input.
#[derive(Clone, Copy)]
struct Pitch {
    /// Pairs from one row to the next.
    stride: usize,
    /// Whether rows share what they have in common.
    overlap: bool,
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
        // A row of one tap would be as far from the next as inputs are many: they would fall on the same few lines
        // of the first cache.
        match row.dilation == 1 && self.width > row.stride {
            true => Pitch { stride: row.stride * self.pairs(), overlap: true },
            false => Pitch { stride: stride_of(self.width * self.pairs()), overlap: false },
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
            match pitch.overlap {
                true => self.round_span(instructions, row, start, count, scratch),
                false => self.round_rows(instructions, row, start, (pitch.stride, count), scratch),
            }
            let residual = row.residual.map(|residual| &residual[first * self.outputs..][..output.len()]);
            let finish = Finish { relu: row.relu, residual };
            self.weights.apply(instructions, scratch, pitch.stride, finish, output);
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
        let span = (count - 1) * row.stride + self.width;
        resize(scratch, span * self.pairs());
        for (place, pairs) in scratch.chunks_exact_mut(self.pairs()).take(span).enumerate() {
            self.round(instructions, row, start + place as isize, pairs);
        }
    }

    /// Rounds what each of `count` outputs sees into a row of its own, `stride` pairs apart.
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
            for (tap, pairs) in pairs.chunks_exact_mut(self.pairs()).take(self.width).enumerate() {
                let place = output * row.stride + tap * row.dilation;
                self.round(instructions, row, start + place as isize, pairs);
            }
        }
    }

    /// Rounds one position, zeros where the row has none.
    #[inline(always)]
    fn round(&self, instructions: Instructions, row: &Row, position: isize, pairs: &mut [Pair]) {
        match usize::try_from(position).ok().filter(|&position| position < row.length) {
            Some(position) => {
                let values = &row.input[position * self.inputs..][..self.inputs];
                product::round_pairs(instructions, values, pairs);
            }
            None => pairs.fill(Pair::default()),
        }
    }
}
