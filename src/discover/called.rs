//! Rows with scores of every base → one motif: the windows of a base-level model.

use super::base_calls::BaseCalls;
use super::rows::{Scores, Views};
use crate::error::Result;
use crate::pipe::Pipe;

/// The windows of a base-level model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Called {
    /// The bases of the windows, in row order.
    pub sequences: Vec<String>,
    /// Rows that were read.
    pub rows: u64,
    /// Windows that hold an N and were left out.
    pub with_n: u64,
}

/// Calls the window of every row of a pipe, until `limit` have been found.
///
/// # Errors
///
/// When a row has another number of scores than bases.
pub fn call(pipe: Pipe, scores: &Scores, calls: BaseCalls, limit: usize) -> Result<Called> {
    let mut called = Called::default();
    for batch in pipe.into_parts().1 {
        let batch = batch?;
        let views = Views::of(&batch, Some(scores), called.rows as usize)?;
        for row in 0..batch.num_rows() {
            called.rows += 1;
            let Some(sequence) = views.sequence(row)? else { continue };
            let Some(scores) = views.scores(row, sequence.len())? else { continue };
            let Some(start) = calls.window(scores) else { continue };
            let window = &sequence[start..start + calls.width];
            if window.contains(&b'N') {
                called.with_n += 1;
            } else if called.sequences.len() < limit {
                called.sequences.push(String::from_utf8_lossy(window).into_owned());
            }
        }
    }
    scores.check_rows(called.rows as usize)?;
    Ok(called)
}
