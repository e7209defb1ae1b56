//! An encoder as a graph that can be differentiated, with respect to its weights and to the vectors of its tokens.
//!
//! The same [`Spec`] and the same names as the encoder that scores; sequences lie end to end here too, without
//! padding. Adapters are applied where a [`Parameters`](super::super::graph::Parameters) has them.

mod head;
mod names;
mod stock;

use candle_core::{Device, Tensor};

use super::super::config::Config;
use super::super::graph::Pass;
use super::super::weights::Weights;
use super::super::{bert, esm, mosaic_bert};
use super::{NormKind, NormPlace, Spec};
use crate::error::{Error, Result};
use crate::kernel::Rotary;
use crate::kernel::attention::alibi_slopes;
use crate::kernel::learn::attention::{Attending, attend};
use crate::kernel::learn::norm::rms_norm;
use crate::kernel::learn::pointwise::{activate, add_row, gated};
pub use names::Family;
use names::{Names, Projection};
pub use stock::StockGraph;

/// An encoder as a graph.
pub struct EncoderGraph {
    spec: Spec,
    names: Names,
    rates: Rates,
    /// Angles of rotary positions, by the base of their wavelengths.
    rotary: Option<Rotary>,
}

/// The chances of numbers to drop out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Of hidden states.
    pub hidden: f64,
    /// Of attention probabilities.
    pub attention: f64,
    /// Before a classifier.
    pub classifier: f64,
}

impl Rates {
    fn of(config: &Config, otherwise: f64) -> Self {
        let rate = |name: &str| config.rest.get(name).and_then(serde_json::Value::as_f64);
        let hidden = rate("hidden_dropout_prob").unwrap_or(otherwise);
        Self {
            hidden,
            attention: rate("attention_probs_dropout_prob").unwrap_or(otherwise),
            classifier: rate("classifier_dropout").unwrap_or(hidden),
        }
    }
}

/// Where the sequences of a batch lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// The token ids of all sequences, end to end.
    pub ids: Vec<u32>,
    /// Where each sequence begins, and where the last ends.
    pub starts: Vec<usize>,
}

impl Tokens {
    /// Lays sequences end to end.
    pub fn of(sequences: &[&[u32]]) -> Self {
        let mut starts = vec![0];
        for sequence in sequences {
            starts.push(starts[starts.len() - 1] + sequence.len());
        }
        Self { ids: sequences.concat(), starts }
    }

    /// Returns how many sequences there are.
    pub fn sequences(&self) -> usize {
        self.starts.len() - 1
    }

    /// Returns the place of each token in its sequence.
    fn positions(&self) -> Vec<u32> {
        self.starts.windows(2).flat_map(|ends| 0..(ends[1] - ends[0]) as u32).collect()
    }
}

impl EncoderGraph {
    /// Reads the shape of an encoder off its config and weights.
    ///
    /// # Errors
    ///
    /// When they are not those of a BERT, a MosaicBERT or an ESM.
    pub fn new(config: &Config, weights: &Weights) -> Result<Self> {
        let prefix = ["bert.", "esm."].into_iter().find(|prefix| {
            weights.tensors().keys().any(|name| name.starts_with(&format!("{prefix}embeddings.")))
        });
        let body = prefix.map_or(weights.clone(), |prefix| weights.under(prefix));
        let prefix = prefix.unwrap_or_default();
        let is_esm = config.architecture().to_lowercase().starts_with("esm");
        let (spec, family) = match (is_esm, mosaic_bert::is_one(&body)) {
            (true, _) => (esm::spec_of(config, &body)?, Family::Esm),
            (false, true) => (mosaic_bert::spec_of(&config.part()?, &body)?, Family::MosaicBert),
            (false, false) => (bert::spec_of(&config.part()?, &body)?, Family::Bert),
        };
        let normed = is_esm && body.contains("embeddings.layer_norm.weight");
        Ok(Self::from_spec(spec, Names::new(family, prefix, normed), config))
    }

    fn from_spec(spec: Spec, names: Names, config: &Config) -> Self {
        let otherwise = if names.family() == Family::Esm { 0.0 } else { 0.1 };
        let base = spec.layers.iter().find_map(|layer| layer.rotary);
        let rotary = base.map(|base| super::encoder::rotary(&spec, base));
        let mut rates = Rates::of(config, otherwise);
        if names.family() == Family::MosaicBert {
            // DNABERT-2's own default.
            let given = config.rest.contains_key("attention_probs_dropout_prob");
            rates.attention = if given { rates.attention } else { 0.0 };
        }
        Self { spec, names, rates, rotary }
    }

    /// Returns the shape.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Returns the family, whose names the weights have.
    pub fn family(&self) -> Family {
        self.names.family()
    }

    /// Returns the name of the table of word vectors.
    pub fn words(&self) -> String {
        self.names.words()
    }

    /// Sets the chances to drop out.
    pub fn with_rates(self, rates: Rates) -> Self {
        Self { rates, ..self }
    }

    /// Returns the word vectors of tokens, `[tokens, hidden]`: what [`EncoderGraph::states`] begins with.
    ///
    /// # Errors
    ///
    /// When an id is beyond the vocabulary, or a sequence longer than the positions.
    pub fn word_vectors(&self, tokens: &Tokens, pass: &Pass) -> Result<Tensor> {
        if let Some(id) = tokens.ids.iter().find(|&&id| id as usize >= self.spec.vocabulary) {
            return Err(Error::data(format!(
                "token {id} is beyond the vocabulary ({})",
                self.spec.vocabulary
            )));
        }
        let ids = Tensor::new(tokens.ids.as_slice(), &Device::Cpu)?;
        Ok(pass.get(&self.names.words())?.index_select(&ids, 0)?)
    }

    /// Takes word vectors `[tokens, hidden]` through all layers and returns the hidden states, `[tokens, hidden]` each:
    /// the embeddings, then what comes out of each layer, of the last after the norm that may follow.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn states(&self, words: &Tensor, tokens: &Tokens, pass: &mut Pass) -> Result<Vec<Tensor>> {
        let mut hidden = self.embed(words, tokens, pass)?;
        let mut states = vec![hidden.clone()];
        for layer in 0..self.spec.layers.len() {
            hidden = self.layer(layer, &hidden, tokens, pass)?;
            states.push(hidden.clone());
        }
        if let Some(name) = self.names.last_norm() {
            let last = norm(&self.spec, &hidden, &name, pass)?;
            *states.last_mut().expect("the embeddings are there") = last;
        }
        Ok(states)
    }

    fn embed(&self, words: &Tensor, tokens: &Tokens, pass: &mut Pass) -> Result<Tensor> {
        let mut hidden = words.clone();
        if let Some(name) = self.names.types() {
            hidden = add_row(&hidden, &pass.get(&name)?.get(0)?)?;
        }
        if let (Some((name, first)), true) = (self.names.positions(), self.rotary.is_none()) {
            let longest = tokens.starts.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0);
            if self.spec.positions.is_some_and(|most| longest > most) {
                return Err(Error::data(format!(
                    "a sequence of {longest} tokens is longer than the model reads"
                )));
            }
            let positions: Vec<u32> = tokens.positions().into_iter().map(|place| place + first).collect();
            let positions = Tensor::new(positions.as_slice(), &Device::Cpu)?;
            hidden = (hidden + pass.get(&name)?.index_select(&positions, 0)?)?;
        }
        match self.names.first_norm() {
            Some(name) => hidden = norm(&self.spec, &hidden, &name, pass)?,
            None => return Ok(hidden),
        }
        pass.dropout(&hidden, self.rates.hidden)
    }

    /// Takes hidden states through one layer.
    fn layer(&self, index: usize, hidden: &Tensor, tokens: &Tokens, pass: &mut Pass) -> Result<Tensor> {
        let names = self.names.layer(index);
        let is_before = self.spec.place == NormPlace::Before;
        let input =
            if is_before { norm(&self.spec, hidden, &names.attention_norm, pass)? } else { hidden.clone() };
        let projected = match &names.projection {
            Projection::Joined(name) => pass.linear(&input, name)?,
            Projection::Apart(parts) => pass.linear_abreast(&input, parts)?,
        };
        let context = attend(&projected, &tokens.starts, self.attending(index, pass))?;
        let attended = pass.linear(&context, &names.output)?;
        let attended = (hidden + pass.dropout(&attended, self.rates.hidden)?)?;
        if is_before {
            let input = norm(&self.spec, &attended, &names.feed_forward_norm, pass)?;
            let more = self.feed_forward(&input, &names, pass)?;
            return Ok((attended + more)?);
        }
        let attended = norm(&self.spec, &attended, &names.attention_norm, pass)?;
        let more = self.feed_forward(&attended, &names, pass)?;
        norm(&self.spec, &(attended + more)?, &names.feed_forward_norm, pass)
    }

    fn feed_forward(&self, input: &Tensor, names: &names::LayerNames, pass: &mut Pass) -> Result<Tensor> {
        let up = pass.linear(input, &names.up)?;
        // MosaicBERT drops out before the last matrix, the others after it.
        let is_early = self.names.family() == Family::MosaicBert;
        if !self.spec.gated && !is_early {
            let down = pass.activated_linear(&up, self.spec.activation, &names.down)?;
            return pass.dropout(&down, self.rates.hidden);
        }
        let wide = match self.spec.gated {
            true => gated(&up, self.spec.activation)?,
            false => activate(&up, self.spec.activation)?,
        };
        let wide = if is_early { pass.dropout(&wide, self.rates.hidden)? } else { wide };
        let down = pass.linear(&wide, &names.down)?;
        if is_early { Ok(down) } else { pass.dropout(&down, self.rates.hidden) }
    }

    fn attending(&self, layer: usize, pass: &mut Pass) -> Attending {
        let kind = self.spec.layers[layer];
        let key = pass.dropout_key();
        Attending {
            heads: self.spec.heads,
            width: self.spec.width,
            slopes: kind.alibi.then(|| alibi_slopes(self.spec.heads).into()),
            rotary: kind.rotary.and(self.rotary.clone()),
            causal: kind.causal,
            reach: kind.reach,
            dropout: if key.is_some() { self.rates.attention } else { 0.0 },
            key: key.unwrap_or(0),
        }
    }
}

/// Applies the norm `name` to rows.
fn norm(spec: &Spec, rows: &Tensor, name: &str, pass: &Pass) -> Result<Tensor> {
    match spec.norm {
        NormKind::Layer => pass.layer_norm(rows, name, spec.epsilon),
        NormKind::RootMeanSquare => rms_norm(rows, pass.get(&format!("{name}.weight"))?, spec.epsilon),
    }
}

#[cfg(test)]
mod tests;
