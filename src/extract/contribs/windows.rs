//! Where the rows lie: windows around the summits of a narrowPeak file.

use std::path::Path;

use crate::error::Result;
use crate::genome::bed::{self, Columns, Interval};
use crate::input;
use crate::region::Region;

/// The identity of a row; its width is that of all rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Row of the peaks file.
    pub region: u64,
    /// Contig; `None` when coordinates are unknown.
    pub chrom: Option<String>,
    /// First base, 0-based; negative when the window starts before its contig.
    pub start: i64,
    /// Name of the peak.
    pub name: Option<String>,
}

impl Window {
    /// Returns the identity of row `region` without coordinates.
    pub fn unknown(region: u64) -> Self {
        Self { region, chrom: None, start: 0, name: None }
    }

    /// Returns how an error calls a row.
    pub fn place(&self) -> String {
        match &self.chrom {
            Some(chrom) => format!("region {} at {chrom}:{}", self.region, self.start + 1),
            None => format!("region {}", self.region),
        }
    }
}

/// Reads the windows of `width` bases around the summits of the narrowPeak file at `path`, in file order.
///
/// A peak without a summit, as every line of a BED file, has its middle as center.
///
/// # Errors
///
/// A malformed line, by its number.
pub fn around_summits(path: &Path, width: usize) -> Result<Vec<Window>> {
    let text = input::open_text(path)?;
    let peaks = bed::Reader::new(text, path.display().to_string(), Columns::All);
    peaks.zip(0..).map(|(peak, region)| Ok(around(peak?, region, width))).collect()
}

fn around(peak: Interval, region: u64, width: usize) -> Window {
    let Region { chrom, start, .. } = Region::around(peak.chrom.as_str(), peak.center(), width as i64);
    Window { region, chrom: Some(chrom), start, name: peak.name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_its_summit_in_the_center() {
        let peak = |summit| Interval { summit, ..Interval::new("chr1", 100, 201) };
        assert_eq!(around(peak(Some(12)), 0, 1000).start, 100 + 12 - 500);
        assert_eq!(around(peak(Some(12)), 0, 101).start, 100 + 12 - 50);
        assert_eq!(around(peak(None), 0, 10).start, 150 - 5);
    }
}
