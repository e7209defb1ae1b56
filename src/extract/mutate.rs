//! Rows of `nyx-extract mutate`: every sequence of a stream, then its mutants.
//!
//! A sequence and its mutants have one `variant`, the ordinal of the row they come from; allele 0 is the
//! sequence as it is, k the k-th mutant. `pos`, `ref` and `alt` are the mutation on the forward strand: `pos` is
//! the 1-based position on the contig, or in the sequence where that has no coordinates of its own length. `ref`
//! is `-` for an insertion before `pos` (on the forward strand), `alt` is `-` for a deletion; the row of the
//! sequence as it is has `.` for both. A row without a sequence has no mutants. Indels keep the width: what a
//! deletion leaves free at the right end is N, what an insertion pushes out is cut off, unless widths are free.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;

use super::batched::{Batched, Rows};
pub use super::mutation::{Mutation, MutationFile, Saturation};
use crate::dna;
use crate::error::{Error, Result};
use crate::pipe::{Batches, Pipe};
use crate::provenance::KIND_KEY;
use crate::region::Strand;
use crate::schema::{self, Allele, Row, RowBuilder, RowKind, Status};

/// Which mutations are made.
pub enum Source {
    /// All of a kind.
    Saturation(Saturation),
    /// Those of a file.
    File(MutationFile),
}

/// Makes rows of the sequences of `pipe` and their mutants. With `free_width` a mutant is as long as it gets. Of a shard
/// there are only the regions `within`; sequences are numbered as in the whole.
///
/// # Errors
///
/// When the stream has no sequences; from the batches, when a sequence has more mutants than alleles can be
/// numbered, or the file of mutations does not fit.
pub fn mutate(
    pipe: Pipe,
    source: Source,
    within: Option<Range<u64>>,
    free_width: bool,
    batch_rows: usize,
) -> Result<Pipe> {
    for name in [schema::CHROM, schema::STRAND, schema::SEQUENCE, schema::STATUS] {
        schema::require(pipe.schema(), name, &DataType::Utf8)?;
    }
    let plain = RowKind::Variants.schema(None);
    let mut metadata = pipe.schema().metadata.clone();
    metadata.insert(KIND_KEY.to_string(), "variants".to_string());
    let schema = Arc::new(plain.as_ref().clone().with_metadata(metadata));
    let rows = MutantRows {
        input: pipe.into_parts().1,
        batch: None,
        source,
        within,
        free_width,
        sequences: 0,
        current: None,
        builder: RowBuilder::new(RowKind::Variants, schema.clone()),
        bytes: 0,
    };
    Ok(Pipe::new(schema, Batched::new(rows, batch_rows)))
}

/// A sequence whose rows are being made.
struct Current {
    ordinal: u64,
    region: u64,
    chrom: Option<String>,
    start: i64,
    end: i64,
    strand: Strand,
    name: Option<String>,
    sequence: Option<Vec<u8>>,
    status: Status,
    mutations: Vec<Mutation>,
    made: usize,
}

struct MutantRows {
    input: Batches,
    /// The batch that is read, and its next row.
    batch: Option<(RecordBatch, usize)>,
    source: Source,
    /// The regions that are asked for.
    within: Option<Range<u64>>,
    free_width: bool,
    sequences: u64,
    current: Option<Current>,
    builder: RowBuilder,
    bytes: usize,
}

impl Rows for MutantRows {
    fn push(&mut self) -> Result<bool> {
        if self.current.is_none() {
            self.current = self.next_sequence()?;
        }
        let Some(current) = &mut self.current else {
            if let Source::File(file) = &mut self.source {
                file.finish(self.sequences)?;
            }
            return Ok(false);
        };
        self.bytes += current.push(self.free_width, &mut self.builder);
        if current.made > current.mutations.len() {
            self.current = None;
        }
        Ok(true)
    }

    fn waiting(&mut self) -> (&mut RowBuilder, &mut usize) {
        (&mut self.builder, &mut self.bytes)
    }
}

impl MutantRows {
    fn next_sequence(&mut self) -> Result<Option<Current>> {
        loop {
            match &mut self.batch {
                Some((batch, row)) if *row < batch.num_rows() => {
                    let (batch, index) = (batch.clone(), *row);
                    *row += 1;
                    match self.is_within(&batch, index)? {
                        true => return self.begin(&batch, index).map(Some),
                        false => self.pass_over(&batch, index)?,
                    }
                }
                _ => {
                    let Some(batch) = self.input.next().transpose()? else { return Ok(None) };
                    self.batch = Some((batch, 0));
                }
            }
        }
    }

    fn is_within(&self, batch: &RecordBatch, row: usize) -> Result<bool> {
        let region = schema::u64s(batch, schema::REGION)?.value(row);
        Ok(self.within.as_ref().is_none_or(|within| within.contains(&region)))
    }

    /// Counts a row of another shard, and leaves out its mutations.
    fn pass_over(&mut self, batch: &RecordBatch, row: usize) -> Result<()> {
        if let Source::File(file) = &mut self.source {
            let sequences = schema::strings(batch, schema::SEQUENCE)?;
            let sequence = if sequences.is_valid(row) { sequences.value(row) } else { "" };
            file.of(self.sequences, sequence.as_bytes())?;
        }
        self.sequences += 1;
        Ok(())
    }

    /// Reads a row and finds its mutations.
    fn begin(&mut self, batch: &RecordBatch, row: usize) -> Result<Current> {
        let mut current = Current::read(batch, row, self.sequences)?;
        self.sequences += 1;
        let sequence = current.sequence.as_deref().unwrap_or_default();
        current.mutations = match &mut self.source {
            Source::Saturation(saturation) => saturation.mutations(sequence),
            Source::File(file) => file.of(current.ordinal, sequence)?,
        };
        if current.mutations.len() > usize::from(u16::MAX) {
            let message = format!(
                "{} mutants, more than the {} alleles a stream can number: mutate its middle only (--span)",
                current.mutations.len(),
                u16::MAX
            );
            return Err(Error::data(message).at(schema::describe(batch, row)));
        }
        Ok(current)
    }
}

impl Current {
    fn read(batch: &RecordBatch, row: usize, ordinal: u64) -> Result<Self> {
        let text = |name: &str| -> Result<Option<String>> {
            let column = schema::strings(batch, name)?;
            Ok(column.is_valid(row).then(|| column.value(row).to_owned()))
        };
        let sequence = text(schema::SEQUENCE)?.map(String::into_bytes);
        let (start, end) =
            (schema::i64s(batch, schema::START)?.value(row), schema::i64s(batch, schema::END)?.value(row));
        if let Some(sequence) = &sequence {
            schema::check_bases(sequence).map_err(|error| error.at(schema::describe(batch, row)))?;
        }
        // An allele with an indel is not as long as its stretch of the genome: its bases have no positions there.
        let placed = sequence.as_ref().is_none_or(|sequence| sequence.len() as i64 == end - start);
        Ok(Self {
            ordinal,
            region: schema::u64s(batch, schema::REGION)?.value(row),
            chrom: text(schema::CHROM)?.filter(|_| placed),
            start,
            end,
            strand: text(schema::STRAND)?.unwrap_or(".".into()).parse()?,
            name: if schema::has(batch.schema_ref(), schema::NAME) { text(schema::NAME)? } else { None },
            status: Status::named(&text(schema::STATUS)?.unwrap_or_default())?,
            sequence,
            mutations: Vec::new(),
            made: 0,
        })
    }

    /// Adds the next row; returns its bytes.
    fn push(&mut self, free_width: bool, builder: &mut RowBuilder) -> usize {
        let index = self.made;
        self.made += 1;
        let (sequence, (position, reference, alternate)) = match (index.checked_sub(1), &self.sequence) {
            (Some(index), Some(sequence)) => {
                let width = (!free_width).then_some(sequence.len());
                let mutation = &self.mutations[index];
                (Some(mutation.apply(sequence, width)), self.describe(mutation, sequence))
            }
            _ => (self.sequence.clone(), (self.first_position(), ".".into(), ".".into())),
        };
        let sequence = sequence.map(|bases| String::from_utf8(bases).expect("letters"));
        let row = Row {
            region: self.region,
            chrom: self.chrom.as_deref(),
            start: self.start,
            end: self.end,
            strand: self.strand,
            name: self.name.as_deref(),
            sequence: sequence.as_deref(),
            status: self.status,
        };
        let allele = Allele {
            variant: self.ordinal,
            id: None,
            position,
            reference: &reference,
            alternate: &alternate,
            allele: u16::try_from(index).expect("more are refused"),
            haplotype: None,
        };
        builder.push_allele(&row, &allele);
        sequence.map_or(0, |sequence| sequence.len())
    }

    /// Returns position, REF and ALT of a mutation, on the forward strand.
    fn describe(&self, mutation: &Mutation, sequence: &[u8]) -> (i64, String, String) {
        let forward = |bases: &[u8]| {
            let mut bases = bases.to_vec();
            if self.is_reverse() {
                dna::reverse_complement(&mut bases);
            }
            if bases.is_empty() { "-".to_string() } else { String::from_utf8(bases).expect("letters") }
        };
        let position = self.position(mutation.start, mutation.end);
        (position, forward(&sequence[mutation.start..mutation.end]), forward(&mutation.bases))
    }

    /// Returns the 1-based position of the first base (on the forward strand) of a stretch of the sequence.
    fn position(&self, start: usize, end: usize) -> i64 {
        match &self.chrom {
            None => start as i64 + 1,
            Some(_) if self.is_reverse() => self.end - end as i64 + 1,
            Some(_) => self.start + start as i64 + 1,
        }
    }

    /// Returns the 1-based position of the sequence's first base on the forward strand.
    fn first_position(&self) -> i64 {
        if self.chrom.is_some() { self.start + 1 } else { 1 }
    }

    fn is_reverse(&self) -> bool {
        self.strand == Strand::Reverse && self.chrom.is_some()
    }
}

#[cfg(test)]
mod tests;
