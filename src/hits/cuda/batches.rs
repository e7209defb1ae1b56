//! Batches of rows through a GPU: the next one is prepared while one is computed, in input order.

use std::collections::VecDeque;

use arrow_array::RecordBatch;
use rayon::prelude::*;

use super::{CudaSolver, SLOTS};
use crate::device::cuda::Cuda;
use crate::error::{Error, Result};
use crate::hits::fit::{Fit, Fitter};
use crate::hits::signal::Signal;
use crate::hits::stage::{Called, Context};
use crate::pipe::Batches;

/// Batches with what became of their rows.
pub(in crate::hits) struct CudaBatches {
    input: Option<Batches>,
    solver: CudaSolver,
    context: Context,
    waiting: VecDeque<Waiting>,
    /// What ended the input; it comes after all that arrived before it.
    failure: Option<Error>,
}

/// A batch that the GPU computes.
struct Waiting {
    batch: RecordBatch,
    rows: Vec<(Called, Option<Signal>)>,
    /// The rows that were sent, in order.
    sent: Vec<usize>,
}

impl CudaBatches {
    /// Puts the dictionary of `context` on a GPU.
    ///
    /// # Errors
    ///
    /// The GPU's.
    pub fn new(input: Batches, cuda: &Cuda, context: Context) -> Result<Self> {
        let hypothetical = context.options.mode.hypothetical_contributions();
        let solver = CudaSolver::new(cuda, &context.dictionary, hypothetical)?;
        Ok(Self { input: Some(input), solver, context, waiting: VecDeque::new(), failure: None })
    }

    /// Sends batches until the GPU has enough to do or the input ends.
    fn fill(&mut self) {
        while self.waiting.len() < SLOTS {
            let Some(input) = &mut self.input else { return };
            let sent = match input.next() {
                Some(batch) => batch.and_then(|batch| self.send(batch)),
                None => return self.input = None,
            };
            if let Err(error) = sent {
                self.failure = Some(error);
                self.input = None;
            }
        }
    }

    fn send(&mut self, batch: RecordBatch) -> Result<()> {
        let columns = self.context.columns(&batch)?;
        let prepare = |row| self.context.prepare(&columns, row);
        let rows: Vec<Result<_>> = (0..batch.num_rows()).into_par_iter().map(prepare).collect();
        let rows = rows.into_iter().collect::<Result<Vec<(Called, Option<Signal>)>>>()?;
        let takes = |signal: &Option<Signal>| signal.as_ref().is_some_and(|signal| self.solver.takes(signal));
        let sent: Vec<usize> = (0..rows.len()).filter(|&row| takes(&rows[row].1)).collect();
        let signals: Vec<&Signal> = sent.iter().filter_map(|&row| rows[row].1.as_ref()).collect();
        self.solver.submit(&signals, &self.context.options.settings)?;
        self.waiting.push_back(Waiting { batch, rows, sent });
        Ok(())
    }

    /// Waits for the oldest batch; the processor fits what the GPU has left.
    fn receive(&mut self, Waiting { batch, rows, sent }: Waiting) -> Result<(RecordBatch, Vec<Called>)> {
        let mut fits: Vec<Option<Fit>> = vec![None; rows.len()];
        for (row, fit) in sent.into_iter().zip(self.solver.collect()?) {
            fits[row] = fit;
        }
        let context = &self.context;
        let columns = context.columns(&batch)?;
        let called: Vec<Result<Called>> = rows
            .into_par_iter()
            .zip(fits)
            .enumerate()
            .map_init(
                || Fitter::new(&context.dictionary),
                |fitter, (row, ((called, signal), fit))| {
                    let Some(signal) = signal else { return Ok(called) };
                    let fit = fit.unwrap_or_else(|| fitter.fit(&signal, &context.options.settings));
                    context.finish(&columns, row, called, &signal, &fit)
                },
            )
            .collect();
        Ok((batch, called.into_iter().collect::<Result<_>>()?))
    }
}

impl Iterator for CudaBatches {
    type Item = Result<(RecordBatch, Vec<Called>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.fill();
        match self.waiting.pop_front() {
            Some(waiting) => Some(self.receive(waiting)),
            None => self.failure.take().map(Err),
        }
    }
}
