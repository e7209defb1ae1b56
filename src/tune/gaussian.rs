//! A Gaussian process: what is known of a function from some of its values, and how surely.
//!
//! Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), algorithm 2.1, with the Matérn kernel of 5/2
//! and a length for each coordinate. The amplitude is the one that makes the values most likely; lengths and noise are
//! searched for, with a prior that keeps them where few values say nothing.

/// Lengths that a coordinate of unit width can have, and the share of noise in a value's variance.
const LENGTHS: (f64, f64) = (0.03, 30.0);
const NOISES: (f64, f64) = (1e-6, 1.0);
/// Where the prior has its middle: a third of the range, almost no noise.
const MIDDLE: (f64, f64) = (0.33, 1e-3);
/// Standard deviations of the prior, of natural logarithms.
const SPREADS: (f64, f64) = (1.0, 3.0);

/// A function as far as it is known.
#[derive(Clone, Debug)]
pub struct Process {
    points: Vec<Vec<f64>>,
    /// Length of every coordinate, and the noise.
    scales: Scales,
    mean: f64,
    deviation: f64,
    amplitude: f64,
    /// Lower triangle of the factor of the covariances, over the amplitude.
    factor: Vec<Vec<f64>>,
    /// Covariances' inverse times standardized values.
    weights: Vec<f64>,
}

#[derive(Clone, Debug, PartialEq)]
struct Scales {
    lengths: Vec<f64>,
    noise: f64,
}

impl Process {
    /// Learns from values at points: `points` are `[N][D]` of about unit width, `values` are `[N]`.
    ///
    /// # Panics
    ///
    /// When there are none, or not as many of both.
    pub fn fit(points: Vec<Vec<f64>>, values: &[f64]) -> Self {
        assert!(!points.is_empty() && points.len() == values.len(), "a value for each point");
        let dimensions = points[0].len();
        let mut best = Scales { lengths: vec![MIDDLE.0; dimensions], noise: MIDDLE.1 };
        let standard = standardized(values);
        let mut score = evidence(&points, &standard.2, &best);
        // A pattern search: each scale up and down by a factor that shrinks.
        for factor in [4.0, 2.0, 1.4, 1.15] {
            for _ in 0..3 {
                let before = score;
                for index in 0..=dimensions {
                    for by in [factor, 1.0 / factor] {
                        let tried = best.changed(index, by);
                        let found = evidence(&points, &standard.2, &tried);
                        if found > score {
                            (best, score) = (tried, found);
                        }
                    }
                }
                if score - before < 1e-3 {
                    break;
                }
            }
        }
        Self::with(points, values, best)
    }

    /// Learns a further value without another search for the scales.
    pub fn and(&self, point: Vec<f64>, value: f64) -> Self {
        let mut points = self.points.clone();
        let mut values: Vec<f64> = self.values();
        points.push(point);
        values.push(value);
        Self::with(points, &values, self.scales.clone())
    }

    /// Returns the values it was made of.
    fn values(&self) -> Vec<f64> {
        // K·(K⁻¹·y), by the factor.
        let size = self.weights.len();
        let half: Vec<f64> =
            (0..size).map(|row| (row..size).map(|k| self.factor[k][row] * self.weights[k]).sum()).collect();
        let of = |row: usize| (0..=row).map(|k| self.factor[row][k] * half[k]).sum::<f64>();
        (0..size).map(|row| self.mean + self.deviation * of(row)).collect()
    }

    fn with(points: Vec<Vec<f64>>, values: &[f64], scales: Scales) -> Self {
        let (mean, deviation, standard) = standardized(values);
        let factor = factorized(&points, &scales);
        let weights = solve(&factor, &standard);
        let amplitude = amplitude(&standard, &weights);
        Self { points, scales, mean, deviation, amplitude, factor, weights }
    }

    /// Returns the mean and the standard deviation of the function at a point.
    pub fn at(&self, point: &[f64]) -> (f64, f64) {
        let near: Vec<f64> =
            self.points.iter().map(|other| matern(point, other, &self.scales.lengths)).collect();
        let mean: f64 = near.iter().zip(&self.weights).map(|(a, b)| a * b).sum();
        let half = forward(&self.factor, &near);
        let left = (1.0 - half.iter().map(|x| x * x).sum::<f64>()).max(0.0);
        (self.mean + self.deviation * mean, self.deviation * (self.amplitude * left).sqrt())
    }
}

impl Scales {
    /// Returns the scales with one multiplied; the one after the lengths is the noise.
    fn changed(&self, index: usize, by: f64) -> Self {
        let mut changed = self.clone();
        match changed.lengths.get_mut(index) {
            Some(length) => *length = (*length * by).clamp(LENGTHS.0, LENGTHS.1),
            None => changed.noise = (changed.noise * by * by).clamp(NOISES.0, NOISES.1),
        }
        changed
    }

    /// Returns the logarithm of the prior, but for a constant.
    fn prior(&self) -> f64 {
        let square = |value: f64, middle: f64, spread: f64| ((value / middle).ln() / spread).powi(2) / 2.0;
        let lengths: f64 = self.lengths.iter().map(|&length| square(length, MIDDLE.0, SPREADS.0)).sum();
        -lengths - square(self.noise, MIDDLE.1, SPREADS.1)
    }
}

/// Returns mean, standard deviation (1 where all are equal) and standardized values.
fn standardized(values: &[f64]) -> (f64, f64, Vec<f64>) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    let deviation = if variance > 0.0 { variance.sqrt() } else { 1.0 };
    (mean, deviation, values.iter().map(|value| (value - mean) / deviation).collect())
}

/// Returns the amplitude (a variance) that makes the values most likely: yᵀK⁻¹y / n.
fn amplitude(standard: &[f64], weights: &[f64]) -> f64 {
    let fit: f64 = standard.iter().zip(weights).map(|(a, b)| a * b).sum();
    (fit / standard.len() as f64).max(1e-12)
}

/// Returns the logarithm of the likelihood times the prior at the best amplitude, but for a constant.
fn evidence(points: &[Vec<f64>], standard: &[f64], scales: &Scales) -> f64 {
    let factor = factorized(points, scales);
    let weights = solve(&factor, standard);
    let determinant: f64 = factor.iter().enumerate().map(|(row, values)| values[row].ln()).sum();
    -0.5 * standard.len() as f64 * amplitude(standard, &weights).ln() - determinant + scales.prior()
}

/// The Matérn kernel of 5/2: (1 + √5·r + 5/3·r²)·exp(−√5·r).
fn matern(a: &[f64], b: &[f64], lengths: &[f64]) -> f64 {
    let square: f64 = a.iter().zip(b).zip(lengths).map(|((a, b), length)| ((a - b) / length).powi(2)).sum();
    let scaled = (5.0 * square).sqrt();
    (1.0 + scaled + scaled * scaled / 3.0) * (-scaled).exp()
}

/// Returns the lower factor L of the covariances with noise, L·Lᵀ = K (Cholesky).
fn factorized(points: &[Vec<f64>], scales: &Scales) -> Vec<Vec<f64>> {
    let mut factor: Vec<Vec<f64>> = Vec::with_capacity(points.len());
    for (row, point) in points.iter().enumerate() {
        let mut values = Vec::with_capacity(row + 1);
        for (column, above) in factor.iter().enumerate() {
            let known: f64 = values.iter().zip(above).map(|(a, b): (&f64, &f64)| a * b).sum();
            values.push((matern(point, &points[column], &scales.lengths) - known) / above[column]);
        }
        let known: f64 = values.iter().map(|value| value * value).sum();
        // Noise keeps what is under the root above 0; equal points would be 0 without it.
        values.push((1.0 + scales.noise - known).max(1e-12).sqrt());
        factor.push(values);
    }
    factor
}

/// Returns x of L·x = b.
fn forward(factor: &[Vec<f64>], b: &[f64]) -> Vec<f64> {
    let mut x: Vec<f64> = Vec::with_capacity(b.len());
    for (row, values) in factor.iter().enumerate() {
        let known: f64 = values.iter().zip(&x).map(|(a, b)| a * b).sum();
        x.push((b[row] - known) / values[row]);
    }
    x
}

/// Returns x of L·Lᵀ·x = b.
fn solve(factor: &[Vec<f64>], b: &[f64]) -> Vec<f64> {
    let mut x = forward(factor, b);
    for row in (0..x.len()).rev() {
        let known: f64 = (row + 1..x.len()).map(|k| factor[k][row] * x[k]).sum();
        x[row] = (x[row] - known) / factor[row][row];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(x: f64) -> f64 {
        (6.0 * x).sin() + x
    }

    fn process() -> Process {
        let points: Vec<Vec<f64>> = (0..8).map(|i| vec![f64::from(i) / 7.0]).collect();
        let values: Vec<f64> = points.iter().map(|point| wave(point[0])).collect();
        Process::fit(points, &values)
    }

    #[test]
    fn it_goes_through_its_values_and_is_unsure_elsewhere() {
        let process = process();
        for i in 0..8 {
            let x = f64::from(i) / 7.0;
            let (mean, deviation) = process.at(&[x]);
            assert!((mean - wave(x)).abs() < 0.02 && deviation < 0.05, "{x}: {mean} {deviation}");
        }
        let (between, far) = (process.at(&[0.5]), process.at(&[3.0]));
        assert!((between.0 - wave(0.5)).abs() < 0.1, "{between:?}");
        assert!(far.1 > 5.0 * between.1, "{far:?} {between:?}");
    }

    #[test]
    fn the_solution_is_that_of_the_whole_matrix() {
        let points = vec![vec![0.1, 0.9], vec![0.4, 0.3], vec![0.8, 0.5]];
        let scales = Scales { lengths: vec![0.5, 0.7], noise: 0.01 };
        let factor = factorized(&points, &scales);
        let b = [1.0, -2.0, 0.5];
        let x = solve(&factor, &b);
        for (row, point) in points.iter().enumerate() {
            let covariance = |column: usize| {
                let noise = if row == column { scales.noise } else { 0.0 };
                matern(point, &points[column], &scales.lengths) + noise
            };
            let sum: f64 = (0..3).map(|column| covariance(column) * x[column]).sum();
            assert!((sum - b[row]).abs() < 1e-9);
        }
    }

    #[test]
    fn a_coordinate_that_says_nothing_gets_a_long_length_and_a_further_value_is_kept() {
        let points: Vec<Vec<f64>> =
            (0..25).map(|i| vec![f64::from(i % 5) / 4.0, f64::from(i / 5) / 4.0]).collect();
        let values: Vec<f64> = points.iter().map(|point| wave(point[0])).collect();
        let process = Process::fit(points, &values);
        assert!(process.scales.lengths[1] > 4.0 * process.scales.lengths[0], "{:?}", process.scales);
        let more = process.and(vec![0.9, 0.1], 7.0);
        let values = more.values();
        assert!((values[25] - 7.0).abs() < 1e-6 && (values[3] - wave(0.75)).abs() < 1e-6);
        assert!((more.at(&[0.9, 0.1]).0 - 7.0).abs() < (process.at(&[0.9, 0.1]).0 - 7.0).abs());
    }

    #[test]
    fn equal_values_and_equal_points_are_no_reason_to_fail() {
        let process = Process::fit(vec![vec![0.5], vec![0.5], vec![0.2]], &[1.0, 1.0, 1.0]);
        let (mean, deviation) = process.at(&[0.7]);
        assert!((mean - 1.0).abs() < 1e-9 && deviation.is_finite());
    }
}
