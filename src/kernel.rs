//! The arithmetic of networks on the processor: layers as candle operations, each with its gradient.
//!
//! Activations are channels-last: `[B, L, C]` or `[B, H, W, C]`. Every output number is one chain of
//! operations in a fixed order, so its bits depend neither on the other rows of the batch, nor on the
//! number of threads, nor on the instructions the processor has.

pub mod conv;
pub mod pointwise;
pub mod pool;
pub mod recurrent;
pub mod resize;
pub mod stack;
mod tile;

#[cfg(test)]
pub(crate) mod testing;

pub use conv::{Conv, Padding};
pub use stack::{Layer, Stack};
