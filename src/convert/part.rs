//! One pipe into several sinks: each row goes to the sink of its part.

use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::{Error, Result};
use crate::pipe::Pipe;

/// Batches that wait for a sink.
const DEPTH: usize = 2;

/// What reads the pipe of one part to its end.
pub type Sink<'a> = Box<dyn FnOnce(Pipe) -> Result<()> + Send + 'a>;

/// Reads a pipe once and gives each row to one of `sinks`, by what `parts` says of every row of a batch; a row without a
/// part goes nowhere. Sinks run on threads of their own, and rows keep their order.
///
/// # Errors
///
/// The pipe's own, which no sink sees as an end, or the first sink's.
pub fn write(
    pipe: Pipe,
    mut parts: impl FnMut(&RecordBatch) -> Result<Vec<Option<usize>>>,
    sinks: Vec<Sink>,
) -> Result<()> {
    let (schema, batches) = pipe.into_parts();
    std::thread::scope(|scope| {
        let (mut senders, mut workers) = (Vec::new(), Vec::new());
        let started = sinks.into_iter().try_for_each(|sink| -> Result<()> {
            let (sender, receiver) = bounded(DEPTH);
            let schema = schema.clone();
            let worker = std::thread::Builder::new();
            let worker = worker.spawn_scoped(scope, move || sink(part(schema, receiver)));
            workers.push(worker.map_err(|error| Error::data(format!("cannot start a thread: {error}")))?);
            senders.push(sender);
            Ok(())
        });
        let read = started.and_then(|()| {
            batches.into_iter().try_for_each(|batch| {
                let batch = batch?;
                let parts = parts(&batch)?;
                send(&batch, &parts, &senders)
            })
        });
        if read.is_err() {
            let failed = || Error::data("what came before failed");
            senders.iter().for_each(|sender| _ = sender.send(Err(failed())));
        }
        drop(senders);
        // A sink that failed is why sending failed; both must be known before either is told.
        let join = |worker: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let written: Vec<Result<()>> = workers.into_iter().map(join).collect();
        match read {
            Err(Error::Closed) => written.into_iter().collect(),
            Err(error) => Err(error),
            Ok(()) => written.into_iter().collect(),
        }
    })
}

fn part(schema: SchemaRef, receiver: Receiver<Result<RecordBatch>>) -> Pipe {
    Pipe::new(schema, receiver.into_iter())
}

fn send(batch: &RecordBatch, parts: &[Option<usize>], senders: &[Sender<Result<RecordBatch>>]) -> Result<()> {
    for (index, sender) in senders.iter().enumerate() {
        let mask: BooleanArray = parts.iter().map(|part| Some(*part == Some(index))).collect();
        if mask.true_count() == 0 {
            continue;
        }
        let rows = filter_record_batch(batch, &mask)?;
        // The sink has ended before its pipe: it says itself why.
        sender.send(Ok(rows)).map_err(|_| Error::Closed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::convert::sample;
    use crate::schema;

    #[test]
    fn every_row_comes_to_its_sink_and_errors_come_back() {
        let found = [Mutex::new(Vec::new()), Mutex::new(Vec::new())];
        let sinks = || -> Vec<Sink> {
            found
                .iter()
                .map(|found| -> Sink {
                    Box::new(move |pipe| {
                        for batch in pipe.into_parts().1 {
                            let batch = batch?;
                            let regions = schema::u64s(&batch, schema::REGION)?;
                            found.lock().unwrap().extend(regions.values().iter().copied());
                        }
                        Ok(())
                    })
                })
                .collect()
        };
        let by_parity = |batch: &RecordBatch| {
            let regions = schema::u64s(batch, schema::REGION)?;
            Ok(regions.values().iter().map(|region| Some((region % 2) as usize)).collect())
        };
        write(sample::pipe(), by_parity, sinks()).unwrap();
        let [even, odd] = &found;
        let all: u64 = (even.lock().unwrap().len() + odd.lock().unwrap().len()) as u64;
        let (_, batches) = sample::pipe().into_parts();
        assert_eq!(all, batches.map(|batch| batch.unwrap().num_rows() as u64).sum::<u64>());
        assert!(even.lock().unwrap().iter().all(|region| region % 2 == 0) && !odd.lock().unwrap().is_empty());
        assert_eq!(write(sample::cut(), by_parity, sinks()).unwrap_err().exit_status(), 3);
        let failing: Vec<Sink> = vec![Box::new(|_| Err(Error::data("the disk is full")))];
        let error = write(sample::pipe(), |batch| Ok(vec![Some(0); batch.num_rows()]), failing).unwrap_err();
        assert!(error.to_string().contains("disk"), "{error}");
    }
}
