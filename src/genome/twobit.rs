//! Bases of a UCSC 2bit file.

use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use ::twobit::TwoBitFile;

use super::positioned::PositionedFile;
use crate::error::{Error, Result};

/// Bytes read at once: 16384 bases, several windows.
const BUFFER: usize = 1 << 12;

/// An open 2bit file. Clones share the reader: its tables of masked blocks are too large to have twice.
#[derive(Clone)]
pub(super) struct TwoBit(Arc<Mutex<Checked>>);

struct Checked {
    reader: TwoBitFile<PositionedFile>,
    /// Contigs whose blocks were found in order.
    contigs: HashSet<String>,
}

impl TwoBit {
    /// Opens a 2bit file; returns its contigs with their lengths, too.
    pub(super) fn open(file: Arc<File>) -> Result<(Self, Vec<(String, u64)>)> {
        let reader = TwoBitFile::new(PositionedFile::new(file, BUFFER)).map_err(damaged)?;
        let lengths = reader.chrom_sizes().into_iter().map(|length| length as u64);
        let contigs = reader.chrom_names().into_iter().zip(lengths).collect();
        Ok((Self(Arc::new(Mutex::new(Checked { reader, contigs: HashSet::new() }))), contigs))
    }

    /// Appends the bases of `[start, end)`, which lies inside the contig.
    pub(super) fn append(&self, chrom: &str, start: usize, end: usize, bases: &mut Vec<u8>) -> Result<()> {
        let mut checked = self.0.lock().map_err(|_| Error::data("another thread failed on the 2bit file"))?;
        checked.check_blocks(chrom)?;
        let sequence = checked.reader.read_sequence(chrom, start..end).map_err(damaged)?;
        bases.extend_from_slice(sequence.as_bytes());
        Ok(())
    }
}

impl Checked {
    /// Checks what the crate takes for granted: the blocks of `N` of a contig are in order.
    fn check_blocks(&mut self, chrom: &str) -> Result<()> {
        if self.contigs.contains(chrom) {
            return Ok(());
        }
        let blocks = self.reader.hard_masked_blocks(chrom, ..).map_err(damaged)?;
        let sound = |pair: &[Range<usize>]| pair[0].end <= pair[1].start;
        if !blocks.windows(2).all(sound) || blocks.iter().any(|block| block.start > block.end) {
            return Err(Error::data(format!(
                "the 2bit file is damaged: blocks of N of `{chrom}` are out of order"
            )));
        }
        self.contigs.insert(chrom.to_string());
        Ok(())
    }
}

fn damaged(error: ::twobit::Error) -> Error {
    Error::data(format!("the 2bit file is damaged or cut short: {error}"))
}
