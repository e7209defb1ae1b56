//! TSV and CSV.

use std::io::Write;

use arrow_array::RecordBatch;

use super::cell::Cells;
use super::header;
use crate::error::{Error, Result, printable};
use crate::pipe::Pipe;

/// What stands above the rows of a table.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Provenance as comment lines, and one at the end that says how many rows there are (TSV only: CSV knows no
    /// comments).
    pub provenance: bool,
    /// The names of the columns.
    pub names: bool,
}

/// Writes tab-separated values; null is `.`, and a tab or newline inside a text becomes `\t` or `\n`, another control
/// character `\u{1b}`: a table on a terminal does not move the cursor.
pub fn write_tsv(pipe: Pipe, head: Head, mut output: impl Write) -> Result<()> {
    let (schema, batches) = pipe.into_parts();
    if head.provenance {
        header::write_comments(&schema, &mut output)?;
    }
    if head.names {
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        writeln!(output, "{}", names.join("\t"))?;
    }
    let (mut text, mut rows) = (String::new(), 0);
    for batch in batches {
        let batch = batch?;
        text.clear();
        append_rows(&batch, &mut text)?;
        output.write_all(text.as_bytes())?;
        rows += batch.num_rows() as u64;
    }
    if head.provenance {
        header::write_end(rows, rows + u64::from(head.names), &mut output)?;
    }
    Ok(output.flush()?)
}

fn append_rows(batch: &RecordBatch, text: &mut String) -> Result<()> {
    let columns = batch.columns().iter().map(|array| Cells::new(array)).collect::<Result<Vec<_>>>()?;
    for row in 0..batch.num_rows() {
        for (index, cells) in columns.iter().enumerate() {
            if index > 0 {
                text.push('\t');
            }
            let start = text.len();
            cells.write(row, ".", text);
            // A minimum, unlike a search that may stop early, is made vector code.
            if text.as_bytes()[start..].iter().fold(u8::MAX, |least, &byte| least.min(byte)) < b' ' {
                let escaped = printable(&text[start..]).into_owned();
                text.truncate(start);
                text.push_str(&escaped);
            }
        }
        text.push('\n');
    }
    Ok(())
}

/// Writes comma-separated values (RFC 4180, lines end with a newline); null is empty.
pub fn write_csv(pipe: Pipe, head: Head, output: impl Write) -> Result<()> {
    let (schema, batches) = pipe.into_parts();
    let mut writer = csv::Writer::from_writer(output);
    if head.names {
        writer.write_record(schema.fields().iter().map(|field| field.name())).map_err(failure)?;
    }
    let mut text = String::new();
    for batch in batches {
        let batch = batch?;
        let columns = batch.columns().iter().map(|array| Cells::new(array)).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            for cells in &columns {
                text.clear();
                cells.write(row, "", &mut text);
                writer.write_field(&text).map_err(failure)?;
            }
            writer.write_record(None::<&[u8]>).map_err(failure)?;
        }
    }
    Ok(writer.flush()?)
}

fn failure(error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        other => Error::data(format!("CSV: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Float32Array, StringArray, UInt64Array};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;
    use crate::schema;

    fn pipe() -> Pipe {
        let fields = vec![
            Field::new("region", DataType::UInt64, false),
            Field::new("name", DataType::Utf8, true),
            Field::new("delta", DataType::Float32, true),
            Field::new("contributions", schema::list_of(DataType::Float32), true),
            Field::new("probs", schema::floats(2), true),
        ];
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(UInt64Array::from(vec![0, 1])),
                Arc::new(StringArray::from(vec![Some("a\tb,\"c\""), None])),
                Arc::new(Float32Array::from(vec![Some(0.1), None])),
                schema::float_lists(&[Some(vec![1.0, -2.5e-7]), None]),
                schema::float_vectors(&[None, Some(vec![0.25, f32::NAN])], 2),
            ],
        );
        // A slice has to begin at its own rows.
        let batch = batch.unwrap();
        let halves = [batch.slice(0, 1), batch.slice(1, 1)];
        Pipe::new(schema, halves.into_iter().map(Ok))
    }

    fn text(write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn tsv_shows_nulls_lists_and_escapes() {
        let head = Head { provenance: false, names: true };
        assert_eq!(
            text(|out| write_tsv(pipe(), head, out)),
            "region\tname\tdelta\tcontributions\tprobs\n\
             0\ta\\tb,\"c\"\t0.1\t1.0,-2.5e-7\t.\n\
             1\t.\t.\t.\t0.25,NaN\n"
        );
    }

    #[test]
    fn csv_reads_back_as_it_was() {
        let head = Head { provenance: true, names: true };
        let text = text(|out| write_csv(pipe(), head, out));
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().unwrap().len(), 5);
        let rows: Vec<Vec<String>> =
            reader.records().map(|row| row.unwrap().iter().map(str::to_string).collect()).collect();
        assert_eq!(rows[0], ["0", "a\tb,\"c\"", "0.1", "1.0,-2.5e-7", ""]);
        assert_eq!(rows[1], ["1", "", "", "", "0.25,NaN"]);
    }
}
