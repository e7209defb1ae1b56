//! Rows longer than a model reads, in overlapping windows.
//!
//! A network reads windows of its number of bases, a language model pieces of its limit of tokens. Each begins
//! so many after the one before that `overlap` are read twice; the last is flush with the end. Logits,
//! probabilities and embeddings are each the mean over windows. The score of a base is the mean over the
//! windows that hold it. A row of one window is what the model makes of it; shorter rows stay too short.

use std::borrow::Cow;
use std::ops::Range;

use super::{Answer, Input, Misfit, Model, Outputs, Scores, Wanted};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// Windows whose scores are in memory at a time: bounds it for rows of any length.
const PASS_WINDOWS: usize = 4096;

/// What a model counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// A window of so many bases.
    Bases(usize),
    /// A piece of at most so many tokens between specials.
    Tokens(usize),
}

/// A model that reads rows of any length, window by window.
pub struct Long {
    model: Box<dyn Model>,
    unit: Unit,
    step: usize,
    /// Tokens before and after every piece.
    specials: [Vec<u32>; 2],
}

impl Long {
    /// Wraps a model. `overlap` is in bases, or in tokens for a language model; without it, half a window.
    ///
    /// # Errors
    ///
    /// When the model reads rows of any length anyway, or windows would not advance.
    pub fn new(model: Box<dyn Model>, overlap: Option<usize>) -> Result<Self> {
        let (unit, specials) = unit(model.as_ref())?;
        let (size, name) = match unit {
            Unit::Bases(size) => (size, "bases"),
            Unit::Tokens(size) => (size, "tokens"),
        };
        let overlap = overlap.unwrap_or(size / 2);
        let Some(step) = size.checked_sub(overlap).filter(|&step| step > 0) else {
            return Err(Error::usage(format!(
                "--overlap {overlap}: windows of {size} {name} would not advance; give less than {size}"
            )));
        };
        Ok(Self { model, unit, step, specials })
    }

    /// Describes the windows, for the provenance chain.
    pub fn describe(&self) -> String {
        let (size, name) = match self.unit {
            Unit::Bases(size) => (size, "bases"),
            Unit::Tokens(size) => (size, "tokens"),
        };
        format!("windows of {size} {name}, {} apart", self.step)
    }

    /// Returns the tokens of a row between its specials.
    fn body<'a>(&self, row: &Input<'a>, tokenizer: &Tokenizer) -> Result<Cow<'a, [u32]>> {
        if let Some(tokens) = row.tokens {
            let special = |token: &u32| self.specials.iter().any(|specials| specials.contains(token));
            return Ok(tokens.iter().copied().filter(|token| !special(token)).collect());
        }
        let bases = std::str::from_utf8(row.bases).map_err(|_| Error::data("a sequence is no text"))?;
        let tokens = tokenizer.encode(bases, None)?;
        let places = tokens.ids.iter().zip(&tokens.starts);
        Ok(places.filter(|(_, start)| **start >= 0).map(|(&id, _)| id).collect())
    }

    /// Returns the windows of something `length` long; one window for what is no longer than that.
    fn windows(&self, length: usize) -> Vec<Range<usize>> {
        let (Unit::Bases(size) | Unit::Tokens(size)) = self.unit;
        let (last, size) = (length.saturating_sub(size), size.min(length));
        (0..last).step_by(self.step).chain([last]).map(|start| start..start + size).collect()
    }

    fn predict_bases(&self, rows: &[Input], wanted: &Wanted) -> Result<Vec<Answer>> {
        let mut merges: Vec<Merge> = rows.iter().map(|row| Merge::new(row.bases.len())).collect();
        let mut windows: Vec<(usize, Range<usize>)> = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            for window in self.windows(row.bases.len()) {
                windows.push((index, window));
                if windows.len() == PASS_WINDOWS {
                    self.pass(rows, &mut windows, &mut merges, wanted)?;
                }
            }
        }
        self.pass(rows, &mut windows, &mut merges, wanted)?;
        Ok(merges.into_iter().map(Merge::finish).collect())
    }

    /// Predicts windows and adds them to their rows.
    fn pass(
        &self,
        rows: &[Input],
        windows: &mut Vec<(usize, Range<usize>)>,
        merges: &mut [Merge],
        wanted: &Wanted,
    ) -> Result<()> {
        let Unit::Bases(size) = self.unit else { return Ok(()) };
        let inputs: Vec<Input> = (windows.iter().filter(|(_, window)| window.len() == size))
            .map(|(row, window)| Input { bases: &rows[*row].bases[window.clone()], ..rows[*row] })
            .collect();
        let mut answers = self.model.predict(&inputs, wanted)?.into_iter();
        for (row, window) in windows.drain(..) {
            let answer = if window.len() == size { answers.next() } else { Some(Err(Misfit::TooShort)) };
            merges[row].add(window.start, answer.unwrap_or(Err(Misfit::TooShort)));
        }
        Ok(())
    }

    fn predict_tokens(&self, rows: &[Input], wanted: &Wanted) -> Result<Vec<Answer>> {
        let tokenizer = self.model.tokenizer().ok_or_else(|| Error::data("the model has no tokenizer"))?;
        let mut answers = Vec::with_capacity(rows.len());
        // Few rows at a time: their pieces are copies.
        for rows in rows.chunks(64) {
            let mut pieces: Vec<(usize, Vec<u32>)> = Vec::new();
            for (index, row) in rows.iter().enumerate() {
                let body = self.body(row, tokenizer)?;
                let [before, after] = &self.specials;
                let piece = |window: Range<usize>| [before, &body[window], after].concat();
                pieces.extend(self.windows(body.len()).into_iter().map(|window| (index, piece(window))));
            }
            let mut merges: Vec<Merge> = rows.iter().map(|_| Merge::new(0)).collect();
            for pass in pieces.chunks(PASS_WINDOWS) {
                let inputs: Vec<Input> =
                    pass.iter().map(|(row, piece)| Input { tokens: Some(piece), ..rows[*row] }).collect();
                for ((row, _), answer) in pass.iter().zip(self.model.predict(&inputs, wanted)?) {
                    merges[*row].add(0, answer);
                }
            }
            answers.extend(merges.into_iter().map(Merge::finish));
        }
        Ok(answers)
    }
}

/// Finds out what a model counts, and the specials around its tokens.
fn unit(model: &dyn Model) -> Result<(Unit, [Vec<u32>; 2])> {
    if let Some(window) = model.window() {
        return Ok((Unit::Bases(window), [Vec::new(), Vec::new()]));
    }
    let (Some(limit), Some(tokenizer)) = (model.token_limit(), model.tokenizer()) else {
        return Err(Error::usage(
            "--long windows: the model reads rows of any length as they are; leave it out",
        ));
    };
    let mut before = tokenizer.encode("", None)?.ids;
    let after = before.split_off(before.len().min(1));
    let size = limit.checked_sub(before.len() + after.len()).filter(|&size| size > 0);
    let size =
        size.ok_or_else(|| Error::data(format!("the model reads {limit} tokens: no room for any base")))?;
    Ok((Unit::Tokens(size), [before, after]))
}

impl Model for Long {
    fn window(&self) -> Option<usize> {
        None
    }

    fn labels(&self) -> &[String] {
        self.model.labels()
    }

    fn outputs(&self, wanted: &Wanted) -> Result<Outputs> {
        let outputs = self.model.outputs(wanted)?;
        let unmerged = [
            (outputs.profile.is_some(), "profiles"),
            (outputs.likelihood, "likelihoods"),
            (outputs.attentions.is_some(), "attentions"),
        ];
        match unmerged.iter().find(|(has, _)| *has) {
            Some((_, what)) => Err(Error::usage(format!(
                "--long windows: {what} of overlapping windows cannot be merged; use --long status"
            ))),
            None => Ok(outputs),
        }
    }

    fn predict(&self, rows: &[Input], wanted: &Wanted) -> Result<Vec<Answer>> {
        if rows.iter().any(|row| row.second.is_some()) {
            return Err(Error::usage(
                "--long windows: pairs of sequences have no windows; use --long status",
            ));
        }
        match self.unit {
            Unit::Bases(_) => self.predict_bases(rows, wanted),
            Unit::Tokens(_) => self.predict_tokens(rows, wanted),
        }
    }

    fn tokenizer(&self) -> Option<&Tokenizer> {
        self.model.tokenizer()
    }
}

/// The windows of one row, merged as they come.
struct Merge {
    length: usize,
    windows: usize,
    logits: Vec<f64>,
    probs: Option<Vec<f64>>,
    embedding: Option<Vec<f64>>,
    /// Of each base, the sum of its scores and how many there are.
    base_scores: Option<Vec<(f64, u32)>>,
    misfit: Option<Misfit>,
    /// The answer to the only window so far, which is passed on as it is.
    only: Option<Scores>,
}

impl Merge {
    fn new(length: usize) -> Self {
        Self {
            length,
            windows: 0,
            logits: Vec::new(),
            probs: None,
            embedding: None,
            base_scores: None,
            misfit: None,
            only: None,
        }
    }

    /// Adds the answer to the window that begins at `start`.
    fn add(&mut self, start: usize, answer: Answer) {
        let scores = match answer {
            Ok(scores) => scores,
            Err(misfit) => {
                self.misfit = Some(misfit);
                return;
            }
        };
        self.logits = sum(std::mem::take(&mut self.logits), &scores.logits);
        let both = |sums: Option<Vec<f64>>, values: &Option<Vec<f32>>| {
            values.as_ref().map(|values| sum(sums.unwrap_or_default(), values))
        };
        self.probs = both(self.probs.take(), &scores.probs);
        self.embedding = both(self.embedding.take(), &scores.embedding);
        if let Some(values) = &scores.base_scores {
            let all = self.base_scores.get_or_insert_with(|| vec![(0.0, 0); self.length]);
            for ((sum, count), &value) in all[start..].iter_mut().zip(values) {
                *sum += f64::from(value);
                *count += 1;
            }
        }
        self.windows += 1;
        self.only = Some(scores).filter(|_| self.windows == 1);
    }

    fn finish(self) -> Answer {
        if let Some(misfit) = self.misfit {
            return Err(misfit);
        }
        if let Some(only) = self.only {
            return Ok(only);
        }
        let windows = self.windows as f64;
        let mean = |sums: Vec<f64>| sums.into_iter().map(|sum| (sum / windows) as f32).collect::<Vec<f32>>();
        let of_bases =
            |all: Vec<(f64, u32)>| all.into_iter().map(|(sum, n)| (sum / f64::from(n)) as f32).collect();
        Ok(Scores {
            logits: mean(self.logits),
            probs: self.probs.map(mean),
            embedding: self.embedding.map(mean),
            base_scores: self.base_scores.map(of_bases),
            ..Scores::default()
        })
    }
}

/// Adds values to sums, which are empty at first.
fn sum(mut sums: Vec<f64>, values: &[f32]) -> Vec<f64> {
    sums.resize(values.len(), 0.0);
    sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value));
    sums
}

#[cfg(test)]
mod tests;
