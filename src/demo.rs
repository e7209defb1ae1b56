//! A small data set the project makes itself, so that the whole pipeline can be tried and checked anywhere:
//! a synthetic genome with planted motif instances, and a network trained to see them.
//!
//! The network in `demo/model` comes from `scripts/train_demo_model.py`, which makes its own training
//! sequences from another seed; the genome here is held out.

pub mod genome;
pub mod random;
pub mod recall;
pub mod text;

/// The motifs that are planted, in MEME's format. The matrices are made up; only the consensus words follow
/// the known factors.
pub const MOTIFS: &str = include_str!("demo/motifs.meme");

/// `config.json` of the demo's network.
pub const MODEL_CONFIG: &str = include_str!("demo/model/config.json");

/// `model.safetensors` of the demo's network.
pub const MODEL_WEIGHTS: &[u8] = include_bytes!("demo/model/model.safetensors");

/// The seed of the genome. The training script uses another one.
pub const SEED: u64 = 20_260_101;

/// Bases of the windows that the network reads.
pub const WINDOW: usize = 200;
