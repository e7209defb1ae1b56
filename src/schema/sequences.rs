//! Which rows of a batch a model can read, and what becomes of the others.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};

use crate::error::{Error, Result};
use crate::schema::{self, Status};

/// The rows of a batch: sequences that a model reads, and every row's status.
pub struct Rows<'a> {
    batch: &'a RecordBatch,
    accepted: Vec<(usize, &'a [u8])>,
    statuses: Vec<Cow<'a, str>>,
}

impl<'a> Rows<'a> {
    /// Selects the rows with a sequence of `window` bases, or with any sequence when it is `None`. Others
    /// become `too_long` or `too_short`; a row without a sequence keeps its status.
    ///
    /// # Errors
    ///
    /// When a sequence holds anything but upper-case `ACGTN`.
    pub fn select(batch: &'a RecordBatch, window: Option<usize>) -> Result<Self> {
        let sequences = schema::strings(batch, schema::SEQUENCE)?;
        let found = schema::strings(batch, schema::STATUS)?;
        let mut accepted = Vec::with_capacity(batch.num_rows());
        let mut statuses = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let mut status = Cow::Borrowed(found.value(row));
            if sequences.is_valid(row) {
                let sequence = sequences.value(row).as_bytes();
                match misfit(sequence.len(), window) {
                    Some(misfit) => status = misfit.as_str().into(),
                    None => {
                        check_bases(sequence).map_err(|error| error.at(describe(batch, row)))?;
                        accepted.push((row, sequence));
                    }
                }
            }
            statuses.push(status);
        }
        Ok(Self { batch, accepted, statuses })
    }

    /// Returns the sequences that can be read, in row order.
    pub fn sequences(&self) -> Vec<&'a [u8]> {
        self.accepted.iter().map(|&(_, sequence)| sequence).collect()
    }

    /// Returns the places in the batch of [`Rows::sequences`].
    pub fn places(&self) -> impl Iterator<Item = usize> {
        self.accepted.iter().map(|&(row, _)| row)
    }

    /// Gives every row for whose answer `status` has one that status; `nonfinite` where it is not.
    ///
    /// # Errors
    ///
    /// When a result is not finite and `strict`, naming the first such row.
    pub fn mark<T>(
        &mut self,
        answers: &[T],
        strict: bool,
        status: impl Fn(&T) -> Option<Status>,
    ) -> Result<()> {
        for (&(row, _), answer) in self.accepted.iter().zip(answers) {
            let Some(status) = status(answer) else { continue };
            if strict && status == Status::Nonfinite {
                let message = "a result is infinite or not a number, and --strict was given";
                return Err(Error::data(message).at(describe(self.batch, row)));
            }
            self.statuses[row] = status.as_str().into();
        }
        Ok(())
    }

    /// Puts the answers for [`Rows::sequences`] back to their rows; the others have none.
    pub fn spread<T>(&self, answers: impl IntoIterator<Item = T>) -> Vec<Option<T>> {
        let mut rows: Vec<Option<T>> = (0..self.statuses.len()).map(|_| None).collect();
        for (&(row, _), answer) in self.accepted.iter().zip(answers) {
            rows[row] = Some(answer);
        }
        rows
    }

    /// Returns the column of statuses.
    pub fn statuses(&self) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(&self.statuses))
    }
}

/// Returns why a sequence of `length` bases cannot be read.
fn misfit(length: usize, window: Option<usize>) -> Option<Status> {
    match window {
        Some(window) if length > window => Some(Status::TooLong),
        Some(window) if length < window => Some(Status::TooShort),
        _ if length == 0 => Some(Status::TooShort),
        _ => None,
    }
}

fn check_bases(sequence: &[u8]) -> Result<()> {
    match sequence.iter().position(|base| !b"ACGTN".contains(base)) {
        None => Ok(()),
        Some(index) => Err(Error::data(format!(
            "base {} of the sequence is `{}`; a stream holds upper-case ACGTN only (nyx-extract makes it so)",
            index + 1,
            sequence[index].escape_ascii()
        ))),
    }
}

/// Names a row for a person: its region, and its place where that is known.
pub fn describe(batch: &RecordBatch, row: usize) -> String {
    let region = schema::u64s(batch, schema::REGION).map(|regions| regions.value(row));
    let mut text =
        region.map_or_else(|_| format!("row {row} of a batch"), |region| format!("region {region}"));
    if let (Ok(chrom), Ok(start), Ok(end)) = (
        schema::strings(batch, schema::CHROM),
        schema::i64s(batch, schema::START),
        schema::i64s(batch, schema::END),
    ) && chrom.is_valid(row)
    {
        text += &format!(" ({}:{}-{})", chrom.value(row), start.value(row) + 1, end.value(row));
    }
    text
}
