//! Rows with labels and scores → enriched motifs: the procedure of DNABERT-viz and NyxBind.

use super::enrichment::{Instance, Key, Keys};
use super::found::Found;
use super::merge::merge;
use super::regions::high_regions;
use super::rows::{Scores, Sequences, Views};
use super::windows::{around, counts};
use crate::error::{Error, Result};
use crate::pipe::Pipe;

/// How motifs are found.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Which label says that a row is positive.
    pub class: usize,
    /// Bases of a motif.
    pub window: usize,
    /// Bases that a region must have.
    pub min_length: usize,
    /// Corrected p-values at or above this are not significant.
    pub cutoff: f64,
    /// Windows that a motif must have.
    pub min_windows: usize,
    /// How many motifs to keep, those with most windows; all when `None`.
    pub top: Option<usize>,
    /// Lose windows that touch the last base, as upstream does.
    pub lose_last: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            class: 0,
            window: 24,
            min_length: 5,
            cutoff: 0.005,
            min_windows: 3,
            top: None,
            lose_last: false,
        }
    }
}

/// A motif with its windows.
#[derive(Clone, Debug, PartialEq)]
pub struct Enriched {
    /// The key that others were merged into.
    pub key: String,
    /// Its windows: index among the positive sequences, first base, one past the last.
    pub windows: Vec<Instance>,
    /// The bases of the windows.
    pub sequences: Vec<String>,
    /// P-value of the key itself, and the corrected one.
    pub significance: (f64, f64),
}

impl Enriched {
    /// Returns the motif without its windows.
    pub fn found(&self) -> Found {
        let width = self.sequences.first().map_or(0, String::len);
        Found {
            name: self.key.clone(),
            counts: counts(self.sequences.iter().map(String::as_bytes), width),
            sites: self.windows.len() as u64,
            significance: Some(self.significance),
            contributions: None,
        }
    }
}

/// What happened, for the summary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Positive sequences.
    pub positives: usize,
    /// Negative sequences.
    pub negatives: usize,
    /// Positive sequences that have no scores.
    pub without_scores: usize,
    /// Different keys.
    pub keys: usize,
    /// Keys that are enriched.
    pub enriched: usize,
    /// Keys after merging.
    pub merged: usize,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Self { positives, negatives, without_scores, keys, enriched, merged } = self;
        write!(f, "{positives} positive and {negatives} negative sequences")?;
        if *without_scores > 0 {
            write!(f, ", {without_scores} positive without scores")?;
        }
        write!(f, "; {keys} different regions, {enriched} enriched, {merged} after merging")
    }
}

/// Finds motifs in the positive rows of a pipe, with the other rows, and all of `negatives`, to compare with. With
/// `negatives` all rows of `pipe` are positive. The sequences stay in memory (a byte a base), scores do not.
///
/// # Errors
///
/// When a row lacks its label or has another number of scores than bases, or there are no positive rows.
pub fn find(
    pipe: Pipe,
    negatives: Option<Pipe>,
    scores: &Scores,
    options: &Options,
) -> Result<(Vec<Enriched>, Summary)> {
    let mut gathered = Gathered::default();
    gathered.read(pipe, scores, options, negatives.is_some())?;
    for batch in negatives.into_iter().flat_map(|pipe| pipe.into_parts().1) {
        let batch = batch?;
        let views = Views::of(&batch, None, 0)?;
        for row in 0..batch.num_rows() {
            views.sequence(row)?.into_iter().for_each(|sequence| gathered.negatives.push(sequence));
        }
    }
    if gathered.positives.is_empty() {
        return Err(Error::data("there is no positive row: motifs are what positive rows have in common"));
    }
    gathered.motifs(options)
}

#[derive(Default)]
struct Gathered {
    positives: Sequences,
    negatives: Sequences,
    keys: Keys,
    without_scores: usize,
}

impl Gathered {
    fn read(&mut self, pipe: Pipe, scores: &Scores, options: &Options, all_positive: bool) -> Result<()> {
        let mut rows = 0;
        for batch in pipe.into_parts().1 {
            let batch = batch?;
            let views = Views::of(&batch, Some(scores), rows)?;
            for row in 0..batch.num_rows() {
                let Some(sequence) = views.sequence(row)? else { continue };
                if all_positive || views.is_positive(row, options.class)? {
                    self.positive(sequence, views.scores(row, sequence.len())?, options);
                } else {
                    self.negatives.push(sequence);
                }
            }
            rows += batch.num_rows();
        }
        scores.check_rows(rows)
    }

    fn positive(&mut self, sequence: &[u8], scores: Option<&[f32]>, options: &Options) {
        match scores {
            Some(scores) => {
                let mut regions = high_regions(scores, options.min_length);
                // What no model has read is no motif.
                regions.retain(|region| !sequence[region.clone()].contains(&b'N'));
                self.keys.add(self.positives.len(), sequence, &regions);
            }
            None => self.without_scores += 1,
        }
        self.positives.push(sequence);
    }

    fn motifs(self, options: &Options) -> Result<(Vec<Enriched>, Summary)> {
        let Self { positives, negatives, keys, without_scores } = self;
        let mut summary = Summary {
            positives: positives.len(),
            negatives: negatives.len(),
            without_scores,
            keys: keys.len(),
            ..Summary::default()
        };
        let mut keys = keys.test(&positives.slices(), &negatives.slices())?;
        keys.retain(|key| key.q_value < options.cutoff);
        summary.enriched = keys.len();
        let merged = merge(keys, options.min_length);
        summary.merged = merged.len();
        let mut motifs: Vec<Enriched> =
            merged.iter().map(|key| with_windows(key, &positives, options)).collect();
        motifs.retain(|motif| !motif.windows.is_empty() && motif.windows.len() >= options.min_windows);
        motifs.sort_by_key(|motif| std::cmp::Reverse(motif.windows.len()));
        motifs.truncate(options.top.unwrap_or(usize::MAX));
        Ok((motifs, summary))
    }
}

fn with_windows(key: &Key, positives: &Sequences, options: &Options) -> Enriched {
    let length = |index: usize| positives.get(index).len();
    let windows = around(key, length, options.window, options.lose_last);
    let bases = |at: &Instance| {
        let window = &positives.get(at.sequence)[at.start as usize..at.end as usize];
        String::from_utf8_lossy(window).into_owned()
    };
    Enriched {
        key: String::from_utf8_lossy(&key.bases).into_owned(),
        sequences: windows.iter().map(bases).collect(),
        windows,
        significance: (key.p_value, key.q_value),
    }
}
