//! In-silico saturation mutagenesis: every base in turn replaced by the three others.

use super::{Attribution, Center, project};
use crate::dna::base_index;
use crate::error::Result;
use crate::model::{Ensemble, Table};

/// Attributes the logit of `class` of every sequence.
pub(super) fn attribute(
    models: &Ensemble,
    sequences: &[&[u8]],
    class: usize,
    center: Center,
) -> Result<Vec<Attribution>> {
    let tables = models.substitutions(sequences, class)?;
    let attribution = |(sequence, table): (&&[u8], &Table)| match center {
        Center::Mean => around_mean(sequence, table),
        Center::Reference => around_reference(sequence, table),
    };
    Ok(sequences.iter().zip(&tables).map(attribution).collect())
}

/// f(x with b at i) − mean over b′ of f(x with b′ at i).
fn around_mean(sequence: &[u8], table: &[[f32; 4]]) -> Attribution {
    let hypothetical = base_major(sequence, table, |logits| {
        // The differences are small beside the logits: f64 keeps what f32 has of them.
        let mean = logits.iter().map(|&logit| f64::from(logit)).sum::<f64>() / 4.0;
        logits.map(|logit| (f64::from(logit) - mean) as f32)
    });
    Attribution {
        contributions: project(sequence, &hypothetical),
        hypothetical,
        delta: None,
        change: None,
        converged: None,
    }
}

/// f(x with b at i) − f(x); projected, f(x) − the mean of the three mutants.
fn around_reference(sequence: &[u8], table: &[[f32; 4]]) -> Attribution {
    // The observed base has the logit of the sequence as it is; at `N` all four have, and nothing is shown.
    let first = sequence.first().zip(table.first());
    let reference = first.map_or(0.0, |(&base, logits)| logits[base_index(base).unwrap_or(0)]);
    let hypothetical = base_major(sequence, table, |logits| logits.map(|logit| logit - reference));
    let lost = |(&base, logits): (&u8, &[f32; 4])| {
        let mutants = logits.iter().map(|&logit| f64::from(logit)).sum::<f64>() - f64::from(reference);
        if base_index(base).is_some() { (f64::from(reference) - mutants / 3.0) as f32 } else { 0.0 }
    };
    let contributions = sequence.iter().zip(table).map(lost).collect();
    Attribution { hypothetical, contributions, delta: None, change: None, converged: None }
}

/// Returns `f` of every position as `[4, L]`, 0 at `N`.
fn base_major(sequence: &[u8], table: &[[f32; 4]], f: impl Fn([f32; 4]) -> [f32; 4]) -> Vec<f32> {
    let mut values = vec![0.0; 4 * sequence.len()];
    for (index, (&base, &logits)) in sequence.iter().zip(table).enumerate() {
        if base_index(base).is_some() {
            for (base, value) in f(logits).into_iter().enumerate() {
                values[base * sequence.len() + index] = value;
            }
        }
    }
    values
}
