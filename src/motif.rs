//! Motifs: PFM, PWM, CWM, and the files they come in.
//!
//! A reader gives [`Pattern`]s; [`filters::build`] makes of them what a solver needs: normalized CWMs of
//! both strands with their trims and lambdas.

pub mod compare;
mod cwm;
pub mod filters;
pub mod instance;
pub mod jaspar;
pub mod lists;
pub mod meme;
pub mod modisco;
pub mod pwm;
pub mod q_value;

use std::io::BufRead;
use std::path::Path;

use crate::error::{Error, InFile, Result};
use crate::input::{open_text, small};

/// A 4 × W matrix, rows A, C, G, T.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    width: usize,
    values: Vec<f64>,
}

impl Matrix {
    /// Creates a matrix of row-major `values`, 4 rows of `width`.
    ///
    /// # Panics
    ///
    /// When there are not `4 * width` values.
    pub fn new(width: usize, values: Vec<f64>) -> Self {
        assert_eq!(values.len(), 4 * width, "4 rows of {width}");
        Self { width, values }
    }

    /// Creates a matrix from one column of four values per position.
    pub fn from_columns(columns: &[[f64; 4]]) -> Self {
        let values = (0..4).flat_map(|base| columns.iter().map(move |column| column[base])).collect();
        Self { width: columns.len(), values }
    }

    /// Returns the number of positions W.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns the value of `base` (A, C, G, T = 0..4) at `position`.
    pub fn at(&self, base: usize, position: usize) -> f64 {
        self.values[base * self.width + position]
    }

    /// Returns all values, row-major.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Returns the values of each position.
    pub fn columns(&self) -> Vec<[f64; 4]> {
        (0..self.width).map(|position| std::array::from_fn(|base| self.at(base, position))).collect()
    }

    /// Returns the positions `start..end`.
    pub fn span(&self, start: usize, end: usize) -> Self {
        Self::from_columns(&self.columns()[start..end])
    }

    /// Returns counts as probabilities: each column over its sum; a column of zeros is uniform.
    pub fn probabilities(&self) -> Self {
        let share = |column: &[f64; 4]| {
            let sum: f64 = column.iter().sum();
            if sum > 0.0 { column.map(|count| count / sum) } else { [0.25; 4] }
        };
        Self::from_columns(&self.columns().iter().map(share).collect::<Vec<_>>())
    }

    /// Returns the base of the largest value at each position, the first of equal ones.
    pub fn consensus(&self) -> String {
        let largest = |column: &[f64; 4]| {
            let base = (1..4).fold(0, |best, base| if column[base] > column[best] { base } else { best });
            char::from(crate::dna::BASES[base])
        };
        self.columns().iter().map(largest).collect()
    }

    /// Returns the Frobenius norm.
    pub fn norm(&self) -> f64 {
        self.values.iter().map(|value| value * value).sum::<f64>().sqrt()
    }

    /// Returns the matrix over `divisor`.
    pub fn over(&self, divisor: f64) -> Self {
        Self { width: self.width, values: self.values.iter().map(|value| value / divisor).collect() }
    }

    /// Returns the matrix of the reverse complement: both axes reversed.
    pub fn reverse_complement(&self) -> Self {
        Self { width: self.width, values: self.values.iter().rev().copied().collect() }
    }

    /// Returns the half-open span from the first to the last position whose summed absolute value reaches
    /// `threshold` times the largest one.
    pub fn trim(&self, threshold: f64) -> (usize, usize) {
        let score = |position| (0..4).map(|base| self.at(base, position).abs()).sum::<f64>();
        let scores: Vec<f64> = (0..self.width).map(score).collect();
        let least = threshold * scores.iter().copied().fold(0.0, f64::max);
        let first = scores.iter().position(|&score| score >= least).unwrap_or(0);
        let last = scores.iter().rposition(|&score| score >= least).unwrap_or(0);
        (first, (last + 1).min(self.width))
    }
}

/// A motif as a file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// Unique name: `pos_patterns.pattern_0` for TF-MoDISco, the identifier for MEME, `motif_0` for arrays.
    pub tag: String,
    /// Contributions projected on the sequence, 4 × W.
    pub cwm: Matrix,
    /// Hypothetical contributions, 4 × W, where the file has them.
    pub hypothetical: Option<Matrix>,
}

/// Reads motifs from a TF-MoDISco HDF5 file, an `.npy` array (M, 4, W) or MEME text (compressed or not),
/// known by their first bytes.
///
/// # Errors
///
/// When the file cannot be read as any of them or holds no motif.
pub fn read(path: &Path) -> Result<Vec<Pattern>> {
    // Text may come through a pipe, which cannot be opened again.
    let mut text = open_text(path)?;
    let head = text.fill_buf().in_file(path)?;
    if head.starts_with(b"\x89HDF") {
        modisco::read(path)
    } else if head.starts_with(b"\x93NUMPY") {
        cwm::read(path)
    } else {
        Ok(meme::parse(small(text)).in_file(path)?.iter().map(meme::Motif::pattern).collect())
    }
}

/// Says whether a file is one of HDF5, such as TF-MoDISco writes; standard input (`-`) is none.
///
/// # Errors
///
/// When the file cannot be read.
pub fn is_hdf5(path: &Path) -> Result<bool> {
    if path == Path::new("-") || !path.is_file() {
        return Ok(false);
    }
    Ok(open_text(path)?.fill_buf().in_file(path)?.starts_with(b"\x89HDF"))
}

/// Reads motifs as probabilities, where [`read`] gives them as contributions: MEME text, JASPAR's counts, HOMER's
/// motifs, or the sequences of a TF-MoDISco HDF5 file, whose patterns are trimmed to the span in which their
/// contributions reach `trim` times the largest (see [`Matrix::trim`]).
///
/// # Errors
///
/// When the file cannot be read as any of them or holds no motif; CWMs alone have no probabilities.
pub fn read_probabilities(path: &Path, trim: f64) -> Result<Vec<meme::Motif>> {
    let mut text = open_text(path)?;
    let head = text.fill_buf().in_file(path)?;
    if head.starts_with(b"\x89HDF") {
        return modisco::read_probabilities(path, trim);
    }
    if head.starts_with(b"\x93NUMPY") {
        let message =
            "an array of CWMs has no probabilities: give MEME, JASPAR or HOMER text, or TF-MoDISco's HDF5";
        return Err(Error::data(message)).in_file(path);
    }
    let jaspar = head.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'>');
    let text = small(text);
    if jaspar { jaspar::parse(text).in_file(path) } else { meme::parse(text).in_file(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trimming_keeps_the_inner_weak_positions() {
        let columns = [[0.1, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0; 4], [0.0, 0.0, 0.2, 0.2]];
        let matrix = Matrix::from_columns(&columns);
        assert_eq!(matrix.trim(0.3), (1, 4));
        assert_eq!(matrix.trim(0.0), (0, 4));
        assert_eq!(matrix.reverse_complement().trim(0.3), (0, 3));
        assert_eq!(matrix.at(1, 1), -1.0);
    }

    #[test]
    fn the_reverse_complement_swaps_a_with_t() {
        let matrix = Matrix::from_columns(&[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]);
        let reverse = Matrix::from_columns(&[[8.0, 7.0, 6.0, 5.0], [4.0, 3.0, 2.0, 1.0]]);
        assert_eq!(matrix.reverse_complement(), reverse);
    }
}
