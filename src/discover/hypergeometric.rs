//! The upper tail of the hypergeometric distribution, and the correction for many tests.

/// Logarithms of the factorials of 0 to n, summed with Kahan's compensation.
#[derive(Clone, Debug)]
pub struct LogFactorials(Vec<f64>);

impl LogFactorials {
    /// Creates the table of ln 0! to ln `largest`!.
    pub fn new(largest: usize) -> Self {
        let (mut sum, mut lost) = (0.0f64, 0.0f64);
        let mut table = vec![0.0];
        for number in 1..=largest {
            let term = (number as f64).ln() - lost;
            let next = sum + term;
            lost = (next - sum) - term;
            sum = next;
            table.push(sum);
        }
        Self(table)
    }

    fn binomial(&self, n: usize, k: usize) -> f64 {
        self.0[n] - self.0[k] - self.0[n - k]
    }

    /// Returns P(X ≥ `successes`) when `draws` are taken without replacement from `total`, of which `marked` count
    /// as a success: `Σ_{k≥x} C(K,k) C(N−K,n−k) / C(N,n)`.
    ///
    /// # Panics
    ///
    /// When `marked` or `draws` exceed `total`, or `total` the table.
    pub fn upper_tail(&self, successes: usize, total: usize, marked: usize, draws: usize) -> f64 {
        let least = draws.saturating_sub(total - marked);
        let most = marked.min(draws);
        if successes <= least {
            return 1.0;
        }
        if successes > most {
            return 0.0;
        }
        let first = self.binomial(marked, successes) + self.binomial(total - marked, draws - successes)
            - self.binomial(total, draws);
        // Each probability is the one before it times a ratio of four counts.
        let (mut ratio, mut sum) = (1.0f64, 1.0f64);
        for k in successes..most {
            let up = (marked - k) as f64 * (draws - k) as f64;
            let down = (k + 1) as f64 * (total - marked + k + 1 - draws) as f64;
            ratio *= up / down;
            sum += ratio;
            if ratio < sum * f64::EPSILON / 64.0 && up < down {
                break;
            }
        }
        (first + sum.ln()).exp().min(1.0)
    }
}

/// Returns the adjusted p-values of Benjamini and Hochberg (1995): `min_{j ≥ i} p_(j) · m / j`, at most 1.
pub fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    let count = p_values.len();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![1.0; count];
    let mut least = 1.0f64;
    for (rank, &index) in order.iter().enumerate().rev() {
        least = least.min(p_values[index] * count as f64 / (rank + 1) as f64);
        adjusted[index] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All subsets of `draws` numbers out of `total`, of which those below `marked` count.
    fn counted(successes: usize, total: usize, marked: usize, draws: usize) -> f64 {
        let sets = (0u32..1 << total).filter(|set| set.count_ones() as usize == draws);
        let (mut all, mut hits) = (0, 0);
        for set in sets {
            all += 1;
            hits += u32::from((set & ((1 << marked) - 1)).count_ones() as usize >= successes);
        }
        f64::from(hits) / f64::from(all)
    }

    proptest! {
        #[test]
        fn the_tail_is_the_share_of_subsets(total in 1usize..12, marked in 0usize..12, draws in 0usize..12, x in 0usize..13) {
            let (marked, draws) = (marked.min(total), draws.min(total));
            let p = LogFactorials::new(total).upper_tail(x, total, marked, draws);
            prop_assert!((p - counted(x, total, marked, draws)).abs() < 1e-12);
        }

        #[test]
        fn adjusted_values_are_the_definition(p in prop::collection::vec(0.0f64..=1.0, 1..20)) {
            let adjusted = benjamini_hochberg(&p);
            for (index, value) in adjusted.iter().enumerate() {
                let bound = |other: &f64| {
                    let rank = p.iter().filter(|value| *value <= other).count();
                    other * p.len() as f64 / rank as f64
                };
                let least = p.iter().filter(|other| **other >= p[index]).map(bound).fold(1.0, f64::min);
                prop_assert!((value - least).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_tiny_tail_is_not_zero() {
        // C(1000, 500) equally likely draws, one of which is all marked: exp(−ln C) from Stirling's series.
        let p = LogFactorials::new(1000).upper_tail(500, 1000, 500, 500);
        let stirling = |n: f64| {
            n * n.ln() - n + 0.5 * (2.0 * std::f64::consts::PI * n).ln() + 1.0 / (12.0 * n)
                - 1.0 / (360.0 * n.powi(3))
        };
        let expected = 2.0 * stirling(500.0) - stirling(1000.0);
        assert!((p.ln() - expected).abs() < 1e-9, "{} {expected}", p.ln());
    }
}
