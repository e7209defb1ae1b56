//! The norm of a batch on plain numbers, `[rows, channels]`: forwards and back.

use rayon::prelude::*;

use super::super::Instructions;
use super::super::instructions::vectorize;
use super::sums::{self, abreast, narrow, repeat};

/// Mean and variance of each channel of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// `[channels]`.
    pub mean: Vec<f32>,
    /// `[channels]`, divided by the number of rows.
    pub variance: Vec<f32>,
    /// Rows that were seen.
    pub rows: usize,
}

impl Statistics {
    /// Looks at a batch.
    pub(super) fn of(values: &[f32], channels: usize) -> Self {
        let rows = values.len() / channels.max(1);
        let means = |sums: Vec<f64>| sums.iter().map(|sum| (sum / rows.max(1) as f64) as f32).collect();
        let mean: Vec<f32> = means(sums::plain(values, channels));
        Self { variance: means(sums::squares(values, &mean)), mean, rows }
    }
}

/// What makes a channel's numbers those of mean 0 and variance 1.
#[derive(Debug)]
pub(super) struct Batch {
    mean: Vec<f32>,
    scale: Vec<f32>,
}

/// Numbers that one thread takes at a time, about.
const PIECE: usize = 1 << 15;

impl Batch {
    /// Takes the statistics of a batch; `epsilon` is added to variances.
    pub fn new(statistics: &Statistics, epsilon: f32) -> Self {
        let scale = statistics.variance.iter().map(|variance| 1.0 / (variance + epsilon).sqrt()).collect();
        Self { mean: statistics.mean.clone(), scale }
    }

    /// Returns the numbers of whole rows that one thread takes.
    fn piece(&self) -> usize {
        let row = self.mean.len().max(1) * abreast(self.mean.len());
        (PIECE / row).max(1) * row
    }

    /// Returns normal numbers, times `weight`, plus `bias`.
    pub fn apply(&self, values: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let mut output = vec![0.0; values.len()];
        let lines = [&self.mean[..], &self.scale, weight, bias].map(repeat);
        let lines = lines.each_ref().map(Vec::as_slice);
        let pieces = output.par_chunks_mut(self.piece()).zip(values.par_chunks(self.piece()));
        pieces.for_each(|(output, values)| normalize(Instructions::detect(), values, lines, output));
        output
    }

    /// Turns the gradient of what [`Batch::apply`] returned for `values` into that of `values`; where these are the
    /// outputs of a ReLU (`is_rectified`), into that of its inputs. Returns the gradients of weight and bias.
    pub fn back(
        &self,
        values: &[f32],
        weight: &[f32],
        gradient: &mut [f32],
        is_rectified: bool,
    ) -> [Vec<f32>; 2] {
        let [products, sums] = sums::products([values, gradient], [&self.mean, &self.scale]);
        let rows = (values.len() / self.mean.len().max(1)).max(1) as f64;
        let means = |sums: &[f64]| -> Vec<f32> { sums.iter().map(|sum| (sum / rows) as f32).collect() };
        let factor: Vec<f32> = weight.iter().zip(&self.scale).map(|(weight, scale)| weight * scale).collect();
        let lines = [&self.mean, &self.scale, &factor, &means(&products), &means(&sums)];
        let lines = lines.map(|line| repeat(line));
        let lines = lines.each_ref().map(Vec::as_slice);
        let pieces = gradient.par_chunks_mut(self.piece()).zip(values.par_chunks(self.piece()));
        pieces.for_each(|(gradient, values)| {
            let instructions = Instructions::detect();
            match is_rectified {
                true => back_to_positive(instructions, values, lines, gradient),
                false => back_to_all(instructions, values, lines, gradient),
            }
        });
        [narrow(&products), narrow(&sums)]
    }
}

vectorize!(fn normalize(values: &[f32], lines: [&[f32]; 4], output: &mut [f32]) = normalize_rows);

#[inline(always)]
fn normalize_rows(values: &[f32], [mean, scale, weight, bias]: [&[f32]; 4], output: &mut [f32]) {
    for (values, output) in values.chunks(mean.len()).zip(output.chunks_mut(mean.len())) {
        let lines = mean.iter().zip(scale).zip(weight.iter().zip(bias));
        for ((y, x), ((mean, scale), (weight, bias))) in output.iter_mut().zip(values).zip(lines) {
            *y = (*x - *mean) * *scale * *weight + *bias;
        }
    }
}

vectorize!(fn back_to_all(values: &[f32], lines: [&[f32]; 5], gradient: &mut [f32]) = back_rows::<false>);
vectorize!(fn back_to_positive(values: &[f32], lines: [&[f32]; 5], gradient: &mut [f32]) = back_rows::<true>);

#[inline(always)]
fn back_rows<const RECTIFIED: bool>(
    values: &[f32],
    [mean, scale, factor, along, middle]: [&[f32]; 5],
    gradient: &mut [f32],
) {
    for (values, gradient) in values.chunks(mean.len()).zip(gradient.chunks_mut(mean.len())) {
        let lines = mean.iter().zip(scale).zip(factor.iter().zip(along.iter().zip(middle)));
        for ((g, x), ((mean, scale), (factor, (along, middle)))) in gradient.iter_mut().zip(values).zip(lines)
        {
            let normal = (*x - *mean) * *scale;
            let back = *factor * (*g - *middle - normal * *along);
            // The slope at zero is zero, as in PyTorch.
            *g = if !RECTIFIED || *x > 0.0 { back } else { 0.0 };
        }
    }
}
