//! ModernBERT: norms before, rotary positions, a gated feed-forward part, and layers of which only every third sees
//! the whole sequence; and its heads: a class for a sequence, masked tokens, or none.

use serde::Deserialize;
use serde_json::Value;

use super::bert::{activation, decision, head_width, labels, own_pooling};
use super::config::Config;
use super::transformer::{
    Attending, Classifier, Embeddings, LanguageModel, Layer, Matrix, NormKind, NormPlace, Parts, Reads,
    Scale, Spec, Tensors, TokenHead, matrix, scale,
};
use super::weights::Weights;
use super::{Source, rotary};
use crate::error::{Error, Result};
use crate::kernel::{Activation, Linear, Norm, Precision};
use crate::tokenizer::Tokenizer;

const WORDS: &str = "embeddings.tok_embeddings.weight";
/// Bases of the wavelengths of rotary positions where `config.json` has none: of layers that see everything, and of
/// those that do not.
const WAVELENGTHS: [f32; 2] = [160_000.0, 10_000.0];
/// Every so manieth layer sees everything where `config.json` does not say.
const GLOBAL_EVERY: usize = 3;

/// What a ModernBERT's `config.json` says beyond what its tensors do.
#[derive(Clone, Debug, Deserialize)]
struct Shape {
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: Option<usize>,
    #[serde(default = "epsilon")]
    norm_eps: f32,
    #[serde(default = "gelu")]
    hidden_activation: String,
    #[serde(default = "gelu")]
    classifier_activation: String,
    #[serde(default = "cls")]
    classifier_pooling: String,
    /// Tokens that a layer with a window sees, half of them on each side.
    #[serde(default = "local_attention")]
    local_attention: usize,
    global_attn_every_n_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    global_rope_theta: Option<f32>,
    local_rope_theta: Option<f32>,
    rope_parameters: Option<Value>,
    problem_type: Option<String>,
}

fn epsilon() -> f32 {
    1e-5
}

fn gelu() -> String {
    "gelu".into()
}

fn cls() -> String {
    "cls".into()
}

fn local_attention() -> usize {
    128
}

/// Loads a ModernBERT with whatever heads its tensors have.
///
/// # Errors
///
/// When a tensor is missing or has another shape, or the config asks for what nyx does not compute.
pub fn load(source: &Source) -> Result<LanguageModel> {
    let shape: Shape = source.config.part()?;
    let body = source.weights.under("model.");
    let spec = spec(&shape, &body)?;
    let tensors = Body { weights: body, spec: spec.clone() };
    let classifier = classifier(source, &shape, &spec)?;
    LanguageModel::new(Parts {
        tokenizer: Tokenizer::of_model(source.directory)?,
        encoder: source.encoder(spec.clone(), &tensors)?,
        labels: labels(source, classifier.as_ref())?,
        classifier,
        token_head: token_head(source, &shape, &tensors)?,
        pooling: own_pooling(source, spec.layers.len())?,
        checkpoint: source.checkpoint(),
    })
}

/// Returns the spec of a model with this config and these tensors, named without `model.`, what its classifier reads, and
/// the function behind the first layer of that.
pub(super) fn spec_of(config: &Config, body: &Weights) -> Result<(Spec, Reads, Activation)> {
    let shape: Shape = config.part()?;
    Ok((spec(&shape, body)?, reads(&shape)?, activation(&shape.classifier_activation)?))
}

fn spec(shape: &Shape, body: &Weights) -> Result<Spec> {
    let [vocabulary, hidden] = body.shape(WORDS)?;
    let [_, intermediate] = body.shape("layers.0.mlp.Wo.weight")?;
    let width = head_width(hidden, shape.num_attention_heads)?;
    if !width.is_multiple_of(2) {
        return Err(Error::data(format!("config.json: heads of {width} numbers have no pairs to turn")));
    }
    Ok(Spec {
        vocabulary,
        positions: shape.max_position_embeddings,
        hidden,
        heads: shape.num_attention_heads,
        key_value_heads: shape.num_attention_heads,
        width,
        intermediate,
        activation: activation(&shape.hidden_activation)?,
        gated: true,
        norm: NormKind::Layer,
        epsilon: shape.norm_eps,
        place: NormPlace::Before,
        head_norms: false,
        layers: layers(shape)?,
    })
}

/// Returns how far the tokens of each layer see.
fn layers(shape: &Shape) -> Result<Vec<Attending>> {
    let parameters = |kind: &str| shape.rope_parameters.as_ref().and_then(|all| all.get(kind));
    let base = |kind, theta, default| rotary::base(&[parameters(kind)], theta, default);
    let [global, local] = [
        base("full_attention", shape.global_rope_theta, WAVELENGTHS[0])?,
        base("sliding_attention", shape.local_rope_theta, WAVELENGTHS[1])?,
    ];
    let every = shape.global_attn_every_n_layers.unwrap_or(GLOBAL_EVERY).max(1);
    let slides = |layer: usize| match &shape.layer_types {
        Some(kinds) => kinds.get(layer).is_some_and(|kind| kind == "sliding_attention"),
        None => !layer.is_multiple_of(every),
    };
    let attending = |layer| match slides(layer) {
        true => {
            Attending { rotary: Some(local), reach: Some(shape.local_attention / 2), ..Attending::default() }
        }
        false => Attending { rotary: Some(global), ..Attending::default() },
    };
    super::bert::layers(shape.num_hidden_layers, attending(0))
        .map(|layers| (0..layers.len()).map(attending).collect())
}

/// Reads the layer and the norm that both heads begin with.
fn head(source: &Source, shape: &Shape, spec: &Spec) -> Result<(Linear, Norm)> {
    let dense = matrix(source.weights, "head.dense", [spec.hidden, spec.hidden])?.linear(source.precision);
    let norm = scale(source.weights, "head.norm", spec.hidden)?.norm(spec);
    Ok((dense.with_activation(activation(&shape.classifier_activation)?), norm))
}

/// Returns which hidden states a classifier reads.
fn reads(shape: &Shape) -> Result<Reads> {
    match shape.classifier_pooling.as_str() {
        "cls" => Ok(Reads::First),
        "mean" => Ok(Reads::Mean),
        other => Err(Error::data(format!("config.json: a classifier that pools by `{other}`"))),
    }
}

/// Reads the classifier, where there is one.
fn classifier(source: &Source, shape: &Shape, spec: &Spec) -> Result<Option<Classifier>> {
    let outer = source.weights;
    if !outer.contains("classifier.weight") {
        return Ok(None);
    }
    let reads = reads(shape)?;
    let [classes, _] = outer.shape("classifier.weight")?;
    let (pooler, norm) = head(source, shape, spec)?;
    Ok(Some(Classifier {
        reads,
        pooler: Some(pooler),
        norm: Some(norm),
        long: None,
        output: matrix(outer, "classifier", [classes, spec.hidden])?.linear(Precision::F32),
        decision: decision(shape.problem_type.as_deref(), classes),
    }))
}

/// Reads the head of a masked language model, where there is one.
fn token_head(source: &Source, shape: &Shape, body: &Body) -> Result<Option<TokenHead>> {
    let Spec { vocabulary, hidden, .. } = body.spec;
    let outer = source.weights;
    if !source.config.architecture().ends_with("ForMaskedLM") {
        return Ok(None);
    }
    // Tied to the word embeddings, and not always saved.
    let values = match outer.contains("decoder.weight") {
        true => outer.read_tensor("decoder.weight", &[vocabulary, hidden])?,
        false => body.weights.read_tensor(WORDS, &[vocabulary, hidden])?,
    };
    let bias = match outer.contains("decoder.bias") {
        true => Some(outer.read_tensor("decoder.bias", &[vocabulary])?),
        false => None,
    };
    let decoder = Matrix { values, shape: [vocabulary, hidden], bias }.linear(source.precision);
    let (transform, norm) = head(source, shape, &body.spec)?;
    Ok(Some(TokenHead { transform: Some(transform), norm: Some(norm), decoder }))
}

/// The tensors of a ModernBERT by their names.
struct Body {
    weights: Weights,
    spec: Spec,
}

impl Tensors for Body {
    fn embeddings(&self) -> Result<Embeddings<'_>> {
        let Spec { vocabulary, hidden, .. } = self.spec;
        Ok(Embeddings {
            words: self.weights.read_tensor(WORDS, &[vocabulary, hidden])?,
            constant: None,
            positions: None,
            norm: Some(scale(&self.weights, "embeddings.norm", hidden)?),
        })
    }

    fn layer(&self, index: usize) -> Result<Layer<'_>> {
        let Spec { hidden, intermediate, .. } = self.spec;
        let name = |part: &str| format!("layers.{index}.{part}");
        let matrix = |part: &str, shape| matrix(&self.weights, &name(part), shape);
        let scale = |part: &str| scale(&self.weights, &name(part), hidden);
        Ok(Layer {
            projection: matrix("attn.Wqkv", [3 * hidden, hidden])?,
            head_norms: None,
            output: matrix("attn.Wo", [hidden, hidden])?,
            // The first layer follows the norm of the embeddings.
            attention_norm: if index == 0 { None } else { Some(scale("attn_norm")?) },
            up: matrix("mlp.Wi", [2 * intermediate, hidden])?,
            down: matrix("mlp.Wo", [hidden, intermediate])?,
            feed_forward_norm: scale("mlp_norm")?,
        })
    }

    fn last_norm(&self) -> Result<Option<Scale<'_>>> {
        scale(&self.weights, "final_norm", self.spec.hidden).map(Some)
    }
}
