//! Queries, keys and values of a head in the order in which products read them.

use super::super::Instructions;
use super::super::product::{Pair, Strip, Unit, WIDTH, round_pairs};

/// A unit made of 32-bit floats.
pub(super) trait Number: Unit<Sum = f32> {
    /// Makes a unit of up to `GROUP` numbers.
    fn of(group: &[f32]) -> Self;

    /// Makes units of a row, zeros beyond its end.
    fn row(instructions: Instructions, values: &[f32], units: &mut [Self]);
}

impl Number for f32 {
    #[inline(always)]
    fn of(group: &[f32]) -> Self {
        group[0]
    }

    fn row(_: Instructions, values: &[f32], units: &mut [Self]) {
        units.copy_from_slice(values);
    }
}

impl Number for Pair {
    #[inline(always)]
    fn of(group: &[f32]) -> Self {
        Self::new(group[0], group.get(1).copied().unwrap_or(0.0))
    }

    fn row(instructions: Instructions, values: &[f32], units: &mut [Self]) {
        round_pairs(instructions, values, units);
    }
}

/// Puts one key into its column of its strip, `[taps]`.
pub(super) fn key<T: Number>(channels: &[f32], column: usize, strip: &mut [Strip<T>]) {
    for (tap, group) in strip.iter_mut().zip(channels.chunks(T::GROUP)) {
        tap.0[column] = T::of(group);
    }
}

/// Puts the values of `T::GROUP` keys, or the fewer that are left, into a tap of each strip; `taps` is the distance
/// from one strip to the next.
pub(super) fn value<T: Number>(rows: &[&[f32]], tap: usize, taps: usize, strips: &mut [Strip<T>]) {
    let width = rows[0].len();
    for channel in 0..width {
        let mut group = [0.0; 2];
        group.iter_mut().zip(rows).for_each(|(value, row)| *value = row[channel]);
        strips[channel / WIDTH * taps + tap].0[channel % WIDTH] = T::of(&group);
    }
}
