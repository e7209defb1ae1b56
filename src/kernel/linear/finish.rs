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

impl Finish {
    /// Fetches the places where a strip's sums will be written, while they are added up.
    #[allow(unsafe_code)]
    pub fn prefetch(self, strip: usize, output: &[f32]) {
        #[cfg(target_arch = "x86_64")]
        for row in output.chunks_exact(self.outputs) {
            use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            let first = row.as_ptr().wrapping_add(strip * if self.gated { WIDTH / 2 } else { WIDTH });
            // SAFETY: fetching ahead has no effect on what a program computes, whatever the address.
            unsafe {
                _mm_prefetch::<_MM_HINT_ET0>(first.cast());
                _mm_prefetch::<_MM_HINT_ET0>(first.wrapping_add(16).cast());
            }
        }
    }
}

vectorize!(
    /// Writes the sums of a strip to its columns of the rows of `output`.
    pub(super) fn finish(finish: Finish, strip: usize, sums: &mut Sums<f32>, output: &mut [f32]) = body
);

// No closures from here on: one that is not inlined is compiled without the instructions of its caller.

#[inline(always)]
fn body(finish: Finish, strip: usize, sums: &mut Sums<f32>, output: &mut [f32]) {
    let rows = output.len() / finish.outputs;
    if finish.gated {
        for values in &mut sums.0[..rows] {
            let (gate, rest) = values.split_at_mut(WIDTH / 2);
            finish.activation.map(gate);
            for (gate, value) in gate.iter_mut().zip(rest) {
                *gate *= *value;
            }
        }
        write::<{ WIDTH / 2 }>(finish, strip, sums, output);
    } else {
        finish.activation.map(sums.0[..rows].as_flattened_mut());
        write::<WIDTH>(finish, strip, sums, output);
    }
}

/// Writes the first `N` columns of the sums.
#[inline(always)]
fn write<const N: usize>(finish: Finish, strip: usize, sums: &Sums<f32>, output: &mut [f32]) {
    let first = strip * N;
    let count = (finish.outputs - first).min(N);
    for (values, row) in sums.0.iter().zip(output.chunks_exact_mut(finish.outputs)) {
        match row[first..].first_chunk_mut::<N>() {
            Some(row) => put(finish.add, &values[..N], row),
            None => put(finish.add, &values[..count], &mut row[first..]),
        }
    }
}

#[inline(always)]
fn put(add: bool, values: &[f32], row: &mut [f32]) {
    if add {
        for (place, value) in row.iter_mut().zip(values) {
            *place += value;
        }
    } else {
        row.copy_from_slice(values);
    }
}
