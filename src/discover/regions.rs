//! High-score regions: the runs of bases that a model attends to (DNABERT's `find_high_attention`).

use std::ops::Range;

/// A base is high when its score is above this multiple of the lowest score, too.
const TIMES_LOWEST: f64 = 10.0;

/// Returns the maximal runs of at least `min_length` bases whose score is above the mean and above ten times the
/// lowest score of the sequence. Where scores are centred the lowest is negative, and the mean alone decides.
pub fn high_regions(scores: &[f32], min_length: usize) -> Vec<Range<usize>> {
    let mean = scores.iter().map(|&score| f64::from(score)).sum::<f64>() / scores.len() as f64;
    let lowest = scores.iter().copied().fold(f32::INFINITY, f32::min);
    let floor = TIMES_LOWEST * f64::from(lowest);
    let high = |score: f32| f64::from(score) > mean && f64::from(score) > floor;
    runs(scores.iter().map(|&score| high(score))).into_iter().filter(|run| run.len() >= min_length).collect()
}

/// Returns the maximal runs of `true`.
pub fn runs(flags: impl IntoIterator<Item = bool>) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut start = None;
    let mut length = 0;
    for (index, flag) in flags.into_iter().enumerate() {
        match (flag, start) {
            (true, None) => start = Some(index),
            (false, Some(first)) => {
                runs.push(first..index);
                start = None;
            }
            _ => {}
        }
        length = index + 1;
    }
    runs.extend(start.map(|first| first..length));
    runs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_region_needs_its_length_and_both_conditions() {
        let raw = [0.1, 0.1, 2.0, 2.0, 2.0, 0.1, 2.0, 2.0];
        assert_eq!(high_regions(&raw, 3), vec![2..5]);
        assert_eq!(high_regions(&raw, 2), [2..5, 6..8]);
        // Two is above the mean but not above ten times the lowest.
        assert!(high_regions(&[0.3, 0.3, 2.0, 2.0, 2.0], 3).is_empty());
        assert_eq!(high_regions(&[-1.0, -1.0, 2.0, 2.0, 2.0], 3), vec![2..5]);
        assert!(high_regions(&[], 1).is_empty());
        assert!(high_regions(&[1.0; 8], 1).is_empty(), "nothing is above the mean of equal scores");
    }

    proptest! {
        #[test]
        fn runs_cover_all_that_is_true_and_do_not_touch(flags in prop::collection::vec(any::<bool>(), 0..40)) {
            let found = runs(flags.iter().copied());
            let covered: Vec<bool> = (0..flags.len()).map(|i| found.iter().any(|run| run.contains(&i))).collect();
            prop_assert_eq!(covered, flags);
            prop_assert!(found.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
