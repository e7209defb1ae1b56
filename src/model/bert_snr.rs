//! BertSNR: DNABERT with a probability for the sequence and one for each of its k-mers. `models.md` B.7.
//!
//! It was trained on sequences of one length, 100 bases of which 98 are first bases of a 3-mer. `base_scores` are
//! the probabilities of the k-mers brought to bases as the original's metric does: see [`bases::of_tokens`].

use candle_core::{Device, Tensor};

use super::graph::Pass;
use super::transformer::graph::{EncoderGraph, Tokens};
use super::transformer::{LanguageModel, StateReader, states};
use super::weights::Weights;
use super::{Answer, Input, Misfit, Model, Outputs, Scores, Source, Wanted, bert};
use crate::error::{Error, Result};
use crate::kernel::Conv;
use crate::kernel::pointwise::{sigmoid, tanh};
use crate::tokenizer::Tokenizer;

pub mod bases;

/// The architecture's name in `config.json`.
pub const NAME: &str = "BertSNR";

/// Bases of a row, unless `config.json` says otherwise.
const LENGTH: usize = 100;
/// Sequences whose hidden states are in memory at a time.
const PASS_ROWS: usize = 64;

/// The layers after the encoder.
pub struct Heads {
    pooler: Conv,
    sequence: Conv,
    token: Conv,
}

impl Heads {
    /// Builds the heads over hidden states of `hidden` numbers.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn load(weights: &Weights, hidden: usize) -> Result<Self> {
        Ok(Self {
            pooler: weights.under("bert.").linear("pooler.dense", [hidden, hidden])?,
            sequence: weights.linear("classifier_sequence.0", [1, hidden])?,
            token: weights.linear("classifier_token.0", [1, hidden])?,
        })
    }

    /// Returns the logit of each sequence, and the probabilities of its tokens but the first and the last, of
    /// hidden states `[tokens, hidden]` of each.
    ///
    /// # Errors
    ///
    /// When hidden states have another length.
    pub fn forward(&self, states: &[Vec<f32>], hidden: usize) -> Result<Vec<(f32, Vec<f32>)>> {
        let first: Vec<f32> = states.iter().flat_map(|states| states[..hidden].iter().copied()).collect();
        let first = Tensor::from_vec(first, (states.len(), hidden), &Device::Cpu)?;
        let logits = self.sequence.forward_rows(&tanh(&self.pooler.forward_rows(&first)?)?)?;
        let all: Vec<f32> = states.iter().flatten().copied().collect();
        let count = all.len() / hidden;
        let all = Tensor::from_vec(all, (count, hidden), &Device::Cpu)?;
        let tokens = sigmoid(&self.token.forward_rows(&all)?)?.flatten_all()?.to_vec1::<f32>()?;
        let mut tokens = tokens.into_iter();
        let mut rows = Vec::with_capacity(states.len());
        for (logit, states) in logits.flatten_all()?.to_vec1::<f32>()?.into_iter().zip(states) {
            let count = states.len() / hidden;
            let row: Vec<f32> = tokens.by_ref().take(count).collect();
            rows.push((logit, row[1..count - 1].to_vec()));
        }
        Ok(rows)
    }
}

struct BertSnr {
    language: LanguageModel,
    heads: Heads,
    window: usize,
    /// Bases of a token.
    width: usize,
    labels: Vec<String>,
}

/// Loads the encoder and its heads.
pub(super) fn load(source: &Source) -> Result<Box<dyn Model>> {
    let language = bert::load(source)?;
    let heads = Heads::load(source.weights, language.encoder().processor()?.spec().hidden)?;
    let window = source.config.window.unwrap_or(LENGTH);
    let width = match language.tokenizer() {
        Some(Tokenizer::Kmer(kmer)) => kmer.width(),
        _ => {
            return Err(Error::data(
                "a BertSNR reads overlapping k-mers; the directory's tokenizer is another",
            ));
        }
    };
    if window < width {
        return Err(Error::data(format!("a window of {window} bases has no {width}-mer")));
    }
    let tokens = window - width + 3;
    if let Some(limit) = language.limit().filter(|&limit| limit < tokens) {
        return Err(Error::data(format!(
            "a window of {window} bases is {tokens} tokens; the encoder reads {limit}"
        )));
    }
    Ok(Box::new(BertSnr { language, heads, window, width, labels: source.config.labels(1)? }))
}

impl BertSnr {
    fn decide(&self, rows: &[&[u32]], wanted: &Wanted) -> Result<Vec<Scores>> {
        let encoder = self.language.encoder().processor()?;
        let rows = self.heads.forward(&states(encoder, rows), encoder.spec().hidden)?;
        let score = |(logit, tokens): (f32, Vec<f32>)| Scores {
            logits: vec![logit],
            probs: (!wanted.logits_only).then(|| vec![1.0 / (1.0 + (-logit).exp())]),
            base_scores: (!wanted.logits_only).then(|| bases::of_tokens(&tokens, self.width)),
            ..Scores::default()
        };
        Ok(rows.into_iter().map(score).collect())
    }
}

impl Model for BertSnr {
    fn window(&self) -> Option<usize> {
        Some(self.window)
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn outputs(&self, wanted: &Wanted) -> Result<Outputs> {
        wanted.refuse_extras("a BertSNR")?;
        Ok(Outputs { classes: 1, probs: true, base_scores: true, ..Outputs::default() })
    }

    fn predict(&self, rows: &[Input], wanted: &Wanted) -> Result<Vec<Answer>> {
        let expected = self.window - self.width + 3;
        let mut answers = Vec::with_capacity(rows.len());
        for rows in rows.chunks(PASS_ROWS) {
            let tokens = rows.iter().map(|row| self.language.tokens(row)).collect::<Result<Vec<_>>>()?;
            let fitting: Vec<&[u32]> =
                tokens.iter().map(|tokens| &**tokens).filter(|row| row.len() == expected).collect();
            let mut scores =
                if fitting.is_empty() { Vec::new() } else { self.decide(&fitting, wanted)? }.into_iter();
            answers.extend(tokens.iter().map(|row| match row.len().cmp(&expected) {
                std::cmp::Ordering::Less => Err(Misfit::TooShort),
                std::cmp::Ordering::Equal => scores.next().ok_or(Misfit::TooShort),
                std::cmp::Ordering::Greater => Err(Misfit::TooLong),
            }));
        }
        Ok(answers)
    }

    fn tokenizer(&self) -> Option<&Tokenizer> {
        self.language.tokenizer()
    }

    fn language(&self) -> Option<(&LanguageModel, &dyn StateReader)> {
        Some((&self.language, &SequenceHead))
    }
}

/// The head of sequences, as a graph.
struct SequenceHead;

impl StateReader for SequenceHead {
    fn logits(
        &self,
        graph: &EncoderGraph,
        states: &Tensor,
        tokens: &Tokens,
        pass: &mut Pass,
    ) -> Result<Tensor> {
        let [of_sequences, _] = graph.call(states, tokens, pass)?;
        Ok(of_sequences)
    }
}

#[cfg(test)]
pub(super) mod tests;
