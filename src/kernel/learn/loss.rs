//! Losses of logits, summed up in double precision: a scalar tensor each.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result as Candle, Shape, Tensor};

use super::{argument, output, read, tensor};
use crate::error::{Error, Result};

/// Returns Σ weightᵢ·(−tᵢ·ln σ(xᵢ) − (1 − tᵢ)·ln(1 − σ(xᵢ))) over all logits x and targets t.
///
/// # Errors
///
/// When there are not as many targets and weights as logits.
pub fn binary(logits: &Tensor, targets: &[f32], weights: &[f32]) -> Result<Tensor> {
    check(logits.elem_count(), targets.len())?;
    check(logits.elem_count(), weights.len())?;
    Ok(logits.contiguous()?.apply_op1(Binary { targets: targets.into(), weights: weights.into() })?)
}

/// Returns the mean of the binary cross-entropy over all logits.
///
/// # Errors
///
/// As [`binary`].
pub fn binary_mean(logits: &Tensor, targets: &[f32]) -> Result<Tensor> {
    binary(logits, targets, &vec![1.0 / targets.len().max(1) as f32; targets.len()])
}

fn check(logits: usize, targets: usize) -> Result<()> {
    match logits == targets {
        true => Ok(()),
        false => Err(Error::data(format!("a loss of {logits} logits was given {targets} targets"))),
    }
}

struct Binary {
    targets: Arc<[f32]>,
    weights: Arc<[f32]>,
}

impl CustomOp1 for Binary {
    fn name(&self) -> &'static str {
        "binary_cross_entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Candle<(CpuStorage, Shape)> {
        let terms = argument(logits, layout)?.iter().zip(&*self.targets).zip(&*self.weights);
        let loss = terms.map(|((&x, &target), &weight)| {
            let (x, target) = (f64::from(x), f64::from(target));
            f64::from(weight) * (x.max(0.0) - x * target + (-x.abs()).exp().ln_1p())
        });
        output(vec![loss.sum::<f64>() as f32], ())
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, gradient: &Tensor) -> Candle<Option<Tensor>> {
        let scale = gradient.to_scalar::<f32>()?;
        let values = read(logits, |logits| {
            let terms = logits.iter().zip(&*self.targets).zip(&*self.weights);
            terms.map(|((&x, target), weight)| scale * weight * (1.0 / (1.0 + (-x).exp()) - target)).collect()
        })?;
        tensor(values, logits.shape().clone()).map(Some)
    }
}

/// Returns the mean of the cross-entropy of logits `[N, classes]`; rows whose target is `None` do not count.
///
/// # Errors
///
/// When there are not as many targets as rows, or a target is no class.
pub fn cross_entropy(logits: &Tensor, targets: &[Option<u32>]) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    check(rows, targets.len())?;
    if let Some(target) = targets.iter().flatten().find(|&&target| target as usize >= classes) {
        return Err(Error::data(format!("class {target}, of a model with {classes} classes")));
    }
    Ok(logits.contiguous()?.apply_op1(CrossEntropy { targets: targets.into(), classes })?)
}

struct CrossEntropy {
    targets: Arc<[Option<u32>]>,
    classes: usize,
}

impl CrossEntropy {
    fn count(&self) -> f64 {
        self.targets.iter().flatten().count().max(1) as f64
    }
}

/// Returns ln Σ eˣ.
fn log_sum_exp(row: &[f32]) -> f64 {
    let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    largest + row.iter().map(|&x| (f64::from(x) - largest).exp()).sum::<f64>().ln()
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Candle<(CpuStorage, Shape)> {
        let rows = argument(logits, layout)?.chunks_exact(self.classes).zip(&*self.targets);
        let loss: f64 = rows
            .filter_map(|(row, target)| {
                target.map(|target| log_sum_exp(row) - f64::from(row[target as usize]))
            })
            .sum();
        output(vec![(loss / self.count()) as f32], ())
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, gradient: &Tensor) -> Candle<Option<Tensor>> {
        let scale = f64::from(gradient.to_scalar::<f32>()?) / self.count();
        let mut values = read(logits, <[f32]>::to_vec)?;
        for (row, target) in values.chunks_exact_mut(self.classes).zip(&*self.targets) {
            let Some(target) = target else {
                row.fill(0.0);
                continue;
            };
            let total = log_sum_exp(row);
            row.iter_mut().for_each(|x| *x = (scale * (f64::from(*x) - total).exp()) as f32);
            row[*target as usize] -= scale as f32;
        }
        tensor(values, logits.shape().clone()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::*;
    use super::*;

    #[test]
    fn the_gradients_are_those_of_finite_differences() {
        let logits = (noise_tensor(&[4, 3], 1) * 3.0).unwrap();
        let targets = [Some(0), Some(2), None, Some(1)];
        check_gradient(&logits, |x| cross_entropy(x, &targets));
        let (targets, weights) = (noise(12, 2), noise(12, 3));
        check_gradient(&logits, |x| binary(x, &targets, &weights));
    }

    #[test]
    fn two_classes_have_the_loss_of_one_logit() {
        let logit = noise_tensor(&[5, 1], 1);
        let pair = Tensor::cat(&[logit.zeros_like().unwrap(), logit.clone()], 1).unwrap();
        let targets = [1u32, 0, 1, 1, 0];
        let many = cross_entropy(&pair, &targets.map(Some)).unwrap().to_scalar::<f32>().unwrap();
        let one = binary_mean(&logit, &targets.map(|t| t as f32)).unwrap().to_scalar::<f32>().unwrap();
        assert!((many - one).abs() < 1e-6);
    }

    #[test]
    fn extreme_logits_have_finite_losses() {
        let logits = Tensor::new(&[[1e4f32, -1e4]], &candle_core::Device::Cpu).unwrap();
        assert_eq!(cross_entropy(&logits, &[Some(1)]).unwrap().to_scalar::<f32>().unwrap(), 2e4);
        assert_eq!(binary_mean(&logits, &[0.0, 0.0]).unwrap().to_scalar::<f32>().unwrap(), 5e3);
        assert!(cross_entropy(&logits, &[Some(2)]).is_err() && binary_mean(&logits, &[0.0]).is_err());
    }
}
