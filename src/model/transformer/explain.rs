//! What the tokens of a sequence contribute to a logit of a language model, by gradients with respect to their
//! embeddings, or by DeepLIFT's multipliers of these.
//!
//! A token's embedding is that of its word; what is added for its type and position stays as it is, and special
//! tokens are no part of what is explained. A token's score goes to its bases in equal shares: k-mers overlap, so
//! a base has a share of each k-mer that covers it, and the sum over bases is the sum over tokens.
//!
//! A background is the sequence with all its words masked, or another sequence whose tokens lie where those of the
//! sequence do. Not zeros: a norm that comes first makes the same of the smallest part of a word as of all of it, so
//! that there is no path from nothing.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};

use super::super::explain::{Background, Steps, relative_change};
use super::super::graph::{Parameters, Pass};
use super::graph::{self, EncoderGraph, StockGraph};
use super::language::PIECE;
use super::{LanguageModel, LongHead};
use crate::error::{Error, Result};
use crate::kernel::{Precision, learn, rule};
use crate::tokenizer::Tokens;

/// Embedded numbers that go through the graph together.
const PASS: usize = 1 << 19;

/// How a token's embedding e, a background's embedding m in its place, and what the logit's graph says of them become
/// its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TokenWay {
    /// The L2 norm of the gradient at e.
    Norm,
    /// Σ g · e, g the gradient at e.
    Product,
    /// Σ ḡ · (e − m), ḡ the mean gradient on the straight path from m to e, by the chords of its steps.
    Path(Steps),
    /// Σ μ · (e − m), μ the multipliers of the rescale rule: see [`rule`].
    Rescale,
}

impl TokenWay {
    /// Returns whether scores share out the difference from a background.
    pub fn shares_difference(self) -> bool {
        matches!(self, Self::Path(_) | Self::Rescale)
    }
}

/// The scores of the bases of one sequence, and the difference that they share out.
#[derive(Clone, Debug, Default)]
pub struct TokenShare {
    /// `[L]`.
    pub contributions: Vec<f64>,
    /// The logit of the sequence.
    pub logit: f64,
    /// The logit of the background, of several the mean; of all zeros where the way has none.
    pub logit_of_background: f64,
    /// What part of the scores of tokens changed when the steps of a path were last tripled, of several the largest;
    /// infinite where they were not, 0 where there is no path.
    pub change: f64,
}

/// What makes logits of the hidden states of a language model.
pub trait StateReader: Sync {
    /// Returns the logits `[sequences, classes]` of the last hidden states `[tokens, hidden]`.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    fn logits(
        &self,
        graph: &EncoderGraph,
        states: &Tensor,
        tokens: &graph::Tokens,
        pass: &mut Pass,
    ) -> Result<Tensor>;
}

/// A language model's own classifier.
pub(super) struct OwnClassifier;

impl StateReader for OwnClassifier {
    fn logits(
        &self,
        graph: &EncoderGraph,
        states: &Tensor,
        tokens: &graph::Tokens,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        graph.classify(states, tokens, pass)
    }
}

/// A language model as a graph, with weights that stay.
pub(super) struct Differentiable {
    graph: Graph,
    parameters: Parameters,
    /// The most tokens that go through the graph as one; logits are the mean over such pieces.
    piece: usize,
}

/// The families of graphs.
enum Graph {
    /// What training runs.
    Encoder(EncoderGraph),
    /// An encoder with its own classifier.
    Stock(StockGraph),
}

impl Differentiable {
    /// Builds the graph of a model from what it was read from.
    ///
    /// # Errors
    ///
    /// When the model is not differentiated as it runs.
    pub fn new(model: &LanguageModel) -> Result<Self> {
        model.encoder().processor()?;
        let piece = match model.classifier().and_then(|head| head.long.as_ref()) {
            None => usize::MAX,
            Some(LongHead::Mean) => PIECE,
            Some(LongHead::Recurrent(..) | LongHead::Joined(..)) => {
                return Err(Error::data(
                    "a head that joins the pieces of long sequences has no gradient here: use --method ism",
                ));
            }
        };
        let checkpoint = model.checkpoint();
        if checkpoint.precision != Precision::F32 {
            return Err(Error::usage("gradients need weights in 32-bit numbers: leave --dtype out"));
        }
        let graph = match StockGraph::is_one(&checkpoint.config) {
            true => Graph::Stock(StockGraph::new(&checkpoint.config, &checkpoint.weights)?),
            false => Graph::Encoder(EncoderGraph::new(&checkpoint.config, &checkpoint.weights)?),
        };
        let mut parameters = Parameters::of(&checkpoint.weights)?;
        parameters.freeze(|_| false);
        Ok(Self { graph, parameters, piece })
    }

    /// Returns the word vectors of tokens, `[T, hidden]`.
    fn words(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        let (tokens, pass) = (graph::Tokens::of(&[tokens]), Pass::in_use(&self.parameters));
        let words = match &self.graph {
            Graph::Encoder(graph) => graph.word_vectors(&tokens, &pass)?,
            Graph::Stock(graph) => graph.word_vectors(&tokens, &pass)?,
        };
        Ok(learn::read(&words, <[f32]>::to_vec)?)
    }

    /// Returns the logits `[B, classes]` of sequences as long as `tokens`, of their word vectors `[B·T, hidden]`.
    fn logits(&self, words: &Tensor, tokens: &[u32], reader: &dyn StateReader) -> Result<Tensor> {
        let sequences = words.dim(0)? / tokens.len();
        let pieces: Vec<&[u32]> = tokens.chunks(self.piece.min(tokens.len())).collect();
        let tokens = graph::Tokens::of(&pieces.repeat(sequences));
        let mut pass = Pass::in_use(&self.parameters);
        let logits = match &self.graph {
            Graph::Encoder(graph) => {
                let states = graph.states(words, &tokens, &mut pass)?;
                reader.logits(graph, &states[states.len() - 1], &tokens, &mut pass)?
            }
            Graph::Stock(graph) => graph.logits(words, &tokens, &mut pass)?,
        };
        match pieces.len() {
            1 => Ok(logits),
            // What follows the mean of the pieces is linear.
            count => Ok(logits.reshape((sequences, count, logits.dim(1)?))?.mean(1)?),
        }
    }
}

impl LanguageModel {
    /// Shares the logit of `class` that `reader` gives out to the bases of a sequence; no bases in a background stand
    /// for masked words.
    ///
    /// # Errors
    ///
    /// When the model cannot be differentiated, the sequence does not fit, or a background has other tokens.
    pub fn explain(
        &self,
        sequence: &[u8],
        class: usize,
        background: &Background,
        way: TokenWay,
        reader: &dyn StateReader,
    ) -> Result<TokenShare> {
        let model = self.differentiable()?;
        let tokens = self.tokens_of(sequence)?;
        let words = model.words(&tokens.ids)?;
        let width = words.len() / tokens.ids.len().max(1);
        let mut backgrounds = Vec::new();
        match background {
            _ if !way.shares_difference() => backgrounds.push(vec![0.0; words.len()]),
            Background::Zeros => backgrounds.push(self.masked(model, tokens.ids.len())?),
            Background::Sequences(sequences) => {
                for other in sequences {
                    backgrounds.push(model.words(&self.aligned(other, &tokens)?)?);
                }
            }
        }
        let mut mean = TokenShare { contributions: vec![0.0; sequence.len()], ..TokenShare::default() };
        let count = backgrounds.len() as f64;
        for of_background in backgrounds {
            let model = (model, reader);
            let question = Question::new(model, class, &tokens, &words, (of_background, width));
            let share = question.answer(way, sequence.len())?;
            let sums = mean.contributions.iter_mut().zip(&share.contributions);
            sums.for_each(|(sum, value)| *sum += value / count);
            mean.logit = share.logit;
            mean.logit_of_background += share.logit_of_background / count;
            mean.change = if mean.change >= share.change { mean.change } else { share.change };
        }
        Ok(mean)
    }

    fn tokens_of(&self, sequence: &[u8]) -> Result<Tokens> {
        let text = std::str::from_utf8(sequence).map_err(|_| Error::data("a sequence is no text"))?;
        self.tokenizer_of_bases().encode(text, None)
    }

    /// Returns as many word vectors of the token that hides others.
    fn masked(&self, model: &Differentiable, count: usize) -> Result<Vec<f32>> {
        let mask = self.mask().ok_or_else(|| {
            Error::usage(
                "the model's tokenizer has no token that hides another: compare with --background shuffle:N, or use \
                 --method ism",
            )
        })?;
        Ok(model.words(&[mask])?.repeat(count))
    }

    /// Returns the tokens of a sequence that lie where those of another do.
    fn aligned(&self, sequence: &[u8], tokens: &Tokens) -> Result<Vec<u32>> {
        let found = self.tokens_of(sequence)?;
        match (&found.starts, &found.ends) == (&tokens.starts, &tokens.ends) {
            true => Ok(found.ids),
            false => Err(Error::usage(
                "a shuffled sequence has tokens at other places than the sequence, so that they cannot be compared: use \
                 --background zero, which compares with the masked token, or --method ism",
            )),
        }
    }
}

/// Gives each base an equal share of the score of each token that covers it.
fn shares(scores: &[f64], tokens: &Tokens, length: usize) -> Vec<f64> {
    let mut shares = vec![0.0; length];
    for ((&start, &end), score) in tokens.starts.iter().zip(&tokens.ends).zip(scores) {
        if start >= 0 {
            let share = score / f64::from(end - start);
            shares[start as usize..end as usize].iter_mut().for_each(|base| *base += share);
        }
    }
    shares
}

/// A logit of one sequence, and one background.
struct Question<'a> {
    model: &'a Differentiable,
    reader: &'a dyn StateReader,
    class: usize,
    tokens: &'a Tokens,
    /// `[T, hidden]`: how the words of tokens that are no specials differ from those of the background.
    words: Vec<f32>,
    /// `[T, hidden]`: the words of the background, and those of specials.
    background: Vec<f32>,
}

impl<'a> Question<'a> {
    /// Compares words `[T, width]` with those of a background.
    fn new(
        (model, reader): (&'a Differentiable, &'a dyn StateReader),
        class: usize,
        tokens: &'a Tokens,
        words: &[f32],
        (mut background, width): (Vec<f32>, usize),
    ) -> Self {
        let rows = background.chunks_exact_mut(width.max(1)).zip(words.chunks_exact(width.max(1)));
        let specials = rows.zip(&tokens.starts).filter(|(_, start)| **start < 0);
        specials.for_each(|((background, word), _)| background.copy_from_slice(word));
        let words = words.iter().zip(&background).map(|(word, background)| word - background).collect();
        Self { model, reader, class, tokens, words, background }
    }

    /// Shares the logit out to so many bases.
    fn answer(&self, way: TokenWay, length: usize) -> Result<TokenShare> {
        let [logit, logit_of_background] = [self.logit(&self.at(1.0))?, self.logit(&self.at(0.0))?];
        let (scores, change) = match way {
            TokenWay::Norm => {
                let norm = |row: &[f64]| row.iter().map(|g| g * g).sum::<f64>().sqrt();
                (self.rows(&self.gradient()?).map(norm).collect(), 0.0)
            }
            TokenWay::Product => (self.products(&self.gradient()?), 0.0),
            TokenWay::Path(steps) => steps.refine(
                |count| Ok(self.products(&self.along(&Steps::ends(count), rule::chords)?)),
                |former, found| relative_change(former.iter().copied().zip(found.iter().copied())),
            )?,
            TokenWay::Rescale => (self.products(&self.along(&[0.0, 1.0], rule::multipliers)?), 0.0),
        };
        let contributions = shares(&scores, self.tokens, length);
        Ok(TokenShare { contributions, logit, logit_of_background, change })
    }

    /// Returns the words with so large a part of how they differ from the background.
    fn at(&self, part: f32) -> Vec<f32> {
        self.words.iter().zip(&self.background).map(|(word, rest)| rest + part * word).collect()
    }

    fn width(&self) -> usize {
        self.words.len() / self.tokens.ids.len()
    }

    fn rows<'v>(&self, values: &'v [f64]) -> std::slice::ChunksExact<'v, f64> {
        values.chunks_exact(self.width())
    }

    fn batch(&self, words: Vec<f32>) -> Result<Var> {
        let shape = (words.len() / self.width(), self.width());
        Ok(Var::from_vec(words, shape, &Device::Cpu)?)
    }

    /// Returns the logits of words of one sequence or more, `[B, 1]`.
    fn forward(&self, words: &Tensor) -> Result<Tensor> {
        Ok(self.model.logits(words, &self.tokens.ids, self.reader)?.narrow(1, self.class, 1)?)
    }

    fn logit(&self, words: &[f32]) -> Result<f64> {
        let batch = self.batch(words.to_vec())?.as_detached_tensor();
        Ok(f64::from(self.forward(&batch)?.sum_all()?.to_scalar::<f32>()?))
    }

    /// Returns what a rule makes of words of sequences, of as many numbers.
    fn backward(&self, words: Vec<f32>, rule: fn(&Tensor) -> Result<GradStore>) -> Result<Vec<f32>> {
        let batch = self.batch(words)?;
        let store = rule(&self.forward(batch.as_tensor())?.sum_all()?)?;
        let found = store.get(batch.as_tensor());
        let found =
            found.ok_or_else(|| Error::data("the model cannot be differentiated: use --method ism"))?;
        Ok(found.flatten_all()?.to_vec1()?)
    }

    /// Returns the gradient of the whole words, `[T, hidden]`.
    fn gradient(&self) -> Result<Vec<f64>> {
        Ok(self.backward(self.at(1.0), rule::gradients)?.into_iter().map(f64::from).collect())
    }

    /// Returns the mean of what a rule makes of the steps between these places of the path, each as long as it is:
    /// `[T, hidden]`.
    fn along(&self, ends: &[f32], rule: fn(&Tensor) -> Result<GradStore>) -> Result<Vec<f64>> {
        let size = self.words.len();
        let mut sums = vec![0.0; size];
        let steps: Vec<&[f32]> = ends.windows(2).collect();
        for steps in steps.chunks((PASS / (2 * size).max(1)).max(1)) {
            let places = [1, 0].map(|end| steps.iter().map(move |step| step[end]));
            let words = places.into_iter().flatten().flat_map(|part| self.at(part)).collect();
            let values = self.backward(words, rule)?;
            for (step, values) in steps.iter().zip(values.chunks_exact(size)) {
                let length = f64::from(step[1]) - f64::from(step[0]);
                sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += length * f64::from(value));
            }
        }
        Ok(sums)
    }

    /// Returns Σ g · e of each token, e how its word differs from the background.
    fn products(&self, gradient: &[f64]) -> Vec<f64> {
        let products: Vec<f64> =
            gradient.iter().zip(&self.words).map(|(g, &word)| g * f64::from(word)).collect();
        self.rows(&products).map(|row| row.iter().sum()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::noise;
    use crate::testing::shared;

    /// Asks of the first class of a golden model; of the background zeros.
    fn with_question<T>(name: &str, sequence: &str, work: impl FnOnce(&Question) -> T) -> Option<T> {
        let folder = shared(&format!("golden/models/{name}"))?;
        let loaded = crate::model::load(&folder, &Device::Cpu).unwrap();
        let (model, reader) = loaded.model.language().unwrap();
        let tokens = model.tokens_of(sequence.as_bytes()).unwrap();
        let graph = model.differentiable().unwrap();
        let words = graph.words(&tokens.ids).unwrap();
        let background = (vec![0.0; words.len()], words.len() / tokens.ids.len());
        Some(work(&Question::new((graph, reader), 0, &tokens, &words, background)))
    }

    #[test]
    fn a_gradient_predicts_a_small_step_of_the_embeddings() {
        for name in ["dnabert1_tiny", "nt_v2_tiny"] {
            with_question(name, "ACGTTGCATTAGGCCATAGACAGT", |question| {
                let gradient = question.gradient().unwrap();
                let (whole, direction) = (question.at(1.0), noise(gradient.len(), 3));
                let moved = |step: f32| -> Vec<f32> {
                    whole.iter().zip(&direction).map(|(value, along)| value + step * along).collect()
                };
                let step = 2e-3;
                let rise = question.logit(&moved(step)).unwrap() - question.logit(&moved(-step)).unwrap();
                let found = rise / f64::from(2.0 * step);
                let expected: f64 =
                    gradient.iter().zip(&direction).map(|(g, &along)| g * f64::from(along)).sum();
                let size = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
                assert!(size > 1e-3, "{name}: the gradient is zero");
                assert!(
                    (found - expected).abs() < 1e-2 * size,
                    "{name}: {found}, not {expected} (norm {size})"
                );
            });
        }
    }

    #[test]
    fn the_chord_of_a_short_way_is_the_gradient() {
        for name in ["dnabert1_tiny", "nt_v1_tiny", "nt_v2_tiny"] {
            with_question(name, "ACGTTGCATTAGGCCATAGACAGT", |question| {
                let gradient = question.gradient().unwrap();
                let chord = question.along(&[1.0 - 1.0 / 64.0, 1.0], rule::chords).unwrap();
                let chord: Vec<f64> = chord.iter().map(|value| 64.0 * value).collect();
                let size = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
                let error = chord.iter().zip(&gradient).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                assert!(size > 1e-3 && error < 0.05 * size, "{name}: {error} of {size}");
            });
        }
    }

    #[test]
    fn overlapping_tokens_share_their_scores_among_their_bases() {
        let tokens = Tokens {
            ids: vec![2, 7, 8, 3],
            starts: vec![-1, 0, 1, -1],
            ends: vec![-1, 2, 3, -1],
            truncated: false,
        };
        assert_eq!(shares(&[5.0, 2.0, 4.0, 5.0], &tokens, 4), [1.0, 3.0, 2.0, 0.0]);
    }
}
