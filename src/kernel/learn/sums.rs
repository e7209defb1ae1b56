//! Sums over the rows of a batch, one for each column, in double precision: rows in groups of fixed size, which are
//! added in order.
//!
//! Networks of few channels have short rows, which fill no vectors. So several rows lie side by side and are added up
//! as one, and what belongs to a column is repeated for each of them.

use std::ops::Range;

use rayon::prelude::*;

use super::super::Instructions;
use super::super::instructions::vectorize;
use super::GROUPS;

/// Columns of rows side by side, about.
const ABREAST: usize = 256;

/// Returns how many rows of so many columns lie side by side.
pub(super) fn abreast(columns: usize) -> usize {
    (ABREAST / columns.max(1)).max(1)
}

/// Repeats what belongs to columns for all rows side by side.
pub(super) fn repeat(values: &[f32]) -> Vec<f32> {
    values.repeat(abreast(values.len()))
}

/// Adds up columns: `[rows, columns]` to `[columns]`.
pub(crate) fn column_sums(values: &[f32], columns: usize) -> Vec<f32> {
    narrow(&plain(values, columns))
}

/// Rounds sums to single precision.
pub(super) fn narrow(sums: &[f64]) -> Vec<f32> {
    sums.iter().map(|&sum| sum as f32).collect()
}

/// Adds up columns.
pub(super) fn plain(values: &[f32], columns: usize) -> Vec<f64> {
    let [sums] = in_groups(values.len(), columns, |range, [sums]| {
        add(Instructions::detect(), &values[range], sums);
    });
    sums
}

/// Adds up the squares of distances from a number for each column.
pub(super) fn squares(values: &[f32], centre: &[f32]) -> Vec<f64> {
    let columns = centre.len();
    let centre = repeat(centre);
    let [sums] = in_groups(values.len(), columns, |range, [sums]| {
        add_squares(Instructions::detect(), &values[range], &centre, sums);
    });
    sums
}

/// Adds up (a - centre) · scale · b, and b.
pub(super) fn products([a, b]: [&[f32]; 2], [centre, scale]: [&[f32]; 2]) -> [Vec<f64>; 2] {
    let columns = centre.len();
    let (centre, scale) = (repeat(centre), repeat(scale));
    in_groups(a.len(), columns, |range, [products, sums]| {
        let values = [&a[range.clone()], &b[range]];
        add_products(Instructions::detect(), values, [&centre, &scale], products, sums);
    })
}

/// Lets `add` add whole rows, given by the places of their numbers, to sums of columns side by side.
fn in_groups<const N: usize>(
    count: usize,
    columns: usize,
    add: impl Fn(Range<usize>, [&mut [f64]; N]) + Sync,
) -> [Vec<f64>; N] {
    let columns = columns.max(1);
    let group = (count / columns).div_ceil(GROUPS).max(1) * columns;
    let parts: Vec<[Vec<f64>; N]> = (0..count.div_ceil(group))
        .into_par_iter()
        .map(|part| {
            let mut sums: [Vec<f64>; N] = std::array::from_fn(|_| vec![0.0; columns * abreast(columns)]);
            let range = part * group..((part + 1) * group).min(count);
            add(range, sums.each_mut().map(|sums| sums.as_mut_slice()));
            sums
        })
        .collect();
    let mut totals: [Vec<f64>; N] = std::array::from_fn(|_| vec![0.0; columns]);
    for part in parts {
        for (total, sums) in totals.iter_mut().zip(part) {
            for sums in sums.chunks_exact(columns) {
                total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
            }
        }
    }
    totals
}

vectorize!(fn add(values: &[f32], sums: &mut [f64]) = add_rows);

#[inline(always)]
fn add_rows(values: &[f32], sums: &mut [f64]) {
    for row in values.chunks(sums.len()) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += f64::from(*x);
        }
    }
}

vectorize!(fn add_squares(values: &[f32], centre: &[f32], sums: &mut [f64]) = add_squares_of_rows);

#[inline(always)]
fn add_squares_of_rows(values: &[f32], centre: &[f32], sums: &mut [f64]) {
    for row in values.chunks(sums.len()) {
        for ((sum, x), centre) in sums.iter_mut().zip(row).zip(centre) {
            let distance = f64::from(*x) - f64::from(*centre);
            *sum += distance * distance;
        }
    }
}

vectorize!(fn add_products(
    values: [&[f32]; 2], line: [&[f32]; 2], products: &mut [f64], sums: &mut [f64],
) = add_products_of_rows);

#[inline(always)]
fn add_products_of_rows(
    [a, b]: [&[f32]; 2],
    [centre, scale]: [&[f32]; 2],
    products: &mut [f64],
    sums: &mut [f64],
) {
    for (a, b) in a.chunks(sums.len()).zip(b.chunks(sums.len())) {
        for (((product, a), b), (centre, scale)) in
            products.iter_mut().zip(a).zip(b).zip(centre.iter().zip(scale))
        {
            *product += f64::from((*a - *centre) * *scale) * f64::from(*b);
        }
        for (sum, b) in sums.iter_mut().zip(b) {
            *sum += f64::from(*b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::noise;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_those_of_the_columns_however_many_there_are(
            rows in 0usize..700, columns in 1usize..300, seed: u64,
        ) {
            let (a, b) = (noise(rows * columns, seed), noise(rows * columns, seed ^ 1));
            let (centre, scale) = (noise(columns, 1), noise(columns, 2));
            let (sums, squares) = (plain(&a, columns), squares(&a, &centre));
            let [products, seconds] = products([&a, &b], [&centre, &scale]);
            for column in 0..columns {
                let sum = |term: &dyn Fn(f64, f64) -> f64| -> f64 {
                    let of = |values: &[f32], row: usize| f64::from(values[row * columns + column]);
                    (0..rows).map(|row| term(of(&a, row), of(&b, row))).sum()
                };
                let (centre, scale) = (f64::from(centre[column]), f64::from(scale[column]));
                for (found, expected) in [
                    (sums[column], sum(&|a, _| a)),
                    (seconds[column], sum(&|_, b| b)),
                    (squares[column], sum(&|a, _| (a - centre) * (a - centre))),
                    (products[column], sum(&|a, b| (a - centre) * scale * b)),
                ] {
                    prop_assert!((found - expected).abs() < 1e-4, "{} is not {}", found, expected);
                }
            }
        }
    }
}
