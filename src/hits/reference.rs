//! A naive dense solver in 64 bits, written from the formulas alone, and what it says about the fast one.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::dictionary::Dictionary;
use super::fit::{Coefficient, Fit, Fitter, Outcome, Settings, Solver};
use super::signal::{Preparation, Signal};
use crate::kernel::Instructions;
use crate::motif::filters::{Choice, Filter, build};
use crate::motif::{Matrix, Pattern};
use crate::region::Strand;

/// y = Σ c·a over dense columns a, one per (filter, position).
struct Dense {
    signal: Vec<f64>,
    columns: Vec<Column>,
    length: f64,
}

struct Column {
    filter: usize,
    position: usize,
    values: Vec<f64>,
    lambda: f64,
}

/// A random region: base indices, contributions [4][L], and filters of random motifs.
struct Region {
    sequence: Vec<u8>,
    contributions: Vec<Vec<f64>>,
    filters: Vec<Filter>,
}

impl Region {
    fn random(seed: u64, lambda: f64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let motifs = random.random_range(1..4);
        let patterns: Vec<Pattern> = (0..motifs).map(|index| pattern(index, &mut random)).collect();
        let filters = build(&patterns, &Choice { lambda, ..Choice::default() }).unwrap().filters;
        let length = random.random_range(20..60);
        let mut sequence: Vec<u8> =
            (0..length).map(|_| b"ACGTACGTACGTN"[random.random_range(0..13)]).collect();
        let mut contributions: Vec<Vec<f64>> =
            (0..4).map(|_| (0..length).map(|_| random.random_range(-0.3..0.3)).collect()).collect();
        for _ in 0..3 {
            let filter = &filters[random.random_range(0..filters.len())];
            let at = random.random_range(0..=length - filter.width);
            let amplitude = random.random_range(1.0..4.0);
            for offset in 0..filter.width {
                let weight = |base: usize| f64::from(filter.cwm[base * filter.width + offset]);
                (0..4).for_each(|base| contributions[base][at + offset] += amplitude * weight(base));
                let best = (0..4).max_by(|&a, &b| weight(a).total_cmp(&weight(b))).unwrap();
                sequence[at + offset] = b"ACGT"[best];
            }
        }
        Self { sequence, contributions, filters }
    }

    fn observed(&self, base: usize, position: usize) -> bool {
        self.sequence[position] == b"ACGT"[base]
    }

    fn signal(&self, hypothetical: bool) -> Signal {
        let length = self.sequence.len();
        if hypothetical {
            let rows: Vec<f32> = self.contributions.iter().flatten().map(|&value| value as f32).collect();
            return Signal::hypothetical(&rows, Preparation::default());
        }
        let at = |position| (0..4).find(|&base| self.observed(base, position));
        let value = |position| at(position).map_or(9.0, |base| self.contributions[base][position] as f32);
        let projected: Vec<f32> = (0..length).map(value).collect();
        Signal::projected(&projected, &self.sequence, Preparation::default())
    }

    fn dense(&self, hypothetical: bool) -> Dense {
        let length = self.sequence.len();
        let seen = |base, position| hypothetical || self.observed(base, position);
        let cells = || (0..4).flat_map(|base| (0..length).map(move |position| (base, position)));
        let raw: Vec<f64> = cells()
            .map(
                |(base, position)| {
                    if seen(base, position) { self.contributions[base][position] } else { 0.0 }
                },
            )
            .collect();
        let scale = (raw.iter().map(|value| value * value).sum::<f64>() / length as f64).sqrt();
        self.dense_with(hypothetical, raw.iter().map(|value| value / scale).collect())
    }

    /// The problem with the very signal a solver sees, rounded to 32 bits.
    fn dense_of(&self, signal: &Signal) -> Dense {
        let hypothetical = signal.bases().is_none();
        let cells = (0..4).flat_map(|base| (0..signal.length()).map(move |position| (base, position)));
        let value = |(base, position): (usize, usize)| match hypothetical {
            true => f64::from(signal.values()[position * 4 + base]),
            false if self.observed(base, position) => f64::from(signal.values()[position]),
            false => 0.0,
        };
        self.dense_with(hypothetical, cells.map(value).collect())
    }

    fn dense_with(&self, hypothetical: bool, signal: Vec<f64>) -> Dense {
        let length = self.sequence.len();
        let seen = |base, position| hypothetical || self.observed(base, position);
        let cells = || (0..4).flat_map(|base| (0..length).map(move |position| (base, position)));
        let mut columns = Vec::new();
        for (index, filter) in self.filters.iter().enumerate() {
            for first in 0..=length - filter.width {
                let inside =
                    |position: usize| (filter.start..filter.end).contains(&position.wrapping_sub(first));
                let energy: f64 = cells()
                    .zip(&signal)
                    .filter(|((_, position), _)| inside(*position))
                    .map(|(_, value)| value * value)
                    .sum();
                let values = cells()
                    .map(|(base, position)| {
                        if !inside(position) || !seen(base, position) {
                            return 0.0;
                        }
                        f64::from(filter.cwm[base * filter.width + position - first]) / (energy + 1.0).sqrt()
                    })
                    .collect();
                let position = first + filter.start;
                columns.push(Column { filter: index, position, values, lambda: f64::from(filter.lambda) });
            }
        }
        Dense { signal, columns, length: length as f64 }
    }
}

fn pattern(index: usize, random: &mut StdRng) -> Pattern {
    let width = random.random_range(4..9);
    let columns: Vec<[f64; 4]> =
        (0..width).map(|_| std::array::from_fn(|_| random.random_range(-0.2f64..1.0).powi(3))).collect();
    Pattern { tag: format!("m{index}"), cwm: Matrix::from_columns(&columns), hypothetical: None }
}

fn proxgrad() -> Settings {
    Settings { solver: Solver::Proxgrad, ..Settings::default() }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Dense {
    fn residual(&self, coefficients: &[f64]) -> Vec<f64> {
        let mut residual = self.signal.clone();
        for (column, coefficient) in self.columns.iter().zip(coefficients) {
            residual.iter_mut().zip(&column.values).for_each(|(r, a)| *r -= coefficient * a);
        }
        residual
    }

    fn gradient(&self, residual: &[f64]) -> Vec<f64> {
        self.columns.iter().map(|column| dot(&column.values, residual)).collect()
    }

    /// Runs `steps` steps of accelerated proximal gradient from zero.
    fn fista(&self, steps: usize, step_size: f64) -> Vec<f64> {
        let mut last = vec![0.0; self.columns.len()];
        let mut extrapolated = last.clone();
        for i in 0..steps {
            let gradient = self.gradient(&self.residual(&extrapolated));
            let next: Vec<f64> = (0..last.len())
                .map(|j| (extrapolated[j] + step_size * (gradient[j] - self.columns[j].lambda)).max(0.0))
                .collect();
            let momentum = i as f64 / (i as f64 + 3.0);
            extrapolated =
                next.iter().zip(&last).map(|(next, last)| next + momentum * (next - last)).collect();
            last = next;
        }
        last
    }

    fn objective(&self, coefficients: &[f64]) -> f64 {
        let residual = self.residual(coefficients);
        let penalty: f64 = self.columns.iter().zip(coefficients).map(|(column, c)| column.lambda * c).sum();
        0.5 * dot(&residual, &residual) + penalty
    }

    /// The objective at `coefficients` less the best dual value along their residual: an upper bound of how
    /// far they are from the optimum.
    fn gap(&self, coefficients: &[f64]) -> f64 {
        let residual = self.residual(coefficients);
        let ratio = self.gradient(&residual).into_iter().zip(&self.columns).map(|(g, c)| g / c.lambda);
        let sigma = 1.0 / ratio.fold(1.0, f64::max);
        let squares = dot(&residual, &residual);
        self.objective(coefficients) - (sigma * dot(&residual, &self.signal) - 0.5 * sigma * sigma * squares)
    }

    /// The coefficients of a fit, one per column.
    fn coefficients(&self, fit: &Fit) -> Vec<f64> {
        let mut coefficients = vec![0.0; self.columns.len()];
        for &Coefficient { filter, position, value } in &fit.coefficients {
            let found = self.columns.iter().position(|c| c.filter == filter && c.position == position);
            coefficients[found.expect("the place is one of the problem's")] = f64::from(value);
        }
        coefficients
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_iterates_are_those_of_the_naive_solver(seed: u64, steps in 1usize..40, hypothetical: bool) {
        let region = Region::random(seed, 0.5);
        let dictionary = Dictionary::new(&region.filters, false);
        let mut fitter = Fitter::new(&dictionary);
        let signal = region.signal(hypothetical);
        // A tolerance that is never met: one step more than the maximum is taken.
        let settings = Settings {
            tolerance: -1.0, max_steps: steps as u32 - 1, step_size_max: 0.5, ..proxgrad()
        };
        let fit = fitter.fit(&signal, &settings);
        prop_assert_eq!(fit.outcome, Outcome::TimedOut);
        prop_assert_eq!(fit.num_steps as usize, steps);
        let dense = region.dense(hypothetical);
        let (ours, theirs) = (dense.coefficients(&fit), dense.fista(steps, 0.5));
        // Rounding of 32 bits, carried along by a contraction.
        for (ours, theirs) in ours.iter().zip(&theirs) {
            prop_assert!((ours - theirs).abs() <= 2e-4 * (1.0 + theirs.abs()), "{} {}", ours, theirs);
        }
    }

    #[test]
    fn a_converged_fit_is_optimal_and_its_gap_is_true(seed: u64, hypothetical: bool) {
        let region = Region::random(seed, 0.5);
        let dictionary = Dictionary::new(&region.filters, false);
        let mut fitter = Fitter::new(&dictionary);
        let signal = region.signal(hypothetical);
        let settings = Settings { tolerance: 3e-6, step_size_max: 0.5, ..proxgrad() };
        let fit = fitter.fit(&signal, &settings);
        prop_assert_eq!(fit.outcome, Outcome::Converged);
        let dense = region.dense(hypothetical);
        let coefficients = dense.coefficients(&fit);
        let residual = dense.residual(&coefficients);
        // A gap of ε allows a violation of √(2ε) at columns of norm at most 1.
        let allowed = (2.0 * 4e-6 * dense.length).sqrt();
        for (gradient, (column, c)) in
            dense.gradient(&residual).iter().zip(dense.columns.iter().zip(&coefficients))
        {
            prop_assert!(*gradient <= column.lambda + allowed);
            prop_assert!(c * (column.lambda - gradient).max(0.0) <= 8e-6 * dense.length + 1e-6);
        }
        // No point is better by more than the reported gap.
        let best = dense.objective(&dense.fista(1500, 0.5));
        let excess = (dense.objective(&coefficients) - best) / dense.length;
        prop_assert!(excess <= fit.dual_gap + 1e-6, "excess {} gap {}", excess, fit.dual_gap);
        prop_assert!(dense.gap(&coefficients) / dense.length >= excess - 1e-9);
    }

    // Without a penalty columns that are alike can share a coefficient in many ways, so that the last digits
    // of the gap may take long; the sum of squares does not.
    #[test]
    fn without_a_penalty_the_fit_is_one_of_least_squares(seed: u64) {
        let region = Region::random(seed, 0.0);
        let dictionary = Dictionary::new(&region.filters, false);
        let mut fitter = Fitter::new(&dictionary);
        let signal = region.signal(false);
        let settings =
            Settings { tolerance: 1e-4, step_size_max: 0.5, max_steps: 1500, ..proxgrad() };
        let fit = fitter.fit(&signal, &settings);
        prop_assert!(fit.outcome != Outcome::Failed && fit.dual_gap.is_finite());
        // Columns that are nearly zero want enormous coefficients, which no number of steps reaches.
        prop_assume!(fit.coefficients.iter().all(|coefficient| coefficient.value < 100.0));
        let dense = region.dense(false);
        let coefficients = dense.coefficients(&fit);
        let squares = |c: &[f64]| dense.residual(c).iter().map(|r| r * r).sum::<f64>();
        let best = squares(&dense.fista(1500, 0.5));
        prop_assert!(squares(&coefficients) <= best + 0.01 * dense.length);
        prop_assert!(squares(&coefficients) < squares(&vec![0.0; dense.columns.len()]));
    }
}

fn exact(tolerance: f64) -> Settings {
    Settings { tolerance, ..Settings::default() }
}

/// Checks the conditions of optimality of `coefficients` in 64 bits.
fn check_optimal(dense: &Dense, coefficients: &[f64], allowed: f64) {
    let gradient = dense.gradient(&dense.residual(coefficients));
    for (gradient, (column, c)) in gradient.iter().zip(dense.columns.iter().zip(coefficients)) {
        assert!(*gradient <= column.lambda + allowed, "{gradient} above {}", column.lambda);
        assert!(*c == 0.0 || *gradient >= column.lambda - allowed, "{gradient} below {}", column.lambda);
        assert!(*c >= 0.0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_active_set_is_optimal_and_certified(seed: u64, hypothetical: bool, low: bool) {
        let region = Region::random(seed, if low { 0.02 } else { 0.5 });
        let dictionary = Dictionary::new(&region.filters, false);
        let signal = region.signal(hypothetical);
        let fit = Fitter::new(&dictionary).fit(&signal, &exact(1e-11));
        prop_assert_eq!(fit.outcome, Outcome::Converged);
        let dense = region.dense_of(&signal);
        let coefficients = dense.coefficients(&fit);
        check_optimal(&dense, &coefficients, 2e-6);
        // The naive solver may be worse, but not better; and nothing is better than a dual value. Rounding the
        // coefficients to 32 bits moves that by 1e-7, but the objective only by its square.
        let best = dense.objective(&dense.fista(1500, 0.03));
        let ours = dense.objective(&coefficients);
        prop_assert!(ours <= best * (1.0 + 1e-9), "{} {}", ours, best);
        prop_assert!(dense.gap(&coefficients) <= 1e-5 * ours.max(1.0), "{}", dense.gap(&coefficients));
    }

    #[test]
    fn a_loose_tolerance_is_kept_and_its_gap_is_true(seed: u64, hypothetical: bool) {
        let region = Region::random(seed, 0.3);
        let dictionary = Dictionary::new(&region.filters, false);
        let signal = region.signal(hypothetical);
        let mut fitter = Fitter::new(&dictionary);
        let dense = region.dense(hypothetical);
        for tolerance in [1e-1, 1e-2, 1e-3] {
            let fit = fitter.fit(&signal, &exact(tolerance));
            prop_assert_eq!(fit.outcome, Outcome::Converged);
            prop_assert!(fit.dual_gap <= tolerance);
            let coefficients = dense.coefficients(&fit);
            let gap = dense.gap(&coefficients) / dense.length;
            prop_assert!((gap - fit.dual_gap).abs() < 1e-5, "{} {}", gap, fit.dual_gap);
        }
    }

    #[test]
    fn the_bits_of_the_active_set_do_not_depend_on_instructions_or_on_what_was_before(seed: u64) {
        let region = Region::random(seed, 0.4);
        let dictionary = Dictionary::new(&region.filters, false);
        let mut bits = Vec::new();
        for instructions in Instructions::available() {
            let mut fitter = Fitter::with(&dictionary, instructions);
            for hypothetical in [true, false, true] {
                let fit = fitter.fit(&region.signal(hypothetical), &exact(1e-3));
                let fresh = Fitter::with(&dictionary, instructions).fit(&region.signal(hypothetical), &exact(1e-3));
                prop_assert_eq!(&fit.coefficients, &fresh.coefficients);
                prop_assert_eq!(fit.dual_gap.to_bits(), fresh.dual_gap.to_bits());
                bits.push((hypothetical, fit.dual_gap.to_bits(), fit.coefficients));
            }
        }
        let rounds: Vec<_> = bits.chunks(3).collect();
        prop_assert!(rounds.iter().all(|round| round == &rounds[0]));
    }

    #[test]
    fn without_a_penalty_the_active_set_is_least_squares(seed: u64) {
        let region = Region::random(seed, 0.0);
        let dictionary = Dictionary::new(&region.filters, false);
        let signal = region.signal(false);
        let fit = Fitter::new(&dictionary).fit(&signal, &exact(1e-6));
        prop_assert!(fit.dual_gap.is_finite(), "{:?}", fit);
        // Columns that are nearly zero get enormous coefficients, which the gap multiplies by rounding errors;
        // then the fit says itself that it has not converged.
        prop_assume!(fit.dual_gap < 0.05);
        let dense = region.dense_of(&signal);
        let best = dense.objective(&dense.fista(1500, 0.03));
        prop_assert!(dense.objective(&dense.coefficients(&fit)) <= best + 1e-6 * dense.length);
    }
}

#[test]
fn motifs_that_are_alike_do_not_trouble_the_active_set() {
    for seed in 0..20 {
        let mut region = Region::random(seed, 0.3);
        let mut alike = region.filters.clone();
        // The same once more, a palindrome's two strands, and one that differs in the sixth digit.
        let reverse = alike.iter().position(|filter| filter.strand == Strand::Reverse).unwrap();
        alike[reverse] = Filter { strand: Strand::Reverse, ..alike[reverse - 1].clone() };
        alike[0].cwm.iter_mut().for_each(|weight| *weight *= 1.0 + 1e-6);
        region.filters.extend(alike);
        let dictionary = Dictionary::new(&region.filters, false);
        for hypothetical in [false, true] {
            let fit = Fitter::new(&dictionary).fit(&region.signal(hypothetical), &exact(1e-11));
            assert_eq!(fit.outcome, Outcome::Converged, "seed {seed}: {fit:?}");
            let dense = region.dense_of(&region.signal(hypothetical));
            check_optimal(&dense, &dense.coefficients(&fit), 2e-6);
        }
    }
}

#[test]
fn the_active_set_gives_up_after_its_steps_and_says_so() {
    let region = Region::random(3, 0.01);
    let dictionary = Dictionary::new(&region.filters, false);
    let settings = Settings { max_steps: 0, ..exact(1e-9) };
    let fit = Fitter::new(&dictionary).fit(&region.signal(true), &settings);
    assert_eq!((fit.outcome, fit.num_steps), (Outcome::TimedOut, 1));
    assert!(fit.dual_gap > 1e-9);
}

#[test]
fn a_step_that_is_too_long_diverges_and_is_cut() {
    let region = Region::random(5, 0.1);
    let dictionary = Dictionary::new(&region.filters, false);
    let mut fitter = Fitter::new(&dictionary);
    let signal = region.signal(true);
    let settings = Settings { step_size_max: 50.0, ..proxgrad() };
    let long = fitter.fit(&signal, &settings);
    assert_eq!(long.outcome, Outcome::Converged);
    assert!(long.step_size < 50.0);
    let hopeless = Settings { step_size_max: 50.0, step_size_min: 49.0, ..proxgrad() };
    let failed = fitter.fit(&signal, &hopeless);
    assert_eq!(failed.outcome, Outcome::Failed);
    assert!(failed.coefficients.is_empty());
}

#[test]
fn reverse_filters_are_forward_filters_of_the_reverse_complement() {
    let region = Region::random(11, 0.5);
    let pair = &region.filters[..2];
    assert_eq!((pair[0].strand, pair[1].strand), (Strand::Forward, Strand::Reverse));
    assert!(pair[0].cwm.iter().eq(pair[1].cwm.iter().rev()));
}
