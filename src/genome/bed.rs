//! Intervals of BED and narrowPeak files, and sets of them.

use std::collections::HashMap;
use std::io::{BufRead, Read};

use crate::error::{Error, Result};
use crate::region::{Strand, unite};

/// Longest line that is read, in bytes.
const LINE_MAX: u64 = 1 << 24;

/// A line of a BED or narrowPeak file, 0-based and half-open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Contig name as the file has it.
    pub chrom: String,
    /// First base, 0-based.
    pub start: i64,
    /// One past the last base; not before `start`.
    pub end: i64,
    /// Column 4; `None` for `.`.
    pub name: Option<String>,
    /// Column 6.
    pub strand: Strand,
    /// Offset of the summit from `start` (narrowPeak's column 10); `None` where it is -1 or there is none.
    pub summit: Option<i64>,
}

impl Interval {
    /// Creates an interval without name and strand.
    pub fn new(chrom: impl Into<String>, start: i64, end: i64) -> Self {
        Self { chrom: chrom.into(), start, end, name: None, strand: Strand::Unknown, summit: None }
    }

    /// Returns the position to centre a window on: the summit, or else the midpoint, rounded down.
    pub fn center(&self) -> i64 {
        match self.summit {
            Some(summit) => self.start + summit,
            None => self.start + (self.end - self.start) / 2,
        }
    }
}

/// How much of a line counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Contig, start and end, as of a blacklist; all else may be anything.
    Three,
    /// Name, strand and summit, too.
    All,
}

/// Reads intervals line by line. Comments, `track` and `browser` lines and blank lines are passed over.
///
/// Columns are separated by tabs, or by blanks in a line without tabs. A line of ten columns is narrowPeak. A
/// malformed line is an error that names it.
pub struct Reader<R> {
    text: R,
    place: String,
    columns: Columns,
    buffer: Vec<u8>,
    line: u64,
    failed: bool,
}

impl<R: BufRead> Reader<R> {
    /// Creates a reader; `place` is the file's name in errors.
    pub fn new(text: R, place: impl Into<String>, columns: Columns) -> Self {
        Self { text, place: place.into(), columns, buffer: Vec::new(), line: 0, failed: false }
    }

    fn read(&mut self) -> Result<Option<Interval>> {
        loop {
            self.buffer.clear();
            let read = self.text.by_ref().take(LINE_MAX).read_until(b'\n', &mut self.buffer)?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if read as u64 == LINE_MAX {
                return Err(Error::data("longer than 16 MiB: no BED file has such lines"));
            }
            let line =
                std::str::from_utf8(&self.buffer).map_err(|_| Error::data("this is not text (UTF-8)"))?;
            let line = line.trim_end_matches(['\n', '\r']);
            if !is_header(line) {
                return parse(line, self.columns).map(Some);
            }
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Interval>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.read().map_err(|error| error.at(format!("{}:{}", self.place, self.line)));
        self.failed = item.is_err();
        item.transpose()
    }
}

fn is_header(line: &str) -> bool {
    let word = line.split_ascii_whitespace().next().unwrap_or("#");
    word.starts_with('#') || word == "track" || word == "browser"
}

fn parse(line: &str, columns: Columns) -> Result<Interval> {
    let mut fields = [""; 11];
    let count = match line.contains('\t') {
        true => fill(&mut fields, line.split('\t')),
        false => fill(&mut fields, line.split_ascii_whitespace()),
    };
    if count < 3 || fields[0].is_empty() {
        let shown: String = line.chars().take(60).collect();
        return Err(Error::data(format!(
            "`{shown}` has {count} columns; BED has contig, start and end at least"
        )));
    }
    let (start, end) = (position(fields[1], "start")?, position(fields[2], "end")?);
    if end < start {
        return Err(Error::data(format!("the end {end} is before the start {start}")));
    }
    let mut interval = Interval::new(fields[0], start, end);
    if columns == Columns::All {
        interval.name = Some(fields[3]).filter(|name| !matches!(*name, "" | ".")).map(String::from);
        if count >= 6 {
            interval.strand = fields[5].parse()?;
        }
        if count == 10 {
            interval.summit = summit(fields[9], end - start)?;
        }
    }
    Ok(interval)
}

/// Fills in the first fields and returns how many there are, at most one more than narrowPeak has.
fn fill<'a>(fields: &mut [&'a str; 11], values: impl Iterator<Item = &'a str>) -> usize {
    fields.iter_mut().zip(values).map(|(field, value)| *field = value).count()
}

fn position(text: &str, what: &str) -> Result<i64> {
    // Coordinates are 32 bits wide in all genomics formats but BED; this leaves room for any window.
    let number = text.trim().parse::<i64>().ok().filter(|number| (0..1 << 48).contains(number));
    let shown = || text.chars().take(30).collect::<String>();
    number.ok_or_else(|| Error::data(format!("`{}` is no {what} (a whole number, 0-based)", shown())))
}

fn summit(text: &str, length: i64) -> Result<Option<i64>> {
    match text.trim().parse::<i64>() {
        Ok(-1) => Ok(None),
        // ENCODE's own files have summits at the very end of an interval.
        Ok(summit) if (0..=length).contains(&summit) => Ok(Some(summit)),
        Ok(summit) => Err(Error::data(format!(
            "the summit {summit} (column 10) is not within the {length} bases of the interval"
        ))),
        Err(_) => Err(Error::data(format!(
            "`{text}` is no summit (column 10 of narrowPeak, an offset or -1); for BED with other columns: cut -f 1-6"
        ))),
    }
}

/// Bases of contigs, to ask whether a window overlaps any of them.
#[derive(Clone, Debug, Default)]
pub struct IntervalSet {
    /// Sorted and disjoint.
    contigs: HashMap<String, Vec<(i64, i64)>>,
}

impl IntervalSet {
    /// Returns whether there is no interval at all.
    pub fn is_empty(&self) -> bool {
        self.contigs.is_empty()
    }

    /// Returns the bases of this set and of `intervals`.
    pub fn union(self, intervals: impl Iterator<Item = Interval>) -> Self {
        let own = self.contigs.into_iter().flat_map(|(chrom, spans)| {
            spans.into_iter().map(move |(start, end)| Interval::new(chrom.clone(), start, end))
        });
        own.chain(intervals).collect()
    }

    /// Returns the contig names, in no order.
    pub fn contigs(&self) -> impl Iterator<Item = &str> {
        self.contigs.keys().map(String::as_str)
    }

    /// Returns whether `[start, end)` shares a base with the set. An empty window counts as its first base.
    pub fn overlaps(&self, chrom: &str, start: i64, end: i64) -> bool {
        let Some(intervals) = self.contigs.get(chrom) else { return false };
        let next = intervals.partition_point(|&(_, last)| last <= start);
        intervals.get(next).is_some_and(|&(first, _)| first < end.max(start + 1))
    }
}

impl FromIterator<Interval> for IntervalSet {
    fn from_iter<I: IntoIterator<Item = Interval>>(intervals: I) -> Self {
        let mut contigs: HashMap<String, Vec<(i64, i64)>> = HashMap::new();
        for Interval { chrom, start, end, .. } in intervals {
            contigs.entry(chrom).or_default().push((start, end));
        }
        for intervals in contigs.values_mut() {
            unite(intervals);
        }
        Self { contigs }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<Interval>> {
        Reader::new(text.as_bytes(), "p.bed", Columns::All).collect()
    }

    #[test]
    fn every_kind_of_line_is_read() {
        let text = "browser position chr1:1-2\ntrack name=x\n# comment\n\nchr1\t10\t20\n\
                    chr1 10 21 peak 0 -\r\nchr2\t5\t9\t.\t0\t.\t1.5\t-1\t-1\t3\nchr2\t5\t9\tp\t0\t+\t1\t2\t3\t-1";
        let intervals = read(text).unwrap();
        assert_eq!(intervals.iter().map(Interval::center).collect::<Vec<_>>(), [15, 15, 8, 7]);
        assert_eq!(intervals[1].name.as_deref(), Some("peak"));
        assert_eq!(intervals[1].strand, Strand::Reverse);
        assert_eq!((intervals[2].name.as_deref(), intervals[2].summit), (None, Some(3)));
        assert_eq!(intervals[3].summit, None);
    }

    #[test]
    fn a_malformed_line_is_named() {
        for bad in [
            "chr1\t10",
            "chr1\t-1\t5",
            "chr1\t9\t5",
            "chr1\t1.5\t5",
            "chr1\tstart\tend",
            "chr1\t1\t5\tn\t0\t&",
            "chr1\t1\t5\tn\t0\t+\t0\t0\t0\t5",
            "chr1\t1\t5\tn\t0\t+\t0\t0\t0\tx",
            "\t1\t5",
        ] {
            let outcome = read(&format!("# header\nchr1\t1\t2\n{bad}\nchr1\t3\t4\n"));
            let error = outcome.unwrap_err().to_string();
            assert!(error.starts_with("p.bed:3: "), "{error}");
        }
    }

    #[test]
    fn a_blacklist_may_have_any_further_columns() {
        let text = "chr1\t0\t5\tHigh Signal Region\t&\t?\n";
        let mut reader = Reader::new(text.as_bytes(), "b.bed", Columns::Three);
        assert_eq!(reader.next().unwrap().unwrap(), Interval::new("chr1", 0, 5));
    }

    proptest! {
        #[test]
        fn a_set_overlaps_what_one_of_its_intervals_overlaps(
            spans in prop::collection::vec((0i64..60, 1i64..12), 0..12),
            start in -5i64..70,
            width in 0i64..20,
        ) {
            let naive = spans.iter().any(|&(s, w)| (start..start + width.max(1)).any(|p| s <= p && p < s + w));
            let set: IntervalSet = spans.iter().map(|&(s, w)| Interval::new("c", s, s + w)).collect();
            prop_assert_eq!(set.overlaps("c", start, start + width), naive);
            prop_assert!(!set.overlaps("d", start, start + width));
        }
    }
}
