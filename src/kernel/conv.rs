//! Convolution, its transpose, and the linear layer: channels last, no im2col.
//!
//! In channels-last order the taps of a kernel row lie side by side, so a few positions form a small matrix
//! product on overlapping rows of the input itself. Two cases have better: columns of one-hot bases choose
//! weights instead of multiplying them (with the same bits), and deep one-dimensional layers take
//! half the multiplications ([`winograd`]). Where bfloat16 is allowed, deep layers take it if that is fewer
//! multiplications still ([`way`]). Weights are packed once, when first used.

mod filters;
mod one_hot;
mod pairs;
mod part;
mod rounded;
mod row;
mod way;
mod winograd;

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::product::Pair;
use super::rule;
use super::tile::{NOT_ONE_HOT, OneHot, Run};
use super::{Instructions, Precision};
use crate::error::{Error, Result};
use filters::Filters;
use row::Row;
use way::Way;
use winograd::Winograd;

/// Positions that one thread computes at a time: a multiple of every tile's height.
const SEGMENT: usize = 240;

/// Positions of a piece, where a single row is shared among threads.
const PIECE: usize = 48;

/// Positions that are looked up or multiplied together where a segment has columns of both kinds.
const MIXED: usize = 24;

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

/// The shapes of one convolution of an image `[H, W, C]`.
struct Image<'a> {
    conv: &'a Conv,
    size: [usize; 2],
    output: [usize; 2],
}

impl Image<'_> {
    /// Computes `count` outputs of the row `y` from column `x` on.
    fn segment(&self, image: &[f32], [y, x]: [usize; 2], output: &mut [f32], scratch: &mut Scratch) {
        let Conv { filters, stride, dilation, padding, .. } = self.conv;
        let channels = filters.inputs;
        let count = output.len() / filters.outputs;
        let span = (count - 1) * stride[1] + (filters.kernel[1] - 1) * dilation[1] + 1;
        let first_row = (y * stride[0]) as isize - padding.top as isize;
        let first = (x * stride[1]) as isize - padding.left as isize;
        let last_row = first_row + ((filters.kernel[0] - 1) * dilation[0]) as isize;
        let [height, width] = self.size;
        let inside =
            first_row >= 0 && first >= 0 && last_row < height as isize && first as usize + span <= width;
        let Scratch { gathered, codes, .. } = scratch;
        let (input, pitch) = if inside {
            let start = (first_row as usize * width + first as usize) * channels;
            (&image[start..], dilation[0] * width * channels)
        } else {
            self.gather(image, [first_row, first], span, gathered);
            (&gathered[..], span * channels)
        };
        if channels == 4 && filters.kernel[0] == 1 {
            one_hot::encode(&input[..span * 4], codes);
            self.look_up(input, codes, output);
        } else {
            self.multiply(input, pitch, output);
        }
    }

    /// Computes outputs whose inputs lie in rows `pitch` apart.
    fn multiply(&self, input: &[f32], pitch: usize, output: &mut [f32]) {
        let Conv { filters, stride, relu, .. } = self.conv;
        let runs = self.runs(pitch);
        let job = filters.packed().job(input, stride[1] * filters.inputs, &runs, *relu);
        Instructions::detect().run(&job, output.len() / filters.outputs, output);
    }

    /// Computes outputs from columns of four numbers, of which those with a code are looked up.
    fn look_up(&self, input: &[f32], codes: &[u32], output: &mut [f32]) {
        let Conv { filters, stride, dilation, relu, .. } = self.conv;
        let (taps, step, dilation) = (filters.kernel[1], stride[1], dilation[1]);
        let clean = !codes.contains(&NOT_ONE_HOT);
        let positions = if clean { output.len() / filters.outputs } else { MIXED };
        for (block, output) in output.chunks_mut(positions * filters.outputs).enumerate() {
            let (first, count) = (block * positions * step, output.len() / filters.outputs);
            let codes = &codes[first..][..(count - 1) * step + (taps - 1) * dilation + 1];
            if clean || !codes.contains(&NOT_ONE_HOT) {
                let (weights, bias, channels) = (filters.columns(), filters.packed().bias(), filters.outputs);
                let job = OneHot { codes, step, dilation, taps, weights, bias, channels, relu: *relu };
                Instructions::detect().look_up(&job, count, output);
            } else {
                self.multiply(&input[first * 4..], 0, output);
            }
        }
    }

    /// Computes the row `y`; `residual` is added to it, `[W, outputs]`.
    fn row(
        &self,
        image: &[f32],
        y: usize,
        residual: Option<&[f32]>,
        output: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let pixels = y * self.size[1] * self.conv.filters.inputs;
        match self.conv.way() {
            Way::Winograd(filters) => {
                let row = self.flat_row(&image[pixels..], residual);
                let steps = 0..row.steps();
                filters.run(Instructions::detect(), &row, steps, (output, 0), &mut scratch.winograd);
            }
            Way::Rounded(filters) => {
                let row = self.flat_row(&image[pixels..], residual);
                filters.run(Instructions::detect(), &row, 0, output, &mut scratch.rounded);
            }
            Way::Direct => {
                let outputs = self.conv.filters.outputs;
                for (segment, output) in output.chunks_mut(SEGMENT * outputs).enumerate() {
                    self.segment(image, [y, segment * SEGMENT], output, scratch);
                }
                for (output, residual) in output.iter_mut().zip(residual.into_iter().flatten()) {
                    *output += residual;
                }
            }
        }
    }

    /// Describes the row that `input` begins with.
    fn flat_row<'a>(&self, input: &'a [f32], residual: Option<&'a [f32]>) -> Row<'a> {
        let Conv { padding, stride, dilation, relu, .. } = self.conv;
        Row {
            input,
            length: self.size[1],
            left: padding.left,
            stride: stride[1],
            dilation: dilation[1],
            count: self.output[1],
            relu: *relu,
            residual,
        }
    }

    /// Copies the rows that a segment needs, zeros where the image has none.
    fn gather(&self, image: &[f32], [row, column]: [isize; 2], span: usize, scratch: &mut Vec<f32>) {
        let Conv { filters, dilation, .. } = self.conv;
        let [height, width] = self.size;
        let channels = filters.inputs;
        scratch.clear();
        scratch.resize(filters.kernel[0] * span * channels, 0.0);
        let from = column.clamp(0, width as isize);
        let to = (column + span as isize).clamp(from, width as isize);
        for (tap, line) in scratch.chunks_exact_mut(span * channels).enumerate() {
            let y = row + (tap * dilation[0]) as isize;
            if y < 0 || y >= height as isize || from == to {
                continue;
            }
            let start = (y as usize * width + from as usize) * channels;
            let length = (to - from) as usize * channels;
            line[(from - column) as usize * channels..][..length].copy_from_slice(&image[start..][..length]);
        }
    }

    /// Returns where the taps lie; `pitch` is the distance between kernel rows.
    fn runs(&self, pitch: usize) -> Vec<Run> {
        let Conv { filters, dilation, .. } = self.conv;
        let ([height, width], channels) = (filters.kernel, filters.inputs);
        let (pieces, length) = if dilation[1] == 1 { (1, width * channels) } else { (width, channels) };
        let place = |(y, x)| Run { offset: y * pitch + x * dilation[1] * channels, length };
        (0..height).flat_map(|y| (0..pieces).map(move |x| (y, x))).map(place).collect()
    }
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
        self.input_gradient(&gradient, [height, width]).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::testing::check_completeness;
    use super::super::testing::*;
    use super::filters::Packed;
    use super::*;
    use candle_core::Device;
    use proptest::prelude::*;

    /// A convolution as its definition has it, in f64. `weights` is `[outputs, inputs, rows, columns]`.
    fn naive(input: &Tensor, weights: &[f32], shape: [usize; 4], bias: &[f32], conv: &Conv) -> Vec<f64> {
        let (batch, height, width, _) = input.dims4().unwrap();
        let [outputs, inputs, rows, columns] = shape;
        let values = flat(input);
        let [out_height, out_width] = conv.output_size([height, width]).unwrap();
        let at = |b: usize, y: isize, x: isize, c: usize| {
            let inside = y >= 0 && x >= 0 && y < height as isize && x < width as isize;
            let index = |y: isize, x: isize| ((b * height + y as usize) * width + x as usize) * inputs + c;
            if inside { f64::from(values[index(y, x)]) } else { 0.0 }
        };
        let mut all = Vec::new();
        for b in 0..batch {
            for (y, x) in (0..out_height).flat_map(|y| (0..out_width).map(move |x| (y, x))) {
                for o in 0..outputs {
                    let mut sum = f64::from(bias[o]);
                    for (c, ky, kx) in (0..inputs)
                        .flat_map(|c| (0..rows).flat_map(move |y| (0..columns).map(move |x| (c, y, x))))
                    {
                        let iy =
                            (y * conv.stride[0] + ky * conv.dilation[0]) as isize - conv.padding.top as isize;
                        let ix = (x * conv.stride[1] + kx * conv.dilation[1]) as isize
                            - conv.padding.left as isize;
                        let weight = weights[((o * inputs + c) * rows + ky) * columns + kx];
                        sum += at(b, iy, ix, c) * f64::from(weight);
                    }
                    all.push(if conv.relu { sum.max(0.0) } else { sum });
                }
            }
        }
        all
    }

    prop_compose! {
        /// A convolution, its weights and an input that it fits.
        fn cases()(
            shape in (1usize..40, 1usize..6, 1usize..4, 1usize..6).prop_map(|(o, i, h, w)| [o, i, h, w]),
            stride in [1usize..3, 1usize..4],
            dilation in [1usize..3, 1usize..4],
            padding in (0usize..3, 0usize..3, 0usize..5, 0usize..5),
            more in (0usize..3, 0usize..20),
            batch in 1usize..4,
            relu: bool,
            seed: u64,
        ) -> (Conv, Vec<f32>, [usize; 4], Vec<f32>, Tensor) {
            let weights = noise(shape.iter().product(), seed);
            let bias = noise(shape[0], seed ^ 1);
            let (top, bottom, left, right) = padding;
            let conv = Conv::new(&weights, shape, &bias)
                .with_stride(stride)
                .with_dilation(dilation)
                .with_padding(Padding { top, bottom, left, right });
            let conv = if relu { conv.with_relu() } else { conv };
            let height = (dilation[0] * (shape[2] - 1) + 1 + more.0).saturating_sub(top + bottom).max(1);
            let width = (dilation[1] * (shape[3] - 1) + 1 + more.1).saturating_sub(left + right).max(1);
            let input = noise_tensor(&[batch, height, width, shape[1]], seed ^ 2);
            (conv, weights, shape, bias, input)
        }
    }

    proptest! {
        #[test]
        fn a_convolution_is_what_its_definition_says((conv, weights, shape, bias, input) in cases()) {
            let output = flat(&conv.forward(&input).unwrap());
            let expected = naive(&input, &weights, shape, &bias, &conv);
            prop_assert_eq!(output.len(), expected.len());
            for (output, expected) in output.iter().zip(expected) {
                prop_assert!((f64::from(*output) - expected).abs() < 1e-4, "{} is not {}", output, expected);
            }
        }

        #[test]
        fn a_row_alone_has_the_bits_it_has_in_a_batch((conv, _, _, _, input) in cases()) {
            let together = bits(&conv.forward(&input).unwrap());
            let alone: Vec<u32> = (0..input.dim(0).unwrap())
                .flat_map(|row| bits(&conv.forward(&input.narrow(0, row, 1).unwrap()).unwrap()))
                .collect();
            prop_assert_eq!(together, alone);
        }

        /// ⟨conv(x), y⟩ = ⟨x, convᵀ(y)⟩: the transpose, and so the gradient, is the adjoint.
        #[test]
        fn the_transpose_is_the_adjoint((conv, weights, shape, _, input) in cases()) {
            let conv = Conv { relu: false, ..conv };
            let zero = Conv { filters: Conv::new(&weights, shape, &vec![0.0; shape[0]]).filters, ..conv };
            let output = zero.forward(&input).unwrap();
            let other = noise_tensor(output.dims(), 5);
            let back = zero.transpose(&other, [input.dim(1).unwrap(), input.dim(2).unwrap()]).unwrap();
            prop_assert_eq!(back.dims(), input.dims());
            let dot = |a: &Tensor, b: &Tensor| -> f64 {
                flat(a).iter().zip(flat(b)).map(|(a, b)| f64::from(*a) * f64::from(b)).sum()
            };
            let (left, right) = (dot(&output, &other), dot(&input, &back));
            prop_assert!((left - right).abs() < 1e-3 * left.abs().max(1.0), "{} is not {}", left, right);
        }

        #[test]
        fn a_deep_layer_is_what_its_definition_says_alone_and_in_a_batch(
            (outputs, inputs, width) in (8usize..40, 8usize..40, 3usize..20), dilation in 1usize..9,
            (left, right) in (0usize..12, 0usize..12), more in 0usize..60, relu: bool, seed: u64,
        ) {
            // Few channels are filtered this way only without dilation.
            let dilation = if inputs.min(outputs) < 16 { 1 } else { dilation };
            let shape = [outputs, inputs, 1, width];
            let weights = noise(outputs * inputs * width, seed);
            let bias = noise(outputs, seed ^ 1);
            let conv = Conv::new(&weights, shape, &bias)
                .with_dilation([1, dilation])
                .with_padding(Padding { left, right, ..Padding::default() });
            let conv = if relu { conv.with_relu() } else { conv };
            let length = (dilation * (width - 1) + 1 + more).saturating_sub(left + right).max(1);
            let input = noise_tensor(&[2, 1, length, inputs], seed ^ 2);
            prop_assert!(matches!(conv.way(), Way::Winograd(_)) || inputs.min(outputs) < 16);
            let output = conv.forward(&input).unwrap();
            for (output, expected) in flat(&output).iter().zip(naive(&input, &weights, shape, &bias, &conv)) {
                prop_assert!((f64::from(*output) - expected).abs() < 1e-4, "{} is not {}", output, expected);
            }
            let alone = conv.forward(&input.narrow(0, 1, 1).unwrap()).unwrap();
            prop_assert_eq!(bits(&alone), bits(&output.narrow(0, 1, 1).unwrap()));
        }

        #[test]
        fn in_bfloat16_a_layer_is_its_definition_on_rounded_numbers(
            (outputs, inputs, width) in (1usize..70, 1usize..40, 1usize..6), stride in 1usize..3,
            dilation in 1usize..5, (left, right) in (0usize..9, 0usize..9), more in 0usize..40, relu: bool, seed: u64,
        ) {
            let shape = [outputs, inputs, 1, width];
            let weights = rounded(&noise(outputs * inputs * width, seed));
            let bias = noise(outputs, seed ^ 1);
            let conv = Conv::new(&weights, shape, &bias)
                .with_stride([1, stride])
                .with_dilation([1, dilation])
                .with_padding(Padding { left, right, ..Padding::default() });
            let conv = if relu { conv.with_relu() } else { conv };
            let length = (dilation * (width - 1) + 1 + more).saturating_sub(left + right).max(1);
            let input = noise(length * inputs, seed ^ 2);
            let exact = Tensor::from_vec(rounded(&input), (1, 1, length, inputs), &Device::Cpu).unwrap();
            let expected = naive(&exact, &weights, shape, &bias, &conv);
            let count = expected.len() / outputs;
            let residual = noise(count * outputs, seed ^ 3);
            let row = Row {
                input: &input, length, left, stride, dilation, count, relu, residual: Some(&residual),
            };
            let mut runs = Instructions::available().into_iter().map(|instructions| {
                let mut output = vec![f32::NAN; count * outputs];
                // In two parts, as two threads would.
                let (first, second) = output.split_at_mut(count / 2 * outputs);
                let mut scratch = Vec::new();
                conv.filters.rounded().run(instructions, &row, 0, first, &mut scratch);
                conv.filters.rounded().run(instructions, &row, count / 2, second, &mut scratch);
                output
            });
            let widest = runs.next().unwrap();
            for other in runs {
                prop_assert!(widest.iter().zip(&other).all(|(a, b)| a.to_bits() == b.to_bits()));
            }
            for ((found, expected), residual) in widest.iter().zip(expected).zip(&residual) {
                let expected = expected + f64::from(*residual);
                prop_assert!((f64::from(*found) - expected).abs() < 1e-4, "{} is not {}", found, expected);
            }
        }

        #[test]
        fn in_bfloat16_a_row_alone_has_the_bits_it_has_in_a_batch_whatever_the_way(
            (outputs, inputs, width) in (16usize..70, 8usize..40, 1usize..8), dilation in 1usize..4,
            length in 30usize..400, seed: u64,
        ) {
            let conv = Conv::new(&noise(outputs * inputs * width, seed), [outputs, inputs, 1, width], &noise(outputs, 1))
                .with_dilation([1, dilation])
                .with_precision(Precision::Bf16);
            let input = noise_tensor(&[3, length, inputs], seed ^ 2);
            let together = conv.forward_1d(&input).unwrap();
            for row in 0..3 {
                let alone = conv.forward_1d(&input.narrow(0, row, 1).unwrap()).unwrap();
                prop_assert_eq!(bits(&alone), bits(&together.narrow(0, row, 1).unwrap()));
            }
        }

        #[test]
        fn bases_that_are_looked_up_have_the_bits_of_products(
            (outputs, width) in (1usize..70, 1usize..9), stride in 1usize..3, dilation in 1usize..4,
            bases in prop::collection::vec(0usize..40, 40..90), relu: bool, seed: u64,
        ) {
            let conv = Conv::new(&noise(outputs * 4 * width, seed), [outputs, 4, 1, width], &noise(outputs, seed ^ 1))
                .with_stride([1, stride])
                .with_dilation([1, dilation]);
            let conv = if relu { conv.with_relu() } else { conv };
            // Mostly bases; now and then nothing, or a quarter of each.
            let column = |&base: &usize| match base {
                38 => [0.25; 4],
                39 => [0.0; 4],
                _ => std::array::from_fn(|letter| if letter == base % 4 { 1.0 } else { 0.0 }),
            };
            let columns: Vec<f32> = bases.iter().flat_map(column).collect();
            let input = Tensor::from_slice(&columns, (1, 1, bases.len(), 4), &Device::Cpu).unwrap();
            let size = [1, bases.len()];
            let image = Image { conv: &conv, size, output: conv.output_size(size).unwrap() };
            let mut products = vec![f32::NAN; image.output[1] * outputs];
            image.multiply(&columns, 0, &mut products);
            let products: Vec<u32> = products.into_iter().map(f32::to_bits).collect();
            prop_assert_eq!(bits(&conv.forward(&input).unwrap()), products);
        }

        #[test]
        fn all_instructions_look_up_and_filter_the_same_bits(
            (outputs, inputs, width) in (8usize..40, 8usize..40, 3usize..6), dilation in 1usize..4,
            count in 1usize..40, relu: bool, seed: u64,
        ) {
            let dilation = if inputs.min(outputs) < 16 { 1 } else { dilation };
            let filters = Winograd::new(&noise(outputs * inputs * width, seed), [outputs, width, inputs], &noise(outputs, 1), Precision::F32);
            let input = noise(count * inputs, seed ^ 1);
            let residual = noise(count * outputs, seed ^ 2);
            let row = Row {
                input: &input, length: count, left: dilation, stride: 1, dilation, count, relu, residual: Some(&residual),
            };
            let codes: Vec<u32> = (0..count + dilation * width).map(|i| ((seed >> (i % 60)) % 5 * 16) as u32).collect();
            let plain = Filters::new(noise(outputs * 4 * width, seed), &noise(outputs, 3), [outputs, 1, width, 4]);
            let job = OneHot {
                codes: &codes, step: 1, dilation, taps: width, weights: plain.columns(),
                bias: plain.packed().bias(), channels: outputs, relu,
            };
            let mut outputs = Instructions::available().into_iter().map(|instructions| {
                let mut output = vec![f32::NAN; 2 * count * outputs];
                let (filtered, looked_up) = output.split_at_mut(count * outputs);
                filters.run(instructions, &row, 0..row.steps(), (filtered, 0), &mut winograd::Scratch::default());
                instructions.look_up(&job, count, looked_up);
                output.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            });
            let portable = outputs.next_back().unwrap();
            for output in outputs {
                prop_assert_eq!(&output, &portable);
            }
        }

        #[test]
        fn all_instructions_compute_the_same_bits(
            taps in 1usize..90, channels in 1usize..70, positions in 1usize..40, step in 1usize..5, relu: bool,
            seed: u64,
        ) {
            let input = noise((positions - 1) * step + taps + 3, seed);
            let filters = Packed::new(&noise(channels * taps, seed ^ 1), taps, &noise(channels, seed ^ 2), true);
            let runs = [Run { offset: 3, length: taps / 2 }, Run { offset: 0, length: taps - taps / 2 }];
            let job = filters.job(&input, step, &runs, relu);
            let mut outputs = Instructions::available().into_iter().map(|instructions| {
                let mut output = vec![f32::NAN; positions * channels];
                instructions.run(&job, positions, &mut output);
                output.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            });
            let portable = outputs.next_back().unwrap();
            for output in outputs {
                prop_assert_eq!(&output, &portable);
            }
        }
    }

    /// Rounds to the nearest bfloat16.
    fn rounded(values: &[f32]) -> Vec<f32> {
        let round = |value: &f32| {
            let bits = value.to_bits();
            f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
        };
        values.iter().map(round).collect()
    }

    #[test]
    fn the_error_of_each_way_in_bfloat16_is_what_the_parity_card_says() {
        for (width, bound) in [(3, 0.009), (11, 0.011)] {
            let normal = |count: usize, seed: u64| -> Vec<f32> {
                noise(12 * count, seed).chunks(12).map(|sum| 0.5 * sum.iter().sum::<f32>()).collect()
            };
            let shape = [64, 64, 1, width];
            let weights = normal(64 * 64 * width, 1);
            let input: Vec<f32> = normal(100 * 64, 2).into_iter().map(|x| x.max(0.0)).collect();
            let conv = Conv::new(&weights, shape, &[0.0; 64]);
            let count = 100 - width + 1;
            let row = Row {
                input: &input,
                length: 100,
                left: 0,
                stride: 1,
                dilation: 1,
                count,
                relu: false,
                residual: None,
            };
            let image = Tensor::from_slice(&input, (1, 1, 100, 64), &Device::Cpu).unwrap();
            let expected = naive(&image, &weights, shape, &[0.0; 64], &conv);
            let error = |output: &[f32]| {
                let square = |x: f64| x * x;
                let of: f64 = expected.iter().copied().map(square).sum();
                let by: f64 = output.iter().zip(&expected).map(|(a, b)| square(f64::from(*a) - b)).sum();
                (by / of).sqrt()
            };
            let mut output = vec![f32::NAN; count * 64];
            conv.filters.rounded().run(Instructions::detect(), &row, 0, &mut output, &mut Vec::new());
            assert!(error(&output) < 0.0026, "width {width}: {}", error(&output));
            let runs = Instructions::available().into_iter().map(|instructions| {
                let mut output = vec![f32::NAN; count * 64];
                let scratch = &mut winograd::Scratch::default();
                let filters = conv.filters.rounded_winograd();
                filters.run(instructions, &row, 0..row.steps(), (&mut output, 0), scratch);
                output
            });
            let runs: Vec<Vec<f32>> = runs.collect();
            assert!(error(&runs[0]) < bound, "width {width}: {}", error(&runs[0]));
            assert!(runs.iter().all(|run| run == &runs[0]));
        }
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let weights = noise(5 * 3 * 2 * 4, 1);
        let conv = Conv::new(&weights, [5, 3, 2, 4], &noise(5, 2))
            .with_stride([1, 2])
            .with_dilation([1, 2])
            .with_padding(Padding { top: 1, left: 3, right: 1, ..Padding::default() });
        check_gradient(&noise_tensor(&[2, 3, 9, 3], 3), |x| conv.forward(x));
        let shifted = conv.with_relu();
        check_gradient(&noise_tensor(&[1, 3, 8, 3], 4), |x| shifted.forward(x));
    }

    #[test]
    fn multipliers_share_out_the_difference_of_a_pair() {
        let conv = Conv::new(&noise(20 * 18 * 5, 1), [20, 18, 1, 5], &noise(20, 2)).with_relu();
        check_completeness(&noise_tensor(&[4, 30, 18], 3), |x| conv.forward_1d(x));
        let linear = Conv::linear(&noise(50 * 31, 1), [50, 31], &noise(50, 2)).with_relu();
        check_completeness(&noise_tensor(&[6, 31], 3), |x| linear.forward_rows(x));
    }

    #[test]
    fn a_linear_layer_gives_a_row_the_same_bits_in_any_batch() {
        let linear = Conv::linear(&noise(50 * 31, 1), [50, 31], &noise(50, 2)).with_relu();
        let input = noise_tensor(&[300, 31], 3);
        let together = bits(&linear.forward_rows(&input).unwrap());
        for row in [0, 7, 250, 299] {
            let alone = bits(&linear.forward_rows(&input.narrow(0, row, 1).unwrap()).unwrap());
            assert_eq!(alone, together[row * 50..][..50]);
        }
    }

    #[test]
    fn a_wrong_input_is_an_error_and_no_panic() {
        let conv = Conv::new(&noise(2 * 3 * 5, 1), [2, 3, 1, 5], &[0.0; 2]);
        let message = |shape: &[usize]| conv.forward_1d(&noise_tensor(shape, 1)).unwrap_err().to_string();
        assert!(message(&[1, 9, 4]).contains("reads 3 channels"));
        assert!(message(&[1, 4, 3]).contains("5 that the kernel spans"));
        let empty = Tensor::zeros((0, 9, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert_eq!(conv.forward_1d(&empty).unwrap().dims(), [0, 5, 2]);
    }
}
