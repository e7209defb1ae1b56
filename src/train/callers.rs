//! BertSNR as a task: a probability for the sequence and one for each of its k-mers. `models.md` B.7, C.4.

use candle_core::Tensor;

use super::examples::Examples;
use super::language::{self, Body};
use super::measures::{self, Convention};
use super::run::{Measures, Task, shuffled};
use crate::error::{Error, Result};
use crate::kernel::learn::loss;
use crate::model::graph::{Parameters, Pass, Random};
use crate::model::{Input, Wanted};
use crate::tokenizer::Tokenizer;

/// The share of the sequences in the loss; the rest is that of the k-mers.
const OF_SEQUENCES: f64 = 0.15;

/// Sequences of tokens, and a label for each base.
pub struct Called {
    /// The token ids, the first and the last of each sequence for specials.
    pub tokens: Vec<Vec<u32>>,
    /// A 0 or 1 for each base.
    pub bases: Vec<Vec<f32>>,
}

impl Called {
    /// Reads examples of `window` bases each.
    ///
    /// # Errors
    ///
    /// When a sequence has another length, or the tokenizer fails.
    pub fn of(tokenizer: &Tokenizer, examples: &Examples, window: usize) -> Result<Self> {
        examples.length(Some(window))?;
        Ok(Self { tokens: language::tokens(tokenizer, examples, None)?, bases: examples.labels.clone() })
    }
}

/// Returns the labels of k-mers: 1 where all their bases have it.
fn of_kmers(bases: &[f32], width: usize) -> impl Iterator<Item = f32> + '_ {
    bases.windows(width).map(|kmer| kmer.iter().copied().fold(1.0, f32::min))
}

/// BertSNR in training.
pub struct CallTask {
    /// The transformer.
    pub body: Body,
    /// Bases of a token.
    pub width: usize,
    /// The training set.
    pub train: Called,
    /// The dev set.
    pub dev: Called,
    /// Examples of a batch.
    pub batch: usize,
}

impl CallTask {
    /// Measures the bases of other sequences, as BertSNR brings its k-mers to bases.
    ///
    /// # Errors
    ///
    /// When the model cannot read one.
    pub fn measure(&self, parameters: &Parameters, set: &Called) -> Result<Measures> {
        let model = self.body.scorer(parameters)?;
        let rows: Vec<Input> =
            set.tokens.iter().map(|ids| Input { tokens: Some(ids), ..Input::of(b"") }).collect();
        let mut scores = Vec::new();
        for answer in model.predict(&rows, &Wanted::default())? {
            let answer =
                answer.map_err(|_| Error::data("an example has another length than the model reads"))?;
            scores.extend(answer.base_scores.unwrap_or_default().into_iter().map(f64::from));
        }
        let labels: Vec<bool> = set.bases.iter().flatten().map(|&label| label > 0.5).collect();
        Ok(measures::of_probabilities(&scores, &labels, 0.5, Convention::Trapezoid))
    }
}

impl Task for CallTask {
    fn batches(&self, random: Random) -> Vec<Vec<usize>> {
        shuffled(self.train.tokens.len(), self.batch, random)
    }

    fn loss(&self, batch: &[usize], pass: &mut Pass) -> Result<Tensor> {
        let rows: Vec<&[u32]> = batch.iter().map(|&row| self.train.tokens[row].as_slice()).collect();
        let (states, tokens) = self.body.states(&rows, pass)?;
        let [sequences, kmers] = self.body.graph.call(&states[states.len() - 1], &tokens, pass)?;
        let labels = || batch.iter().map(|&row| &self.train.bases[row]);
        let of_sequences: Vec<f32> =
            labels().map(|bases| bases.iter().copied().fold(0.0, f32::max)).collect();
        let of_kmers: Vec<f32> = labels().flat_map(|bases| of_kmers(bases, self.width)).collect();
        let sequences = (loss::binary_mean(&sequences, &of_sequences)? * OF_SEQUENCES)?;
        let kmers = (loss::binary_mean(&kmers, &of_kmers)? * (1.0 - OF_SEQUENCES))?;
        Ok((sequences + kmers)?)
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Measures> {
        self.measure(parameters, &self.dev)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_loses_the_kmers_that_leave_it() {
        let label = |text: &str| -> Vec<f32> { text.bytes().map(|b| f32::from(b - b'0')).collect() };
        let kmers = |text: &str| -> Vec<f32> { of_kmers(&label(text), 3).collect() };
        // The published way: two digits are cut out from the first 1 on; of a negative, the first two.
        assert_eq!(kmers("0011110000"), label("00110000"));
        assert_eq!(kmers("0000000000"), label("00000000"));
        assert_eq!(kmers("0000001111"), label("00000011"));
        assert_eq!(kmers("0110"), label("00"));
    }
}
