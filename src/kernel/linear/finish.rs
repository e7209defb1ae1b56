//! What a layer does with a tile of sums: activation, gate, residual.

use super::super::activation::Activation;
use super::super::instructions::vectorize;
use super::super::product::{Sums, WIDTH};

/// What is done with sums.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    pub activation: Activation,
    /// Whether the first half of a strip's columns is multiplied by the second.
    pub gated: bool,
    /// Whether the result is added to what stands in the output.
    pub add: bool,
    /// Numbers of an output row.
    pub outputs: usize,
}

vectorize!(
    /// Writes the sums of a strip to its columns of the rows of `output`.
    pub(super) fn finish(finish: Finish, strip: usize, sums: &mut Sums<f32>, output: &mut [f32]) = body
);

#[inline(always)]
fn body(finish: Finish, strip: usize, sums: &mut Sums<f32>, output: &mut [f32]) {
    if finish.gated {
        rows::<{ WIDTH / 2 }>(finish, strip, sums, output, |values| {
            let (gate, rest) = values.split_at_mut(WIDTH / 2);
            finish.activation.map(gate);
            gate.iter_mut().zip(rest).for_each(|(gate, value)| *gate *= *value);
        });
    } else {
        rows::<WIDTH>(finish, strip, sums, output, |values| finish.activation.map(values));
    }
}

#[inline(always)]
fn rows<const N: usize>(
    finish: Finish,
    strip: usize,
    sums: &mut Sums<f32>,
    output: &mut [f32],
    change: impl Fn(&mut [f32; WIDTH]),
) {
    let first = strip * N;
    let count = (finish.outputs - first).min(N);
    for (values, row) in sums.0.iter_mut().zip(output.chunks_exact_mut(finish.outputs)) {
        change(values);
        match row[first..].first_chunk_mut::<N>() {
            Some(row) => put(finish.add, &values[..N], row),
            None => put(finish.add, &values[..count], &mut row[first..]),
        }
    }
}

#[inline(always)]
fn put(add: bool, values: &[f32], row: &mut [f32]) {
    for (place, value) in row.iter_mut().zip(values) {
        *place = if add { *place + value } else { *value };
    }
}
