//! From p-values to q-values (Storey 2002), as MEME's tools have them.

/// p-values from which on the share of null ones is estimated.
const ENOUGH: usize = 100;
/// Thresholds that are tried for that estimate, up to [`HIGHEST`].
const THRESHOLDS: usize = 100;
const HIGHEST: f64 = 0.5;
/// p-values in one of MEME's bootstrap samples, and samples.
const SAMPLE: f64 = 1000.0;
const SAMPLES: f64 = 1000.0;

/// Returns the q-value of each of all p-values of a question, which ascend.
pub fn storey(ascending: &[f64]) -> Vec<f64> {
    let share = if ascending.len() > ENOUGH { null_share(ascending) } else { 1.0 };
    from_share(ascending, ascending.len() as u64, share)
}

/// Returns the q-values of the smallest of `total` p-values, which ascend, where `share` of all are null:
/// `min over j ≥ i of share · p[j] · total / (j + 1)` (Benjamini and Hochberg 1995 where the share is 1).
pub fn from_share(ascending: &[f64], total: u64, share: f64) -> Vec<f64> {
    let rate = |(index, p): (usize, &f64)| (share * p * total as f64 / (index + 1) as f64).min(1.0);
    let mut q_values: Vec<f64> = ascending.iter().enumerate().map(rate).collect();
    for index in (1..q_values.len()).rev() {
        q_values[index - 1] = q_values[index - 1].min(q_values[index]);
    }
    q_values
}

/// Estimates the share of null p-values among all, which ascend: see [`null_share_of`].
pub fn null_share(ascending: &[f64]) -> f64 {
    null_share_of(|step| {
        let below = ascending.partition_point(|&p| p < threshold(step));
        (ascending.len() - below) as f64 / ascending.len() as f64
    })
}

/// Estimates the share of null p-values from `above(step)`, the share of all p-values from step/200 on, step from 1
/// to 100.
///
/// At a threshold λ the estimate is the share from λ on over `1 − λ`. The λ is taken at which it has the least mean
/// squared error around the smallest of all estimates. MEME finds the error by bootstrap, with random numbers; here it
/// is what a bootstrap tends to, variance plus squared bias, so nothing is random.
pub fn null_share_of(above: impl Fn(usize) -> f64) -> f64 {
    let estimates: Vec<(f64, f64)> = (1..=THRESHOLDS).map(|step| (threshold(step), above(step))).collect();
    let share = |&(threshold, above): &(f64, f64)| {
        if above > 0.0 { above / (1.0 - threshold) } else { f64::INFINITY }
    };
    let least = estimates.iter().map(share).fold(f64::INFINITY, f64::min);
    let mut best = (f64::INFINITY, share(&estimates[0]));
    for estimate in &estimates {
        let error = error(*estimate, share(estimate), least);
        if error < best.0 {
            best = (error, share(estimate));
        }
    }
    best.1.clamp(0.0, 1.0)
}

fn threshold(step: usize) -> f64 {
    step as f64 / THRESHOLDS as f64 * HIGHEST
}

/// Returns the mean squared error of an estimate from [`SAMPLE`] p-values drawn with replacement.
fn error((threshold, above): (f64, f64), share: f64, least: f64) -> f64 {
    // A sample without any p-value above the threshold has no estimate at all; one of all samples spoils the mean.
    if (1.0 - above).powf(SAMPLE) * SAMPLES >= 0.5 {
        return f64::INFINITY;
    }
    let variance = above * (1.0 - above) / (SAMPLE * (1.0 - threshold).powi(2));
    variance + (share - least).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_values_of_few_are_those_of_benjamini_and_hochberg() {
        let expected = [0.04, 0.06, 0.06, 0.5];
        for (q, expected) in storey(&[0.01, 0.04, 0.045, 0.5]).iter().zip(expected) {
            assert!((q - expected).abs() < 1e-15, "{q}");
        }
        assert!(storey(&[]).is_empty());
    }

    #[test]
    fn the_null_share_of_a_mixture_is_found() {
        // 300 of 1000 lie below 0.001, the others are evenly spread.
        let mut p_values: Vec<f64> = (0..300).map(|i| f64::from(i) * 3e-6).collect();
        p_values.extend((0..700).map(|i| (f64::from(i) + 0.5) / 700.0));
        p_values.sort_by(f64::total_cmp);
        let share = null_share(&p_values);
        assert!((share - 0.7).abs() < 0.01, "{share}");
        assert_eq!(null_share(&[1.0; 200]), 1.0);
        let q = storey(&p_values);
        assert!(q.windows(2).all(|pair| pair[0] <= pair[1]) && q[999] <= 1.0);
    }
}
