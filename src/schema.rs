//! The columns of a stream: names, types, checks and typed views.
//!
//! This is the only place where a column's name is a string. A stage states what it needs with
//! [`require`] before the first batch, adds columns with [`with_field`], and passes on what it does not
//! know.

pub mod hits;
mod row;
mod sequences;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Int64Array, ListArray, RecordBatch,
    StringArray, UInt16Array, UInt64Array,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

pub use row::{Allele, Row, RowBuilder, RowKind, Status};
pub use sequences::{Rows, check_bases, describe};

use crate::error::{Error, Result};

/// Ordinal of the input region or record, the key that hits and scores are joined on.
pub const REGION: &str = "region";
/// Contig name exactly as in the reference; null when coordinates are unknown.
pub const CHROM: &str = "chrom";
/// First base of the window, 0-based.
pub const START: &str = "start";
/// One past the last base of the window, 0-based.
pub const END: &str = "end";
/// `+`, `-` or `.`.
pub const STRAND: &str = "strand";
/// Name of the peak, record or FASTA entry.
pub const NAME: &str = "name";
/// Upper-case `ACGTN`, reverse-complemented when the strand is `-`; null when there is none.
pub const SEQUENCE: &str = "sequence";
/// The second sequence of a pair, upper-case `ACGTN`.
pub const SECOND: &str = "sequence_2";
/// Labels of a labelled set.
pub const LABEL: &str = "label";
/// Ordinal of the variant record; rows of one variant stay adjacent.
pub const VARIANT: &str = "variant";
/// The record's ID.
pub const VARIANT_ID: &str = "variant_id";
/// 1-based position of the record.
pub const POS: &str = "pos";
/// Reference allele as written in the record; exchanged with the alternate where the status is `swapped`.
pub const REF: &str = "ref";
/// Alternate allele of this row as written in the record; on the reference row all of them, by comma.
/// Exchanged with the reference where the status is `swapped`.
pub const ALT: &str = "alt";
/// 0 for the reference, k for the k-th alternate allele.
pub const ALLELE: &str = "allele";
/// Sample and phase, when haplotypes are scored.
pub const HAPLOTYPE: &str = "haplotype";
/// The variants that are applied in a row's sequence, `POS:REF>ALT` by `;`, when haplotypes are scored.
pub const APPLIED: &str = "applied";
/// `ok`, or why the row could not be processed: see [`Status`].
pub const STATUS: &str = "status";
/// Token ids, specials included, never padded; list of uint32.
pub const INPUT_IDS: &str = "input_ids";
/// First base of each token, −1 for specials; list of int32.
pub const TOKEN_START: &str = "token_start";
/// One past the last base of each token, −1 for specials; list of int32.
pub const TOKEN_END: &str = "token_end";
/// Raw outputs of the model, fixed-size list of float32.
pub const LOGITS: &str = "logits";
/// Probabilities, fixed-size list of float32.
pub const PROBS: &str = "probs";
/// Embedding, fixed-size list of float32.
pub const EMBEDDING: &str = "embedding";
/// One score per base, list of float32.
pub const BASE_SCORES: &str = "base_scores";
/// Natural logarithm of the probability of each token that is no special, list of float32.
pub const LIKELIHOODS: &str = "likelihoods";
/// Sum of the log-likelihoods of a row, float32.
pub const LOG_LIKELIHOOD: &str = "log_likelihood";
/// Attention probabilities, list of float32; `shape` in the field's metadata is `layers,heads,*` for those of
/// the first token, `layers,heads,*,*` for all.
pub const ATTENTIONS: &str = "attentions";
/// Attention of a language model to each base, list of float32 of length L.
pub const ATTENTION: &str = "attention";
/// Profile logits, list of float32; `shape` in the field's metadata is `tracks,length`.
pub const PROFILE: &str = "profile";
/// Contributions of the observed bases (projected), list of float32 of length L.
pub const CONTRIBUTIONS: &str = "contributions";
/// Contributions of all four bases, list of float32 of length 4·L, rows A C G T.
pub const HYPOTHETICAL: &str = "hypothetical";
/// Completeness error of the attribution method.
pub const DELTA: &str = "delta";
/// Whether that error is within the tolerance, boolean.
pub const CONVERGED: &str = "converged";

/// Metadata key of a field: the digest of what made it (a tokenizer, a model).
pub const DIGEST_KEY: &str = "digest";
/// Metadata key of a field: names of the classes, by comma.
pub const LABELS_KEY: &str = "labels";
/// Metadata key of a field: the attribution method.
pub const METHOD_KEY: &str = "method";

/// Returns the type of a variable-length list of `item`, whose items are never null.
pub fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, false)))
}

/// Returns the type of a list of `size` float32, whose items are never null.
pub fn floats(size: usize) -> DataType {
    DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, false)), size as i32)
}

/// Checks that `schema` has the column `name` of type `expected`.
pub fn require(schema: &Schema, name: &str, expected: &DataType) -> Result<()> {
    let hint = match name {
        SEQUENCE => " (nyx-extract makes it)",
        LOGITS | PROBS | BASE_SCORES => " (nyx-score makes it)",
        CONTRIBUTIONS | HYPOTHETICAL => " (nyx-attrib, nyx-score --attrib or nyx-extract contribs makes it)",
        INPUT_IDS => " (nyx-tokenize makes it)",
        _ => "",
    };
    match schema.field_with_name(name) {
        Err(_) => Err(Error::data(format!("the stream has no column `{name}`{hint}"))),
        Ok(field) if same_shape(field.data_type(), expected) => Ok(()),
        Ok(field) => Err(Error::data(format!(
            "column `{name}` of the stream: expected {expected}, found {}",
            field.data_type()
        ))),
    }
}

/// Compares types but not the names and nullability of list items, which other writers choose freely.
fn same_shape(found: &DataType, expected: &DataType) -> bool {
    match (found, expected) {
        (DataType::List(a), DataType::List(b)) => same_shape(a.data_type(), b.data_type()),
        (DataType::FixedSizeList(a, n), DataType::FixedSizeList(b, m)) => {
            n == m && same_shape(a.data_type(), b.data_type())
        }
        _ => found == expected,
    }
}

/// Returns whether `schema` has the column `name`.
pub fn has(schema: &Schema, name: &str) -> bool {
    schema.field_with_name(name).is_ok()
}

/// Returns `schema` with `field` at the end, or in the place of the column of the same name.
pub fn with_field(schema: &Schema, field: Field) -> SchemaRef {
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    match schema.index_of(field.name()) {
        Ok(index) => fields[index] = Arc::new(field),
        Err(_) => fields.push(Arc::new(field)),
    }
    Arc::new(Schema::new_with_metadata(fields, schema.metadata.clone()))
}

/// Puts `columns` beside those of `batch`; `schema` comes from [`with_field`] and decides the order.
pub fn with_columns(
    batch: &RecordBatch,
    schema: &SchemaRef,
    columns: Vec<(&str, ArrayRef)>,
) -> Result<RecordBatch> {
    let arrays = schema
        .fields()
        .iter()
        .map(|field| match columns.iter().find(|(name, _)| name == field.name()) {
            Some((_, array)) => Ok(array.clone()),
            None => column(batch, field.name()).cloned(),
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(schema.clone(), arrays)?)
}

/// Returns the column `name`.
pub fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::data(format!("the stream has no column `{name}`")))
}

macro_rules! views {
    ($($(#[$doc:meta])* $function:ident -> $array:ty;)*) => {$(
        $(#[$doc])*
        pub fn $function<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a $array> {
            let array = column(batch, name)?;
            array.as_any().downcast_ref().ok_or_else(|| {
                Error::data(format!(
                    "column `{name}` of the stream is {}, not readable as {}",
                    array.data_type(),
                    stringify!($array)
                ))
            })
        }
    )*};
}

views! {
    /// Returns a text column.
    strings -> StringArray;
    /// Returns a column of 64-bit unsigned integers, such as [`REGION`].
    u64s -> UInt64Array;
    /// Returns a column of 16-bit unsigned integers, such as [`ALLELE`].
    u16s -> UInt16Array;
    /// Returns a column of 64-bit integers, such as [`START`].
    i64s -> Int64Array;
    /// Returns a column of 32-bit floats, such as [`DELTA`].
    f32s -> Float32Array;
    /// Returns a column of truths, such as [`CONVERGED`].
    booleans -> BooleanArray;
    /// Returns a column of lists, such as [`CONTRIBUTIONS`].
    lists -> ListArray;
    /// Returns a column of fixed-size lists, such as [`LOGITS`].
    fixed_lists -> FixedSizeListArray;
}

/// Returns the float32 items of row `row` of a list column; empty when the row is null.
pub fn float_items(lists: &ListArray, row: usize) -> Result<&[f32]> {
    if lists.is_null(row) {
        return Ok(&[]);
    }
    let values = lists
        .values()
        .as_primitive_opt::<Float32Type>()
        .ok_or_else(|| Error::data(format!("a list column holds {}, not float32", lists.value_type())))?;
    let offsets = lists.value_offsets();
    Ok(&values.values()[offsets[row] as usize..offsets[row + 1] as usize])
}

/// Makes a list column of float32 rows; `None` is null.
pub fn float_lists(rows: &[Option<Vec<f32>>]) -> ArrayRef {
    let lengths = rows.iter().map(|row| row.as_ref().map_or(0, Vec::len));
    let values: Vec<f32> = rows.iter().flatten().flatten().copied().collect();
    let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
    Arc::new(ListArray::new(
        Arc::new(Field::new("item", DataType::Float32, false)),
        OffsetBuffer::from_lengths(lengths),
        Arc::new(Float32Array::from(values)),
        Some(nulls),
    ))
}

/// Makes a fixed-size list column of float32 rows of length `size`; `None` is null.
pub fn float_vectors(rows: &[Option<Vec<f32>>], size: usize) -> ArrayRef {
    let mut values = Vec::with_capacity(rows.len() * size);
    for row in rows {
        match row {
            Some(row) => values.extend_from_slice(row),
            None => values.resize(values.len() + size, 0.0),
        }
    }
    let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
    Arc::new(FixedSizeListArray::new(
        Arc::new(Field::new("item", DataType::Float32, false)),
        size as i32,
        Arc::new(Float32Array::from(values)),
        Some(nulls),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_mistyped_column_is_named() {
        let schema = Schema::new(vec![Field::new(SEQUENCE, DataType::Int64, true)]);
        let missing = require(&schema, CONTRIBUTIONS, &list_of(DataType::Float32)).unwrap_err().to_string();
        assert!(missing.contains("`contributions`") && missing.contains("nyx-attrib"), "{missing}");
        let mistyped = require(&schema, SEQUENCE, &DataType::Utf8).unwrap_err().to_string();
        assert!(mistyped.contains("expected Utf8, found Int64"), "{mistyped}");
    }

    #[test]
    fn lists_keep_rows_and_nulls() {
        let array = float_lists(&[Some(vec![1.0, 2.0]), None, Some(vec![])]);
        let lists = array.as_list::<i32>();
        assert_eq!(float_items(lists, 0).unwrap(), [1.0, 2.0]);
        assert!(lists.is_null(1) && !lists.is_null(2));
        let vectors = float_vectors(&[None, Some(vec![3.0])], 1);
        assert!(vectors.is_null(0) && vectors.is_valid(1));
    }
}
