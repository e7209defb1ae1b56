//! BERT as DNABERT uses it (k-mers of 3 to 6 bases), with its heads: a class for a sequence, the long heads of
//! DNABERT-XL, masked tokens, or none.

use serde::Deserialize;

use super::transformer::{
    Activation, Attending, Classifier, Decision, Embeddings, Encoder, LanguageModel, Layer, LayerPooling, Matrix,
    Named, NormKind, NormPlace, Parts, Scale, Spec, Tensors,
};
use super::{Source, mosaic_bert};
use crate::error::{Error, Result};
use crate::tokenizer::{Kmer, Tokenizer};

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
    let body = Named::under(source.weights, "bert.", WORDS);
    let (encoder, tokenizer, limit) = match mosaic_bert::is_one(&body) {
        true => (mosaic_bert::encoder(source, &shape, &body)?, mosaic_bert::tokenizer(source)?, None),
        false => {
            let [vocabulary, _] = body.shape(WORDS)?;
            let [positions, _] = body.shape(POSITIONS)?;
            (encoder(source, &shape, &body)?, tokenizer(source, vocabulary)?, Some(positions))
        }
    };
    let classifier = heads::classifier(source, &shape, &body, encoder.spec().hidden)?;
    LanguageModel::new(Parts {
        labels: labels(source, classifier.as_ref())?,
        token_head: heads::token_head(source, &shape, encoder.spec())?,
        pooling: LayerPooling::read(source.directory, encoder.spec().layers.len())?,
        tokenizer,
        encoder,
        limit,
        classifier,
    })
}

/// Returns the names of the classes; none without a classifier.
pub(super) fn labels(source: &Source, classifier: Option<&Classifier>) -> Result<Vec<String>> {
    classifier.map_or(Ok(Vec::new()), |classifier| source.config.labels(classifier.classes()))
}

pub(super) const WORDS: &str = "embeddings.word_embeddings.weight";
const POSITIONS: &str = "embeddings.position_embeddings.weight";

fn encoder(source: &Source, shape: &Shape, body: &Named) -> Result<Encoder> {
    if shape.position_embedding_type != "absolute" {
        let message = format!("config.json: positions of type `{}` in a BERT", shape.position_embedding_type);
        return Err(Error::data(message));
    }
    let [vocabulary, hidden] = body.shape(WORDS)?;
    let [intermediate, _] = body.shape("encoder.layer.0.intermediate.dense.weight")?;
    let spec = spec(shape, [vocabulary, hidden, intermediate], Attending::default())?;
    Encoder::new(spec.clone(), &Body { named: body.clone(), spec }, source.precision)
}

/// Returns the spec of a BERT without its gate: norms after, layer norm.
pub(super) fn spec(shape: &Shape, sizes: [usize; 3], attending: Attending) -> Result<Spec> {
    let [vocabulary, hidden, intermediate] = sizes;
    Ok(Spec {
        vocabulary,
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

/// Returns so many layers of one kind.
pub(super) fn layers(count: usize, attending: Attending) -> Result<Vec<Attending>> {
    match count {
        0 => Err(Error::data("config.json: `num_hidden_layers` is 0")),
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

/// Returns the directory's own tokenizer, or that of the k-mers whose number fits the vocabulary.
fn tokenizer(source: &Source, vocabulary: usize) -> Result<Tokenizer> {
    let file = source.directory.join("vocab.txt");
    if file.is_file() {
        return Tokenizer::from_file(&file);
    }
    let width = (3..=6).find(|width| 5 + (1 << (2 * width)) == vocabulary);
    width.and_then(Kmer::new).map(Tokenizer::Kmer).ok_or_else(|| {
        Error::data(format!("no vocab.txt, and {vocabulary} tokens are no k-mers of 3 to 6 bases (69, 261, 1029, 4101)"))
    })
}

/// The tensors of a BERT by their names.
struct Body<'a> {
    named: Named<'a>,
    spec: Spec,
}

/// Returns the word embeddings with those of the first token type, and the norm.
pub(super) fn embeddings<'a>(named: &Named<'a>, spec: &Spec) -> Result<Embeddings<'a>> {
    let hidden = spec.hidden;
    let types = "embeddings.token_type_embeddings.weight";
    let [count, _] = named.shape(types)?;
    let types = named.get(types, &[count, hidden])?;
    Ok(Embeddings {
        words: named.get(WORDS, &[spec.vocabulary, hidden])?,
        constant: Some(types[..hidden].to_vec().into()),
        positions: None,
        norm: Some(named.scale("embeddings.LayerNorm", hidden)?),
    })
}

impl Tensors for Body<'_> {
    fn embeddings(&self) -> Result<Embeddings<'_>> {
        let [count, _] = self.named.shape(POSITIONS)?;
        let positions = Some(self.named.get(POSITIONS, &[count, self.spec.hidden])?);
        Ok(Embeddings { positions, ..embeddings(&self.named, &self.spec)? })
    }

    fn layer(&self, index: usize) -> Result<Layer<'_>> {
        let (hidden, intermediate) = (self.spec.hidden, self.spec.intermediate);
        let matrix = |name: &str, shape| self.named.matrix(&format!("encoder.layer.{index}.{name}"), shape);
        let scale = |name: &str| self.named.scale(&format!("encoder.layer.{index}.{name}"), hidden);
        let square = |name: &str| matrix(name, [hidden, hidden]);
        Ok(Layer {
            projection: Matrix::stack(&[
                square("attention.self.query")?,
                square("attention.self.key")?,
                square("attention.self.value")?,
            ]),
            output: square("attention.output.dense")?,
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
