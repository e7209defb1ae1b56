//! BERT as DNABERT uses it (k-mers of 3 to 6 bases), with its heads: a class for a sequence, the long heads of
//! DNABERT-XL, masked tokens, or none.

use serde::Deserialize;

use super::layout::Mode;
use super::transformer::{
    Attending, Classifier, Decision, Embeddings, LanguageModel, Layer, LayerPooling, NormKind, NormPlace,
    Parts, Runner, Scale, Spec, Tensors, matrix, projection, scale,
};
use super::weights::Weights;
use super::{Pooling, Source, mosaic_bert};
use crate::error::{Error, Result};
use crate::kernel::Activation;
use crate::tokenizer::Tokenizer;

mod heads;

/// What a BERT's `config.json` says beyond what its tensors do.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Shape {
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    #[serde(default = "gelu")]
    pub hidden_act: String,
    #[serde(default = "epsilon")]
    pub layer_norm_eps: f32,
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
    pub problem_type: Option<String>,
    /// Pieces of a long sequence.
    pub split: Option<usize>,
}

fn gelu() -> String {
    "gelu".into()
}

fn epsilon() -> f32 {
    1e-12
}

fn absolute() -> String {
    "absolute".into()
}

/// Loads a BERT or a MosaicBERT, which share their names, with whatever heads its tensors have.
///
/// # Errors
///
/// When a tensor is missing or has another shape, or the config asks for what nyx does not compute.
pub fn load(source: &Source) -> Result<LanguageModel> {
    let shape: Shape = source.config.part()?;
    let body = source.weights.under("bert.");
    let encoder = match mosaic_bert::is_one(&body) {
        true => mosaic_bert::encoder(source, &shape, &body)?,
        false => encoder(source, &shape, &body)?,
    };
    let classifier = heads::classifier(source, &shape, &body, encoder.spec().hidden)?;
    LanguageModel::new(Parts {
        labels: labels(source, classifier.as_ref())?,
        token_head: heads::token_head(source, &shape, encoder.spec())?,
        pooling: own_pooling(source, encoder.spec().layers.len())?,
        tokenizer: Tokenizer::of_model(source.directory)?,
        encoder,
        classifier,
        checkpoint: source.checkpoint(),
    })
}

/// Reads a classifier whose long head, if it has one, reads so many pieces.
#[cfg(test)]
pub(super) fn classifier(source: &Source, pieces: usize, hidden: usize) -> Result<Option<Classifier>> {
    let shape = Shape {
        num_hidden_layers: 1,
        num_attention_heads: 1,
        hidden_act: gelu(),
        layer_norm_eps: epsilon(),
        position_embedding_type: absolute(),
        problem_type: None,
        split: Some(pieces),
    };
    heads::classifier(source, &shape, source.weights, hidden)
}

/// Returns how the directory of a sentence embedder makes one vector of a sequence.
pub(super) fn own_pooling(source: &Source, layers: usize) -> Result<Option<(Pooling, LayerPooling)>> {
    let Some(pooling) = &source.config.pooling else { return Ok(None) };
    let states = match &pooling.layers {
        Some(weighted) => LayerPooling::weighted(layers, weighted.start, &weighted.weights)?,
        None => LayerPooling::last(layers),
    };
    match pooling.mode {
        Mode::Mean => Ok(Some((Pooling::Mean, states))),
        Mode::Cls if pooling.layers.is_none() => Ok(Some((Pooling::Cls, states))),
        mode => Err(Error::data(format!("pooling by {mode:?} over tokens is not computed; Mean is"))),
    }
}

/// Returns the names of the classes; none without a classifier.
pub(super) fn labels(source: &Source, classifier: Option<&Classifier>) -> Result<Vec<String>> {
    classifier.map_or(Ok(Vec::new()), |classifier| source.config.labels(classifier.classes()))
}

pub(super) const WORDS: &str = "embeddings.word_embeddings.weight";
const POSITIONS: &str = "embeddings.position_embeddings.weight";

fn encoder(source: &Source, shape: &Shape, body: &Weights) -> Result<Runner> {
    let spec = spec_of(shape, body)?;
    source.encoder(spec.clone(), &Body { weights: body.clone(), spec })
}

/// Returns the spec of a BERT with these tensors.
pub(super) fn spec_of(shape: &Shape, body: &Weights) -> Result<Spec> {
    if shape.position_embedding_type != "absolute" {
        let message = format!("config.json: positions of type `{}` in a BERT", shape.position_embedding_type);
        return Err(Error::data(message));
    }
    let [vocabulary, hidden] = body.shape(WORDS)?;
    let [intermediate, _] = body.shape("encoder.layer.0.intermediate.dense.weight")?;
    let [positions, _] = body.shape(POSITIONS)?;
    let spec = spec(shape, [vocabulary, hidden, intermediate], Attending::default())?;
    Ok(Spec { positions: Some(positions), ..spec })
}

/// Returns the spec of a BERT without its gate: norms after, layer norm.
pub(super) fn spec(shape: &Shape, sizes: [usize; 3], attending: Attending) -> Result<Spec> {
    let [vocabulary, hidden, intermediate] = sizes;
    Ok(Spec {
        vocabulary,
        positions: None,
        hidden,
        heads: shape.num_attention_heads,
        key_value_heads: shape.num_attention_heads,
        width: head_width(hidden, shape.num_attention_heads)?,
        intermediate,
        activation: activation(&shape.hidden_act)?,
        gated: false,
        norm: NormKind::Layer,
        epsilon: shape.layer_norm_eps,
        place: NormPlace::After,
        head_norms: false,
        layers: layers(shape.num_hidden_layers, attending)?,
    })
}

/// Returns the length of the vectors of one head.
pub(super) fn head_width(hidden: usize, heads: usize) -> Result<usize> {
    match hidden.checked_div(heads).filter(|width| width * heads == hidden) {
        Some(width) => Ok(width),
        None => Err(Error::data(format!("config.json: {heads} heads do not divide {hidden} hidden units"))),
    }
}

/// More layers than a model has.
const LAYERS_MAX: usize = 10_000;

/// Returns so many layers of one kind.
pub(super) fn layers(count: usize, attending: Attending) -> Result<Vec<Attending>> {
    match count {
        0 => Err(Error::data("config.json: `num_hidden_layers` is 0")),
        LAYERS_MAX.. => Err(Error::data(format!("config.json: {count} layers, more than any model has"))),
        _ => Ok(vec![attending; count]),
    }
}

/// Returns the activation that a config names.
pub(super) fn activation(name: &str) -> Result<Activation> {
    Ok(match name {
        "gelu" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
        "relu" => Activation::Relu,
        "silu" | "swish" => Activation::Silu,
        _ => return Err(Error::data(format!("config.json: `{name}` is no activation that nyx knows"))),
    })
}

/// Returns what becomes of the logits.
pub(super) fn decision(problem: Option<&str>, classes: usize) -> Decision {
    match problem {
        Some("regression") => Decision::Regression,
        Some("multi_label_classification") => Decision::Labels,
        _ if classes == 1 => Decision::Labels,
        _ => Decision::Classes,
    }
}

/// The tensors of a BERT by their names.
struct Body {
    weights: Weights,
    spec: Spec,
}

/// Returns the word embeddings with those of the first token type, and the norm.
pub(super) fn embeddings<'a>(weights: &'a Weights, spec: &Spec) -> Result<Embeddings<'a>> {
    let hidden = spec.hidden;
    let types = "embeddings.token_type_embeddings.weight";
    let [count, _] = weights.shape(types)?;
    let types = weights.read_tensor(types, &[count, hidden])?;
    Ok(Embeddings {
        words: weights.read_tensor(WORDS, &[spec.vocabulary, hidden])?,
        constant: Some(types[..hidden].to_vec().into()),
        positions: None,
        norm: Some(scale(weights, "embeddings.LayerNorm", hidden)?),
    })
}

impl Tensors for Body {
    fn embeddings(&self) -> Result<Embeddings<'_>> {
        let shape = [self.spec.positions.unwrap_or(0), self.spec.hidden];
        let positions = Some(self.weights.read_tensor(POSITIONS, &shape)?);
        Ok(Embeddings { positions, ..embeddings(&self.weights, &self.spec)? })
    }

    fn layer(&self, index: usize) -> Result<Layer<'_>> {
        let (hidden, intermediate) = (self.spec.hidden, self.spec.intermediate);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let matrix = |part: &str, shape| matrix(&self.weights, &name(part), shape);
        let scale = |part: &str| scale(&self.weights, &name(part), hidden);
        Ok(Layer {
            projection: projection(&self.weights, &name("attention.self"), hidden)?,
            output: matrix("attention.output.dense", [hidden, hidden])?,
            head_norms: None,
            attention_norm: Some(scale("attention.output.LayerNorm")?),
            up: matrix("intermediate.dense", [intermediate, hidden])?,
            down: matrix("output.dense", [hidden, intermediate])?,
            feed_forward_norm: scale("output.LayerNorm")?,
        })
    }

    fn last_norm(&self) -> Result<Option<Scale<'_>>> {
        Ok(None)
    }
}
