//! MosaicBERT as DNABERT-2 and NyxBind use it: slopes instead of positions, a gated feed-forward part, tokens of
//! byte-pair encoding. Configs call it a BERT; its tensors tell.

use super::Source;
use super::bert::{Shape, WORDS, embeddings, spec};
use super::transformer::{
    Attending, Embeddings, Encoder, Layer, Named, Scale, Spec, Tensors,
};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// Returns whether these are the tensors of one.
pub(super) fn is_one(body: &Named) -> bool {
    body.has("encoder.layer.0.attention.self.Wqkv.weight")
}

/// Builds the encoder.
///
/// # Errors
///
/// When a tensor is missing or has another shape.
pub(super) fn encoder(source: &Source, shape: &Shape, body: &Named) -> Result<Encoder> {
    let [vocabulary, hidden] = body.shape(WORDS)?;
    let [_, intermediate] = body.shape("encoder.layer.0.mlp.wo.weight")?;
    let attending = Attending { alibi: true, ..Attending::default() };
    let spec = Spec { gated: true, ..spec(shape, [vocabulary, hidden, intermediate], attending)? };
    Encoder::new(spec.clone(), &Body { named: body.clone(), spec }, source.precision)
}

/// Opens the directory's `tokenizer.json`.
///
/// # Errors
///
/// When there is none.
pub(super) fn tokenizer(source: &Source) -> Result<Tokenizer> {
    let file = source.directory.join("tokenizer.json");
    if !file.is_file() {
        let message = "no tokenizer.json in this directory: DNABERT-2 and NyxBind share one, copy it here";
        return Err(Error::data(message));
    }
    Tokenizer::from_file(&file)
}

/// The tensors of a MosaicBERT by their names.
struct Body<'a> {
    named: Named<'a>,
    spec: Spec,
}

impl Tensors for Body<'_> {
    fn embeddings(&self) -> Result<Embeddings<'_>> {
        embeddings(&self.named, &self.spec)
    }

    fn layer(&self, index: usize) -> Result<Layer<'_>> {
        let Spec { hidden, intermediate, .. } = self.spec;
        let matrix = |name: &str, shape| self.named.matrix(&format!("encoder.layer.{index}.{name}"), shape);
        let scale = |name: &str| self.named.scale(&format!("encoder.layer.{index}.{name}"), hidden);
        Ok(Layer {
            projection: matrix("attention.self.Wqkv", [3 * hidden, hidden])?,
            output: matrix("attention.output.dense", [hidden, hidden])?,
            attention_norm: Some(scale("attention.output.LayerNorm")?),
            up: matrix("mlp.gated_layers", [2 * intermediate, hidden])?,
            down: matrix("mlp.wo", [hidden, intermediate])?,
            feed_forward_norm: scale("mlp.layernorm")?,
        })
    }

    fn last_norm(&self) -> Result<Option<Scale<'_>>> {
        Ok(None)
    }
}
