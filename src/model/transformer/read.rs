//! What is read off sequences while they go through an encoder.

use std::ops::Range;

use rayon::prelude::*;

use super::super::{Attentions, Pooling};
use super::encoder::{Encoder, Scratch, Sequence, Watch, starts};
use super::gpu;
use super::head::{Classifier, Reads, TokenHead};
use super::pack::packs;
use super::runner::Runner;
use super::sentence::LayerPooling;
use crate::error::Result;

/// What one sequence gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// What the first layer of the classifier makes of what it reads, `[hidden]`.
    pub pooled: Vec<f32>,
    /// The sum of the states that the embedding is the mean of, `[hidden]`.
    pub sum: Vec<f64>,
    /// How many states the sum is of.
    pub count: usize,
    /// `[layers, heads, tokens]` or `[layers, heads, tokens, tokens]`.
    pub attentions: Vec<f32>,
    /// Log-probabilities of the tokens that are no specials (see [`super::super::Likelihood`]).
    pub likelihoods: Vec<f32>,
}

/// What is read.
pub struct Plan<'a> {
    /// The classifier, when its logits are wanted.
    pub classifier: Option<&'a Classifier>,
    /// How an embedding is made, if one is wanted, and of which states.
    pub embedding: Option<(Pooling, &'a LayerPooling)>,
    /// Which attentions are wanted, of which layers.
    pub attentions: Option<(Attentions, &'a [usize])>,
    /// The head that guesses tokens, when its likelihoods are wanted.
    pub token_head: Option<&'a TokenHead>,
    /// Whether the state of a token guesses the next.
    pub causal: bool,
    /// Tokens that are no bases.
    pub specials: &'a [u32],
}

impl Plan<'_> {
    /// Returns whether anything is read.
    pub fn is_empty(&self) -> bool {
        self.classifier.is_none()
            && self.embedding.is_none()
            && self.attentions.is_none()
            && self.token_head.is_none()
    }

    /// Reads sequences, in order, on all threads.
    ///
    /// # Errors
    ///
    /// A GPU's.
    pub fn read(&self, runner: &Runner, sequences: &[Sequence]) -> Result<Vec<Reading>> {
        match runner {
            Runner::Processor(encoder) => {
                Ok(in_packs(encoder, sequences, |pack, scratch| self.read_pack(encoder, pack, scratch)))
            }
            Runner::Gpu(encoder) => self.read_on_gpu(encoder, sequences),
        }
    }

    fn read_pack(&self, encoder: &Encoder, sequences: &[Sequence], scratch: &mut Scratch) -> Vec<Reading> {
        let starts = starts(sequences);
        let mut reader = Reader {
            plan: self,
            sequences,
            heads: encoder.spec().heads,
            states: 0,
            readings: vec![Reading::default(); sequences.len()],
        };
        let place = |sequence: usize, reads: Reads| place(&starts, sequences, sequence, reads);
        let kept: Option<Vec<usize>> = self
            .single_token()
            .map(|reads| (0..sequences.len()).map(|sequence| place(sequence, reads).start).collect());
        let states = encoder.run(sequences, kept.as_deref(), &mut reader, scratch);
        let mut readings = reader.readings;
        let last = Last {
            states,
            width: encoder.spec().hidden,
            starts: &starts,
            sequences,
            only_one: kept.is_some(),
        };
        self.classify(&last, &mut readings);
        for (sequence, reading) in readings.iter_mut().enumerate() {
            if let Some(reads) = self.embedding.and_then(|(pooling, _)| one_token(pooling)) {
                let state = last.read(sequence, reads).iter().map(|&value| f64::from(value));
                (reading.sum, reading.count) = (state.collect(), 1);
            }
            reading.likelihoods = self.guess_bases(&last, sequence);
        }
        readings
    }

    /// Applies the first layer of the classifier, where there is one.
    fn classify(&self, last: &Last, readings: &mut [Reading]) {
        let Some(classifier) = self.classifier else { return };
        let read = |sequence| mean(last.read(sequence, classifier.reads), last.width);
        let pooled = classifier.pool(&(0..readings.len()).flat_map(read).collect::<Vec<f32>>());
        for (reading, pooled) in readings.iter_mut().zip(pooled.chunks_exact(classifier.pooled(last.width))) {
            reading.pooled = pooled.to_vec();
        }
    }

    /// Returns the likelihoods of the tokens that are no specials, where they are wanted.
    fn guess_bases(&self, last: &Last, sequence: usize) -> Vec<f32> {
        let Some(head) = self.token_head else { return Vec::new() };
        let (tokens, start) = (last.sequences[sequence].tokens, last.starts[sequence]);
        let guesses = self.guesses(tokens);
        let states = guesses.iter().flat_map(|&[from, _]| last.rows(start + from..start + from + 1));
        let guessed: Vec<u32> = guesses.iter().map(|&[_, token]| tokens[token]).collect();
        head.likelihoods(&states.copied().collect::<Vec<f32>>(), &guessed)
    }

    /// Returns the one token of a sequence whose state in the last layer is all that is read of it, if that is so.
    fn single_token(&self) -> Option<Reads> {
        let classifier = self.classifier.map(|classifier| classifier.reads);
        let embedding = match self.embedding {
            Some((pooling, _)) => Some(one_token(pooling)?),
            None => None,
        };
        let reads = classifier.or(embedding).unwrap_or(Reads::First);
        let same =
            classifier.is_none_or(|other| other == reads) && embedding.is_none_or(|other| other == reads);
        (same && reads != Reads::Mean && self.token_head.is_none()).then_some(reads)
    }

    /// Returns the places of the tokens that are guessed, each behind that of the state which guesses it.
    pub(super) fn guesses(&self, tokens: &[u32]) -> Vec<[usize; 2]> {
        let bases = self.bases(tokens).into_iter();
        match self.causal {
            true => bases.filter(|&token| token > 0).map(|token| [token - 1, token]).collect(),
            false => bases.map(|token| [token, token]).collect(),
        }
    }

    /// Returns the places of the tokens that are no specials.
    pub(super) fn bases(&self, tokens: &[u32]) -> Vec<usize> {
        (0..tokens.len()).filter(|&place| !self.specials.contains(&tokens[place])).collect()
    }
}

/// The hidden states that a pack has in the last layer.
struct Last<'a> {
    states: &'a [f32],
    width: usize,
    starts: &'a [usize],
    sequences: &'a [Sequence<'a>],
    /// Whether there is one of each sequence, and no others.
    only_one: bool,
}

impl Last<'_> {
    fn rows(&self, places: Range<usize>) -> &[f32] {
        &self.states[places.start * self.width..places.end * self.width]
    }

    /// Returns the states of a sequence that are read.
    fn read(&self, sequence: usize, reads: Reads) -> &[f32] {
        self.rows(match self.only_one {
            true => sequence..sequence + 1,
            false => place(self.starts, self.sequences, sequence, reads),
        })
    }
}

/// Returns where the tokens of a sequence that are read stand among all.
fn place(starts: &[usize], sequences: &[Sequence], sequence: usize, reads: Reads) -> Range<usize> {
    let of = reads.of(sequences[sequence].tokens.len());
    starts[sequence] + of.start..starts[sequence] + of.end
}

/// Returns the token whose state is the embedding, if it is of one token.
fn one_token(pooling: Pooling) -> Option<Reads> {
    match pooling {
        Pooling::Cls => Some(Reads::First),
        Pooling::Last => Some(Reads::Last),
        Pooling::Mean | Pooling::MeanOfBases | Pooling::Own => None,
    }
}

/// Returns the mean of states `[tokens, width]`.
fn mean(states: &[f32], width: usize) -> Vec<f32> {
    if states.len() == width {
        return states.to_vec();
    }
    let count = (states.len() / width) as f64;
    let unit = |unit: usize| states[unit..].iter().step_by(width).map(|&state| f64::from(state)).sum::<f64>();
    (0..width).map(|index| (unit(index) / count) as f32).collect()
}

/// Returns the natural logarithm of the probability of each token that is masked, in order.
///
/// # Errors
///
/// A GPU's.
pub fn guess(runner: &Runner, head: &TokenHead, sequences: &[Sequence]) -> Result<Vec<f32>> {
    let encoder = match runner {
        Runner::Processor(encoder) => encoder,
        Runner::Gpu(encoder) => return gpu::guess(encoder, head, sequences),
    };
    Ok(in_packs(encoder, sequences, |pack, scratch| {
        let starts = starts(pack);
        let place = |sequence: &Sequence| sequence.masked.map_or(0, |(place, _)| place);
        let kept: Vec<usize> =
            pack.iter().zip(&starts).map(|(sequence, start)| start + place(sequence)).collect();
        let tokens: Vec<u32> = pack.iter().map(|sequence| sequence.tokens[place(sequence)]).collect();
        let states = encoder.run(pack, Some(&kept), &mut (), scratch);
        head.likelihoods(states, &tokens)
    }))
}

/// Returns the hidden states of the last layer of each row of tokens, `[tokens, hidden]`, on all threads.
///
/// # Panics
///
/// As [`Encoder::run`].
pub fn states(encoder: &Encoder, rows: &[&[u32]]) -> Vec<Vec<f32>> {
    let sequences: Vec<Sequence> = rows.iter().map(|row| Sequence::of(row)).collect();
    in_packs(encoder, &sequences, |pack, scratch| {
        let mut states = encoder.run(pack, None, &mut (), scratch);
        let mut take = |sequence: &Sequence| {
            let (row, rest) = states.split_at(sequence.tokens.len() * encoder.spec().hidden);
            states = rest;
            row.to_vec()
        };
        pack.iter().map(&mut take).collect()
    })
}

/// Runs sequences in packs, each on a thread, and returns what `run` gives for each, in order.
fn in_packs<T: Send>(
    encoder: &Encoder,
    sequences: &[Sequence],
    run: impl Fn(&[Sequence], &mut Scratch) -> Vec<T> + Sync,
) -> Vec<T> {
    let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.tokens.len()).collect();
    let packs = packs(&lengths, encoder.spec().hidden, rayon::current_num_threads());
    let results: Vec<Vec<T>> = packs
        .par_iter()
        .map_init(Scratch::default, |scratch, pack| {
            let pack: Vec<Sequence> = pack.iter().map(|&sequence| sequences[sequence]).collect();
            run(&pack, scratch)
        })
        .collect();
    let mut ordered: Vec<(usize, T)> =
        packs.into_iter().flatten().zip(results.into_iter().flatten()).collect();
    ordered.sort_unstable_by_key(|(sequence, _)| *sequence);
    ordered.into_iter().map(|(_, result)| result).collect()
}

/// Reads what is between the layers.
struct Reader<'a> {
    plan: &'a Plan<'a>,
    sequences: &'a [Sequence<'a>],
    heads: usize,
    /// How many hidden states have been seen.
    states: usize,
    readings: Vec<Reading>,
}

impl Watch for Reader<'_> {
    fn wants_attentions(&self, layer: usize) -> bool {
        self.plan.attentions.is_some_and(|(_, layers)| layers.contains(&layer))
    }

    fn attentions(&mut self, layer: usize, sequence: usize, probabilities: &[f32]) {
        let Some((which, layers)) = self.plan.attentions else { return };
        let length = self.sequences[sequence].tokens.len();
        let rows = if which == Attentions::Cls { 1 } else { length };
        let size = self.heads * rows * length;
        let all = &mut self.readings[sequence].attentions;
        all.resize(layers.len() * size, 0.0);
        for (all, _) in all.chunks_exact_mut(size).zip(layers).filter(|(_, wanted)| **wanted == layer) {
            let heads = probabilities.chunks_exact(length * length);
            for (target, head) in all.chunks_exact_mut(rows * length).zip(heads) {
                target.copy_from_slice(&head[..rows * length]);
            }
        }
    }

    fn states(&mut self, states: &[f32]) {
        let state = self.states;
        self.states += 1;
        let Some((pooling, layers)) = self.plan.embedding else { return };
        let weight = layers.weights[state];
        if one_token(pooling).is_some() || weight == 0.0 {
            return;
        }
        let width = states.len() / self.sequences.iter().map(|s| s.tokens.len()).sum::<usize>();
        let mut rest = states;
        for (sequence, reading) in self.sequences.iter().zip(&mut self.readings) {
            let (own, others) = rest.split_at(sequence.tokens.len() * width);
            rest = others;
            reading.sum.resize(width, 0.0);
            reading.count = 0;
            for (row, token) in own.chunks_exact(width).zip(sequence.tokens) {
                if pooling == Pooling::MeanOfBases && self.plan.specials.contains(token) {
                    continue;
                }
                reading.count += 1;
                let sum = reading.sum.iter_mut().zip(row);
                sum.for_each(|(sum, &value)| *sum += weight * f64::from(value));
            }
        }
    }
}
