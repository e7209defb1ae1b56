//! Fields in the records of VCF text. Only INFO changes; the other columns pass byte by byte.

use std::fmt::Write as _;
use std::io::{BufRead, Read};

use super::fields::{Fields, STATUS, Value};
use super::header;
use super::sink::{Placed, Sink};
use super::sites::{Alternate, Record, Site, Sites, by_alternate};
use crate::error::{Error, Result};

/// Longest line that is read, in bytes.
const LINE_MAX: u64 = 1 << 30;

/// Adds the fields of `sites` to a VCF; returns how many records there are and how many of them have rows.
///
/// # Errors
///
/// When a line is no record, naming it, or the rows fail.
pub fn annotate(
    mut reader: Box<dyn BufRead>,
    sites: &mut Sites,
    extra: &[String],
    sink: &mut Sink,
) -> Result<(u64, u64)> {
    let (mut line, mut number) = (Vec::new(), 0u64);
    let mut head = Vec::new();
    while read_line(&mut reader, &mut line)? {
        number += 1;
        head.extend_from_slice(&line);
        if !line.starts_with(b"##") {
            break;
        }
    }
    let edited = header::edit(&head, sites.fields(), extra)?;
    sink.begin(&edited.text, &edited.contigs)?;
    let (mut records, mut annotated) = (0, 0);
    while read_line(&mut reader, &mut line)? {
        number += 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let place = |error: Error| error.at(format!("line {number}"));
        let site = annotate_line(&mut line, edited.columns, sites, sink).map_err(place)?;
        records += 1;
        annotated += u64::from(site);
    }
    Ok((records, annotated))
}

fn read_line(reader: &mut Box<dyn BufRead>, line: &mut Vec<u8>) -> Result<bool> {
    line.clear();
    Ok(reader.take(LINE_MAX).read_until(b'\n', line)? > 0)
}

/// Writes a record with its fields; returns whether it has rows.
fn annotate_line(line: &mut Vec<u8>, columns: usize, sites: &mut Sites, sink: &mut Sink) -> Result<bool> {
    if !line.ends_with(b"\n") {
        line.push(b'\n');
    }
    let found = 1 + line.iter().filter(|&&byte| byte == b'\t').count();
    if found != columns || columns < 8 {
        return Err(Error::data(format!(
            "{found} columns, the #CHROM line has {columns} (8 at least): the line is cut or its columns are not \
             separated by TAB"
        )));
    }
    let body = line.strip_suffix(b"\n").unwrap_or(line);
    let body = body.strip_suffix(b"\r").unwrap_or(body);
    let ends: Vec<usize> =
        body.iter().enumerate().filter(|(_, byte)| **byte == b'\t').map(|(at, _)| at).collect();
    let column = |index: usize| -> Result<&str> {
        let start = if index == 0 { 0 } else { ends[index - 1] + 1 };
        let end = ends.get(index).copied().unwrap_or(body.len());
        std::str::from_utf8(&body[start..end]).map_err(|_| Error::data("it is not text (UTF-8)"))
    };
    let position = column(1)?;
    let record = Record {
        chrom: column(0)?,
        position: position.parse().map_err(|_| Error::data(format!("`{position}` is no position")))?,
        reference: column(3)?,
        alternates: column(4)?.split(',').filter(|letters| *letters != ".").collect(),
    };
    let info = column(7)?;
    let site = sites.take_of(&record)?;
    let fields = sites.fields();
    let new_info = join_info(info, site.as_ref(), record.alternates.len(), fields);
    let placed = Placed { chrom: record.chrom, start: record.position, end: last_base(&record, info) };
    let (before, after) = (&line[..ends[6] + 1], &line[ends.get(7).copied().unwrap_or(body.len())..]);
    sink.write_record(placed, &[before, new_info.as_bytes(), after])?;
    Ok(site.is_some())
}

/// Returns the last base of a record, 1-based: that of REF, or `END`.
fn last_base(record: &Record, info: &str) -> i64 {
    let end = info.split(';').find_map(|entry| entry.strip_prefix("END=")?.parse().ok());
    let own = record.position.saturating_add(record.reference.len() as i64 - 1);
    end.filter(|&end| end > record.position).unwrap_or(own).max(own)
}

/// Returns INFO with the fields of a record in it, those that it had of the same names left out.
fn join_info(info: &str, site: Option<&Site>, alternates: usize, fields: &Fields) -> String {
    let own = |entry: &&str| {
        let id = entry.split('=').next().unwrap_or_default();
        id == STATUS || fields.infos.iter().any(|info| info.id == id)
    };
    let kept: Vec<&str> =
        info.split(';').filter(|entry| !matches!(*entry, "" | ".") && !own(entry)).collect();
    let mut text = kept.join(";");
    if !text.is_empty() {
        text.push(';');
    }
    text + &info_of(&by_alternate(site, alternates), fields)
}

/// Returns the fields of the alternates of a record as text.
fn info_of(alternates: &[Option<&Alternate>], fields: &Fields) -> String {
    let mut text = format!("{STATUS}={}", statuses(alternates).join(","));
    for (place, info) in fields.infos.iter().enumerate() {
        let value =
            |alternate: &Option<&Alternate>| alternate.map_or(Value::Missing, |a| a.values[place].clone());
        let values: Vec<Value> = alternates.iter().map(value).collect();
        if values.iter().all(|value| *value == Value::Missing) {
            continue;
        }
        let _ = write!(text, ";{}=", info.id);
        for (index, value) in values.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            // Writing to a string cannot fail.
            let _ = match value {
                Value::Missing => write!(text, "{comma}."),
                Value::Float(number) => write!(text, "{comma}{number:?}"),
                Value::Text(value) => write!(text, "{comma}{value}"),
            };
        }
    }
    text
}

/// Returns the status of every ALT; one that says why there is none where there is no ALT or row.
pub fn statuses<'a>(alternates: &[Option<&'a Alternate>]) -> Vec<&'a str> {
    if alternates.iter().all(Option::is_none) {
        return vec![super::NOT_SCORED];
    }
    alternates.iter().map(|alternate| alternate.map_or(super::NOT_SCORED, |a| a.status.as_str())).collect()
}

/// Returns the line of a record made of rows alone.
pub fn record_of(site: &Site, fields: &Fields) -> String {
    let present: Vec<Option<&Alternate>> = site.alternates.iter().map(Some).collect();
    let letters: Vec<&str> = site.alternates.iter().map(|alternate| alternate.letters.as_str()).collect();
    format!(
        "{}\t{}\t{}\t{}\t{}\t.\t.\t{}\n",
        site.chrom,
        site.position,
        site.id.as_deref().unwrap_or("."),
        site.reference,
        if letters.is_empty() { ".".into() } else { letters.join(",") },
        info_of(&present, fields)
    )
}
