//! Causal language models of the one kind that Llama, Mistral, Qwen2 and Qwen3 share: root mean square norms before,
//! rotary positions, heads of keys that serve several of queries, a gated feed-forward part; and their heads: a class
//! for a sequence by its last token, the next token, or none.

use serde::Deserialize;
use serde_json::Value;

use super::bert::{activation, decision, labels, own_pooling};
use super::config::Config;
use super::transformer::{
    Attending, Classifier, Embeddings, LanguageModel, Layer, Matrix, NormKind, NormPlace, Parts, Reads,
    Scale, Spec, Tensors, TokenHead, matrix, scale,
};
use super::weights::Weights;
use super::{Source, rotary};
use crate::error::{Error, Result};
use crate::kernel::Precision;
use crate::tokenizer::Tokenizer;

const WORDS: &str = "embed_tokens.weight";
/// Base of the wavelengths of rotary positions where `config.json` has none.
const WAVELENGTHS: f32 = 10_000.0;

/// What such a `config.json` says beyond what its tensors do.
#[derive(Clone, Debug, Deserialize)]
struct Shape {
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: f32,
    #[serde(default = "silu")]
    hidden_act: String,
    rope_theta: Option<f32>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    sliding_window: Option<usize>,
    /// Qwen has a window in its config that it does not use.
    use_sliding_window: Option<bool>,
    /// Layers before the first with a window, of a Qwen.
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    problem_type: Option<String>,
}

fn silu() -> String {
    "silu".into()
}

/// Loads such a model with whatever heads its tensors have.
///
/// # Errors
///
/// When a tensor is missing or has another shape, or the config asks for what nyx does not compute.
pub fn load(source: &Source) -> Result<LanguageModel> {
    let shape: Shape = source.config.part()?;
    let body = source.weights.under("model.");
    let spec = spec(source.config, &shape, &body)?;
    let tensors = Body { weights: body, spec: spec.clone() };
    let classifier = classifier(source, &shape, spec.hidden)?;
    LanguageModel::new(Parts {
        tokenizer: Tokenizer::of_model(source.directory)?,
        encoder: source.encoder(spec.clone(), &tensors)?,
        labels: labels(source, classifier.as_ref())?,
        classifier,
        token_head: token_head(source, &tensors)?,
        pooling: own_pooling(source, spec.layers.len())?,
        checkpoint: source.checkpoint(),
    })
}

/// Returns the spec of a model with this config and these tensors, named without `model.`.
pub(super) fn spec_of(config: &Config, body: &Weights) -> Result<Spec> {
    spec(config, &config.part()?, body)
}

fn spec(config: &Config, shape: &Shape, body: &Weights) -> Result<Spec> {
    let [vocabulary, hidden] = body.shape(WORDS)?;
    let [intermediate, _] = body.shape("layers.0.mlp.up_proj.weight")?;
    let heads = shape.num_attention_heads;
    let [queries, _] = body.shape("layers.0.self_attn.q_proj.weight")?;
    let [keys, _] = body.shape("layers.0.self_attn.k_proj.weight")?;
    let width = shape.head_dim.unwrap_or(queries / heads.max(1));
    let key_value_heads = shape.num_key_value_heads.unwrap_or(heads);
    let numbers = |heads: usize| heads.checked_mul(width);
    let fits = width > 0 && [numbers(heads), numbers(key_value_heads)] == [Some(queries), Some(keys)];
    if !fits || key_value_heads == 0 || !heads.is_multiple_of(key_value_heads) || !width.is_multiple_of(2) {
        return Err(Error::data(format!(
            "config.json: {heads} heads of queries and {key_value_heads} of keys do not fit {queries} and {keys} \
             numbers of a token"
        )));
    }
    let parameters = [shape.rope_parameters.as_ref(), shape.rope_scaling.as_ref()];
    let base = rotary::base(&parameters, shape.rope_theta, WAVELENGTHS)?;
    Ok(Spec {
        vocabulary,
        positions: shape.max_position_embeddings,
        hidden,
        heads,
        key_value_heads,
        width,
        intermediate,
        activation: activation(&shape.hidden_act)?,
        gated: true,
        norm: NormKind::RootMeanSquare,
        epsilon: shape.rms_norm_eps,
        place: NormPlace::Before,
        head_norms: body.contains("layers.0.self_attn.q_norm.weight"),
        layers: layers(shape, base, is_qwen(config))?,
    })
}

fn is_qwen(config: &Config) -> bool {
    config.architecture().to_lowercase().starts_with("qwen")
}

/// Returns how far the tokens of each layer see.
fn layers(shape: &Shape, base: f32, qwen: bool) -> Result<Vec<Attending>> {
    let window = shape.sliding_window.filter(|_| shape.use_sliding_window.unwrap_or(!qwen));
    if window == Some(0) {
        return Err(Error::data("config.json: `sliding_window` is 0"));
    }
    let first = if qwen { shape.max_window_layers.unwrap_or(usize::MAX) } else { 0 };
    let slides = |layer: usize| match &shape.layer_types {
        Some(kinds) => kinds.get(layer).is_some_and(|kind| kind == "sliding_attention"),
        None => layer >= first,
    };
    let attending = |layer| Attending {
        rotary: Some(base),
        causal: true,
        // A window counts the token itself.
        reach: window.filter(|_| slides(layer)).map(|window| window - 1),
        alibi: false,
    };
    super::bert::layers(shape.num_hidden_layers, attending(0))
        .map(|layers| (0..layers.len()).map(attending).collect())
}

/// Reads the classifier, where there is one.
fn classifier(source: &Source, shape: &Shape, hidden: usize) -> Result<Option<Classifier>> {
    let outer = source.weights;
    if !outer.contains("score.weight") {
        return Ok(None);
    }
    let [classes, _] = outer.shape("score.weight")?;
    Ok(Some(Classifier {
        reads: Reads::Last,
        pooler: None,
        norm: None,
        long: None,
        output: matrix(outer, "score", [classes, hidden])?.linear(Precision::F32),
        decision: decision(shape.problem_type.as_deref(), classes),
    }))
}

/// Reads the head that guesses the next token, where there is one: it may be the word embeddings.
fn token_head(source: &Source, body: &Body) -> Result<Option<TokenHead>> {
    let Spec { vocabulary, hidden, .. } = body.spec;
    let head = match source.weights.contains("lm_head.weight") {
        true => matrix(source.weights, "lm_head", [vocabulary, hidden])?,
        false if source.config.architecture().ends_with("ForCausalLM") => Matrix {
            values: body.weights.read_tensor(WORDS, &[vocabulary, hidden])?,
            shape: [vocabulary, hidden],
            bias: None,
        },
        false => return Ok(None),
    };
    Ok(Some(TokenHead { transform: None, norm: None, decoder: head.linear(source.precision) }))
}

/// The tensors by their names.
struct Body {
    weights: Weights,
    spec: Spec,
}

impl Tensors for Body {
    fn embeddings(&self) -> Result<Embeddings<'_>> {
        let words = self.weights.read_tensor(WORDS, &[self.spec.vocabulary, self.spec.hidden])?;
        Ok(Embeddings { words, constant: None, positions: None, norm: None })
    }

    fn layer(&self, index: usize) -> Result<Layer<'_>> {
        let Spec { hidden, intermediate, heads, key_value_heads, width, .. } = self.spec;
        let name = |part: &str| format!("layers.{index}.{part}");
        let matrix = |part: &str, shape| matrix(&self.weights, &name(part), shape);
        let scale = |part: &str, width| scale(&self.weights, &name(part), width);
        let keys = [key_value_heads * width, hidden];
        let head_norms = match self.spec.head_norms {
            true => Some([scale("self_attn.q_norm", width)?, scale("self_attn.k_norm", width)?]),
            false => None,
        };
        Ok(Layer {
            projection: Matrix::stack(&[
                matrix("self_attn.q_proj", [heads * width, hidden])?,
                matrix("self_attn.k_proj", keys)?,
                matrix("self_attn.v_proj", keys)?,
            ])?,
            head_norms,
            output: matrix("self_attn.o_proj", [hidden, heads * width])?,
            attention_norm: Some(scale("input_layernorm", hidden)?),
            up: Matrix::stack(&[
                matrix("mlp.gate_proj", [intermediate, hidden])?,
                matrix("mlp.up_proj", [intermediate, hidden])?,
            ])?,
            down: matrix("mlp.down_proj", [hidden, intermediate])?,
            feed_forward_norm: scale("post_attention_layernorm", hidden)?,
        })
    }

    fn last_norm(&self) -> Result<Option<Scale<'_>>> {
        scale(&self.weights, "norm", self.spec.hidden).map(Some)
    }
}
