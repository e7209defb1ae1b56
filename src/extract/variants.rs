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

mod bcf;
mod bgzf;
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

use arrow_array::RecordBatch;

use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::provenance;
use crate::region::Strand;
use crate::schema::{Allele, Row, RowBuilder, RowKind};

use mismatch::Mismatches;
pub use open::{ContigMap, Format, Records, Variants, open};
pub use record::{AlleleKind, Place, Record};
pub use selection::Selection;
pub use site::{AlleleWindow, Bases, Shape, Site};
pub use tsv::Schema;
pub use window::{Anchor, Flanks};

/// Bases and alleles of a batch, in bytes, that end it early.
const BATCH_BYTES: usize = 4 << 20;
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

/// What to do with a record on a contig that the genome does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownContig {
    /// Fail, naming the contig.
    #[default]
    Error,
    /// Keep the rows without sequence, with the status `unknown_contig`.
    Status,
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
}

/// Makes rows of `records` over `genome`, lazily.
pub fn rows<G: Bases + Send + 'static>(
    records: Records,
    genome: G,
    provenance: &provenance::Genome,
    options: Options,
) -> (Pipe, Arc<Counts>) {
    let schema = RowKind::Variants.schema(Some(provenance));
    let counts = Arc::new(Counts::default());
    let rows = AlleleRows {
        records,
        genome,
        genome_name: provenance.name.clone(),
        counts: counts.clone(),
        builder: RowBuilder::new(RowKind::Variants, schema.clone()),
        bytes: 0,
        site: None,
        next_allele: 0,
        done: false,
        options,
    };
    (Pipe::new(schema, rows), counts)
}

struct AlleleRows<G> {
    records: Records,
    genome: G,
    genome_name: String,
    options: Options,
    counts: Arc<Counts>,
    builder: RowBuilder,
    /// Bytes that wait in `builder`.
    bytes: usize,
    /// The record whose rows are being made, with its ordinal.
    site: Option<(u64, Site)>,
    next_allele: usize,
    done: bool,
}

impl<G: Bases> Iterator for AlleleRows<G> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let batch = self.fill();
        self.done |= batch.is_err();
        batch.transpose()
    }
}

impl<G: Bases> AlleleRows<G> {
    /// Collects rows until a batch is full or the records end.
    fn fill(&mut self) -> Result<Option<RecordBatch>> {
        while self.builder.len() < self.options.batch_rows.max(1) && self.bytes < BATCH_BYTES {
            if self.site.is_none() && !self.next_site()? {
                self.done = true;
                break;
            }
            self.push_row();
        }
        self.bytes = 0;
        if self.builder.is_empty() { Ok(None) } else { self.builder.finish().map(Some) }
    }

    /// Lays the next selected record over the genome; `false` when there is none.
    fn next_site(&mut self) -> Result<bool> {
        let Some(record) = self.next_record()? else { return Ok(false) };
        let mut site = Site::new(record, self.options.shape, &mut self.genome)?;
        if !site.has_contig() && self.options.unknown_contig == UnknownContig::Error {
            let place = format!("{}: {}", self.options.file, site.record.place);
            return Err(self.genome.unknown_contig(&site.record.chrom).at(place));
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
        self.site = Some((self.counts.records.fetch_add(1, Relaxed), site));
        self.next_allele = 0;
        Ok(true)
    }

    /// Reads up to the next record in the regions, with the genome's name of its contig.
    fn next_record(&mut self) -> Result<Option<Record>> {
        for record in &mut self.records {
            let mut record = record?;
            if let Some(name) = self.options.contig_map.get(&record.chrom) {
                record.chrom.clone_from(name);
            }
            let (start, end) = record.span();
            if self.options.selection.overlaps(&record.chrom, start, end) {
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

    /// Adds the row of the next allele of the current record.
    fn push_row(&mut self) {
        let (ordinal, site) = self.site.as_ref().expect("a record is at hand");
        let k = self.next_allele;
        let window = site.window(k);
        let record = &site.record;
        let alternates = if k == 0 { record.alternates() } else { record.alleles[k].clone() };
        let sequence = window.sequence.map(|bases| String::from_utf8(bases).expect("letters"));
        let row = Row {
            region: *ordinal,
            chrom: Some(&record.chrom),
            start: window.start,
            end: window.end,
            strand: Strand::Unknown,
            name: record.id.as_deref(),
            sequence: sequence.as_deref(),
            status: window.status,
        };
        let allele = Allele {
            variant: *ordinal,
            id: record.id.as_deref(),
            position: record.position,
            reference: &record.alleles[0],
            alternate: &alternates,
            allele: u16::try_from(k).expect("the readers refuse more alleles"),
            haplotype: None,
        };
        self.builder.push_allele(&row, &allele);
        self.bytes += sequence.as_deref().map_or(0, str::len) + record.alleles[0].len() + alternates.len();
        self.next_allele += 1;
        if self.next_allele == record.alleles.len() {
            self.site = None;
        }
    }
}

#[cfg(test)]
mod tests;
