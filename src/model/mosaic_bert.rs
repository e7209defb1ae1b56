//! MosaicBERT as DNABERT-2 and NyxBind use it: slopes instead of positions, a gated feed-forward part, tokens of
//! byte-pair encoding. Configs call it a BERT; its tensors tell.

use super::Source;
use super::bert::{Shape, WORDS, embeddings, spec};
use super::transformer::{Attending, Embeddings, Layer, Runner, Scale, Spec, Tensors, matrix, scale};
use super::weights::Weights;
use crate::error::Result;

/// Returns whether these are the tensors of one.
pub(super) fn is_one(body: &Weights) -> bool {
    body.contains("encoder.layer.0.attention.self.Wqkv.weight")
}

/// Builds the encoder.
///
/// # Errors
///
/// When a tensor is missing or has another shape.
pub(super) fn encoder(source: &Source, shape: &Shape, body: &Weights) -> Result<Runner> {
    let spec = spec_of(shape, body)?;
    source.encoder(spec.clone(), &Body { weights: body.clone(), spec })
}

/// Returns the spec of one with these tensors.
pub(super) fn spec_of(shape: &Shape, body: &Weights) -> Result<Spec> {
    let [vocabulary, hidden] = body.shape(WORDS)?;
    let [_, intermediate] = body.shape("encoder.layer.0.mlp.wo.weight")?;
    let attending = Attending { alibi: true, ..Attending::default() };
    Ok(Spec { gated: true, ..spec(shape, [vocabulary, hidden, intermediate], attending)? })
}

/// The tensors of a MosaicBERT by their names.
struct Body {
    weights: Weights,
    spec: Spec,
}

impl Tensors for Body {
    fn embeddings(&self) -> Result<Embeddings<'_>> {
        embeddings(&self.weights, &self.spec)
    }

    fn layer(&self, index: usize) -> Result<Layer<'_>> {
        let Spec { hidden, intermediate, .. } = self.spec;
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let matrix = |part: &str, shape| matrix(&self.weights, &name(part), shape);
        let scale = |part: &str| scale(&self.weights, &name(part), hidden);
        Ok(Layer {
            projection: matrix("attention.self.Wqkv", [3 * hidden, hidden])?,
            output: matrix("attention.output.dense", [hidden, hidden])?,
            head_norms: None,
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
