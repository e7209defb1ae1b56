//! Texts: tables of all kinds, FASTA, JSON, MEME.

use std::io::{self, BufRead};
use std::path::Path;

use serde::de::IgnoredAny;

use super::{Checked, broken, history};
use crate::convert::header::END_KEY;
use crate::error::{Error, Result};
use crate::input::{self, bgzf};
use crate::motif;
use crate::provenance::{CHAIN_KEY, Step};

/// A text line by line, decompressed; compressed data that are cut or damaged are an error.
pub struct Lines {
    reader: Box<dyn BufRead + Send>,
    bytes: Vec<u8>,
    /// The number of the line that was read last, from 1.
    pub number: u64,
    /// How the text is packed, where it is.
    pub packing: Option<&'static str>,
}

impl Lines {
    /// Opens a text.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let mut raw = input::open_raw(path)?;
        let head = raw.fill_buf()?;
        let (reader, packing): (Box<dyn BufRead + Send>, _) = match head {
            _ if bgzf::is_bgzf(head) => {
                (Box::new(bgzf::Blocks::new(raw, false)), Some("checksums and end mark of BGZF"))
            }
            _ if head.starts_with(&[0x1F, 0x8B]) => {
                (input::decompress(raw, false)?, Some("checksum of gzip"))
            }
            _ if head.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) => {
                (input::decompress(raw, false)?, Some("end of zstd"))
            }
            _ => (raw, None),
        };
        Ok(Self { reader, bytes: Vec::new(), number: 0, packing })
    }

    /// Reads the next line without its end; `None` behind the last.
    ///
    /// # Errors
    ///
    /// When the text ends within a line, or is no text.
    pub fn next(&mut self) -> Result<Option<&str>> {
        self.bytes.clear();
        let count = self.reader.read_until(b'\n', &mut self.bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                broken(format!("the compressed data are cut or damaged after line {} ({error})", self.number))
            }
            _ => error.into(),
        })?;
        if count == 0 {
            return Ok(None);
        }
        self.number += 1;
        let number = self.number;
        let text =
            std::str::from_utf8(&self.bytes).map_err(|_| broken(format!("line {number} is no text")))?;
        match text.strip_suffix('\n') {
            Some(line) => Ok(Some(line)),
            None => Err(broken(format!("cut within line {number}"))),
        }
    }

    /// Returns what is said of a text whose packing held.
    pub fn checked(&self, format: &str) -> Checked {
        let checked = Checked::of(format).holds("the last line is whole");
        self.packing.into_iter().fold(checked, Checked::holds)
    }
}

/// Checks a table: its columns, the coordinates of BED, the line that ends those of nyx-view.
pub fn table(path: &Path) -> Result<Checked> {
    if path.extension().is_some_and(|suffix| suffix == "csv") {
        return comma_separated(path);
    }
    let suffixes = [".bed", ".bed.gz", ".bedgraph", ".bdg", ".narrowPeak"];
    let must_be_bed = suffixes.iter().any(|suffix| path.to_string_lossy().ends_with(suffix));
    let (mut lines, mut table) = (Lines::open(path)?, Table { must_be_bed, ..Table::default() });
    while let Some(line) = lines.next()? {
        let outcome = table.add(line);
        outcome.map_err(|error| error.at(format!("line {}", lines.number)))?;
    }
    table.finish(lines)
}

/// What was seen of a table.
#[derive(Debug, Default)]
struct Table {
    steps: Vec<Step>,
    lines: u64,
    columns: usize,
    /// Whether all lines begin with a contig, a start and an end.
    bed: bool,
    /// Whether the name of the file says so.
    must_be_bed: bool,
    names: bool,
    /// Rows and lines as the last line says.
    end: Option<(u64, u64)>,
    /// Stages as other tables tell them, in a comment.
    comments: Vec<String>,
}

impl Table {
    fn add(&mut self, line: &str) -> Result<()> {
        if self.end.is_some() {
            return Err(broken(format!("something follows the line `## {END_KEY}`, which ends the table")));
        }
        if let Some(comment) = line.strip_prefix('#') {
            return self.add_comment(comment);
        }
        // FIMO's and Tomtom's tables end with an empty line and comments.
        if line.is_empty() || line.starts_with("track ") || line.starts_with("browser ") {
            return Ok(());
        }
        let fields: Vec<&str> = line.split('\t').collect();
        let is_bed = is_bed(&fields);
        if self.lines == 0 {
            self.columns = fields.len();
            self.bed = is_bed;
            self.names = !is_bed && fields.iter().all(|field| field.parse::<f64>().is_err());
        } else if fields.len() != self.columns {
            let (found, expected) = (fields.len(), self.columns);
            return Err(broken(format!("{found} columns, the lines before have {expected}")));
        }
        if self.must_be_bed && !is_bed {
            return Err(broken("no contig with a start and an end behind it"));
        }
        self.bed &= is_bed;
        self.lines += 1;
        Ok(())
    }

    fn add_comment(&mut self, comment: &str) -> Result<()> {
        let comment = comment.trim_start_matches('#').trim();
        let damaged = || broken(format!("the comment `{comment}` cannot be read"));
        if let Some(step) = comment.strip_prefix(CHAIN_KEY).and_then(|rest| rest.strip_prefix('=')) {
            self.steps.push(serde_json::from_str(step).map_err(|_| damaged())?);
        } else if let Some(end) = comment.strip_prefix(END_KEY).and_then(|rest| rest.strip_prefix('=')) {
            let numbers = end.split_once("\tlines=");
            let numbers = numbers.and_then(|(rows, lines)| Some((rows.parse().ok()?, lines.parse().ok()?)));
            self.end = Some(numbers.ok_or_else(damaged)?);
        } else if comment.starts_with("nyx-") {
            self.comments.push(comment.into());
        }
        Ok(())
    }

    /// Returns the stages that comments tell.
    fn history(self) -> Vec<Step> {
        if !self.steps.is_empty() {
            return self.steps;
        }
        // `tool version command` in one line, or the command in the next.
        let text = self.comments.join(" ");
        let mut words = text.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some(tool), Some(version), Some(command)) if command.starts_with(tool) => {
                vec![history::of_command(command, Some(version))]
            }
            _ => Vec::new(),
        }
    }

    fn finish(self, lines: Lines) -> Result<Checked> {
        let Self { end, columns, bed, names, .. } = self;
        let data = self.lines;
        let mut checked = lines.checked(if bed { "BED" } else { "table" });
        if data > 0 {
            checked = checked.holds(format!("{columns} columns in every line"));
        }
        if bed {
            checked = checked.holds("no end is before its start");
        }
        let steps = self.history();
        checked = checked.made_by(&steps)?;
        match end {
            Some((rows, expected)) if expected == data => {
                Ok(checked.with_rows(rows).holds("number of rows as in the line that ends it"))
            }
            Some((_, expected)) => Err(broken(format!("{data} lines of rows and names, and not {expected}"))),
            // Those that nyx-view writes with their history end with that line.
            None if steps.iter().any(|step| ["nyx-view", "nyx-effects"].contains(&step.tool.as_str())) => {
                Err(broken(format!("cut after line {}: the line `## {END_KEY}` is missing", lines.number)))
            }
            None => {
                let checked = checked.with_rows(data - u64::from(names && data > 0));
                Ok(checked.cannot_tell("whether it was cut between two lines: the table has no end mark"))
            }
        }
    }
}

/// Returns whether a line begins with a contig, a start and an end that is not before it.
fn is_bed(fields: &[&str]) -> bool {
    let [_, start, end, ..] = fields else { return false };
    matches!((start.parse::<u64>(), end.parse::<u64>()), (Ok(start), Ok(end)) if start <= end)
}

fn comma_separated(path: &Path) -> Result<Checked> {
    let mut lines = Lines::open(path)?;
    while lines.next()?.is_some() {}
    let checked = lines.checked("CSV");
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(input::open_text(path)?);
    let (mut record, mut rows) = (csv::ByteRecord::new(), 0u64);
    while reader.read_byte_record(&mut record).map_err(|error| broken(error.to_string()))? {
        rows += 1;
    }
    let checked = checked.with_rows(rows.saturating_sub(1)).holds("as many columns in every line");
    Ok(checked.cannot_tell("its history, and whether it was cut between two lines: CSV has no comments"))
}

/// Reads the stages of a table or VCF, as far as its comments tell them.
pub fn chain(path: &Path) -> Result<Vec<Step>> {
    let mut lines = Lines::open(path)?;
    let mut table = Table::default();
    while let Some(line) = lines.next()? {
        match line.strip_prefix('#') {
            Some(comment) => table.add_comment(comment)?,
            None if !table.steps.is_empty() => break,
            None => {}
        }
    }
    Ok(table.history())
}

/// Checks FASTA: every record has a sequence of letters.
pub fn fasta(path: &Path) -> Result<Checked> {
    let mut lines = Lines::open(path)?;
    let (mut records, mut bases) = (0u64, 1u64);
    while let Some(line) = lines.next()? {
        let begins = line.starts_with('>');
        let is_sequence = line.bytes().all(|byte| byte.is_ascii_alphabetic() || b"*-".contains(&byte));
        if begins && bases == 0 || !begins && !is_sequence {
            return Err(broken(format!("line {} is no sequence", lines.number)));
        }
        records += u64::from(begins);
        bases = if begins { 0 } else { bases + line.len() as u64 };
    }
    if bases == 0 {
        return Err(broken("cut: the last record has no sequence"));
    }
    let checked = lines.checked("FASTA").with_rows(records).holds("every record has a sequence");
    Ok(checked.cannot_tell("its history, and whether it was cut between two lines"))
}

/// Checks JSON: one value, or one a line.
pub fn json(path: &Path) -> Result<Checked> {
    let whole: Result<IgnoredAny, _> = serde_json::from_reader(input::open_text(path)?);
    if whole.is_ok() {
        return Ok(Checked::of("JSON").holds("one whole value"));
    }
    let (mut lines, mut values) = (Lines::open(path)?, 0);
    while let Some(line) = lines.next()? {
        if let Err(error) = serde_json::from_str::<IgnoredAny>(line) {
            return Err(broken(match values {
                0 => format!("cut or damaged: neither one value of JSON nor one a line ({error})"),
                _ => format!("line {} is no JSON ({error})", lines.number),
            }));
        }
        values += 1;
    }
    let checked = lines.checked("JSON lines").with_rows(values).holds("every line is a value");
    Ok(checked.cannot_tell("its history, and whether it was cut between two lines"))
}

/// Checks motifs in MEME text.
pub fn meme(path: &Path) -> Result<Checked> {
    let lines = Lines::open(path)?;
    let motifs = motif::meme::read(path).map_err(|error: Error| broken(error.to_string()))?;
    let checked = lines.checked("MEME").with_rows(motifs.len() as u64).holds("every matrix has its rows");
    Ok(checked.cannot_tell("whether motifs are missing at its end: MEME text has no end mark"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::convert::sample;
    use crate::convert::table::{Head, write_tsv};

    fn saved(text: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rows.tsv");
        std::fs::write(&path, text).unwrap();
        (directory, path)
    }

    fn tsv() -> Vec<u8> {
        let metadata = sample::pipe().schema().metadata.clone();
        let step = Step { tool: "nyx-view".into(), ..Step::default() };
        let metadata = crate::provenance::append(&metadata, step).unwrap();
        let schema = sample::pipe().schema().as_ref().clone().with_metadata(metadata);
        let mut text = Vec::new();
        let head = Head { provenance: true, names: true };
        write_tsv(sample::pipe().with_schema(schema.into()), head, &mut text).unwrap();
        text
    }

    #[test]
    fn every_cut_of_a_table_with_its_history_is_seen() {
        let whole = tsv();
        let (_directory, path) = saved(&whole);
        assert_eq!(table(&path).unwrap().rows, Some(3));
        let text = String::from_utf8(whole.clone()).unwrap();
        let begins = text.find("## nyx.pg").unwrap();
        let chain = begins + text[begins..].rfind("## nyx.pg").unwrap();
        // Before the stage that wrote it is named, it could be the table of anyone.
        let named = chain + text[chain..].find('\n').unwrap() + 1;
        for cut in named..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(table(&path).is_err(), "cut at {cut}: {:?}", &text[..cut]);
        }
    }

    #[test]
    fn a_line_that_was_taken_out_or_put_in_is_missed() {
        let text = String::from_utf8(tsv()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.iter().position(|line| !line.starts_with('#')).unwrap();
        for gone in first..lines.len() {
            let mut fewer = lines.clone();
            fewer.remove(gone);
            let (_directory, path) = saved((fewer.join("\n") + "\n").as_bytes());
            assert!(table(&path).is_err(), "line {gone}");
        }
        let (_directory, path) = saved((text.clone() + "one more\n").as_bytes());
        assert!(table(&path).unwrap_err().to_string().contains("follows"));
    }

    #[test]
    fn commands_in_the_comments_of_other_tables_are_found() {
        for text in [
            "a\tb\n\n# nyx-scan 0.1.0 nyx-scan -m 'a b'\n",
            "a\tb\n\n# nyx-scan 0.1.0\n# nyx-scan -m 'a b'\n",
        ] {
            let (_directory, path) = saved(text.as_bytes());
            let steps = chain(&path).unwrap();
            assert_eq!(
                (steps[0].command.as_str(), steps[0].version.as_str()),
                ("nyx-scan -m 'a b'", "0.1.0")
            );
        }
    }

    #[test]
    fn every_cut_of_a_packed_table_is_seen() {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"a\tb\nc\td\n").unwrap();
        let packed = gzip.finish().unwrap();
        let (_directory, path) = saved(&packed);
        assert_eq!(table(&path).unwrap().rows, Some(1), "two lines, of which the first may be names");
        for cut in 2..packed.len() {
            std::fs::write(&path, &packed[..cut]).unwrap();
            assert!(table(&path).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn json_is_one_value_or_one_a_line() {
        for (text, rows) in [("{}\n{\"a\": 1}\n", Some(2)), ("{\n  \"a\": [1]\n}\n", None)] {
            let (_directory, path) = saved(text.as_bytes());
            assert_eq!(json(&path).unwrap().rows, rows);
        }
        for text in ["{\n  \"a\": [1\n", "{}\n{\n{}\n", "{}\n{}"] {
            let (_directory, path) = saved(text.as_bytes());
            assert!(json(&path).is_err(), "{text}");
        }
    }
}
