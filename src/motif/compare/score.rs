//! Scores of two columns: the more alike, the higher.

use std::fmt;
use std::str::FromStr;

use super::columns::Columns;
use crate::kernel::Instructions;
use crate::kernel::instructions::vectorize;

/// The score of a query's column q and a target's column t.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distance {
    /// The Euclidean distance, negative: `−√Σ (q − t)²`.
    #[default]
    Euclidean,
    /// Pearson's correlation; 0 where a column is uniform.
    Pearson,
    /// `2 − Σ (q − t)²` (Sandelin and Wasserman 2004).
    Sandelin,
    /// The mean of both Kullback-Leibler divergences, negative, with decimal logarithms.
    Kullback,
    /// The average log-likelihood ratio (Wang and Stormo 2003), with the counts of the motifs.
    Allr,
}

impl Distance {
    /// Returns whether probabilities of 0 have no score.
    pub fn refuses_zeros(self) -> bool {
        matches!(self, Self::Kullback | Self::Allr)
    }

    /// Writes the scores of a column of a motif of `sites` sequences with all columns.
    pub(super) fn scores(
        self,
        query: [f64; 4],
        sites: f64,
        columns: &Columns,
        background: [f64; 4],
        scores: &mut [f64],
    ) {
        if self == Self::Euclidean {
            return euclidean(Instructions::detect(), query, columns, scores);
        }
        for (index, score) in scores.iter_mut().enumerate() {
            let target = std::array::from_fn(|base| columns.bases[base][index]);
            *score = match self {
                Self::Pearson => pearson(query, target),
                Self::Sandelin => 2.0 - squared(query, target),
                Self::Kullback => -kullback(query, target),
                _ => allr(query, sites, target, columns.sites[index], background),
            };
        }
    }
}

impl FromStr for Distance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "ed" => Self::Euclidean,
            "pearson" => Self::Pearson,
            "sandelin" => Self::Sandelin,
            "kullback" => Self::Kullback,
            "allr" => Self::Allr,
            _ => return Err("write ed, pearson, sandelin, kullback or allr".into()),
        })
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Euclidean => "ed",
            Self::Pearson => "pearson",
            Self::Sandelin => "sandelin",
            Self::Kullback => "kullback",
            Self::Allr => "allr",
        })
    }
}

vectorize! {
    /// Writes the negative Euclidean distances of one column to all.
    fn euclidean(query: [f64; 4], columns: &Columns, scores: &mut [f64]) = euclidean_body
}

#[inline(always)]
fn euclidean_body(query: [f64; 4], columns: &Columns, scores: &mut [f64]) {
    let count = scores.len();
    let [a, c, g, t] = columns.bases.each_ref().map(|values| &values[..count]);
    for index in 0..count {
        let (da, dc) = (query[0] - a[index], query[1] - c[index]);
        let (dg, dt) = (query[2] - g[index], query[3] - t[index]);
        scores[index] = -(da * da + dc * dc + dg * dg + dt * dt).sqrt();
    }
}

fn squared(query: [f64; 4], target: [f64; 4]) -> f64 {
    query.iter().zip(target).map(|(q, t)| (q - t) * (q - t)).sum()
}

fn pearson(query: [f64; 4], target: [f64; 4]) -> f64 {
    let (mut product, mut q_square, mut t_square) = (0.0, 0.0, 0.0);
    for (q, t) in query.iter().zip(target) {
        let (q, t) = (q - 0.25, t - 0.25);
        product = rounded(product + q * t);
        q_square = rounded(q_square + q * q);
        t_square = rounded(t_square + t * t);
    }
    let norm = (q_square * t_square).sqrt();
    if norm == 0.0 { 0.0 } else { product / norm }
}

/// Rounds to 14 significant digits: MEME's way to make of what should be 1 a 1.
fn rounded(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let unit = 10f64.powi((13.0 - value.abs().log10()).ceil() as i32);
    (value * unit).round_ties_even() / unit
}

fn kullback(query: [f64; 4], target: [f64; 4]) -> f64 {
    query.iter().zip(target).map(|(&q, t)| (q * (q / t).log10() + t * (t / q).log10()) / 2.0).sum()
}

fn allr(query: [f64; 4], q_sites: f64, target: [f64; 4], t_sites: f64, background: [f64; 4]) -> f64 {
    let (mut ratio, mut counts) = (0.0, 0.0);
    for base in 0..4 {
        let (q, t, p) = (query[base], target[base], background[base]);
        ratio += t_sites * t * (q / p).ln() + q_sites * q * (t / p).ln();
        counts += q_sites * q + t_sites * t;
    }
    ratio / counts
}
