//! Rows of hits with columns added, in the form they came in.

use std::fmt::Write;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use arrow_select::take::take;

use super::hit_table::{IS_PRIMARY, Rows};
use crate::error::{Error, Result};
use crate::hits::table::MOTIF_NAME;
use crate::motif::instance::intersect::Sameness;
use crate::pipe::Pipe;
use crate::schema::{
    self, ALLELE, ALT, CHROM, END, HAPLOTYPE, POS, REF, REGION, START, STRAND, VARIANT, VARIANT_ID,
};

/// Columns that the same hit has in common in every list.
const SAME: [&str; 13] = [
    "chr",
    CHROM,
    "start_untrimmed",
    "end_untrimmed",
    MOTIF_NAME,
    STRAND,
    VARIANT,
    VARIANT_ID,
    POS,
    REF,
    ALT,
    ALLELE,
    HAPLOTYPE,
];
/// Columns that it has in common besides unless sameness is relaxed.
const SAME_WHEN_STRICT: [&str; 5] = [START, END, REGION, "peak_name", "peak_id"];

/// Rows to be written.
pub enum Finished {
    /// A table.
    Text(String),
    /// A stream.
    Pipe(Pipe),
}

/// Adds the column `is_primary`: 0 or 1 in a table, a boolean in a stream.
///
/// # Errors
///
/// When there is one already.
pub fn mark(rows: &Rows, primary: &[bool]) -> Result<Finished> {
    if rows.has(IS_PRIMARY) {
        return Err(Error::data(format!(
            "there is a column `{IS_PRIMARY}` already: collapse the hits as they were called"
        )));
    }
    match rows {
        Rows::Lines(columns, lines) => {
            let mut text = format!("{}\t{IS_PRIMARY}\n", columns.join("\t"));
            for (line, &primary) in lines.iter().zip(primary) {
                let _ = writeln!(text, "{line}\t{}", u8::from(primary));
            }
            Ok(Finished::Text(text))
        }
        Rows::Batch(batch) => {
            let schema =
                schema::with_field(batch.schema_ref(), Field::new(IS_PRIMARY, DataType::Boolean, false));
            let column: ArrayRef = Arc::new(BooleanArray::from(primary.to_vec()));
            one_batch(schema::with_columns(batch, &schema, vec![(IS_PRIMARY, column)])?)
        }
    }
}

/// Puts rows that are the same hit side by side: all columns of the first list, then of each other list i the
/// columns in which it may differ, called `NAME_i`.
///
/// With `compat` a table has Fi-NeMo's `count`, `count_1`, …, which are always 1.
///
/// # Errors
///
/// When tables and streams are mixed.
pub fn join(lists: &[&Rows], tuples: &[Vec<usize>], sameness: Sameness) -> Result<Finished> {
    let tables: Vec<_> = lists
        .iter()
        .filter_map(|rows| match rows {
            Rows::Lines(columns, lines) => Some((columns.as_slice(), lines.as_slice())),
            Rows::Batch(_) => None,
        })
        .collect();
    let batches: Vec<_> = lists
        .iter()
        .filter_map(|rows| match rows {
            Rows::Lines(..) => None,
            Rows::Batch(batch) => Some(batch),
        })
        .collect();
    if tables.len() == lists.len() {
        Ok(Finished::Text(join_tables(&tables, tuples, sameness)))
    } else if batches.len() == lists.len() {
        join_batches(&batches, tuples, sameness)
    } else {
        Err(Error::data(
            "tables and streams together: give hits in one form (nyx-hits --outdir writes tables)",
        ))
    }
}

fn join_tables(tables: &[(&[String], &[String])], tuples: &[Vec<usize>], sameness: Sameness) -> String {
    let kept: Vec<Vec<usize>> = tables
        .iter()
        .enumerate()
        .map(|(list, (columns, _))| {
            (0..columns.len()).filter(|&column| differs(list, &columns[column], sameness)).collect()
        })
        .collect();
    let mut header = Vec::new();
    for (list, (columns, _)) in tables.iter().enumerate() {
        header.extend(kept[list].iter().map(|&column| named(list, &columns[column])));
        if sameness.compat {
            header.push(named(list, "count"));
        }
    }
    let mut text = header.join("\t") + "\n";
    for tuple in tuples {
        let mut line: Vec<&str> = Vec::with_capacity(header.len());
        for (list, &row) in tuple.iter().enumerate() {
            let cells: Vec<&str> = tables[list].1[row].split('\t').collect();
            line.extend(kept[list].iter().map(|&column| cells[column]));
            line.extend(sameness.compat.then_some("1"));
        }
        text += &line.join("\t");
        text.push('\n');
    }
    text
}

fn join_batches(batches: &[&RecordBatch], tuples: &[Vec<usize>], sameness: Sameness) -> Result<Finished> {
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (list, batch) in batches.iter().enumerate() {
        let rows = UInt64Array::from_iter_values(tuples.iter().map(|tuple| tuple[list] as u64));
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if differs(list, field.name(), sameness) {
                fields.push(field.as_ref().clone().with_name(named(list, field.name())));
                arrays.push(take(array, &rows, None)?);
            }
        }
    }
    let metadata = batches[0].schema_ref().metadata.clone();
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
    one_batch(RecordBatch::try_new(schema, arrays)?)
}

/// Returns whether `column` of a list after the first is to be shown.
fn differs(list: usize, column: &str, sameness: Sameness) -> bool {
    let strict = !sameness.relaxed && SAME_WHEN_STRICT.contains(&column);
    list == 0 || !(strict || SAME.contains(&column))
}

fn named(list: usize, column: &str) -> String {
    if list == 0 { column.to_string() } else { format!("{column}_{list}") }
}

fn one_batch(batch: RecordBatch) -> Result<Finished> {
    Ok(Finished::Pipe(Pipe::new(batch.schema(), std::iter::once(Ok(batch)))))
}
