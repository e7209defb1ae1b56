//! Rows that come one at a time, in batches.

use arrow_array::RecordBatch;

use super::windows::BATCH_BASES;
use crate::error::Result;
use crate::schema::RowBuilder;

/// What pushes rows into a builder, one at a time.
pub trait Rows {
    /// Adds the next row; `false` when there is none.
    fn push(&mut self) -> Result<bool>;

    /// Returns the builder, and the bytes that wait in it.
    fn waiting(&mut self) -> (&mut RowBuilder, &mut usize);
}

/// Batches of rows. An error is the last item.
pub struct Batched<R> {
    rows: R,
    batch_rows: usize,
    done: bool,
}

impl<R: Rows> Batched<R> {
    /// Makes batches of at most `batch_rows` rows, fewer where these have [`BATCH_BASES`] bytes.
    pub fn new(rows: R, batch_rows: usize) -> Self {
        Self { rows, batch_rows: batch_rows.max(1), done: false }
    }

    /// Collects rows until a batch is full or they end.
    fn fill(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let (builder, bytes) = self.rows.waiting();
            if builder.len() >= self.batch_rows || *bytes >= BATCH_BASES {
                break;
            }
            if !self.rows.push()? {
                self.done = true;
                break;
            }
        }
        let (builder, bytes) = self.rows.waiting();
        *bytes = 0;
        if builder.is_empty() { Ok(None) } else { builder.finish().map(Some) }
    }
}

impl<R: Rows> Iterator for Batched<R> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let batch = self.fill();
        self.done |= batch.is_err();
        batch.transpose()
    }
}
