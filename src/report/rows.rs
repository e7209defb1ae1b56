//! The first rows of a stream as a page: for eyes, and for the cells of a notebook.
//!
//! Styles are those of the elements themselves, so that the page changes nothing around it where it is put into another.

use std::fmt::Write;

use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Schema};

use super::{COLOURS, chain_element, escape, logo, short, track};
use crate::convert::cell::Cells;
use crate::dna::base_index;
use crate::error::Result;
use crate::provenance::{Genome, KIND_KEY, Step};
use crate::schema;

/// Bases of a sequence that are shown.
const BASES: usize = 60;
/// Numbers of a list that are shown.
const NUMBERS: usize = 4;
const TABLE: &str = "border-collapse:collapse;font:13px system-ui,sans-serif";
const CELL: &str = "border:1px solid #d5dade;padding:3px 7px;text-align:left;vertical-align:top";

/// Returns the page of the rows `head`, the first ones of a stream with this schema that these stages made; `more` says
/// whether others follow.
///
/// # Errors
///
/// A column that contradicts the stream contract.
pub fn page(stream: &Schema, head: &[RecordBatch], more: bool, chain: &[Step]) -> Result<String> {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>nyx: rows</title></head>\n<body>\n{}",
        logo::symbols()
    );
    html += &caption(stream, head, more)?;
    let _ = write!(html, "<table style=\"{TABLE}\"><thead><tr>");
    for field in stream.fields() {
        let _ = write!(html, "<th style=\"{CELL}\">{}</th>", escape(field.name()));
    }
    html += "</tr></thead><tbody>\n";
    for batch in head {
        for row in 0..batch.num_rows() {
            html += "<tr>";
            for column in 0..batch.num_columns() {
                let _ = write!(html, "<td style=\"{CELL}\">{}</td>", cell(batch, column, row)?);
            }
            html += "</tr>\n";
        }
    }
    html += "</tbody></table>\n";
    html += &chain_element(chain);
    Ok(html + "</body></html>\n")
}

fn caption(stream: &Schema, head: &[RecordBatch], more: bool) -> Result<String> {
    let kind = stream.metadata.get(KIND_KEY).map_or("rows", String::as_str);
    let shown: usize = head.iter().map(RecordBatch::num_rows).sum();
    let genome = Genome::of(stream)?.map_or(String::new(), |genome| format!(", {}", genome.name));
    let first = if more { "first " } else { "" };
    let text = format!("{kind}{genome}: {first}{shown} rows, {} columns", stream.fields().len());
    Ok(format!("<p style=\"font:13px system-ui,sans-serif\">{}</p>\n", escape(&text)))
}

fn cell(batch: &RecordBatch, column: usize, row: usize) -> Result<String> {
    let (stream, array) = (batch.schema(), batch.column(column));
    if array.is_null(row) {
        return Ok("<span style=\"color:#a0a8ae\">null</span>".into());
    }
    let field = stream.field(column);
    match (field.name().as_str(), field.data_type()) {
        (schema::SEQUENCE | schema::SECOND, DataType::Utf8) => {
            Ok(letters(schema::strings(batch, field.name())?.value(row).as_bytes()))
        }
        (schema::CONTRIBUTIONS | schema::BASE_SCORES, DataType::List(_)) => bases(batch, field.name(), row),
        _ => {
            let mut text = String::new();
            Cells::new(array)?.write(row, "", &mut text);
            Ok(escape(&shortened(&text)))
        }
    }
}

/// Returns coloured letters.
fn letters(sequence: &[u8]) -> String {
    let mut html = String::from("<code>");
    for run in sequence[..sequence.len().min(BASES)].chunk_by(|a, b| a == b) {
        let colour = base_index(run[0]).map_or("#a0a8ae", |base| COLOURS[base]);
        let text = escape(&String::from_utf8_lossy(run));
        let _ = write!(html, "<span style=\"color:{colour}\">{text}</span>");
    }
    html += "</code>";
    if sequence.len() > BASES {
        let _ = write!(html, "… {} bases", sequence.len());
    }
    html
}

/// Draws the numbers of bases as letters as tall, where they are the busiest.
fn bases(batch: &RecordBatch, name: &str, row: usize) -> Result<String> {
    let values = schema::float_items(schema::lists(batch, name)?, row)?;
    let sequence = match schema::has(batch.schema_ref(), schema::SEQUENCE) {
        true => schema::strings(batch, schema::SEQUENCE)?.value(row).as_bytes(),
        false => &[],
    };
    if sequence.len() != values.len() || values.is_empty() {
        let list: Vec<String> = values.iter().take(NUMBERS).map(|&value| short(value.into())).collect();
        return Ok(format!("{} … {} numbers", list.join(", "), values.len()));
    }
    let (start, end) = track::busiest(values, BASES);
    let picture = track::draw(&sequence[start..end], &values[start..end], &[], 560.0, 90.0);
    Ok(format!("{picture}<br>bases {} to {end} of {}", start + 1, values.len()))
}

/// Shortens lists and long words.
fn shortened(text: &str) -> String {
    let parts: Vec<&str> = text.split(',').collect();
    let text = match parts.len() {
        ..=NUMBERS => text.to_string(),
        count => format!("{},… ({count})", parts[..NUMBERS].join(",")),
    };
    match text.char_indices().nth(BASES) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::sample;

    #[test]
    fn rows_are_shown_with_letters_pictures_and_their_history() {
        let (schema, batches) = sample::pipe().into_parts();
        let head: Vec<RecordBatch> = batches.map(Result::unwrap).collect();
        let chain = crate::provenance::chain(&schema.metadata).unwrap();
        let html = page(&schema, &head, true, &chain).unwrap();
        let rows = head.iter().map(RecordBatch::num_rows).sum::<usize>();
        assert_eq!(html.matches("<tr>").count(), rows + 1);
        assert!(html.contains(&format!("first {rows} rows")) && html.contains("<svg class=\"track\""));
        assert!(html.contains("nyx.pg") && html.ends_with("</body></html>\n") && html.contains(">null<"));
        assert!(!html.contains("<style"), "nothing around it changes");
    }

    #[test]
    fn a_long_list_says_how_long_it_is() {
        assert_eq!(shortened("1,2,3,4,5,6"), "1,2,3,4,… (6)");
        assert_eq!(shortened("a,b"), "a,b");
    }
}
