//! BERT-TFBS and BERT-TFBS_N: DNABERT-2 or NyxBind, and convolutions with attention over its hidden states.
//! `models.md` B.4.
//!
//! The directory is that of a fine-tuned encoder (`config.json` with its keys and this architecture, weights with
//! `bert.` and `model.` before their names, `tokenizer.json`). The convolutions read a fixed number of tokens, 30
//! as trained; shorter sequences have zeros after them, as the unpadded encoder leaves them, longer ones are
//! `too_long` (training cut them, and 30 tokens cut no window of 101 bases).

use candle_core::{Device, Tensor};

use super::graph::Pass;
use super::network::Head;
use super::transformer::graph::{EncoderGraph, Tokens};
use super::transformer::{LanguageModel, StateReader, states};
use super::{Answer, Input, Misfit, Model, Outputs, Scores, Source, Wanted, bert};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

mod cnn;

pub use cnn::Cnn;

/// The architecture's name in `config.json`.
pub const NAME: &str = "BERT_TFBS";

/// Sequences whose hidden states are in memory at a time.
const PASS_ROWS: usize = 64;

struct BertTfbs {
    language: LanguageModel,
    cnn: Cnn,
    labels: Vec<String>,
}

/// Loads the encoder and what follows it.
pub(super) fn load(source: &Source) -> Result<Box<dyn Model>> {
    let language = bert::load(source)?;
    let cnn = Cnn::load(&source.weights.under("model."))?;
    let hidden = language.encoder().processor()?.spec().hidden;
    if cnn.states() != hidden {
        let states = cnn.states();
        let message = format!(
            "`model.linear1.weight` reads hidden states of {states} numbers, the encoder has {hidden}"
        );
        return Err(Error::data(message));
    }
    if let Some(limit) = language.limit().filter(|&limit| limit < cnn.tokens()) {
        let tokens = cnn.tokens();
        return Err(Error::data(format!("the convolutions read {tokens} tokens, the encoder {limit}")));
    }
    let labels = source.config.labels(cnn.classes())?;
    Ok(Box::new(BertTfbs { language, cnn, labels }))
}

impl BertTfbs {
    /// Predicts rows of tokens that fit.
    fn decide(&self, rows: &[&[u32]], wanted: &Wanted) -> Result<Vec<Scores>> {
        let (tokens, hidden) = (self.cnn.tokens(), self.cnn.states());
        let mut image = vec![0.0; rows.len() * tokens * hidden];
        let states = states(self.language.encoder().processor()?, rows);
        for (image, states) in image.chunks_exact_mut(tokens * hidden).zip(states) {
            image[..states.len()].copy_from_slice(&states);
        }
        let image = Tensor::from_vec(image, (rows.len(), tokens, hidden), &Device::Cpu)?;
        let prediction = Head::Softmax.predict(self.cnn.forward(&image)?)?;
        let mut probs = match prediction.probs.filter(|_| !wanted.logits_only) {
            Some(probs) => probs.to_vec2()?.into_iter().map(Some).collect(),
            None => vec![None; rows.len()],
        }
        .into_iter();
        let row = |logits| Scores { logits, probs: probs.next().flatten(), ..Scores::default() };
        Ok(prediction.logits.to_vec2()?.into_iter().map(row).collect())
    }
}

impl Model for BertTfbs {
    fn window(&self) -> Option<usize> {
        None
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn outputs(&self, wanted: &Wanted) -> Result<Outputs> {
        wanted.refuse_extras("a BERT-TFBS")?;
        Ok(Outputs { classes: self.labels.len(), probs: true, ..Outputs::default() })
    }

    fn predict(&self, rows: &[Input], wanted: &Wanted) -> Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(rows.len());
        for rows in rows.chunks(PASS_ROWS) {
            let tokens = rows.iter().map(|row| self.language.tokens(row)).collect::<Result<Vec<_>>>()?;
            let fits = |tokens: &[u32]| tokens.len() <= self.cnn.tokens();
            let fitting: Vec<&[u32]> =
                tokens.iter().map(|tokens| &**tokens).filter(|row| fits(row)).collect();
            let mut scores =
                if fitting.is_empty() { Vec::new() } else { self.decide(&fitting, wanted)? }.into_iter();
            answers.extend(tokens.iter().map(|row| match fits(row) {
                true => scores.next().ok_or(Misfit::TooLong),
                false => Err(Misfit::TooLong),
            }));
        }
        Ok(answers)
    }

    fn tokenizer(&self) -> Option<&Tokenizer> {
        self.language.tokenizer()
    }

    fn token_limit(&self) -> Option<usize> {
        Some(self.cnn.tokens())
    }

    fn language(&self) -> Option<(&LanguageModel, &dyn StateReader)> {
        Some((&self.language, &self.cnn))
    }
}

impl StateReader for Cnn {
    fn logits(&self, graph: &EncoderGraph, states: &Tensor, tokens: &Tokens, _: &mut Pass) -> Result<Tensor> {
        self.forward(&graph.image(states, tokens, self.tokens())?)
    }
}

#[cfg(test)]
pub(super) mod tests;
