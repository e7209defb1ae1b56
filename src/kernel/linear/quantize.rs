//! Bytes for numbers: weights in equal steps about zero an output, activations in equal steps a token.
//!
//! y = Σ x·w ≈ s·t·(Σ q·v - z·Σ v), where a row's x ≈ s·(q - z) with q in 0..=255, and an output's w ≈ t·v with v in
//! -127..=127. The sums are whole numbers and exact.

use super::super::Instructions;
use super::super::instructions::vectorize;
use super::super::product::{Four, HEIGHT, Sums, WIDTH};
use super::pack::{Columns, Strips};

/// Of the weights of a strip's columns.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    /// The step t.
    step: [f32; WIDTH],
    /// Σ v.
    total: [i32; WIDTH],
}

/// Of the activations of a token.
#[derive(Clone, Copy, Default)]
pub(super) struct Steps {
    /// The step s.
    step: f32,
    /// The byte z that stands for zero.
    zero: i32,
}

/// Packs weights `[rows, inputs]` as bytes, each row in its own steps.
pub(super) fn weights(weights: &[f32], columns: Columns) -> (Strips<Four>, Vec<Scales>) {
    let mut bytes = Vec::with_capacity(weights.len());
    let mut steps = Vec::with_capacity(columns.rows());
    for row in weights.chunks_exact(columns.inputs) {
        let step = row.iter().fold(0.0f32, |largest, w| largest.max(w.abs())) / 127.0;
        let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
        let first = bytes.len();
        bytes.extend(row.iter().map(|w| (w * inverse).round_ties_even() as i8));
        steps.push((step, bytes[first..].iter().map(|&byte| i32::from(byte)).sum::<i32>()));
    }
    let four = |group: &[i8]| {
        Four(u32::from_le_bytes([group[0], group[1], group[2], group[3]].map(i8::cast_unsigned)))
    };
    let strips = columns.pack(&bytes, four);
    let (step, total) = (columns.spread(|row| steps[row].0), columns.spread(|row| steps[row].1));
    let scales = step.into_iter().zip(total).map(|(step, total)| Scales { step, total }).collect();
    (strips, scales)
}

/// Rounds a token's activations to bytes.
pub(super) fn row(instructions: Instructions, values: &[f32], fours: &mut [Four]) -> Steps {
    let mut steps = Steps::default();
    round(instructions, values, fours, &mut steps);
    steps
}

vectorize!(fn round(values: &[f32], fours: &mut [Four], steps: &mut Steps) = round_body);

#[inline(always)]
fn round_body(values: &[f32], fours: &mut [Four], steps: &mut Steps) {
    // 1.5·2²³: what is added to it becomes an integer, ties to even, in its low bits.
    const SHIFT: f32 = 12_582_912.0;
    let [low, high, poison] = extent(values);
    let step = (high - low) / 255.0;
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    let zero = (-low).mul_add(inverse, SHIFT);
    let byte = |x: f32| {
        let shifted = x.mul_add(inverse, zero);
        let shifted = if shifted < SHIFT { SHIFT } else { shifted };
        let shifted = if shifted > SHIFT + 255.0 { SHIFT + 255.0 } else { shifted };
        shifted.to_bits() & 0xff
    };
    let (whole, rest) = values.as_chunks::<4>();
    for (four, &[a, b, c, d]) in fours.iter_mut().zip(whole) {
        *four = Four(byte(a) | byte(b) << 8 | byte(c) << 16 | byte(d) << 24);
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |four, &x| four << 8 | byte(x));
        fours[whole.len()] = Four(last);
    }
    *steps = Steps { step: step + poison, zero: (zero.to_bits() & 0xff) as i32 };
}

/// Returns the smallest and largest number, zero among them, and a zero that is NaN if some number is no number
/// or infinite.
#[inline(always)]
fn extent(values: &[f32]) -> [f32; 3] {
    const LANES: usize = 16;
    let mut lanes = [[0.0f32; LANES]; 3];
    let mut take = |chunk: &[f32]| {
        for (lane, &x) in chunk.iter().enumerate() {
            lanes[0][lane] = if x < lanes[0][lane] { x } else { lanes[0][lane] };
            lanes[1][lane] = if x > lanes[1][lane] { x } else { lanes[1][lane] };
            lanes[2][lane] += x * 0.0;
        }
    };
    let (chunks, rest) = values.as_chunks::<LANES>();
    chunks.iter().for_each(|chunk| take(chunk));
    take(rest);
    let fold = |lanes: [f32; LANES], pick: fn(f32, f32) -> f32| lanes.into_iter().fold(0.0, pick);
    [fold(lanes[0], f32::min), fold(lanes[1], f32::max), fold(lanes[2], |a, b| a + b)]
}

vectorize!(
    /// Makes numbers of the sums of whole numbers, with the bias.
    pub(super) fn scale(
        sums: &Sums<i32>, steps: &[Steps], scales: &Scales, bias: &[f32; WIDTH], scaled: &mut Sums<f32>,
    ) = scale_body
);

#[inline(always)]
fn scale_body(
    sums: &Sums<i32>,
    steps: &[Steps],
    scales: &Scales,
    bias: &[f32; WIDTH],
    scaled: &mut Sums<f32>,
) {
    for ((sums, scaled), token) in sums.0.iter().zip(&mut scaled.0).zip(steps).take(HEIGHT) {
        for column in 0..WIDTH {
            let whole = sums[column] - token.zero * scales.total[column];
            scaled[column] = (whole as f32).mul_add(token.step * scales.step[column], bias[column]);
        }
    }
}
