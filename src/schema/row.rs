//! The identity of a row, and the builder that gives it to every row once.

use std::sync::Arc;

use arrow_array::builder::{
    Float32Builder, Int64Builder, ListBuilder, StringBuilder, UInt16Builder, UInt64Builder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Metadata, Schema, SchemaRef};

use super::*;
use crate::provenance::{GENOME_KEY, Genome, KIND_KEY};
use crate::region::Strand;

/// Why a row is what it is. Rows in = rows out: what could not be processed stays in, with its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Nothing to say.
    Ok,
    /// The record's reference allele is not what the genome has there.
    RefMismatch,
    /// Reference and alternate allele were exchanged to agree with the genome.
    Swapped,
    /// The allele is symbolic (`<DEL>`, a breakend), so it has no sequence.
    SymbolicAllele,
    /// The allele is `*`: it is deleted by another record.
    SpanningDeletion,
    /// The allele holds letters that are not bases.
    NotBases,
    /// A variant of the haplotype overlaps one before it and is left out, as bcftools does.
    Overlap,
    /// A genotype in the window is heterozygous and not phased; its alleles are taken in their order.
    Unphased,
    /// A genotype in the window is missing; the reference is taken.
    MissingGenotype,
    /// The sample has one haplotype here, and this is the other.
    Haploid,
    /// The contig is not in the genome.
    UnknownContig,
    /// The window reaches past the end of its contig and was padded with N.
    OffContig,
    /// The allele does not fit into the window, or the sequence not into the model.
    TooLong,
    /// The sequence is shorter than the model's window.
    TooShort,
    /// The sequence has N and was asked not to.
    HasN,
    /// The sequence is nothing but N.
    AllN,
    /// A result was infinite or not a number.
    Nonfinite,
    /// The row's group has no reference row to compare it with.
    NoReference,
    /// It, or the reference row of its group, has no scores.
    Unscored,
}

impl Status {
    /// All of them.
    const ALL: [Self; 19] = [
        Self::Ok,
        Self::RefMismatch,
        Self::Swapped,
        Self::SymbolicAllele,
        Self::SpanningDeletion,
        Self::NotBases,
        Self::Overlap,
        Self::Unphased,
        Self::MissingGenotype,
        Self::Haploid,
        Self::UnknownContig,
        Self::OffContig,
        Self::TooLong,
        Self::TooShort,
        Self::HasN,
        Self::AllN,
        Self::Nonfinite,
        Self::NoReference,
        Self::Unscored,
    ];

    /// Returns the status that a `status` column names.
    ///
    /// # Errors
    ///
    /// When there is none of that name.
    pub fn named(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| Error::data(format!("`{text}` is no status of a row that nyx knows")))
    }

    /// Returns the text in the `status` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::RefMismatch => "ref_mismatch",
            Self::Swapped => "swapped",
            Self::SymbolicAllele => "symbolic_allele",
            Self::SpanningDeletion => "spanning_deletion",
            Self::NotBases => "not_bases",
            Self::Overlap => "overlap",
            Self::Unphased => "unphased",
            Self::MissingGenotype => "missing_genotype",
            Self::Haploid => "haploid",
            Self::UnknownContig => "unknown_contig",
            Self::OffContig => "off_contig",
            Self::TooLong => "too_long",
            Self::TooShort => "too_short",
            Self::HasN => "has_n",
            Self::AllN => "all_n",
            Self::Nonfinite => "nonfinite",
            Self::NoReference => "no_reference",
            Self::Unscored => "unscored",
        }
    }
}

/// A window of the genome, or a sequence without coordinates.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// Ordinal of the input region or record.
    pub region: u64,
    /// Contig, `None` when coordinates are unknown.
    pub chrom: Option<&'a str>,
    /// First base, 0-based; may be negative when the window starts before its contig.
    pub start: i64,
    /// One past the last base.
    pub end: i64,
    /// The strand that `sequence` reads.
    pub strand: Strand,
    /// Name of the peak, record or FASTA entry.
    pub name: Option<&'a str>,
    /// Upper-case `ACGTN`.
    pub sequence: Option<&'a str>,
    /// Why the row is what it is.
    pub status: Status,
}

/// What a variant row is besides its window.
#[derive(Clone, Debug)]
pub struct Allele<'a> {
    /// Ordinal of the record.
    pub variant: u64,
    /// The record's ID.
    pub id: Option<&'a str>,
    /// 1-based position.
    pub position: i64,
    /// Reference allele as written.
    pub reference: &'a str,
    /// Alternate allele of this row; on the reference row all of them, by comma.
    pub alternate: &'a str,
    /// 0 for the reference, k for the k-th alternate allele.
    pub allele: u16,
    /// Sample and phase.
    pub haplotype: Option<&'a str>,
}

/// Which identity columns the rows have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// Windows and sequences.
    Regions,
    /// Windows and sequences with labels.
    Labelled,
    /// Allele windows.
    Variants,
    /// Allele windows and those of haplotypes.
    Haplotypes,
}

impl RowKind {
    fn has_alleles(self) -> bool {
        matches!(self, Self::Variants | Self::Haplotypes)
    }

    /// Returns the schema of rows of this kind, with the genome in its metadata.
    pub fn schema(self, genome: Option<&Genome>) -> SchemaRef {
        let mut fields = vec![
            Field::new(REGION, DataType::UInt64, false),
            Field::new(CHROM, DataType::Utf8, true),
            Field::new(START, DataType::Int64, false),
            Field::new(END, DataType::Int64, false),
            Field::new(STRAND, DataType::Utf8, false),
            Field::new(NAME, DataType::Utf8, true),
            Field::new(SEQUENCE, DataType::Utf8, true),
        ];
        match self {
            Self::Regions => {}
            Self::Labelled => fields.push(Field::new(LABEL, list_of(DataType::Float32), true)),
            Self::Variants | Self::Haplotypes => fields.extend([
                Field::new(VARIANT, DataType::UInt64, false),
                Field::new(VARIANT_ID, DataType::Utf8, true),
                Field::new(POS, DataType::Int64, false),
                Field::new(REF, DataType::Utf8, false),
                Field::new(ALT, DataType::Utf8, false),
                Field::new(ALLELE, DataType::UInt16, false),
                Field::new(HAPLOTYPE, DataType::Utf8, true),
            ]),
        }
        if self == Self::Haplotypes {
            fields.push(Field::new(APPLIED, DataType::Utf8, true));
        }
        fields.push(Field::new(STATUS, DataType::Utf8, false));
        let kind = if self.has_alleles() { "variants" } else { "regions" };
        let mut metadata = Metadata::new().with(KIND_KEY, kind);
        if let Some(genome) = genome {
            metadata.insert(GENOME_KEY, serde_json::to_string(genome).expect("names and numbers"));
        }
        Arc::new(Schema::new_with_metadata(fields, metadata))
    }
}

/// Collects rows into batches.
pub struct RowBuilder {
    kind: RowKind,
    schema: SchemaRef,
    rows: usize,
    region: UInt64Builder,
    chrom: StringBuilder,
    start: Int64Builder,
    end: Int64Builder,
    strand: StringBuilder,
    name: StringBuilder,
    sequence: StringBuilder,
    label: ListBuilder<Float32Builder>,
    variant: UInt64Builder,
    variant_id: StringBuilder,
    position: Int64Builder,
    reference: StringBuilder,
    alternate: StringBuilder,
    allele: UInt16Builder,
    haplotype: StringBuilder,
    applied: StringBuilder,
    status: StringBuilder,
}

impl RowBuilder {
    /// Creates an empty builder of rows with `schema`, which comes from [`RowKind::schema`] of `kind`.
    pub fn new(kind: RowKind, schema: SchemaRef) -> Self {
        let item = Field::new("item", DataType::Float32, false);
        Self {
            kind,
            schema,
            rows: 0,
            region: UInt64Builder::new(),
            chrom: StringBuilder::new(),
            start: Int64Builder::new(),
            end: Int64Builder::new(),
            strand: StringBuilder::new(),
            name: StringBuilder::new(),
            sequence: StringBuilder::new(),
            label: ListBuilder::new(Float32Builder::new()).with_field(item),
            variant: UInt64Builder::new(),
            variant_id: StringBuilder::new(),
            position: Int64Builder::new(),
            reference: StringBuilder::new(),
            alternate: StringBuilder::new(),
            allele: UInt16Builder::new(),
            haplotype: StringBuilder::new(),
            applied: StringBuilder::new(),
            status: StringBuilder::new(),
        }
    }

    /// Returns how many rows wait for [`RowBuilder::finish`].
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Returns whether no row waits.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds a window of kind [`RowKind::Regions`].
    pub fn push(&mut self, row: &Row) {
        assert_eq!(self.kind, RowKind::Regions, "the schema has no further columns");
        self.push_window(row);
    }

    /// Adds a window of kind [`RowKind::Labelled`]; no labels is null.
    pub fn push_labelled(&mut self, row: &Row, labels: Option<&[f32]>) {
        assert_eq!(self.kind, RowKind::Labelled, "the schema has labels");
        self.push_window(row);
        self.label.values().append_slice(labels.unwrap_or_default());
        self.label.append(labels.is_some());
    }

    /// Adds a window of kind [`RowKind::Haplotypes`] in whose sequence the variants `applied` are; none is null.
    pub fn push_haplotype(&mut self, row: &Row, allele: &Allele, applied: Option<&str>) {
        assert_eq!(self.kind, RowKind::Haplotypes, "the schema has haplotypes");
        self.push_allele(row, allele);
        self.applied.append_option(applied);
    }

    /// Adds a window of kind [`RowKind::Variants`].
    pub fn push_allele(&mut self, row: &Row, allele: &Allele) {
        assert!(self.kind.has_alleles(), "the schema has alleles");
        self.push_window(row);
        self.variant.append_value(allele.variant);
        self.variant_id.append_option(allele.id);
        self.position.append_value(allele.position);
        self.reference.append_value(allele.reference);
        self.alternate.append_value(allele.alternate);
        self.allele.append_value(allele.allele);
        self.haplotype.append_option(allele.haplotype);
    }

    fn push_window(&mut self, row: &Row) {
        self.rows += 1;
        self.region.append_value(row.region);
        self.chrom.append_option(row.chrom);
        self.start.append_value(row.start);
        self.end.append_value(row.end);
        self.strand.append_value(row.strand.as_str());
        self.name.append_option(row.name);
        self.sequence.append_option(row.sequence);
        self.status.append_value(row.status.as_str());
    }

    /// Returns the rows so far as a batch and starts anew.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        self.rows = 0;
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(self.region.finish()),
            Arc::new(self.chrom.finish()),
            Arc::new(self.start.finish()),
            Arc::new(self.end.finish()),
            Arc::new(self.strand.finish()),
            Arc::new(self.name.finish()),
            Arc::new(self.sequence.finish()),
        ];
        match self.kind {
            RowKind::Regions => {}
            RowKind::Labelled => arrays.push(Arc::new(self.label.finish())),
            RowKind::Variants | RowKind::Haplotypes => arrays.extend([
                Arc::new(self.variant.finish()) as ArrayRef,
                Arc::new(self.variant_id.finish()),
                Arc::new(self.position.finish()),
                Arc::new(self.reference.finish()),
                Arc::new(self.alternate.finish()),
                Arc::new(self.allele.finish()),
                Arc::new(self.haplotype.finish()),
            ]),
        }
        if self.kind == RowKind::Haplotypes {
            arrays.push(Arc::new(self.applied.finish()));
        }
        arrays.push(Arc::new(self.status.finish()));
        Ok(RecordBatch::try_new(self.schema.clone(), arrays)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_known_by_its_name() {
        assert!(Status::ALL.iter().all(|status| Status::named(status.as_str()).unwrap() == *status));
        // The last one is the number of those before it.
        assert_eq!(Status::ALL.len(), Status::Unscored as usize + 1);
        assert!(Status::named("okay").unwrap_err().to_string().contains("`okay`"));
    }

    #[test]
    fn the_builder_makes_the_schema_it_was_given() {
        let row = Row {
            region: 7,
            chrom: Some("chr1"),
            start: -2,
            end: 3,
            strand: Strand::Reverse,
            name: None,
            sequence: Some("NNACG"),
            status: Status::OffContig,
        };
        let allele = Allele {
            variant: 1,
            id: None,
            position: 1,
            reference: "A",
            alternate: "C,G",
            allele: 0,
            haplotype: None,
        };
        for kind in [RowKind::Regions, RowKind::Labelled, RowKind::Variants, RowKind::Haplotypes] {
            let mut builder = RowBuilder::new(kind, kind.schema(None));
            match kind {
                RowKind::Regions => builder.push(&row),
                RowKind::Labelled => builder.push_labelled(&row, Some(&[1.0])),
                RowKind::Variants => builder.push_allele(&row, &allele),
                RowKind::Haplotypes => builder.push_haplotype(&row, &allele, None),
            }
            let batch = builder.finish().unwrap();
            assert_eq!(u64s(&batch, REGION).unwrap().value(0), 7);
            assert_eq!(strings(&batch, STATUS).unwrap().value(0), "off_contig");
            assert!(builder.is_empty());
        }
    }
}
