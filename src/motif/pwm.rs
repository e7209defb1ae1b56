//! Position weight matrices: log-odds of a sequence, and exactly how likely a score is by chance.
//!
//! Weights are scaled to whole numbers as FIMO scales them, at most 1000 for a column, so that the distribution of
//! scores is a sum over columns (Grant, Bailey and Noble 2011). Base order is A, C, G, T.

use super::compare::Profile;

/// Levels of one column.
const RANGE: f64 = 1000.0;

/// Frequencies of bases in NCBI's non-redundant DNA: the background that FIMO has unless told.
pub const NON_REDUNDANT: [f64; 4] = [0.281774, 0.222020, 0.228876, 0.267330];

/// A matrix of log-odds, as whole numbers.
#[derive(Clone, Debug)]
pub struct Pwm {
    /// Levels of the four bases by position, none below 0.
    levels: Vec<[u16; 4]>,
    scale: f64,
    offset: f64,
    /// By level, the chance of at least that level.
    tails: Vec<f64>,
}

impl Pwm {
    /// Creates the matrix of `log2(p / background)`. All probabilities must be above 0.
    pub fn new(profile: &Profile, background: [f64; 4]) -> Self {
        let weights: Vec<[f64; 4]> = profile
            .columns
            .iter()
            .map(|column| std::array::from_fn(|base| (column[base] / background[base]).log2()))
            .collect();
        let all = || weights.iter().flatten().copied();
        let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
        let offset = if least == most { most - 1.0 } else { least }.floor();
        let scale = (RANGE / (most - offset)).floor().max(1.0);
        let level = |weight: f64| ((weight - offset) * scale).round_ties_even() as u16;
        let levels: Vec<[u16; 4]> = weights.iter().map(|column| column.map(level)).collect();
        let tails = tails(&levels, background);
        Self { levels, scale, offset, tails }
    }

    /// Returns the matrix of the other strand; the background is taken to be the same on both.
    pub fn reverse_complement(&self) -> Self {
        let levels = self.levels.iter().rev().map(|&[a, c, g, t]| [t, g, c, a]).collect();
        Self { levels, ..self.clone() }
    }

    /// Returns the number of positions W.
    pub fn width(&self) -> usize {
        self.levels.len()
    }

    /// Returns the levels of the four bases by position. The level of a sequence is their sum.
    pub fn levels(&self) -> &[[u16; 4]] {
        &self.levels
    }

    /// Returns the highest level.
    pub fn highest(&self) -> u32 {
        self.tails.len() as u32 - 1
    }

    /// Returns the score of a level in bits.
    pub fn score(&self, level: u32) -> f64 {
        f64::from(level) / self.scale + self.width() as f64 * self.offset
    }

    /// Returns the chance of at least that level in a random sequence.
    pub fn p_value(&self, level: u32) -> f64 {
        self.tails[level as usize]
    }

    /// Returns the lowest level with a p-value up to `p_value`; `None` where there is none.
    pub fn threshold(&self, p_value: f64) -> Option<u32> {
        let above = self.tails.partition_point(|&tail| tail > p_value);
        (above < self.tails.len()).then_some(above as u32)
    }
}

fn tails(levels: &[[u16; 4]], background: [f64; 4]) -> Vec<f64> {
    let total: f64 = background.iter().sum();
    let mut chances = vec![1.0];
    for column in levels {
        let most = usize::from(column.iter().copied().max().unwrap_or(0));
        let mut next = vec![0.0; chances.len() + most];
        for (&level, frequency) in column.iter().zip(background) {
            let shifted = &mut next[usize::from(level)..];
            shifted.iter_mut().zip(&chances).for_each(|(sum, chance)| *sum += chance * frequency / total);
        }
        chances = next;
    }
    let mut sum = 0.0;
    for chance in chances.iter_mut().rev() {
        sum += *chance;
        *chance = f64::min(sum, 1.0);
    }
    chances
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn p_values_are_shares_of_all_sequences(columns in prop::collection::vec(prop::array::uniform4(0.01f64..1.0), 1..5)) {
            let columns: Vec<[f64; 4]> = columns
                .iter()
                .map(|column| column.map(|weight| weight / column.iter().sum::<f64>()))
                .collect();
            let width = columns.len();
            let background = [0.3, 0.2, 0.2, 0.3];
            let pwm = Pwm::new(&Profile { columns, sites: 20.0 }, background);
            let words: Vec<(u32, f64)> = (0..4usize.pow(width as u32))
                .map(|word| {
                    let base = |position: usize| word / 4usize.pow(position as u32) % 4;
                    let level = (0..width).map(|at| u32::from(pwm.levels()[at][base(at)])).sum();
                    (level, (0..width).map(|at| background[base(at)]).product())
                })
                .collect();
            for &(level, _) in &words {
                let expected: f64 = words.iter().filter(|(other, _)| *other >= level).map(|(_, p)| p).sum();
                prop_assert!((pwm.p_value(level) - expected).abs() < 1e-12);
                prop_assert!(pwm.threshold(expected + 1e-12).unwrap() <= level);
            }
            prop_assert!(pwm.threshold(0.0).is_none());
            let most = words.iter().map(|(level, _)| *level).max().unwrap();
            prop_assert_eq!(most, pwm.highest());
        }
    }
}
