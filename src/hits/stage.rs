//! The stage: batches of regions in, batches of hits out, in input order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use rayon::prelude::*;

use super::call::{self, Calling, Hit, Place};
use super::cuda::batches::CudaBatches;
use super::dictionary::Dictionary;
use super::fit::{Fit, Fitter, Outcome, Settings};
use super::signal::{NO_BASE, Preparation, Signal};
use super::table;
use super::{Mode, rows::Columns};
use crate::device::Opened;
use crate::error::{Error, Result};
use crate::motif::filters::MotifSet;
use crate::pipe::Pipe;
use crate::region::Strand;

/// What to call and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Kinds of CWMs and contributions.
    pub mode: Mode,
    /// Take signed square roots of CWMs and contributions.
    pub square_root: bool,
    /// Keep hits whose similarity is below λ.
    pub keep_dissimilar: bool,
    /// A region that does not converge is an error.
    pub strict: bool,
    /// Step sizes and stopping; its `compat` also asks for half precision and Fi-NeMo's similarity.
    pub settings: Settings,
}

/// What became of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegionStatus {
    /// Fitted.
    Ok,
    /// The steps ran out; its hits are those of the last step.
    NotConverged,
    /// The fit diverged at every step size: no hits.
    Failed,
    /// The row has no contributions.
    Missing,
    /// Some contribution is infinite or not a number.
    Nonfinite,
    /// All contributions are zero.
    AllZero,
    /// The sequence is nothing but N.
    AllN,
    /// The region is shorter than every motif.
    TooShort,
}

impl RegionStatus {
    /// Returns the text for tables and summaries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotConverged => "not_converged",
            Self::Failed => "failed",
            Self::Missing => "missing",
            Self::Nonfinite => "nonfinite",
            Self::AllZero => "all_zero",
            Self::AllN => "all_n",
            Self::TooShort => "too_short",
        }
    }

    /// Returns whether the region's hits are certified: the gap is within tolerance.
    pub fn converged(self) -> bool {
        !matches!(self, Self::NotConverged | Self::Failed)
    }
}

/// A region with its hits.
#[derive(Clone, Debug)]
pub struct Called {
    /// Ordinal of the region.
    pub region: u64,
    /// Contig, `None` when coordinates are unknown.
    pub chrom: Option<String>,
    /// First base of the window.
    pub start: i64,
    /// Name of the peak.
    pub name: Option<String>,
    /// Length L of the sequence.
    pub length: usize,
    /// What became of it.
    pub status: RegionStatus,
    /// ½ Σr² / L at the end.
    pub nll: f32,
    /// Duality gap over L at the end.
    pub dual_gap: f32,
    /// Steps since the last divergence.
    pub num_steps: u32,
    /// Step size at the end.
    pub step_size: f32,
    /// What the contributions were divided by, γ.
    pub scale: f32,
    /// The hits and where they lie, by start, motif, strand.
    pub hits: Vec<(Place, Hit)>,
}

/// What happened, for the summary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Regions read.
    pub regions: u64,
    /// Hits written.
    pub hits: u64,
    /// Regions by what became of them.
    pub statuses: BTreeMap<RegionStatus, u64>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} hits in {} regions", self.hits, self.regions)?;
        for (status, count) in self.statuses.iter().filter(|(status, _)| **status != RegionStatus::Ok) {
            write!(f, "; {count} {}", status.as_str())?;
        }
        Ok(())
    }
}

/// Calls hits on the regions of a pipe. `watch` sees every batch of regions, in order, before its hits go on.
///
/// # Errors
///
/// When the stream lacks a column that the mode needs; later, in the pipe: rows whose lengths do not agree,
/// and with `strict` the first region that did not converge.
pub fn call(
    pipe: Pipe,
    motifs: Arc<MotifSet>,
    options: Options,
    watch: impl FnMut(Vec<Called>) + Send + 'static,
) -> Result<(Pipe, Arc<Mutex<Summary>>)> {
    call_on(Opened::Cpu, pipe, motifs, options, watch)
}

/// Calls hits as [`call`] does, on a device. A GPU has the active set alone.
///
/// # Errors
///
/// Those of [`call`], and the GPU's.
pub fn call_on(
    device: Opened,
    pipe: Pipe,
    motifs: Arc<MotifSet>,
    options: Options,
    mut watch: impl FnMut(Vec<Called>) + Send + 'static,
) -> Result<(Pipe, Arc<Mutex<Summary>>)> {
    Columns::check(pipe.schema(), options.mode)?;
    let schema = table::schema(pipe.schema());
    let summary = Arc::new(Mutex::new(Summary::default()));
    let tally = summary.clone();
    let dictionary = Dictionary::new(&motifs.filters, options.square_root);
    let context = Context { motifs: motifs.clone(), dictionary, options };
    let target = schema.clone();
    let (_, input) = pipe.into_parts();
    let called: CalledBatches = match device {
        Opened::Cpu => Box::new(input.map(move |batch| {
            let batch = batch?;
            let called = context.call_batch(&batch)?;
            Ok((batch, called))
        })),
        Opened::Cuda(cuda) => Box::new(CudaBatches::new(input, &cuda, context)?),
    };
    let hits = called.map(move |called| {
        let (batch, called) = called?;
        count(&mut tally.lock().expect("no other thread counts"), &called);
        if options.strict {
            refuse_unconverged(&called)?;
        }
        let hits = table::batch(&target, &batch, &motifs, &called)?;
        watch(called);
        Ok(hits)
    });
    Ok((Pipe::new(schema, hits), summary))
}

/// Batches with what became of their rows.
type CalledBatches = Box<dyn Iterator<Item = Result<(RecordBatch, Vec<Called>)>> + Send>;

fn count(summary: &mut Summary, called: &[Called]) {
    for region in called {
        summary.regions += 1;
        summary.hits += region.hits.len() as u64;
        *summary.statuses.entry(region.status).or_default() += 1;
    }
}

fn refuse_unconverged(called: &[Called]) -> Result<()> {
    match called.iter().find(|region| !region.status.converged()) {
        Some(region) => Err(Error::data(format!(
            "region {}{} has not converged after {} steps (gap {:e}): raise --max-steps or --convergence-tol, or leave out --strict",
            region.region,
            region.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default(),
            region.num_steps,
            region.dual_gap,
        ))),
        None => Ok(()),
    }
}

/// What stays the same from row to row.
pub(super) struct Context {
    pub motifs: Arc<MotifSet>,
    pub dictionary: Dictionary,
    pub options: Options,
}

impl Context {
    /// Returns typed views of a batch.
    pub fn columns<'b>(&self, batch: &'b RecordBatch) -> Result<Columns<'b>> {
        Columns::of(batch, self.options.mode, self.options.settings.compat)
    }

    /// Calls every row of a batch, in parallel; the order is that of the rows.
    fn call_batch(&self, batch: &RecordBatch) -> Result<Vec<Called>> {
        let columns = self.columns(batch)?;
        let called: Vec<Result<Called>> = (0..batch.num_rows())
            .into_par_iter()
            .map_init(|| Fitter::new(&self.dictionary), |fitter, row| self.call_row(&columns, row, fitter))
            .collect();
        called.into_iter().collect()
    }

    fn call_row(&self, columns: &Columns, row: usize, fitter: &mut Fitter) -> Result<Called> {
        let (called, signal) = self.prepare(columns, row)?;
        let Some(signal) = signal else { return Ok(called) };
        self.check_length(&called, &signal, fitter)?;
        let fit = fitter.fit(&signal, &self.options.settings);
        self.finish(columns, row, called, &signal, &fit)
    }

    /// Returns a row's signal, and its status where there is nothing to fit.
    pub fn prepare(&self, columns: &Columns, row: usize) -> Result<(Called, Option<Signal>)> {
        let preparation = Preparation {
            square_root: self.options.square_root,
            half_precision: self.options.settings.compat,
        };
        let mut called = columns.identity(row)?;
        let Some(signal) = columns.signal(row, preparation)? else { return Ok((called, None)) };
        called.length = signal.length();
        called.scale = signal.scale();
        called.status = RegionStatus::TooShort;
        let too_short = self.dictionary.atoms().iter().all(|atom| atom.width > signal.length());
        Ok((called, (!too_short).then_some(signal)))
    }

    fn check_length(&self, called: &Called, signal: &Signal, fitter: &Fitter) -> Result<()> {
        let most = fitter.most_positions(&self.options.settings);
        match most.filter(|&most| signal.length() > most) {
            Some(most) => Err(Error::data(format!(
                "region {}: the proximal gradient takes at most {most} bases with {} filters, not {}: cut the \
                 region into tiles, or use --solver active-set, which takes any length",
                called.region,
                self.motifs.filters.len(),
                signal.length(),
            ))),
            None => Ok(()),
        }
    }

    /// Turns a fit into hits.
    pub fn finish(
        &self,
        columns: &Columns,
        row: usize,
        mut called: Called,
        signal: &Signal,
        fit: &Fit,
    ) -> Result<Called> {
        let Options { keep_dissimilar, settings, .. } = self.options;
        let filters = &self.motifs.filters;
        called.status = status(signal, fit);
        called.nll = fit.nll as f32;
        called.dual_gap = fit.dual_gap as f32;
        called.num_steps = fit.num_steps;
        called.step_size = fit.step_size;
        let calling = Calling { keep_dissimilar, compat: settings.compat };
        let (start, end, strand) = columns.window(row)?;
        called.hits = call::hits(&self.dictionary, signal, fit, calling)
            .into_iter()
            .map(|hit| (call::place(&hit, &filters[hit.filter], start, end, strand), hit))
            .collect();
        called.hits.sort_by_key(|(place, hit)| {
            (place.start, filters[hit.filter].motif, place.strand == Strand::Reverse)
        });
        Ok(called)
    }
}

fn status(signal: &Signal, fit: &Fit) -> RegionStatus {
    let all_n = signal.bases().is_some_and(|bases| bases.iter().all(|&base| base == NO_BASE));
    match fit.outcome {
        _ if signal.scale().is_nan() => RegionStatus::Nonfinite,
        _ if all_n => RegionStatus::AllN,
        _ if signal.scale() == 0.0 => RegionStatus::AllZero,
        Outcome::Converged => RegionStatus::Ok,
        Outcome::TimedOut => RegionStatus::NotConverged,
        Outcome::Failed => RegionStatus::Failed,
    }
}

#[cfg(test)]
mod tests;
