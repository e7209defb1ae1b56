//! The index of a FASTA file as `samtools faidx` makes it: where each contig begins and how long its lines
//! are.

use std::collections::HashSet;
use std::fmt::Write;
use std::io::{BufRead, Read};

use crate::error::{Error, Result};

/// Bytes of a line taken at once.
const PIECE: u64 = 1 << 16;

/// Bytes that the name of a contig may have.
const NAME_MAX: usize = 1 << 12;

/// A contig of a FASTA file, one line of its `.fai`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contig {
    /// The first word of its header.
    pub name: String,
    /// Length in bases.
    pub length: u64,
    /// Offset in the (inflated) file of its first base.
    pub offset: u64,
    /// Bases in a line.
    pub line_bases: u64,
    /// Bytes in a line, with its end.
    pub line_width: u64,
}

impl Contig {
    /// Returns the offset in the file of the base at `position`, 0-based.
    ///
    /// The contig must not be empty.
    pub fn offset_of(&self, position: u64) -> u64 {
        self.offset + position / self.line_bases * self.line_width + position % self.line_bases
    }

    /// Returns the offset in the file behind its last base; where its bases would begin when it has none.
    pub fn end(&self) -> u64 {
        match self.length.checked_sub(1) {
            Some(last) => self.offset_of(last) + 1,
            None => self.offset,
        }
    }

    /// Returns whether the lines can be, and end somewhere in a file: what [`Contig::offset_of`] computes is then a
    /// number.
    fn is_sound(&self) -> bool {
        if self.line_bases == 0 {
            return self.length == 0;
        }
        let end = (self.length / self.line_bases + 1)
            .checked_mul(self.line_width)
            .and_then(|bytes| bytes.checked_add(self.offset)?.checked_add(self.line_bases));
        self.line_width >= self.line_bases && end.is_some_and(|end| end < 1 << 62)
    }
}

/// Reads an index. `None` when the text is not one.
pub fn parse(text: &str) -> Option<Vec<Contig>> {
    let contigs: Vec<Contig> = text.lines().map(parse_line).collect::<Option<_>>()?;
    let mut names = HashSet::new();
    // One of two contigs of a name would be read for the other.
    contigs.iter().all(|contig| names.insert(contig.name.as_str())).then_some(contigs)
}

fn parse_line(line: &str) -> Option<Contig> {
    let mut fields = line.split('\t');
    let name = fields.next()?.to_string();
    let mut number = || fields.next()?.parse::<u64>().ok();
    let contig =
        Contig { name, length: number()?, offset: number()?, line_bases: number()?, line_width: number()? };
    contig.is_sound().then_some(contig)
}

/// Writes an index.
pub fn format(contigs: &[Contig]) -> String {
    let mut text = String::new();
    for Contig { name, length, offset, line_bases, line_width } in contigs {
        writeln!(text, "{name}\t{length}\t{offset}\t{line_bases}\t{line_width}").expect("strings grow");
    }
    text
}

/// Makes the index of FASTA text; returns what to warn of, too.
///
/// Like samtools it takes any line ends, blank lines between contigs, contigs without bases, and the first of
/// contigs with the same name.
///
/// # Errors
///
/// When lines of a contig differ in length (all but its last), so that its bases have no computable place; the
/// error names the line. When there is no contig at all.
pub fn build(mut text: impl BufRead) -> Result<(Vec<Contig>, Vec<String>)> {
    let mut indexer = Indexer::default();
    let mut line = Line::default();
    let mut piece = Vec::new();
    while text.by_ref().take(PIECE).read_until(b'\n', &mut piece)? > 0 {
        line.add(&piece);
        if piece.ends_with(b"\n") {
            indexer.add(&std::mem::take(&mut line))?;
        }
        piece.clear();
    }
    if line.width > 0 {
        indexer.add(&line)?;
    }
    indexer.finish()
}

/// What the index needs of a line, which may be a whole chromosome.
#[derive(Default)]
struct Line {
    /// What follows the `>` of a header.
    header: Option<Vec<u8>>,
    /// Bytes, with the line's end.
    width: u64,
    /// Bytes up to the last that is not blank.
    bases: u64,
    /// Whether there are blanks before that.
    broken: bool,
}

impl Line {
    fn add(&mut self, piece: &[u8]) {
        let mut rest = piece;
        if self.width == 0 && piece.starts_with(b">") {
            self.header = Some(Vec::new());
            rest = &piece[1..];
        }
        if let Some(header) = &mut self.header {
            // The name is its first word; what follows may be long and is of no interest.
            header.extend_from_slice(&rest[..rest.len().min((2 * NAME_MAX).saturating_sub(header.len()))]);
        }
        let end = piece.trim_ascii_end().len();
        if end > 0 {
            self.broken |= self.bases < self.width || piece[..end].iter().any(|&byte| byte <= b' ');
            self.bases = self.width + end as u64;
        }
        self.width += piece.len() as u64;
    }
}

#[derive(Default)]
struct Indexer {
    contigs: Vec<Contig>,
    names: HashSet<String>,
    warnings: Vec<String>,
    open: Option<Contig>,
    /// Line and bases of the line of the open contig after which no bases may follow.
    last_line: Option<(u64, u64)>,
    line: u64,
    offset: u64,
}

impl Indexer {
    fn add(&mut self, line: &Line) -> Result<()> {
        self.line += 1;
        self.offset += line.width;
        match &line.header {
            Some(header) => self.begin(header),
            None if line.bases > 0 => self.add_bases(line),
            None => {
                // Blank lines may end a contig, but nothing may follow them.
                self.last_line.get_or_insert((self.line, 0));
                Ok(())
            }
        }
    }

    fn begin(&mut self, header: &[u8]) -> Result<()> {
        self.close();
        let word = header.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()).unwrap_or_default();
        if word.len() > NAME_MAX {
            return Err(Error::data(format!(
                "line {}: a contig's name of more than 4096 letters",
                self.line
            )));
        }
        let name = String::from_utf8(word.to_vec())
            .map_err(|_| Error::data(format!("line {}: the contig's name is not UTF-8", self.line)))?;
        self.open = Some(Contig { name, length: 0, offset: self.offset, line_bases: 0, line_width: 0 });
        self.last_line = None;
        Ok(())
    }

    fn add_bases(&mut self, line: &Line) -> Result<()> {
        let (number, bases, width) = (self.line, line.bases, line.width);
        let Some(contig) = &mut self.open else {
            return Err(Error::data(format!("line {number}: bases before the first `>` header")));
        };
        if line.broken {
            return Err(Error::data(format!("line {number}: blanks within the bases of `{}`", contig.name)));
        }
        if let Some((last, found)) = self.last_line {
            return Err(uneven(contig, last, found));
        }
        if contig.line_bases == 0 {
            (contig.line_bases, contig.line_width) = (bases, width);
        } else if bases > contig.line_bases {
            return Err(uneven(contig, number, bases));
        } else if (bases, width) != (contig.line_bases, contig.line_width) {
            self.last_line = Some((number, bases));
        }
        contig.length += bases;
        Ok(())
    }

    fn close(&mut self) {
        let Some(contig) = self.open.take() else { return };
        if self.names.insert(contig.name.clone()) {
            self.contigs.push(contig);
        } else {
            let name = &contig.name;
            self.warnings.push(format!("contig `{name}` occurs more than once; only the first is used"));
        }
    }

    fn finish(mut self) -> Result<(Vec<Contig>, Vec<String>)> {
        self.close();
        if self.contigs.is_empty() {
            return Err(Error::data("there is no `>` header in the file: it is not FASTA"));
        }
        Ok((self.contigs, self.warnings))
    }
}

fn uneven(contig: &Contig, line: u64, found: u64) -> Error {
    let Contig { name, line_bases, .. } = contig;
    Error::data(format!(
        "line {line}: {found} bases (or another line end) where the lines of `{name}` have {line_bases}; only \
         its last line may be shorter. Wrap it anew, as `seqkit seq -w 60` does"
    ))
}

#[cfg(test)]
mod tests {

    use super::*;

    fn index(text: &str) -> Vec<Contig> {
        build(text.as_bytes()).unwrap().0
    }

    #[test]
    fn the_index_is_the_one_that_samtools_makes() {
        let Some(cases) = crate::testing::shared("data/benchmarks/peer_cases/htslib_faidx") else { return };
        let fasta = std::fs::read(cases.join("faidx.fa")).unwrap();
        let expected = std::fs::read_to_string(cases.join("faidx.fa.expected.fai")).unwrap();
        let (contigs, _) = build(&fasta[..]).unwrap();
        assert_eq!(format(&contigs), expected);
        assert_eq!(parse(&expected).unwrap(), contigs);
    }

    #[test]
    fn any_line_end_will_do() {
        for text in [">a x\nACGT\nAC\n", ">a\nACGT\nAC", ">a\nACGT\nAC\n\n\n"] {
            assert_eq!((index(text)[0].length, index(text)[0].line_width), (6, 5), "{text:?}");
        }
        assert_eq!(index(">a\r\nACGT\r\nAC\r\n")[0].line_width, 6);
        assert_eq!(index(">a\nACGT")[0].line_width, 4);
    }

    #[test]
    fn a_long_line_is_measured_in_pieces() {
        let long = "A".repeat(3 * PIECE as usize - 1);
        for (text, width) in [(format!(">a\n{long}\n{long}\nA\n"), 1), (format!(">a\r\n{long}\r\nA"), 2)] {
            let contig = &index(&text)[0];
            assert_eq!(
                (contig.line_bases, contig.line_width),
                (long.len() as u64, long.len() as u64 + width)
            );
            assert_eq!(contig.length, text.matches('A').count() as u64);
        }
        let broken = format!(">a\n{}{}A\n", "A".repeat(PIECE as usize - 1), " ");
        assert!(build(broken.as_bytes()).unwrap_err().to_string().contains("line 2: blanks"));
    }

    #[test]
    fn an_empty_contig_has_no_bases_and_is_kept() {
        let contigs = index(">a\n>b\nAC\n>c\n");
        assert_eq!(contigs.iter().map(|contig| contig.length).collect::<Vec<_>>(), [0, 2, 0]);
        assert_eq!(parse(&format(&contigs)).unwrap(), contigs);
    }

    #[test]
    fn uneven_lines_are_named() {
        for (text, line) in [
            (">a\nACGT\nAC\nACGT\n", "line 3"),
            (">a\nACGT\nACGTA\n", "line 3"),
            (">a\nACGT\n\nACGT\n", "line 3"),
            (">a\nACGT\nACGT\r\nAC\n", "line 3"),
            (">a\n\nACGT\n", "line 2"),
            (">a\nAC GT\n", "line 2"),
            ("ACGT\n>a\n", "line 1"),
        ] {
            let error = build(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(line), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_first_of_two_contigs_of_one_name_counts() {
        let (contigs, warnings) = build(&b">a\nAC\n>a\nACGT\n"[..]).unwrap();
        assert_eq!((contigs.len(), contigs[0].length), (1, 2));
        assert!(warnings[0].contains("`a`"));
    }

    #[test]
    fn what_is_no_index_is_not_read_as_one() {
        for text in [
            "a\t2\t3\t2\t3\na\t2\t9\t2\t3\n",
            "a\t1\t2\t3\n",
            "a\t1\t2\t0\t0\n",
            "a\t9\t2\t5\t4\n",
            "a\tx\t2\t5\t6\n",
            "\n",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        // Places that no file has: as numbers of 64 bits they would wrap around.
        for text in [
            "a\t18446744073709551615\t2\t5\t6\n",
            "a\t9223372036854775807\t2\t1\t2\n",
            "a\t9\t18446744073709551610\t5\t6\n",
            "a\t9\t2\t5\t18446744073709551615\n",
            "a\t9\t2\t9223372036854775807\t9223372036854775807\n",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
