//! Empirical p-values against a fixed null, and q-values of all of them.
//!
//! With n numbers in the null and k of them at least as large (in absolute value) as a statistic,
//! p = (1 + k) / (1 + n) (Phipson and Smyth, 2010): never 0, and the same in whatever shard a row is. There are only
//! n + 1 such p-values, so counting them is all that the procedure of Benjamini and Hochberg needs, however many
//! rows there are.

/// The absolute values of a statistic where there is no effect.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Null {
    /// Ascending.
    values: Vec<f64>,
}

impl Null {
    /// Collects the absolute values; what is not a number is left out.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().map(f64::abs).filter(|value| !value.is_nan()).collect();
        values.sort_unstable_by(f64::total_cmp);
        Self { values }
    }

    /// Returns n.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Returns whether there is no number at all.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns k, how many numbers are at least as large as `statistic` in absolute value.
    pub fn exceeding(&self, statistic: f64) -> usize {
        self.values.len() - self.values.partition_point(|&value| value < statistic.abs())
    }
}

/// Returns the p-value of a statistic that `exceeding` of `n` numbers reach.
pub fn p_value(exceeding: usize, n: usize) -> f64 {
    (1 + exceeding) as f64 / (1 + n) as f64
}

/// Returns k for a p-value that [`p_value`] made of it.
pub fn exceeding_of(p: f64, n: usize) -> usize {
    ((p * (1 + n) as f64).round() as usize).saturating_sub(1).min(n)
}

/// How often every p-value occurs.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    counts: Vec<u64>,
}

impl Tally {
    /// Creates the tally of p-values of a null of `n` numbers.
    pub fn new(n: usize) -> Self {
        Self { counts: vec![0; n + 1] }
    }

    /// Counts a p-value of `exceeding`.
    pub fn add(&mut self, exceeding: usize) {
        self.counts[exceeding] += 1;
    }

    /// Returns the q-value of every k: the least m p_j / (rows with p ≤ p_j) of all p_j ≥ p_k, at most 1 (Benjamini
    /// and Hochberg, 1995).
    pub fn q_values(&self) -> Vec<f64> {
        let n = self.counts.len() - 1;
        let rows: u64 = self.counts.iter().sum();
        let mut up_to = rows;
        let mut least = 1.0f64;
        let mut q_values = vec![1.0; n + 1];
        for (k, &count) in self.counts.iter().enumerate().rev() {
            if count > 0 {
                least = least.min(p_value(k, n) * rows as f64 / up_to as f64);
                up_to -= count;
            }
            q_values[k] = least;
        }
        q_values
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Benjamini and Hochberg on the sorted p-values, as the textbook has it.
    fn naive_q(p: &[f64]) -> Vec<f64> {
        let q = |value: f64| {
            let bound =
                |&other: &f64| other * p.len() as f64 / p.iter().filter(|&&x| x <= other).count() as f64;
            p.iter().filter(|&&other| other >= value).map(bound).fold(1.0, f64::min)
        };
        p.iter().map(|&value| q(value)).collect()
    }

    proptest! {
        #[test]
        fn the_tally_gives_the_textbooks_q_values(
            null in prop::collection::vec(-3i8..3, 0..12),
            statistics in prop::collection::vec(-4i8..4, 1..30),
        ) {
            let n = null.len();
            let fixed = Null::new(null.iter().map(|&x| f64::from(x)));
            let mut tally = Tally::new(n);
            let mut p = Vec::new();
            for &statistic in &statistics {
                let k = null.iter().filter(|x| x.abs() >= statistic.abs()).count();
                prop_assert_eq!(fixed.exceeding(f64::from(statistic)), k);
                prop_assert_eq!(exceeding_of(p_value(k, n), n), k);
                tally.add(k);
                p.push(p_value(k, n));
            }
            let q = tally.q_values();
            for (p, expected) in p.iter().zip(naive_q(&p)) {
                prop_assert!((q[exceeding_of(*p, n)] - expected).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn what_is_not_a_number_is_no_part_of_the_null() {
        let null = Null::new([f64::NAN, -2.0, f64::INFINITY]);
        assert_eq!((null.len(), null.exceeding(2.0), null.exceeding(2.5)), (2, 2, 1));
        assert_eq!(p_value(Null::default().exceeding(1.0), 0), 1.0);
    }
}
