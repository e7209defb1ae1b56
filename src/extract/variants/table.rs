//! Lines of text with the columns of a variant: what VCF and the TSV schemas share.

use std::io::{self, BufRead, Read};

use super::record::{Place, Record};
use crate::error::{Error, Result};

/// Longest line that is read, in bytes.
const LINE_MAX: u64 = 1 << 29;
/// Largest position: far past any contig, far from the end of `i64`.
const POSITION_MAX: i64 = 1 << 40;
/// Most alternate alleles of a record: they are numbered by 16 bits.
const ALTERNATES_MAX: usize = u16::MAX as usize;

/// How the columns of a line are separated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// One TAB.
    Tab,
    /// One comma.
    Comma,
    /// Any white space.
    Blank,
}

impl Separator {
    /// Splits a line.
    pub fn split<'a>(self, line: &'a [u8]) -> Box<dyn Iterator<Item = &'a [u8]> + 'a> {
        match self {
            Self::Tab => Box::new(line.split(|&byte| byte == b'\t')),
            Self::Comma => Box::new(line.split(|&byte| byte == b',')),
            Self::Blank => Box::new(line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty())),
        }
    }
}

/// Which column holds what, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What separates the columns.
    pub separator: Separator,
    /// Contig.
    pub chrom: usize,
    /// Position of the first base of the reference allele.
    pub position: usize,
    /// The first base of a contig in that column: 0 or 1.
    pub base: i64,
    /// ID, if the file has one.
    pub id: Option<usize>,
    /// Reference allele.
    pub reference: usize,
    /// Alternate alleles, by comma.
    pub alternate: usize,
}

impl Layout {
    /// The first five columns of a VCF.
    pub const VCF: Self = Self {
        separator: Separator::Tab,
        chrom: 0,
        position: 1,
        base: 1,
        id: Some(2),
        reference: 3,
        alternate: 4,
    };

    /// Parses a line.
    ///
    /// # Errors
    ///
    /// When a column is missing, empty or not what it should be; the message names it.
    pub fn parse(&self, line: &[u8], place: Place) -> Result<Record> {
        let mut fields: [&[u8]; 16] = [b""; 16];
        let mut count = 0;
        for (field, value) in fields.iter_mut().zip(self.separator.split(line)) {
            *field = value;
            count += 1;
        }
        let text = |index: usize, name: &str| field_text(&fields[..count], index, name);
        let id = match self.id {
            Some(index) if index < count => text(index, "ID").ok().filter(|id| *id != "."),
            _ => None,
        };
        let reference = text(self.reference, "REF")?;
        let alternate = text(self.alternate, "ALT")?;
        Record {
            chrom: text(self.chrom, "CHROM")?.into(),
            position: parse_position(text(self.position, "POS")?, self.base)?,
            id: id.map(Into::into),
            alleles: std::iter::once(reference)
                .chain((alternate != ".").then(|| alternate.split(',')).into_iter().flatten())
                .map(Into::into)
                .collect(),
            ..Record::at(place)
        }
        .checked()
    }
}

impl Record {
    /// Refuses what no record can have.
    pub(super) fn checked(self) -> Result<Self> {
        if self.alleles.iter().any(String::is_empty) {
            return Err(Error::data("REF or ALT has an empty allele: write `.` where there is none"));
        }
        if self.alleles.len() - 1 > ALTERNATES_MAX {
            let count = self.alleles.len() - 1;
            return Err(Error::data(format!(
                "ALT has {count} alleles, more than the {ALTERNATES_MAX} a stream can number: split the \
                 record (`bcftools norm -m -`)"
            )));
        }
        if !(0..=POSITION_MAX).contains(&self.position) {
            return Err(Error::data(format!("POS is {}, not a position of a contig", self.position)));
        }
        Ok(self)
    }
}

fn field_text<'a>(fields: &[&'a [u8]], index: usize, name: &str) -> Result<&'a str> {
    let Some(&field) = fields.get(index) else {
        let count = fields.len();
        return Err(Error::data(format!(
            "{count} columns, but {name} is column {}: the line is cut, or its columns are not separated \
             as in the first line",
            index + 1
        )));
    };
    let text = std::str::from_utf8(field)
        .map_err(|_| Error::data(format!("{name} (column {}) is not UTF-8 text", index + 1)))?;
    if text.is_empty() {
        return Err(Error::data(format!("{name} (column {}) is empty", index + 1)));
    }
    Ok(text)
}

fn parse_position(text: &str, base: i64) -> Result<i64> {
    let bad = |_| {
        let shown: String = text.chars().take(20).collect();
        Error::data(format!("POS is `{shown}`, not a whole number"))
    };
    Ok(text.parse::<i64>().map_err(bad)?.saturating_add(1 - base))
}

/// The lines of a text, counted, without their ends; empty lines are passed over.
pub struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// Reads lines from `reader`.
    pub fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), number: 0 }
    }

    /// Reads the next line; `None` at the end.
    ///
    /// # Errors
    ///
    /// When reading fails or the line is longer than 512 MiB.
    pub fn advance(&mut self) -> Result<Option<&[u8]>> {
        loop {
            self.line.clear();
            let read = self.reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut self.line);
            let read = read.map_err(explain)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if read as u64 == LINE_MAX && self.line.last() != Some(&b'\n') {
                let place = format!("line {}", self.number);
                return Err(Error::data("longer than 512 MiB: no variant file has such lines").at(place));
            }
            while self.line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                self.line.pop();
            }
            if !self.line.is_empty() {
                return Ok(Some(&self.line));
            }
        }
    }

    /// Returns the line last read.
    pub fn current(&self) -> &[u8] {
        &self.line
    }

    /// Returns its 1-based number.
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// Names the remedy for a compressed text that ends early (plain gzip, zstd).
fn explain(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Error::data("the compressed data end early: the file is truncated. Copy or make it again")
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Record> {
        Layout::VCF.parse(line.as_bytes(), Place::Line(1))
    }

    #[test]
    fn a_record_has_ref_first_and_its_alternates_in_order() {
        let record = parse("chr1\t5\trs1\tA\tC,<DEL>,*\t.\t.\t.").unwrap();
        assert_eq!(record.alleles, ["A", "C", "<DEL>", "*"]);
        assert_eq!((record.position, record.id.as_deref(), record.span()), (5, Some("rs1"), (4, 5)));
        assert_eq!(record.alternates(), "C,<DEL>,*");
        let none = parse("chr1\t0\t.\tN\t.").unwrap();
        assert_eq!((none.alleles.len(), none.id, none.position), (1, None, 0));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_named() {
        for (line, word) in [
            ("chr1\t5\t.\tA", "ALT"),
            ("chr1\tx\t.\tA\tC", "POS is `x`"),
            ("chr1\t-3\t.\tA\tC", "POS is -3"),
            ("chr1\t99999999999999999\t.\tA\tC", "POS"),
            ("chr1\t5\t.\t\tC", "REF (column 4) is empty"),
            ("chr1\t5\t.\tA\tC,,G", "empty allele"),
            ("chr1 5 . A C", "1 columns"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(word), "{line}: {error}");
        }
        assert!(Layout::VCF.parse(b"\xff\t5\t.\tA\tC", Place::Line(1)).is_err());
    }

    #[test]
    fn more_alternates_than_a_stream_can_number_are_refused() {
        let alternates = |count: usize| vec!["C"; count].join(",");
        assert_eq!(parse(&format!("1\t5\t.\tA\t{}", alternates(5000))).unwrap().alleles.len(), 5001);
        assert!(parse(&format!("1\t5\t.\tA\t{}", alternates(65536))).is_err());
    }

    #[test]
    fn lines_are_counted_with_the_empty_ones() {
        let mut lines = Lines::new(&b"a\r\n\n\nb"[..]);
        assert_eq!(lines.advance().unwrap(), Some(&b"a"[..]));
        assert_eq!(lines.advance().unwrap(), Some(&b"b"[..]));
        assert_eq!(lines.number(), 4);
        assert_eq!(lines.advance().unwrap(), None);
    }
}
