//! The tensors of an encoder, whatever a checkpoint calls them.

use std::borrow::Cow;

use super::super::weights::Weights;
use super::{NormKind, Spec};
use crate::error::{Error, Result};
use crate::kernel::{Linear, Norm, Precision};

/// A matrix with its bias.
pub struct Matrix<'a> {
    /// `[outputs, inputs]`.
    pub values: Cow<'a, [f32]>,
    /// `outputs, inputs`.
    pub shape: [usize; 2],
    /// `[outputs]`.
    pub bias: Option<Cow<'a, [f32]>>,
}

impl<'a> Matrix<'a> {
    /// Lays matrices of as many inputs one below the other.
    ///
    /// # Errors
    ///
    /// When only some have a bias.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn stack(parts: &[Self]) -> Result<Self> {
        let outputs = parts.iter().map(|part| part.shape[0]).sum();
        let values: Vec<f32> = parts.iter().flat_map(|part| part.values.iter().copied()).collect();
        let bias = parts.iter().map(|part| part.bias.as_deref()).collect::<Option<Vec<_>>>();
        if bias.is_none() && parts.iter().any(|part| part.bias.is_some()) {
            return Err(Error::data("of the matrices of one layer some have a bias and some have none"));
        }
        let bias = bias.map(|parts| parts.concat().into());
        Ok(Self { values: values.into(), shape: [outputs, parts[0].shape[1]], bias })
    }

    /// Makes a layer of it.
    pub fn linear(&self, precision: Precision) -> Linear {
        Linear::new(&self.values, self.shape, self.bias.as_deref(), precision)
    }
}

/// The weights and bias of a norm, `[hidden]` each.
pub struct Scale<'a> {
    /// The weights.
    pub weights: Cow<'a, [f32]>,
    /// The bias.
    pub bias: Option<Cow<'a, [f32]>>,
}

impl Scale<'_> {
    /// Makes a norm of it.
    pub fn norm(&self, spec: &Spec) -> Norm {
        match spec.norm {
            NormKind::Layer => Norm::layer(&self.weights, self.bias.as_deref(), spec.epsilon),
            NormKind::RootMeanSquare => Norm::rms(&self.weights, spec.epsilon),
        }
    }
}

/// What turns token ids into vectors.
pub struct Embeddings<'a> {
    /// `[vocabulary, hidden]`.
    pub words: Cow<'a, [f32]>,
    /// Added to every token, `[hidden]`.
    pub constant: Option<Cow<'a, [f32]>>,
    /// Added by position, `[positions, hidden]`, from the first token of a sequence on.
    pub positions: Option<Cow<'a, [f32]>>,
    /// The norm that follows.
    pub norm: Option<Scale<'a>>,
}

/// The tensors of one layer.
pub struct Layer<'a> {
    /// Queries, keys and values, one below the other: `[(heads + 2·key_value_heads)·width, hidden]`.
    pub projection: Matrix<'a>,
    /// The norms of each head's queries and of its keys, `[width]` each, in families that have them.
    pub head_norms: Option<[Scale<'a>; 2]>,
    /// From what heads have read back to `[hidden, heads·width]`.
    pub output: Matrix<'a>,
    /// The norm of attention; a layer of some families has none.
    pub attention_norm: Option<Scale<'a>>,
    /// `[intermediate, hidden]`, or twice as high where it is gated, the activated half first.
    pub up: Matrix<'a>,
    /// `[hidden, intermediate]`.
    pub down: Matrix<'a>,
    /// The norm of the feed-forward part.
    pub feed_forward_norm: Scale<'a>,
}

/// Where an encoder finds its tensors.
pub trait Tensors {
    /// Returns what turns tokens into vectors.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    fn embeddings(&self) -> Result<Embeddings<'_>>;

    /// Returns a layer, from 0.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    fn layer(&self, index: usize) -> Result<Layer<'_>>;

    /// Returns the norm behind the last layer, where there is one.
    ///
    /// # Errors
    ///
    /// When it has another shape.
    fn last_norm(&self) -> Result<Option<Scale<'_>>>;
}

/// Returns `{name}.weight`, and `{name}.bias` where there is one.
///
/// # Errors
///
/// When one has another shape, or there are no weights.
pub fn matrix<'a>(weights: &'a Weights, name: &str, shape: [usize; 2]) -> Result<Matrix<'a>> {
    let values = weights.read_tensor(&format!("{name}.weight"), &shape)?;
    Ok(Matrix { values, shape, bias: bias(weights, name, shape[0])? })
}

/// Reads queries, keys and values, which BERT and its kin keep apart under `name`, as one projection.
///
/// # Errors
///
/// As [`matrix`].
pub fn projection<'a>(weights: &'a Weights, name: &str, hidden: usize) -> Result<Matrix<'a>> {
    let part = |part| matrix(weights, &format!("{name}.{part}"), [hidden, hidden]);
    Matrix::stack(&[part("query")?, part("key")?, part("value")?])
}

/// Returns the norm `name`: its `weight`, and its `bias` where there is one.
///
/// # Errors
///
/// As [`matrix`].
pub fn scale<'a>(weights: &'a Weights, name: &str, width: usize) -> Result<Scale<'a>> {
    let values = weights.read_tensor(&format!("{name}.weight"), &[width])?;
    Ok(Scale { weights: values, bias: bias(weights, name, width)? })
}

fn bias<'a>(weights: &'a Weights, name: &str, width: usize) -> Result<Option<Cow<'a, [f32]>>> {
    let name = format!("{name}.bias");
    if weights.contains(&name) { weights.read_tensor(&name, &[width]).map(Some) } else { Ok(None) }
}
