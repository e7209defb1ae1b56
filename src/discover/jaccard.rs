//! The continuous Jaccard similarity of contributions: `Σ sign(x) sign(y) min(|x|, |y|) / Σ max(|x|, |y|)`.

use super::tracks::{Position, Seqlet, Tracks};
use crate::kernel::Instructions;
use crate::kernel::jaccard::sums_and_differences;

/// Numbers at one position: four hypothetical contributions and four of the observed base.
pub const PLANES: usize = 8;

/// The contributions of a seqlet or pattern, [W, 8], each of the two kinds scaled to a sum of absolute values of 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    values: Vec<f32>,
    /// Sums of absolute values before each position, W + 1.
    sums: Vec<f32>,
}

impl Profile {
    /// Creates the profile of hypothetical and observed contributions, one pair a position.
    pub fn new(positions: impl Iterator<Item = ([f64; 4], [f64; 4])>) -> Self {
        let positions: Vec<_> = positions.collect();
        let size = |values: &[f64; 4]| values.iter().map(|value| value.abs()).sum::<f64>();
        let scale = |sum: f64| if sum > 0.0 { 1.0 / sum } else { 1.0 };
        let hypothetical = scale(positions.iter().map(|pair| size(&pair.0)).sum());
        let observed = scale(positions.iter().map(|pair| size(&pair.1)).sum());
        let (mut values, mut sums, mut total) = (Vec::new(), vec![0.0], 0.0);
        for (h, o) in &positions {
            let scaled =
                h.map(|value| value * hypothetical).into_iter().chain(o.map(|value| value * observed));
            values.extend(scaled.map(|value| value as f32));
            total += size(h) * hypothetical + size(o) * observed;
            sums.push(total as f32);
        }
        Self { values, sums }
    }

    /// Creates the profile of a seqlet.
    pub fn of(tracks: &Tracks, seqlet: &Seqlet) -> Self {
        let wide = |values: [f32; 4]| values.map(f64::from);
        let pair = |position: Position| (wide(position.hypothetical), wide(position.contributions()));
        Self::new(tracks.positions(seqlet).map(pair))
    }

    /// Returns the profile of the other strand.
    pub fn flipped(&self) -> Self {
        let mut values = self.values.clone();
        values.reverse();
        // Reversing all has exchanged the two kinds; the bases are complemented as they should be.
        for position in values.chunks_exact_mut(PLANES) {
            position.rotate_left(PLANES / 2);
        }
        let total = self.sums[self.width()];
        Self { values, sums: self.sums.iter().rev().map(|sum| total - sum).collect() }
    }

    /// Returns the number of positions W.
    pub fn width(&self) -> usize {
        self.sums.len() - 1
    }

    /// Returns the similarity of `other`, laid so that it begins at `offset`. The positions of `self` that `other` does
    /// not cover do not count; those of `other` beyond `self` do.
    pub fn similarity(&self, other: &Self, offset: i64) -> f32 {
        let first = offset.clamp(0, self.width() as i64);
        let last = (offset + other.width() as i64).min(self.width() as i64).max(first);
        let (first, last) = (first as usize, last as usize);
        let here = &self.values[first * PLANES..last * PLANES];
        let begin = (first as i64 - offset).clamp(0, other.width() as i64) as usize * PLANES;
        let there = &other.values[begin..begin + here.len()];
        let mut totals = (0.0, 0.0);
        sums_and_differences(Instructions::detect(), here, there, &mut totals);
        let (sum, difference) = totals;
        let covered = other.sums[begin / PLANES + last - first] - other.sums[begin / PLANES];
        let most = sum + difference + 2.0 * (other.sums[other.width()] - covered);
        if most > 0.0 { (sum - difference) / most } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hypothetical and observed scores of a position.
    type Column = ([f64; 4], [f64; 4]);

    fn profile(width: usize) -> impl Strategy<Value = Vec<Column>> {
        let column = || prop::array::uniform4(prop_oneof![-1.0f64..-0.01, 0.01f64..1.0]);
        prop::collection::vec((column(), column()), width)
    }

    /// The definition on zero-padded arrays.
    fn naive(y: &[Column], x: &[Column], offset: i64) -> f64 {
        let scaled = |all: &[Column]| {
            let sum = |pick: fn(&Column) -> [f64; 4]| all.iter().flat_map(pick).map(f64::abs).sum::<f64>();
            let (h, o) = (sum(|pair| pair.0), sum(|pair| pair.1));
            all.iter()
                .map(|pair| [pair.0.map(|v| v / h), pair.1.map(|v| v / o)].concat())
                .collect::<Vec<Vec<f64>>>()
        };
        let (y, x) = (scaled(y), scaled(x));
        let (mut top, mut bottom) = (0.0, 0.0);
        for (i, x) in x.iter().enumerate() {
            let zeros = vec![0.0; 8];
            let y = usize::try_from(i as i64 + offset).ok().and_then(|at| y.get(at)).unwrap_or(&zeros);
            for (x, y) in x.iter().zip(y) {
                top += x.abs().min(y.abs()) * (x * y).signum();
                bottom += x.abs().max(y.abs());
            }
        }
        top / bottom
    }

    proptest! {
        #[test]
        fn the_similarity_is_its_definition(y in profile(7), x in profile(5), offset in -6i64..9) {
            let similarity = Profile::new(y.iter().copied()).similarity(&Profile::new(x.iter().copied()), offset);
            // Forty products of order 0.1 in f32.
            prop_assert!((f64::from(similarity) - naive(&y, &x, offset)).abs() < 1e-5);
        }

        #[test]
        fn flipping_complements(x in profile(5)) {
            let reversed = x.iter().rev().map(|(h, o)| {
                let turn = |v: &[f64; 4]| [v[3], v[2], v[1], v[0]];
                (turn(h), turn(o))
            });
            let (flipped, expected) = (Profile::new(x.iter().copied()).flipped(), Profile::new(reversed));
            prop_assert_eq!(&flipped.values, &expected.values);
            prop_assert!(flipped.sums.iter().zip(&expected.sums).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }
}
