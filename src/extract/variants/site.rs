//! A record laid over the genome: its reference allele checked, its windows made. Pure: the bases come
//! from a [`Bases`], which can be a map in memory.

use super::record::{AlleleKind, Record};
use super::window::Anchor;
use crate::dna;
use crate::error::{Error, Result};
use crate::schema::Status;

/// Whatever has contigs with bases.
pub trait Bases {
    /// Returns the length of a contig in bases; `None` when there is no such contig.
    fn contig_length(&self, chrom: &str) -> Option<u64>;

    /// Replaces `bases` by those of `[start, end)`, 0-based, upper-case `ACGTN`, `N` outside the contig.
    ///
    /// # Errors
    ///
    /// When the contig is unknown or the bases cannot be read.
    fn fetch(&mut self, chrom: &str, start: i64, end: i64, bases: &mut Vec<u8>) -> Result<()>;

    /// Returns the error for a contig that there is not, with a hint where there is one.
    fn unknown_contig(&self, chrom: &str) -> Error {
        Error::data(format!("contig `{chrom}` is not in the genome"))
    }
}

impl Bases for crate::genome::Genome {
    fn contig_length(&self, chrom: &str) -> Option<u64> {
        crate::genome::Genome::contig_length(self, chrom)
    }

    fn fetch(&mut self, chrom: &str, start: i64, end: i64, bases: &mut Vec<u8>) -> Result<()> {
        crate::genome::Genome::fetch(self, chrom, start, end, bases)
    }

    fn unknown_contig(&self, chrom: &str) -> Error {
        crate::genome::Genome::unknown_contig(self, chrom)
    }
}

/// The shape of the windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bases of every window.
    pub width: usize,
    /// Which flank gives way for an indel.
    pub anchor: Anchor,
}

/// The window of one allele.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlleleWindow {
    /// First base of the genome in the window, 0-based, negative before the contig.
    pub start: i64,
    /// One past the last base of the genome in the window. `end - start` is the width but for the length
    /// difference of an indel.
    pub end: i64,
    /// Exactly the width, upper-case `ACGTN`; `None` where `status` says why.
    pub sequence: Option<Vec<u8>>,
    /// Why the window is what it is.
    pub status: Status,
}

/// A record over its stretch of the genome.
#[derive(Clone, Debug)]
pub struct Site {
    /// The record; after [`Site::swap`] the allele that agrees with the genome comes first.
    pub record: Record,
    shape: Shape,
    /// Length of the contig; `None` when the genome does not have it.
    contig: Option<i64>,
    /// Genome from the longest left flank to the longest right flank; empty without contig.
    context: Vec<u8>,
    mismatch: bool,
    swapped: bool,
}

impl Site {
    /// Fetches the genome around `record`, whose `chrom` is the genome's name, and compares REF with it.
    ///
    /// REF agrees with the genome when every base is the same in either case; `N` in REF states no base
    /// and agrees with all. `N` or an IUPAC code in the genome agrees with `N` only.
    ///
    /// # Errors
    ///
    /// When the genome cannot be read.
    pub fn new(record: Record, shape: Shape, genome: &mut impl Bases) -> Result<Self> {
        let contig = genome.contig_length(&record.chrom).map(|length| length as i64);
        let mut site = Self { record, shape, contig, context: Vec::new(), mismatch: false, swapped: false };
        site.fetch(genome)?;
        site.mismatch = contig.is_some() && site.has_bases() && !site.agrees(&site.record.alleles[0], 0);
        Ok(site)
    }

    /// Gives the site windows of another shape; what is known of its alleles stays.
    ///
    /// # Errors
    ///
    /// When the genome cannot be read.
    pub fn reshape(mut self, shape: Shape, genome: &mut impl Bases) -> Result<Self> {
        self.shape = shape;
        self.fetch(genome)?;
        Ok(self)
    }

    fn fetch(&mut self, genome: &mut impl Bases) -> Result<()> {
        if self.contig.is_none() {
            return Ok(());
        }
        let longest = self.record.alleles.iter().filter(|a| is_bases(a)).map(String::len).max();
        let reach = longest.unwrap_or(0).max(self.record.alleles[0].len()) + self.shape.width;
        let first = self.record.position - 1;
        let start = self.context_start();
        genome.fetch(&self.record.chrom, start, first + reach as i64, &mut self.context)
    }

    /// Returns whether the genome has the contig.
    pub fn has_contig(&self) -> bool {
        self.contig.is_some()
    }

    /// Returns whether REF is not what the genome has there.
    pub fn is_mismatch(&self) -> bool {
        self.mismatch
    }

    /// Returns what the genome has in the place of REF.
    pub fn genome_bases(&self) -> &[u8] {
        let offset = self.shape.width / 2;
        &self.context[offset..offset + self.record.alleles[0].len()]
    }

    /// Returns whether `allele` agrees with the genome `shift` (−1, 0 or 1) bases after POS.
    pub fn agrees(&self, allele: &str, shift: isize) -> bool {
        let Some(offset) = (self.shape.width / 2).checked_add_signed(shift) else { return false };
        let Some(genome) = self.context.get(offset..offset + allele.len()) else { return false };
        allele.bytes().zip(genome).all(|(base, &genome)| {
            let base = base.to_ascii_uppercase();
            base == b'N' || base == genome
        })
    }

    /// Returns the alternate allele that agrees with the genome where REF does not: the longest, the
    /// first of equals.
    pub fn agreeing_alternate(&self) -> Option<usize> {
        let candidates = (1..self.record.alleles.len()).rev().filter(|&k| {
            let allele = &self.record.alleles[k];
            self.mismatch && is_bases(allele) && self.agrees(allele, 0)
        });
        candidates.max_by_key(|&k| self.record.alleles[k].len())
    }

    /// Exchanges REF and the k-th alternate allele, in the columns as in the windows.
    pub fn swap(&mut self, k: usize) {
        self.record.alleles.swap(0, k);
        self.record.genotypes.swap(k);
        self.mismatch = false;
        self.swapped = true;
    }

    /// Returns the window of allele `k`; 0 is REF.
    ///
    /// Rows without a sequence have the interval of the REF row. Where REF is not what the genome has,
    /// the sequences hold the record's own alleles. An alternate allele that the window cannot hold
    /// whole has no sequence; the window of such a REF holds as much of it as there is room for.
    pub fn window(&self, k: usize) -> AlleleWindow {
        let (start, end) = self.reference_interval();
        let silent = |status| AlleleWindow { start, end, sequence: None, status };
        if self.contig.is_none() {
            return silent(Status::UnknownContig);
        }
        if !self.has_bases() {
            return silent(Status::NotBases);
        }
        if k == 0 {
            return self.finish(start, end, self.reference_sequence(start), self.reference_fits());
        }
        match AlleleKind::of(&self.record.alleles[k]) {
            AlleleKind::Symbolic => silent(Status::SymbolicAllele),
            AlleleKind::Spanning => silent(Status::SpanningDeletion),
            AlleleKind::NotBases => silent(Status::NotBases),
            AlleleKind::Bases => self.alternate_window(k).unwrap_or_else(|| silent(Status::TooLong)),
        }
    }

    /// Returns left flank + allele + right flank, and the interval from the first base of the one to the
    /// last base of the other; `None` when the allele is too long.
    fn alternate_window(&self, k: usize) -> Option<AlleleWindow> {
        let allele = self.record.alleles[k].as_bytes();
        let flanks = self.shape.anchor.flanks(self.shape.width, allele.len())?;
        let (first, after) = self.record.span();
        let (start, end) = (first - flanks.left as i64, after + flanks.right as i64);
        let mut sequence = Vec::with_capacity(self.shape.width);
        sequence.extend_from_slice(self.bases(start, first));
        sequence.extend(allele.iter().map(u8::to_ascii_uppercase));
        sequence.extend_from_slice(self.bases(after, end));
        Some(self.finish(start, end, sequence, true))
    }

    /// Returns the genome's window with the record's REF written over it where they differ.
    fn reference_sequence(&self, start: i64) -> Vec<u8> {
        let mut sequence = self.bases(start, start + self.shape.width as i64).to_vec();
        if self.mismatch {
            let first = self.record.position - 1;
            for (base, letter) in (first..).zip(self.record.alleles[0].bytes()) {
                if let Some(slot) = usize::try_from(base - start).ok().and_then(|i| sequence.get_mut(i)) {
                    *slot = letter.to_ascii_uppercase();
                }
            }
        }
        sequence
    }

    /// Returns the window of `sequence` with the status that it has by itself; `whole` says that it holds its
    /// allele.
    pub fn finish(&self, start: i64, end: i64, sequence: Vec<u8>, whole: bool) -> AlleleWindow {
        debug_assert!(sequence.iter().all(|&base| base == b'N' || dna::base_index(base).is_some()));
        let status = if self.mismatch {
            Status::RefMismatch
        } else if self.swapped {
            Status::Swapped
        } else if !whole {
            Status::TooLong
        } else if sequence.iter().all(|&base| base == b'N') {
            Status::AllN
        } else if start < 0 || self.contig.is_none_or(|length| end > length) {
            Status::OffContig
        } else {
            Status::Ok
        };
        AlleleWindow { start, end, sequence: Some(sequence), status }
    }

    /// Returns the interval of the window of REF.
    pub fn reference_interval(&self) -> (i64, i64) {
        let (first, after) = self.record.span();
        let Shape { width, anchor } = self.shape;
        let start = anchor.reference_start(width, first, (after - first) as usize);
        (start, start + width as i64)
    }

    /// Returns whether the window of REF holds all of it.
    pub fn reference_fits(&self) -> bool {
        self.shape.anchor.flanks(self.shape.width, self.record.alleles[0].len()).is_some()
    }

    /// Returns whether REF is one or more of `ACGTN`.
    pub fn has_bases(&self) -> bool {
        is_bases(&self.record.alleles[0])
    }

    fn context_start(&self) -> i64 {
        self.record.position - 1 - (self.shape.width / 2) as i64
    }

    /// Returns the genome's `[start, end)`, which lies in the context.
    fn bases(&self, start: i64, end: i64) -> &[u8] {
        let offset = self.context_start();
        &self.context[(start - offset) as usize..(end - offset) as usize]
    }
}

fn is_bases(allele: &str) -> bool {
    AlleleKind::of(allele) == AlleleKind::Bases
}
