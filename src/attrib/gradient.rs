//! Attribution by the gradient of the logit with respect to the encoded sequence.

use rayon::prelude::*;

use super::{Attribution, project};
use crate::dna::base_index;
use crate::error::Result;
use crate::model::{Ensemble, Gradient};

/// Differentiates the logit of `class` of every sequence and turns each gradient into contributions.
pub(super) fn attribute(
    models: &Ensemble,
    sequences: &[&[u8]],
    class: usize,
    f: impl Fn(&[u8], &Gradient) -> Attribution + Sync,
) -> Result<Vec<Attribution>> {
    sequences.par_iter().map(|sequence| Ok(f(sequence, &models.gradient(sequence, class)?))).collect()
}

/// abs ∂f/∂x.
pub(super) fn saliency(sequence: &[u8], gradient: &Gradient) -> Attribution {
    let hypothetical = base_major(sequence, &gradient.values, f32::abs);
    Attribution {
        contributions: project(sequence, &hypothetical),
        hypothetical,
        delta: None,
        change: None,
        converged: None,
    }
}

/// ∂f/∂x, projected by the input.
pub(super) fn gradient_input(sequence: &[u8], gradient: &Gradient) -> Attribution {
    let hypothetical = base_major(sequence, &gradient.values, |value| value);
    let contributions = project(sequence, &hypothetical);
    let sum: f64 = contributions.iter().map(|&value| f64::from(value)).sum();
    let difference = f64::from(gradient.logit) - f64::from(gradient.logit_of_zeros);
    Attribution {
        hypothetical,
        contributions,
        delta: Some((sum - difference).abs() as f32),
        change: None,
        converged: None,
    }
}

/// Returns a gradient `[L, 4]` as `[4, L]`, 0 at `N`.
fn base_major(sequence: &[u8], gradient: &[f32], f: impl Fn(f32) -> f32) -> Vec<f32> {
    let mut values = vec![0.0; gradient.len()];
    for (index, (&base, row)) in sequence.iter().zip(gradient.chunks_exact(4)).enumerate() {
        if base_index(base).is_some() {
            for (base, &value) in row.iter().enumerate() {
                values[base * sequence.len() + index] = f(value);
            }
        }
    }
    values
}
