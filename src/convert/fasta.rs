//! FASTA.

use std::io::Write;

use arrow_array::{Array, RecordBatch};

use crate::error::Result;
use crate::pipe::Pipe;
use crate::schema;

/// Writes the sequence of every row under its name, its coordinates and its allele; returns how many rows
/// had no sequence and were left out.
pub fn write(pipe: Pipe, mut output: impl Write) -> Result<u64> {
    let mut left_out = 0;
    for batch in pipe.into_parts().1 {
        let batch = batch?;
        let sequences = schema::strings(&batch, schema::SEQUENCE)?;
        for row in 0..batch.num_rows() {
            if sequences.is_null(row) {
                left_out += 1;
                continue;
            }
            // A line end in a name would begin a record of its own.
            let title = title(&batch, row)?.replace(['\n', '\r'], " ");
            writeln!(output, ">{title}\n{}", sequences.value(row))?;
        }
    }
    output.flush()?;
    Ok(left_out)
}

/// Returns `name chrom:start-end(strand) allele=k`, as far as the row has them; coordinates are 0-based and
/// half-open, as bedtools writes them.
fn title(batch: &RecordBatch, row: usize) -> Result<String> {
    let text = |name: &str| -> Result<Option<String>> {
        if !schema::has(&batch.schema(), name) {
            return Ok(None);
        }
        let texts = schema::strings(batch, name)?;
        Ok(texts.is_valid(row).then(|| texts.value(row).to_string()))
    };
    let mut parts = Vec::new();
    parts.extend(text(schema::NAME)?.or(text(schema::VARIANT_ID)?));
    if let Some(chrom) = text(schema::CHROM)? {
        let start = schema::i64s(batch, schema::START)?.value(row);
        let end = schema::i64s(batch, schema::END)?.value(row);
        let strand = text(schema::STRAND)?.unwrap_or(".".into());
        parts.push(format!("{chrom}:{start}-{end}({strand})"));
    }
    if parts.is_empty() {
        parts.push(format!("region{}", schema::u64s(batch, schema::REGION)?.value(row)));
    }
    if schema::has(&batch.schema(), schema::ALLELE) {
        parts.push(format!("allele={}", schema::u16s(batch, schema::ALLELE)?.value(row)));
    }
    Ok(parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::sample;

    #[test]
    fn titles_hold_name_and_coordinates_and_rows_without_sequence_are_counted() {
        let mut bytes = Vec::new();
        assert_eq!(write(sample::pipe(), &mut bytes).unwrap(), 1);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text, ">p\tq chr2:10-13(+)\nACN\n>chr1:-2-1(+)\nACN\n");
    }
}
