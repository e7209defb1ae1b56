//! What a genome is: contigs, lengths, bases.

use std::path::Path;

use crate::error::Result;
use crate::provenance;

/// An open reference genome.
pub struct Genome {
    record: provenance::Genome,
}

impl Genome {
    /// Opens a FASTA file (plain or BGZF, indexed here when it has no index) or a 2bit file.
    pub fn open(_path: &Path) -> Result<Self> {
        unimplemented!()
    }

    /// Returns what the stream's metadata says about this genome.
    pub fn record(&self) -> &provenance::Genome {
        &self.record
    }

    /// Returns the length of a contig in bases; `None` when the genome has no such contig.
    pub fn contig_length(&self, _name: &str) -> Option<u64> {
        unimplemented!()
    }

    /// Replaces `bases` by those of `[start, end)` of a contig as upper-case `ACGTN`, with `N` where the
    /// window passes an end of the contig.
    ///
    /// # Errors
    ///
    /// When the contig is unknown or the file cannot be read.
    pub fn fetch(&mut self, _chrom: &str, _start: i64, _end: i64, _bases: &mut Vec<u8>) -> Result<()> {
        unimplemented!()
    }
}
