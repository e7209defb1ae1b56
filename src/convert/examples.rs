//! Examples as programs that train read them: `sequence,label`, as text or as DNABERT's k-mers.

use std::fmt::Write as _;
use std::io::Write;

use arrow_array::{Array, RecordBatch};

use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::schema::{self, LABEL, SECOND, SEQUENCE};

/// How examples are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// What stands between columns: a comma or a tab.
    pub delimiter: char,
    /// Sequences are written as overlapping words of so many bases, with spaces (DNABERT's text).
    pub word: Option<usize>,
}

/// Writes a header and a line for each row: its sequence, the second one of a pair, and its label where rows have one.
/// Whole numbers have no decimals; several labels are joined by `;`.
///
/// # Errors
///
/// The pipe's own, or with the row: no sequence, a sequence shorter than a word.
pub fn write(pipe: Pipe, form: Form, mut output: impl Write) -> Result<()> {
    let (target, batches) = pipe.into_parts();
    let (pairs, labelled) = (schema::has(&target, SECOND), schema::has(&target, LABEL));
    let names: &[&str] = if pairs { &["sequence1", "sequence2"] } else { &["sequence"] };
    let names: Vec<&str> = names.iter().copied().chain(labelled.then_some("label")).collect();
    writeln!(output, "{}", names.join(&form.delimiter.to_string()))?;
    for batch in batches {
        output.write_all(lines(&batch?, form, pairs, labelled)?.as_bytes())?;
    }
    Ok(output.flush()?)
}

fn lines(batch: &RecordBatch, form: Form, pairs: bool, labelled: bool) -> Result<String> {
    let mut columns = vec![schema::strings(batch, SEQUENCE)?];
    columns.extend(pairs.then(|| schema::strings(batch, SECOND)).transpose()?);
    let labels = labelled.then(|| schema::lists(batch, LABEL)).transpose()?;
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                text.push(form.delimiter);
            }
            let at = |error: Error| error.at(schema::describe(batch, row));
            if column.is_null(row) {
                return Err(at(Error::data("no sequence")));
            }
            append(&mut text, column.value(row), form.word).map_err(at)?;
        }
        if let Some(labels) = labels {
            text.push(form.delimiter);
            for (index, label) in schema::float_items(labels, row)?.iter().enumerate() {
                // `Display` writes 1.0 as 1, which is what programs take for a class.
                let _ = write!(text, "{}{label}", if index > 0 { ";" } else { "" });
            }
        }
        text.push('\n');
    }
    Ok(text)
}

fn append(text: &mut String, sequence: &str, word: Option<usize>) -> Result<()> {
    let Some(word) = word else {
        text.push_str(sequence);
        return Ok(());
    };
    if sequence.len() < word {
        return Err(Error::data(format!("{} bases have no word of {word}", sequence.len())));
    }
    for start in 0..=sequence.len() - word {
        if start > 0 {
            text.push(' ');
        }
        text.push_str(&sequence[start..start + word]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::Strand;
    use crate::schema::{Row, RowBuilder, RowKind, Status};

    fn pipe() -> Pipe {
        let schema = RowKind::Labelled.schema(None);
        let mut builder = RowBuilder::new(RowKind::Labelled, schema.clone());
        for (sequence, label) in [("ACGTA", vec![1.0]), ("CCCGN", vec![0.0, 0.25])] {
            let row = Row {
                region: 0,
                chrom: None,
                start: 0,
                end: 5,
                strand: Strand::Unknown,
                name: None,
                sequence: Some(sequence),
                status: Status::Ok,
            };
            builder.push_labelled(&row, Some(label.as_slice()));
        }
        Pipe::new(schema, [builder.finish()].into_iter())
    }

    fn text(form: Form) -> Result<String> {
        let mut bytes = Vec::new();
        write(pipe(), form, &mut bytes)?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn labels_are_classes_and_words_overlap() {
        let plain = text(Form { delimiter: ',', word: None }).unwrap();
        assert_eq!(plain, "sequence,label\nACGTA,1\nCCCGN,0;0.25\n");
        let words = text(Form { delimiter: '\t', word: Some(3) }).unwrap();
        assert_eq!(words, "sequence\tlabel\nACG CGT GTA\t1\nCCC CCG CGN\t0;0.25\n");
        let error = text(Form { delimiter: ',', word: Some(6) }).unwrap_err();
        assert!(error.to_string().contains("no word of 6"), "{error}");
    }

    #[test]
    fn words_are_read_back_as_the_sequence() {
        let words = text(Form { delimiter: '\t', word: Some(4) }).unwrap();
        let reader = Box::new(std::io::Cursor::new(words.into_bytes()));
        let rows = sequences_of(reader);
        assert_eq!(rows, ["ACGTA", "CCCGN"]);
    }

    /// Joins words as DNABERT's kmer2seq does: the first word, then the last letter of the others.
    fn sequences_of(reader: impl std::io::BufRead) -> Vec<String> {
        let lines = reader.lines().skip(1).map(|line| line.unwrap());
        let join = |line: String| {
            let words: Vec<&str> = line.split('\t').next().unwrap().split(' ').collect();
            words[0].to_string() + &words[1..].iter().map(|word| &word[3..]).collect::<String>()
        };
        lines.map(join).collect()
    }
}
