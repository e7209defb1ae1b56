//! ESM as the Nucleotide Transformer uses it: norms before, learned positions (v1) or rotary ones and a gated
//! feed-forward part (v2), and its heads: a class for a sequence, masked tokens, or none.

use serde::Deserialize;

use super::Source;
use super::bert::{decision, head_width, labels, layers, own_pooling};
use super::config::Config;
use super::transformer::{
    Attending, Classifier, Embeddings, LanguageModel, Layer, Matrix, NormKind, NormPlace, Parts, Reads,
    Scale, Spec, Tensors, TokenHead, matrix, projection, scale,
};
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::kernel::{Activation, Precision};
use crate::tokenizer::Tokenizer;

const WORDS: &str = "embeddings.word_embeddings.weight";
const POSITIONS: &str = "embeddings.position_embeddings.weight";
const UP: &str = "encoder.layer.0.intermediate.dense.weight";
const DOWN: &str = "encoder.layer.0.output.dense.weight";

/// The first position of a sequence: those before it belong to the token ids before and of padding.
const FIRST_POSITION: usize = 2;
/// Base of the wavelengths of rotary positions.
const WAVELENGTHS: f32 = 10_000.0;

/// What an ESM's `config.json` says beyond what its tensors do.
#[derive(Clone, Debug, Deserialize)]
struct Shape {
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    layer_norm_eps: f32,
    position_embedding_type: String,
    #[serde(default)]
    token_dropout: bool,
    #[serde(default)]
    emb_layer_norm_before: Option<bool>,
    problem_type: Option<String>,
}

/// Loads an ESM with whatever heads its tensors have.
///
/// # Errors
///
/// When a tensor is missing or has another shape, or the config asks for what nyx does not compute.
pub fn load(source: &Source) -> Result<LanguageModel> {
    let shape: Shape = source.config.part()?;
    if shape.token_dropout {
        return Err(Error::data(
            "config.json: `token_dropout` is for ESM of proteins, which nyx does not compute",
        ));
    }
    let body = source.weights.under("esm.");
    let spec = spec(&shape, &body)?;
    let tensors = Body { weights: body, norm: shape.emb_layer_norm_before == Some(true), spec: spec.clone() };
    let classifier = classifier(source, &shape, spec.hidden)?;
    LanguageModel::new(Parts {
        tokenizer: Tokenizer::of_model(source.directory)?,
        encoder: source.encoder(spec.clone(), &tensors)?,
        labels: labels(source, classifier.as_ref())?,
        classifier,
        token_head: token_head(source, &spec)?,
        pooling: own_pooling(source, spec.layers.len())?,
        checkpoint: source.checkpoint(),
    })
}

/// Returns the spec of an ESM with these tensors.
pub(super) fn spec_of(config: &Config, body: &Weights) -> Result<Spec> {
    spec(&config.part()?, body)
}

fn spec(shape: &Shape, body: &Weights) -> Result<Spec> {
    let [vocabulary, hidden] = body.shape(WORDS)?;
    let [up, _] = body.shape(UP)?;
    let [_, intermediate] = body.shape(DOWN)?;
    let rotary = match shape.position_embedding_type.as_str() {
        "rotary" => Some(WAVELENGTHS),
        "absolute" => None,
        other => return Err(Error::data(format!("config.json: positions of type `{other}` in an ESM"))),
    };
    let gated = up == 2 * intermediate;
    Ok(Spec {
        vocabulary,
        positions: Some(shape.max_position_embeddings.saturating_sub(FIRST_POSITION)),
        hidden,
        heads: shape.num_attention_heads,
        key_value_heads: shape.num_attention_heads,
        width: head_width(hidden, shape.num_attention_heads)?,
        intermediate,
        activation: if gated { Activation::Silu } else { Activation::Gelu },
        gated,
        norm: NormKind::Layer,
        epsilon: shape.layer_norm_eps,
        place: NormPlace::Before,
        head_norms: false,
        layers: layers(shape.num_hidden_layers, Attending { rotary, ..Attending::default() })?,
    })
}

/// Reads the classifier, where there is one.
fn classifier(source: &Source, shape: &Shape, hidden: usize) -> Result<Option<Classifier>> {
    let outer = source.weights;
    let weights = "classifier.out_proj.weight";
    if !outer.contains(weights) {
        return Ok(None);
    }
    let [classes, _] = outer.shape(weights)?;
    let pooler = matrix(outer, "classifier.dense", [hidden, hidden])?.linear(source.precision);
    Ok(Some(Classifier {
        reads: Reads::First,
        pooler: Some(pooler.with_activation(Activation::Tanh)),
        norm: None,
        long: None,
        output: matrix(outer, "classifier.out_proj", [classes, hidden])?.linear(Precision::F32),
        decision: decision(shape.problem_type.as_deref(), classes),
    }))
}

/// Reads the head of a masked language model, where there is one.
fn token_head(source: &Source, spec: &Spec) -> Result<Option<TokenHead>> {
    let outer = source.weights;
    if !outer.contains("lm_head.dense.weight") {
        return Ok(None);
    }
    let (vocabulary, hidden) = (spec.vocabulary, spec.hidden);
    // Tied to the word embeddings, and not always saved.
    let words = outer.first(&["lm_head.decoder.weight", "esm.embeddings.word_embeddings.weight"])?;
    let decoder = Matrix {
        values: outer.read_tensor(words, &[vocabulary, hidden])?,
        shape: [vocabulary, hidden],
        bias: Some(outer.read_tensor("lm_head.bias", &[vocabulary])?),
    };
    let transform = matrix(outer, "lm_head.dense", [hidden, hidden])?.linear(source.precision);
    Ok(Some(TokenHead {
        transform: Some(transform.with_activation(Activation::Gelu)),
        norm: Some(scale(outer, "lm_head.layer_norm", hidden)?.norm(spec)),
        decoder: decoder.linear(source.precision),
    }))
}

/// The tensors of an ESM by their names.
struct Body {
    weights: Weights,
    /// Whether a norm follows the embeddings.
    norm: bool,
    spec: Spec,
}

impl Tensors for Body {
    fn embeddings(&self) -> Result<Embeddings<'_>> {
        let hidden = self.spec.hidden;
        let positions = match self.spec.layers[0].rotary {
            Some(_) => None,
            None => {
                let count = self.spec.positions.unwrap_or(0) + FIRST_POSITION;
                let table = self.weights.read_tensor(POSITIONS, &[count, hidden])?;
                Some(table[FIRST_POSITION * hidden..].to_vec().into())
            }
        };
        Ok(Embeddings {
            words: self.weights.read_tensor(WORDS, &[self.spec.vocabulary, hidden])?,
            constant: None,
            positions,
            norm: if self.norm { Some(scale(&self.weights, "embeddings.layer_norm", hidden)?) } else { None },
        })
    }

    fn layer(&self, index: usize) -> Result<Layer<'_>> {
        let Spec { hidden, intermediate, gated, .. } = self.spec;
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let matrix = |part: &str, shape| matrix(&self.weights, &name(part), shape);
        let scale = |part: &str| scale(&self.weights, &name(part), hidden);
        Ok(Layer {
            projection: projection(&self.weights, &name("attention.self"), hidden)?,
            output: matrix("attention.output.dense", [hidden, hidden])?,
            head_norms: None,
            attention_norm: Some(scale("attention.LayerNorm")?),
            up: matrix("intermediate.dense", [if gated { 2 * intermediate } else { intermediate }, hidden])?,
            down: matrix("output.dense", [hidden, intermediate])?,
            feed_forward_norm: scale("LayerNorm")?,
        })
    }

    fn last_norm(&self) -> Result<Option<Scale<'_>>> {
        scale(&self.weights, "encoder.emb_layer_norm_after", self.spec.hidden).map(Some)
    }
}
