//! BED: contig, start, end, name, score, strand.

use std::io::Write;

use arrow_array::{Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Schema};

use super::header;
use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::schema;

/// The column that names a motif hit.
pub(super) const MOTIF_NAME: &str = "motif_name";

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
    if provenance {
        header::write_end(before as u64, before as u64, &mut output)?;
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
        // A tab in a name would begin another column.
        let [chrom, name] = [chrom, name].map(|text| text.replace(['\t', '\n', '\r'], " "));
        let (start, end) = (starts.value(row).max(0), ends.value(row));
        writeln!(output, "{chrom}\t{start}\t{end}\t{name}\t0\t{}", strands.value(row))?;
    }
    Ok(())
}

/// A row as the line of a bigBed file: contig, start, end, and the other columns by tabs.
pub type Line = (String, u32, u32, String);

/// Reads all rows as lines of six columns, by position within each contig; hits are few enough to be held.
///
/// # Errors
///
/// A row without coordinates, or past 4 gigabases.
pub fn lines(pipe: Pipe) -> Result<Vec<Line>> {
    let mut text = Vec::new();
    write(pipe, false, &mut text)?;
    let text = String::from_utf8(text).expect("columns are text");
    let line = |line: &str| {
        let mut fields = line.splitn(4, '\t');
        let mut field = || fields.next().expect("six columns were written");
        let (chrom, start, end) = (field().to_string(), field(), field());
        let position =
            |text: &str| text.parse().map_err(|_| Error::data(format!("{text} is too far for bigBed")));
        Ok((chrom, position(start)?, position(end)?, field().to_string()))
    };
    let mut lines = text.lines().map(line).collect::<Result<Vec<Line>>>()?;
    lines.sort();
    Ok(lines)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::convert::sample;

    #[test]
    fn a_row_becomes_six_columns() {
        let mut bytes = Vec::new();
        write(sample::pipe(), false, &mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text, "chr2\t10\t13\tp q\t0\t+\nchr1\t0\t1\t.\t0\t+\nchrU\t5\t8\tu\t0\t+\n");
    }

    #[test]
    fn rows_without_coordinates_are_refused_by_number() {
        let (schema, batches) = sample::pipe().into_parts();
        let target = schema.clone();
        let unknown = batches.map(move |batch| {
            let batch = batch?;
            let chroms: StringArray = (0..batch.num_rows()).map(|row| (row != 1).then_some("chr1")).collect();
            schema::with_columns(&batch, &target, vec![(schema::CHROM, Arc::new(chroms))])
        });
        let error = write(Pipe::new(schema, unknown), false, Vec::new()).unwrap_err().to_string();
        assert!(error.contains("row 2 has no coordinates"), "{error}");
    }
}
