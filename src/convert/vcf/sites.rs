//! Rows of alternate alleles, variant by variant, beside the records of a file.

use std::collections::{HashMap, VecDeque};

use arrow_array::{Array, RecordBatch};

use super::fields::{Fields, Value};
use crate::error::{Error, Result};
use crate::pipe::{Batches, Pipe};
use crate::schema::{self, Status};

/// What there is to say about an alternate allele.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternate {
    /// k for the k-th ALT of the record.
    pub allele: u16,
    /// Its letters.
    pub letters: String,
    /// Status of its row.
    pub status: String,
    /// In the order of the fields.
    pub values: Vec<Value>,
}

/// The rows of a variant.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    variant: u64,
    /// Contig as in the genome.
    pub chrom: String,
    /// 1-based.
    pub position: i64,
    /// ID, if it has one.
    pub id: Option<String>,
    /// REF.
    pub reference: String,
    /// By allele.
    pub alternates: Vec<Alternate>,
}

/// A record of a file, as far as it identifies a variant.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// Contig as in the file.
    pub chrom: &'a str,
    /// 1-based.
    pub position: i64,
    /// REF.
    pub reference: &'a str,
    /// The ALTs; none for `.`.
    pub alternates: Vec<&'a str>,
}

impl Site {
    /// Returns whether these are rows of `record`, whose contig the rows call `chrom`.
    fn is_of(&self, record: &Record, chrom: &str) -> bool {
        let letters = |allele: &str| allele == record.reference || record.alternates.contains(&allele);
        let is_of = |alternate: &Alternate| match record.alternates.get(usize::from(alternate.allele) - 1) {
            None => false,
            // REF and an ALT were exchanged, so that REF is what the genome has.
            Some(_) if alternate.status == Status::Swapped.as_str() => {
                letters(&self.reference) && letters(&alternate.letters)
            }
            Some(letters) => self.reference == record.reference && *letters == alternate.letters,
        };
        self.chrom == chrom && self.position == record.position && self.alternates.iter().all(is_of)
    }
}

/// The variants of a pipe.
pub struct Sites {
    batches: Batches,
    fields: Fields,
    contig_map: HashMap<String, String>,
    ready: VecDeque<Site>,
    /// The variant that may have more rows.
    open: Option<Site>,
    ended: bool,
}

impl Sites {
    /// Reads variants; `contig_map` has the rows' names of contigs that a file calls otherwise.
    pub fn new(pipe: Pipe, fields: Fields, contig_map: HashMap<String, String>) -> Result<Self> {
        let (_, batches) = pipe.into_parts();
        Ok(Self { batches, fields, contig_map, ready: VecDeque::new(), open: None, ended: false })
    }

    /// Returns the fields that values belong to.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Takes the next variant if it is `record`.
    ///
    /// # Errors
    ///
    /// When the pipe fails.
    pub fn take_of(&mut self, record: &Record) -> Result<Option<Site>> {
        if record.alternates.is_empty() {
            return Ok(None);
        }
        self.fill()?;
        let chrom = self.contig_map.get(record.chrom).map_or(record.chrom, String::as_str);
        let is_next = self.ready.front().is_some_and(|site| site.is_of(record, chrom));
        Ok(if is_next { self.ready.pop_front() } else { None })
    }

    /// Takes the next variant.
    ///
    /// # Errors
    ///
    /// When the pipe fails.
    pub fn take(&mut self) -> Result<Option<Site>> {
        self.fill()?;
        Ok(self.ready.pop_front())
    }

    /// Checks that no variant is left.
    ///
    /// # Errors
    ///
    /// When one is, naming it.
    pub fn check_end(&mut self) -> Result<()> {
        let Some(site) = self.take()? else { return Ok(()) };
        let alternates: Vec<_> = site.alternates.iter().map(|alternate| alternate.letters.as_str()).collect();
        Err(Error::data(format!(
            "no record is {}:{} {}>{}, which the next row is of: --vcf has to be the file that the rows were made \
             from, in its order (--contig-map, where it calls contigs otherwise)",
            site.chrom,
            site.position,
            site.reference,
            alternates.join(",")
        )))
    }

    /// Reads until a variant is whole or the pipe ends.
    fn fill(&mut self) -> Result<()> {
        while self.ready.is_empty() && !self.ended {
            match self.batches.next().transpose()? {
                Some(batch) => self.add(&batch)?,
                None => {
                    self.ended = true;
                    self.ready.extend(self.open.take());
                }
            }
        }
        Ok(())
    }

    /// Adds the rows of a batch. The reference row has no values of its own, haplotypes are no alleles of a record,
    /// and single variants of haplotypes are those of other records.
    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let variants = schema::u64s(batch, schema::VARIANT)?;
        let (chroms, positions) = (schema::strings(batch, schema::CHROM)?, schema::i64s(batch, schema::POS)?);
        let (references, letters) =
            (schema::strings(batch, schema::REF)?, schema::strings(batch, schema::ALT)?);
        let (alleles, statuses) =
            (schema::u16s(batch, schema::ALLELE)?, schema::strings(batch, schema::STATUS)?);
        let optional =
            |name| schema::has(batch.schema_ref(), name).then(|| schema::strings(batch, name)).transpose();
        let (haplotypes, ids) = (optional(schema::HAPLOTYPE)?, optional(schema::VARIANT_ID)?);
        for row in 0..batch.num_rows() {
            if haplotypes.is_some_and(|haplotypes| haplotypes.is_valid(row)) {
                continue;
            }
            let variant = variants.value(row);
            if self.open.as_ref().is_none_or(|site| site.variant != variant) {
                if chroms.is_null(row) {
                    return Err(Error::data("it has no contig, so it has no place in a VCF")
                        .at(schema::describe(batch, row)));
                }
                let id = ids.filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row));
                for text in [Some(chroms.value(row)), Some(references.value(row)), id].into_iter().flatten() {
                    check_word(text).map_err(|error| error.at(schema::describe(batch, row)))?;
                }
                self.ready.extend(self.open.replace(Site {
                    variant,
                    chrom: chroms.value(row).to_string(),
                    position: positions.value(row),
                    id: id.map(ToString::to_string),
                    reference: references.value(row).to_string(),
                    alternates: Vec::new(),
                }));
            }
            let site = self.open.as_mut().expect("it was made just now");
            let allele = alleles.value(row);
            let is_own = site.position == positions.value(row) && site.reference == references.value(row);
            let (alt, status) = (letters.value(row), statuses.value(row));
            let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if status.is_empty() || !status.bytes().all(is_word) {
                let message = format!("`{status}` is no status");
                return Err(Error::data(message).at(schema::describe(batch, row)));
            }
            check_word(alt).map_err(|error| error.at(schema::describe(batch, row)))?;
            if is_own && allele > site.alternates.last().map_or(0, |last| last.allele) {
                site.alternates.push(Alternate {
                    allele,
                    letters: alt.to_string(),
                    status: status.to_string(),
                    values: self.fields.values(batch, row)?,
                });
            }
        }
        Ok(())
    }
}

/// Refuses a text that would be more than one column, or more than one line, of a VCF.
fn check_word(text: &str) -> Result<()> {
    match text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        true => Err(Error::data(format!("`{text}` cannot be a column of a VCF: it has blanks or line ends"))),
        false => Ok(()),
    }
}

/// Returns the status and the values of every ALT of a record: `None` where it has no row.
pub fn by_alternate(site: Option<&Site>, count: usize) -> Vec<Option<&Alternate>> {
    let of = |allele: usize| {
        site.and_then(|site| site.alternates.iter().find(|alternate| usize::from(alternate.allele) == allele))
    };
    (1..=count).map(of).collect()
}
