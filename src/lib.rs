//! nyx: regulatory genomics as Unix filters over Arrow streams.
//!
//! A genome, intervals or variants become **rows**; a stage adds columns to them; a sink turns them into
//! files. Every stage is a process that reads a stream on standard input and writes one on standard output,
//! so a shell joins them and nothing is materialized in between:
//!
//! ```text
//!  files ──▶ nyx-extract ──▶ nyx-score ──▶ nyx-attrib ──▶ nyx-hits ──▶ nyx-view ──▶ files
//!            rows begin      + logits      + contributions  rows become hits   rows end
//!                                 └──▶ nyx-effects ──▶ VCF: alleles become one row an ALT
//! ```
//!
//! # A row
//!
//! A row is a window with an identity that no stage renumbers: the ordinal of the region or record it came
//! from, contig, 0-based half-open coordinates, strand, and for a variant its record and allele. Rows keep
//! their order. What cannot be processed stays in, with a [`schema::Status`]; only [`hits`], [`scan`] and [`discover`]
//! turn rows into something else, and [`effects`] two alleles into one row. A variant is two or more rows, one an allele,
//! so no other stage needs to know about variants.
//!
//! # The rooms, and which way data flows
//!
//! ```text
//!  bin ──▶ cli, verify, every stage, genome, convert, report
//!  stages    extract  tokenize  score  attrib  hits  scan  effects  verbs: a pipe in, a pipe out
//!  training  train                                       examples in, weights out
//!  edges     genome  convert  report  input  output      files: no mathematics
//!  numbers   model  kernel  tokenizer  motif  device  metrics  tune   arrays in, arrays out: no Arrow, no pipes
//!  wire      pipe  schema  provenance                    what travels: no mathematics
//!  words     dna  region  error                          know nobody
//! ```
//!
//! * The **words**: [`dna`] (bases as bytes, order A C G T), [`region`] (intervals and strands), [`error`]
//!   (what went wrong, and the exit status that says so).
//! * The **wire**: [`pipe`] is a schema and the batches that follow it; [`pipe::ipc`] carries it between
//!   processes so that a cut or failed stream can never pass for a whole one; [`schema`] holds every column
//!   name and type; [`provenance`] is the chain of stages and the reference, in the schema's metadata.
//! * The **edges**: [`genome`] reads FASTA, 2bit and BED; [`input`] and [`output`] open and atomically write
//!   whatever a path names; [`convert`] writes TSV, BED, bigWig, Parquet and the rest; [`report`] makes pages.
//! * The **numbers**: a [`model`] turns rows into scores and is loaded by its `config.json`: a convolutional
//!   network of a file of its own, or the one transformer encoder that every language model configures;
//!   [`kernel`] the loops that take the time; [`device`] the GPU, opened at run time, whose kernels stand in
//!   `kernels/` beside their twins here; [`motif`] motifs and their files; [`tokenizer`] bases to tokens.
//! * The **stages** are functions from a [`pipe::Pipe`] to a [`pipe::Pipe`]: [`extract`], [`tokenize`],
//!   [`score`], [`attrib`], [`hits`], [`scan`], [`discover`], [`effects`]. No stage uses another; what two share moves
//!   down.
//! * **Training** ([`train`]) reads a pipe to its end and gives weights; [`metrics`] says how good predictions are,
//!   [`tune`] which hyper-parameters to try next.
//! * **Checking** ([`verify`]) reads any file that nyx wrote to its end, and the commands that made it; it knows every room
//!   and nobody but the front door knows it.
//! * The executables in `src/bin` parse arguments, open, call a stage, and write, with what [`cli`] gives
//!   all of them. [`demo`] is the data and the story of `nyx demo`.
//!
//! `tests/it/layers.rs` is this table as a test.
//!
//! # Promises
//!
//! * **Complete or an error, never short.** A stream ends at its end mark or the reader exits with status 3.
//!   A file appears under its name only when it is whole.
//! * **The same numbers** whatever the batch size and the threads: each row is computed by a chain
//!   of operations that does not depend on its neighbours.
//! * **Bounded memory**: batch size × read-ahead, never the length of the input. The only threads besides
//!   those that compute are those of [`pipe::Pipe::ahead`].
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod attrib;
pub mod cli;
pub mod convert;
pub mod demo;
pub mod device;
pub mod discover;
pub mod dna;
pub mod effects;
pub mod error;
pub mod evaluate;
pub mod extract;
pub mod genome;
pub mod hits;
pub mod input;
pub mod kernel;
pub mod metrics;
pub mod model;
pub mod motif;
pub mod npy;
pub mod output;
pub mod pipe;
pub mod provenance;
pub mod region;
pub mod report;
pub mod scan;
pub mod schema;
pub mod score;
pub mod tokenize;
pub mod tokenizer;
pub mod train;
pub mod tune;
pub mod verify;

#[cfg(test)]
mod testing;

pub use error::{Error, Result};

/// Batches of megabytes come and go all the time; the system's allocator returns their pages each time. A fuzzer
/// watches that one for allocations out of proportion.
#[cfg(not(fuzzing))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
