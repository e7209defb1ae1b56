//! The logits of all single-base substitutions of a sequence: the core of saturation mutagenesis.
//!
//! A network that begins with layers over positions ([`Network::trunk`]) is asked what a substitution changes;
//! any other model predicts every mutant.

use rayon::prelude::*;

use candle_core::{Device, Tensor};

use super::{Input, Model, Network, Wanted};
use crate::dna::{BASES, base_index};
use crate::error::{Error, Result};
use crate::kernel::{Stack, stack::Trace};

/// Bases of the mutants that are made before they are predicted: bounds memory whatever the batch size is.
const MUTANT_BASES: usize = 1 << 22;

/// Numbers that the trunk makes of the substitutions that are finished together.
const FINISHED: usize = 1 << 20;

/// The logits of every base at every position, `[L, 4]`. Where the sequence has `N`, four times its own logit.
pub type Table = Vec<[f32; 4]>;

/// Returns the table of every sequence, in order.
pub(super) fn tables(model: &dyn Model, sequences: &[&[u8]], class: usize) -> Result<Vec<Table>> {
    let followed = model.network().and_then(|network| Some((network, network.trunk()?)));
    match followed {
        Some((network, trunk)) => {
            sequences.iter().map(|sequence| follow(network, trunk, sequence, class)).collect()
        }
        None => predict_mutants(model, sequences, class),
    }
}

/// Follows every substitution through the trunk, and finishes them in groups.
fn follow(network: &dyn Network, trunk: &Stack, sequence: &[u8], class: usize) -> Result<Table> {
    let input: Vec<f32> = network.encode(&[sequence])?.flatten_all()?.to_vec1()?;
    let trace = trunk.trace(&input, [sequence.len(), 4])?;
    let finish = |rows: usize, outputs: Vec<f32>| -> Result<Vec<f32>> {
        let [length, channels] = trace.output_shape();
        let outputs = Tensor::from_vec(outputs, (rows, length, channels), &Device::Cpu)?;
        Ok(network.finish(&outputs)?.narrow(1, class, 1)?.flatten_all()?.to_vec1()?)
    };
    let reference = finish(1, trace.output().to_vec())?[0];
    let columns: Vec<f32> = network.encode(&[&BASES])?.flatten_all()?.to_vec1()?;
    let substitutions: Vec<(usize, usize)> = substitutions(sequence).collect();
    let group = (FINISHED / trace.output().len().max(1)).clamp(1, 96);
    let logits: Vec<Vec<f32>> = substitutions
        .par_chunks(group)
        .map(|group| finish(group.len(), outputs(&trace, group, &columns)))
        .collect::<Result<_>>()?;
    Ok(table(sequence, reference, &mut logits.into_iter().flatten()))
}

/// Returns what the trunk makes of a group of substitutions, one after another.
fn outputs(trace: &Trace, group: &[(usize, usize)], columns: &[f32]) -> Vec<f32> {
    let size = trace.output().len();
    let mut outputs = vec![0.0; group.len() * size];
    let mut variants = trace.variants();
    for (&(position, base), output) in group.iter().zip(outputs.chunks_exact_mut(size.max(1))) {
        variants.run(position, &columns[4 * base..4 * base + 4], output);
    }
    outputs
}

/// Returns the other bases at every position that is not `N`, positions first.
fn substitutions(sequence: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let known = sequence.iter().enumerate().filter_map(|(index, &base)| Some((index, base_index(base)?)));
    known.flat_map(|(index, observed)| {
        (0..4).filter(move |&base| base != observed).map(move |base| (index, base))
    })
}

/// Puts the logits of [`substitutions`] where they belong.
fn table(sequence: &[u8], reference: f32, logits: &mut impl Iterator<Item = f32>) -> Table {
    let row = |&observed: &u8| match base_index(observed) {
        None => [reference; 4],
        Some(_) => BASES.map(|base| {
            if base == observed { reference } else { logits.next().expect("one logit for each mutant") }
        }),
    };
    sequence.iter().map(row).collect()
}

/// Predicts every mutant, those of several sequences together.
fn predict_mutants(model: &dyn Model, sequences: &[&[u8]], class: usize) -> Result<Vec<Table>> {
    let references = logits(model, sequences, class)?;
    let mut tables = Vec::with_capacity(sequences.len());
    for (sequences, references) in groups(sequences, &references) {
        let mutants: Vec<Vec<u8>> = sequences.iter().flat_map(|sequence| mutants(sequence)).collect();
        let mutants: Vec<&[u8]> = mutants.iter().map(Vec::as_slice).collect();
        let mut logits = logits(model, &mutants, class)?.into_iter();
        let rows = sequences.iter().zip(references);
        tables.extend(rows.map(|(sequence, &reference)| table(sequence, reference, &mut logits)));
    }
    Ok(tables)
}

/// Returns the logit of every sequence.
fn logits(model: &dyn Model, sequences: &[&[u8]], class: usize) -> Result<Vec<f32>> {
    let rows: Vec<Input> = sequences.iter().map(|sequence| Input::of(sequence)).collect();
    let wanted = Wanted { logits_only: true, ..Wanted::default() };
    let answers = model.predict(&rows, &wanted)?.into_iter();
    let logit = |answer: super::Answer| match answer {
        Ok(scores) => Ok(scores.logits[class]),
        Err(_) => Err(Error::data("a sequence does not fit the model")),
    };
    answers.map(logit).collect()
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

fn mutants(sequence: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    substitutions(sequence).map(|(index, base)| {
        let mut mutant = sequence.to_vec();
        mutant[index] = BASES[base];
        mutant
    })
}
