//! Convolution and its transpose, with the gradient of the weights: no im2col of the whole batch, but strips of
//! a few columns of one image, which stay in cache.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

use super::super::Instructions;
use super::super::conv::{Conv, Padding};
use super::super::product::{self, HEIGHT, Job, Strip, Sums, WIDTH};
use super::{GROUPS, argument, column_sums, output, read, tensor};
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

    fn conv(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Conv> {
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
        let (_, height, width, _) = input.dims4()?;
        let of_input =
            input.track_op().then(|| self.conv.input_gradient(&gradient, [height, width])).transpose()?;
        let of_weight = match weight.track_op() {
            true => Some(weight_gradient(input, &gradient, weight.dims4()?, self.geometry)?),
            false => None,
        };
        let of_bias = match bias.track_op() {
            true => {
                let outputs = bias.dim(0)?;
                Some(tensor(read(&gradient, |gradient| column_sums(gradient, outputs))?, outputs)?)
            }
            false => None,
        };
        Ok((of_input, of_weight, of_bias))
    }
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
        let of_weight = match weight.track_op() {
            true => Some(weight_gradient(&gradient, values, weight.dims4()?, self.geometry)?),
            false => None,
        };
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

/// Values side by side in the padded image that belong to one strip.
struct Piece {
    /// From the first value of a position.
    offset: usize,
    /// Place in the strip.
    place: usize,
    length: usize,
}

#[derive(Default)]
struct Scratch {
    padded: Vec<f32>,
    turned: Vec<f32>,
    taps: Vec<Strip<f32>>,
}

impl WeightJob {
    /// Returns the sums over a batch, `[outputs, rows·columns·inputs]`: those of groups of images, in order.
    fn batch(&self, batch: usize, input: &[f32], gradient: &[f32]) -> Vec<f32> {
        let (pixels, outputs) = (input.len() / batch, gradient.len() / batch);
        let group = batch.div_ceil(GROUPS).max(1);
        let strips = self.strips();
        let parts: Vec<Vec<f32>> = (input.par_chunks(group * pixels))
            .zip(gradient.par_chunks(group * outputs))
            .map(|(input, gradient)| {
                let mut sums = vec![0.0; self.kernel.iter().product()];
                let mut scratch = Scratch::default();
                for (input, gradient) in input.chunks_exact(pixels).zip(gradient.chunks_exact(outputs)) {
                    self.image(input, gradient, &strips, &mut scratch, &mut sums);
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

    /// Returns where the taps `[rows, columns, inputs]` of each strip lie.
    fn strips(&self) -> Vec<Vec<Piece>> {
        let [_, inputs, rows, columns] = self.kernel;
        let [_, _, pitch] = self.padded_size();
        let dilation = self.geometry.dilation;
        let runs = if dilation[1] == 1 { (1, columns * inputs) } else { (columns, inputs) };
        let mut strips: Vec<Vec<Piece>> = Vec::new();
        let mut place = 0;
        for row in 0..rows {
            for run in 0..runs.0 {
                let mut offset = row * dilation[0] * pitch + run * dilation[1] * inputs;
                let mut left = runs.1;
                while left > 0 {
                    let length = left.min(WIDTH - place % WIDTH);
                    if place % WIDTH == 0 {
                        strips.push(Vec::new());
                    }
                    let strip = strips.last_mut().expect("the first place began a strip");
                    strip.push(Piece { offset, place: place % WIDTH, length });
                    (place, offset, left) = (place + length, offset + length, left - length);
                }
            }
        }
        strips
    }

    /// Adds what one image says.
    fn image(
        &self,
        input: &[f32],
        gradient: &[f32],
        strips: &[Vec<Piece>],
        scratch: &mut Scratch,
        sums: &mut [f32],
    ) {
        let Scratch { padded, turned, taps } = scratch;
        let padded = self.pad(input, padded);
        let outputs = self.kernel[0];
        let positions = gradient.len() / outputs;
        turn(gradient, outputs, turned);
        taps.resize(positions, Strip([0.0; WIDTH]));
        let width = sums.len() / outputs;
        let mut tile = Sums([[0.0; WIDTH]; HEIGHT]);
        for (strip, pieces) in strips.iter().enumerate() {
            self.fill(padded, pieces, taps);
            let columns = WIDTH.min(width - strip * WIDTH);
            for (index, sums) in sums.chunks_mut(HEIGHT * width).enumerate() {
                let rows = &turned[index * HEIGHT * positions..];
                let job = Job::new(&[0.0; WIDTH], rows, positions, taps);
                product::multiply(Instructions::detect(), job, sums.len() / width, &mut tile);
                for (sums, tile) in sums.chunks_exact_mut(width).zip(&tile.0) {
                    let sums = &mut sums[strip * WIDTH..][..columns];
                    sums.iter_mut().zip(tile).for_each(|(sum, tile)| *sum += tile);
                }
            }
        }
    }

    /// Copies the columns of one strip, position after position.
    fn fill(&self, padded: &[f32], pieces: &[Piece], taps: &mut [Strip<f32>]) {
        let [_, _, pitch] = self.padded_size();
        let stride = self.geometry.stride;
        let whole = matches!(pieces, [Piece { length: WIDTH, .. }]);
        for (y, taps) in taps.chunks_exact_mut(self.output[1]).enumerate() {
            let row = &padded[y * stride[0] * pitch..];
            for (x, tap) in taps.iter_mut().enumerate() {
                let position = &row[x * stride[1] * self.kernel[1]..];
                if whole {
                    tap.0.copy_from_slice(&position[pieces[0].offset..][..WIDTH]);
                    continue;
                }
                for &Piece { offset, place, length } in pieces {
                    tap.0[place..place + length].copy_from_slice(&position[offset..][..length]);
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

    /// Brings `[outputs, rows, columns, inputs]` into PyTorch's order.
    fn in_order(&self, sums: &[f32]) -> Vec<f32> {
        let [_, inputs, rows, columns] = self.kernel;
        let area = rows * columns;
        let mut values = Vec::with_capacity(sums.len());
        for filter in sums.chunks_exact(area * inputs) {
            for input in 0..inputs {
                values.extend((0..area).map(|tap| filter[tap * inputs + input]));
            }
        }
        values
    }
}

/// Transposes `[rows, columns]`.
fn turn(values: &[f32], columns: usize, turned: &mut Vec<f32>) {
    let rows = values.len() / columns;
    turned.resize(values.len(), 0.0);
    for (row, values) in values.chunks_exact(columns).enumerate() {
        for (column, &value) in values.iter().enumerate() {
            turned[column * rows + row] = value;
        }
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
