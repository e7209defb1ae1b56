//! Networks as graphs that can be differentiated with respect to their weights: what training runs.
//!
//! The networks beside this module fold norms into weights and pack these once, for scoring. Here weights stay
//! tensors under the names of PyTorch's state dicts, norms use the statistics of the batch, and dropout drops.
//! What is trained is scored by the other form; tests hold the two together.

mod base_caller;
mod binding;
mod cells;
mod convolutions;
mod pairs;
mod parameters;
mod pass;
mod random;

pub use base_caller::{DAedNet, DeepSnr};
pub use binding::{DanQ, DeepBind};
pub use cells::{CellTypes, ToldCell};
pub use convolutions::Convolutions;
pub use pairs::ResidualLayers;
pub use parameters::{Initial, Lora, Parameters, Snapshot};
pub use pass::{Pass, Seen};
pub use random::Random;

use candle_core::Tensor;

use super::config::Config;
use super::weights::Weights;
use crate::error::Result;

/// A network that can be trained.
pub trait Graph: Send + Sync {
    /// Returns the architecture, as `config.json` names it.
    fn architecture(&self) -> &'static str;

    /// Returns the bases of a row; `None` when any number will do.
    fn window(&self) -> Option<usize>;

    /// Encodes sequences of equal length (upper-case `ACGTN`), `[B, L, 4]`.
    ///
    /// # Errors
    ///
    /// When the lengths differ.
    fn encode(&self, sequences: &[&[u8]]) -> Result<Tensor>;

    /// Draws the weights that training begins with.
    fn initial(&self, initial: &mut Initial);

    /// Returns logits: `[B, classes]`, or `[B, L]` of a network that calls bases.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or the input has another shape.
    fn logits(&self, input: &Tensor, pass: &mut Pass) -> Result<Tensor>;
}

/// Builds the network that scores, from weights that were trained.
///
/// # Errors
///
/// When a tensor is missing or has another shape.
pub fn scorer(config: &Config, weights: &Weights) -> Result<Box<dyn super::Network>> {
    super::build(config, weights, &candle_core::Device::Cpu)
}
