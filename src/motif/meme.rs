//! MEME text.

use std::collections::HashSet;
use std::fmt::Write;
use std::io::BufRead;
use std::path::Path;

use super::{Matrix, Pattern};
use crate::error::{Error, InFile, Result};
use crate::input::{open_text, small};

/// A motif of a MEME file.
#[derive(Clone, Debug, PartialEq)]
pub struct Motif {
    /// The first word after `MOTIF`.
    pub identifier: String,
    /// The second word, if there is one.
    pub alternate: Option<String>,
    /// Probabilities, 4 × W, each column of sum 1.
    pub ppm: Matrix,
    /// Number of sites; 20 where the file does not say, as MEME assumes.
    pub sites: f64,
    /// Background frequencies of A, C, G, T.
    pub background: [f64; 4],
}

impl Motif {
    /// Returns the motif as a CWM: the probability times the information content of its column in bits
    /// against the background, `p[b] · Σ_a p[a] log2(p[a] / background[a])` — the letter heights of a logo.
    pub fn pattern(&self) -> Pattern {
        let columns: Vec<[f64; 4]> = (0..self.ppm.width())
            .map(|position| {
                let column: [f64; 4] = std::array::from_fn(|base| self.ppm.at(base, position));
                let bits: f64 = column.iter().zip(self.background).map(|(&p, q)| relative_bits(p, q)).sum();
                column.map(|p| p * bits.max(0.0))
            })
            .collect();
        Pattern { tag: self.identifier.clone(), cwm: Matrix::from_columns(&columns), hypothetical: None }
    }
}

fn relative_bits(p: f64, background: f64) -> f64 {
    if p > 0.0 { p * (p / background).log2() } else { 0.0 }
}

/// Reads the motifs of a MEME file (version 3 and later, text form) from its letter-probability matrices.
///
/// # Errors
///
/// With file and line: no MEME header, no motif, a motif without a matrix, a row that is not four
/// probabilities, an alphabet other than ACGT, an identifier that occurs twice.
pub fn read(path: &Path) -> Result<Vec<Motif>> {
    parse(small(open_text(path)?)).in_file(path)
}

/// Reads motifs from MEME text: see [`read`].
pub fn parse(mut text: impl BufRead) -> Result<Vec<Motif>> {
    let mut parser = Parser::default();
    let (mut line, mut number) = (String::new(), 0);
    while text.read_line(&mut line)? > 0 {
        number += 1;
        parser.line(&line).map_err(|error| error.at(format!("line {number}")))?;
        line.clear();
    }
    parser.finish()
}

/// Returns motifs as MEME text, version 4. The background is that of the first motif.
pub fn write(motifs: &[Motif]) -> String {
    let background = motifs.first().map_or([0.25; 4], |motif| motif.background);
    let [a, c, g, t] = background.map(|frequency| format!("{frequency:.3}"));
    let mut text = format!(
        "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\nBackground letter frequencies:\n\
         A {a} C {c} G {g} T {t}\n"
    );
    for motif in motifs {
        let alternate = motif.alternate.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let _ = write!(
            text,
            "\nMOTIF {}{alternate}\nletter-probability matrix: alength= 4 w= {} nsites= {} E= 0.0\n",
            motif.identifier,
            motif.ppm.width(),
            motif.sites,
        );
        for position in 0..motif.ppm.width() {
            let row: [String; 4] = std::array::from_fn(|base| format!("{:.6}", motif.ppm.at(base, position)));
            let _ = writeln!(text, "{}", row.join(" "));
        }
    }
    text
}

#[derive(Default)]
struct Parser {
    begun: bool,
    in_background: bool,
    background: Vec<f64>,
    /// Rows still to come of the matrix that is being read.
    missing: Option<usize>,
    columns: Vec<[f64; 4]>,
    sites: f64,
    name: Option<(String, Option<String>)>,
    known: HashSet<String>,
    motifs: Vec<Motif>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<()> {
        let trimmed = line.trim();
        if trimmed.is_empty() {
            return self.blank();
        }
        if !self.begun {
            if trimmed.starts_with("MEME version") {
                self.begun = true;
                return Ok(());
            }
            return Err(Error::data("not MEME text (`MEME version` expected), HDF5 or a NumPy array"));
        }
        if self.missing.is_some() {
            return self.row(trimmed);
        }
        if let Some(alphabet) = trimmed.strip_prefix("ALPHABET=") {
            return check_alphabet(alphabet.trim());
        }
        if let Some(name) = trimmed.strip_prefix("MOTIF ") {
            return self.motif(name);
        }
        if let Some(attributes) = trimmed.strip_prefix("letter-probability matrix:") {
            return self.matrix(attributes);
        }
        if trimmed.starts_with("Background letter frequencies") {
            self.in_background = true;
        } else if self.in_background {
            self.frequencies(trimmed)?;
        }
        Ok(())
    }

    fn blank(&mut self) -> Result<()> {
        // Some writers give no width; there a blank line ends the matrix.
        if self.missing == Some(usize::MAX) && !self.columns.is_empty() {
            return self.push();
        }
        Ok(())
    }

    fn frequencies(&mut self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.chunks(2) {
            match pair.get(1).and_then(|number| number.parse::<f64>().ok()) {
                Some(frequency) if frequency > 0.0 && frequency.is_finite() => {
                    self.background.push(frequency)
                }
                _ => return Err(Error::data(format!("`{line}` is not letters with their frequencies"))),
            }
        }
        self.in_background = self.background.len() < 4;
        Ok(())
    }

    fn motif(&mut self, names: &str) -> Result<()> {
        self.no_motif_waits()?;
        let mut words = names.split_whitespace();
        let identifier = words.next().ok_or_else(|| Error::data("a motif without a name"))?.to_string();
        if !self.known.insert(identifier.clone()) {
            return Err(Error::data(format!("a second motif `{identifier}`")));
        }
        self.name = Some((identifier, words.next().map(str::to_string)));
        Ok(())
    }

    fn no_motif_waits(&self) -> Result<()> {
        match &self.name {
            Some((name, _)) => {
                Err(Error::data(format!("motif `{name}` has no whole letter-probability matrix")))
            }
            None => Ok(()),
        }
    }

    fn matrix(&mut self, attributes: &str) -> Result<()> {
        if self.name.is_none() {
            return Err(Error::data("a matrix without a MOTIF line before it"));
        }
        let words: Vec<&str> = attributes.split_whitespace().collect();
        let value = |key: &str| {
            let at = words.iter().position(|word| word.starts_with(key))?;
            // Both `w= 8` and `w=8` are in use.
            let joined = &words[at][key.len()..];
            if joined.is_empty() { words.get(at + 1).copied() } else { Some(joined) }
        };
        let width = value("w=").map(|text| text.parse().ok().filter(|&width: &usize| width > 0));
        self.missing = match width {
            None => Some(usize::MAX),
            Some(Some(width)) => Some(width),
            Some(None) => return Err(Error::data("the matrix has no width (`w= 8`)")),
        };
        let sites = value("nsites=").and_then(|text| text.parse().ok());
        self.sites = sites.filter(|sites: &f64| sites.is_finite()).unwrap_or(20.0);
        self.columns.clear();
        Ok(())
    }

    fn row(&mut self, line: &str) -> Result<()> {
        let is_open = self.missing == Some(usize::MAX) && !self.columns.is_empty();
        if is_open && line.starts_with(|c: char| c.is_ascii_alphabetic()) {
            self.push()?;
            return self.line(line);
        }
        let bad = || Error::data(format!("`{line}` is not four probabilities"));
        let mut words = line.split_ascii_whitespace();
        let mut column = [0.0f64; 4];
        for p in &mut column {
            *p = words.next().and_then(|word| word.parse().ok()).ok_or_else(bad)?;
        }
        if words.next().is_some() {
            return Err(bad());
        }
        let sum: f64 = column.iter().sum();
        // Probabilities are printed with few digits; what is far off is not a probability.
        if column.iter().any(|&p| !(0.0..=1.01).contains(&p)) || !(0.9..1.1).contains(&sum) {
            return Err(bad());
        }
        self.columns.push(column.map(|p| p / sum));
        match &mut self.missing {
            Some(usize::MAX) | None => Ok(()),
            Some(1) => self.push(),
            Some(missing) => {
                *missing -= 1;
                Ok(())
            }
        }
    }

    fn push(&mut self) -> Result<()> {
        self.missing = None;
        let (identifier, alternate) = self.name.take().expect("a matrix follows a name");
        let background = match self.background[..] {
            [] => [0.25; 4],
            [a, c, g, t] => [a, c, g, t],
            _ => return Err(Error::data("the background does not have four letters")),
        };
        let ppm = Matrix::from_columns(&self.columns);
        self.columns.clear();
        self.motifs.push(Motif { identifier, alternate, ppm, sites: self.sites, background });
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Motif>> {
        if self.missing == Some(usize::MAX) && !self.columns.is_empty() {
            self.push()?;
        }
        self.no_motif_waits()?;
        if self.motifs.is_empty() {
            return Err(Error::data("the file holds no motif"));
        }
        Ok(self.motifs)
    }
}

fn check_alphabet(alphabet: &str) -> Result<()> {
    if alphabet.trim_matches('"').starts_with("ACGT") || alphabet.starts_with("DNA") {
        return Ok(());
    }
    Err(Error::data(format!("alphabet `{alphabet}`: only ACGT is known here")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "MEME version 4\n\nALPHABET= ACGT\n\nBackground letter frequencies (from x):\nA 0.3 C 0.2 G 0.2 T 0.3\n
MOTIF m1 alt\nletter-probability matrix: alength= 4 w= 2 nsites= 7 E= 0\n1 0 0 0\n 0.25\t0.25 0.25 0.25\nURL none\n
MOTIF m2\nletter-probability matrix: alength=4 w=1\n0.3 0.2 0.2 0.3\n";

    #[test]
    fn names_sites_and_background_are_read() {
        let motifs = parse(TEXT.as_bytes()).unwrap();
        assert_eq!(motifs.len(), 2);
        assert_eq!(motifs[0].alternate.as_deref(), Some("alt"));
        assert_eq!((motifs[0].sites, motifs[1].sites), (7.0, 20.0));
        assert_eq!(motifs[1].background, [0.3, 0.2, 0.2, 0.3]);
        assert_eq!(motifs[0].ppm.at(0, 0), 1.0);
    }

    #[test]
    fn a_column_like_the_background_weighs_nothing_in_the_cwm() {
        let motifs = parse(TEXT.as_bytes()).unwrap();
        assert!(motifs[1].pattern().cwm.norm() < 1e-12);
        let cwm = motifs[0].pattern().cwm;
        assert!((cwm.at(0, 0) - (1.0f64 / 0.3).log2()).abs() < 1e-12);
        assert_eq!(cwm.at(1, 0), 0.0);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let motifs = parse(TEXT.as_bytes()).unwrap();
        let again = parse(write(&motifs).as_bytes()).unwrap();
        let heads = |motifs: &[Motif]| {
            motifs
                .iter()
                .map(|m| (m.identifier.clone(), m.alternate.clone(), m.sites, m.background))
                .collect::<Vec<_>>()
        };
        assert_eq!(heads(&again), heads(&motifs));
        for (a, b) in again.iter().zip(&motifs) {
            assert_eq!(a.ppm.width(), b.ppm.width());
            assert!(a.ppm.values().iter().zip(b.ppm.values()).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }

    #[test]
    fn bad_text_is_named_with_its_line() {
        for (bad, line) in [
            (TEXT.replace(" 0.25\t0.25 0.25 0.25", "0.2 0.3"), "line 11"),
            (TEXT.replace("m2", "m1"), "line 14"),
            (TEXT.replace("w= 2", "w= 3"), "line 12"),
            (TEXT.replace("ACGT", "ACDEFGHIKLMNPQRSTVWY"), "line 3"),
            ("chr1\t1\t2\n".to_string(), "line 1"),
        ] {
            let error = parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(line), "{error}");
        }
        assert!(parse(&TEXT.as_bytes()[..TEXT.len() - 20]).is_err());
    }

    #[test]
    fn real_collections_are_read() {
        let Some(motifs) = crate::testing::shared("data/motifs") else { return };
        for (file, least) in [
            ("HOCOMOCOv9.meme.gz", 400),
            ("JASPAR_CORE_2016_vertebrates.meme.gz", 500),
            ("human.meme.gz", 500),
            ("chrombpnet_motifs.meme.txt.gz", 100),
            ("memelite_tests/test.meme", 2),
            ("cnn_filters/invivo_cnn9_25_clip.meme", 10),
            ("nyxbind_learned/ELF1.meme", 1),
        ] {
            let read = read(&motifs.join(file)).unwrap();
            assert!(read.len() >= least, "{file} has {}", read.len());
        }
    }
}
