//! Variant tables: columns named by a header line, or a schema of fixed columns.
//!
//! | schema | columns | position |
//! |---|---|---|
//! | `plain` | chrom pos ref alt \[id\] | 1-based |
//! | `chrombpnet` | chr pos allele1 allele2 \[rsid\] | 1-based |
//! | `original` | chr pos rsid allele1 allele2 | 1-based |
//! | `plink` | chr rsid (ignored) pos allele1 allele2 | 1-based |
//! | `bed` | chr start (end) allele1 allele2 \[rsid\] | 0-based start |
//!
//! The last four are those of variant-scorer; allele1 is the reference. A header line that names its
//! columns wins over the schema. `alt` may hold several alleles by comma where TAB separates the columns.

use std::io::BufRead;

use super::record::{AlleleKind, Place, Record};
use super::table::{Layout, Lines, Separator};
use crate::error::{Error, Result};

/// The columns of a table without a header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// chrom pos ref alt \[id\].
    Plain,
    /// chr pos rsid allele1 allele2.
    Original,
    /// chr rsid (ignored) pos allele1 allele2.
    Plink,
    /// chr start (end) allele1 allele2 \[rsid\], 0-based.
    Bed,
    /// chr pos allele1 allele2 \[rsid\].
    Chrombpnet,
}

impl Schema {
    /// Returns the columns of the schema.
    pub fn layout(self, separator: Separator) -> Layout {
        let plain =
            Layout { separator, chrom: 0, position: 1, base: 1, id: Some(4), reference: 2, alternate: 3 };
        match self {
            Self::Plain | Self::Chrombpnet => plain,
            Self::Original => Layout { id: Some(2), reference: 3, alternate: 4, ..plain },
            Self::Plink => Layout { position: 3, id: Some(1), reference: 4, alternate: 5, ..plain },
            Self::Bed => Layout { base: 0, id: Some(5), reference: 3, alternate: 4, ..plain },
        }
    }

    /// Returns the schema that a line fits: whole numbers where positions are, alleles where alleles are.
    fn guess(fields: &[&str]) -> Option<Self> {
        let number = |index: usize| fields.get(index).is_some_and(|field| field.parse::<i64>().is_ok());
        let allele = |index: usize| fields.get(index).is_some_and(|field| like_alleles(field));
        if number(1) && number(2) && allele(3) && allele(4) {
            Some(Self::Bed)
        } else if !number(1) && number(3) && allele(4) && allele(5) {
            Some(Self::Plink)
        } else if number(1) && allele(2) && allele(3) {
            Some(Self::Plain)
        } else if number(1) && allele(3) && allele(4) {
            Some(Self::Original)
        } else {
            None
        }
    }
}

fn like_alleles(field: &str) -> bool {
    field == "-"
        || field.split(',').all(|allele| match AlleleKind::of(allele) {
            AlleleKind::NotBases => {
                !allele.is_empty()
                    && allele.bytes().all(|b| b"ACGTRYSWKMBDHVN".contains(&b.to_ascii_uppercase()))
            }
            _ => true,
        })
}

/// Records of a table.
pub struct Tsv<R> {
    lines: Lines<R>,
    layout: Layout,
    /// Whether the line last read is a record that was not returned yet.
    waiting: bool,
}

impl<R: BufRead> Tsv<R> {
    /// Reads the first line: a header, or a record that shows the schema if `schema` does not state it.
    ///
    /// # Errors
    ///
    /// When the schema is neither stated nor to be seen.
    pub fn new(reader: R, schema: Option<Schema>) -> Result<Self> {
        let mut lines = Lines::new(reader);
        let empty = Schema::Plain.layout(Separator::Tab);
        while let Some(line) = lines.advance()? {
            let separator = separator_of(line);
            let text = String::from_utf8_lossy(line).into_owned();
            let fields: Vec<&str> = fields(&text, separator);
            if let Some(layout) = layout_of_header(&fields, separator) {
                return Ok(Self { lines, layout, waiting: false });
            }
            if text.starts_with('#') {
                continue;
            }
            let layout = match schema.or_else(|| Schema::guess(&fields)) {
                Some(schema) => schema.layout(separator),
                None => return Err(unknown(&fields).at(Place::Line(lines.number()).to_string())),
            };
            return Ok(Self { lines, layout, waiting: true });
        }
        Ok(Self { lines, layout: empty, waiting: false })
    }

    fn read(&mut self) -> Result<Option<Record>> {
        while self.waiting || self.lines.advance()?.is_some() {
            self.waiting = false;
            let line = self.lines.current();
            if line.starts_with(b"#") {
                continue;
            }
            let place = Place::Line(self.lines.number());
            return self.layout.parse(line, place).map(Some).map_err(|error| error.at(place.to_string()));
        }
        Ok(None)
    }
}

impl<R: BufRead> Iterator for Tsv<R> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

fn separator_of(line: &[u8]) -> Separator {
    if line.contains(&b'\t') {
        Separator::Tab
    } else if line.contains(&b',') {
        Separator::Comma
    } else {
        Separator::Blank
    }
}

fn fields(text: &str, separator: Separator) -> Vec<&str> {
    separator.split(text.as_bytes()).filter_map(|field| std::str::from_utf8(field).ok()).collect()
}

/// Returns the columns that a header line names, or `None` when the line is none.
fn layout_of_header(fields: &[&str], separator: Separator) -> Option<Layout> {
    let names: Vec<String> =
        fields.iter().map(|field| field.trim_start_matches('#').trim_matches('"').to_lowercase()).collect();
    let find = |known: &[&str]| known.iter().find_map(|name| names.iter().position(|found| found == name));
    let one_based = find(&["pos", "position", "bp", "pos_1based", "pos1"]);
    let zero_based = find(&["start", "chromstart", "pos0"]);
    Some(Layout {
        separator,
        chrom: find(&["chrom", "chr", "chromosome", "contig", "seqnames"])?,
        position: one_based.or(zero_based)?,
        base: i64::from(one_based.is_some()),
        id: find(&["variant_id", "rsid", "id", "snp", "name", "variant"]),
        reference: find(&["ref", "reference", "ref_allele", "reference_allele", "allele1"])?,
        alternate: find(&["alt", "alternate", "alt_allele", "alternate_allele", "allele2"])?,
    })
}

fn unknown(fields: &[&str]) -> Error {
    let line: String = fields.join(" ").chars().take(60).collect();
    Error::data(format!(
        "`{line}` shows no known columns: name them in a header line (chrom pos ref alt id) or state \
         `--schema plain|original|plink|bed|chrombpnet`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, schema: Option<Schema>) -> Vec<(String, i64, Option<String>, Vec<String>)> {
        let records = Tsv::new(text.as_bytes(), schema).unwrap();
        records.map(|r| r.unwrap()).map(|r| (r.chrom, r.position, r.id, r.alleles)).collect()
    }

    #[test]
    fn one_variant_is_the_same_in_every_schema() {
        let expected = vec![("chr1".into(), 976215, Some("rs7".into()), vec!["A".to_string(), "G".into()])];
        for (schema, line) in [
            (Schema::Plain, "chr1\t976215\tA\tG\trs7\n"),
            (Schema::Chrombpnet, "chr1\t976215\tA\tG\trs7"),
            (Schema::Original, "chr1\t976215\trs7\tA\tG\n"),
            (Schema::Plink, "chr1\trs7\t0\t976215\tA\tG\n"),
            (Schema::Bed, "chr1\t976214\t976215\tA\tG\trs7\n"),
        ] {
            assert_eq!(read(line, None), expected, "guessed {schema:?}");
            assert_eq!(read(line, Some(schema)), expected, "{schema:?}");
            assert_eq!(read(&line.replace('\t', " "), None), expected, "blanks, {schema:?}");
            assert_eq!(read(&line.replace('\t', ","), None), expected, "commas, {schema:?}");
        }
    }

    #[test]
    fn a_header_line_wins() {
        let expected = read("chr1\t5\tA\tG\trs7", None);
        for text in [
            "id\talt\tref\tpos\tchrom\nrs7\tG\tA\t5\tchr1\n",
            "# note\n#CHROM\tPOS\tID\tREF\tALT\nchr1\t5\trs7\tA\tG\n",
            "chr,start,end,allele1,allele2,rsid\nchr1,4,5,A,G,rs7\n",
        ] {
            assert_eq!(read(text, Some(Schema::Plink)), expected, "{text}");
        }
    }

    #[test]
    fn several_alternates_and_a_missing_id_are_fine() {
        let records = read("chr1\t5\tA\tG,T\nchr1\t6\tAC\tA\t.\n", None);
        assert_eq!(records[0].3, ["A", "G", "T"]);
        assert_eq!((&records[0].2, &records[1].2), (&None, &None));
    }

    #[test]
    fn columns_that_nobody_knows_are_refused() {
        let error = Tsv::new(&b"hello world\n"[..], None).err().unwrap().to_string();
        assert!(error.starts_with("line 1: ") && error.contains("--schema"), "{error}");
        let error = Tsv::new(&b"chr1\t5\tA\tC\nchr1\t5\n"[..], None).unwrap().last().unwrap().unwrap_err();
        assert!(error.to_string().starts_with("line 2: "), "{error}");
        assert_eq!(Tsv::new(&b""[..], None).unwrap().count(), 0);
    }
}
