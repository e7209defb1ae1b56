//! Queries, keys and values of a head in the order in which products read them.

#[cfg(target_arch = "x86_64")]
mod avx512;

use super::super::Instructions;
use super::super::instructions::vectorize;
use super::super::product::{Pair, Strip, Unit, WIDTH, round_pairs};

/// A unit made of 32-bit floats.
pub(super) trait Number: Unit<Sum = f32> {
    /// Makes units of a row; a last one that is not full ends in zero.
    fn row(instructions: Instructions, values: &[f32], units: &mut [Self]);

    /// Puts the values of `GROUP` keys, or the fewer that are left, into a tap of each strip; `taps` is the
    /// distance from one strip to the next.
    fn values(instructions: Instructions, rows: &[&[f32]], taps: usize, strips: &mut [Strip<Self>]);
}

impl Number for f32 {
    fn row(_: Instructions, values: &[f32], units: &mut [Self]) {
        units[..values.len()].copy_from_slice(values);
    }

    fn values(_: Instructions, rows: &[&[f32]], taps: usize, strips: &mut [Strip<Self>]) {
        for (channels, strip) in rows[0].chunks(WIDTH).zip(strips.iter_mut().step_by(taps)) {
            strip.0[..channels.len()].copy_from_slice(channels);
        }
    }
}

impl Number for Pair {
    fn row(instructions: Instructions, values: &[f32], units: &mut [Self]) {
        round_pairs(instructions, values, units);
    }

    fn values(instructions: Instructions, rows: &[&[f32]], taps: usize, strips: &mut [Strip<Self>]) {
        match *rows {
            [first, second] => interleave(instructions, first, second, taps, strips),
            _ => interleave(instructions, rows[0], &vec![0.0; rows[0].len()], taps, strips),
        }
    }
}

vectorize!(fn interleave(first: &[f32], second: &[f32], taps: usize, strips: &mut [Strip<Pair>]) = interleave_body);

#[inline(always)]
fn interleave_body(first: &[f32], second: &[f32], taps: usize, strips: &mut [Strip<Pair>]) {
    let rows = first.chunks(WIDTH).zip(second.chunks(WIDTH));
    for ((first, second), strip) in rows.zip(strips.iter_mut().step_by(taps)) {
        for ((unit, &a), &b) in strip.0.iter_mut().zip(first).zip(second) {
            *unit = Pair::new(a, b);
        }
    }
}

/// Makes columns of rows: `[WIDTH, taps]` to `[taps, WIDTH]`.
pub(super) fn transpose<T: Unit>(instructions: Instructions, rows: &[T], strip: &mut [Strip<T>]) {
    let taps = strip.len();
    assert!(rows.len() >= WIDTH * taps);
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if instructions == Instructions::Avx512 {
        done = avx512::transpose(rows, strip);
    }
    for (column, row) in rows.chunks_exact(taps).take(WIDTH).enumerate() {
        for (strip, &unit) in strip.iter_mut().zip(row).skip(done) {
            strip.0[column] = unit;
        }
    }
}
