//! Bases of a UCSC 2bit file.

use std::fs::File;
use std::sync::{Arc, Mutex};

use ::twobit::TwoBitFile;

use super::positioned::PositionedFile;
use crate::error::{Error, Result};

/// An open 2bit file. Clones share the reader: its tables of masked blocks are too large to have twice.
#[derive(Clone)]
pub(super) struct TwoBit(Arc<Mutex<TwoBitFile<PositionedFile>>>);

impl TwoBit {
    /// Opens a 2bit file; returns its contigs with their lengths, too.
    pub(super) fn open(file: Arc<File>) -> Result<(Self, Vec<(String, u64)>)> {
        let reader = TwoBitFile::new(PositionedFile::new(file)).map_err(damaged)?;
        let lengths = reader.chrom_sizes().into_iter().map(|length| length as u64);
        let contigs = reader.chrom_names().into_iter().zip(lengths).collect();
        Ok((Self(Arc::new(Mutex::new(reader))), contigs))
    }

    /// Appends the bases of `[start, end)`, which lies inside the contig.
    pub(super) fn append(&self, chrom: &str, start: usize, end: usize, bases: &mut Vec<u8>) -> Result<()> {
        let mut reader = self.0.lock().expect("reading does not panic");
        let sequence = reader.read_sequence(chrom, start..end).map_err(damaged)?;
        bases.extend_from_slice(sequence.as_bytes());
        Ok(())
    }
}

fn damaged(error: ::twobit::Error) -> Error {
    Error::data(format!("the 2bit file is damaged or cut short: {error}"))
}
