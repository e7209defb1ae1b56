//! Layer norm and root mean square norm of rows.

use std::sync::Arc;

use super::Instructions;
use super::instructions::vectorize;

/// Numbers added side by side.
const LANES: usize = 16;

/// A norm over the last axis: each row less its mean (or not), over its root mean square, times weights.
///
/// Cheap to clone: the weights are shared. Sums have a fixed order, so a row's bits depend on that row alone.
#[derive(Clone, Debug)]
pub struct Norm {
    weights: Arc<[f32]>,
    bias: Option<Arc<[f32]>>,
    epsilon: f32,
    centred: bool,
}

impl Norm {
    /// Creates a layer norm: (x - mean)/√(variance + epsilon)·weights + bias.
    ///
    /// # Panics
    ///
    /// When the bias has another length than the weights.
    pub fn layer(weights: &[f32], bias: Option<&[f32]>, epsilon: f32) -> Self {
        assert!(bias.is_none_or(|bias| bias.len() == weights.len()));
        Self { weights: weights.into(), bias: bias.map(Into::into), epsilon, centred: true }
    }

    /// Creates a root mean square norm: x/√(mean of x² + epsilon)·weights.
    pub fn rms(weights: &[f32], epsilon: f32) -> Self {
        Self { weights: weights.into(), bias: None, epsilon, centred: false }
    }

    /// Returns the numbers of a row.
    pub fn width(&self) -> usize {
        self.weights.len()
    }

    /// Normalizes rows in place, `[tokens, hidden]`.
    ///
    /// # Panics
    ///
    /// When the rows are not whole.
    pub fn apply(&self, values: &mut [f32]) {
        self.apply_with(Instructions::detect(), values);
    }

    /// Normalizes rows into others, `[tokens, hidden]` both.
    ///
    /// # Panics
    ///
    /// When the lengths differ or the rows are not whole.
    pub fn apply_to(&self, input: &[f32], output: &mut [f32]) {
        output.copy_from_slice(input);
        self.apply(output);
    }

    fn apply_with(&self, instructions: Instructions, values: &mut [f32]) {
        assert!(values.len().is_multiple_of(self.width().max(1)), "rows of {}", self.width());
        run(instructions, self, values);
    }
}

vectorize!(fn run(norm: &Norm, values: &mut [f32]) = normalize);

#[inline(always)]
fn normalize(norm: &Norm, values: &mut [f32]) {
    let width = norm.width();
    let count = width as f32;
    for row in values.chunks_exact_mut(width.max(1)) {
        let mean = if norm.centred { sum(row, |x| x) / count } else { 0.0 };
        let square = |x: f32| (x - mean) * (x - mean);
        let scale = 1.0 / (sum(row, square) / count + norm.epsilon).sqrt();
        match &norm.bias {
            Some(bias) => {
                for ((x, weight), bias) in row.iter_mut().zip(&*norm.weights).zip(&**bias) {
                    *x = ((*x - mean) * scale).mul_add(*weight, *bias);
                }
            }
            None => {
                for (x, weight) in row.iter_mut().zip(&*norm.weights) {
                    *x = (*x - mean) * scale * weight;
                }
            }
        }
    }
}

/// Adds up a function of all numbers: every sixteenth in a lane, then the lanes by halves.
#[inline(always)]
pub(super) fn sum(values: &[f32], function: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += function(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += function(x);
    }
    add_lanes(lanes)
}

/// Adds up the products of numbers and a function of others, in the order of [`sum`].
#[inline(always)]
pub(super) fn sum_of_products(a: &[f32], b: &[f32], function: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let ((a_chunks, a_rest), (b_chunks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * function(b);
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += a * function(b);
    }
    add_lanes(lanes)
}

/// Returns the largest number; infinitely low of none.
#[inline(always)]
pub(super) fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Adds up lanes: the upper half to the lower, until one is left.
#[inline(always)]
pub(super) fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::super::testing::noise;
    use super::*;

    fn naive(row: &[f32], weights: &[f32], bias: &[f32], epsilon: f64, centred: bool) -> Vec<f64> {
        let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
        let mean = if centred { row.iter().sum::<f64>() / row.len() as f64 } else { 0.0 };
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / row.len() as f64;
        let scale = 1.0 / (variance + epsilon).sqrt();
        let normal = row.iter().map(|x| (x - mean) * scale);
        normal.zip(weights).zip(bias).map(|((x, w), b)| x * f64::from(*w) + f64::from(*b)).collect()
    }

    #[test]
    fn norms_are_their_definitions_and_all_instructions_give_the_same_bits() {
        for width in [1, 3, 16, 31, 768] {
            let (weights, bias) = (noise(width, 1), noise(width, 2));
            let zeros = vec![0.0; width];
            for (norm, bias, centred) in [
                (Norm::layer(&weights, Some(&bias), 1e-5), &bias, true),
                (Norm::layer(&weights, None, 1e-12), &zeros, true),
                (Norm::rms(&weights, 1e-6), &zeros, false),
            ] {
                // A mean that is large beside the deviations costs digits.
                let input: Vec<f32> = noise(3 * width, 3).iter().map(|x| x + 2.0).collect();
                let mut found = Instructions::available().into_iter().map(|instructions| {
                    let mut values = input.clone();
                    norm.apply_with(instructions, &mut values);
                    values
                });
                let widest = found.next().unwrap();
                assert!(
                    found.all(|other| other.iter().zip(&widest).all(|(a, b)| a.to_bits() == b.to_bits()))
                );
                let expected = input
                    .chunks(width)
                    .flat_map(|row| naive(row, &weights, bias, f64::from(norm.epsilon), centred));
                for (found, expected) in widest.iter().zip(expected) {
                    assert!((f64::from(*found) - expected).abs() < 2e-6, "{found} is not {expected}");
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_among_any_others() {
        let norm = Norm::layer(&noise(50, 1), Some(&noise(50, 2)), 1e-5);
        let input = noise(50 * 9, 3);
        let mut together = vec![0.0; input.len()];
        norm.apply_to(&input, &mut together);
        let mut alone = input[200..250].to_vec();
        norm.apply(&mut alone);
        assert_eq!(alone, together[200..250]);
    }
}
