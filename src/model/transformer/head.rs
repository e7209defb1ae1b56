//! What stands on an encoder: classifiers of sequences, and the head that guesses tokens.

use std::ops::Range;

use super::recurrent::Recurrent;
use crate::kernel::{Linear, Norm};

/// Tokens whose guesses are computed together.
const GUESSED: usize = 64;

/// What becomes of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: they are no odds.
    Regression,
    /// A probability for each class.
    Labels,
    /// Probabilities of which one class is right.
    Classes,
}

impl Decision {
    /// Returns the probabilities, if they are any.
    pub fn probabilities(self, logits: &[f32]) -> Option<Vec<f32>> {
        match self {
            Self::Regression => None,
            Self::Labels => Some(logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect()),
            Self::Classes => {
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let odds: Vec<f32> = logits.iter().map(|x| (x - largest).exp()).collect();
                let sum: f32 = odds.iter().sum();
                Some(odds.into_iter().map(|x| x / sum).collect())
            }
        }
    }
}

/// How the pieces of a long sequence become one vector (DNABERT-XL).
pub enum LongHead {
    /// The mean over the pieces, of any number.
    Mean,
    /// Recurrent layers over so many pieces.
    Recurrent(Recurrent, usize),
    /// A layer over so many pieces end to end.
    Joined(Linear, usize),
}

impl LongHead {
    /// Returns how many pieces there must be.
    pub fn pieces(&self) -> Option<usize> {
        match self {
            Self::Mean => None,
            Self::Recurrent(_, pieces) | Self::Joined(_, pieces) => Some(*pieces),
        }
    }

    /// Makes one vector of those of the pieces, `[pieces, hidden]`.
    pub fn read(&self, pieces: &[f32], hidden: usize) -> Vec<f32> {
        match self {
            Self::Mean => {
                let count = (pieces.len() / hidden) as f32;
                let sum = |unit: usize| pieces[unit..].iter().step_by(hidden).sum::<f32>();
                (0..hidden).map(|unit| sum(unit) / count).collect()
            }
            Self::Recurrent(recurrent, _) => recurrent.read(pieces),
            Self::Joined(linear, _) => {
                let mut joined = vec![0.0; linear.outputs()];
                linear.apply(pieces, &mut joined);
                joined
            }
        }
    }
}

/// Which hidden states of the last layer a classifier reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// The first token's.
    First,
    /// The last token's.
    Last,
    /// The mean over all tokens.
    Mean,
}

impl Reads {
    /// Returns which of so many tokens they are of.
    pub fn of(self, tokens: usize) -> Range<usize> {
        match self {
            Self::First => 0..1,
            Self::Last => tokens - 1..tokens,
            Self::Mean => 0..tokens,
        }
    }
}

/// A head that puts sequences into classes by the hidden states of the last layer.
pub struct Classifier {
    /// What it reads.
    pub reads: Reads,
    /// The layer on that, with its activation.
    pub pooler: Option<Linear>,
    /// The norm that follows.
    pub norm: Option<Norm>,
    /// What reads the pieces of long sequences.
    pub long: Option<LongHead>,
    /// To the logits.
    pub output: Linear,
    /// What becomes of the logits.
    pub decision: Decision,
}

impl Classifier {
    /// Returns the number of logits.
    pub fn classes(&self) -> usize {
        self.output.outputs()
    }

    /// Returns how many numbers [`Classifier::pool`] makes of a sequence's, of which there are `hidden`.
    pub fn pooled(&self, hidden: usize) -> usize {
        self.pooler.as_ref().map_or(hidden, Linear::outputs)
    }

    /// Applies the first layer to what is read, `[sequences, hidden]`.
    pub fn pool(&self, read: &[f32]) -> Vec<f32> {
        let mut pooled = apply(self.pooler.as_ref(), read);
        self.norm.iter().for_each(|norm| norm.apply(&mut pooled));
        pooled
    }

    /// Returns the logits of a sequence from what the first layer makes of its pieces, `[pieces, hidden]`.
    pub fn logits(&self, pooled: &[f32]) -> Vec<f32> {
        let mut logits = vec![0.0; self.classes()];
        match &self.long {
            Some(long) => {
                let width = self.pooler.as_ref().map_or(pooled.len(), Linear::outputs);
                self.output.apply(&long.read(pooled, width), &mut logits);
            }
            None => self.output.apply(pooled, &mut logits),
        }
        logits
    }
}

/// Applies a layer, if there is one.
fn apply(layer: Option<&Linear>, input: &[f32]) -> Vec<f32> {
    let Some(layer) = layer else { return input.to_vec() };
    let mut output = vec![0.0; input.len() / layer.inputs() * layer.outputs()];
    layer.apply(input, &mut output);
    output
}

/// The head of a language model.
pub struct TokenHead {
    /// The layer on every token, with its activation.
    pub transform: Option<Linear>,
    /// The norm behind it.
    pub norm: Option<Norm>,
    /// To a logit for each token of the vocabulary.
    pub decoder: Linear,
}

impl TokenHead {
    /// Returns the logits of the vocabulary at each token, `[tokens, vocabulary]`.
    pub fn logits(&self, states: &[f32]) -> Vec<f32> {
        let mut transformed = apply(self.transform.as_ref(), states);
        self.norm.iter().for_each(|norm| norm.apply(&mut transformed));
        apply(Some(&self.decoder), &transformed)
    }

    /// Returns the natural logarithm of the probability of a token for each of the states, `[tokens, hidden]`.
    pub fn likelihoods(&self, states: &[f32], tokens: &[u32]) -> Vec<f32> {
        let width = self.transform.as_ref().unwrap_or(&self.decoder).inputs();
        let states = states.chunks(GUESSED * width);
        let likelihoods = states.zip(tokens.chunks(GUESSED)).flat_map(|(states, tokens)| {
            let logits = self.logits(states);
            let rows = logits.chunks_exact(self.decoder.outputs()).zip(tokens);
            rows.map(|(logits, &token)| log_softmax(logits, token as usize)).collect::<Vec<_>>()
        });
        likelihoods.collect()
    }
}

/// Returns logits[index] − ln Σ exp(logits).
fn log_softmax(logits: &[f32], index: usize) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from((x - largest).exp())).sum();
    (f64::from(logits[index] - largest) - sum.ln()) as f32
}
