//! The conditions of optimality on the oracle's regions, checked in 64 bits from arrays and formulas alone.

use std::collections::HashSet;
use std::ops::Range;

use rayon::prelude::*;

use super::Mode;
use super::dictionary::Dictionary;
use super::fit::{Fitter, Outcome, Settings};
use super::signal::{Preparation, Signal};
use crate::motif;
use crate::motif::filters::{Choice, Filter, MotifSet, build};
use crate::npy::{Array, Npz};

const MODES: [Mode; 4] = [Mode::Pp, Mode::Ph, Mode::Hp, Mode::Hh];

/// Regions of one width.
struct Oracle {
    count: usize,
    length: usize,
    onehot: Vec<f32>,
    scores: Vec<f32>,
}

/// A region: one-hot sequence and hypothetical contributions, [4][L].
struct Problem {
    onehot: Vec<f32>,
    scores: Vec<f32>,
}

impl Problem {
    /// Returns what the solver is given.
    fn signal(&self, hypothetical: bool) -> Signal {
        if hypothetical {
            return Signal::hypothetical(&self.scores, Preparation::default());
        }
        let length = self.onehot.len() / 4;
        let base = |at: usize| (0..4).find(|base| self.onehot[base * length + at] > 0.0);
        let sequence: Vec<u8> = (0..length).map(|at| base(at).map_or(b'N', |base| b"ACGT"[base])).collect();
        let value = |at: usize| base(at).map_or(0.0, |base| self.scores[base * length + at]);
        let values: Vec<f32> = (0..length).map(value).collect();
        Signal::projected(&values, &sequence, Preparation::default())
    }
}

fn oracle(folder: &str, motifs: &str) -> (Option<Oracle>, Option<Vec<motif::Pattern>>) {
    let Some(root) = crate::testing::shared("golden/finemo") else { return (None, None) };
    let mut npz = Npz::open(&root.join(folder).join("regions.npz")).unwrap();
    let onehot: Array<f32> = npz.numbers("sequences").unwrap();
    let scores: Array<f32> = npz.numbers("contributions").unwrap();
    let (count, length) = (onehot.shape[0], onehot.shape[2]);
    let regions = Oracle { count, length, onehot: onehot.values, scores: scores.values };
    (Some(regions), Some(motif::read(&root.join(motifs)).unwrap()))
}

impl Oracle {
    /// Some regions, one after the other, as one.
    fn problem(&self, rows: Range<usize>) -> Problem {
        let join = |values: &[f32]| {
            let cells = |base: usize, row: usize| &values[(row * 4 + base) * self.length..][..self.length];
            (0..4).flat_map(|base| rows.clone().flat_map(move |row| cells(base, row)).copied()).collect()
        };
        Problem { onehot: join(&self.onehot), scores: join(&self.scores) }
    }
}

fn check_all_optimal(patterns: &[motif::Pattern], mode: Mode, lambda: f64, problems: &[Problem]) {
    let choice = Choice { hypothetical: mode.hypothetical_motifs(), lambda, ..Choice::default() };
    let set = build(patterns, &choice).unwrap();
    problems.par_iter().for_each(|problem| check_optimal(&set, problem, mode));
}

fn check_optimal(set: &MotifSet, problem: &Problem, mode: Mode) {
    let hypothetical = mode.hypothetical_contributions();
    let signal = problem.signal(hypothetical);
    let dictionary = Dictionary::new(&set.filters, false);
    let settings = Settings { tolerance: 1e-11, ..Settings::default() };
    let fit = Fitter::new(&dictionary).fit(&signal, &settings);
    assert_eq!(fit.outcome, Outcome::Converged, "{mode:?}: {fit:?}");
    let mut dense = Dense::new(problem, hypothetical, f64::from(signal.scale()));
    for hit in &fit.coefficients {
        dense.subtract(&set.filters[hit.filter], hit.position, f64::from(hit.value));
    }
    let found: HashSet<(usize, usize)> =
        fit.coefficients.iter().map(|hit| (hit.filter, hit.position)).collect();
    for (index, filter) in set.filters.iter().enumerate() {
        for position in filter.start..=dense.length - filter.width + filter.start {
            // The signal is rounded to 32 bits, so are the coefficients.
            let excess = dense.correlation(filter, position) - f64::from(filter.lambda);
            let place = (index, position);
            assert!(excess <= 1e-5, "{mode:?} {place:?}: {excess}");
            assert!(!found.contains(&place) || excess >= -1e-5, "{mode:?} {place:?}: {excess}");
        }
    }
}

/// The arrays of a problem, [4][L].
struct Dense {
    length: usize,
    mask: Vec<f64>,
    residual: Vec<f64>,
    /// Σy² before each position.
    energy: Vec<f64>,
}

impl Dense {
    fn new(problem: &Problem, hypothetical: bool, scale: f64) -> Self {
        let length = problem.onehot.len() / 4;
        let mask: Vec<f64> =
            problem.onehot.iter().map(|&one| if hypothetical { 1.0 } else { f64::from(one) }).collect();
        let signal: Vec<f64> =
            mask.iter().zip(&problem.scores).map(|(mask, &score)| mask * f64::from(score) / scale).collect();
        let mut energy = vec![0.0];
        for at in 0..length {
            let squares: f64 = (0..4).map(|base| signal[base * length + at].powi(2)).sum();
            energy.push(energy[at] + squares);
        }
        Self { length, mask, residual: signal, energy }
    }

    /// Returns s for the trimmed window at `position`.
    fn scale(&self, filter: &Filter, position: usize) -> f64 {
        let energy = self.energy[position + filter.end - filter.start] - self.energy[position];
        1.0 / (energy + 1.0).sqrt()
    }

    /// Returns the cells of a window with the masked weight at each.
    fn cells<'a>(&'a self, filter: &'a Filter, position: usize) -> impl Iterator<Item = (usize, f64)> + 'a {
        (0..4).flat_map(move |base| {
            (filter.start..filter.end).map(move |column| {
                let cell = base * self.length + position + column - filter.start;
                (cell, self.mask[cell] * f64::from(filter.cwm[base * filter.width + column]))
            })
        })
    }

    fn subtract(&mut self, filter: &Filter, position: usize, coefficient: f64) {
        let scale = self.scale(filter, position);
        let cells: Vec<(usize, f64)> = self.cells(filter, position).collect();
        cells.into_iter().for_each(|(cell, weight)| self.residual[cell] -= coefficient * scale * weight);
    }

    /// Returns g = ⟨sK, r⟩.
    fn correlation(&self, filter: &Filter, position: usize) -> f64 {
        let product: f64 =
            self.cells(filter, position).map(|(cell, weight)| self.residual[cell] * weight).sum();
        self.scale(filter, position) * product
    }
}

#[test]
fn the_exact_coefficients_of_all_regions_are_optimal_in_all_modes() {
    for (folder, motifs) in [
        ("real_CTCFL", "real_CTCFL/modisco.h5"),
        ("real_USF1", "real_USF1/modisco.h5"),
        ("overlap600", "synth1000_sub100/modisco_like.h5"),
        ("synth1000_sub100", "synth1000_sub100/modisco_like.h5"),
    ] {
        let (Some(regions), Some(motifs)) = oracle(folder, motifs) else { return };
        for mode in MODES {
            let problems: Vec<Problem> =
                (0..regions.count).map(|row| regions.problem(row..row + 1)).collect();
            check_all_optimal(&motifs, mode, 0.7, &problems);
        }
    }
}

/// Far more places violate their penalty at first than join the working set at once.
#[test]
fn the_exact_coefficients_are_optimal_at_a_low_lambda() {
    let (Some(regions), Some(motifs)) = oracle("synth1000_sub100", "synth1000_sub100/modisco_like.h5") else {
        return;
    };
    for mode in MODES {
        let problems: Vec<Problem> = (0..2).map(|row| regions.problem(row..row + 1)).collect();
        check_all_optimal(&motifs, mode, 0.1, &problems);
        check_all_optimal(&motifs, mode, 0.3, &problems);
    }
}

/// One region of 20,000 positions is many stretches and some hundred clusters.
#[test]
fn the_exact_coefficients_of_a_long_region_are_optimal() {
    let (Some(regions), Some(motifs)) = oracle("synth1000_sub100", "synth1000_sub100/modisco_like.h5") else {
        return;
    };
    for mode in [Mode::Pp, Mode::Hh] {
        check_all_optimal(&motifs, mode, 0.7, &[regions.problem(0..20)]);
    }
}
