//! From which sum of contributions on a window is a seqlet, and not noise.
//!
//! The null distribution is a Laplace distribution fitted to the centre of the window sums; a window is taken when
//! the isotonic regression of "real, not null" on its sum says that its false discovery rate is small enough
//! (TF-MoDISco's `extract_seqlets`).

/// Values of the null distribution that real ones are compared with.
const NULLS: usize = 10_000;
/// Bins of the histograms that find the mode.
const BINS: usize = 1000;
/// Least share of null values among the windows.
const LEAST_NULL: f64 = 0.95;
/// What keeps a quotient finite.
const TINY: f64 = 1e-7;

/// Sums at or above, and at or below, which a window is a seqlet's core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// For sums above zero.
    pub positive: f64,
    /// For sums below zero.
    pub negative: f64,
}

/// Returns the thresholds for the window sums `values` at a false discovery rate of `fdr`, moved where fewer than
/// `least` or more than `most` (shares) of the windows would pass.
pub fn thresholds(values: &[f64], fdr: f64, least: f64, most: f64) -> Thresholds {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let (positive_nulls, negative_nulls) = laplace_nulls(&values);
    let first_positive = values.partition_point(|&value| value < 0.0);
    let found = Thresholds {
        positive: isotonic_threshold(&values[first_positive..], &positive_nulls, fdr),
        negative: -isotonic_threshold(&negated(&values[..first_positive]), &negated(&negative_nulls), fdr),
    };
    refine(&values, found, least, most)
}

/// Returns the values with their signs and their order turned.
fn negated(values: &[f64]) -> Vec<f64> {
    values.iter().rev().map(|value| -value).collect()
}

/// Returns quantiles of the Laplace distribution about the mode of `values` (sorted), those of at least zero and
/// those below, each sorted. The scale of either side is the narrowest that any of its percentiles asks for.
/// Quantiles at equal steps stand for TF-MoDISco's random draws: no seed decides about the result.
fn laplace_nulls(values: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let Some(mode) = mode(values) else { return (Vec::new(), Vec::new()) };
    let above = &values[values.partition_point(|&value| value < mode)..];
    let below = &values[..values.partition_point(|&value| value <= mode)];
    let rate = |distance: &dyn Fn(f64) -> f64| {
        let rates = (1..=19).map(|step| {
            let share = f64::from(step) * 0.05;
            -(1.0 - share).ln() / distance(share)
        });
        rates.filter(|rate| rate.is_finite()).fold(0.0, f64::max)
    };
    let up = rate(&|share| quantile(above, share) - mode);
    let down = rate(&|share| (quantile(below, 1.0 - share) - mode).abs());
    let above_count = NULLS * above.len() / (above.len() + below.len()).max(1);
    let draws = |count: usize, rate: f64, sign: f64| {
        (0..count).map(move |i| mode - sign * (1.0 - (i as f64 + 0.5) / count as f64).ln() / rate)
    };
    let all = draws(above_count, up, 1.0).chain(draws(NULLS - above_count, down, -1.0));
    let (mut positive, mut negative): (Vec<f64>, Vec<f64>) =
        all.filter(|value| value.is_finite()).partition(|&value| value >= 0.0);
    positive.sort_unstable_by(f64::total_cmp);
    negative.sort_unstable_by(f64::total_cmp);
    (positive, negative)
}

/// Returns the mode of sorted values: the middle of the fullest bin within the fullest bin.
fn mode(values: &[f64]) -> Option<f64> {
    let (low, high) = fullest_bin(values)?;
    if low >= high {
        return Some(low);
    }
    let inside =
        &values[values.partition_point(|&value| value <= low)..values.partition_point(|&value| value < high)];
    let (low, high) = fullest_bin(inside).unwrap_or((low, high));
    Some((low + high) / 2.0)
}

/// Returns the edges of the fullest of the bins between the least and the largest of sorted values.
fn fullest_bin(values: &[f64]) -> Option<(f64, f64)> {
    let (&low, &high) = (values.first()?, values.last()?);
    let step = (high - low) / BINS as f64;
    let mut counts = [0usize; BINS];
    for value in values {
        counts[(((value - low) / step) as usize).min(BINS - 1)] += 1;
    }
    let fullest = (0..BINS).fold(0, |best, bin| if counts[bin] > counts[best] { bin } else { best });
    Some((low + fullest as f64 * step, low + (fullest + 1) as f64 * step))
}

/// Returns the quantile of sorted values, interpolated.
fn quantile(values: &[f64], share: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    let place = share * last as f64;
    let (low, rest) = (place.floor() as usize, place.fract());
    let next = values[(low + 1).min(last)];
    values[low] + (next - values[low]) * rest
}

/// Returns the least of the sorted `values` whose false discovery rate is at most `fdr`; infinity without values.
fn isotonic_threshold(values: &[f64], nulls: &[f64], fdr: f64) -> f64 {
    let Some(&last) = values.last() else { return f64::INFINITY };
    if nulls.is_empty() {
        return values[0];
    }
    let precisions = isotonic_precisions(values, nulls);
    let lowest = precisions.lowest.max(TINY);
    let implied = -1.0 / (1.0 - 1.0 / lowest);
    let null_share = if implied.is_finite() { implied.clamp(LEAST_NULL, 1.0) } else { 1.0 };
    let rate = |p: f64| (1.0 + null_share * (1.0 - 1.0 / p.max(TINY))).clamp(0.0, 1.0);
    let passing = values.iter().zip(&precisions.fitted).find(|&(_, &p)| rate(p) >= 1.0 - fdr);
    passing.map_or(last, |(&value, _)| value)
}

struct Precisions {
    fitted: Vec<f64>,
    lowest: f64,
}

/// Returns the increasing regression of 1 for real values and 0 for null ones, both sides of equal weight in all, at
/// every real value and at the least value of either.
fn isotonic_precisions(values: &[f64], nulls: &[f64]) -> Precisions {
    let null_weight = values.len() as f64 / nulls.len() as f64;
    // Blocks of sum, weight and how many real values they cover.
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < values.len() || j < nulls.len() {
        let at = match (values.get(i), nulls.get(j)) {
            (Some(&a), Some(&b)) => a.min(b),
            (Some(&a), None) | (None, Some(&a)) => a,
            (None, None) => break,
        };
        let real = values[i..].iter().take_while(|&&value| value == at).count();
        let null = nulls[j..].iter().take_while(|&&value| value == at).count();
        let weight = real as f64 + null as f64 * null_weight;
        let mut block = (real as f64, weight, real);
        // Pool adjacent violators.
        while let Some(&(sum, weight, count)) = blocks.last()
            && sum * block.1 >= block.0 * weight
        {
            blocks.pop();
            block = (block.0 + sum, block.1 + weight, block.2 + count);
        }
        blocks.push(block);
        i += real;
        j += null;
    }
    let fitted =
        blocks.iter().flat_map(|&(sum, weight, count)| std::iter::repeat_n(sum / weight, count)).collect();
    Precisions { fitted, lowest: blocks.first().map_or(0.0, |&(sum, weight, _)| sum / weight) }
}

/// Moves both thresholds to a common quantile of the absolute values when too few or too many windows pass.
fn refine(values: &[f64], found: Thresholds, least: f64, most: f64) -> Thresholds {
    let passing = values.iter().filter(|&&value| value >= found.positive || value <= found.negative).count();
    let share = passing as f64 / values.len().max(1) as f64;
    let wanted = share.clamp(least, most);
    if share == wanted || values.is_empty() {
        return found;
    }
    let mut sizes: Vec<f64> = values.iter().map(|value| value.abs()).collect();
    sizes.sort_unstable_by(f64::total_cmp);
    let threshold = quantile(&sizes, 1.0 - wanted);
    Thresholds { positive: threshold, negative: -threshold }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_regression_is_the_best_increasing_fit(
            mut values in prop::collection::vec((0u8..12).prop_map(f64::from), 1..12),
            mut nulls in prop::collection::vec((0u8..12).prop_map(f64::from), 1..12),
        ) {
            values.sort_by(f64::total_cmp);
            nulls.sort_by(f64::total_cmp);
            let fitted = isotonic_precisions(&values, &nulls).fitted;
            prop_assert!(fitted.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12));
            // The max-min formula of isotonic regression (Robertson, Wright and Dykstra, 1988).
            let weight = values.len() as f64 / nulls.len() as f64;
            let mean = |low: f64, high: f64| {
                let inside = |all: &[f64]| all.iter().filter(|v| (low..=high).contains(*v)).count() as f64;
                (inside(&values), inside(&values) + inside(&nulls) * weight)
            };
            let mut knots: Vec<f64> = values.iter().chain(&nulls).copied().collect();
            knots.sort_by(f64::total_cmp);
            for (value, fit) in values.iter().zip(&fitted) {
                let lower = |low: f64| {
                    let means = knots.iter().filter(|&&high| high >= *value).map(|&high| mean(low, high));
                    means.map(|(sum, weight)| sum / weight).fold(f64::INFINITY, f64::min)
                };
                let best = knots.iter().filter(|&&low| low <= *value).map(|&low| lower(low)).fold(0.0, f64::max);
                prop_assert!((best - fit).abs() < 1e-9, "{value}: {fit}, formula {best}");
            }
        }
    }

    #[test]
    fn what_stands_out_of_laplace_noise_passes_and_noise_does_not() {
        let noise = |i: usize| {
            let share = (i as f64 + 0.5) / 10_000.0;
            let size = -(1.0 - (2.0 * share - 1.0).abs()).ln();
            if share < 0.5 { -size } else { size }
        };
        let mut values: Vec<f64> = (0..10_000).map(noise).collect();
        values.extend((0..600).map(|i| 30.0 + f64::from(i) / 100.0));
        let found = thresholds(&values, 0.05, 0.0, 1.0);
        assert!((8.0..=30.0).contains(&found.positive), "{found:?}");
        let passing = values.iter().filter(|&&value| value >= found.positive).count();
        assert!((600..610).contains(&passing), "{passing}");
        let few = thresholds(&values, 0.05, 0.0, 0.01);
        let passing = values.iter().filter(|&&value| value >= few.positive || value <= few.negative).count();
        assert!((100..=107).contains(&passing), "{passing}");
    }
}
