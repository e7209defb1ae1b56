//! What tells one encoder from another.

use crate::kernel::Activation;

/// Where norms stand in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// Before attention and before the feed-forward part, inside the residual.
    Before,
    /// After each residual has been added.
    After,
}

/// What a norm does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Takes off the mean, and divides by the standard deviation.
    Layer,
    /// Divides by the root mean square.
    RootMeanSquare,
}

/// How the tokens of one layer see each other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Attending {
    /// Whether distance costs a slope a head (ALiBi).
    pub alibi: bool,
    /// Base of the wavelengths of rotary positions, which count from 0.
    pub rotary: Option<f32>,
    /// Whether a token sees none that follow it.
    pub causal: bool,
    /// How far a token sees to either side; everything where there is none.
    pub reach: Option<usize>,
}

/// The shape of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Number of token ids.
    pub vocabulary: usize,
    /// Most tokens of a sequence, where there is a most.
    pub positions: Option<usize>,
    /// Length of the vector of a token.
    pub hidden: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Heads of keys and values; each serves as many heads of queries.
    pub key_value_heads: usize,
    /// Length of the vectors of one head.
    pub width: usize,
    /// Length of the vector inside the feed-forward part.
    pub intermediate: usize,
    /// The function inside the feed-forward part.
    pub activation: Activation,
    /// Whether the feed-forward part is gated: f(a)·b, of a matrix twice as high.
    pub gated: bool,
    /// What norms do.
    pub norm: NormKind,
    /// Added to the variance in norms.
    pub epsilon: f32,
    /// Where norms stand.
    pub place: NormPlace,
    /// Whether each head's queries and keys have a norm of their own.
    pub head_norms: bool,
    /// The layers.
    pub layers: Vec<Attending>,
}

impl Spec {
    /// Returns the length of the queries, keys and values of one token.
    pub fn projected(&self) -> usize {
        (self.heads + 2 * self.key_value_heads) * self.width
    }
}
