//! Attention within sequences that lie end to end, as one operation: softmax and dropout on the way, and all of it
//! again on the way back, so that no probabilities are kept.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

use super::super::Instructions;
use super::super::activation::exp;
use super::super::attention::Rotary;
use super::super::instructions::vectorize;
use super::super::matrix::{self, Matrix};
use super::super::norm::{largest, sum, sum_of_products};
use super::super::pointwise::softmax_multipliers;
use super::super::rule;
use super::dropout::mix;
use super::{argument, output, read, tensor};
use crate::error::{Error, Result};

/// How tokens see each other.
#[derive(Clone, Debug)]
pub struct Attending {
    /// Heads, of queries as of keys and values.
    pub heads: usize,
    /// Channels of a head.
    pub width: usize,
    /// ALiBi: of each head, what a token of distance takes off a score.
    pub slopes: Option<Arc<[f32]>>,
    /// Turns queries and keys by their positions.
    pub rotary: Option<Rotary>,
    /// Whether a token sees none that follow it.
    pub causal: bool,
    /// The farthest distance that a token sees.
    pub reach: Option<usize>,
    /// The chance of a probability to drop out.
    pub dropout: f64,
    /// What decides which do.
    pub key: u64,
}

/// Attends: `projected` `[tokens, queries | keys | values]` of sequences that begin at `starts` (and end at its last)
/// to `[tokens, heads·width]`.
///
/// # Errors
///
/// When the shapes do not belong together, or a sequence is longer than the rotary table.
pub fn attend(projected: &Tensor, starts: &[usize], attending: Attending) -> Result<Tensor> {
    let (tokens, wide) = projected.dims2()?;
    let channels = attending.heads * attending.width;
    if wide != 3 * channels || starts.last() != Some(&tokens) || !starts.is_sorted() {
        let shape = format!("{tokens} tokens of {wide} numbers");
        return Err(Error::data(format!("attention of {channels} channels was given {shape}")));
    }
    let longest = starts.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0);
    if attending.rotary.as_ref().is_some_and(|rotary| rotary.positions() < longest) {
        return Err(Error::data(format!(
            "a sequence of {longest} tokens is longer than the model's positions"
        )));
    }
    Ok(projected.contiguous()?.apply_op1(Attend { starts: starts.into(), attending })?)
}

struct Attend {
    starts: Arc<[usize]>,
    attending: Attending,
}

/// Queries, keys and values of one head of one sequence, `[length, width]` each, as they are multiplied.
struct Head {
    parts: [Vec<f32>; 3],
    length: usize,
}

impl Attend {
    fn channels(&self) -> usize {
        self.attending.heads * self.attending.width
    }

    /// Cuts what belongs to tokens into what belongs to sequences, with their numbers; to the first ones, of less.
    fn sequences<'v>(&self, values: &'v mut [f32], width: usize) -> Vec<(usize, &'v mut [f32])> {
        let mut rest = values;
        let mut all = Vec::new();
        for (sequence, ends) in self.starts.windows(2).enumerate() {
            if (ends[1] - ends[0]) * width > rest.len() {
                break;
            }
            let (own, others) = rest.split_at_mut((ends[1] - ends[0]) * width);
            all.push((sequence, own));
            rest = others;
        }
        all
    }

    /// Gathers one head of the rows of a sequence.
    fn gather(&self, projected: &[f32], head: usize) -> Head {
        let (width, channels) = (self.attending.width, self.channels());
        let length = projected.len() / (3 * channels);
        let part = |part: usize| columns(projected, 3 * channels, part * channels + head * width, width);
        let mut parts = [part(0), part(1), part(2)];
        if let Some(rotary) = &self.attending.rotary {
            for values in &mut parts[..2] {
                turn(rotary, values, width, 1.0);
            }
        }
        let scale = (width as f32).sqrt().recip();
        parts[0].iter_mut().for_each(|x| *x *= scale);
        Head { parts, length }
    }

    /// Returns the scores `[length, length]` by query and key, infinitely low of what is not seen.
    fn scores(&self, Head { parts, length }: &Head, head: usize) -> Vec<f32> {
        let (width, length) = (self.attending.width, *length);
        let mut scores = vec![0.0; length * length];
        let [queries, keys, _] = parts.each_ref().map(|part| Matrix::new(part, [length, width]));
        matrix::multiply_here(queries, keys.transpose(), &mut scores);
        let slope = self.attending.slopes.as_ref().map_or(0.0, |slopes| slopes[head]);
        for (query, scores) in scores.chunks_exact_mut(length).enumerate() {
            let seen = self.seen(query, length);
            scores[..seen.start].fill(f32::NEG_INFINITY);
            scores[seen.end..].fill(f32::NEG_INFINITY);
            if slope != 0.0 {
                for (key, score) in scores.iter_mut().enumerate() {
                    *score -= slope * query.abs_diff(key) as f32;
                }
            }
        }
        scores
    }

    /// Returns the keys that a query sees.
    fn seen(&self, query: usize, length: usize) -> Range<usize> {
        let reach = self.attending.reach.unwrap_or(length);
        let last = if self.attending.causal { query } else { length - 1 };
        query.saturating_sub(reach)..last.min(query + reach) + 1
    }

    /// Returns the probabilities `[length, length]` by query and key.
    fn probabilities(&self, own: &Head, head: usize) -> Vec<f32> {
        let mut scores = self.scores(own, head);
        soften(Instructions::detect(), own.length, &mut scores);
        scores
    }

    /// Returns what each probability is multiplied by: 0 where it drops out.
    fn mask(&self, sequence: usize, head: usize, count: usize) -> Option<Vec<f32>> {
        let Attending { dropout, key, .. } = self.attending;
        if dropout <= 0.0 {
            return None;
        }
        let limit = (dropout * f64::from(u32::MAX)) as u32;
        let scale = (1.0 / (1.0 - dropout)) as f32;
        let key = mix(mix(key ^ mix(sequence as u64)) ^ head as u64);
        let factor =
            |place: u64| if (mix(key.wrapping_add(place)) >> 32) as u32 >= limit { scale } else { 0.0 };
        Some((0..count as u64).map(factor).collect())
    }

    /// Fills the context of one sequence, `[length, channels]`.
    fn forward(&self, sequence: usize, projected: &[f32], context: &mut [f32]) {
        let (width, channels) = (self.attending.width, self.channels());
        for head in 0..self.attending.heads {
            let own = self.gather(projected, head);
            let mut probabilities = self.probabilities(&own, head);
            if let Some(mask) = self.mask(sequence, head, probabilities.len()) {
                probabilities.iter_mut().zip(mask).for_each(|(p, factor)| *p *= factor);
            }
            let mut taken = vec![0.0; own.length * width];
            let left = Matrix::new(&probabilities, [own.length; 2]);
            matrix::multiply_here(left, Matrix::new(&own.parts[2], [own.length, width]), &mut taken);
            scatter(&taken, width, context, channels, head * width);
        }
    }

    /// Fills the gradient of one sequence's queries, keys and values.
    fn backward(&self, sequence: usize, projected: &[f32], gradient: &[f32], result: &mut [f32]) {
        for head in 0..self.attending.heads {
            let own = self.gather(projected, head);
            let probabilities = self.probabilities(&own, head);
            let mask = self.mask(sequence, head, probabilities.len());
            let dropped: Vec<f32> = match &mask {
                Some(mask) => probabilities.iter().zip(mask).map(|(p, factor)| p * factor).collect(),
                None => probabilities.clone(),
            };
            let soften_back = |scores: &mut [f32]| {
                if let Some(mask) = &mask {
                    scores.iter_mut().zip(mask).for_each(|(score, factor)| *score *= factor);
                }
                slopes(Instructions::detect(), own.length, &probabilities, scores);
            };
            self.head_back(head, &own, &dropped, gradient, result, soften_back);
        }
    }

    /// Fills the multipliers of a pair of sequences: all products have those of the mean of the other factor.
    fn multiply_back(&self, projected: [&[f32]; 2], gradient: &[f32], result: &mut [f32]) {
        for head in 0..self.attending.heads {
            let both = projected.map(|projected| self.gather(projected, head));
            // What is not seen has a difference of 0, not of no number.
            let scores = both.each_ref().map(|own| -> Vec<f32> {
                self.scores(own, head).into_iter().map(|score| score.max(-1e30)).collect()
            });
            let probabilities = scores.clone().map(|mut scores| {
                soften(Instructions::detect(), both[0].length, &mut scores);
                scores
            });
            let mean =
                |[a, b]: [&[f32]; 2]| a.iter().zip(b).map(|(a, b)| (a + b) / 2.0).collect::<Vec<f32>>();
            let parts =
                std::array::from_fn(|part| mean(both.each_ref().map(|own| own.parts[part].as_slice())));
            let halfway = Head { parts, length: both[0].length };
            let soften_back = |multipliers: &mut [f32]| {
                for (row, multipliers) in multipliers.chunks_exact_mut(halfway.length).enumerate() {
                    let place = row * halfway.length..(row + 1) * halfway.length;
                    let rows = scores.each_ref().map(|scores| &scores[place.clone()]);
                    multipliers.copy_from_slice(&softmax_multipliers(rows, multipliers));
                }
            };
            let dropped = mean(probabilities.each_ref().map(Vec::as_slice));
            self.head_back(head, &halfway, &dropped, gradient, result, soften_back);
        }
    }

    /// Fills what goes back through one head, whose probabilities were `dropped`; `soften_back` turns what belongs to
    /// probabilities into what belongs to scores.
    fn head_back(
        &self,
        head: usize,
        own: &Head,
        dropped: &[f32],
        gradient: &[f32],
        result: &mut [f32],
        soften_back: impl FnOnce(&mut [f32]),
    ) {
        let (width, channels, length) = (self.attending.width, self.channels(), own.length);
        let gradient = columns(gradient, channels, head * width, width);
        let square = |values| Matrix::new(values, [length; 2]);
        let tall = |values| Matrix::new(values, [length, width]);
        let [queries, keys, values] = &own.parts;
        let mut of_parts = [(); 3].map(|()| vec![0.0; length * width]);
        matrix::multiply_here(square(dropped).transpose(), tall(&gradient), &mut of_parts[2]);
        let mut scores = vec![0.0; length * length];
        matrix::multiply_here(tall(&gradient), tall(values).transpose(), &mut scores);
        soften_back(&mut scores);
        matrix::multiply_here(square(&scores), tall(keys), &mut of_parts[0]);
        matrix::multiply_here(square(&scores).transpose(), tall(queries), &mut of_parts[1]);
        let scale = (width as f32).sqrt().recip();
        of_parts[0].iter_mut().for_each(|x| *x *= scale);
        if let Some(rotary) = &self.attending.rotary {
            of_parts[..2].iter_mut().for_each(|values| turn(rotary, values, width, -1.0));
        }
        for (part, values) in of_parts.iter().enumerate() {
            scatter(values, width, result, 3 * channels, part * channels + head * width);
        }
    }

    /// Returns the multipliers of queries, keys and values of sequences whose first half is compared with the second.
    fn multipliers(&self, projected: &[f32], gradient: &[f32]) -> Candle<Vec<f32>> {
        let (tokens, channels) = (self.starts[self.starts.len() - 1], self.channels());
        let pairs = (self.starts.len() - 1) / 2;
        let half = tokens / 2;
        let ends =
            |first: usize| self.starts[first..=first + pairs].iter().map(move |end| end - self.starts[first]);
        if self.attending.dropout > 0.0 || self.starts.len().is_multiple_of(2) || !ends(0).eq(ends(pairs)) {
            candle_core::bail!("multipliers need pairs of sequences of one length, and no dropout");
        }
        let mut result = vec![0.0; 3 * tokens * channels];
        let (first, _) = result.split_at_mut(3 * half * channels);
        let mut parts = self.sequences(first, 3 * channels);
        parts.truncate(pairs);
        parts.into_par_iter().for_each(|(sequence, result)| {
            let rows = |from: usize, width: usize| {
                (from + self.starts[sequence]) * width..(from + self.starts[sequence + 1]) * width
            };
            let both = [0, half].map(|from| &projected[rows(from, 3 * channels)]);
            self.multiply_back(both, &gradient[rows(0, channels)], result);
        });
        result.copy_within(..3 * half * channels, 3 * half * channels);
        Ok(result)
    }
}

vectorize!(
    /// Makes probabilities of the scores of queries, `length` each.
    fn soften(length: usize, scores: &mut [f32]) = soften_rows
);

#[inline(always)]
fn soften_rows(length: usize, scores: &mut [f32]) {
    for scores in scores.chunks_exact_mut(length) {
        let largest = largest(scores);
        for x in scores.iter_mut() {
            *x = exp(*x - largest);
        }
        let total = sum(scores, |x| x);
        for x in scores {
            *x /= total;
        }
    }
}

vectorize!(
    /// Turns the gradients of probabilities into those of scores, `length` of a query.
    fn slopes(length: usize, probabilities: &[f32], gradient: &mut [f32]) = slopes_of_rows
);

#[inline(always)]
fn slopes_of_rows(length: usize, probabilities: &[f32], gradient: &mut [f32]) {
    for (gradient, p) in gradient.chunks_exact_mut(length).zip(probabilities.chunks_exact(length)) {
        let mean = sum_of_products(gradient, p, |p| p);
        for (g, p) in gradient.iter_mut().zip(p) {
            *g = p * (*g - mean);
        }
    }
}

/// Copies `width` columns from `first` on, of rows that are `pitch` wide.
fn columns(rows: &[f32], pitch: usize, first: usize, width: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(rows.len() / pitch * width);
    for row in rows.chunks_exact(pitch) {
        values.extend_from_slice(&row[first..][..width]);
    }
    values
}

/// Turns the rows of a head by the angles of their positions, or back (`sign` -1).
fn turn(rotary: &Rotary, values: &mut [f32], width: usize, sign: f32) {
    for (position, row) in values.chunks_exact_mut(width).enumerate() {
        let (first, second) = row.split_at_mut(rotary.pairs());
        for ((a, b), [cosine, sine]) in first.iter_mut().zip(second).zip(rotary.angles(position)) {
            let sine = sign * sine;
            (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
        }
    }
}

/// Puts the rows of a head to their place in wider rows.
fn scatter(values: &[f32], width: usize, target: &mut [f32], pitch: usize, from: usize) {
    for (row, values) in target.chunks_exact_mut(pitch).zip(values.chunks_exact(width)) {
        row[from..from + width].copy_from_slice(values);
    }
}

impl CustomOp1 for Attend {
    fn name(&self) -> &'static str {
        "attend"
    }

    fn cpu_fwd(&self, projected: &CpuStorage, layout: &Layout) -> Candle<(CpuStorage, Shape)> {
        let projected = argument(projected, layout)?;
        let channels = self.channels();
        let tokens = projected.len() / (3 * channels);
        let mut context = vec![0.0; tokens * channels];
        self.sequences(&mut context, channels).into_par_iter().for_each(|(sequence, context)| {
            let rows = self.starts[sequence] * 3 * channels..self.starts[sequence + 1] * 3 * channels;
            self.forward(sequence, &projected[rows], context);
        });
        output(context, (tokens, channels))
    }

    fn bwd(&self, projected: &Tensor, _: &Tensor, gradient: &Tensor) -> Candle<Option<Tensor>> {
        let channels = self.channels();
        if rule::rescales() {
            let values = read(projected, |projected| {
                read(&gradient.contiguous()?, |gradient| self.multipliers(projected, gradient))
            })???;
            return tensor(values, projected.shape().clone()).map(Some);
        }
        let mut result = vec![0.0; projected.elem_count()];
        read(projected, |projected| {
            read(gradient, |gradient| {
                let parts = self.sequences(&mut result, 3 * channels);
                parts.into_par_iter().for_each(|(sequence, result)| {
                    let rows =
                        |width: usize| self.starts[sequence] * width..self.starts[sequence + 1] * width;
                    self.backward(
                        sequence,
                        &projected[rows(3 * channels)],
                        &gradient[rows(channels)],
                        result,
                    );
                });
            })
        })??;
        tensor(result, projected.shape().clone()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::attention::{self as fast, alibi_slopes};
    use super::super::super::rule::testing::check_completeness;
    use super::super::super::testing::*;
    use super::*;

    fn kinds() -> Vec<Attending> {
        let plain = Attending {
            heads: 3,
            width: 4,
            slopes: None,
            rotary: None,
            causal: false,
            reach: None,
            dropout: 0.0,
            key: 1,
        };
        let rotary = Some(Rotary::new(&[1.0, 0.3], 8));
        vec![
            plain.clone(),
            Attending { slopes: Some(alibi_slopes(3).into()), ..plain.clone() },
            Attending { rotary, ..plain.clone() },
            Attending { causal: true, reach: Some(2), ..plain.clone() },
        ]
    }

    #[test]
    fn the_context_is_that_of_the_attention_that_scores() {
        let projected = noise_tensor(&[9, 36], 1);
        let starts = [0, 5, 6, 9];
        for attending in kinds() {
            let fast = fast::Attention {
                slopes: attending.slopes.as_ref().map(|slopes| slopes.to_vec()),
                rotary: attending.rotary.clone(),
                causal: attending.causal,
                window: attending.reach,
                ..fast::Attention::new(3, 4)
            };
            let found = flat(&attend(&projected, &starts, attending).unwrap());
            let values = flat(&projected);
            for ends in starts.windows(2) {
                let length = ends[1] - ends[0];
                let mut context = vec![0.0; length * 12];
                let rows = &values[ends[0] * 36..ends[1] * 36];
                fast.apply(rows, length, &mut context, &mut fast::Scratch::default(), None);
                assert!(distance(&context, &found[ends[0] * 12..ends[1] * 12]) < 1e-5);
            }
        }
    }

    #[test]
    fn the_gradients_are_those_of_finite_differences() {
        let projected = noise_tensor(&[5, 36], 2);
        for attending in kinds() {
            check_gradient(&projected, |x| attend(x, &[0, 3, 5], attending.clone()));
        }
        let dropping = Attending { dropout: 0.4, ..kinds().remove(0) };
        check_gradient(&projected, |x| attend(x, &[0, 3, 5], dropping.clone()));
        assert!(attend(&projected, &[0, 3], kinds().remove(0)).is_err());
    }

    #[test]
    fn attention_shares_out_its_differences() {
        let projected = (noise_tensor(&[10, 36], 3) * 2.0).unwrap();
        for attending in kinds() {
            check_completeness(&projected, |x| attend(x, &[0, 3, 5, 8, 10], attending.clone()));
        }
        // Three sequences are no pairs, nor are those of two lengths.
        for starts in [&[0, 3, 6, 10][..], &[0, 4, 10]] {
            let input = candle_core::Var::from_tensor(&projected).unwrap();
            let output = attend(input.as_tensor(), starts, kinds().remove(0)).unwrap();
            assert!(rule::multipliers(&output.sum_all().unwrap()).is_err());
        }
    }
}
