//! Networks that read DNA, loaded from a model directory by its `config.json`.
//!
//! A model owns its encoding: how `N` is coded differs between families, and a wrong one scores well
//! enough to deceive. Shapes: B rows, L bases, channels last, base order A C G T.

use candle_core::Tensor;

use crate::error::Result;

/// What a model says about a batch of sequences. All tensors are f32 on the model's device.
pub struct Prediction {
    /// `[B, classes]`, before any sigmoid or softmax. A base-level caller has one class here: the
    /// log-sum-exp of its per-base logits. A BPNet has its log counts.
    pub logits: Tensor,
    /// `[B, classes]`, after the model's own sigmoid or softmax; `None` where logits are no odds.
    pub probs: Option<Tensor>,
    /// `[B, L]`, one probability per base, from base-level callers.
    pub base_scores: Option<Tensor>,
    /// `[B, tracks, length]`, profile logits.
    pub profile: Option<Tensor>,
}

/// A network that reads DNA. Its numbers do not depend on which rows share a batch.
pub trait Model: Send + Sync {
    /// Returns the number of bases a row must have; `None` when any number will do.
    fn window(&self) -> Option<usize>;

    /// Returns the names of the classes, one for each logit.
    fn labels(&self) -> &[String];

    /// Encodes sequences of equal length (upper-case `ACGTN`) as the network was trained to read them,
    /// `[B, L, 4]`.
    fn encode(&self, sequences: &[&[u8]]) -> Result<Tensor>;

    /// Runs the network. Differentiable with respect to `input`.
    fn forward(&self, input: &Tensor) -> Result<Prediction>;
}

/// A model as loaded: the network and what identifies it.
pub struct Loaded {
    /// The network.
    pub model: Box<dyn Model>,
    /// SHA-256 of the weights file, in hexadecimal.
    pub digest: String,
    /// The architecture, as `config.json` names it.
    pub architecture: String,
}
