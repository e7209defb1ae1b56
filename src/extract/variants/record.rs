//! A variant record: what all formats have in common.

use std::fmt;

use super::genotypes::Genotypes;

/// Where a record stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The 1-based line of a text file.
    Line(u64),
    /// The 1-based number of a record, where there are no lines (BCF) or they were not counted (index).
    Record(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number}"),
            Self::Record(number) => write!(f, "record {number}"),
        }
    }
}

/// One record: a position and its alleles, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands in its file.
    pub place: Place,
    /// Contig, as the file calls it.
    pub chrom: String,
    /// 1-based position of the first base of the reference allele; 0 is the telomere before the contig.
    pub position: i64,
    /// ID; `None` where the file has `.`, nothing or no such column.
    pub id: Option<String>,
    /// The reference allele first, then the alternate alleles in their order (none where ALT is `.`).
    pub alleles: Vec<String>,
    /// One past the last base of the genome that the record is about, 0-based, where it says so (`END` in INFO)
    /// and genotypes are read.
    pub end: Option<i64>,
    /// The genotypes of the chosen samples.
    pub genotypes: Genotypes,
}

impl Record {
    /// Creates a record of nothing at a place of its file.
    pub fn at(place: Place) -> Self {
        Self {
            place,
            chrom: String::new(),
            position: 0,
            id: None,
            alleles: Vec::new(),
            end: None,
            genotypes: Genotypes::default(),
        }
    }

    /// Returns the 0-based half-open interval of the reference allele.
    pub fn span(&self) -> (i64, i64) {
        (self.position - 1, self.position - 1 + self.alleles[0].len() as i64)
    }

    /// Returns all alternate alleles by comma, `.` when there is none: the ALT column of a VCF.
    pub fn alternates(&self) -> String {
        if self.alleles.len() == 1 { ".".into() } else { self.alleles[1..].join(",") }
    }
}

/// What an allele is by its letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlleleKind {
    /// One or more of `ACGTN` in either case.
    Bases,
    /// `<DEL>`, `<*>`, `<NON_REF>`, a breakend (`N[chr1:5[`), a single breakend (`.A`, `A.`).
    Symbolic,
    /// `*`: deleted by another record.
    Spanning,
    /// Anything else: IUPAC codes, `-`, `.`.
    NotBases,
}

impl AlleleKind {
    /// Returns what `allele` is.
    pub fn of(allele: &str) -> Self {
        let bytes = allele.as_bytes();
        if !bytes.is_empty() && bytes.iter().all(|base| b"ACGTNacgtn".contains(base)) {
            Self::Bases
        } else if allele == "*" {
            Self::Spanning
        } else if allele.contains(['<', '[', ']']) || (bytes.len() > 1 && single_breakend(bytes)) {
            Self::Symbolic
        } else {
            Self::NotBases
        }
    }
}

fn single_breakend(allele: &[u8]) -> bool {
    allele.starts_with(b".") || allele.ends_with(b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alleles_are_known_by_their_letters() {
        for (alleles, kind) in [
            (&["A", "acgtn", "N"][..], AlleleKind::Bases),
            (
                &[
                    "<DEL>",
                    "<*>",
                    "<NON_REF>",
                    "<INS:ME:ALU>",
                    "N[chr1:5[",
                    "]chr1:5]N",
                    "C<ctg1>",
                    ".A",
                    "A.",
                ],
                AlleleKind::Symbolic,
            ),
            (&["*"], AlleleKind::Spanning),
            (&["R", "ACRT", "-", ".", "", "A-"], AlleleKind::NotBases),
        ] {
            for allele in alleles {
                assert_eq!(AlleleKind::of(allele), kind, "{allele}");
            }
        }
    }
}
