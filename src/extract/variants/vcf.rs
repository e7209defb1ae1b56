//! VCF text. Only the first five columns are read, so neither a header that other programs refuse nor a
//! thousand genotypes stand in the way; the number of columns is checked, for a line cut short shows there.
//! With chosen samples their genotypes and `END` of INFO are read, too.

use std::io::BufRead;

use super::genotypes::{self, Chosen, Genotypes, Samples};
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
    /// The samples whose genotypes are read.
    chosen: Chosen,
}

/// First column of the genotypes; the one before says what is in them.
const GENOTYPES: usize = 9;

impl<R: BufRead> Vcf<R> {
    /// Reads a VCF from its first line.
    pub fn new(reader: R) -> Self {
        let chosen = Chosen::default();
        Self { lines: Lines::new(reader), columns: None, records: 0, counted: true, chosen }
    }

    /// Reads a VCF from its first line, with the genotypes of `samples`.
    ///
    /// # Errors
    ///
    /// When its header does not have them.
    pub fn with_samples(reader: R, samples: &Samples) -> Result<Self> {
        let mut vcf = Self::new(reader);
        if *samples == Samples::None {
            return Ok(vcf);
        }
        if vcf.read_columns()?.is_none() {
            return Err(Error::data("the VCF has no #CHROM line, so nobody knows its samples"));
        }
        let line = String::from_utf8_lossy(vcf.lines.current()).into_owned();
        vcf.chosen = samples.choose(&line.split('\t').skip(GENOTYPES).collect::<Vec<_>>())?;
        Ok(vcf)
    }

    /// Reads records from somewhere inside a VCF whose `#CHROM` line has `columns` columns, with the
    /// genotypes of the `chosen` samples.
    pub fn inside(reader: R, columns: Option<usize>, chosen: Chosen) -> Self {
        Self { lines: Lines::new(reader), columns, records: 0, counted: false, chosen }
    }

    /// Returns the number of columns, when the `#CHROM` line was read, and the chosen samples.
    pub fn into_header(self) -> (Option<usize>, Chosen) {
        (self.columns, self.chosen)
    }

    /// Returns the names of the chosen samples.
    pub fn samples(&self) -> &[String] {
        &self.chosen.names
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
        if self.counted && self.columns.is_none() && self.records == 0 {
            return Err(Error::data(
                "the VCF ends inside its header, before the #CHROM line: it is truncated",
            ));
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
        let mut record = Layout::VCF.parse(line, self.place())?;
        if !self.chosen.names.is_empty() {
            self.add_genotypes(line, &mut record)?;
        }
        Ok(record)
    }

    /// Adds the genotypes of the chosen samples, and the end that INFO states.
    fn add_genotypes(&self, line: &[u8], record: &mut Record) -> Result<()> {
        let mut columns = line.split(|&byte| byte == b'\t');
        let info = columns.nth(7).unwrap_or_default();
        record.end = Some(stated_end(info).unwrap_or(0).max(record.span().1));
        let format = columns.next().unwrap_or_default();
        record.genotypes = Genotypes::missing(self.chosen.names.len());
        let Some(index) = format.split(|&byte| byte == b':').position(|key| key == b"GT") else {
            return Ok(());
        };
        let mut alleles = Vec::new();
        for (column, place) in columns.zip(&self.chosen.places) {
            let Some(place) = *place else { continue };
            let text = column.split(|&byte| byte == b':').nth(index).unwrap_or(b".");
            let phased = genotypes::parse(text, &mut alleles)?;
            record.genotypes.set(place, &alleles, phased);
        }
        record.genotypes.check(record.alleles.len())
    }
}

/// Returns `END` of an INFO column: 1-based and inclusive there, so one past the last base when 0-based.
fn stated_end(info: &[u8]) -> Option<i64> {
    let value = info.split(|&byte| byte == b';').find_map(|field| field.strip_prefix(b"END="))?;
    std::str::from_utf8(value).ok()?.parse().ok()
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
        let cut = Vcf::new(
            &b"##fileformat=VCFv4.2
"[..],
        )
        .next();
        assert!(cut.unwrap().is_err(), "a header that is cut is no VCF without records");
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
