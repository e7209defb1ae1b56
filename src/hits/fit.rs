//! What a fit is asked for and what it gives, whichever solver does it.

use super::active::ActiveSet;
use super::dictionary::Dictionary;
use super::engine::Engine;
use super::proxgrad;
use super::signal::Signal;
use crate::kernel::Instructions;

/// How coefficients are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Solver {
    /// The active set, or with `compat` the proximal gradient.
    #[default]
    Auto,
    /// Exact, by working sets of clusters; ends at the true duality gap.
    ActiveSet,
    /// Accelerated proximal gradient (FISTA), Fi-NeMo's iteration.
    Proxgrad,
}

impl Solver {
    /// Returns whether this is the proximal gradient; `compat` says so where nothing else does.
    pub fn is_proximal(self, compat: bool) -> bool {
        match self {
            Self::Auto => compat,
            Self::ActiveSet => false,
            Self::Proxgrad => true,
        }
    }

    /// Returns the gap over L that is asked for unless the user asks for another: Fi-NeMo's for the proximal
    /// gradient, and for the active set, which gets there at no more cost, one that leaves nothing to chance.
    pub fn tolerance(self, compat: bool) -> f64 {
        if self.is_proximal(compat) { 5e-4 } else { 1e-8 }
    }
}

/// Step sizes and stopping.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Which solver.
    pub solver: Solver,
    /// Step size at the start.
    pub step_size_max: f32,
    /// A region whose step size falls below has failed.
    pub step_size_min: f32,
    /// Factor of the step size after a divergence.
    pub step_adjust: f32,
    /// Gap over L at which a region is done.
    pub tolerance: f64,
    /// A region that needs more steps is given up; it takes one more than this. The active set's steps are
    /// passes over the places, and a handful.
    pub max_steps: u32,
    /// Stop where Fi-NeMo stops, by its formula, which is not the duality gap.
    pub compat: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            solver: Solver::Auto,
            step_size_max: 3.0,
            step_size_min: 0.08,
            step_adjust: 0.7,
            tolerance: 0.0005,
            max_steps: 10_000,
            compat: false,
        }
    }
}

/// How a fit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The gap is within tolerance.
    Converged,
    /// The steps ran out; the coefficients are those of the last one.
    TimedOut,
    /// The step size fell below its minimum; all coefficients are zero.
    Failed,
}

/// A coefficient that is not zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coefficient {
    /// Index of the filter.
    pub filter: usize,
    /// First position q of the filter's trimmed span in the region.
    pub position: usize,
    /// Its value c.
    pub value: f32,
}

/// The coefficients of a region and how good they are.
#[derive(Clone, Debug)]
pub struct Fit {
    /// Coefficients that are not zero.
    pub coefficients: Vec<Coefficient>,
    /// ½ Σr² / L.
    pub nll: f64,
    /// Duality gap over L.
    pub dual_gap: f64,
    /// Steps since the last divergence.
    pub num_steps: u32,
    /// Step size at the end; NaN for the active set, whose steps are exact and have none.
    pub step_size: f32,
    /// How it ended.
    pub outcome: Outcome,
}

/// Fits region after region in the same buffers.
pub struct Fitter<'d> {
    engine: Engine<'d>,
    active: ActiveSet<'d>,
}

impl<'d> Fitter<'d> {
    /// Creates a fitter for the filters of `dictionary`.
    pub fn new(dictionary: &'d Dictionary) -> Self {
        Self::with(dictionary, Instructions::detect())
    }

    /// Creates a fitter that uses some of the processor's instructions; results do not depend on it.
    pub(super) fn with(dictionary: &'d Dictionary, instructions: Instructions) -> Self {
        Self { engine: Engine::new(dictionary), active: ActiveSet::new(dictionary, instructions) }
    }

    /// Returns the most positions that a region can have, if there is such a number. The proximal gradient is
    /// one problem whose every (filter, position) has a number; the active set takes a region apart.
    pub fn most_positions(&self, settings: &Settings) -> Option<usize> {
        settings.solver.is_proximal(settings.compat).then(|| self.engine.most_positions())
    }

    /// Fits a region of at most [`Fitter::most_positions`].
    pub fn fit(&mut self, signal: &Signal, settings: &Settings) -> Fit {
        if settings.solver.is_proximal(settings.compat) {
            self.engine.load(signal);
            proxgrad::fit(&mut self.engine, settings)
        } else {
            self.active.fit(signal, settings)
        }
    }
}
