//! Bayesian search: the next point is where most improvement is to be expected (Jones and others 1998).

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::gaussian::Process;
use super::space::Space;

/// Points of the cube that are compared first, and points around the best of them in each of the rounds after.
const SCATTERED: usize = 600;
const AROUND: usize = 100;
/// How far around: the standard deviation of each round.
const NEAR: [f64; 4] = [0.1, 0.04, 0.015, 0.005];
/// The first primes, bases of the coordinates of [`scattered`].
const PRIMES: [u64; 24] =
    [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89];

/// Returns the point of a number of Halton's sequence, shifted by the seed: points that cover the cube more evenly
/// than drawn ones do.
pub fn scattered(number: u64, dimensions: usize, seed: u64) -> Vec<f64> {
    let mut random = StdRng::seed_from_u64(seed);
    let coordinate = |dimension: usize| {
        let (base, shift) = (PRIMES[dimension % PRIMES.len()], random.random::<f64>());
        // More parameters than primes: another part of the same sequence, another shift.
        (mirrored(number + 1 + 409 * (dimension / PRIMES.len()) as u64, base) + shift).fract()
    };
    (0..dimensions).map(coordinate).collect()
}

/// Returns the digits of a number behind the point, in a base.
fn mirrored(mut number: u64, base: u64) -> f64 {
    let (mut value, mut unit) = (0.0, 1.0 / base as f64);
    while number > 0 {
        value += (number % base) as f64 * unit;
        number /= base;
        unit /= base as f64;
    }
    value
}

/// Returns the next points to try, at most `count`, given points and their values, of which larger ones are better. A
/// point that means the same as a known one is not proposed again, so there may be fewer.
///
/// Several at once: each after the first takes the expected values of those before it for known.
pub fn propose(space: &Space, points: &[Vec<f64>], values: &[f64], count: usize, seed: u64) -> Vec<Vec<f64>> {
    let features = points.iter().map(|point| space.features(point)).collect();
    let mut process = Process::fit(features, values);
    let mut known: Vec<Vec<String>> = points.iter().map(|point| space.values(point)).collect();
    let mut best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let mut tops: Vec<Vec<f64>> = order.iter().take(3).map(|&index| points[index].clone()).collect();
    let mut proposed = Vec::new();
    for number in 0..count {
        let random = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
        let chooser = Chooser { space, process: &process, known: &known, best };
        let Some(point) = chooser.choose(&tops, random) else { break };
        let mean = process.at(&space.features(&point)).0;
        process = process.and(space.features(&point), mean);
        best = best.max(mean);
        known.push(space.values(&point));
        tops.push(point.clone());
        proposed.push(point);
    }
    proposed
}

struct Chooser<'a> {
    space: &'a Space,
    process: &'a Process,
    known: &'a [Vec<String>],
    best: f64,
}

impl Chooser<'_> {
    /// Returns the point of most expected improvement among scattered ones and those around the best.
    fn choose(&self, tops: &[Vec<f64>], mut random: StdRng) -> Option<Vec<f64>> {
        let dimensions = self.space.dimensions();
        let shift = random.random();
        let mut chosen: Option<(f64, Vec<f64>)> = None;
        let mut consider = |point: Vec<f64>| {
            let point = self.space.settle(&point);
            let gain = self.improvement(&point);
            if chosen.as_ref().is_none_or(|(most, _)| gain > *most)
                && !self.known.contains(&self.space.values(&point))
            {
                chosen = Some((gain, point));
            }
            chosen.as_ref().map(|(_, point)| point.clone())
        };
        let mut middle = None;
        for number in 0..SCATTERED as u64 {
            middle = consider(scattered(number, dimensions, shift));
        }
        let mut middles: Vec<Vec<f64>> = tops.to_vec();
        middles.extend(middle.take());
        for deviation in NEAR {
            for point in std::mem::take(&mut middles) {
                for _ in 0..AROUND {
                    let near = point.iter().map(|place| place + deviation * normal(&mut random));
                    middle = consider(near.map(|place| place.clamp(0.0, 1.0)).collect());
                }
            }
            middles.extend(middle.take());
        }
        chosen.map(|(_, point)| point)
    }

    /// Returns by how much a point is expected to be better than the best so far: σ·(z·Φ(z) + φ(z)), z = (μ − best)/σ.
    fn improvement(&self, point: &[f64]) -> f64 {
        let (mean, deviation) = self.process.at(&self.space.features(point));
        let z = (mean - self.best) / deviation.max(1e-12);
        let density = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        deviation * (z * (1.0 - upper_tail(z)) + density)
    }
}

/// Draws from the standard normal distribution (Box and Muller).
fn normal(random: &mut StdRng) -> f64 {
    let (a, b) = (random.random::<f64>(), random.random::<f64>());
    (-2.0 * (1.0 - a).ln()).sqrt() * (2.0 * std::f64::consts::PI * b).cos()
}

/// Returns the chance of a standard normal number above z, to 1e-7 (Abramowitz and Stegun 26.2.17).
fn upper_tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let polynomial = series.iter().rev().fold(0.0, |sum, factor| (sum + factor) * t);
    let tail = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * polynomial;
    if z >= 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Branin's function: three minima of 0.397887 in [-5, 10] × [0, 15].
    fn branin(point: &[f64]) -> f64 {
        use std::f64::consts::PI;
        let (x, y) = (15.0 * point[0] - 5.0, 15.0 * point[1]);
        let (b, c, t) = (5.1 / (4.0 * PI * PI), 5.0 / PI, 1.0 / (8.0 * PI));
        (y - b * x * x + c * x - 6.0).powi(2) + 10.0 * (1.0 - t) * x.cos() + 10.0
    }

    /// Hartmann's function of three coordinates: its minimum is -3.86278.
    fn hartmann(point: &[f64]) -> f64 {
        const A: [[f64; 3]; 4] = [[3.0, 10.0, 30.0], [0.1, 10.0, 35.0], [3.0, 10.0, 30.0], [0.1, 10.0, 35.0]];
        const C: [f64; 4] = [1.0, 1.2, 3.0, 3.2];
        const P: [[f64; 3]; 4] = [
            [0.3689, 0.1170, 0.2673],
            [0.4699, 0.4387, 0.7470],
            [0.1091, 0.8732, 0.5547],
            [0.038_15, 0.5743, 0.8828],
        ];
        let term = |row: usize| {
            let square: f64 = (0..3).map(|k| A[row][k] * (point[k] - P[row][k]).powi(2)).sum();
            C[row] * (-square).exp()
        };
        -(0..4).map(term).sum::<f64>()
    }

    fn space(dimensions: usize) -> Space {
        Space::new((0..dimensions).map(|i| format!("x{i}=0..1").parse().unwrap()).collect()).unwrap()
    }

    /// Returns the lowest value after so many trials of the search.
    fn searched(
        function: fn(&[f64]) -> f64,
        dimensions: usize,
        trials: usize,
        at_once: usize,
        seed: u64,
    ) -> f64 {
        let space = space(dimensions);
        let mut points: Vec<Vec<f64>> = (0..6).map(|number| scattered(number, dimensions, seed)).collect();
        while points.len() < trials {
            let values: Vec<f64> = points.iter().map(|point| -function(point)).collect();
            points.extend(propose(&space, &points, &values, at_once, seed + points.len() as u64));
        }
        points.iter().map(|point| function(point)).fold(f64::INFINITY, f64::min)
    }

    fn drawn(function: fn(&[f64]) -> f64, dimensions: usize, trials: usize, seed: u64) -> f64 {
        let mut random = StdRng::seed_from_u64(seed);
        let draw = |_| function(&(0..dimensions).map(|_| random.random()).collect::<Vec<f64>>());
        (0..trials).map(draw).fold(f64::INFINITY, f64::min)
    }

    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    #[test]
    fn it_comes_nearer_to_known_minima_than_five_times_as_many_drawn_points() {
        for (function, dimensions, minimum, near) in
            [(branin as fn(&[f64]) -> f64, 2, 0.397_887, 0.1), (hartmann, 3, -3.862_78, 0.1)]
        {
            let ours = median((0..5).map(|seed| searched(function, dimensions, 25, 1, seed)).collect());
            let theirs = median((0..21).map(|seed| drawn(function, dimensions, 125, seed)).collect());
            assert!(ours - minimum < near, "{dimensions}: {ours} {minimum}");
            assert!(ours < theirs, "{dimensions}: {ours} after 25, {theirs} after 125 drawn ones");
        }
    }

    #[test]
    fn several_at_once_differ_and_the_same_seed_gives_the_same() {
        let space = space(2);
        let points: Vec<Vec<f64>> = (0..6).map(|number| scattered(number, 2, 3)).collect();
        let values: Vec<f64> = points.iter().map(|point| -branin(point)).collect();
        let four = propose(&space, &points, &values, 4, 9);
        assert_eq!(four, propose(&space, &points, &values, 4, 9));
        assert_eq!(four[..1], propose(&space, &points, &values, 1, 9)[..]);
        for (index, point) in four.iter().enumerate() {
            let far = |other: &Vec<f64>| point.iter().zip(other).any(|(a, b)| (a - b).abs() > 1e-3);
            assert!(four[..index].iter().all(far), "{four:?}");
        }
        assert!(searched(branin, 2, 26, 4, 1) < 1.0);
    }

    #[test]
    fn a_space_that_is_used_up_has_no_further_point() {
        let space = Space::new(vec!["a=x,y".parse().unwrap(), "b=1,2".parse().unwrap()]).unwrap();
        let points = space.grid().unwrap();
        let three = propose(&space, &points[..3], &[1.0, 2.0, 3.0], 5, 0);
        assert_eq!(three, [points[3].clone()]);
        assert!(propose(&space, &points, &[1.0, 2.0, 3.0, 0.0], 1, 0).is_empty());
    }

    #[test]
    fn tails_are_those_of_tables_and_scattered_points_cover_the_cube() {
        for (z, tail) in [(0.0, 0.5), (1.0, 0.158_655_254), (-1.96, 0.975_002_105), (3.0, 0.001_349_898)] {
            assert!((upper_tail(z) - tail).abs() < 1e-7, "{z}");
        }
        let points: Vec<Vec<f64>> = (0..64).map(|number| scattered(number, 2, 5)).collect();
        let quarter = |x: f64, y: f64| (4.0 * x) as usize * 4 + (4.0 * y) as usize;
        let cells: std::collections::HashSet<usize> = points.iter().map(|p| quarter(p[0], p[1])).collect();
        assert_eq!(cells.len(), 16);
    }
}
