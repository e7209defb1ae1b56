//! Accelerated proximal gradient: step sizes, momentum, when to stop.

use super::engine::{Engine, Entry, Sums};
use super::fit::{Coefficient, Fit, Outcome, Settings};

/// Accelerated proximal gradient with momentum i/(i+3) and sparse iterates.
pub(super) fn fit(engine: &mut Engine, settings: &Settings) -> Fit {
    let mut state = State::new(settings.step_size_max);
    loop {
        let progress = state.step(engine, settings);
        let outcome = state.check(progress.gap, settings);
        if let Some(outcome) = outcome {
            let coefficient = |&(place, value): &Entry| {
                let (filter, position) = engine.locate(place);
                Coefficient { filter, position, value }
            };
            return Fit {
                coefficients: state.coefficients.iter().map(coefficient).collect(),
                nll: progress.nll,
                dual_gap: progress.gap,
                num_steps: state.steps,
                step_size: state.step_size,
                outcome,
            };
        }
    }
}

/// Coefficients c, extrapolated coefficients z, and where the iteration is.
struct State {
    coefficients: Vec<Entry>,
    extrapolated: Vec<Entry>,
    steps: u32,
    step_size: f32,
}

struct Progress {
    nll: f64,
    gap: f64,
}

impl State {
    fn new(step_size: f32) -> Self {
        Self { coefficients: Vec::new(), extrapolated: Vec::new(), steps: 0, step_size }
    }

    /// Takes one step and says how far things are: with `compat` at the extrapolated coefficients before
    /// it, else at the coefficients after it.
    fn step(&mut self, engine: &mut Engine, settings: &Settings) -> Progress {
        let sums = engine.subtract(&self.extrapolated);
        engine.correlate();
        let before = settings.compat.then(|| fi_nemo_gap(engine, &self.extrapolated, sums));
        let next = self.shrink(engine);
        let progress = before.unwrap_or_else(|| duality_gap(engine, &next, sums));
        let i = self.steps as f32;
        self.extrapolated = extrapolate(&next, &self.coefficients, i / (i + 3.0));
        self.coefficients = next;
        self.steps += 1;
        progress
    }

    /// Returns max(0, z + η(g − λ)) where it is not zero: on the support of z and where g > λ.
    fn shrink(&self, engine: &Engine) -> Vec<Entry> {
        let above = engine.above().iter().map(|&place| (place, 0.0));
        let step =
            |(place, z): Entry| (place, z + self.step_size * (engine.gradient(place) - engine.lambda(place)));
        merge(self.extrapolated.iter().copied(), above, |z, _| z)
            .map(step)
            .filter(|&(_, value)| value > 0.0)
            .collect()
    }

    /// Decides whether the iteration is over, and starts anew with a smaller step after a divergence.
    fn check(&mut self, gap: f64, settings: &Settings) -> Option<Outcome> {
        if !gap.is_finite() {
            self.coefficients.clear();
            self.extrapolated.clear();
            self.steps = 0;
            self.step_size *= settings.step_adjust;
        }
        if self.step_size < settings.step_size_min {
            return Some(Outcome::Failed);
        }
        if gap <= settings.tolerance {
            return Some(Outcome::Converged);
        }
        (self.steps > settings.max_steps).then_some(Outcome::TimedOut)
    }
}

/// Returns (1 + μ) next − μ last where it is not zero.
fn extrapolate(next: &[Entry], last: &[Entry], momentum: f32) -> Vec<Entry> {
    let next = next.iter().map(|&(place, value)| (place, (1.0 + momentum) * value));
    let last = last.iter().map(|&(place, value)| (place, momentum * value));
    merge(next, last.map(|(place, value)| (place, -value)), |a, b| a + b)
        .filter(|&(_, value)| value != 0.0)
        .collect()
}

/// Merges two lists in order of place; `both` decides where both have one.
fn merge(
    a: impl Iterator<Item = Entry>,
    b: impl Iterator<Item = Entry>,
    both: impl Fn(f32, f32) -> f32,
) -> impl Iterator<Item = Entry> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(&(at_a, x)), Some(&(at_b, y))) if at_a == at_b => {
            a.next();
            b.next();
            Some((at_a, both(x, y)))
        }
        (Some((at_a, _)), Some((at_b, _))) if at_b < at_a => b.next(),
        (Some(_), _) => a.next(),
        (None, _) => b.next(),
    })
}

/// Returns a sum, or infinity where a 32-bit float would overflow: that is how a divergence shows.
fn overflowing(sum: f64) -> f64 {
    if sum.abs() > f64::from(f32::MAX) { f64::INFINITY } else { sum }
}

fn penalty(engine: &Engine, coefficients: &[Entry]) -> f64 {
    let term = |&(place, value): &Entry| f64::from(engine.lambda(place)) * f64::from(value).abs();
    coefficients.iter().map(term).sum()
}

/// Fi-NeMo's stopping value at z, |½n(1 + σ²) − Σr·y + Σλ|z|| / L with σ = min(1/D, 1) and n = Σr². The
/// duality gap has σΣr·y in its place.
fn fi_nemo_gap(engine: &Engine, extrapolated: &[Entry], sums: Sums) -> Progress {
    let length = engine.length() as f64;
    let sigma = f64::from((1.0 / engine.largest_ratio()).min(1.0));
    let squares = overflowing(sums.squares);
    let gap = squares * (sigma * sigma + 1.0) / 2.0 - sums.with_signal + penalty(engine, extrapolated);
    Progress { nll: squares / (2.0 * length), gap: overflowing(gap).abs() / length }
}

/// The duality gap of the coefficients c after a step, over L: their objective less that of the dual point
/// σr, r the residual before the step, σ ≤ 1 the largest factor with σg ≤ λ everywhere.
///
/// Where a λ is 0 no factor but 0 is feasible in general; there the gap is the violation of the optimality
/// conditions, Σ c·|λ − g| + max(g − λ, 0)·Σc.
fn duality_gap(engine: &mut Engine, next: &[Entry], before: Sums) -> Progress {
    let length = engine.length() as f64;
    let ratio = f64::from(engine.largest_ratio());
    let violation = ratio.is_infinite().then(|| optimality_violation(engine, next));
    let after = engine.subtract(next);
    let squares = overflowing(after.squares);
    let sigma = if ratio > 1.0 { 1.0 / ratio } else { 1.0 };
    let primal = 0.5 * squares + penalty(engine, next);
    let dual = sigma * before.with_signal - 0.5 * sigma * sigma * before.squares;
    let gap = overflowing(violation.unwrap_or(primal - dual));
    Progress { nll: squares / (2.0 * length), gap: gap.max(0.0) / length }
}

fn optimality_violation(engine: &Engine, coefficients: &[Entry]) -> f64 {
    let excess = |place: u32| f64::from(engine.gradient(place) - engine.lambda(place));
    let worst = engine.above().iter().map(|&place| excess(place)).fold(0.0, f64::max);
    coefficients.iter().map(|&(place, value)| f64::from(value) * (excess(place).abs() + worst)).sum()
}
