//! What is read off sequences whose encoder runs on a GPU: a few vectors come back, and heads read them here.

use std::ops::Range;

use rayon::prelude::*;

use super::super::head::TokenHead;
use super::super::read::{Plan, Reading};
use super::GpuEncoder;
use crate::error::{Error, Result};
use crate::model::Pooling;
use crate::model::transformer::Sequence;

/// Vectors that a thread takes through a head at a time.
const VECTORS: usize = 64;

/// What of a sequence is read: what the classifier does, ranges whose mean is the embedding, single tokens.
#[derive(Default)]
struct Ranges {
    classifier: Option<Range<usize>>,
    embedding: Vec<Range<usize>>,
    tokens: Vec<usize>,
}

/// Some sequences, what of them is read, and what came back.
type Chunk<'a> = ((&'a [Sequence<'a>], &'a [Ranges]), &'a [Vec<f32>]);

impl Ranges {
    fn all(&self) -> Vec<Range<usize>> {
        let classifier = self.classifier.clone();
        let tokens = self.tokens.iter().map(|&token| token..token + 1);
        classifier.into_iter().chain(self.embedding.iter().cloned()).chain(tokens).collect()
    }
}

impl Plan<'_> {
    /// Reads sequences that go through an encoder on a GPU, in order.
    ///
    /// # Errors
    ///
    /// When attentions or states of other layers than the last are wanted, or as [`GpuEncoder::run`].
    pub fn read_on_gpu(&self, encoder: &GpuEncoder, sequences: &[Sequence]) -> Result<Vec<Reading>> {
        refuse(self.attentions.is_some(), "attentions")?;
        refuse(
            self.embedding.is_some_and(|(_, layers)| !layers.is_last()),
            "states of other layers than the last",
        )?;
        let ranges: Vec<Ranges> = sequences.iter().map(|sequence| self.ranges(sequence)).collect();
        let all: Vec<_> = ranges.iter().map(Ranges::all).collect();
        let vectors = encoder.run(sequences, &all)?;
        let hidden = encoder.spec().hidden;
        let work =
            sequences.par_chunks(VECTORS).zip(ranges.par_chunks(VECTORS)).zip(vectors.par_chunks(VECTORS));
        let read =
            |((sequences, ranges), vectors): Chunk| self.read_vectors(hidden, sequences, ranges, vectors);
        Ok(work.flat_map_iter(read).collect())
    }

    fn ranges(&self, sequence: &Sequence) -> Ranges {
        let bases = || self.bases(sequence.tokens);
        let embedding = match self.embedding {
            None => Vec::new(),
            Some((Pooling::Cls, _)) => vec![0..1],
            Some((Pooling::Last, _)) => vec![sequence.tokens.len() - 1..sequence.tokens.len()],
            Some((Pooling::MeanOfBases, _)) => runs(&bases()),
            Some(_) => vec![0..sequence.tokens.len()],
        };
        let tokens = match self.token_head {
            Some(_) => self.guesses(sequence.tokens).into_iter().map(|[from, _]| from).collect(),
            None => Vec::new(),
        };
        let classifier = self.classifier.map(|classifier| classifier.reads.of(sequence.tokens.len()));
        Ranges { classifier, embedding, tokens }
    }

    /// Reads some sequences of what came back.
    fn read_vectors(
        &self,
        hidden: usize,
        sequences: &[Sequence],
        ranges: &[Ranges],
        vectors: &[Vec<f32>],
    ) -> Vec<Reading> {
        let mut readings = vec![Reading::default(); sequences.len()];
        if let Some(classifier) = self.classifier {
            let reads: Vec<f32> = vectors.iter().flat_map(|vectors| &vectors[..hidden]).copied().collect();
            let pooled = classifier.pool(&reads);
            for (reading, pooled) in readings.iter_mut().zip(pooled.chunks_exact(classifier.pooled(hidden))) {
                reading.pooled = pooled.to_vec();
            }
        }
        for (((reading, sequence), ranges), vectors) in
            readings.iter_mut().zip(sequences).zip(ranges).zip(vectors)
        {
            let vectors = &vectors[if ranges.classifier.is_some() { hidden } else { 0 }..];
            let (means, states) = vectors.split_at(ranges.embedding.len() * hidden);
            if self.embedding.is_some() {
                reading.sum = vec![0.0; hidden];
            }
            for (range, mean) in ranges.embedding.iter().zip(means.chunks_exact(hidden)) {
                reading.count += range.len();
                let sum = reading.sum.iter_mut().zip(mean);
                sum.for_each(|(sum, &mean)| *sum += range.len() as f64 * f64::from(mean));
            }
            if let Some(head) = self.token_head {
                let guesses = self.guesses(sequence.tokens).into_iter();
                let tokens: Vec<u32> = guesses.map(|[_, token]| sequence.tokens[token]).collect();
                reading.likelihoods = head.likelihoods(states, &tokens);
            }
        }
        readings
    }
}

/// Returns the natural logarithm of the probability of each token that is masked, in order.
///
/// # Errors
///
/// As [`GpuEncoder::run`].
pub fn guess(encoder: &GpuEncoder, head: &TokenHead, sequences: &[Sequence]) -> Result<Vec<f32>> {
    let place = |sequence: &Sequence| sequence.masked.map_or(0, |(place, _)| place);
    let ranges: Vec<_> =
        sequences.iter().map(|sequence| vec![place(sequence)..place(sequence) + 1]).collect();
    let states = encoder.run(sequences, &ranges)?;
    let work = sequences.par_chunks(VECTORS).zip(states.par_chunks(VECTORS));
    let likelihoods = work.flat_map_iter(|(sequences, states)| {
        let tokens: Vec<u32> = sequences.iter().map(|sequence| sequence.tokens[place(sequence)]).collect();
        head.likelihoods(&states.concat(), &tokens)
    });
    Ok(likelihoods.collect())
}

/// Refuses what does not come back from a GPU.
pub fn refuse(asked: bool, what: &str) -> Result<()> {
    if !asked {
        return Ok(());
    }
    Err(Error::usage(format!("--device cuda: a GPU gives no {what}; use --device cpu")))
}

/// Returns the ranges of numbers that follow each other.
fn runs(ascending: &[usize]) -> Vec<Range<usize>> {
    let runs = ascending.chunk_by(|a, b| a + 1 == *b);
    runs.map(|run| run[0]..run[run.len() - 1] + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_follow_each_other_are_one_range() {
        assert_eq!(runs(&[1, 2, 3, 5, 8, 9]), [1..4, 5..6, 8..10]);
        assert!(runs(&[]).is_empty());
    }
}
