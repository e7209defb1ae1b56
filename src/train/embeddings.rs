//! Pairs of sequences by the embeddings of another model, as a task of the residual network. `models.md` C.7.

use std::collections::HashMap;

use candle_core::Tensor;

use super::examples::Examples;
use super::measures::{self, Convention};
use super::run::{Measures, Task};
use crate::error::{Error, Result};
use crate::kernel::learn::{self, loss};
use crate::metrics;
use crate::model::config::Config;
use crate::model::graph::{Parameters, Pass, Random, ResidualLayers};
use crate::model::residual_fcnn::{Graph, NAME, Range, features};
use crate::model::{Input, Model, Pooling, Wanted};

/// Sequences that are embedded together, and pairs that are measured together.
const ROWS: usize = 256;

/// Pairs of sequences by their embeddings, and whether each is positive.
pub struct EmbeddedPairs {
    /// The embeddings of all sequences, each once.
    vectors: Vec<Vec<f32>>,
    /// The numbers of both sequences of a pair.
    pairs: Vec<[usize; 2]>,
    labels: Vec<bool>,
}

impl EmbeddedPairs {
    /// Embeds the sequences of pairs.
    ///
    /// # Errors
    ///
    /// When examples are no pairs, a label is neither 0 nor 1, or the encoder cannot read a sequence.
    pub fn embed(encoder: &dyn Model, pooling: Pooling, examples: &Examples) -> Result<Self> {
        if examples.seconds.len() != examples.len() {
            return Err(Error::data(
                "these are no pairs: columns `sequence1`, `sequence2` and `label` make some",
            ));
        }
        let labels: Vec<u32> = examples.classes()?;
        if let Some(row) = labels.iter().position(|&label| label > 1) {
            return Err(Error::data("the label is neither 0 nor 1").at(format!("example {}", row + 1)));
        }
        let mut known: HashMap<&[u8], usize> = HashMap::new();
        let mut sequences: Vec<&[u8]> = Vec::new();
        let mut pairs = Vec::with_capacity(examples.len());
        for (first, second) in examples.sequences.iter().zip(&examples.seconds) {
            pairs.push([first, second].map(|sequence| {
                *known.entry(sequence.as_slice()).or_insert_with(|| {
                    sequences.push(sequence.as_slice());
                    sequences.len() - 1
                })
            }));
        }
        Ok(Self {
            vectors: vectors(encoder, pooling, &sequences)?,
            pairs,
            labels: labels.into_iter().map(|label| label == 1).collect(),
        })
    }

    /// Returns how many pairs there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Returns how many different sequences there are.
    pub fn sequences(&self) -> usize {
        self.vectors.len()
    }

    /// Returns the smallest and the largest number of all embeddings.
    pub fn range(&self) -> Range {
        let all = || self.vectors.iter().flatten().copied();
        Range {
            minimum: all().fold(f32::INFINITY, f32::min),
            maximum: all().fold(f32::NEG_INFINITY, f32::max),
        }
    }

    /// Returns the features of some pairs, `[pairs, 4·hidden]`.
    fn features(&self, rows: &[usize], range: Range) -> Result<Tensor> {
        let of = |row: &usize| {
            let [first, second] = self.pairs[*row].map(|sequence| self.vectors[sequence].as_slice());
            features(first, second, range)
        };
        let values: Vec<f32> = rows.iter().flat_map(of).collect();
        let width = values.len() / rows.len().max(1);
        Ok(learn::tensor(values, (rows.len(), width))?)
    }
}

/// Returns the embeddings of sequences.
fn vectors(encoder: &dyn Model, pooling: Pooling, sequences: &[&[u8]]) -> Result<Vec<Vec<f32>>> {
    let wanted = Wanted { embedding: Some(pooling), ..Wanted::default() };
    let mut vectors = Vec::with_capacity(sequences.len());
    for rows in sequences.chunks(ROWS) {
        let inputs: Vec<Input> = rows.iter().map(|bases| Input::of(bases)).collect();
        for (answer, bases) in encoder.predict(&inputs, &wanted)?.into_iter().zip(rows) {
            let vector = answer.ok().and_then(|scores| scores.embedding);
            vectors.push(vector.ok_or_else(|| {
                Error::data(format!("the encoder cannot read a sequence of {} bases", bases.len()))
            })?);
        }
    }
    Ok(vectors)
}

/// The residual network in training.
pub struct EmbeddedTask {
    network: ResidualLayers,
    range: Range,
    train: EmbeddedPairs,
    dev: EmbeddedPairs,
    batch: usize,
    /// The negative and the positive pairs of the training set.
    sides: [Vec<usize>; 2],
}

impl EmbeddedTask {
    /// Joins them; the ends of the training set's embeddings become −1 and 1.
    ///
    /// # Errors
    ///
    /// When all pairs to train on are of one kind, or there are none to choose by.
    pub fn new(
        widths: [usize; 3],
        dropout: f64,
        train: EmbeddedPairs,
        dev: EmbeddedPairs,
        batch: usize,
    ) -> Result<Self> {
        let of = |kind: bool| (0..train.len()).filter(|&row| train.labels[row] == kind).collect::<Vec<_>>();
        let sides = [of(false), of(true)];
        if sides.iter().any(Vec::is_empty) || dev.is_empty() {
            return Err(Error::data("training needs positive and negative pairs, and a dev set"));
        }
        let inputs = 4 * train.vectors[0].len();
        let network = ResidualLayers { inputs, widths, classes: 2, dropout };
        Ok(Self { network, range: train.range(), train, dev, batch: batch.max(1), sides })
    }

    /// Returns the network.
    pub fn network(&self) -> ResidualLayers {
        self.network
    }

    /// Returns the ends of the training set's embeddings.
    pub fn range(&self) -> Range {
        self.range
    }

    /// Returns the threshold of 0.1, 0.15, … 0.9 at which the F1 of the dev set is highest.
    ///
    /// # Errors
    ///
    /// When a weight is missing.
    pub fn threshold(&self, parameters: &Parameters) -> Result<f64> {
        let thresholds: Vec<f64> = (0..17).map(|step| f64::from(10 + 5 * step) / 100.0).collect();
        let scores = self.scores(parameters, &self.dev)?;
        let best = metrics::best_f1_threshold(&thresholds, &scores, &self.dev.labels);
        Ok(best.map_or(0.5, |(threshold, _)| threshold))
    }

    /// Measures pairs that are called positive above a threshold.
    ///
    /// # Errors
    ///
    /// As [`EmbeddedTask::threshold`].
    pub fn measure(
        &self,
        parameters: &Parameters,
        pairs: &EmbeddedPairs,
        threshold: f64,
    ) -> Result<Measures> {
        let scores = self.scores(parameters, pairs)?;
        Ok(measures::of_probabilities(&scores, &pairs.labels, threshold, Convention::Positive))
    }

    /// Returns the probabilities of pairs, from the network as it will score.
    fn scores(&self, parameters: &Parameters, pairs: &EmbeddedPairs) -> Result<Vec<f64>> {
        let network = Graph::load(&Config::new(NAME), &parameters.weights()?)?;
        let mut scores = Vec::with_capacity(pairs.len());
        let rows: Vec<usize> = (0..pairs.len()).collect();
        for rows in rows.chunks(ROWS) {
            let logits = network.forward(&pairs.features(rows, self.range)?)?.to_vec2::<f32>()?;
            let odds = logits.iter().map(|row| f64::from(row[1]) - f64::from(row[0]));
            scores.extend(odds.map(|odds| 1.0 / (1.0 + (-odds).exp())));
        }
        Ok(scores)
    }
}

impl Task for EmbeddedTask {
    /// Draws as many pairs as there are, with replacement, of both kinds with the same chance: what a sampler does
    /// whose weights are one over the number of each kind.
    fn batches(&self, mut random: Random) -> Vec<Vec<usize>> {
        let mut draw = |_| {
            let side = &self.sides[random.below(2)];
            side[random.below(side.len())]
        };
        let drawn: Vec<usize> = (0..self.train.len()).map(&mut draw).collect();
        drawn.chunks(self.batch).map(<[usize]>::to_vec).collect()
    }

    fn loss(&self, batch: &[usize], pass: &mut Pass) -> Result<Tensor> {
        let logits = self.network.logits(&self.train.features(batch, self.range)?, pass)?;
        let targets: Vec<Option<u32>> =
            batch.iter().map(|&row| Some(u32::from(self.train.labels[row]))).collect();
        loss::cross_entropy(&logits, &targets)
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Measures> {
        self.measure(parameters, &self.dev, 0.5)
    }
}

#[cfg(test)]
pub(super) mod tests;
