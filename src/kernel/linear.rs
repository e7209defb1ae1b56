//! Linear layers of transformers on plain slices: a matrix product with what follows it in the same pass.
//!
//! Weights are packed once, at load, in 32-bit numbers, bfloat16 or bytes. Rows are tokens, of as many sequences
//! as the caller has laid end to end; a row's bits depend on that row and the weights alone.

mod finish;
pub(super) mod pack;
mod quantize;

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::Instructions;
use super::activation::Activation;
use super::product::{self, Four, HEIGHT, Job, Pair, Sums, Unit, WIDTH};
use finish::Finish;
use pack::{Columns, Strips};
use quantize::{Scales, Steps};

/// Tokens that a caller should lay end to end for one thread. Weights are read from memory once for all of them:
/// from 64 tokens on (128 of bfloat16) that costs nothing that can be measured, with 16 a tenth to a sixth. More
/// take more memory and leave the last threads without work.
pub const TOKENS_PER_PACK: usize = 256;

/// In what numbers a layer multiplies. Activations in memory and sums are 32-bit floats in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats: products and sums in one fused multiply-add each.
    #[default]
    F32,
    /// Weights and activations rounded to bfloat16 (8 significant bits), to nearest, once a layer: for normally
    /// distributed numbers the outputs are off by 0.24 % of their norm.
    Bf16,
    /// Weights in 255 steps an output, activations in 256 steps a token: for normally distributed numbers the
    /// outputs are off by 1 % of their norm, by more where a token has a few activations that are far larger
    /// than the others. An option; how much it costs depends on the model.
    Int8,
}

/// A linear layer, y = f(x·Wᵀ + b), or a gated one, y = f(x·Waᵀ + ba) ⊙ (x·Wbᵀ + bb).
///
/// Cheap to clone: the weights are shared. Single-threaded; many threads may use one layer.
#[derive(Clone)]
pub struct Linear {
    weights: Arc<Weights>,
    activation: Activation,
}

struct Weights {
    columns: Columns,
    /// `[strips, WIDTH]`.
    bias: Vec<[f32; WIDTH]>,
    packed: Packed,
}

enum Packed {
    F32(Strips<f32>),
    Bf16(Strips<Pair>),
    Int8(Strips<Four>, Vec<Scales>),
}

impl fmt::Debug for Linear {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Columns { inputs, outputs, gated } = self.weights.columns;
        let (precision, activation) = (self.precision(), self.activation);
        write!(f, "Linear({inputs} to {outputs}, {precision:?}, {activation:?}, gated {gated})")
    }
}

impl Linear {
    /// Packs weights `[outputs, inputs]`.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit the shape.
    pub fn new(weights: &[f32], shape: [usize; 2], bias: Option<&[f32]>, precision: Precision) -> Self {
        let columns = Columns { outputs: shape[0], inputs: shape[1], gated: false };
        Self::pack(weights, columns, bias, Activation::None, precision)
    }

    /// Packs a gated linear unit: weights `[2·outputs, inputs]` and bias `[2·outputs]`, where the activation
    /// applies to the first half, the second half is what it is multiplied by, and `shape` is
    /// `[outputs, inputs]` of one half.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit the shape.
    pub fn gated(
        weights: &[f32],
        shape: [usize; 2],
        bias: Option<&[f32]>,
        activation: Activation,
        precision: Precision,
    ) -> Self {
        let columns = Columns { outputs: shape[0], inputs: shape[1], gated: true };
        Self::pack(weights, columns, bias, activation, precision)
    }

    fn pack(
        weights: &[f32],
        columns: Columns,
        bias: Option<&[f32]>,
        activation: Activation,
        precision: Precision,
    ) -> Self {
        let rows = columns.rows();
        assert!(columns.inputs > 0 && rows > 0, "a layer needs inputs and outputs");
        assert_eq!(weights.len(), rows * columns.inputs, "weights of {rows} by {}", columns.inputs);
        assert!(bias.is_none_or(|bias| bias.len() == rows), "biases of {rows}");
        let packed = match precision {
            Precision::F32 => Packed::F32(columns.pack(weights, |group| group[0])),
            Precision::Bf16 => Packed::Bf16(columns.pack(weights, |group| Pair::new(group[0], group[1]))),
            Precision::Int8 => {
                let (strips, scales) = quantize::weights(weights, columns);
                Packed::Int8(strips, scales)
            }
        };
        let bias = columns.spread(|row| bias.map_or(0.0, |bias| bias[row]));
        Self { weights: Weights { columns, bias, packed }.into(), activation }
    }

    /// Applies a function to what the layer gives, in the same pass.
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Returns the numbers of a row that goes in.
    pub fn inputs(&self) -> usize {
        self.weights.columns.inputs
    }

    /// Returns the numbers of a row that comes out.
    pub fn outputs(&self) -> usize {
        self.weights.columns.outputs
    }

    /// Returns in what numbers the layer multiplies.
    pub fn precision(&self) -> Precision {
        match self.weights.packed {
            Packed::F32(_) => Precision::F32,
            Packed::Bf16(_) => Precision::Bf16,
            Packed::Int8(..) => Precision::Int8,
        }
    }

    /// Computes `output = f(input)`: `[tokens, inputs]` to `[tokens, outputs]`.
    ///
    /// # Panics
    ///
    /// When the rows are not whole or not as many.
    pub fn apply(&self, input: &[f32], output: &mut [f32]) {
        self.run(Instructions::detect(), input, output, false);
    }

    /// Computes `output += f(input)`: a layer and the residual around it.
    ///
    /// # Panics
    ///
    /// As [`Linear::apply`].
    pub fn add(&self, input: &[f32], output: &mut [f32]) {
        self.run(Instructions::detect(), input, output, true);
    }

    fn run(&self, instructions: Instructions, input: &[f32], output: &mut [f32], add: bool) {
        let Columns { inputs, outputs, gated } = self.weights.columns;
        let tokens = output.len() / outputs;
        assert_eq!((input.len(), output.len()), (tokens * inputs, tokens * outputs), "{self:?}");
        let finish = Finish { activation: self.activation, gated, add, outputs };
        let call = Call { instructions, inputs, bias: &self.weights.bias, finish };
        SCRATCH.with_borrow_mut(|scratch| match &self.weights.packed {
            Packed::F32(strips) => call.f32(strips, &mut scratch.singles, input, output),
            Packed::Bf16(strips) => call.bf16(strips, &mut scratch.pairs, input, output),
            Packed::Int8(strips, scales) => call.int8(strips, scales, scratch, input, output),
        });
    }
}

/// Rows in the numbers of the product.
#[derive(Default)]
struct Scratch {
    singles: Vec<f32>,
    pairs: Vec<Pair>,
    fours: Vec<Four>,
    /// Of each token.
    steps: Vec<Steps>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Bytes of rows that are multiplied by all weights before the next: they stay in the second cache, beside
/// one strip of weights.
const BLOCK_BYTES: usize = 320 << 10;

/// One application of a layer.
struct Call<'a> {
    instructions: Instructions,
    inputs: usize,
    bias: &'a [[f32; WIDTH]],
    finish: Finish,
}

/// Rows ready to be multiplied.
struct Rows<'a, T> {
    values: &'a [T],
    stride: usize,
}

impl Call<'_> {
    fn f32(&self, strips: &Strips<f32>, scratch: &mut Vec<f32>, input: &[f32], output: &mut [f32]) {
        // Rows a power of two apart would fall on the same few lines of the first cache.
        let copy = (self.inputs * size_of::<f32>()).is_multiple_of(2048);
        let stride = if copy { stride_of(self.inputs) } else { self.inputs };
        for (input, output) in self.blocks::<f32>(input, output) {
            let values: &[f32] = if copy {
                resize(scratch, input.len() / self.inputs * stride);
                for (row, input) in scratch.chunks_mut(stride).zip(input.chunks_exact(self.inputs)) {
                    row[..self.inputs].copy_from_slice(input);
                }
                &*scratch
            } else {
                input
            };
            let rows = Rows { values, stride };
            self.tiles(
                strips,
                rows,
                output,
                |strip| &self.bias[strip],
                |strip, _, sums, output| {
                    self.finish(strip, sums, output);
                },
            );
        }
    }

    fn bf16(&self, strips: &Strips<Pair>, scratch: &mut Vec<Pair>, input: &[f32], output: &mut [f32]) {
        let stride = stride_of(strips.taps);
        for (input, output) in self.blocks::<Pair>(input, output) {
            resize(scratch, input.len() / self.inputs * stride);
            for (row, input) in scratch.chunks_mut(stride).zip(input.chunks_exact(self.inputs)) {
                product::round_pairs(self.instructions, input, row);
            }
            let rows = Rows { values: &*scratch, stride };
            self.tiles(
                strips,
                rows,
                output,
                |strip| &self.bias[strip],
                |strip, _, sums, output| {
                    self.finish(strip, sums, output);
                },
            );
        }
    }

    fn int8(
        &self,
        strips: &Strips<Four>,
        scales: &[Scales],
        scratch: &mut Scratch,
        input: &[f32],
        output: &mut [f32],
    ) {
        let Scratch { fours, steps, .. } = scratch;
        let stride = stride_of(strips.taps);
        for (input, output) in self.blocks::<Four>(input, output) {
            resize(fours, input.len() / self.inputs * stride);
            steps.clear();
            for (row, input) in fours.chunks_mut(stride).zip(input.chunks_exact(self.inputs)) {
                steps.push(quantize::row(self.instructions, input, row));
            }
            let rows = Rows { values: &*fours, stride };
            self.tiles(
                strips,
                rows,
                output,
                |_| &[0; WIDTH],
                |strip, first, sums, output| {
                    let mut scaled = Sums([[0.0; WIDTH]; HEIGHT]);
                    let (scales, bias) = (&scales[strip], &self.bias[strip]);
                    quantize::scale(self.instructions, sums, &steps[first..], scales, bias, &mut scaled);
                    self.finish(strip, &mut scaled, output);
                },
            );
        }
    }

    /// Cuts rows into pieces of which each is multiplied by all weights.
    fn blocks<'d, T: Unit>(
        &self,
        input: &'d [f32],
        output: &'d mut [f32],
    ) -> impl Iterator<Item = (&'d [f32], &'d mut [f32])> {
        let bytes = self.inputs.div_ceil(T::GROUP) * size_of::<T>();
        let tokens = (BLOCK_BYTES / bytes).max(1).next_multiple_of(HEIGHT);
        input.chunks(tokens * self.inputs).zip(output.chunks_mut(tokens * self.finish.outputs))
    }

    /// Multiplies a block of rows by all strips: `begin` gives what a strip's sums begin with; `finish` takes the
    /// strip, the first row, the sums, and the rows of the output.
    fn tiles<'b, T: Unit>(
        &self,
        strips: &Strips<T>,
        rows: Rows<T>,
        output: &mut [f32],
        begin: impl Fn(usize) -> &'b [T::Sum; WIDTH],
        finish: impl Fn(usize, usize, &mut Sums<T::Sum>, &mut [f32]),
    ) {
        let outputs = self.finish.outputs;
        let mut sums = Sums([[T::Sum::default(); WIDTH]; HEIGHT]);
        for (index, strip) in strips.iter().enumerate() {
            for (tile, output) in output.chunks_mut(HEIGHT * outputs).enumerate() {
                let first = tile * HEIGHT;
                self.finish.prefetch(index, output);
                let rows_left = &rows.values[first * rows.stride..];
                let job = Job::new(begin(index), rows_left, rows.stride, strip);
                product::multiply(self.instructions, job, output.len() / outputs, &mut sums);
                finish(index, first, &mut sums, output);
            }
        }
    }

    /// Finishes sums that are numbers already.
    fn finish(&self, strip: usize, sums: &mut Sums<f32>, output: &mut [f32]) {
        finish::finish(self.instructions, self.finish, strip, sums, output);
    }
}

/// Returns the distance of rows in scratch: such that the rows of a tile do not fall on the same few lines of
/// the first cache.
pub(super) fn stride_of(taps: usize) -> usize {
    taps.next_multiple_of(32) + 16
}

/// Makes a scratch as long as it must be; what stands in it is of no interest.
pub(super) fn resize<T: Clone + Default>(scratch: &mut Vec<T>, length: usize) {
    if scratch.len() < length {
        scratch.resize(length, T::default());
    }
}

#[cfg(test)]
mod tests;
