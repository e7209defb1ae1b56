//! Batch norm with the statistics of the batch, and layer norm, with gradients of their weights.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

use super::super::Instructions;
use super::super::instructions::vectorize;
use super::super::norm::{sum, sum_of_products};
use super::super::rule;
use super::batch::Batch;
pub use super::batch::Statistics;
use super::leaf::of_leaf;
use super::sums::column_sums;
use super::{GROUPS, argument, output, read, tensor};
use crate::error::Result;

/// Normalizes the channels of `[…, channels]` by mean and variance of the batch, then scales and shifts them by
/// `weight` and `bias`, `[channels]` each. Returns the statistics, too, for the running ones.
///
/// # Errors
///
/// When the shapes do not belong together.
pub fn batch_norm(
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    epsilon: f32,
) -> Result<(Tensor, Statistics)> {
    let input = input.contiguous()?;
    let channels = weight.dim(0)?;
    let statistics = read(&input, |values| Statistics::of(values, channels))?;
    let norm = BatchNorm(Batch::new(&statistics, epsilon));
    Ok((input.apply_op3(weight, bias, norm)?, statistics))
}

/// Numbers that one thread takes at a time, about.
const PIECE: usize = 1 << 15;

/// Runs over whole rows on all threads.
fn over_rows(values: &mut [f32], channels: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = (PIECE / channels.max(1)).max(1);
    let pieces = values.par_chunks_mut(rows * channels.max(1)).enumerate();
    pieces.for_each(|(piece, values)| work(piece * rows, values));
}

struct BatchNorm(Batch);

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let (weight, bias) = (argument(weight, weight_layout)?, argument(bias, bias_layout)?);
        output(self.0.apply(argument(input, layout)?, weight, bias), layout.shape().clone())
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut values = read(gradient, <[f32]>::to_vec)?;
        let weights = read(weight, <[f32]>::to_vec)?;
        let [of_weight, of_bias] = read(input, |input| self.0.back(input, &weights, &mut values, false))?;
        Ok((
            Some(tensor(values, input.shape().clone())?),
            of_leaf(weight, || tensor(of_weight, weight.shape().clone()))?,
            of_leaf(bias, || tensor(of_bias, bias.shape().clone()))?,
        ))
    }
}

/// Normalizes each row of `[…, width]` and scales it by `weight`, then shifts it by `bias`, `[width]` each.
///
/// # Errors
///
/// When the shapes do not belong together.
pub fn layer_norm(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>, epsilon: f32) -> Result<Tensor> {
    let norm = LayerNorm { epsilon, centred: true };
    Ok(match bias {
        Some(bias) => input.contiguous()?.apply_op3(weight, bias, norm)?,
        None => input.contiguous()?.apply_op2(weight, norm)?,
    })
}

/// Divides each row of `[…, width]` by its root mean square and scales it by `weight`, `[width]`.
///
/// # Errors
///
/// When the shapes do not belong together.
pub fn rms_norm(input: &Tensor, weight: &Tensor, epsilon: f32) -> Result<Tensor> {
    Ok(input.contiguous()?.apply_op2(weight, LayerNorm { epsilon, centred: false })?)
}

#[derive(Clone, Copy)]
struct LayerNorm {
    epsilon: f32,
    centred: bool,
}

impl LayerNorm {
    /// Normalizes rows, scales them, and shifts them where there is a bias.
    fn forward(self, input: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Candle<Vec<f32>> {
        let width = weight.len();
        if width == 0 || !input.len().is_multiple_of(width) || bias.is_some_and(|bias| bias.len() != width) {
            candle_core::bail!("a norm of rows of {width} numbers was given {}", input.len());
        }
        let mut values = input.to_vec();
        let (instructions, zeros) = (Instructions::detect(), vec![0.0; width]);
        let bias = bias.unwrap_or(&zeros);
        over_rows(&mut values, width, |_, values| normalize(instructions, self, weight, bias, values));
        Ok(values)
    }

    /// Returns the gradients of the input and of the weight.
    fn back(
        self,
        input: &Tensor,
        weight: &Tensor,
        gradient: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        let width = weight.dim(0)?;
        let gradient = gradient.contiguous()?;
        let weights = read(weight, <[f32]>::to_vec)?;
        if rule::rescales() {
            let multipliers =
                |rows: [&[f32]; 2], gradient: &[f32]| self.multipliers(rows, &weights, gradient);
            return Ok((Some(rule::by_rows_of_pairs(input, &gradient, multipliers)?), None));
        }
        let of_weight = of_leaf(weight, || {
            let sums =
                read(input, |input| read(&gradient, |gradient| self.of_weight(input, gradient, width)))??;
            tensor(sums, width)
        })?;
        let mut values = read(&gradient, <[f32]>::to_vec)?;
        read(input, |input| {
            over_rows(&mut values, width, |first, values| {
                let input = &input[first * width..][..values.len()];
                normalize_back(Instructions::detect(), self, input, &weights, values);
            });
        })?;
        Ok((Some(tensor(values, input.shape().clone())?), of_weight))
    }

    /// Returns the mean of a row and what it is multiplied by.
    #[inline(always)]
    fn moments(self, row: &[f32]) -> [f32; 2] {
        let count = row.len() as f32;
        let mean = if self.centred { sum(row, |x| x) / count } else { 0.0 };
        let square = sum(row, |x| (x - mean) * (x - mean));
        [mean, 1.0 / (square / count + self.epsilon).sqrt()]
    }

    /// Returns the sums over rows of the gradient times the normal row.
    fn of_weight(self, input: &[f32], gradient: &[f32], width: usize) -> Vec<f32> {
        let group = (input.len() / width).div_ceil(GROUPS).max(1) * width;
        let parts: Vec<Vec<f32>> = (input.par_chunks(group).zip(gradient.par_chunks(group)))
            .map(|(input, gradient)| {
                let mut sums = vec![0.0; width];
                add_normal(Instructions::detect(), self, input, gradient, &mut sums);
                sums
            })
            .collect();
        let mut sums = vec![0.0; width];
        for part in parts {
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        sums
    }
}

vectorize!(fn normalize(norm: LayerNorm, weight: &[f32], bias: &[f32], rows: &mut [f32]) = normalize_rows);

#[inline(always)]
fn normalize_rows(norm: LayerNorm, weight: &[f32], bias: &[f32], rows: &mut [f32]) {
    for row in rows.chunks_exact_mut(weight.len()) {
        let [mean, scale] = norm.moments(row);
        for ((x, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
            *x = (*x - mean) * scale * weight + bias;
        }
    }
}

vectorize!(fn normalize_back(
    norm: LayerNorm, input: &[f32], weight: &[f32], gradient: &mut [f32],
) = normalize_rows_back);

/// Turns the gradients of rows into those of their input.
#[inline(always)]
fn normalize_rows_back(norm: LayerNorm, input: &[f32], weight: &[f32], gradient: &mut [f32]) {
    let width = weight.len();
    let count = width as f32;
    for (x, gradient) in input.chunks_exact(width).zip(gradient.chunks_exact_mut(width)) {
        let [mean, scale] = norm.moments(x);
        for (g, w) in gradient.iter_mut().zip(weight) {
            *g *= w;
        }
        let of_mean = if norm.centred { sum(gradient, |g| g) / count } else { 0.0 };
        let along = sum_of_products(gradient, x, |x| (x - mean) * scale) / count;
        for (g, x) in gradient.iter_mut().zip(x) {
            *g = scale * (*g - of_mean - (x - mean) * scale * along);
        }
    }
}

vectorize!(fn add_normal(
    norm: LayerNorm, input: &[f32], gradient: &[f32], sums: &mut [f32],
) = add_normal_rows);

#[inline(always)]
fn add_normal_rows(norm: LayerNorm, input: &[f32], gradient: &[f32], sums: &mut [f32]) {
    for (x, gradient) in input.chunks_exact(sums.len()).zip(gradient.chunks_exact(sums.len())) {
        let [mean, scale] = norm.moments(x);
        for ((sum, x), g) in sums.iter_mut().zip(x).zip(gradient) {
            *sum += (x - mean) * scale * g;
        }
    }
}

impl CustomOp2 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let values = self.forward(argument(input, layout)?, argument(weight, weight_layout)?, None)?;
        output(values, layout.shape().clone())
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        self.back(input, weight, gradient)
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let (weight, bias) = (argument(weight, weight_layout)?, argument(bias, bias_layout)?);
        output(self.forward(argument(input, layout)?, weight, Some(bias))?, layout.shape().clone())
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (of_input, of_weight) = self.back(input, weight, gradient)?;
        let width = bias.dim(0)?;
        let of_bias =
            of_leaf(bias, || tensor(read(gradient, |gradient| column_sums(gradient, width))?, width))?;
        Ok((of_input, of_weight, of_bias))
    }
}

impl LayerNorm {
    /// Returns the multipliers of a row, from both rows of a pair and the multipliers of what comes out. With
    /// c = x − mean(x), v = mean(c²) and s = (v + ε)^−½, the row is w · c · s: s and v by their secants, of which that of
    /// a square is the sum of both; the product by the mean of the other factor.
    fn multipliers(&self, rows: [&[f32]; 2], weight: &[f32], gradient: &[f32]) -> Vec<f32> {
        let count = weight.len() as f64;
        let centred = rows.map(|row| {
            let mean =
                if self.centred { row.iter().map(|&x| f64::from(x)).sum::<f64>() / count } else { 0.0 };
            row.iter().map(|&x| f64::from(x) - mean).collect::<Vec<f64>>()
        });
        let variances = centred.each_ref().map(|c| c.iter().map(|c| c * c).sum::<f64>() / count);
        let root = |v: f64| (v + f64::from(self.epsilon)).sqrt();
        let [a, b] = variances.map(root);
        // The secant of 1 / √ through two places, and what is left of it where they are one.
        let of_variance = -1.0 / (a * b * (a + b));
        let scale = (1.0 / a + 1.0 / b) / 2.0;
        let halfway: Vec<f64> = centred[0].iter().zip(&centred[1]).map(|(a, b)| (a + b) / 2.0).collect();
        let weighed: Vec<f64> =
            gradient.iter().zip(weight).map(|(&g, &w)| f64::from(g) * f64::from(w)).collect();
        let of_scale: f64 = weighed.iter().zip(&halfway).map(|(g, c)| g * c).sum();
        let along = of_scale * of_variance * 2.0 / count;
        let of_centred: Vec<f64> = weighed.iter().zip(&halfway).map(|(g, c)| g * scale + along * c).collect();
        let mean = if self.centred { of_centred.iter().sum::<f64>() / count } else { 0.0 };
        of_centred.iter().map(|multiplier| (multiplier - mean) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::rule::testing::check_completeness;
    use super::super::super::testing::*;
    use super::*;

    #[test]
    fn a_batch_norm_leaves_no_mean_and_unit_variance() {
        let input = noise_tensor(&[50, 3, 4], 1);
        let (ones, zeros) = (tensor(vec![1.0; 4], 4).unwrap(), tensor(vec![0.0; 4], 4).unwrap());
        let (output, found) = batch_norm(&input, &ones, &zeros, 0.0).unwrap();
        assert_eq!(found.rows, 150);
        for channel in 0..4 {
            let of = |tensor: &Tensor| -> Vec<f64> {
                flat(tensor).into_iter().skip(channel).step_by(4).map(f64::from).collect()
            };
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let values = of(&input);
            assert!((mean(&values) - f64::from(found.mean[channel])).abs() < 1e-6);
            let values = of(&output);
            let squares: Vec<f64> = values.iter().map(|x| x * x).collect();
            assert!(mean(&values).abs() < 1e-6 && (mean(&squares) - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn the_gradients_are_those_of_finite_differences() {
        let input = noise_tensor(&[4, 3, 5], 1);
        let (weight, bias) = (noise_tensor(&[5], 2), noise_tensor(&[5], 3));
        let batch = |x: &Tensor, w: &Tensor, b: &Tensor| Ok(batch_norm(x, w, b, 1e-5)?.0);
        check_gradient(&input, |x| batch(x, &weight, &bias));
        check_gradient(&weight, |w| batch(&input, w, &bias));
        check_gradient(&bias, |b| batch(&input, &weight, b));
        check_gradient(&input, |x| layer_norm(x, &weight, Some(&bias), 1e-5));
        check_gradient(&weight, |w| layer_norm(&input, w, Some(&bias), 1e-5));
        check_gradient(&bias, |b| layer_norm(&input, &weight, Some(b), 1e-5));
        check_gradient(&input, |x| rms_norm(x, &weight, 1e-5));
        check_gradient(&weight, |w| rms_norm(&input, w, 1e-5));
    }

    #[test]
    fn norms_of_rows_share_out_their_differences() {
        let input = noise_tensor(&[4, 3, 5], 1);
        let (weight, bias) = (noise_tensor(&[5], 2), noise_tensor(&[5], 3));
        check_completeness(&input, |x| layer_norm(x, &weight, Some(&bias), 1e-5));
        check_completeness(&input, |x| rms_norm(x, &weight, 1e-5));
    }
}
