//! Networks that read DNA, loaded from a model directory by its `config.json`.
//!
//! A model owns its encoding: how `N` is coded differs between families, and a wrong one scores well
//! enough to deceive. Shapes: B rows, L bases, channels last, base order A C G T.

use std::path::Path;

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};
use crate::kernel::pointwise;

pub mod adapter;
pub mod config;
pub mod convert;
pub mod encoding;
pub mod weights;

mod base_caller;
pub mod bpnet;
pub mod d_aednet;
pub mod danq;
pub mod deep_bind;
pub mod deep_bind_published;
pub mod deep_snr;
mod ensemble;
pub mod layout;
mod opened;
pub mod sequential_cnn;

pub use ensemble::{Ensemble, Gradient, Member, Outputs, PASS_BASES, Scores};
pub use opened::Opened;

use config::Config;
use weights::Weights;

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
    /// SHA-256 of the bytes of all weights files, in hexadecimal.
    pub digest: String,
    /// The architecture, as `config.json` names it.
    pub architecture: String,
}

/// Builds a network from its config and weights.
type Builder = fn(&Config, &Weights, &Device) -> Result<Box<dyn Model>>;

/// The families, by the name that `architectures` in `config.json` gives them.
const FAMILIES: &[(&str, Builder)] = &[
    ("BPNet", bpnet::load),
    ("DAEDNet", d_aednet::load),
    ("DanQ", danq::load),
    ("DeepBind", deep_bind::load),
    ("DeepBindPublished", deep_bind_published::load),
    ("DeepSNR", deep_snr::load),
    ("SequentialCnn", sequential_cnn::load),
];

/// Returns the names of the architectures that can be loaded.
pub fn architectures() -> Vec<&'static str> {
    FAMILIES.iter().map(|(name, _)| *name).collect()
}

/// Loads the model directory `path` (`config.json` and weights) onto `device`.
///
/// # Errors
///
/// When a file is missing, the architecture is unknown, or a tensor is missing or has another shape: the
/// message names it.
pub fn load(path: &Path, device: &Device) -> Result<Loaded> {
    Opened::read(path)?.build(device)
}

/// Builds the network that `config` names.
fn build(config: &Config, weights: &Weights, device: &Device) -> Result<Box<dyn Model>> {
    let wanted = config.architecture();
    match FAMILIES.iter().find(|(name, _)| *name == wanted) {
        Some((_, builder)) => builder(config, weights, device),
        None => Err(Error::data(format!(
            "config.json names the architecture `{wanted}`; known are {}",
            architectures().join(", ")
        ))),
    }
}

/// What follows the logits of a classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// Nothing.
    Linear,
    /// A sigmoid for each class.
    Sigmoid,
    /// A softmax over the classes.
    Softmax,
}

impl Head {
    /// Turns logits `[B, classes]` into a prediction.
    fn predict(self, logits: Tensor) -> Result<Prediction> {
        let probs = match self {
            Self::Linear => None,
            Self::Sigmoid => Some(pointwise::sigmoid(&logits)?),
            Self::Softmax => Some(pointwise::softmax(&logits)?),
        };
        Ok(Prediction { logits, probs, base_scores: None, profile: None })
    }
}

#[cfg(test)]
pub(crate) mod testing;
