//! Transformers as tasks: classes of sequences, masked tokens, pairs of the same kind.
//!
//! Training runs the encoder as a graph; every evaluation builds the model that scores, from the weights as they are.

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::examples::Examples;
use super::measures::{self, named};
use super::run::{Measures, Task, shuffled};
use crate::error::{Error, Result};
use crate::kernel::learn::{linear, loss};
use crate::kernel::{Precision, pointwise};
use crate::metrics;
use crate::model::config::Config;
use crate::model::graph::{Convolutions, Parameters, Pass, Random};
use crate::model::transformer::LayerPooling;
use crate::model::transformer::graph::{EncoderGraph, Tokens};
use crate::model::{Input, Model, Opened, Pooling, Wanted};
use crate::tokenizer::Tokenizer;

/// What a transformer in training is made of.
pub struct Body {
    /// The encoder.
    pub graph: EncoderGraph,
    /// The config of the model that comes out.
    pub config: Config,
    /// The directory with its tokenizer.
    pub path: PathBuf,
}

impl Body {
    /// Builds the model that scores.
    ///
    /// # Errors
    ///
    /// When the weights are not those of the config.
    pub fn scorer(&self, parameters: &Parameters) -> Result<Box<dyn Model>> {
        Ok(self.opened(parameters)?.build(&Device::Cpu, Precision::F32)?.model)
    }

    /// Returns the model as one that was read, to be written.
    ///
    /// # Errors
    ///
    /// None so far.
    pub fn opened(&self, parameters: &Parameters) -> Result<Opened> {
        Ok(Opened {
            config: self.config.clone(),
            weights: parameters.weights()?,
            doubts: Vec::new(),
            path: self.path.clone(),
        })
    }

    /// Returns the hidden states of rows of tokens, and where they lie.
    pub(super) fn states(&self, rows: &[&[u32]], pass: &mut Pass) -> Result<(Vec<Tensor>, Tokens)> {
        let tokens = Tokens::of(rows);
        let words = self.graph.word_vectors(&tokens, pass)?;
        Ok((self.graph.states(&words, &tokens, pass)?, tokens))
    }
}

/// Turns sequences into tokens, specials included, at most `most` of them.
///
/// # Errors
///
/// When the tokenizer fails.
pub fn tokens(tokenizer: &Tokenizer, examples: &Examples, most: Option<usize>) -> Result<Vec<Vec<u32>>> {
    let encode = |bases: &[u8]| -> Result<Vec<u32>> {
        let bases = std::str::from_utf8(bases).map_err(|_| Error::data("a sequence is no text"))?;
        Ok(tokenizer.encode(bases, most)?.ids)
    };
    let row = |row: usize| -> Result<Vec<u32>> {
        let mut ids = encode(&examples.sequences[row])?;
        if let Some(second) = examples.seconds.get(row) {
            // [CLS] first [SEP] second [SEP]
            ids.extend(encode(second)?.get(1..).unwrap_or_default());
        }
        Ok(ids)
    };
    (0..examples.len()).into_par_iter().map(row).collect()
}

/// Sequences of tokens and their classes.
pub struct Labelled {
    /// The token ids.
    pub tokens: Vec<Vec<u32>>,
    /// A class for each.
    pub classes: Vec<u32>,
}

impl Labelled {
    /// Reads examples.
    ///
    /// # Errors
    ///
    /// When a label is no class.
    pub fn of(tokenizer: &Tokenizer, examples: &Examples, most: Option<usize>) -> Result<Self> {
        Ok(Self { classes: examples.classes()?, tokens: tokens(tokenizer, examples, most)? })
    }
}

/// Rows that are evaluated together.
const ROWS: usize = 512;

/// What makes classes of hidden states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The family's own classifier.
    Own,
    /// The convolutions of BERT-TFBS. Its loss takes their probabilities for logits, as it was published.
    Convolutions(Convolutions),
}

impl Head {
    /// Returns what the loss takes for logits, `[sequences, classes]`.
    fn logits(
        self,
        graph: &EncoderGraph,
        states: &Tensor,
        tokens: &Tokens,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        match self {
            Self::Own => graph.classify(states, tokens, pass),
            Self::Convolutions(head) => {
                let image = graph.image(states, tokens, head.tokens)?;
                pointwise::softmax(&head.logits(&image, pass)?)
            }
        }
    }
}

/// Fine-tuning: a class for each sequence.
pub struct ClassTask {
    /// The transformer.
    pub body: Body,
    /// What stands on it.
    pub head: Head,
    /// The training set.
    pub train: Labelled,
    /// The dev set.
    pub dev: Labelled,
    /// Examples of a batch.
    pub batch: usize,
}

impl ClassTask {
    /// Measures other sequences.
    ///
    /// # Errors
    ///
    /// When the model cannot read one.
    pub fn measure(&self, parameters: &Parameters, set: &Labelled) -> Result<Measures> {
        let model = self.body.scorer(parameters)?;
        let wanted = Wanted { logits_only: self.head == Head::Own, ..Wanted::default() };
        let mut logits = Vec::new();
        for rows in set.tokens.chunks(ROWS) {
            let rows: Vec<Input> =
                rows.iter().map(|ids| Input { bases: b"", second: None, tokens: Some(ids) }).collect();
            for answer in model.predict(&rows, &wanted)? {
                let scores = answer.map_err(|_| Error::data("an example is longer than the model reads"))?;
                logits.push(scores.probs.filter(|_| !wanted.logits_only).unwrap_or(scores.logits));
            }
        }
        Ok(measures::of_logits(&logits, &set.classes))
    }
}

impl Task for ClassTask {
    fn batches(&self, random: Random) -> Vec<Vec<usize>> {
        shuffled(self.train.tokens.len(), self.batch, random)
    }

    fn loss(&self, batch: &[usize], pass: &mut Pass) -> Result<Tensor> {
        let rows: Vec<&[u32]> = batch.iter().map(|&row| self.train.tokens[row].as_slice()).collect();
        let (states, tokens) = self.body.states(&rows, pass)?;
        let logits = self.head.logits(&self.body.graph, &states[states.len() - 1], &tokens, pass)?;
        let targets: Vec<Option<u32>> = batch.iter().map(|&row| Some(self.train.classes[row])).collect();
        loss::cross_entropy(&logits, &targets)
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Measures> {
        self.measure(parameters, &self.dev)
    }
}

/// Continued pre-training: tokens that are hidden are guessed.
pub struct MaskTask {
    /// The transformer.
    pub body: Body,
    /// The training set.
    pub train: Vec<Vec<u32>>,
    /// The dev set.
    pub dev: Vec<Vec<u32>>,
    /// Examples of a batch.
    pub batch: usize,
    /// What is hidden.
    pub masking: Masking,
}

/// How tokens are hidden.
#[derive(Clone, Debug)]
pub struct Masking {
    /// The chance of a token to be hidden, or to be the centre of a stretch that is.
    pub chance: f64,
    /// What is hidden besides a centre, by distance from it: the k-mers that would give it away (DNABERT).
    pub neighbours: Vec<i64>,
    /// The token that hides.
    pub mask: u32,
    /// Tokens that are never hidden.
    pub specials: Vec<u32>,
    /// Tokens that may stand in the place of a hidden one: those of this range.
    pub vocabulary: std::ops::Range<u32>,
}

impl Masking {
    /// Hides tokens: of those chosen, 80 % become the mask, 10 % a random token, 10 % stay. Returns what is read, and
    /// at the chosen places what was there.
    pub fn hide(&self, tokens: &[u32], random: &mut Random) -> (Vec<u32>, Vec<Option<u32>>) {
        let mut chosen = vec![false; tokens.len()];
        for place in 0..tokens.len() {
            if random.uniform() < self.chance {
                chosen[place] = true;
                for offset in &self.neighbours {
                    let neighbour = place as i64 + offset;
                    if (0..tokens.len() as i64).contains(&neighbour) {
                        chosen[neighbour as usize] = true;
                    }
                }
            }
        }
        let mut read = tokens.to_vec();
        let mut targets = vec![None; tokens.len()];
        for place in (0..tokens.len()).filter(|&place| chosen[place]) {
            if self.specials.contains(&tokens[place]) {
                continue;
            }
            targets[place] = Some(tokens[place]);
            let Masking { vocabulary, mask, .. } = self;
            match random.uniform() {
                x if x < 0.8 => read[place] = *mask,
                x if x < 0.9 => read[place] = vocabulary.start + random.below(vocabulary.len()) as u32,
                _ => {}
            }
        }
        (read, targets)
    }
}

impl MaskTask {
    /// Returns the logits at hidden places, and what was there.
    fn guesses(
        &self,
        rows: &[&[u32]],
        random: &mut Random,
        pass: &mut Pass,
    ) -> Result<(Tensor, Vec<Option<u32>>)> {
        let hidden: Vec<(Vec<u32>, Vec<Option<u32>>)> =
            rows.iter().map(|row| self.masking.hide(row, random)).collect();
        let read: Vec<&[u32]> = hidden.iter().map(|(read, _)| read.as_slice()).collect();
        let targets: Vec<Option<u32>> =
            hidden.iter().flat_map(|(_, targets)| targets.iter().copied()).collect();
        let (states, _) = self.body.states(&read, pass)?;
        let mut places: Vec<u32> =
            (0..targets.len() as u32).filter(|&place| targets[place as usize].is_some()).collect();
        if places.is_empty() {
            // A loss needs a row; one without a target adds nothing.
            places.push(0);
        }
        let targets = places.iter().map(|&place| targets[place as usize]).collect();
        let states = states[states.len() - 1].index_select(&Tensor::new(places, &Device::Cpu)?, 0)?;
        Ok((self.body.graph.guess(&states, pass)?, targets))
    }
}

impl Task for MaskTask {
    fn batches(&self, random: Random) -> Vec<Vec<usize>> {
        shuffled(self.train.len(), self.batch, random)
    }

    fn loss(&self, batch: &[usize], pass: &mut Pass) -> Result<Tensor> {
        let rows: Vec<&[u32]> = batch.iter().map(|&row| self.train[row].as_slice()).collect();
        let mut random = Random::new(pass.dropout_key().unwrap_or(0), "mask", 0);
        let (logits, targets) = self.guesses(&rows, &mut random, pass)?;
        loss::cross_entropy(&logits, &targets)
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Measures> {
        // The same places are hidden at every evaluation.
        let mut random = Random::new(0, "evaluation", 0);
        let (mut sum, mut right, mut count) = (0.0, 0, 0);
        for rows in self.dev.chunks(self.batch.max(1)) {
            let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
            let (logits, targets) = self.guesses(&rows, &mut random, &mut Pass::in_use(parameters))?;
            let hidden = targets.iter().flatten().count();
            sum += f64::from(loss::cross_entropy(&logits, &targets)?.to_scalar::<f32>()?) * hidden as f64;
            count += hidden;
            let best = logits.to_vec2::<f32>()?;
            right += best
                .iter()
                .zip(&targets)
                .filter(|(row, target)| Some(metrics::argmax(row) as u32) == **target)
                .count();
        }
        let loss = sum / count.max(1) as f64;
        let accuracy = right as f64 / count.max(1) as f64;
        Ok(named([("loss", loss), ("perplexity", loss.exp()), ("accuracy", accuracy)]))
    }
}

/// Returns the loss of pairs, MultipleNegativesRanking: `first` and `second` are `[B, hidden]`; of scale·cos(aᵢ, bⱼ),
/// row i should be largest at j = i.
///
/// # Errors
///
/// When the shapes differ.
pub fn ranking_loss(first: &Tensor, second: &Tensor, scale: f64) -> Result<Tensor> {
    let unit = |rows: &Tensor| -> Result<Tensor> {
        let norm = (rows.sqr()?.sum_keepdim(1)?.sqrt()?.clamp(1e-12, f64::INFINITY))?;
        Ok(rows.broadcast_div(&norm)?)
    };
    let scores = (linear::product(&unit(first)?, &unit(second)?, [false, true])? * scale)?;
    let targets: Vec<Option<u32>> = (0..first.dim(0)? as u32).map(Some).collect();
    loss::cross_entropy(&scores, &targets)
}

/// Pairs of sequences of tokens.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    /// All sequences, each once.
    pub tokens: Vec<Vec<u32>>,
    /// The numbers of both sequences of a pair.
    pub pairs: Vec<[usize; 2]>,
    /// Whether both are of one kind; of pairs to train on all are.
    pub same: Vec<bool>,
}

/// Contrastive training: sequences of one kind come near to each other.
pub struct PairTask {
    /// The transformer.
    pub body: Body,
    /// The training pairs.
    pub train: Pairs,
    /// The dev pairs.
    pub dev: Pairs,
    /// Pairs of a batch.
    pub batch: usize,
    /// How layers become a vector.
    pub layers: LayerPooling,
}

/// What cosines are multiplied by in the loss.
const SCALE: f64 = 20.0;

impl PairTask {
    /// Measures other pairs.
    ///
    /// # Errors
    ///
    /// When the model cannot read a sequence.
    pub fn measure(&self, parameters: &Parameters, set: &Pairs) -> Result<Measures> {
        let model = self.body.scorer(parameters)?;
        let wanted = Wanted { embedding: Some(Pooling::Own), ..Wanted::default() };
        let mut vectors: Vec<Vec<f32>> = Vec::with_capacity(set.tokens.len());
        for rows in set.tokens.chunks(ROWS) {
            let rows: Vec<Input> =
                rows.iter().map(|ids| Input { bases: b"", second: None, tokens: Some(ids) }).collect();
            for answer in model.predict(&rows, &wanted)? {
                let scores = answer.map_err(|_| Error::data("an example is longer than the model reads"))?;
                vectors.push(scores.embedding.unwrap_or_default());
            }
        }
        Ok(pair_measures(&vectors, set))
    }
}

/// How near the two sequences of a pair are.
type Nearness<'a> = &'a dyn Fn(&[usize; 2]) -> f64;

/// Returns how well nearness tells pairs of one kind from others, as sentence-transformers measures it.
fn pair_measures(vectors: &[Vec<f32>], Pairs { pairs, same, .. }: &Pairs) -> Measures {
    let sum = |pair: &[usize; 2], of: &dyn Fn(f64, f64) -> f64| -> f64 {
        let [a, b] = pair.map(|row| &vectors[row]);
        a.iter().zip(b).map(|(&a, &b)| of(f64::from(a), f64::from(b))).sum()
    };
    let dot = |pair: &[usize; 2]| sum(pair, &|a, b| a * b);
    let cosine = |pair: &[usize; 2]| {
        let [a, b] = pair.map(|row| dot(&[row, row]).sqrt().max(1e-12));
        dot(pair) / (a * b)
    };
    let manhattan = |pair: &[usize; 2]| -sum(pair, &|a, b| (a - b).abs());
    let euclidean = |pair: &[usize; 2]| -sum(pair, &|a, b| (a - b) * (a - b)).sqrt();
    let kinds: [(&str, Nearness); 4] =
        [("cosine", &cosine), ("dot", &dot), ("manhattan", &manhattan), ("euclidean", &euclidean)];
    let mut measures = Measures::new();
    for (name, score) in kinds {
        let scores: Vec<f64> = pairs.iter().map(score).collect();
        let (accuracy, f1) = metrics::best_between(&scores, same);
        measures.push((format!("{name}_accuracy"), accuracy.value));
        measures.push((format!("{name}_f1"), f1.value));
        measures.push((format!("{name}_ap"), metrics::average_precision(&scores, same).unwrap_or(f64::NAN)));
    }
    measures
}

impl Task for PairTask {
    /// Pairs in random order; one with a sequence that its batch has already goes to the next.
    fn batches(&self, mut random: Random) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.train.pairs.len()).collect();
        random.shuffle(&mut order);
        let mut batches = Vec::new();
        let mut waiting = std::collections::VecDeque::from(order);
        while !waiting.is_empty() {
            let mut seen = std::collections::HashSet::new();
            let (mut batch, mut later) = (Vec::new(), Vec::new());
            while batch.len() < self.batch.max(1) {
                let Some(pair) = waiting.pop_front() else { break };
                let [a, b] = self.train.pairs[pair].map(|row| &self.train.tokens[row]);
                if a == b || seen.contains(a) || seen.contains(b) {
                    later.push(pair);
                    continue;
                }
                seen.extend([a, b]);
                batch.push(pair);
            }
            if batch.is_empty() {
                // Pairs of equal sequences say nothing.
                break;
            }
            later.into_iter().rev().for_each(|pair| waiting.push_front(pair));
            batches.push(batch);
        }
        // A pair without others to tell it from has no loss.
        if batches.len() > 1 && batches.last().is_some_and(|batch| batch.len() == 1) {
            batches.pop();
        }
        batches
    }

    fn loss(&self, batch: &[usize], pass: &mut Pass) -> Result<Tensor> {
        let vectors = [0, 1].map(|side| -> Result<Tensor> {
            let rows: Vec<&[u32]> = batch
                .iter()
                .map(|&pair| self.train.tokens[self.train.pairs[pair][side]].as_slice())
                .collect();
            let (states, tokens) = self.body.states(&rows, pass)?;
            self.body.graph.pool(&states, &tokens, &self.layers)
        });
        let [first, second] = vectors;
        ranking_loss(&first?, &second?, SCALE)
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Measures> {
        self.measure(parameters, &self.dev)
    }
}

/// Draws `count` pairs of two different sequences of each set, without putting any back within a pair.
pub fn training_pairs(sets: &[Vec<usize>], count: usize, seed: u64) -> Vec<[usize; 2]> {
    let mut random = Random::new(seed, "training pairs", 0);
    let mut pairs = Vec::new();
    for set in sets.iter().filter(|set| set.len() > 1) {
        for _ in 0..count {
            let first = random.below(set.len());
            let second = (first + 1 + random.below(set.len() - 1)) % set.len();
            pairs.push([set[first], set[second]]);
        }
    }
    pairs
}

/// Draws dev pairs: `count` sequences of each set, and as many pairs, of which half are of one set, half of two.
pub fn dev_pairs(sets: &[Vec<usize>], count: usize, seed: u64) -> (Vec<[usize; 2]>, Vec<bool>) {
    let mut random = Random::new(seed, "dev pairs", 0);
    let sets: Vec<&Vec<usize>> = sets.iter().filter(|set| !set.is_empty()).collect();
    if sets.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let (mut pairs, mut same) = (Vec::new(), Vec::new());
    for _ in 0..count * sets.len() {
        let first = random.below(sets.len());
        let is_same = sets.len() == 1 || random.uniform() < 0.5;
        let second = match is_same {
            true => first,
            false => (first + 1 + random.below(sets.len() - 1)) % sets.len(),
        };
        let mut draw = |set: usize| sets[set][random.below(sets[set].len())];
        pairs.push([draw(first), draw(second)]);
        same.push(is_same);
    }
    (pairs, same)
}

#[cfg(test)]
mod tests;
