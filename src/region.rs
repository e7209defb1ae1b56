//! Intervals of a contig, 0-based and half-open inside, 1-based and inclusive as people write them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The strand that a sequence reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strand {
    /// As the reference is written.
    Forward,
    /// Its reverse complement.
    Reverse,
    /// Not stated; read as the reference is written.
    #[default]
    Unknown,
}

impl Strand {
    /// Returns `+`, `-` or `.`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "+",
            Self::Reverse => "-",
            Self::Unknown => ".",
        }
    }
}

impl FromStr for Strand {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "+" => Ok(Self::Forward),
            "-" => Ok(Self::Reverse),
            "." => Ok(Self::Unknown),
            other => Err(Error::data(format!("`{other}` is no strand (one of + - .)"))),
        }
    }
}

/// An interval of a contig, 0-based and half-open. `start` may be negative and `end` may pass the contig.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Region {
    /// Contig name.
    pub chrom: String,
    /// First base, 0-based.
    pub start: i64,
    /// One past the last base.
    pub end: i64,
}

impl Region {
    /// Returns the window of `width` bases with `center` at offset `width / 2`.
    ///
    /// For an even width the center is the first base of the right half, as Fi-NeMo and the BPNet family
    /// have it; for an odd width it is the middle base.
    pub fn around(chrom: impl Into<String>, center: i64, width: i64) -> Self {
        let start = center - width / 2;
        Self { chrom: chrom.into(), start, end: start + width }
    }
}

/// A region as typed: `chr1`, `chr1:100` (to the end), `chr1:100-200`, 1-based and inclusive; commas in
/// numbers are ignored. `end` is `i64::MAX` where the text leaves it open.
impl FromStr for Region {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::usage(format!(
                "`{text}` is no region: write chr1, chr1:100 or chr1:100-200 (1-based, inclusive)"
            ))
        };
        let number = |text: &str| text.replace(',', "").parse::<i64>().ok().filter(|&n| n > 0);
        // A contig name may hold colons (HLA alleles); only what parses as a range is one.
        let Some((chrom, range)) = text.rsplit_once(':') else {
            return Ok(Self { chrom: text.into(), start: 0, end: i64::MAX });
        };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first).ok_or_else(bad)?, number(last).ok_or_else(bad)?),
            None => (number(range).ok_or_else(bad)?, i64::MAX),
        };
        if chrom.is_empty() || last < first {
            return Err(bad());
        }
        Ok(Self { chrom: chrom.into(), start: first - 1, end: last })
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}-{}", self.chrom, self.start + 1, self.end)
    }
}

/// Sorts half-open ranges and unites those that overlap or touch.
pub fn unite<T: Ord + Copy>(ranges: &mut Vec<(T, T)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let meets = next.0 <= kept.1;
        if meets {
            kept.1 = kept.1.max(next.1);
        }
        meets
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_regions_are_one_based_and_inclusive() {
        let region: Region = "chr1:1-1,000".parse().unwrap();
        assert_eq!(region, Region { chrom: "chr1".into(), start: 0, end: 1000 });
        assert_eq!(region.to_string(), "chr1:1-1000");
        assert_eq!("chr1:5".parse::<Region>().unwrap().start, 4);
        assert_eq!("chrX".parse::<Region>().unwrap().end, i64::MAX);
        for bad in ["chr1:0-5", "chr1:9-5", ":1-2", "chr1:a-b"] {
            assert_eq!(bad.parse::<Region>().unwrap_err().exit_status(), 2, "{bad}");
        }
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let mut ranges = vec![(7, 9), (0, 2), (1, 5), (5, 6), (8, 8)];
        unite(&mut ranges);
        assert_eq!(ranges, [(0, 6), (7, 9)]);
    }

    #[test]
    fn an_even_window_has_its_center_right_of_the_middle() {
        assert_eq!(Region::around("c", 500, 1000).start, 0);
        assert_eq!(Region::around("c", 2, 5), Region { chrom: "c".into(), start: 0, end: 5 });
    }
}
