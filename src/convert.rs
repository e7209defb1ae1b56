//! Sinks: streams into files of other formats.
//!
//! Every writer takes a whole pipe and fails with the pipe's first error, so a stream that was cut never
//! becomes a file that looks complete.

pub mod bed;
pub mod bigwig;
pub(crate) mod cell;
pub mod columnar;
pub mod examples;
pub mod fasta;
pub mod fimo;
pub mod general;
pub mod header;
pub mod hub;
pub mod json;
pub mod npz;
pub mod part;
#[cfg(test)]
pub(crate) mod sample;
pub mod saturation;
pub mod select;
pub mod sidecar;
pub mod table;
pub mod track;
pub mod vcf;
