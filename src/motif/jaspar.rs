//! Counts of JASPAR, and HOMER's motifs: text in which a motif begins with `>`.
//!
//! JASPAR has four rows, with or without letters and brackets (`A  [ 1 2 3 ]`); HOMER has four columns of
//! probabilities and a tab-separated header `>consensus  name  threshold …`.

use std::fmt::Write;
use std::io::BufRead;

use super::Matrix;
use super::meme::Motif;
use crate::error::{Error, Result};

/// Reads motifs; the first word after `>` is the identifier, the second the alternate name.
///
/// # Errors
///
/// With the line: text before the first `>`, a row that is not numbers, rows of different lengths, rows for other
/// than four bases, a column without counts, an identifier that occurs twice.
pub fn parse(text: impl BufRead) -> Result<Vec<Motif>> {
    let mut motifs: Vec<Motif> = Vec::new();
    let mut open: Option<Open> = None;
    for (index, line) in text.lines().enumerate() {
        let (line, place) = (line?, || format!("line {}", index + 1));
        let line = line.trim();
        if let Some(header) = line.strip_prefix('>') {
            close(open.take(), &mut motifs)?;
            open = Some(Open::new(header, index + 1).map_err(|error| error.at(place()))?);
        } else if !line.is_empty() {
            let open = open.as_mut().ok_or_else(|| Error::data("a motif begins with `>`").at(place()))?;
            open.row(line).map_err(|error| error.at(place()))?;
        }
    }
    close(open, &mut motifs)?;
    if motifs.is_empty() {
        return Err(Error::data("the file holds no motif"));
    }
    Ok(motifs)
}

/// A motif whose rows are being read.
struct Open {
    line: usize,
    identifier: String,
    alternate: Option<String>,
    rows: Vec<Vec<f64>>,
    /// Letters, brackets and HOMER's tabs say which way the numbers run.
    by_base: bool,
    homer: bool,
}

impl Open {
    fn new(header: &str, line: usize) -> Result<Self> {
        let cells: Vec<&str> = header.split('\t').map(str::trim).collect();
        // HOMER's header has consensus, name and a number.
        let homer = cells.len() >= 3 && cells[2].parse::<f64>().is_ok();
        let mut words = header.split_whitespace();
        let first = words.next().ok_or_else(|| Error::data("a motif without a name"))?;
        let (identifier, alternate) = if homer {
            (cells[1], Some(first.to_string()))
        } else {
            (first, words.next().map(str::to_string))
        };
        Ok(Self { line, identifier: identifier.into(), alternate, rows: Vec::new(), by_base: false, homer })
    }

    fn row(&mut self, line: &str) -> Result<()> {
        let mut words: Vec<&str> = line
            .split(|c: char| c.is_whitespace() || "[]".contains(c))
            .filter(|word| !word.is_empty())
            .collect();
        if matches!(words.first(), Some(&("A" | "C" | "G" | "T"))) {
            let expected = ["A", "C", "G", "T"].get(self.rows.len());
            if expected != words.first() {
                return Err(Error::data(format!("`{line}`: rows of a motif are A, C, G and T")));
            }
            words.remove(0);
            self.by_base = true;
        }
        let numbers: Option<Vec<f64>> = words
            .iter()
            .map(|word| word.parse().ok().filter(|&count: &f64| count >= 0.0 && count.is_finite()))
            .collect();
        let numbers = numbers.filter(|numbers| !numbers.is_empty());
        self.rows.push(numbers.ok_or_else(|| Error::data(format!("`{line}` is not a row of counts")))?);
        Ok(())
    }

    fn finish(self) -> Result<Motif> {
        let width = self.rows.first().map_or(0, Vec::len);
        if width == 0 || self.rows.iter().any(|row| row.len() != width) {
            return Err(Error::data("its rows differ in length"));
        }
        let by_position = !self.by_base && width == 4 && (self.homer || self.rows.len() != 4);
        if !by_position && self.rows.len() != 4 {
            return Err(Error::data(format!("{} rows; a motif has four, A, C, G and T", self.rows.len())));
        }
        let columns: Vec<[f64; 4]> = match by_position {
            true => self.rows.iter().map(|row| [row[0], row[1], row[2], row[3]]).collect(),
            false => (0..width).map(|at| std::array::from_fn(|base| self.rows[base][at])).collect(),
        };
        let sums: Vec<f64> = columns.iter().map(|column| column.iter().sum()).collect();
        if sums.iter().any(|&sum| sum <= 0.0 || !sum.is_finite()) {
            return Err(Error::data("a position without any count, or with more than there are numbers"));
        }
        let columns: Vec<[f64; 4]> =
            columns.iter().zip(&sums).map(|(column, sum)| column.map(|count| count / sum)).collect();
        // Probabilities say nothing about the number of sites.
        let most = sums.iter().copied().fold(0.0, f64::max);
        let sites = if most > 1.5 { most.round() } else { 20.0 };
        Ok(Motif {
            identifier: self.identifier,
            alternate: self.alternate,
            ppm: Matrix::from_columns(&columns),
            sites,
            background: [0.25; 4],
        })
    }
}

fn close(open: Option<Open>, motifs: &mut Vec<Motif>) -> Result<()> {
    let Some(open) = open else { return Ok(()) };
    let place = format!("line {}, motif `{}`", open.line, open.identifier);
    let motif = open.finish().map_err(|error| error.at(place.clone()))?;
    if motifs.iter().any(|other| other.identifier == motif.identifier) {
        return Err(Error::data("another motif has the same name").at(place));
    }
    motifs.push(motif);
    Ok(())
}

/// Returns counts as JASPAR text, as Biopython 1.83 writes it: `>identifier name`, then a line a base of counts
/// with two decimals.
pub fn write(identifier: &str, name: &str, counts: &Matrix) -> String {
    let mut text = format!(">{identifier} {name}\n");
    for (base, letter) in "ACGT".chars().enumerate() {
        let row: Vec<String> = (0..counts.width()).map(|i| format!("{:6.2}", counts.at(base, i))).collect();
        let _ = writeln!(text, "{letter} [{}]", row.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_to_write_the_same_motif_are_read_alike() {
        let brackets = ">MA1.1\tTF\nA  [ 8 0 ]\nC  [ 1 0 ]\nG  [ 1 0 ]\nT  [ 0 10 ]\n";
        let plain = ">MA1.1 TF\n8 0\n1 0\n1 0\n0 10\n";
        let homer = ">AT\tMA1.1\t6.4\t-10\n0.8\t0.1\t0.1\t0.0\n0 0 0 1\n";
        for text in [brackets, plain, homer] {
            let motif = &parse(text.as_bytes()).unwrap()[0];
            assert_eq!(motif.identifier, "MA1.1");
            assert_eq!(motif.ppm, Matrix::from_columns(&[[0.8, 0.1, 0.1, 0.0], [0.0, 0.0, 0.0, 1.0]]));
        }
        assert_eq!(parse(brackets.as_bytes()).unwrap()[0].sites, 10.0);
        assert_eq!(parse(homer.as_bytes()).unwrap()[0].sites, 20.0);
    }

    #[test]
    fn a_bad_row_is_named() {
        for (text, line) in [
            ("1 2\n", "line 1"),
            (">a\nA [ 1 x ]\n", "line 2"),
            (">a\nC [ 1 ]\n", "line 2"),
            (">a\n1 2\n1 2\n1\n1 2\n", "line 1"),
            (">a\n1 0\n1 0\n1 0\n1 0\n", "line 1"),
            (">a\n1\n1\n1\n1\n>a\n1\n1\n1\n1\n", "line 6"),
            (">a\n1 2\n1 2\n1 2\n", "line 1"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(line), "{text}: {error}");
        }
    }

    #[test]
    fn every_base_has_a_line_of_counts() {
        let counts = Matrix::from_columns(&[[3.0, 0.0, 0.0, 1.0], [0.0, 400.0, 0.5, 0.0]]);
        let lines = ["A [  3.00   0.00]", "C [  0.00 400.00]", "G [  0.00   0.50]", "T [  1.00   0.00]"];
        assert_eq!(write("MA1", "CTCF", &counts), format!(">MA1 CTCF\n{}\n", lines.join("\n")));
    }
}
