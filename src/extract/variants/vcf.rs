//! VCF text. Only the first five columns are read, so neither a header that other programs refuse nor a
//! thousand genotypes stand in the way; the number of columns is checked, for a line cut short shows there.

use std::io::BufRead;

use super::record::{Place, Record};
use super::table::{Layout, Lines};
use crate::error::{Error, Result};

/// Fewest columns of a VCF record.
const COLUMNS_MIN: usize = 8;

/// Records of a VCF.
pub struct Vcf<R> {
    lines: Lines<R>,
    /// Columns of the `#CHROM` line.
    columns: Option<usize>,
    records: u64,
    counted: bool,
}

impl<R: BufRead> Vcf<R> {
    /// Reads a VCF from its first line.
    pub fn new(reader: R) -> Self {
        Self { lines: Lines::new(reader), columns: None, records: 0, counted: true }
    }

    /// Reads records from somewhere inside a VCF whose `#CHROM` line has `columns` columns.
    pub fn inside(reader: R, columns: Option<usize>) -> Self {
        Self { lines: Lines::new(reader), columns, records: 0, counted: false }
    }

    /// Reads the header up to its `#CHROM` line and returns the number of columns there.
    pub fn read_columns(&mut self) -> Result<Option<usize>> {
        while let Some(line) = self.lines.advance()? {
            if line.starts_with(b"#CHROM") {
                self.columns = Some(count_columns(line));
                return Ok(self.columns);
            }
            if !line.starts_with(b"#") {
                break;
            }
        }
        Ok(None)
    }

    fn place(&self) -> Place {
        if self.counted { Place::Line(self.lines.number()) } else { Place::Record(self.records) }
    }

    fn read(&mut self) -> Result<Option<Record>> {
        while let Some(line) = self.lines.advance()? {
            if line.starts_with(b"#CHROM") {
                self.columns = Some(count_columns(line));
            } else if !line.starts_with(b"#") {
                self.records += 1;
                return self.parse().map(Some).map_err(|error| error.at(self.place().to_string()));
            }
        }
        Ok(None)
    }

    fn parse(&self) -> Result<Record> {
        let line = self.lines.current();
        let columns = count_columns(line);
        let wanted = self.columns.unwrap_or(COLUMNS_MIN);
        if columns < wanted || self.columns.is_some_and(|wanted| columns > wanted) {
            return Err(Error::data(format!(
                "{columns} columns, {}{wanted}: the line is cut or its columns are not separated by TAB",
                if self.columns.is_some() { "the #CHROM line has " } else { "a VCF has at least " },
            )));
        }
        Layout::VCF.parse(line, self.place())
    }
}

fn count_columns(line: &[u8]) -> usize {
    1 + line.iter().filter(|&&byte| byte == b'\t').count()
}

impl<R: BufRead> Iterator for Vcf<R> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "##fileformat=VCFv4.2\n##INFO=<broken\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";

    fn read(text: &str) -> Vec<Result<Record>> {
        Vcf::new(text.as_bytes()).collect()
    }

    #[test]
    fn a_header_that_is_not_quite_right_does_not_matter() {
        let records = read(&format!("{HEAD}chr1\t5\t.\tA\tC\t.\t.\t.\nchr1\t4\t.\tA\tC\t.\t.\tX"));
        let places: Vec<_> = records.into_iter().map(|record| record.unwrap().place).collect();
        assert_eq!(places, [Place::Line(4), Place::Line(5)]);
        assert_eq!(read("chr1\t5\t.\tA\tC\t.\t.\t.\n").len(), 1);
        assert_eq!(read(HEAD).len(), 0);
    }

    #[test]
    fn a_line_cut_short_is_an_error_with_its_number() {
        let whole = format!("{HEAD}chr1\t5\t.\tA\tC\t.\t.\t.\n");
        let tabs = whole.match_indices('\t').map(|(at, _)| at).filter(|&at| at > HEAD.len());
        for cut in tabs {
            let error = read(&whole[..cut]).pop().unwrap().unwrap_err().to_string();
            assert!(error.starts_with("line 4: ") && error.contains("columns"), "{error}");
        }
    }
}
