//! Operations on single numbers: ReLU, sigmoid, tanh, a scale and shift per channel.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};

use super::rule;
use crate::error::Result;

/// Returns the numbers of a contiguous f32 tensor.
pub(super) fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        candle_core::bail!("the layer needs a contiguous input");
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Keeps the gradient where the output is positive.
pub(super) fn where_positive(gradient: &Tensor, output: &Tensor) -> candle_core::Result<Tensor> {
    gradient * output.gt(0.0)?.to_dtype(DType::F32)?
}

/// A function of one number.
#[derive(Clone, Copy)]
enum Function {
    Relu,
    Sigmoid,
    Tanh,
}

impl Function {
    /// Returns the slope of the line through two places of the curve.
    fn secant(self, a: f64, b: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match self {
            Self::Relu => rule::relu_secant(a, b),
            Self::Sigmoid => rule::secant(a, b, sigmoid, |x| sigmoid(x) * (1.0 - sigmoid(x))),
            Self::Tanh => rule::secant(a, b, f64::tanh, |x| 1.0 - x.tanh().powi(2)),
        }
    }
}

impl CustomOp1 for Function {
    fn name(&self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
        }
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let input = values(storage, layout)?.iter();
        let output = match self {
            Self::Relu => input.map(|&x| if x < 0.0 { 0.0 } else { x }).collect(),
            Self::Sigmoid => input.map(|&x| 1.0 / (1.0 + (-x).exp())).collect(),
            Self::Tanh => input.map(|&x| x.tanh()).collect(),
        };
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }

    fn bwd(&self, input: &Tensor, output: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if rule::rescales() {
            return rule::by_secant(input, gradient, |a, b| self.secant(a, b)).map(Some);
        }
        Ok(Some(match self {
            Self::Relu => where_positive(gradient, output)?,
            Self::Sigmoid => (gradient * (output - output.sqr()?)?)?,
            Self::Tanh => (gradient * output.sqr()?.affine(-1.0, 1.0)?)?,
        }))
    }
}

/// Makes negative numbers zero. The gradient at zero is zero, as in PyTorch.
pub fn relu(input: &Tensor) -> Result<Tensor> {
    Ok(input.contiguous()?.apply_op1(Function::Relu)?)
}

/// Returns 1 / (1 + e⁻ˣ).
pub fn sigmoid(input: &Tensor) -> Result<Tensor> {
    Ok(input.contiguous()?.apply_op1(Function::Sigmoid)?)
}

/// Returns the hyperbolic tangent.
pub fn tanh(input: &Tensor) -> Result<Tensor> {
    Ok(input.contiguous()?.apply_op1(Function::Tanh)?)
}

/// Returns eˣ over its sum, along the last axis.
pub fn softmax(input: &Tensor) -> Result<Tensor> {
    Ok(input.contiguous()?.apply_op1(Softmax)?)
}

struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let classes = layout.dims().last().copied().unwrap_or(1).max(1);
        let mut output = values(storage, layout)?.to_vec();
        for row in output.chunks_exact_mut(classes) {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            row.iter_mut().for_each(|x| *x = (*x - largest).exp());
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|x| *x /= sum);
        }
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }

    fn bwd(&self, input: &Tensor, output: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if rule::rescales() {
            return rule::by_rows_of_pairs(input, gradient, softmax_multipliers).map(Some);
        }
        let last = output.rank() - 1;
        let weighted = (output * gradient)?;
        (&weighted - output.broadcast_mul(&weighted.sum_keepdim(last)?)?).map(Some)
    }
}

/// Returns ln Σ eˣ along the last axis of `[B, L]`: `[B, 1]`.
pub fn log_sum_exp(input: &Tensor) -> Result<Tensor> {
    Ok(input.contiguous()?.apply_op1(LogSumExp)?)
}

struct LogSumExp;

impl CustomOp1 for LogSumExp {
    fn name(&self) -> &'static str {
        "log_sum_exp"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (batch, length) = layout.shape().dims2()?;
        let rows = values(storage, layout)?.chunks_exact(length.max(1));
        let output = rows.map(|row| {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            largest + row.iter().map(|x| (x - largest).exp()).sum::<f32>().ln()
        });
        Ok((CpuStorage::F32(output.collect()), (batch, 1).into()))
    }

    fn bwd(&self, input: &Tensor, output: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if rule::rescales() {
            return rule::by_rows_of_pairs(input, gradient, log_sum_exp_multipliers).map(Some);
        }
        input.broadcast_sub(output)?.exp()?.broadcast_mul(gradient).map(Some)
    }
}

/// Returns the largest number of two rows, which keeps their exponentials small, and the sums of those.
fn shift_and_sums([a, b]: [&[f32]; 2]) -> (f64, [f64; 2]) {
    let largest = a.iter().chain(b).copied().fold(f32::NEG_INFINITY, f32::max);
    let shift = f64::from(largest);
    (shift, [a, b].map(|row| row.iter().map(|&x| (f64::from(x) - shift).exp()).sum()))
}

fn log_sum_exp_multipliers([a, b]: [&[f32]; 2], gradient: &[f32]) -> Vec<f32> {
    let (shift, sums) = shift_and_sums([a, b]);
    let of_sum = f64::from(gradient[0]) * rule::secant(sums[0], sums[1], f64::ln, f64::recip);
    let pairs = a.iter().zip(b).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    pairs.map(|(a, b)| (of_sum * rule::exp_secant(a, b, shift)) as f32).collect()
}

/// Returns the multipliers of a row, from both rows of a pair and the multipliers of its softmax.
///
/// With z = x − ln Σ eˣ the softmax is p = e^z, and its secant m is between the two p of a pair. The p of either row add up
/// to 1, so that Σ m · Δz = 0, which makes Δ ln Σ eˣ the mean of Δx by the weights m, whatever the rows' own heights.
pub(super) fn softmax_multipliers(rows: [&[f32]; 2], gradient: &[f32]) -> Vec<f32> {
    let [(a, of_a), (b, of_b)] = rows.map(|row| (row, log_sum(row)));
    let logs = a.iter().zip(b).map(|(&a, &b)| [f64::from(a) - of_a, f64::from(b) - of_b]);
    let secants: Vec<f64> = logs.map(|[a, b]| rule::exp_secant(a, b, 0.0)).collect();
    let weighed = secants.iter().zip(gradient).map(|(secant, &gradient)| secant * f64::from(gradient));
    let mean = weighed.sum::<f64>() / secants.iter().sum::<f64>();
    let multiplier = |(secant, &gradient): (&f64, &f32)| (secant * (f64::from(gradient) - mean)) as f32;
    secants.iter().zip(gradient).map(multiplier).collect()
}

/// Returns ln Σ eˣ.
fn log_sum(row: &[f32]) -> f64 {
    let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    largest + row.iter().map(|&x| (f64::from(x) - largest).exp()).sum::<f64>().ln()
}

/// A scale and a shift per channel: what is left of a batch norm in use.
#[derive(Clone, Debug)]
pub struct Affine {
    scale: Arc<[f32]>,
    shift: Arc<[f32]>,
}

impl Affine {
    /// Creates the map `x · scale + shift` over the last axis.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    pub fn new(scale: Vec<f32>, shift: Vec<f32>) -> Self {
        assert_eq!(scale.len(), shift.len());
        Self { scale: scale.into(), shift: shift.into() }
    }

    /// Returns scale and shift, a number for each channel.
    pub fn parameters(&self) -> [&[f32]; 2] {
        [&self.scale, &self.shift]
    }

    /// Applies the map to `[…, C]`.
    ///
    /// # Errors
    ///
    /// When the channels differ.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        Ok(input.contiguous()?.apply_op1(self.clone())?)
    }

    /// Applies the map to rows of channels in place.
    pub(super) fn apply(&self, values: &mut [f32]) {
        for row in values.chunks_exact_mut(self.scale.len().max(1)) {
            for ((x, scale), shift) in row.iter_mut().zip(&*self.scale).zip(&*self.shift) {
                *x = *x * scale + shift;
            }
        }
    }
}

impl CustomOp1 for Affine {
    fn name(&self) -> &'static str {
        "affine"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let channels = self.scale.len();
        if layout.dims().last() != Some(&channels) {
            candle_core::bail!("the layer has {channels} channels, its input is {:?}", layout.shape());
        }
        let mut output = values(storage, layout)?.to_vec();
        self.apply(&mut output);
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let back = Self { scale: self.scale.clone(), shift: vec![0.0; self.scale.len()].into() };
        gradient.contiguous()?.apply_op1(back).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::testing::check_completeness;
    use super::super::testing::*;
    use super::*;

    #[test]
    fn the_gradients_are_those_of_finite_differences() {
        let input = noise_tensor(&[3, 5], 1);
        check_gradient(&input, relu);
        check_gradient(&input, sigmoid);
        check_gradient(&input, tanh);
        check_gradient(&input, softmax);
        check_gradient(&input, log_sum_exp);
        let affine = Affine::new(noise(5, 2), noise(5, 3));
        check_gradient(&input, |x| affine.forward(x));
    }

    #[test]
    fn multipliers_share_out_the_difference_of_a_pair() {
        let input = noise_tensor(&[6, 5], 4).affine(3.0, 0.2).unwrap();
        check_completeness(&input, relu);
        check_completeness(&input, sigmoid);
        check_completeness(&input, tanh);
        check_completeness(&input, softmax);
        check_completeness(&input, log_sum_exp);
        let affine = Affine::new(noise(5, 2), noise(5, 3));
        check_completeness(&input, |x| affine.forward(x));
    }

    #[test]
    fn multipliers_of_a_softmax_stay_small_where_rows_are_of_other_heights() {
        // Divided by their sums, exponentials of the first row are e⁶⁰ times those of the second.
        let input = Tensor::new(&[[60f32, 58.0, 20.0], [0.5, -1.0, 0.0]], &candle_core::Device::Cpu).unwrap();
        check_completeness(&input, softmax);
        let multipliers = softmax_multipliers([&[60.0, 58.0, 20.0], &[0.5, -1.0, 0.0]], &[1.0, 0.0, 0.0]);
        assert!(multipliers.iter().all(|multiplier| multiplier.abs() < 1.0), "{multipliers:?}");
    }

    #[test]
    fn extreme_numbers_do_not_overflow() {
        let input = Tensor::new(&[[1e4f32, 0.0], [-1e4, -1e4]], &candle_core::Device::Cpu).unwrap();
        assert_eq!(flat(&softmax(&input).unwrap()), [1.0, 0.0, 0.5, 0.5]);
        assert_eq!(flat(&sigmoid(&input).unwrap())[..2], [1.0, 0.5]);
        assert_eq!(flat(&log_sum_exp(&input).unwrap()), [1e4, -1e4 + 2f32.ln()]);
    }
}
