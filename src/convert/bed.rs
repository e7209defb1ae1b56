//! BED: contig, start, end, name, score, strand.

use std::io::Write;

use arrow_array::{Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Schema};

use super::header;
use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::schema;

/// The column that names a motif hit.
const MOTIF_NAME: &str = "motif_name";

/// Writes six BED columns a row; the name is that of the motif for hits, the score 0 as in Fi-NeMo's
/// `hits.bed`. A window that starts before its contig starts at 0.
///
/// # Errors
///
/// A row without coordinates.
pub fn write(pipe: Pipe, provenance: bool, mut output: impl Write) -> Result<()> {
    let (schema, batches) = pipe.into_parts();
    schema::require(&schema, schema::CHROM, &DataType::Utf8)?;
    let name = name_column(&schema);
    if provenance {
        header::write_comments(&schema, &mut output)?;
    }
    let mut before = 0;
    for batch in batches {
        let batch = batch?;
        write_rows(&batch, name, before, &mut output)?;
        before += batch.num_rows();
    }
    Ok(output.flush()?)
}

/// Returns the column that names a row, if there is one.
fn name_column(schema: &Schema) -> Option<&'static str> {
    [MOTIF_NAME, schema::NAME].into_iter().find(|name| schema::has(schema, name))
}

fn write_rows(batch: &RecordBatch, name: Option<&str>, before: usize, output: &mut impl Write) -> Result<()> {
    let chroms = schema::strings(batch, schema::CHROM)?;
    let starts = schema::i64s(batch, schema::START)?;
    let ends = schema::i64s(batch, schema::END)?;
    let strands = schema::strings(batch, schema::STRAND)?;
    let names = name.map(|name| schema::strings(batch, name)).transpose()?;
    for row in 0..batch.num_rows() {
        let chrom = located(chroms, row, before)?;
        let name = names.filter(|names| names.is_valid(row)).map_or(".", |names| names.value(row));
        let (start, end) = (starts.value(row).max(0), ends.value(row));
        writeln!(output, "{chrom}\t{start}\t{end}\t{name}\t0\t{}", strands.value(row))?;
    }
    Ok(())
}

/// Returns the contig of a row.
///
/// # Errors
///
/// When the row has no coordinates; `before` rows came in earlier batches.
pub(super) fn located(chroms: &StringArray, row: usize, before: usize) -> Result<&str> {
    if chroms.is_null(row) {
        let number = before + row + 1;
        return Err(Error::data(format!(
            "row {number} has no coordinates, so it has no place in this format: \
             give nyx-extract the peaks, or write tsv, json or parquet"
        )));
    }
    Ok(chroms.value(row))
}
