//! Convolution and its transpose, with the gradient of the weights: no im2col, but outer products of the taps and the
//! gradient at each position, which lie as they are needed.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

use super::super::Instructions;
use super::super::conv::{Conv, Padding};
use super::super::outer::{self, Walk};
use super::leaf::of_leaf;
use super::sums::column_sums;
use super::{GROUPS, argument, output, read, tensor};
use crate::error::Result;

/// How a kernel moves over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Steps from one output to the next, `[rows, columns]`.
    pub stride: [usize; 2],
    /// Steps from one tap to the next, `[rows, columns]`.
    pub dilation: [usize; 2],
    /// Zeros around the image.
    pub padding: Padding,
}

impl Default for Geometry {
    fn default() -> Self {
        Self { stride: [1, 1], dilation: [1, 1], padding: Padding::default() }
    }
}

impl Geometry {
    /// Returns a kernel that moves by one with these zeros around.
    pub fn padded(padding: Padding) -> Self {
        Self { padding, ..Self::default() }
    }

    pub(super) fn conv(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Conv> {
        let (outputs, inputs, rows, columns) = weight.dims4()?;
        let bias = match bias {
            Some(bias) => read(bias, <[f32]>::to_vec)?,
            None => vec![0.0; outputs],
        };
        let conv = read(weight, |weight| Conv::new(weight, [outputs, inputs, rows, columns], &bias))?;
        Ok(conv.with_stride(self.stride).with_dilation(self.dilation).with_padding(self.padding))
    }
}

/// Convolves `[B, H, W, inputs]` with `weight` `[outputs, inputs, rows, columns]` and `bias` `[outputs]`.
///
/// # Errors
///
/// When the shapes do not belong together, or the padded image is smaller than the kernel.
pub fn conv(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>, geometry: Geometry) -> Result<Tensor> {
    let conv = geometry.conv(weight, bias)?;
    let zeros;
    let bias = match bias {
        Some(bias) => bias,
        None => {
            zeros = Tensor::zeros(weight.dim(0)?, weight.dtype(), weight.device())?;
            &zeros
        }
    };
    let layer = Layer { conv, geometry };
    Ok(input.contiguous()?.apply_op3(weight, bias, layer)?)
}

/// Convolves `[B, L, inputs]` with `weight` `[outputs, inputs, columns]`.
///
/// # Errors
///
/// As [`conv`].
pub fn conv_1d(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>, geometry: Geometry) -> Result<Tensor> {
    Ok(conv(&input.unsqueeze(1)?, &weight.unsqueeze(2)?, bias, geometry)?.squeeze(1)?)
}

struct Layer {
    conv: Conv,
    geometry: Geometry,
}

impl CustomOp3 for Layer {
    fn name(&self) -> &'static str {
        "conv_layer"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        candle_core::CustomOp1::cpu_fwd(&self.conv, input, layout)
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let [of_input, of_weight] = gradients(&self.conv, self.geometry, [input, weight], &gradient)?;
        let of_bias = of_leaf(bias, || {
            let outputs = bias.dim(0)?;
            tensor(read(&gradient, |gradient| column_sums(gradient, outputs))?, outputs)
        })?;
        Ok((of_input, of_weight, of_bias))
    }
}

/// Returns what the gradient of a layer's outputs says of its input and its weights.
pub(super) fn gradients(
    conv: &Conv,
    geometry: Geometry,
    [input, weight]: [&Tensor; 2],
    gradient: &Tensor,
) -> Candle<[Option<Tensor>; 2]> {
    let (_, height, width, _) = input.dims4()?;
    let of_input = input.track_op().then(|| conv.input_gradient(gradient, [height, width])).transpose()?;
    let of_weight = of_leaf(weight, || weight_gradient(input, gradient, weight.dims4()?, geometry))?;
    Ok([of_input, of_weight])
}

/// Convolves the other way (PyTorch's ConvTranspose2d): `[B, H', W', outputs]` to `[B, H, W, inputs]`, where
/// `weight` is `[outputs, inputs, rows, columns]` and `size` is `[H, W]`.
///
/// # Errors
///
/// When the shapes do not belong together.
pub fn conv_transpose(
    values: &Tensor,
    weight: &Tensor,
    geometry: Geometry,
    size: [usize; 2],
) -> Result<Tensor> {
    let transpose = Transpose { conv: Arc::new(geometry.conv(weight, None)?), geometry, size };
    Ok(values.contiguous()?.apply_op2(weight, transpose)?)
}

struct Transpose {
    conv: Arc<Conv>,
    geometry: Geometry,
    size: [usize; 2],
}

impl CustomOp2 for Transpose {
    fn name(&self) -> &'static str {
        "conv_transpose"
    }

    fn cpu_fwd(
        &self,
        values: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let values = tensor(argument(values, layout)?.to_vec(), layout.shape().clone())?;
        let result = self.conv.input_gradient(&values, self.size)?;
        output(read(&result, <[f32]>::to_vec)?, result.shape().clone())
    }

    fn bwd(
        &self,
        values: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let of_values = match values.track_op() {
            true => Some(gradient.apply_op1_no_bwd(&*self.conv)?),
            false => None,
        };
        let of_weight =
            of_leaf(weight, || weight_gradient(&gradient, values, weight.dims4()?, self.geometry))?;
        Ok((of_values, of_weight))
    }
}

/// Returns what the outputs' gradient `[B, H', W', outputs]` says of the weights `[outputs, inputs, rows, columns]`
/// of a convolution of `input` `[B, H, W, inputs]`.
fn weight_gradient(
    input: &Tensor,
    gradient: &Tensor,
    kernel: (usize, usize, usize, usize),
    geometry: Geometry,
) -> Candle<Tensor> {
    let (batch, height, width, _) = input.dims4()?;
    let (_, out_height, out_width, _) = gradient.dims4()?;
    let (outputs, inputs, rows, columns) = kernel;
    let job = WeightJob {
        size: [height, width],
        output: [out_height, out_width],
        kernel: [outputs, inputs, rows, columns],
        geometry,
    };
    let (input_values, gradient_values) = (input.contiguous()?, gradient.contiguous()?);
    let sums =
        read(&input_values, |input| read(&gradient_values, |gradient| job.batch(batch, input, gradient)))??;
    tensor(job.in_order(&sums), vec![outputs, inputs, rows, columns])
}

/// The shapes of a weight gradient.
struct WeightJob {
    size: [usize; 2],
    output: [usize; 2],
    /// Outputs, inputs, rows, columns.
    kernel: [usize; 4],
    geometry: Geometry,
}

/// Taps that lie side by side in the padded image.
struct Taps {
    /// From the first value of a position.
    offset: usize,
    /// Among all taps.
    place: usize,
    count: usize,
}

impl WeightJob {
    /// Returns the sums over a batch: those of groups of images, in order.
    fn batch(&self, batch: usize, input: &[f32], gradient: &[f32]) -> Vec<f32> {
        let (pixels, outputs) = (input.len() / batch, gradient.len() / batch);
        let group = batch.div_ceil(GROUPS).max(1);
        let runs = self.runs();
        let parts: Vec<Vec<f32>> = (input.par_chunks(group * pixels))
            .zip(gradient.par_chunks(group * outputs))
            .map(|(input, gradient)| {
                let mut sums = vec![0.0; self.kernel.iter().product()];
                let mut padded = Vec::new();
                for (input, gradient) in input.chunks_exact(pixels).zip(gradient.chunks_exact(outputs)) {
                    self.image(self.pad(input, &mut padded), gradient, &runs, &mut sums);
                }
                sums
            })
            .collect();
        let mut parts = parts.into_iter();
        let mut sums = parts.next().unwrap_or_default();
        for part in parts {
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        sums
    }

    /// Returns the height, the width and the values of a row of the padded image.
    fn padded_size(&self) -> [usize; 3] {
        let Padding { top, bottom, left, right } = self.geometry.padding;
        let width = self.size[1] + left + right;
        [self.size[0] + top + bottom, width, width * self.kernel[1]]
    }

    /// Returns where the taps `[rows, columns, inputs]` lie.
    fn runs(&self) -> Vec<Taps> {
        let [_, inputs, rows, columns] = self.kernel;
        let [_, _, pitch] = self.padded_size();
        let dilation = self.geometry.dilation;
        let (pieces, count) = if dilation[1] == 1 { (1, columns * inputs) } else { (columns, inputs) };
        let taps = |(row, piece)| Taps {
            offset: row * dilation[0] * pitch + piece * dilation[1] * inputs,
            place: (row * pieces + piece) * count,
            count,
        };
        (0..rows).flat_map(|row| (0..pieces).map(move |piece| (row, piece))).map(taps).collect()
    }

    /// Says whether vectors are of outputs, and not of taps: what fills them better.
    fn is_by_outputs(&self, taps: usize) -> bool {
        outer::cost(taps, self.kernel[0]) <= outer::cost(self.kernel[0], taps)
    }

    /// Adds what one image says to the sums, `[taps, outputs]` or `[outputs, taps]`.
    fn image(&self, padded: &[f32], gradient: &[f32], runs: &[Taps], sums: &mut [f32]) {
        let ([outputs, inputs, ..], size) = (self.kernel, self.output);
        let [_, _, pitch] = self.padded_size();
        let stride = self.geometry.stride;
        let all = sums.len() / outputs;
        for &Taps { offset, place, count } in runs {
            let values = &padded[offset..];
            let taps = Walk { values, pitch: [stride[0] * pitch, stride[1] * inputs], width: count };
            let marks = Walk { values: gradient, pitch: [size[1] * outputs, outputs], width: outputs };
            match self.is_by_outputs(count) {
                true => {
                    let job = outer::Job { left: taps, right: marks, size };
                    outer::add(Instructions::detect(), &job, &mut sums[place * outputs..], outputs);
                }
                false => {
                    let job = outer::Job { left: marks, right: taps, size };
                    outer::add(Instructions::detect(), &job, &mut sums[place..], all);
                }
            }
        }
    }

    /// Returns the image with its zeros around it.
    fn pad<'a>(&self, input: &'a [f32], padded: &'a mut Vec<f32>) -> &'a [f32] {
        let Padding { top, left, .. } = self.geometry.padding;
        if self.geometry.padding == Padding::default() {
            return input;
        }
        let [height, _, pitch] = self.padded_size();
        let inputs = self.kernel[1];
        padded.clear();
        padded.resize(height * pitch, 0.0);
        let rows = padded.chunks_exact_mut(pitch).skip(top);
        for (row, input) in rows.zip(input.chunks_exact(self.size[1] * inputs)) {
            row[left * inputs..][..input.len()].copy_from_slice(input);
        }
        padded
    }

    /// Brings the sums into PyTorch's order.
    fn in_order(&self, sums: &[f32]) -> Vec<f32> {
        let [outputs, inputs, rows, columns] = self.kernel;
        let area = rows * columns;
        let taps = area * inputs;
        let by_outputs = self.is_by_outputs(self.runs().first().map_or(0, |run| run.count));
        let mut values = Vec::with_capacity(sums.len());
        for output in 0..outputs {
            for input in 0..inputs {
                let place = |tap: usize| match by_outputs {
                    true => (tap * inputs + input) * outputs + output,
                    false => output * taps + tap * inputs + input,
                };
                values.extend((0..area).map(|tap| sums[place(tap)]));
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::*;
    use super::*;

    fn geometry() -> Geometry {
        let padding = Padding { top: 1, left: 3, right: 1, bottom: 0 };
        Geometry { stride: [1, 2], dilation: [1, 2], padding }
    }

    #[test]
    fn the_gradients_of_a_convolution_are_those_of_finite_differences() {
        for (geometry, shape) in [
            (geometry(), [5, 3, 2, 4]),
            (Geometry::padded(Padding::all(1)), [3, 1, 3, 3]),
            (Geometry { stride: [2, 2], ..Geometry::padded(Padding::all(1)) }, [14, 2, 3, 3]),
            (Geometry::default(), [2, 12, 1, 3]),
        ] {
            let input = noise_tensor(&[2, 4, 9, shape[1]], 3);
            let (weight, bias) = (noise_tensor(&shape, 1), noise_tensor(&shape[..1], 2));
            check_gradient(&input, |x| conv(x, &weight, Some(&bias), geometry));
            check_gradient(&weight, |w| conv(&input, w, Some(&bias), geometry));
            check_gradient(&bias, |b| conv(&input, &weight, Some(b), geometry));
            check_gradient(&weight, |w| conv(&input, w, None, geometry));
        }
    }

    #[test]
    fn the_gradients_of_a_transposed_convolution_are_those_of_finite_differences() {
        let (values, weight) = (noise_tensor(&[2, 1, 6, 3], 1), noise_tensor(&[3, 1, 4, 5], 2));
        let run = |x: &Tensor, w: &Tensor| conv_transpose(x, w, Geometry::default(), [4, 10]);
        check_gradient(&values, |x| run(x, &weight));
        check_gradient(&weight, |w| run(&values, w));
    }

    #[test]
    fn a_gradient_has_the_same_bits_with_any_number_of_threads() {
        let weight = candle_core::Var::from_tensor(&noise_tensor(&[16, 4, 1, 24], 1)).unwrap();
        let input = noise_tensor(&[37, 1, 60, 4], 2);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let output = conv(&input, weight.as_tensor(), None, Geometry::default()).unwrap();
                let loss = output.sqr().unwrap().sum_all().unwrap();
                bits(loss.backward().unwrap().get(weight.as_tensor()).unwrap())
            })
        };
        assert_eq!(run(1), run(3));
    }
}
