//! Convolution, its transpose, and the linear layer: channels last, no im2col.
//!
//! In channels-last order the taps of a kernel row lie side by side, so a few positions form a small matrix
//! product on overlapping rows of the input itself. Two cases have better: columns of one-hot bases choose
//! weights instead of multiplying them (with the same bits), and deep one-dimensional layers take
//! half the multiplications ([`winograd`]). Where bfloat16 is allowed, deep layers take it if that is fewer
//! multiplications still ([`way`]). Weights are packed once, when first used.

mod filters;
mod image;
mod one_hot;
mod pairs;
mod part;
mod rounded;
mod row;
mod stride;
mod way;
mod winograd;

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::product::Pair;
use super::rule;
use super::{Instructions, Precision};
use crate::error::{Error, Result};
use filters::Filters;
use image::Image;
use way::Way;
use winograd::Winograd;

/// Positions of a piece, where a single row is shared among threads.
const PIECE: usize = 48;

/// Zeros around the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns before.
    pub left: usize,
    /// Columns after.
    pub right: usize,
}

impl Padding {
    /// Returns `amount` columns on both sides, no rows.
    pub fn width(amount: usize) -> Self {
        Self { left: amount, right: amount, ..Self::default() }
    }

    /// Returns `amount` on all four sides.
    pub fn all(amount: usize) -> Self {
        Self { top: amount, bottom: amount, left: amount, right: amount }
    }
}

/// What a convolution over positions is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a> {
    /// `[outputs, taps, inputs]`.
    pub weights: &'a [f32],
    /// One for each output.
    pub bias: &'a [f32],
    /// Outputs, taps, inputs.
    pub shape: [usize; 3],
    /// Positions from one output to the next.
    pub stride: usize,
    /// Positions from one tap to the next.
    pub dilation: usize,
    /// Zeros before the first position.
    pub left: usize,
    /// Whether negative outputs become zero.
    pub relu: bool,
}

/// A convolution (cross-correlation, as in PyTorch and Keras) with its bias and perhaps a ReLU.
///
/// Cheap to clone: the weights are shared.
#[derive(Clone)]
pub struct Conv {
    filters: Arc<Filters>,
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: Padding,
    relu: bool,
    precision: Precision,
    /// Whether Winograd's algorithm is left aside.
    direct: bool,
}

impl fmt::Debug for Conv {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Filters { kernel, inputs, outputs, .. } = &*self.filters;
        let Self { stride, dilation, padding, relu, .. } = self;
        write!(
            f,
            "Conv({inputs} to {outputs}, kernel {kernel:?}, stride {stride:?}, dilation {dilation:?}, "
        )?;
        write!(f, "{padding:?}, relu {relu})")
    }
}

impl Conv {
    /// Packs weights `[outputs, inputs, kernel rows, kernel columns]` (PyTorch's order) and biases.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit the shape.
    pub fn new(weights: &[f32], shape: [usize; 4], bias: &[f32]) -> Self {
        let [outputs, inputs, height, width] = shape;
        let area = height * width;
        assert_eq!((weights.len(), bias.len()), (outputs * inputs * area, outputs), "convolution {shape:?}");
        let mut plain = Vec::with_capacity(weights.len());
        for filter in weights.chunks_exact(inputs * area) {
            for tap in 0..area {
                plain.extend((0..inputs).map(|input| filter[input * area + tap]));
            }
        }
        Self::from_filters(Filters::new(plain, bias, [outputs, height, width, inputs]).into())
    }

    /// Packs a linear layer, weights `[outputs, inputs]`.
    pub fn linear(weights: &[f32], [outputs, inputs]: [usize; 2], bias: &[f32]) -> Self {
        Self::new(weights, [outputs, inputs, 1, 1], bias)
    }

    fn from_filters(filters: Arc<Filters>) -> Self {
        Self {
            filters,
            stride: [1, 1],
            dilation: [1, 1],
            padding: Padding::default(),
            relu: false,
            precision: Precision::F32,
            direct: false,
        }
    }

    /// Sets the zeros around the input.
    pub fn with_padding(self, padding: Padding) -> Self {
        Self { padding, ..self }
    }

    /// Sets the steps from one output to the next, `[rows, columns]`.
    pub fn with_stride(self, stride: [usize; 2]) -> Self {
        Self { stride, ..self }
    }

    /// Sets the steps from one tap to the next, `[rows, columns]`.
    pub fn with_dilation(self, dilation: [usize; 2]) -> Self {
        Self { dilation, ..self }
    }

    /// Makes negative outputs zero, in the same pass.
    pub fn with_relu(self) -> Self {
        Self { relu: true, ..self }
    }

    /// Allows products of bfloat16, with sums in 32 bits, where that is faster (there are none of bytes:
    /// [`Precision::Int8`] allows the same). Gradients stay in 32 bits.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Returns in what numbers the layer multiplies.
    pub fn precision(&self) -> Precision {
        if self.way().is_rounded() { Precision::Bf16 } else { Precision::F32 }
    }

    /// Returns what the layer is made of, if it goes over positions alone.
    pub fn parameters(&self) -> Option<Parameters<'_>> {
        let Filters { kernel: [height, width], inputs, outputs, ref plain, .. } = *self.filters;
        (height == 1).then(|| Parameters {
            weights: plain,
            bias: self.filters.bias(),
            shape: [outputs, width, inputs],
            stride: self.stride[1],
            dilation: self.dilation[1],
            left: self.padding.left,
            relu: self.relu,
        })
    }

    /// Returns the number of output channels.
    pub fn outputs(&self) -> usize {
        self.filters.outputs
    }

    /// Convolves `[B, H, W, C]`.
    ///
    /// # Errors
    ///
    /// When the channels differ from the weights', or the padded input is smaller than the kernel.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        Ok(input.contiguous()?.apply_op1(self.clone())?)
    }

    /// Convolves `[B, L, C]`.
    ///
    /// # Errors
    ///
    /// As [`Conv::forward`].
    pub fn forward_1d(&self, input: &Tensor) -> Result<Tensor> {
        Ok(self.forward(&input.unsqueeze(1)?)?.squeeze(1)?)
    }

    /// Applies a linear layer to every row of `[…, C]`.
    ///
    /// # Errors
    ///
    /// As [`Conv::forward`].
    pub fn forward_rows(&self, input: &Tensor) -> Result<Tensor> {
        // The rows of the batch become positions, so that they share each weight that is read.
        let mut shape = input.dims().to_vec();
        let channels = shape.pop().ok_or_else(|| Error::data("a linear layer needs at least one axis"))?;
        let rows = input.elem_count() / channels.max(1);
        let output = self.forward(&input.contiguous()?.reshape((1, 1, rows, channels))?)?;
        shape.push(self.outputs());
        Ok(output.reshape(shape)?)
    }

    /// Convolves the other way (PyTorch's ConvTranspose2d): `[B, H', W', outputs]` to `[B, H, W, inputs]`,
    /// where `size` is `[H, W]`. No bias, no ReLU.
    ///
    /// # Errors
    ///
    /// When the shapes do not belong together.
    pub fn transpose(&self, output: &Tensor, size: [usize; 2]) -> Result<Tensor> {
        Ok(self.input_gradient(output, size)?)
    }

    pub(super) fn input_gradient(&self, gradient: &Tensor, size: [usize; 2]) -> candle_core::Result<Tensor> {
        if let Some(phases) = self.phases(gradient, size)? {
            return self.strided_input_gradient(gradient, &phases, size);
        }
        self.spread_input_gradient(gradient, size)
    }

    /// Returns the gradient of an input of this size, from the outputs' with zeros between them for strides.
    fn spread_input_gradient(&self, gradient: &Tensor, size: [usize; 2]) -> candle_core::Result<Tensor> {
        let spread = spread(gradient, self.stride)?;
        let (_, height, width, _) = spread.dims4()?;
        let before = [self.padding.top, self.padding.left];
        // A full correlation reaches every input that an output has seen; the padding's own share is cut.
        let mut around = [[0usize; 2]; 2];
        let mut cut = [0usize; 2];
        for axis in 0..2 {
            let reach = self.dilation[axis] * (self.filters.kernel[axis] - 1);
            around[axis][0] = reach.saturating_sub(before[axis]);
            cut[axis] = before[axis].saturating_sub(reach);
            let covered = around[axis][0] + [height, width][axis];
            around[axis][1] = (size[axis] + cut[axis] + reach).saturating_sub(covered);
        }
        let [[top, bottom], [left, right]] = around;
        let back = Self {
            dilation: self.dilation,
            padding: Padding { top, bottom, left, right },
            ..Self::from_filters(self.filters.flip().clone())
        };
        let full = spread.contiguous()?.apply_op1(back)?;
        full.narrow(1, cut[0], size[0])?.narrow(2, cut[1], size[1])
    }
}

/// Puts `stride - 1` zeros after each row and column but the last.
fn spread(tensor: &Tensor, stride: [usize; 2]) -> candle_core::Result<Tensor> {
    let mut tensor = tensor.clone();
    for (axis, step) in [(1, stride[0]), (2, stride[1])] {
        if step > 1 {
            let length = tensor.dim(axis)?;
            let wide = tensor.unsqueeze(axis + 1)?.pad_with_zeros(axis + 1, 0, step - 1)?;
            tensor = wide.flatten(axis, axis + 1)?.narrow(axis, 0, (length - 1) * step + 1)?;
        }
    }
    Ok(tensor)
}

/// Buffers of one thread.
#[derive(Default)]
struct Scratch {
    gathered: Vec<f32>,
    codes: Vec<u32>,
    rounded: Vec<Pair>,
    winograd: winograd::Scratch,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Conv {
    fn output_size(&self, size: [usize; 2]) -> candle_core::Result<[usize; 2]> {
        let Padding { top, bottom, left, right } = self.padding;
        let padded = [size[0] + top + bottom, size[1] + left + right];
        let mut output = [0; 2];
        for axis in 0..2 {
            let reach = self.dilation[axis] * (self.filters.kernel[axis] - 1) + 1;
            if padded[axis] < reach {
                candle_core::bail!(
                    "{} positions are fewer than the {reach} that the kernel spans: use longer sequences",
                    padded[axis]
                );
            }
            output[axis] = (padded[axis] - reach) / self.stride[axis] + 1;
        }
        Ok(output)
    }

    /// Returns length and channels of the output of a row `[L, C]`.
    pub(super) fn output_1d(&self, [length, channels]: [usize; 2]) -> candle_core::Result<[usize; 2]> {
        self.check_channels(channels)?;
        Ok([self.output_size([1, length])?[1], self.filters.outputs])
    }

    /// Convolves one row `[L, C]` on this thread; where `residual`, the row is added to what comes out.
    pub(super) fn run_1d(&self, input: &[f32], length: usize, residual: bool, output: &mut [f32]) {
        let image = Image { conv: self, size: [1, length], output: [1, output.len() / self.filters.outputs] };
        let residual = residual.then_some(input);
        SCRATCH.with_borrow_mut(|scratch| image.row(input, 0, residual, output, scratch));
    }

    fn check_channels(&self, channels: usize) -> candle_core::Result<()> {
        if channels != self.filters.inputs {
            candle_core::bail!("the layer reads {} channels, its input has {channels}", self.filters.inputs);
        }
        Ok(())
    }

    /// Computes a batch of images.
    fn compute(&self, input: &[f32], image: &Image) -> Vec<f32> {
        let row = image.output[1] * self.filters.outputs;
        let pixels = image.size[0] * image.size[1] * self.filters.inputs;
        let images = input.len() / pixels.max(1);
        let mut output = vec![0.0; images * image.output[0] * row];
        // Enough work for a thread to be worth waking: about a tenth of a millisecond.
        let work = row * self.filters.taps() + 1;
        let least = (5_000_000 / work).max(1);
        let apart = self.dilation[1] == 1 || !matches!(self.way(), Way::Winograd(_));
        if images * image.output[0] == 1 && apart {
            self.compute_row(input, image, &mut output);
            return output;
        }
        output.par_chunks_mut(row).with_min_len(least).enumerate().for_each(|(index, output)| {
            let (which, y) = (index / image.output[0], index % image.output[0]);
            let image_values = &input[which * pixels..][..pixels];
            SCRATCH.with_borrow_mut(|scratch| image.row(image_values, y, None, output, scratch));
        });
        output
    }

    /// Computes a single row, as of a linear layer: its pieces are shared out.
    fn compute_row(&self, input: &[f32], image: &Image, output: &mut [f32]) {
        let outputs = self.filters.outputs;
        let (way, row) = (self.way(), image.flat_row(input, None));
        // A piece of Winograd's is of whole blocks.
        let (steps, positions) = match &way {
            Way::Winograd(filters) => (filters.block(1), Winograd::positions(filters.block(1))),
            Way::Direct | Way::Rounded(_) => (0, PIECE),
        };
        let least = (5_000_000 / (positions * outputs * self.filters.taps() + 1)).max(1);
        let pieces = output.par_chunks_mut(positions * outputs).with_min_len(least).enumerate();
        pieces.for_each(|(index, output)| {
            let first = index * positions;
            SCRATCH.with_borrow_mut(|scratch| match &way {
                Way::Winograd(filters) => {
                    let steps = index * steps..((index + 1) * steps).min(row.steps());
                    let place = (output, first);
                    filters.run(Instructions::detect(), &row, steps, place, &mut scratch.winograd);
                }
                Way::Rounded(filters) => {
                    filters.run(Instructions::detect(), &row, first, output, &mut scratch.rounded);
                }
                Way::Direct => image.segment(input, [0, first], output, scratch),
            });
        });
    }
}

impl CustomOp1 for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (batch, height, width, channels) = layout.shape().dims4()?;
        self.check_channels(channels)?;
        let output = self.output_size([height, width])?;
        let input = super::pointwise::values(storage, layout)?;
        let values = self.compute(input, &Image { conv: self, size: [height, width], output });
        Ok((CpuStorage::F32(values), (batch, output[0], output[1], self.filters.outputs).into()))
    }

    fn bwd(&self, input: &Tensor, output: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let (_, height, width, _) = input.dims4()?;
        let gradient = match self.relu {
            false => gradient.clone(),
            true if rule::rescales() => {
                let before = input.contiguous()?.apply_op1_no_bwd(&Self { relu: false, ..self.clone() })?;
                rule::by_secant(&before, gradient, rule::relu_secant)?
            }
            true => super::pointwise::where_positive(gradient, output)?,
        };
        rule::once_for_pairs(&gradient, |gradient| self.input_gradient(gradient, [height, width])).map(Some)
    }
}

#[cfg(test)]
mod tests;
