//! In-silico saturation mutagenesis: every base in turn replaced by the three others.

use super::{Attribution, Center, project};
use crate::dna::{BASES, base_index};
use crate::error::Result;

/// Mutants that are made before they are scored: bounds memory whatever the batch size is.
const MUTANT_BASES: usize = 1 << 22;

/// Attributes `logits`, the function from sequences to one logit each.
pub(super) fn attribute(
    sequences: &[&[u8]],
    center: Center,
    logits: impl Fn(&[&[u8]]) -> Result<Vec<f32>>,
) -> Result<Vec<Attribution>> {
    let references = logits(sequences)?;
    let mut attributions = Vec::with_capacity(sequences.len());
    for (sequences, references) in groups(sequences, &references) {
        let mutants: Vec<Vec<u8>> = sequences.iter().flat_map(|sequence| mutants(sequence)).collect();
        let answers = logits(&mutants.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let mut answers = answers.into_iter();
        for (sequence, &reference) in sequences.iter().zip(references) {
            let table = table(sequence, reference, &mut answers);
            attributions.push(match center {
                Center::Mean => around_mean(sequence, &table),
                Center::Reference => around_reference(sequence, &table, reference),
            });
        }
    }
    Ok(attributions)
}

/// Cuts the batch into runs of sequences whose mutants have about [`MUTANT_BASES`] bases.
fn groups<'a, 'b>(
    mut sequences: &'a [&'b [u8]],
    mut logits: &'a [f32],
) -> impl Iterator<Item = (&'a [&'b [u8]], &'a [f32])> {
    std::iter::from_fn(move || {
        let longest = sequences.iter().map(|sequence| sequence.len()).max()?;
        let count = (MUTANT_BASES / (3 * longest * longest).max(1)).clamp(1, sequences.len());
        let (group, rest) = sequences.split_at(count);
        let (group_logits, logits_rest) = logits.split_at(count);
        (sequences, logits) = (rest, logits_rest);
        Some((group, group_logits))
    })
}

/// Returns the other bases at every position that is not `N`, positions first.
fn mutants(sequence: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let known = (0..sequence.len()).filter(|&index| base_index(sequence[index]).is_some());
    known.flat_map(move |index| {
        BASES.into_iter().filter(move |&base| base != sequence[index]).map(move |base| {
            let mut mutant = sequence.to_vec();
            mutant[index] = base;
            mutant
        })
    })
}

/// Returns the logits `[L, 4]` of every base at every position, in the order of [`mutants`].
fn table(sequence: &[u8], reference: f32, answers: &mut impl Iterator<Item = f32>) -> Vec<[f32; 4]> {
    let row = |&observed: &u8| match base_index(observed) {
        None => [reference; 4],
        Some(_) => BASES.map(|base| {
            if base == observed { reference } else { answers.next().expect("one logit for each mutant") }
        }),
    };
    sequence.iter().map(row).collect()
}

/// f(x with b at i) − mean over b′ of f(x with b′ at i).
fn around_mean(sequence: &[u8], table: &[[f32; 4]]) -> Attribution {
    let hypothetical = base_major(sequence, table, |logits| {
        // The differences are small beside the logits: f64 keeps what f32 has of them.
        let mean = logits.iter().map(|&logit| f64::from(logit)).sum::<f64>() / 4.0;
        logits.map(|logit| (f64::from(logit) - mean) as f32)
    });
    Attribution { contributions: project(sequence, &hypothetical), hypothetical, delta: None }
}

/// f(x with b at i) − f(x); projected, f(x) − the mean of the three mutants.
fn around_reference(sequence: &[u8], table: &[[f32; 4]], reference: f32) -> Attribution {
    let hypothetical = base_major(sequence, table, |logits| logits.map(|logit| logit - reference));
    let lost = |(&base, logits): (&u8, &[f32; 4])| {
        let mutants = logits.iter().map(|&logit| f64::from(logit)).sum::<f64>() - f64::from(reference);
        if base_index(base).is_some() { (f64::from(reference) - mutants / 3.0) as f32 } else { 0.0 }
    };
    let contributions = sequence.iter().zip(table).map(lost).collect();
    Attribution { hypothetical, contributions, delta: None }
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
