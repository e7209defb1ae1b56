//! The stage: batches of regions in, batches of hits out, in input order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use rayon::prelude::*;

use super::call::{self, Calling, Hit, Place};
use super::dictionary::Dictionary;
use super::engine::Engine;
use super::fit::{self, Fit, Outcome, Settings};
use super::signal::{NO_BASE, Preparation, Signal};
use super::table;
use super::{Mode, rows::Columns};
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
    /// Fi-NeMo's numbers: half precision, its stopping rule, its similarity.
    pub compat: bool,
    /// A region that does not converge is an error.
    pub strict: bool,
    /// Step sizes and stopping.
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
    mut watch: impl FnMut(Vec<Called>) + Send + 'static,
) -> Result<(Pipe, Arc<Mutex<Summary>>)> {
    Columns::check(pipe.schema(), options.mode)?;
    let schema = table::schema(pipe.schema());
    let summary = Arc::new(Mutex::new(Summary::default()));
    let tally = summary.clone();
    let dictionary = Dictionary::new(&motifs.filters, options.square_root);
    let target = schema.clone();
    let pipe = pipe.map(schema, move |batch| {
        let called = call_batch(&batch, &motifs, &dictionary, &options)?;
        count(&mut tally.lock().expect("no other thread counts"), &called);
        if options.strict {
            refuse_unconverged(&called)?;
        }
        let hits = table::batch(&target, &batch, &motifs, &called)?;
        watch(called);
        Ok(hits)
    });
    Ok((pipe, summary))
}

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

/// Calls every row of a batch, in parallel; the order is that of the rows.
fn call_batch(
    batch: &RecordBatch,
    motifs: &MotifSet,
    dictionary: &Dictionary,
    options: &Options,
) -> Result<Vec<Called>> {
    let columns = Columns::of(batch, options.mode)?;
    let called: Vec<Result<Called>> = (0..batch.num_rows())
        .into_par_iter()
        .map_init(
            || Engine::new(dictionary),
            |engine, row| call_row(&columns, row, engine, motifs, dictionary, options),
        )
        .collect();
    called.into_iter().collect()
}

fn call_row(
    columns: &Columns,
    row: usize,
    engine: &mut Engine,
    motifs: &MotifSet,
    dictionary: &Dictionary,
    options: &Options,
) -> Result<Called> {
    let preparation = Preparation { square_root: options.square_root, half_precision: options.compat };
    let mut called = columns.identity(row)?;
    let Some(signal) = columns.signal(row, preparation)? else { return Ok(called) };
    called.length = signal.length();
    called.scale = signal.scale();
    called.status = RegionStatus::TooShort;
    if dictionary.atoms().iter().all(|atom| atom.width > signal.length()) {
        return Ok(called);
    }
    engine.load(&signal);
    let fit = fit::fit(engine, &options.settings);
    called.status = status(&signal, &fit);
    called.nll = fit.nll as f32;
    called.dual_gap = fit.dual_gap as f32;
    called.num_steps = fit.num_steps;
    called.step_size = fit.step_size;
    let calling = Calling { keep_dissimilar: options.keep_dissimilar, compat: options.compat };
    let (start, end, strand) = columns.window(row)?;
    called.hits = call::hits(engine, dictionary, &signal, &fit, calling)
        .into_iter()
        .map(|hit| (call::place(&hit, &motifs.filters[hit.filter], start, end, strand), hit))
        .collect();
    called.hits.sort_by_key(|(place, hit)| {
        (place.start, motifs.filters[hit.filter].motif, place.strand == Strand::Reverse)
    });
    Ok(called)
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
