//! The softmax of one query's scores, left unnormalized.

use super::super::activation::exp;
use super::super::instructions::vectorize;
use super::super::norm::add_lanes;

/// Keys side by side.
const LANES: usize = 16;

/// What one query sees.
#[derive(Clone, Copy)]
pub(super) struct Query {
    /// Its position.
    pub position: usize,
    /// The position of the first score, a multiple of the lanes.
    pub first_key: usize,
    /// The first key it sees.
    pub from: usize,
    /// The first key it sees no more.
    pub to: usize,
    /// What a token of distance takes off a score.
    pub slope: f32,
}

vectorize!(
    /// Replaces scores by e^(score - largest), zero where a key is not seen, and gives one over their sum.
    pub(super) fn softmax(query: &Query, scores: &mut [f32], factor: &mut f32) = body
);

#[inline(always)]
fn body(query: &Query, scores: &mut [f32], factor: &mut f32) {
    let first = query.first_key;
    scores[..query.from - first].fill(f32::NEG_INFINITY);
    scores[query.to - first..].fill(f32::NEG_INFINITY);
    if query.slope != 0.0 {
        let start = first as f32 - query.position as f32;
        for (index, score) in scores.iter_mut().enumerate() {
            *score -= query.slope * (start + index as i32 as f32).abs();
        }
    }
    let (chunks, _) = scores.as_chunks_mut::<LANES>();
    let mut largest = [f32::NEG_INFINITY; LANES];
    for chunk in &*chunks {
        for (largest, &x) in largest.iter_mut().zip(chunk) {
            *largest = if x > *largest { x } else { *largest };
        }
    }
    let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0f32; LANES];
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = exp(*x - largest);
            *sum += *x;
        }
    }
    *factor = 1.0 / add_lanes(sums);
}
