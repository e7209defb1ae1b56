//! Rows of `nyx-extract variants`: one window per allele, the reference first.
//!
//! Rows in = rows out: a record gives 1 + (number of its ALT alleles) rows, whatever is wrong with it; what
//! cannot have a sequence has a `status`. `variant` and `region` are the ordinal of the record among those
//! read (with regions: among those in the regions). Coordinates: `start` and `end` of a row are the stretch
//! of the genome that its bases came from; for a deletion it is longer, for an insertion shorter than the
//! window.
//!
//! | status | rows | sequence |
//! |---|---|---|
//! | `unknown_contig` | all of the record | none |
//! | `not_bases` | all of the record when REF holds other letters than `ACGTN`, else that ALT | none |
//! | `symbolic_allele`, `spanning_deletion` | that ALT | none |
//! | `too_long` | an ALT that does not fit | none |
//! | `too_long` | REF when it does not fit | the window, which ends inside REF |
//! | `ref_mismatch` | all others of the record | with the record's own alleles |
//! | `swapped` | all others of the record, whose `ref` and `alt` are exchanged | with the exchanged alleles |
//! | `all_n` | the window is nothing but N | as it is |
//! | `off_contig` | the window passes an end of its contig | padded with N |
//!
//! The first that applies, from the top, is the status. Rows without a sequence have the interval of their
//! REF row.
//!
//! [`haplotype_rows`] adds the windows of phased haplotypes to these rows. A window of a haplotype has no
//! sequence when the contig is unknown, an allele in it has no known bases (`not_bases`, `symbolic_allele`), the
//! sample has no such haplotype at the record (`haploid`), or the allele does not fit (`too_long`). Otherwise
//! its status is the first of `ref_mismatch`, `swapped`, `too_long` (REF), `missing_genotype`, `unphased`,
//! `overlap`, `spanning_deletion`, `all_n`, `off_contig` that a record in the window gives it.

mod bcf;
mod bcf_genotypes;
mod cut;
mod edits;
mod genotypes;
mod haplotypes;
mod mismatch;
mod open;
mod record;
mod seek;
mod selection;
mod site;
mod table;
mod tsv;
mod vcf;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::provenance;
use crate::region::Strand;
use crate::schema::{Allele, Row, RowBuilder, RowKind};

use super::batched::{Batched, Rows};
use super::windows::UnknownContig;
pub use genotypes::{Call, Genotypes, Samples};
pub use haplotypes::{Haplotypes, haplotype_rows, reading};
use mismatch::Mismatches;
pub use open::{ContigMap, Format, Records, Variants, open, open_with};
pub use record::{AlleleKind, Place, Record};
pub use selection::Selection;
pub use site::{AlleleWindow, Bases, Shape, Site};
pub use tsv::Schema;
pub use window::{Anchor, Flanks};

/// Records that are read after a reference mismatch to find further ones for the message.
const SEARCHED: usize = 10_000;

/// What to do with a record whose reference allele is not what the genome has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefMismatch {
    /// Fail, naming the first such records.
    #[default]
    Error,
    /// Keep the record's own alleles, with the status `ref_mismatch`.
    Status,
    /// Exchange REF with the ALT that agrees with the genome, with the status `swapped`; where none does,
    /// as [`RefMismatch::Status`].
    Swap,
}

/// How records become rows.
#[derive(Clone, Debug)]
pub struct Options {
    /// Width and anchor of the windows.
    pub shape: Shape,
    /// What a reference mismatch does.
    pub ref_mismatch: RefMismatch,
    /// What an unknown contig does.
    pub unknown_contig: UnknownContig,
    /// Names of contigs in the file of variants, and in the genome where they differ.
    pub contig_map: ContigMap,
    /// Which records become rows; regions have the genome's names.
    pub selection: Selection,
    /// Name of the file of variants, for messages.
    pub file: String,
    /// Most rows of a batch.
    pub batch_rows: usize,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Counts {
    /// Records that became rows.
    pub records: AtomicU64,
    /// Records that were read but are outside the regions.
    pub outside: AtomicU64,
    /// Windows of haplotypes.
    pub haplotypes: AtomicU64,
    /// Those that differ from the others of their record.
    pub distinct: AtomicU64,
    /// Variants of haplotypes that were left out because they overlap one before.
    pub left_out: AtomicU64,
    /// Genotypes with more than two alleles.
    pub polyploid: AtomicU64,
}

/// Makes rows of `records` over `genome`, lazily.
pub fn rows<G: Bases + Send + 'static>(
    records: Records,
    genome: G,
    provenance: &provenance::Genome,
    options: Options,
) -> (Pipe, Arc<Counts>) {
    let schema = RowKind::Variants.schema(Some(provenance));
    let builder = RowBuilder::new(RowKind::Variants, schema.clone());
    let batch_rows = options.batch_rows;
    let sites = Sites::new(records, genome, provenance, options);
    let counts = sites.counts.clone();
    let alleles = AlleleRows { sites, builder, bytes: 0, site: None, next_allele: 0 };
    (Pipe::new(schema, Batched::new(alleles, batch_rows)), counts)
}

/// Records laid over the genome, by the options.
struct Sites<G> {
    records: Records,
    genome: G,
    genome_name: String,
    /// The records that are read.
    reading: Selection,
    options: Options,
    counts: Arc<Counts>,
}

impl<G: Bases> Sites<G> {
    fn new(records: Records, genome: G, provenance: &provenance::Genome, options: Options) -> Self {
        let genome_name = provenance.name.clone();
        let reading = options.selection.clone();
        Self { records, genome, genome_name, reading, options, counts: Arc::default() }
    }

    /// Lays the next selected record over the genome.
    fn next(&mut self) -> Result<Option<Site>> {
        match self.next_record()? {
            Some(record) => self.lay(record, self.options.shape).map(Some),
            None => Ok(None),
        }
    }

    /// Lays a record over the genome, with windows of `shape`, and does what the options say about it.
    fn lay(&mut self, record: Record, shape: Shape) -> Result<Site> {
        let mut site = Site::new(record, shape, &mut self.genome)?;
        if !site.has_contig() && self.options.unknown_contig == UnknownContig::Error {
            return Err(self.genome.unknown_contig(&site.record.chrom).at(self.place(&site.record)));
        }
        if site.is_mismatch() {
            match self.options.ref_mismatch {
                RefMismatch::Error => return Err(self.mismatch_error(&site)),
                RefMismatch::Swap => {
                    if let Some(k) = site.agreeing_alternate() {
                        site.swap(k);
                    }
                }
                RefMismatch::Status => {}
            }
        }
        Ok(site)
    }

    /// Names a record for a message.
    fn place(&self, record: &Record) -> String {
        format!("{}: {}", self.options.file, record.place)
    }

    /// Reads up to the next record that is asked for, with the genome's name of its contig.
    fn next_record(&mut self) -> Result<Option<Record>> {
        for record in &mut self.records {
            let mut record = record?;
            if let Some(name) = self.options.contig_map.get(&record.chrom) {
                record.chrom.clone_from(name);
            }
            let (start, end) = record.span();
            if self.reading.overlaps(&record.chrom, start, end) {
                return Ok(Some(record));
            }
            self.counts.outside.fetch_add(1, Relaxed);
        }
        Ok(None)
    }

    /// Reads on for further offenders, so that the message shows what they have in common.
    fn mismatch_error(&mut self, first: &Site) -> Error {
        let mut mismatches = Mismatches::default();
        mismatches.add(first);
        for _ in 0..SEARCHED {
            if mismatches.is_full() {
                break;
            }
            let Ok(Some(record)) = self.next_record() else { break };
            match Site::new(record, self.options.shape, &mut self.genome) {
                Ok(site) if site.is_mismatch() => mismatches.add(&site),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        mismatches.error(&self.genome_name).at(self.options.file.clone())
    }
}

/// Returns the row of a window of `record`, the `ordinal`-th.
fn row_of<'a>(record: &'a Record, ordinal: u64, window: &'a AlleleWindow) -> Row<'a> {
    let sequence = window.sequence.as_deref();
    Row {
        region: ordinal,
        chrom: Some(&record.chrom),
        start: window.start,
        end: window.end,
        strand: Strand::Unknown,
        name: record.id.as_deref(),
        sequence: sequence.map(|bases| std::str::from_utf8(bases).expect("letters")),
        status: window.status,
    }
}

/// Returns allele `k` of `record`, the `ordinal`-th, as its row names it; `alternate` is its ALT.
fn allele_of<'a>(record: &'a Record, ordinal: u64, k: usize, alternate: &'a str) -> Allele<'a> {
    Allele {
        variant: ordinal,
        id: record.id.as_deref(),
        position: record.position,
        reference: &record.alleles[0],
        alternate,
        allele: u16::try_from(k).expect("the readers refuse more alleles"),
        haplotype: None,
    }
}

/// Returns the ALT column of the row of allele `k`: on the reference row all of them.
fn alternate_of(record: &Record, k: usize) -> String {
    if k == 0 { record.alternates() } else { record.alleles[k].clone() }
}

/// Rows of alleles, record by record.
struct AlleleRows<G> {
    sites: Sites<G>,
    builder: RowBuilder,
    /// Bytes that wait in `builder`.
    bytes: usize,
    /// The record whose rows are being made, with its ordinal.
    site: Option<(u64, Site)>,
    next_allele: usize,
}

impl<G: Bases> Rows for AlleleRows<G> {
    fn push(&mut self) -> Result<bool> {
        if self.site.is_none() {
            let Some(site) = self.sites.next()? else { return Ok(false) };
            self.site = Some((self.sites.counts.records.fetch_add(1, Relaxed), site));
            self.next_allele = 0;
        }
        self.push_row();
        Ok(true)
    }

    fn waiting(&mut self) -> (&mut RowBuilder, &mut usize) {
        (&mut self.builder, &mut self.bytes)
    }
}

impl<G: Bases> AlleleRows<G> {
    /// Adds the row of the next allele of the current record.
    fn push_row(&mut self) {
        let (ordinal, site) = self.site.as_ref().expect("a record is at hand");
        let k = self.next_allele;
        let window = site.window(k);
        let alternate = alternate_of(&site.record, k);
        let row = row_of(&site.record, *ordinal, &window);
        self.builder.push_allele(&row, &allele_of(&site.record, *ordinal, k, &alternate));
        self.bytes += row.sequence.map_or(0, str::len) + site.record.alleles[0].len() + alternate.len();
        self.next_allele += 1;
        if self.next_allele == site.record.alleles.len() {
            self.site = None;
        }
    }
}

#[cfg(test)]
mod tests;
