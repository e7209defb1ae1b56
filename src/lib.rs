//! nyx: regulatory genomics as Unix filters over Arrow streams.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod attrib;
pub mod cli;
pub mod convert;
pub mod demo;
pub mod device;
pub mod dna;
pub mod error;
pub mod extract;
pub mod genome;
pub mod hits;
pub mod input;
pub mod kernel;
pub mod model;
pub mod motif;
pub mod npy;
pub mod output;
pub mod pipe;
pub mod provenance;
pub mod region;
pub mod report;
pub mod schema;
pub mod score;
pub mod tokenize;
pub mod tokenizer;

pub use error::{Error, Result};
