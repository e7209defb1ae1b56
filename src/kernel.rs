//! The arithmetic of networks on the processor: layers as candle operations, each with its gradient.
//!
//! Activations are channels-last: `[B, L, C]` or `[B, H, W, C]`. The layers of transformers ([`linear`],
//! [`attention`], [`norm`]) work on plain slices: tokens of several sequences laid end to end, without padding.
//! Every output number is one chain of
//! operations in a fixed order, so its bits depend neither on the other rows of the batch, nor on the
//! number of threads, nor on the instructions the processor has.

pub mod activation;
pub mod attention;
pub mod conv;
pub mod instructions;
pub mod jaccard;
pub mod learn;
pub mod linear;
pub mod matrix;
pub mod norm;
mod outer;
pub mod pointwise;
pub mod pool;
mod product;
pub mod recurrent;
pub mod resize;
pub mod rule;
pub mod stack;
mod tile;

#[cfg(test)]
pub(crate) mod testing;

pub use activation::Activation;
pub use attention::{Attention, Rotary, Scratch};
pub use conv::{Conv, Padding};
pub use instructions::Instructions;
pub use linear::{Linear, Precision};
pub use norm::Norm;
pub use stack::{Layer, Stack};
