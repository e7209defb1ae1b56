//! Attribution by methods that share out a difference: integrated gradients and DeepLIFT.

use rayon::prelude::*;

use super::{Attribution, Comparison, project};
use crate::dna::{base_index, dinucleotide_shuffles};
use crate::error::Result;
use crate::model::{Background, Ensemble, Explanation, Steps, Way};

/// Explains the logit of `class` of every sequence.
pub(super) fn attribute(
    models: &Ensemble,
    sequences: &[&[u8]],
    class: usize,
    comparison: Comparison,
    way: Way,
    steps: Steps,
) -> Result<Vec<Attribution>> {
    let explain = |sequence: &&[u8]| -> Result<Attribution> {
        let background = background(sequence, comparison);
        let explanation = models.explain(sequence, class, &background, way)?;
        Ok(contributions(sequence, &explanation, steps))
    };
    sequences.par_iter().map(explain).collect()
}

/// Returns what a sequence is compared with.
pub(super) fn background(sequence: &[u8], comparison: Comparison) -> Background {
    match comparison {
        Comparison::Zero => Background::Zeros,
        Comparison::Shuffles { count, seed } => {
            Background::Sequences(dinucleotide_shuffles(sequence, count, seed))
        }
    }
}

fn contributions(sequence: &[u8], explanation: &Explanation, steps: Steps) -> Attribution {
    let length = sequence.len();
    let mut hypothetical = vec![0.0; 4 * length];
    for (index, (&base, column)) in sequence.iter().zip(explanation.hypothetical.chunks_exact(4)).enumerate()
    {
        if base_index(base).is_some() {
            (0..4).for_each(|base| hypothetical[base * length + index] = column[base]);
        }
    }
    let contributions = project(sequence, &hypothetical);
    let sum: f64 = contributions.iter().map(|&value| f64::from(value)).sum();
    let difference = f64::from(explanation.logit) - f64::from(explanation.logit_of_background);
    let delta = (sum - difference).abs();
    Attribution {
        hypothetical,
        contributions,
        delta: Some(delta as f32),
        change: Some(explanation.change as f32),
        converged: Some(steps.hold(delta, difference, explanation.change)),
    }
}
