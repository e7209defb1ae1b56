//! Stock encoders with a classifier as graphs: Llama, Mistral, Qwen and ModernBERT. Their weights stay.

use candle_core::{Device, Tensor};

use super::super::super::config::Config;
use super::super::super::graph::Pass;
use super::super::super::weights::Weights;
use super::super::super::{causal, modern_bert};
use super::super::{Reads, Spec};
use super::{Tokens, head, norm};
use crate::error::Result;
use crate::kernel::learn::attention::{Attending, attend};
use crate::kernel::learn::pointwise::{activate, gated};
use crate::kernel::{Activation, Rotary};

/// A stock encoder and its classifier as a graph.
pub struct StockGraph {
    spec: Spec,
    kind: Kind,
    /// What stands before the names of the encoder's tensors.
    prefix: &'static str,
    /// Angles of rotary positions, of each layer.
    rotary: Vec<Option<Rotary>>,
}

/// The names of tensors, and the classifier.
#[derive(Clone, Copy)]
enum Kind {
    /// Each token sees those before it; the classifier reads the last.
    Causal,
    /// The classifier reads these, and has a layer with this function and a norm first.
    ModernBert(Reads, Activation),
}

impl StockGraph {
    /// Reads the shape of an encoder off its config and weights.
    ///
    /// # Errors
    ///
    /// When they are not those of a Llama, a Mistral, a Qwen or a ModernBERT.
    pub fn new(config: &Config, weights: &Weights) -> Result<Self> {
        let is_part = weights.tensors().keys().any(|name| name.starts_with("model."));
        let body = weights.under("model.");
        let (spec, kind) = match Self::is_modern_bert(config) {
            true => {
                let (spec, reads, activation) = modern_bert::spec_of(config, &body)?;
                (spec, Kind::ModernBert(reads, activation))
            }
            false => (causal::spec_of(config, &body)?, Kind::Causal),
        };
        let angles = |base: f32| super::super::encoder::rotary(&spec, base);
        let rotary = spec.layers.iter().map(|layer| layer.rotary.map(angles)).collect();
        Ok(Self { spec, kind, prefix: if is_part { "model." } else { "" }, rotary })
    }

    /// Returns whether a config is that of one of these.
    pub fn is_one(config: &Config) -> bool {
        let name = config.architecture().to_lowercase();
        ["llama", "mistral", "qwen"].iter().any(|family| name.starts_with(family))
            || Self::is_modern_bert(config)
    }

    fn is_modern_bert(config: &Config) -> bool {
        config.architecture().to_lowercase().starts_with("modernbert")
    }

    fn name(&self, part: &str) -> String {
        format!("{}{part}", self.prefix)
    }

    /// Returns the name that a part of a layer has in a causal model, or in a ModernBERT.
    fn part(&self, layer: usize, causal: &str, modern_bert: &str) -> String {
        let part = if matches!(self.kind, Kind::Causal) { causal } else { modern_bert };
        self.name(&format!("layers.{layer}.{part}"))
    }

    /// Returns the word vectors of tokens, `[tokens, hidden]`.
    ///
    /// # Errors
    ///
    /// When an id is beyond the vocabulary.
    pub fn word_vectors(&self, tokens: &Tokens, pass: &Pass) -> Result<Tensor> {
        let table = match self.kind {
            Kind::Causal => "embed_tokens.weight",
            Kind::ModernBert(..) => "embeddings.tok_embeddings.weight",
        };
        let ids = Tensor::new(tokens.ids.as_slice(), &Device::Cpu)?;
        Ok(pass.get(&self.name(table))?.index_select(&ids, 0)?)
    }

    /// Returns the logits `[sequences, classes]` of word vectors `[tokens, hidden]`.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn logits(&self, words: &Tensor, tokens: &Tokens, pass: &mut Pass) -> Result<Tensor> {
        let mut hidden = match self.kind {
            Kind::Causal => words.clone(),
            Kind::ModernBert(..) => norm(&self.spec, words, &self.name("embeddings.norm"), pass)?,
        };
        for layer in 0..self.spec.layers.len() {
            hidden = self.layer(layer, &hidden, tokens, pass)?;
        }
        match self.kind {
            Kind::Causal => {
                let states = norm(&self.spec, &hidden, &self.name("norm"), pass)?;
                pass.linear(&head::read(&states, tokens, Reads::Last)?, "score")
            }
            Kind::ModernBert(reads, activation) => {
                let states = norm(&self.spec, &hidden, &self.name("final_norm"), pass)?;
                let read = head::read(&states, tokens, reads)?;
                let pooled = activate(&pass.linear(&read, "head.dense")?, activation)?;
                pass.linear(&norm(&self.spec, &pooled, "head.norm", pass)?, "classifier")
            }
        }
    }

    /// Takes hidden states through one layer.
    fn layer(&self, index: usize, hidden: &Tensor, tokens: &Tokens, pass: &mut Pass) -> Result<Tensor> {
        // The first layer of a ModernBERT follows the norm of the embeddings.
        let input = match (self.kind, index) {
            (Kind::ModernBert(..), 0) => hidden.clone(),
            _ => norm(&self.spec, hidden, &self.part(index, "input_layernorm", "attn_norm"), pass)?,
        };
        let projected = self.project(index, &input, pass)?;
        let context = attend(&projected, &tokens.starts, self.attending(index))?;
        let attended = pass.linear(&context, &self.part(index, "self_attn.o_proj", "attn.Wo"))?;
        let hidden = (hidden + attended)?;
        let input =
            norm(&self.spec, &hidden, &self.part(index, "post_attention_layernorm", "mlp_norm"), pass)?;
        Ok((&hidden + self.feed_forward(index, &input, pass)?)?)
    }

    /// Returns queries, keys and values of tokens, as many heads of each.
    fn project(&self, index: usize, input: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        if let Kind::ModernBert(..) = self.kind {
            return pass.linear(input, &self.part(index, "", "attn.Wqkv"));
        }
        let name = |part: &str| self.name(&format!("layers.{index}.self_attn.{part}"));
        let mut parts = Vec::with_capacity(3);
        for (part, head_norm) in [("q_proj", "q_norm"), ("k_proj", "k_norm"), ("v_proj", "")] {
            let mut projected = pass.linear(input, &name(part))?;
            if self.spec.head_norms && !head_norm.is_empty() {
                let (tokens, wide) = projected.dims2()?;
                let width = self.spec.width;
                let heads = projected.reshape((tokens * wide / width, width))?;
                projected = norm(&self.spec, &heads, &name(head_norm), pass)?.reshape((tokens, wide))?;
            }
            parts.push(self.repeat(&projected)?);
        }
        Ok(Tensor::cat(&parts, 1)?)
    }

    /// Repeats each head of keys or values for the heads of queries that it serves.
    fn repeat(&self, projected: &Tensor) -> Result<Tensor> {
        let (tokens, wide) = projected.dims2()?;
        let Spec { heads, width, .. } = self.spec;
        if wide == heads * width {
            return Ok(projected.clone());
        }
        let served = heads * width / wide;
        let own: Vec<u32> = (0..heads).map(|head| (head / served) as u32).collect();
        let by_head = projected.reshape((tokens, wide / width, width))?;
        let repeated = by_head.index_select(&Tensor::new(own, &Device::Cpu)?, 1)?;
        Ok(repeated.reshape((tokens, heads * width))?)
    }

    fn feed_forward(&self, index: usize, input: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let both = match self.kind {
            Kind::Causal => {
                let halves =
                    ["gate_proj", "up_proj"].map(|half| self.part(index, &format!("mlp.{half}"), ""));
                pass.linear_abreast(input, &halves)?
            }
            Kind::ModernBert(..) => pass.linear(input, &self.part(index, "", "mlp.Wi"))?,
        };
        let wide = gated(&both, self.spec.activation)?;
        pass.linear(&wide, &self.part(index, "mlp.down_proj", "mlp.Wo"))
    }

    fn attending(&self, index: usize) -> Attending {
        let kind = self.spec.layers[index];
        Attending {
            heads: self.spec.heads,
            width: self.spec.width,
            slopes: None,
            rotary: self.rotary[index].clone(),
            causal: kind.causal,
            reach: kind.reach,
            dropout: 0.0,
            key: 0,
        }
    }
}
