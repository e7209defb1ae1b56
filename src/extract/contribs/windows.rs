//! Where the rows lie: windows around the summits of a narrowPeak file.

use std::io::BufRead;
use std::path::Path;

use crate::error::{Error, InFile, Result};
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
/// The summit of a peak without one (−1) is the middle of the peak.
///
/// # Errors
///
/// A line that is no narrowPeak line, by its number.
pub fn around_summits(path: &Path, width: usize) -> Result<Vec<Window>> {
    let mut windows = Vec::new();
    for (number, line) in input::open_text(path)?.lines().enumerate() {
        let line = line.in_file(path)?;
        let line = line.trim_end_matches('\r');
        if line.is_empty() || ["#", "track", "browser"].iter().any(|start| line.starts_with(start)) {
            continue;
        }
        let window = window(windows.len() as u64, line, width);
        windows.push(window.map_err(|error| error.at(format!("{}:{}", path.display(), number + 1)))?);
    }
    Ok(windows)
}

fn window(region: u64, line: &str, width: usize) -> Result<Window> {
    let columns: Vec<&str> = line.split('\t').collect();
    if columns.len() < 10 {
        let message = "a narrowPeak line has 10 columns, by tabs; this one has";
        return Err(Error::data(format!("{message} {}", columns.len())));
    }
    let number = |index: usize| {
        let text = columns[index];
        text.parse::<i64>().map_err(|_| Error::data(format!("column {}: `{text}` is no number", index + 1)))
    };
    let (start, end, summit) = (number(1)?, number(2)?, number(9)?);
    let center = if summit < 0 { start + (end - start) / 2 } else { start + summit };
    let name = Some(columns[3]).filter(|name| *name != "." && !name.is_empty());
    let around = Region::around(columns[0], center, width as i64);
    Ok(Window { region, chrom: Some(around.chrom), start: around.start, name: name.map(str::to_string) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_its_summit_in_the_center() {
        let line = |summit: &str| format!("chr1\t100\t201\t.\t0\t.\t1\t-1\t-1\t{summit}");
        assert_eq!(window(0, &line("12"), 1000).unwrap().start, 100 + 12 - 500);
        assert_eq!(window(0, &line("12"), 101).unwrap().start, 100 + 12 - 50);
        assert_eq!(window(0, &line("-1"), 10).unwrap().start, 150 - 5);
        assert_eq!(window(0, &line("1"), 10).unwrap().name, None);
        assert!(window(0, &line("x"), 10).unwrap_err().to_string().contains("column 10"));
        assert!(window(0, "chr1\t1\t2", 10).unwrap_err().to_string().contains("10 columns"));
    }
}
