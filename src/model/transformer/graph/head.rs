//! Heads on the encoder as a graph: classes, guesses of tokens, sentence vectors; and the weights of new ones.

use candle_core::{Device, Tensor};

use super::super::{LayerPooling, Reads};
use super::{EncoderGraph, Family, Names, Tokens};
use crate::error::Result;
use crate::kernel::Activation;
use crate::kernel::learn::linear::{linear, product};
use crate::kernel::learn::pointwise::activate;
use crate::kernel::learn::{dropout, tensor};
use crate::model::config::Config;
use crate::model::graph::{Parameters, Pass, Random};
use crate::model::transformer::Spec;
use crate::model::weights::Array;

/// The deviation of new weights of transformers.
const DEVIATION: f64 = 0.02;

/// BertSNR's heads: of sequences, and of tokens.
const CALLERS: [&str; 2] = ["classifier_sequence.0", "classifier_token.0"];

impl EncoderGraph {
    /// Returns the logits `[sequences, classes]` of the last hidden states `[tokens, hidden]`.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn classify(&self, states: &Tensor, tokens: &Tokens, pass: &mut Pass) -> Result<Tensor> {
        let mut first = rows(states, tokens.starts[..tokens.sequences()].iter().copied())?;
        let [pooler, output] = self.names.classifier();
        if self.family() == Family::Esm {
            first = pass.dropout(&first, self.rates.classifier)?;
        }
        let pooled = activate(&pass.linear(&first, &pooler)?, Activation::Tanh)?;
        let pooled = pass.dropout(&pooled, self.rates.classifier)?;
        pass.linear(&pooled, &output)
    }

    /// Returns BertSNR's logits of the last hidden states `[tokens, hidden]`: one for each sequence, `[sequences, 1]`,
    /// and one for each token but the first and the last of a sequence, end to end, `[tokens, 1]`.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn call(&self, states: &Tensor, tokens: &Tokens, pass: &mut Pass) -> Result<[Tensor; 2]> {
        const DROPOUT: f64 = 0.2;
        let first = rows(states, tokens.starts[..tokens.sequences()].iter().copied())?;
        let [pooler, _] = self.names.classifier();
        let pooled = activate(&pass.linear(&first, &pooler)?, Activation::Tanh)?;
        let pooled = pass.dropout(&pooled, DROPOUT)?;
        let inner = tokens.starts.windows(2).flat_map(|ends| ends[0] + 1..ends[1].max(1) - 1);
        let inner = pass.dropout(&rows(states, inner)?, DROPOUT)?;
        let [sequence, token] = CALLERS;
        Ok([pass.linear(&pooled, sequence)?, pass.linear(&inner, token)?])
    }

    /// Returns hidden states `[tokens, hidden]` as an image for each sequence, `[sequences, length, hidden]`, with zeros
    /// after its tokens.
    ///
    /// # Errors
    ///
    /// When a sequence has more tokens.
    pub fn image(&self, states: &Tensor, tokens: &Tokens, length: usize) -> Result<Tensor> {
        let (count, hidden) = states.dims2()?;
        let longest = tokens.starts.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0);
        if longest > length {
            let message = format!("a sequence of {longest} tokens is longer than the {length} that are read");
            return Err(crate::Error::data(message));
        }
        let padded = Tensor::cat(&[states, &tensor(vec![0.0; hidden], (1, hidden))?], 0)?;
        let places = tokens.starts.windows(2).flat_map(|ends| {
            (0..length).map(move |place| if ends[0] + place < ends[1] { ends[0] + place } else { count })
        });
        Ok(rows(&padded, places)?.reshape((tokens.sequences(), length, hidden))?)
    }

    /// Returns the logits of the vocabulary for hidden states, `[tokens, vocabulary]`.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn guess(&self, states: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let [transform, norm, bias] = self.names.token_head();
        let activation = match self.family() {
            Family::Esm => Activation::Gelu,
            _ => self.spec().activation,
        };
        let transformed = activate(&pass.linear(states, &transform)?, activation)?;
        let transformed = super::norm(&self.spec, &transformed, &norm, pass)?;
        // Tied to the word vectors, unless the checkpoint has a matrix of its own.
        let words = pass.find(self.names.decoder())?;
        let words = match words {
            Some(words) => words,
            None => pass.get(&self.names.words())?,
        };
        let bias = match pass.find(&bias)? {
            Some(bias) => bias,
            None => pass.get("cls.predictions.decoder.bias")?,
        };
        linear(&transformed, words, Some(bias))
    }

    /// Returns a vector for each sequence, `[sequences, hidden]`: the mean over its tokens of the weighted mean of the
    /// hidden states.
    ///
    /// # Errors
    ///
    /// When there are not as many states as weights.
    pub fn pool(&self, states: &[Tensor], tokens: &Tokens, layers: &LayerPooling) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for (state, &weight) in states.iter().zip(&layers.weights).filter(|(_, weight)| **weight != 0.0) {
            let part = if weight == 1.0 { state.clone() } else { (state * weight)? };
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        mean(&sum.ok_or_else(|| crate::Error::data("no layer has a weight"))?, tokens)
    }

    /// Adds the weights of a classifier of so many classes where there is none, or one of another number. Returns the
    /// modules that are new.
    ///
    /// # Errors
    ///
    /// None so far.
    pub fn add_classifier(
        &self,
        parameters: &mut Parameters,
        classes: usize,
        seed: u64,
    ) -> Result<Vec<String>> {
        let [pooler, output] = self.names.classifier();
        self.add_layers(parameters, &[(&pooler, self.spec().hidden), (&output, classes)], seed)
    }

    /// Adds the weights of BertSNR's two heads where there are none, and of the pooler.
    ///
    /// # Errors
    ///
    /// None so far.
    pub fn add_callers(&self, parameters: &mut Parameters, seed: u64) -> Result<()> {
        let [pooler, _] = self.names.classifier();
        let modules = [(pooler.as_str(), self.spec().hidden), (CALLERS[0], 1), (CALLERS[1], 1)];
        self.add_layers(parameters, &modules, seed).map(drop)
    }

    /// Adds linear layers on hidden states, of so many outputs each, where there are none of as many. Returns those that
    /// are new.
    fn add_layers(
        &self,
        parameters: &mut Parameters,
        modules: &[(&str, usize)],
        seed: u64,
    ) -> Result<Vec<String>> {
        let mut new_modules = Vec::new();
        let hidden = self.spec().hidden;
        for &(module, rows) in modules {
            let name = format!("{module}.weight");
            let fits = parameters.contains(&name) && parameters.get(&name)?.dim(0)? == rows;
            if !fits {
                parameters.insert(&name, new(&name, &[rows, hidden], seed))?;
                let zeros = Array { shape: vec![rows], values: vec![0.0; rows] };
                parameters.insert(&format!("{module}.bias"), zeros)?;
                new_modules.push(module.to_string());
            }
        }
        Ok(new_modules)
    }

    /// Adds the weights of a head that guesses tokens where there is none.
    ///
    /// # Errors
    ///
    /// None so far.
    pub fn add_token_head(&self, parameters: &mut Parameters, seed: u64) -> Result<()> {
        let Spec { hidden, vocabulary, .. } = *self.spec();
        let [transform, norm, bias] = self.names.token_head();
        let name = format!("{transform}.weight");
        if parameters.contains(&name) {
            return Ok(());
        }
        let constant = |count: usize, value: f32| Array { shape: vec![count], values: vec![value; count] };
        parameters.insert(&name, new(&name, &[hidden, hidden], seed))?;
        parameters.insert(&format!("{transform}.bias"), constant(hidden, 0.0))?;
        parameters.insert(&format!("{norm}.weight"), constant(hidden, 1.0))?;
        parameters.insert(&format!("{norm}.bias"), constant(hidden, 0.0))?;
        parameters.insert(&bias, constant(vocabulary, 0.0))
    }

    /// Makes an encoder that has not been trained, of the sizes that a config says (`vocab_size`, `hidden_size`,
    /// `intermediate_size`, `max_position_embeddings`; `alibi_starting_size` makes a BERT a MosaicBERT), and its weights.
    ///
    /// # Errors
    ///
    /// When the config lacks a size.
    pub fn fresh(config: &Config, seed: u64) -> Result<(Self, Parameters)> {
        let size = |name: &str| -> Result<usize> {
            let size = config.rest.get(name).and_then(serde_json::Value::as_u64).filter(|&size| size > 0);
            let missing = || crate::Error::data(format!("config.json: a new encoder needs `{name}`"));
            Ok(size.ok_or_else(missing)? as usize)
        };
        let is_esm = config.architecture().to_lowercase().starts_with("esm");
        let family = match (is_esm, config.rest.contains_key("alibi_starting_size")) {
            (true, _) => Family::Esm,
            (false, true) => Family::MosaicBert,
            (false, false) => Family::Bert,
        };
        let names = Names::new(family, if is_esm { "esm." } else { "bert." }, false);
        let sizes = [size("vocab_size")?, size("hidden_size")?, size("intermediate_size")?];
        let positions = if family == Family::MosaicBert { 0 } else { size("max_position_embeddings")? };
        let mut parameters = Parameters::default();
        for (name, shape) in shapes(&names, config, sizes, positions)? {
            let array = match shape.as_slice() {
                [count] => {
                    let value = if name.ends_with("weight") { 1.0 } else { 0.0 };
                    Array { shape: vec![*count], values: vec![value; *count] }
                }
                shape => new(&name, shape, seed),
            };
            parameters.insert(&name, array)?;
        }
        Ok((Self::new(config, &parameters.weights()?)?, parameters))
    }
}

/// Returns rows of states, by their numbers.
fn rows(states: &Tensor, places: impl Iterator<Item = usize>) -> Result<Tensor> {
    let places: Vec<u32> = places.map(|place| place as u32).collect();
    Ok(states.index_select(&Tensor::new(places, &Device::Cpu)?, 0)?)
}

/// Returns the mean of the states of each sequence, `[sequences, hidden]`.
fn mean(states: &Tensor, tokens: &Tokens) -> Result<Tensor> {
    let mut means = vec![0.0; tokens.sequences() * tokens.ids.len()];
    for (row, ends) in means.chunks_exact_mut(tokens.ids.len()).zip(tokens.starts.windows(2)) {
        row[ends[0]..ends[1]].fill(1.0 / (ends[1] - ends[0]).max(1) as f32);
    }
    product(&tensor(means, (tokens.sequences(), tokens.ids.len()))?, states, [false, false])
}

/// Returns what a classifier reads of the states of each sequence, `[sequences, hidden]`.
pub(super) fn read(states: &Tensor, tokens: &Tokens, reads: Reads) -> Result<Tensor> {
    let ends = tokens.starts.windows(2);
    match reads {
        Reads::First => rows(states, ends.map(|ends| ends[0])),
        Reads::Last => rows(states, ends.map(|ends| ends[1] - 1)),
        Reads::Mean => mean(states, tokens),
    }
}

/// Draws a matrix from the normal distribution.
fn new(name: &str, shape: &[usize], seed: u64) -> Array {
    let mut random = Random::new(seed, name, dropout::mix(1));
    let values = (0..shape.iter().product()).map(|_| (DEVIATION * random.normal()) as f32).collect();
    Array { shape: shape.to_vec(), values }
}

/// Returns names and shapes of the tensors of an encoder; `sizes` are vocabulary, hidden, intermediate.
fn shapes(
    names: &Names,
    config: &Config,
    [vocabulary, hidden, wide]: [usize; 3],
    positions: usize,
) -> Result<Vec<(String, Vec<usize>)>> {
    let mut shapes = vec![(names.words(), vec![vocabulary, hidden])];
    shapes.extend(names.types().map(|name| (name, vec![2, hidden])));
    let is_rotary = config.rest.get("position_embedding_type").is_some_and(|kind| kind == "rotary");
    let table = names.positions().filter(|_| !is_rotary);
    shapes.extend(table.map(|(name, _)| (name, vec![positions, hidden])));
    let norm = |name: String, shapes: &mut Vec<(String, Vec<usize>)>| {
        shapes.push((format!("{name}.weight"), vec![hidden]));
        shapes.push((format!("{name}.bias"), vec![hidden]));
    };
    for name in names.first_norm().into_iter().chain(names.last_norm()) {
        norm(name, &mut shapes);
    }
    let layers = config.rest.get("num_hidden_layers").and_then(serde_json::Value::as_u64).unwrap_or(0);
    for layer in 0..layers as usize {
        let names_of = names.layer(layer);
        let mut matrix = |name: &str, rows: usize, columns: usize, has_bias: bool| {
            shapes.push((format!("{name}.weight"), vec![rows, columns]));
            if has_bias {
                shapes.push((format!("{name}.bias"), vec![rows]));
            }
        };
        match &names_of.projection {
            super::Projection::Joined(name) => matrix(name, 3 * hidden, hidden, true),
            super::Projection::Apart(parts) => {
                parts.iter().for_each(|name| matrix(name, hidden, hidden, true))
            }
        }
        matrix(&names_of.output, hidden, hidden, true);
        let gated = names.family() == Family::MosaicBert || (names.family() == Family::Esm && is_rotary);
        let plain = !gated;
        matrix(&names_of.up, if gated { 2 * wide } else { wide }, hidden, plain);
        matrix(&names_of.down, hidden, wide, plain || names.family() == Family::MosaicBert);
        norm(names_of.attention_norm, &mut shapes);
        norm(names_of.feed_forward_norm, &mut shapes);
    }
    Ok(shapes)
}
