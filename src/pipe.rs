//! What flows between stages: a schema and the batches that follow it.
//!
//! A stage is a function from a pipe to a pipe. The only concurrency is [`Pipe::ahead`]: everything
//! upstream of it runs on a thread of its own behind a bounded channel, so memory is bounded by batch
//! size × depth and order never has to be restored.

pub mod ipc;
pub mod merge;
pub mod spool;

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use crossbeam_channel::{Receiver, bounded};

use crate::error::{Error, Result};

/// The batches of a pipe, in input order.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// A schema, and the batches that have it. An error in the batches is the last item.
pub struct Pipe {
    schema: SchemaRef,
    batches: Batches,
}

impl Pipe {
    /// Creates a pipe of `batches`, each of which has `schema`.
    pub fn new(
        schema: SchemaRef,
        batches: impl Iterator<Item = Result<RecordBatch>> + Send + 'static,
    ) -> Self {
        Self { schema, batches: Box::new(batches) }
    }

    /// Returns the schema, known before the first batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Splits the pipe into its schema and its batches.
    pub fn into_parts(self) -> (SchemaRef, Batches) {
        (self.schema, self.batches)
    }

    /// Applies `f` to every batch; `schema` is what `f` returns.
    pub fn map(
        self,
        schema: SchemaRef,
        mut f: impl FnMut(RecordBatch) -> Result<RecordBatch> + Send + 'static,
    ) -> Self {
        Self::new(schema, self.batches.map(move |batch| batch.and_then(&mut f)))
    }

    /// Gives the same batches another schema that differs in metadata only.
    pub fn with_schema(self, schema: SchemaRef) -> Self {
        let target = schema.clone();
        self.map(schema, move |batch| with_schema(&batch, &target))
    }

    /// Cuts and joins batches so that each has `rows` rows, the last one perhaps fewer.
    pub fn rebatch(self, rows: usize) -> Self {
        let rows = rows.max(1);
        let (schema, input) = self.into_parts();
        Self::new(
            schema.clone(),
            Rebatch { schema, input, rows, parts: VecDeque::new(), held: 0, done: false },
        )
    }

    /// Cuts batches that have more than `rows` rows. Nothing waits for a batch to fill.
    pub fn cut(self, rows: usize) -> Self {
        let (schema, batches) = self.into_parts();
        let cut = batches.flat_map(move |batch| match batch {
            Ok(batch) => parts(&batch, rows.max(1)).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        });
        Self::new(schema, cut)
    }

    /// Adds the nanoseconds that each batch takes to arrive to `spent`.
    pub fn timed(self, spent: Arc<AtomicU64>) -> Self {
        let (schema, mut batches) = self.into_parts();
        let timed = std::iter::from_fn(move || {
            let began = Instant::now();
            let batch = batches.next();
            spent.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
            batch
        });
        Self::new(schema, timed)
    }

    /// Runs everything upstream on a thread of its own, at most `depth` batches ahead.
    pub fn ahead(self, depth: usize) -> Self {
        let (schema, batches) = self.into_parts();
        let (sender, receiver) = bounded(depth.max(1));
        let worker = std::thread::Builder::new().spawn(move || {
            for batch in batches {
                let failed = batch.is_err();
                // A send fails when the reader has gone: there is nobody left to tell.
                if sender.send(batch).is_err() || failed {
                    break;
                }
            }
        });
        match worker {
            Ok(worker) => Self::new(schema, Ahead { receiver, worker: Some(worker) }),
            Err(error) => {
                let error = Error::data(format!("cannot start a thread: {error}"));
                Self::new(schema, std::iter::once(Err(error)))
            }
        }
    }
}

/// Gives a batch another schema that differs in metadata only, which may be less than before.
pub fn with_schema(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)?)
}

/// Cuts a batch into parts of at most `rows` rows; an empty batch is one part.
fn parts(batch: &RecordBatch, rows: usize) -> Vec<RecordBatch> {
    let starts = (0..batch.num_rows().max(1)).step_by(rows);
    starts.map(|start| batch.slice(start, rows.min(batch.num_rows() - start))).collect()
}

struct Ahead {
    receiver: Receiver<Result<RecordBatch>>,
    worker: Option<JoinHandle<()>>,
}

impl Iterator for Ahead {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(batch) = self.receiver.recv() {
            return Some(batch);
        }
        // The channel also closes when the worker panics; that is not an end.
        if let Some(worker) = self.worker.take() {
            worker.join().unwrap_or_else(|panic: Box<dyn Any + Send>| std::panic::resume_unwind(panic));
        }
        None
    }
}

struct Rebatch {
    schema: SchemaRef,
    input: Batches,
    rows: usize,
    parts: VecDeque<RecordBatch>,
    held: usize,
    done: bool,
}

impl Rebatch {
    /// Takes `rows` rows off the front of what is held.
    fn take(&mut self, rows: usize) -> Result<RecordBatch> {
        let mut taken = Vec::new();
        let mut missing = rows;
        while missing > 0 {
            let part = self.parts.pop_front().expect("held counts the rows of all parts");
            if part.num_rows() > missing {
                self.parts.push_front(part.slice(missing, part.num_rows() - missing));
                taken.push(part.slice(0, missing));
                missing = 0;
            } else {
                missing -= part.num_rows();
                taken.push(part);
            }
        }
        self.held -= rows;
        if taken.len() == 1 {
            return Ok(taken.remove(0));
        }
        Ok(concat_batches(&self.schema, &taken)?)
    }
}

impl Iterator for Rebatch {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done && self.held < self.rows {
            match self.input.next() {
                Some(Ok(batch)) => {
                    self.held += batch.num_rows();
                    if batch.num_rows() > 0 {
                        self.parts.push_back(batch);
                    }
                }
                Some(Err(error)) => {
                    self.done = true;
                    self.held = 0;
                    self.parts.clear();
                    return Some(Err(error));
                }
                None => self.done = true,
            }
        }
        match self.held.min(self.rows) {
            0 => None,
            rows => Some(self.take(rows)),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, cast::AsArray, types::Int64Type};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    pub(super) fn numbers(sizes: &[usize]) -> Pipe {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let mut next = 0;
        let batches: Vec<_> = sizes
            .iter()
            .map(|&size| {
                let values = Int64Array::from_iter_values(next..next + size as i64);
                next += size as i64;
                Ok(RecordBatch::try_new(schema.clone(), vec![Arc::new(values)]).unwrap())
            })
            .collect();
        Pipe::new(schema, batches.into_iter())
    }

    fn values(batch: &RecordBatch) -> Vec<i64> {
        batch.column(0).as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn rebatching_keeps_every_row_in_order() {
        for rows in 1..12 {
            let batches: Vec<_> =
                numbers(&[3, 0, 5, 1]).rebatch(rows).into_parts().1.map(|b| values(&b.unwrap())).collect();
            assert!(batches.iter().rev().skip(1).all(|b| b.len() == rows));
            assert_eq!(batches.concat(), (0..9).collect::<Vec<_>>());
        }
    }

    #[test]
    fn cutting_keeps_every_row_in_order_and_joins_nothing() {
        let cut = |rows: usize| numbers(&[3, 0, 5, 1]).cut(rows).into_parts().1.map(|b| values(&b.unwrap()));
        assert_eq!(cut(2).map(|batch| batch.len()).collect::<Vec<_>>(), [2, 1, 0, 2, 2, 1, 1]);
        assert_eq!(cut(9).map(|batch| batch.len()).collect::<Vec<_>>(), [3, 0, 5, 1]);
        assert_eq!(cut(2).flatten().collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
    }

    #[test]
    fn metadata_that_changed_reaches_every_batch() {
        let with = |text: &str| {
            let metadata = arrow_schema::Metadata::new().with("nyx.pg", text);
            Arc::new(numbers(&[]).schema().as_ref().clone().with_metadata(metadata))
        };
        let pipe = numbers(&[2, 1]).with_schema(with("one")).with_schema(with("one, two"));
        let batches: Vec<_> = pipe.into_parts().1.map(|batch| batch.unwrap()).collect();
        assert!(batches.iter().all(|batch| batch.schema() == with("one, two")));
        assert_eq!(batches.iter().flat_map(values).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn the_time_of_a_slow_producer_is_its_own() {
        let (fast, slow) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let pipe = numbers(&[1, 1]).timed(fast.clone());
        let schema = pipe.schema().clone();
        let pause = std::time::Duration::from_millis(3);
        let slowed = pipe.map(schema, move |batch| {
            std::thread::sleep(pause);
            Ok(batch)
        });
        assert_eq!(slowed.timed(slow.clone()).into_parts().1.count(), 2);
        assert!(slow.load(Ordering::Relaxed) >= 2 * pause.as_nanos() as u64 + fast.load(Ordering::Relaxed));
    }

    #[test]
    fn an_error_upstream_arrives_and_is_the_last_item() {
        let (schema, batches) = numbers(&[2]).into_parts();
        let failing = batches.chain([Err(Error::data("bad"))]);
        let mut output = Pipe::new(schema, failing).ahead(1).cut(2).rebatch(1).ahead(2).into_parts().1;
        assert!(output.next().unwrap().is_ok());
        assert!(output.by_ref().any(|item| item.is_err()));
        assert!(output.next().is_none());
    }

    #[test]
    fn a_panic_upstream_is_not_an_end() {
        let pipe = numbers(&[1, 1]);
        let schema = pipe.schema().clone();
        let mut calls = 0;
        let panicking = pipe.map(schema, move |batch| {
            calls += 1;
            assert!(calls < 2, "worker failed");
            Ok(batch)
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            panicking.ahead(1).into_parts().1.count()
        }));
        assert!(outcome.is_err());
    }

    #[test]
    fn a_reader_that_leaves_ends_the_worker() {
        let schema = numbers(&[1]).schema().clone();
        let batch = numbers(&[1]).into_parts().1.next().unwrap().unwrap();
        let endless = std::iter::repeat_with(move || Ok(batch.clone()));
        let mut output = Pipe::new(schema, endless).ahead(1).into_parts().1;
        assert!(output.next().is_some());
        drop(output);
    }
}
