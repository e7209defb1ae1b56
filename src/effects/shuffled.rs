//! The rows of a null: every variant in windows whose flanks are a dinucleotide shuffle of its own.
//!
//! The flanks of all alleles of a record come from one stretch of the genome: the longest left flank, REF, the longest
//! right flank. That stretch is shuffled (its first and last base, its dinucleotides and its `N` stay), and every
//! allele is put where it was, so that reference and alternate differ in the allele alone. Scored with the same model
//! they are what the model says where there is nothing to break. A shuffle depends on the bases and the seed only, so
//! it is the same in every shard and batch.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow_schema::DataType;
use arrow_select::take::take_record_batch;

use super::lockstep::Lockstep;
use crate::dna::dinucleotide_shuffles;
use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::schema::{self, ALLELE, ALT, POS, REF, REGION, SEQUENCE, START, VARIANT};

/// Replaces the windows of allele rows by shuffled ones, `copies` of every group, one after the other. The groups are
/// numbered anew: copy c of region r is region r · copies + c.
///
/// # Errors
///
/// When the rows are no alleles with sequences; in the batches, when a window does not hold its allele.
pub fn shuffled(pipe: Pipe, copies: usize, seed: u64) -> Result<Pipe> {
    for (name, kind) in [
        (REGION, DataType::UInt64),
        (SEQUENCE, DataType::Utf8),
        (START, DataType::Int64),
        (POS, DataType::Int64),
        (REF, DataType::Utf8),
        (ALT, DataType::Utf8),
        (ALLELE, DataType::UInt16),
    ] {
        schema::require(pipe.schema(), name, &kind)?;
    }
    let schema = pipe.schema().clone();
    let groups = Lockstep::new(vec![("the stream".into(), pipe)]);
    let batches = groups.map(move |batches| shuffle_batch(&batches?.remove(0), copies.max(1), seed));
    Ok(Pipe::new(schema, batches))
}

fn shuffle_batch(batch: &RecordBatch, copies: usize, seed: u64) -> Result<RecordBatch> {
    let alleles = Alleles::of(batch)?;
    let regions = schema::u64s(batch, REGION)?;
    let (mut taken, mut numbers, mut sequences) = (Vec::new(), Vec::new(), Vec::new());
    let mut start = 0;
    for group in regions.values().chunk_by(|a, b| a == b) {
        let rows = start..start + group.len();
        let windows = alleles.shuffle(rows.clone(), copies, seed)?;
        for (copy, windows) in windows.into_iter().enumerate() {
            taken.extend(rows.clone().map(|row| row as u32));
            numbers.extend(rows.clone().map(|_| group[0] * copies as u64 + copy as u64));
            sequences.extend(windows);
        }
        start = rows.end;
    }
    let batch = take_record_batch(batch, &UInt32Array::from(taken))?;
    let numbers: ArrayRef = Arc::new(UInt64Array::from(numbers));
    let mut columns =
        vec![(SEQUENCE, Arc::new(StringArray::from(sequences)) as ArrayRef), (REGION, numbers.clone())];
    columns.extend(schema::has(batch.schema_ref(), VARIANT).then_some((VARIANT, numbers)));
    schema::with_columns(&batch, &batch.schema(), columns)
}

struct Alleles<'b> {
    batch: &'b RecordBatch,
    sequence: &'b StringArray,
    start: &'b arrow_array::Int64Array,
    position: &'b arrow_array::Int64Array,
    reference: &'b StringArray,
    alternate: &'b StringArray,
    allele: &'b arrow_array::UInt16Array,
}

/// A window cut around its allele.
struct Cut<'b> {
    left: &'b [u8],
    allele: &'b [u8],
    right: &'b [u8],
}

impl<'b> Alleles<'b> {
    fn of(batch: &'b RecordBatch) -> Result<Self> {
        Ok(Self {
            batch,
            sequence: schema::strings(batch, SEQUENCE)?,
            start: schema::i64s(batch, START)?,
            position: schema::i64s(batch, POS)?,
            reference: schema::strings(batch, REF)?,
            alternate: schema::strings(batch, ALT)?,
            allele: schema::u16s(batch, ALLELE)?,
        })
    }

    /// Returns the windows of every copy of a group; `None` for rows without a sequence.
    fn shuffle(
        &self,
        rows: std::ops::Range<usize>,
        copies: usize,
        seed: u64,
    ) -> Result<Vec<Vec<Option<String>>>> {
        let cuts = rows.map(|row| self.cut(row)).collect::<Result<Vec<_>>>()?;
        let known = || cuts.iter().flatten();
        let left = known().map(|cut| cut.left).max_by_key(|left| left.len()).unwrap_or_default();
        let right = known().map(|cut| cut.right).max_by_key(|right| right.len()).unwrap_or_default();
        let middle = known().next().map_or(&b""[..], |cut| cut.allele);
        let stretch = [left, middle, right].concat();
        let window = |shuffle: &[u8], cut: &Cut| {
            let (before, after) = (&shuffle[..left.len()], &shuffle[shuffle.len() - right.len()..]);
            let bases =
                [&before[left.len() - cut.left.len()..], cut.allele, &after[..cut.right.len()]].concat();
            String::from_utf8(bases).expect("letters")
        };
        let shuffles = dinucleotide_shuffles(&stretch, copies, seed);
        let windows =
            |shuffle: Vec<u8>| cuts.iter().map(|cut| cut.as_ref().map(|cut| window(&shuffle, cut))).collect();
        Ok(shuffles.into_iter().map(windows).collect())
    }

    /// Cuts the window of a row; `None` when it has none.
    fn cut(&self, row: usize) -> Result<Option<Cut<'b>>> {
        if self.sequence.is_null(row) {
            return Ok(None);
        }
        let sequence = self.sequence.value(row).as_bytes();
        let letters = if self.allele.value(row) == 0 { self.reference } else { self.alternate };
        let first = usize::try_from(self.position.value(row) - 1 - self.start.value(row)).ok();
        let first = first.filter(|&first| first <= sequence.len()).ok_or_else(|| {
            Error::data("the position is not in the window").at(schema::describe(self.batch, row))
        })?;
        // A REF that is longer than the window ends with it.
        let end = (first + letters.value(row).len()).min(sequence.len());
        Ok(Some(Cut { left: &sequence[..first], allele: &sequence[first..end], right: &sequence[end..] }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::Strand;
    use crate::schema::{Allele, Row, RowBuilder, RowKind, Status, u64s};

    const LEFT: &str = "ACGGATTACAGGC";
    const RIGHT: &str = "TTGACCATGGCAA";

    /// A deletion, an insertion and a substitution of `CA`, and a symbolic allele, in windows of 20 bases with POS at
    /// offset 10.
    fn rows() -> Pipe {
        let schema = RowKind::Variants.schema(None);
        let mut builder = RowBuilder::new(RowKind::Variants, schema.clone());
        for region in [3, 8] {
            for (k, allele) in ["CA", "C", "CATT", "GG", "<DEL>"].into_iter().enumerate() {
                let window = format!("{}{allele}{RIGHT}", &LEFT[3..]);
                let row = Row {
                    region,
                    chrom: Some("chr1"),
                    start: 90,
                    end: 110,
                    strand: Strand::Unknown,
                    name: None,
                    sequence: Some(&window[..20]).filter(|_| k < 4),
                    status: Status::Ok,
                };
                let identity = Allele {
                    variant: region,
                    id: None,
                    position: 101,
                    reference: "CA",
                    alternate: if k == 0 { "C,CATT,GG,<DEL>" } else { allele },
                    allele: k as u16,
                    haplotype: None,
                };
                builder.push_allele(&row, &identity);
            }
        }
        Pipe::new(schema, vec![builder.finish()].into_iter())
    }

    fn table(pipe: Pipe) -> Vec<(u64, Option<String>)> {
        let mut table = Vec::new();
        for batch in pipe.into_parts().1 {
            let batch = batch.unwrap();
            let (regions, sequences) =
                (u64s(&batch, REGION).unwrap(), schema::strings(&batch, SEQUENCE).unwrap());
            table.extend(regions.values().iter().copied().zip(sequences.iter().map(|s| s.map(String::from))));
        }
        table
    }

    #[test]
    fn alleles_of_one_shuffle_differ_in_the_allele_alone() {
        let rows = table(shuffled(rows(), 3, 1).unwrap());
        assert_eq!(rows.len(), 2 * 3 * 5);
        let regions: Vec<u64> = rows.chunks(5).map(|group| group[0].0).collect();
        assert_eq!(regions, [9, 10, 11, 24, 25, 26]);
        for group in rows.chunks(5) {
            let windows: Vec<&str> = group[..4].iter().map(|(_, s)| s.as_deref().unwrap()).collect();
            assert_eq!(group[4].1, None, "no window of a symbolic allele");
            for (window, allele) in windows.iter().zip(["CA", "C", "CATT", "GG"]) {
                assert_eq!(window.len(), 20);
                assert_eq!(&window[10..10 + allele.len()], allele);
                assert_eq!(window[..10], windows[0][..10], "left flanks");
                let after = &window[10 + allele.len()..];
                assert!(windows[1][11..].starts_with(after), "right flanks: {after} {}", &windows[1][11..]);
            }
        }
        let shuffles: std::collections::BTreeSet<_> = rows.chunks(5).map(|group| &group[0].1).collect();
        // Both records have the same bases, so they have the same three shuffles.
        assert_eq!(shuffles.len(), 3);
    }

    #[test]
    fn batches_do_not_matter() {
        let expected = table(shuffled(rows(), 2, 7).unwrap());
        for size in [1, 3, 4] {
            assert_eq!(table(shuffled(rows().rebatch(size), 2, 7).unwrap()), expected);
        }
        assert_ne!(table(shuffled(rows(), 2, 8).unwrap()), expected);
    }
}
