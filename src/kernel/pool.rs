//! Pooling over positions, and its inverse by argmax. Ties go to the first position, as in PyTorch.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};
use rayon::prelude::*;

use super::pointwise::values;
use crate::error::Result;

/// Returns the maximum over windows of `size` positions, `stride` apart; an incomplete last window is
/// dropped. `[B, L, C]` to `[B, (L - size) / stride + 1, C]`.
///
/// # Errors
///
/// When the input is shorter than one window.
pub fn max(input: &Tensor, size: usize, stride: usize) -> Result<Tensor> {
    Ok(input.contiguous()?.apply_op1(Max { size, stride })?)
}

/// Returns how many windows fit.
pub(super) fn windows(length: usize, size: usize, stride: usize) -> candle_core::Result<usize> {
    if length < size || size == 0 {
        candle_core::bail!("{length} positions are fewer than the {size} that are pooled");
    }
    Ok((length - size) / stride + 1)
}

/// Computes the maxima over windows of one row, `[L, C]`.
pub(super) fn max_of_row(input: &[f32], channels: usize, size: usize, stride: usize, output: &mut [f32]) {
    for (window, output) in output.chunks_exact_mut(channels).enumerate() {
        let rows = &input[window * stride * channels..][..size * channels];
        output.copy_from_slice(&rows[..channels]);
        for row in rows.chunks_exact(channels).skip(1) {
            for (output, &value) in output.iter_mut().zip(row) {
                // What is no number stays, as in PyTorch.
                *output = if value > *output || value.is_nan() { value } else { *output };
            }
        }
    }
}

/// Returns the maximum over all positions, `[B, L, C]` to `[B, C]`.
///
/// # Errors
///
/// When there is no position.
pub fn global_max(input: &Tensor) -> Result<Tensor> {
    let length = input.dim(1)?;
    Ok(max(input, length, length)?.squeeze(1)?)
}

/// Returns the mean over all positions, `[B, L, C]` to `[B, C]`.
///
/// # Errors
///
/// When the input has not three axes.
pub fn global_mean(input: &Tensor) -> Result<Tensor> {
    Ok(input.contiguous()?.apply_op1(Mean)?)
}

/// Puts `values` `[B, C]` at the position where `maps` `[B, L, C]` is largest, zeros elsewhere: `[B, L, C]`.
/// Differentiable with respect to `values`.
///
/// # Errors
///
/// When the shapes do not belong together.
pub fn unpool(values: &Tensor, maps: &Tensor) -> Result<Tensor> {
    let length = maps.dim(1)?;
    let ones = Tensor::ones(values.shape(), values.dtype(), values.device())?.unsqueeze(1)?;
    let back = MaxBack { size: length, stride: length };
    let chosen = maps.detach().contiguous()?.apply_op2_no_bwd(&ones, &back)?;
    Ok(chosen.broadcast_mul(&values.unsqueeze(1)?)?)
}

#[derive(Clone, Copy)]
struct Max {
    size: usize,
    stride: usize,
}

/// Returns the position of the maximum of one window, for each channel.
fn argmax(rows: &[f32], channels: usize, best: &mut [usize]) {
    best.fill(0);
    for (position, row) in rows.chunks_exact(channels).enumerate().skip(1) {
        for channel in 0..channels {
            if row[channel] > rows[best[channel] * channels + channel] {
                best[channel] = position;
            }
        }
    }
}

impl CustomOp1 for Max {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (batch, length, channels) = layout.shape().dims3()?;
        let count = windows(length, self.size, self.stride)?;
        let input = values(storage, layout)?;
        let mut output = vec![0.0; batch * count * channels];
        output.par_chunks_mut(count * channels).enumerate().for_each(|(b, output)| {
            let row = &input[b * length * channels..][..length * channels];
            max_of_row(row, channels, self.size, self.stride, output);
        });
        Ok((CpuStorage::F32(output), (batch, count, channels).into()))
    }

    fn bwd(&self, input: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let back = MaxBack { size: self.size, stride: self.stride };
        input.contiguous()?.apply_op2_no_bwd(&gradient.contiguous()?, &back).map(Some)
    }
}

/// Carries a gradient to the position of each maximum.
struct MaxBack {
    size: usize,
    stride: usize,
}

impl CustomOp2 for MaxBack {
    fn name(&self) -> &'static str {
        "max_pool_gradient"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (_, length, channels) = layout.shape().dims3()?;
        let (_, count, _) = gradient_layout.shape().dims3()?;
        let (input, gradient) = (values(input, layout)?, values(gradient, gradient_layout)?);
        let mut output = vec![0.0; input.len()];
        output.par_chunks_mut(length * channels).enumerate().for_each(|(b, output)| {
            let rows = &input[b * length * channels..][..length * channels];
            let mut best = vec![0; channels];
            for window in 0..count {
                let start = window * self.stride;
                argmax(&rows[start * channels..][..self.size * channels], channels, &mut best);
                for (channel, &position) in best.iter().enumerate() {
                    output[(start + position) * channels + channel] +=
                        gradient[(b * count + window) * channels + channel];
                }
            }
        });
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }
}

struct Mean;

impl CustomOp1 for Mean {
    fn name(&self) -> &'static str {
        "mean_pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (batch, length, channels) = layout.shape().dims3()?;
        let input = values(storage, layout)?;
        let mut output = vec![0.0; batch * channels];
        output.par_chunks_mut(channels).enumerate().for_each(|(b, output)| {
            for row in input[b * length * channels..][..length * channels].chunks_exact(channels) {
                output.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            output.iter_mut().for_each(|sum| *sum /= length as f32);
        });
        Ok((CpuStorage::F32(output), (batch, channels).into()))
    }

    fn bwd(&self, input: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let length = input.dim(1)? as f64;
        (gradient.unsqueeze(1)? / length)?.broadcast_as(input.shape()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use candle_core::Device;

    #[test]
    fn an_incomplete_window_is_dropped() {
        let input = Tensor::new(&[[[1f32], [5.0], [2.0], [3.0], [9.0]]], &Device::Cpu).unwrap();
        assert_eq!(flat(&max(&input, 2, 2).unwrap()), [5.0, 3.0]);
        assert_eq!(flat(&max(&input, 3, 1).unwrap()), [5.0, 5.0, 9.0]);
        assert!(max(&input, 6, 6).is_err());
    }

    #[test]
    fn the_gradients_are_those_of_finite_differences() {
        let input = noise_tensor(&[2, 11, 3], 1);
        check_gradient(&input, |x| max(x, 3, 2));
        check_gradient(&input, global_max);
        check_gradient(&input, global_mean);
        let maps = noise_tensor(&[2, 7, 3], 2);
        check_gradient(&noise_tensor(&[2, 3], 3), |x| unpool(x, &maps));
    }

    #[test]
    fn a_tie_goes_to_the_first_position() {
        let maps = Tensor::new(&[[[2f32], [7.0], [7.0]]], &Device::Cpu).unwrap();
        let values = Tensor::new(&[[4f32]], &Device::Cpu).unwrap();
        assert_eq!(flat(&unpool(&values, &maps).unwrap()), [0.0, 4.0, 0.0]);
    }
}
