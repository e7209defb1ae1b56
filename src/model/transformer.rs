//! Transformers over tokens: one encoder for every family, and what language models are asked for.
//!
//! A family file maps a `config.json` and the names of a state dict onto a [`Spec`] and [`Tensors`]; nothing
//! below knows families. Sequences are never padded: a thread lays some end to end and takes them through all
//! layers. A token's numbers are one fixed chain, so neither its pack nor the threads change a bit.

mod block;
mod encoder;
mod explain;
pub mod gpu;
pub mod graph;
mod head;
mod language;
mod pack;
mod read;
mod recurrent;
mod runner;
mod sentence;
mod spec;
mod tensors;

pub use encoder::{Encoder, Scratch, Sequence, Watch};
pub use explain::{StateReader, TokenShare, TokenWay};
pub use head::{Classifier, Decision, LongHead, Reads, TokenHead};
pub use language::{Checkpoint, LanguageModel, Parts};
pub use read::states;
pub use recurrent::{Direction, Recurrent};
pub use runner::{Gpu, Runner};
pub use sentence::LayerPooling;
pub use spec::{Attending, NormKind, NormPlace, Spec};
pub use tensors::{Embeddings, Layer, Matrix, Scale, Tensors, matrix, projection, scale};

#[cfg(test)]
mod golden;
#[cfg(test)]
pub(super) mod stock;
#[cfg(test)]
pub(super) mod tests;
