//! Hyperband: many trials for few epochs, the best of them for more (Li and others 2018, algorithm 1).

/// A rung of a bracket: how many trials go up to how many epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Number of the bracket.
    pub bracket: usize,
    /// Whether the bracket begins here, with new trials.
    pub is_first: bool,
    /// Trials.
    pub trials: usize,
    /// Epochs that they have behind them at its end.
    pub epochs: u64,
}

/// Returns all rungs, in the order in which they are climbed: for each bracket s from the largest, n = ⌈(S + 1)/(s + 1)·ηˢ⌉
/// trials begin with R·η⁻ˢ epochs (rounded up, as Keras Tuner does), and of each rung the best ⌊1/η⌋ go on to η times as
/// many epochs, until R.
///
/// # Panics
///
/// When `epochs` is 0 or `factor` below 2.
pub fn rungs(epochs: u64, factor: u64) -> Vec<Rung> {
    assert!(epochs > 0 && factor > 1, "something to climb");
    let mut most = 0u32;
    while factor.checked_pow(most + 1).is_some_and(|width| width <= epochs) {
        most += 1;
    }
    let bracket = |(bracket, s): (usize, u32)| {
        let begin = (u64::from(most + 1) * factor.pow(s)).div_ceil(u64::from(s + 1));
        (0..=s).map(move |rung| Rung {
            bracket,
            is_first: rung == 0,
            trials: (begin / factor.pow(rung)).max(1) as usize,
            epochs: epochs.div_ceil(factor.pow(s - rung)),
        })
    };
    (0..=most).rev().enumerate().flat_map(bracket).collect()
}

/// Returns which of the trials of a rung go on: the best `count` of those that have a value, larger values first, the
/// earlier of equals; in their own order.
pub fn best(values: &[Option<f64>], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).filter(|&trial| values[trial].is_some()).collect();
    let value = |trial: usize| values[trial].unwrap_or(f64::NEG_INFINITY);
    order.sort_by(|&a, &b| value(b).total_cmp(&value(a)));
    order.truncate(count);
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brackets_are_those_of_the_algorithm() {
        // R = 81, η = 3, as the paper's table 1, which however rounds (S + 1)/(s + 1) down before it multiplies.
        let expected = [
            vec![(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
            vec![(34, 3), (11, 9), (3, 27), (1, 81)],
            vec![(15, 9), (5, 27), (1, 81)],
            vec![(8, 27), (2, 81)],
            vec![(5, 81)],
        ];
        let rungs = rungs(81, 3);
        for (bracket, expected) in expected.iter().enumerate() {
            let of = rungs.iter().filter(|rung| rung.bracket == bracket);
            assert_eq!(of.map(|rung| (rung.trials, rung.epochs)).collect::<Vec<_>>(), *expected);
        }
        assert_eq!(rungs.iter().filter(|rung| rung.is_first).count(), 5);
        let epochs: Vec<u64> = super::rungs(30, 3).iter().take(4).map(|rung| rung.epochs).collect();
        assert_eq!(epochs, [2, 4, 10, 30]);
        assert_eq!(super::rungs(1, 3).len(), 1);
    }

    #[test]
    fn the_best_go_on_and_what_failed_does_not() {
        let values = [Some(0.5), None, Some(0.9), Some(0.9), Some(0.1)];
        assert_eq!(best(&values, 2), [2, 3]);
        assert_eq!(best(&values, 9), [0, 2, 3, 4]);
    }
}
