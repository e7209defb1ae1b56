//! What the tokens of a sequence contribute to a logit of a language model, by gradients with respect to their
//! embeddings.
//!
//! A token's embedding is that of its word; what is added for its type and position stays as it is, and special
//! tokens are no part of what is explained. A token's score goes to its bases in equal shares: k-mers overlap, so
//! a base has a share of each k-mer that covers it, and the sum over bases is the sum over tokens.

use candle_core::{Device, Tensor, Var};

use super::super::Steps;
use super::super::graph::{Parameters, Pass};
use super::graph::{self, EncoderGraph};
use super::{LanguageModel, LongHead};
use crate::error::{Error, Result};
use crate::kernel::{Precision, learn, rule};
use crate::tokenizer::Tokens;

/// Embedded numbers that go through the graph together.
const PASS: usize = 1 << 19;

/// How the gradient g of a token's embedding e becomes its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TokenWay {
    /// The L2 norm of g.
    Norm,
    /// Σ g · e.
    Product,
    /// Σ ḡ · (e − m), ḡ the mean gradient on the straight path from the embedding m of the masked token to e, at the
    /// middle of each step. Not from zeros: a norm that comes first makes the same of the smallest part of a word as
    /// of all of it, so that there is no path from nothing.
    Path(Steps),
}

/// The scores of the bases of one sequence, and the difference that they share out.
#[derive(Clone, Debug)]
pub struct TokenShare {
    /// `[L]`.
    pub contributions: Vec<f64>,
    /// The logit of the sequence.
    pub logit: f64,
    /// The logit of the background: all words masked, or all zeros where the way is no path.
    pub logit_of_background: f64,
}

/// A language model as the graph that training runs, with weights that stay.
pub(super) struct Differentiable {
    graph: EncoderGraph,
    parameters: Parameters,
}

impl Differentiable {
    /// Builds the graph of a model from what it was read from.
    ///
    /// # Errors
    ///
    /// When the model has no classifier, or is not differentiated as it runs.
    pub fn new(model: &LanguageModel) -> Result<Self> {
        model.encoder().processor()?;
        let classifier =
            model.classifier().ok_or_else(|| Error::data("the model has no class to explain"))?;
        if !matches!(classifier.long, None | Some(LongHead::Mean)) {
            return Err(Error::data(
                "a model that reads sequences in pieces has no gradient here: use --method ism",
            ));
        }
        let checkpoint = model
            .checkpoint()
            .ok_or_else(|| Error::data("this kind of transformer has no gradient here: use --method ism"))?;
        if checkpoint.precision != Precision::F32 {
            return Err(Error::usage("gradients need weights in 32-bit numbers: leave --dtype out"));
        }
        let graph = EncoderGraph::new(&checkpoint.config, &checkpoint.weights)?;
        let mut parameters = Parameters::of(&checkpoint.weights)?;
        parameters.freeze(|_| false);
        Ok(Self { graph, parameters })
    }

    /// Returns the word vectors of tokens, `[T, hidden]`.
    fn words(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        let words =
            self.graph.word_vectors(&graph::Tokens::of(&[tokens]), &Pass::in_use(&self.parameters))?;
        Ok(learn::read(&words, <[f32]>::to_vec)?)
    }

    /// Returns the logits `[B, classes]` of sequences as long as `tokens`, of their word vectors `[B·T, hidden]`.
    fn logits(&self, words: &Tensor, tokens: &[u32]) -> Result<Tensor> {
        let tokens = graph::Tokens::of(&vec![tokens; words.dim(0)? / tokens.len()]);
        let mut pass = Pass::in_use(&self.parameters);
        let states = self.graph.states(words, &tokens, &mut pass)?;
        self.graph.classify(&states[states.len() - 1], &tokens, &mut pass)
    }
}

impl LanguageModel {
    /// Shares the logit of `class` out to the bases of a sequence.
    ///
    /// # Errors
    ///
    /// When the model cannot be differentiated, or the sequence does not fit.
    pub fn explain(&self, sequence: &[u8], class: usize, way: TokenWay) -> Result<TokenShare> {
        let model = self.differentiable()?;
        let text = std::str::from_utf8(sequence).map_err(|_| Error::data("a sequence is no text"))?;
        let tokens = self.tokenizer_of_bases().encode(text, None)?;
        let background = self.mask().filter(|_| matches!(way, TokenWay::Path(_)));
        let question = Question::new(model, &tokens, class, background)?;
        let (full, none) = (question.at(1.0), question.at(0.0));
        let [logit, logit_of_background] = [question.logit(&full)?, question.logit(&none)?];
        let scores = match way {
            TokenWay::Norm => {
                let gradient = question.gradients(&[1.0])?;
                question.rows(&gradient).map(|row| row.iter().map(|g| g * g).sum::<f64>().sqrt()).collect()
            }
            TokenWay::Product => question.products(&question.gradients(&[1.0])?),
            TokenWay::Path(steps) => question.integrated(steps, logit - logit_of_background)?,
        };
        Ok(TokenShare { contributions: shares(&scores, &tokens, sequence.len()), logit, logit_of_background })
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

/// A logit of one sequence.
struct Question<'a> {
    model: &'a Differentiable,
    class: usize,
    tokens: &'a [u32],
    /// `[T, hidden]`: how the words of tokens that are no specials differ from those of the background.
    words: Vec<f32>,
    /// `[T, hidden]`: the words of the background, and those of specials.
    background: Vec<f32>,
}

impl<'a> Question<'a> {
    /// Looks up the words of tokens; those of a background are all of one token, or zeros.
    fn new(
        model: &'a Differentiable,
        tokens: &'a Tokens,
        class: usize,
        background: Option<u32>,
    ) -> Result<Self> {
        let mut words = model.words(&tokens.ids)?;
        let width = words.len() / tokens.ids.len().max(1);
        let of_background = background.map_or(Ok(vec![0.0; width]), |token| model.words(&[token]))?;
        let mut background = words.clone();
        let rows = background.chunks_exact_mut(width.max(1)).zip(&tokens.starts);
        rows.filter(|(_, start)| **start >= 0).for_each(|(row, _)| row.copy_from_slice(&of_background));
        words.iter_mut().zip(&background).for_each(|(word, background)| *word -= background);
        Ok(Self { model, class, tokens: &tokens.ids, words, background })
    }

    /// Returns the words with so large a part of how they differ from the background.
    fn at(&self, part: f32) -> Vec<f32> {
        self.words.iter().zip(&self.background).map(|(word, rest)| rest + part * word).collect()
    }

    fn width(&self) -> usize {
        self.words.len() / self.tokens.len()
    }

    fn rows<'v>(&self, values: &'v [f64]) -> std::slice::ChunksExact<'v, f64> {
        values.chunks_exact(self.width())
    }

    fn batch(&self, words: Vec<f32>) -> Result<Var> {
        let shape = (words.len() / self.width(), self.width());
        Ok(Var::from_vec(words, shape, &Device::Cpu)?)
    }

    fn logit(&self, words: &[f32]) -> Result<f64> {
        let batch = self.batch(words.to_vec())?.as_detached_tensor();
        let logits = self.model.logits(&batch, self.tokens)?.narrow(1, self.class, 1)?;
        Ok(f64::from(logits.sum_all()?.to_scalar::<f32>()?))
    }

    /// Returns the sum of the gradients `[T, hidden]` where so large parts of the words are there.
    fn gradients(&self, parts: &[f32]) -> Result<Vec<f64>> {
        let size = self.words.len();
        let mut sums = vec![0.0; size];
        for parts in parts.chunks((PASS / size.max(1)).max(1)) {
            let batch = self.batch(parts.iter().flat_map(|&part| self.at(part)).collect())?;
            let logits = self.model.logits(batch.as_tensor(), self.tokens)?.narrow(1, self.class, 1)?;
            let gradients = rule::gradients(&logits.sum_all()?)?;
            let gradients = gradients.get(batch.as_tensor());
            let gradients = gradients.ok_or_else(|| Error::data("the model cannot be differentiated"))?;
            for gradient in gradients.flatten_all()?.to_vec1::<f32>()?.chunks_exact(size) {
                sums.iter_mut().zip(gradient).for_each(|(sum, &value)| *sum += f64::from(value));
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

    /// Returns the scores of integrated gradients.
    fn integrated(&self, steps: Steps, difference: f64) -> Result<Vec<f64>> {
        let mut count = steps.first;
        let mut places: Vec<usize> = (0..count).collect();
        let mut sums = vec![0.0; self.words.len()];
        loop {
            let parts: Vec<f32> =
                places.iter().map(|&place| ((place as f64 + 0.5) / count as f64) as f32).collect();
            let more = self.gradients(&parts)?;
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            let mean: Vec<f64> = sums.iter().map(|sum| sum / count as f64).collect();
            let scores = self.products(&mean);
            let error = (scores.iter().sum::<f64>() - difference).abs();
            let incomplete = error > steps.tolerance * difference.abs();
            if !incomplete || 3 * count > steps.most {
                return Ok(scores);
            }
            count *= 3;
            places = (0..count).filter(|place| place % 3 != 1).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::noise;
    use crate::testing::shared;

    #[test]
    fn a_gradient_predicts_a_small_step_of_the_embeddings() {
        for name in ["dnabert1_tiny", "nt_v2_tiny"] {
            let Some(folder) = shared(&format!("golden/models/{name}")) else { return };
            let loaded = crate::model::load(&folder, &Device::Cpu).unwrap();
            let model = loaded.model.language().unwrap();
            let tokens = model.tokenizer_of_bases().encode("ACGTTGCATTAGGCCATAGACAGT", None).unwrap();
            let question = Question::new(model.differentiable().unwrap(), &tokens, 0, None).unwrap();
            let gradient = question.gradients(&[1.0]).unwrap();
            let (whole, direction) = (question.at(1.0), noise(gradient.len(), 3));
            let moved = |step: f32| -> Vec<f32> {
                whole.iter().zip(&direction).map(|(value, along)| value + step * along).collect()
            };
            let step = 2e-3;
            let rise = question.logit(&moved(step)).unwrap() - question.logit(&moved(-step)).unwrap();
            let found = rise / f64::from(2.0 * step);
            let expected: f64 = gradient.iter().zip(&direction).map(|(g, &along)| g * f64::from(along)).sum();
            let size = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            assert!(size > 1e-3, "{name}: the gradient is zero");
            assert!((found - expected).abs() < 1e-2 * size, "{name}: {found}, not {expected} (norm {size})");
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
