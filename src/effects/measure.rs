//! What an allele does to the scores of a model: formulas on slices, computed in f64.
//!
//! r and a are the scores of the reference and of the alternate window.
//!
//! | measure | formula | of |
//! |---|---|---|
//! | `diff` | (p_a − p_r) · max(p_a, p_r) | probabilities (DNABERT) |
//! | `log_odds_ratio` | log2(p_r / (1 − p_r)) − log2(p_a / (1 − p_a)): positive is a loss; ±inf at 0 and 1 | probabilities (DNABERT) |
//! | `log2_fold_change` | log2(p_a / p_r), or (z_a − z_r) / ln 2 where the logit z is the logarithm of counts | probabilities, counts |
//! | `delta_logit` | z_a − z_r | logits |
//! | `jsd` | √(½ KL(P_r ‖ M) + ½ KL(P_a ‖ M)), M = ½ (P_r + P_a), P = softmax over all tracks and positions, natural logarithm | profiles |
//! | `embedding_cosine` | 1 − e_r · e_a / (‖e_r‖ ‖e_a‖) | embeddings |
//! | `embedding_euclid` | ‖e_a − e_r‖ | embeddings |
//! | `log_likelihood_ratio` | Σ ln P(token of a) − Σ ln P(token of r) | masked language models |
//! | `base_delta` | mean score of the bases of the allele − the same of REF | base-level callers |
//! | `base_delta_max` | the change of largest size of any base that both windows have | base-level callers |

use std::ops::Range;

/// What was predicted for one window; an empty slice is what the model does not give.
#[derive(Clone, Debug, Default)]
pub struct Window<'a> {
    /// `[classes]`.
    pub logits: &'a [f32],
    /// `[classes]`.
    pub probs: &'a [f32],
    /// Profile logits, `[tracks · length]`.
    pub profile: &'a [f32],
    /// `[hidden]`.
    pub embedding: &'a [f32],
    /// Sum over tokens.
    pub log_likelihood: Option<f32>,
    /// `[L]`.
    pub base_scores: &'a [f32],
    /// The bases of the allele, offsets in the window.
    pub allele: Range<usize>,
}

/// A number that compares two windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// Probability of the reference window.
    RefProb,
    /// Probability of the alternate window.
    AltProb,
    /// Logit of the reference window.
    RefLogit,
    /// Logit of the alternate window.
    AltLogit,
    /// DNABERT's weighted difference.
    Diff,
    /// DNABERT's log-odds ratio.
    LogOddsRatio,
    /// Log2 fold change of probabilities.
    Log2FoldChange,
    /// Log2 fold change of counts whose natural logarithm is the logit.
    Log2FoldChangeOfCounts,
    /// Difference of logits.
    DeltaLogit,
    /// Jensen-Shannon distance of profiles.
    ProfileDistance,
    /// Cosine distance of embeddings.
    EmbeddingCosine,
    /// Euclidean distance of embeddings.
    EmbeddingEuclid,
    /// Difference of log-likelihoods.
    LogLikelihoodRatio,
    /// Difference of base scores at the allele.
    BaseDelta,
    /// Largest difference of base scores anywhere.
    BaseDeltaMax,
}

impl Window<'_> {
    /// Returns whether a model said anything about it.
    pub fn is_scored(&self) -> bool {
        let lists = [self.logits, self.probs, self.profile, self.embedding, self.base_scores];
        self.log_likelihood.is_some() || lists.iter().any(|list| !list.is_empty())
    }
}

impl Measure {
    /// All measures in the order of their columns.
    pub const ALL: [Self; 15] = [
        Self::RefProb,
        Self::AltProb,
        Self::RefLogit,
        Self::AltLogit,
        Self::Diff,
        Self::LogOddsRatio,
        Self::Log2FoldChange,
        Self::Log2FoldChangeOfCounts,
        Self::DeltaLogit,
        Self::ProfileDistance,
        Self::EmbeddingCosine,
        Self::EmbeddingEuclid,
        Self::LogLikelihoodRatio,
        Self::BaseDelta,
        Self::BaseDeltaMax,
    ];

    /// Returns the name of its column.
    pub fn name(self) -> &'static str {
        match self {
            Self::RefProb => "ref_prob",
            Self::AltProb => "alt_prob",
            Self::RefLogit => "ref_logit",
            Self::AltLogit => "alt_logit",
            Self::Diff => "diff",
            Self::LogOddsRatio => "log_odds_ratio",
            Self::Log2FoldChange | Self::Log2FoldChangeOfCounts => "log2_fold_change",
            Self::DeltaLogit => "delta_logit",
            Self::ProfileDistance => "jsd",
            Self::EmbeddingCosine => "embedding_cosine",
            Self::EmbeddingEuclid => "embedding_euclid",
            Self::LogLikelihoodRatio => "log_likelihood_ratio",
            Self::BaseDelta => "base_delta",
            Self::BaseDeltaMax => "base_delta_max",
        }
    }

    /// Returns what it is, in one line for the header of a file.
    pub fn description(self) -> &'static str {
        match self {
            Self::RefProb => "Probability of the reference window",
            Self::AltProb => "Probability of the alternate window",
            Self::RefLogit => "Logit of the reference window",
            Self::AltLogit => "Logit of the alternate window",
            Self::Diff => "(p_alt - p_ref) * max(p_alt, p_ref)",
            Self::LogOddsRatio => {
                "log2 odds of the reference minus log2 odds of the alternate; positive is a loss"
            }
            Self::Log2FoldChange => "log2(p_alt / p_ref)",
            Self::Log2FoldChangeOfCounts => "log2 of alternate over reference counts",
            Self::DeltaLogit => "Logit of the alternate minus logit of the reference",
            Self::ProfileDistance => "Jensen-Shannon distance of the profiles",
            Self::EmbeddingCosine => "Cosine distance of the embeddings",
            Self::EmbeddingEuclid => "Euclidean distance of the embeddings",
            Self::LogLikelihoodRatio => "Log-likelihood of the alternate minus that of the reference",
            Self::BaseDelta => "Mean base score of the alternate allele minus that of the reference allele",
            Self::BaseDeltaMax => "Largest change of a base score in the window",
        }
    }

    /// Returns the scores of both windows that a call compares: probabilities of a measure of probabilities, logits
    /// of any other.
    pub fn before_and_after(self) -> (Self, Self) {
        match self {
            Self::RefProb | Self::AltProb | Self::Diff | Self::LogOddsRatio | Self::Log2FoldChange => {
                (Self::RefProb, Self::AltProb)
            }
            _ => (Self::RefLogit, Self::AltLogit),
        }
    }

    /// Returns whether there is one number a class; otherwise there is one a model.
    pub fn is_of_classes(self) -> bool {
        self <= Self::DeltaLogit
    }

    /// Returns the measure of `class` (where it is of classes), or `None` when a window lacks what it compares.
    pub fn of(self, reference: &Window, alternate: &Window, class: usize) -> Option<f64> {
        let probs = || pair(reference.probs, alternate.probs, class);
        let logits = || pair(reference.logits, alternate.logits, class);
        let embeddings = || both(reference.embedding, alternate.embedding);
        Some(match self {
            Self::RefProb => probs()?.0,
            Self::AltProb => probs()?.1,
            Self::RefLogit => logits()?.0,
            Self::AltLogit => logits()?.1,
            Self::Diff => diff(probs()?),
            Self::LogOddsRatio => log_odds_ratio(probs()?),
            Self::Log2FoldChange => log2_fold_change(probs()?),
            Self::Log2FoldChangeOfCounts => delta(logits()?) / std::f64::consts::LN_2,
            Self::DeltaLogit => delta(logits()?),
            Self::ProfileDistance => {
                let (r, a) = both(reference.profile, alternate.profile)?;
                jensen_shannon(r, a)
            }
            Self::EmbeddingCosine => cosine_distance(embeddings()?),
            Self::EmbeddingEuclid => euclidean_distance(embeddings()?),
            Self::LogLikelihoodRatio => {
                f64::from(alternate.log_likelihood?) - f64::from(reference.log_likelihood?)
            }
            Self::BaseDelta => site_mean(alternate)? - site_mean(reference)?,
            Self::BaseDeltaMax => largest_change(reference, alternate)?,
        })
    }
}

fn pair(reference: &[f32], alternate: &[f32], class: usize) -> Option<(f64, f64)> {
    Some((f64::from(*reference.get(class)?), f64::from(*alternate.get(class)?)))
}

fn both<'a>(reference: &'a [f32], alternate: &'a [f32]) -> Option<(&'a [f32], &'a [f32])> {
    let comparable = !reference.is_empty() && reference.len() == alternate.len();
    comparable.then_some((reference, alternate))
}

fn delta((r, a): (f64, f64)) -> f64 {
    a - r
}

fn diff((r, a): (f64, f64)) -> f64 {
    (a - r) * a.max(r)
}

fn log_odds_ratio((r, a): (f64, f64)) -> f64 {
    (r / (1.0 - r)).log2() - (a / (1.0 - a)).log2()
}

fn log2_fold_change((r, a): (f64, f64)) -> f64 {
    (a / r).log2()
}

/// Returns the Jensen-Shannon distance of the softmaxes of two vectors of logits; 0 ≤ d ≤ √ln 2.
fn jensen_shannon(reference: &[f32], alternate: &[f32]) -> f64 {
    let (r, a) = (log_softmax(reference), log_softmax(alternate));
    let half_divergence = |ln_p: f64, ln_q: f64| {
        let p = ln_p.exp();
        let mean = 0.5 * (p + ln_q.exp());
        if p > 0.0 { 0.5 * p * (ln_p - mean.ln()) } else { 0.0 }
    };
    let terms = r.iter().zip(&a).map(|(&r, &a)| half_divergence(r, a) + half_divergence(a, r));
    // Rounding can leave a sum just below zero where the profiles are equal.
    terms.sum::<f64>().max(0.0).sqrt()
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted: Vec<f64> = logits.iter().map(|&z| f64::from(z) - f64::from(largest)).collect();
    let ln_sum = shifted.iter().map(|z| z.exp()).sum::<f64>().ln();
    shifted.into_iter().map(|z| z - ln_sum).collect()
}

fn cosine_distance((r, a): (&[f32], &[f32])) -> f64 {
    let dot =
        |x: &[f32], y: &[f32]| -> f64 { x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum() };
    1.0 - dot(r, a) / (dot(r, r).sqrt() * dot(a, a).sqrt())
}

fn euclidean_distance((r, a): (&[f32], &[f32])) -> f64 {
    r.iter().zip(a).map(|(&r, &a)| (f64::from(a) - f64::from(r)).powi(2)).sum::<f64>().sqrt()
}

fn site_mean(window: &Window) -> Option<f64> {
    let end = window.allele.end.min(window.base_scores.len());
    let bases = window.base_scores.get(window.allele.start..end).filter(|bases| !bases.is_empty())?;
    Some(bases.iter().map(|&score| f64::from(score)).sum::<f64>() / bases.len() as f64)
}

/// Compares the flanks from the allele outwards, and the alleles where they have the same length.
fn largest_change(reference: &Window, alternate: &Window) -> Option<f64> {
    let (r, a) = (reference.base_scores, alternate.base_scores);
    let (r_site, a_site) = (&reference.allele, &alternate.allele);
    if r.is_empty() || a.is_empty() || r_site.start > r.len() || a_site.start > a.len() {
        return None;
    }
    let change = |(&r, &a): (&f32, &f32)| f64::from(a) - f64::from(r);
    let left = r[..r_site.start].iter().rev().zip(a[..a_site.start].iter().rev()).map(change);
    let right = after(r, r_site.end).iter().zip(after(a, a_site.end)).map(change);
    let same = r_site.len() == a_site.len();
    let site = r[r_site.start..].iter().zip(&a[a_site.start..]).take(if same { r_site.len() } else { 0 });
    left.chain(site.map(change)).chain(right).max_by(|x, y| x.abs().total_cmp(&y.abs()))
}

fn after(scores: &[f32], end: usize) -> &[f32] {
    &scores[end.min(scores.len())..]
}

/// What crosses a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// From the threshold or above to below it.
    Loss,
    /// From below the threshold to it or above.
    Gain,
    /// Neither.
    None,
}

impl Call {
    /// Returns what a change from `reference` to `alternate` is, when its size is at least `change`.
    pub fn of(reference: f64, alternate: f64, threshold: f64, change: f64) -> Self {
        let enough = (alternate - reference).abs() >= change;
        match (reference >= threshold, alternate >= threshold) {
            (true, false) if enough => Self::Loss,
            (false, true) if enough => Self::Gain,
            _ => Self::None,
        }
    }

    /// Returns its text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Gain => "gain",
            Self::None => "none",
        }
    }
}

/// Returns mean and sample standard deviation (n − 1); the latter is not a number for one value.
pub fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    if values.len() < 2 {
        return (mean, f64::NAN);
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::shared;

    fn probabilities(values: &[f32]) -> Window<'_> {
        Window { probs: values, ..Window::default() }
    }

    #[test]
    fn diff_and_log_odds_ratio_are_dnaberts() {
        let Some(path) = shared("golden/models/snp/golden.json") else { return };
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(!rows.is_empty());
        for row in rows {
            let number = |key: &str| row[key].as_f64().unwrap();
            let (reference, alternate) = ([number("orig_pred") as f32], [number("mut_pred") as f32]);
            let (r, a) = (probabilities(&reference), probabilities(&alternate));
            let found = [Measure::Diff, Measure::LogOddsRatio].map(|m| m.of(&r, &a, 0).unwrap());
            for (found, key) in found.into_iter().zip(["diff", "logOR"]) {
                // The golden numbers were made in f64 from the same 32-bit probabilities.
                assert!(
                    (found - number(key)).abs() <= 1e-12 * number(key).abs().max(1.0),
                    "{key}: {found} {row}"
                );
            }
        }
    }

    #[test]
    fn probabilities_of_zero_and_one_are_infinite_odds() {
        let of = |r: f32, a: f32| Measure::LogOddsRatio.of(&probabilities(&[r]), &probabilities(&[a]), 0);
        assert_eq!(of(1.0, 0.5), Some(f64::INFINITY));
        assert_eq!(of(0.5, 1.0), Some(f64::NEG_INFINITY));
        assert_eq!(of(0.0, 0.5), Some(f64::NEG_INFINITY));
        assert!(of(1.0, 1.0).unwrap().is_nan());
    }

    /// scipy.spatial.distance.jensenshannon as its documentation has it, on probabilities.
    fn naive_jensen_shannon(p: &[f64], q: &[f64]) -> f64 {
        let kl = |p: &[f64], m: &[f64]| -> f64 { p.iter().zip(m).map(|(p, m)| p * (p / m).ln()).sum() };
        let m: Vec<f64> = p.iter().zip(q).map(|(p, q)| (p + q) / 2.0).collect();
        ((kl(p, &m) + kl(q, &m)) / 2.0).max(0.0).sqrt()
    }

    fn softmax(logits: &[f32]) -> Vec<f64> {
        let sum: f64 = logits.iter().map(|&z| f64::from(z).exp()).sum();
        logits.iter().map(|&z| f64::from(z).exp() / sum).collect()
    }

    proptest! {
        #[test]
        fn the_profile_distance_is_that_of_the_probabilities(
            pairs in prop::collection::vec((-8f32..8.0, -8f32..8.0), 1..40),
        ) {
            let (r, a): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let found = jensen_shannon(&r, &a);
            prop_assert!((found - naive_jensen_shannon(&softmax(&r), &softmax(&a))).abs() < 1e-7);
            prop_assert_eq!(found, jensen_shannon(&a, &r));
            prop_assert!(found <= std::f64::consts::LN_2.sqrt() + 1e-12);
        }

        #[test]
        fn what_is_gained_one_way_is_lost_the_other(r in 0f64..1.0, a in 0f64..1.0, t in 0f64..1.0) {
            let opposite = match Call::of(a, r, t, 0.1) {
                Call::Loss => Call::Gain,
                Call::Gain => Call::Loss,
                Call::None => Call::None,
            };
            prop_assert_eq!(Call::of(r, a, t, 0.1), opposite);
        }
    }

    #[test]
    fn profiles_far_apart_are_at_the_largest_distance() {
        assert!((jensen_shannon(&[500.0, 0.0], &[0.0, 500.0]) - std::f64::consts::LN_2.sqrt()).abs() < 1e-12);
        assert_eq!(jensen_shannon(&[3.0, 4.0], &[4.0, 5.0]), 0.0);
    }

    #[test]
    fn base_scores_are_compared_from_the_allele_outwards() {
        // REF is base 2; the alternate allele has three bases in its place, so the right flank moves by two.
        let reference = Window { base_scores: &[0.1, 0.2, 0.9, 0.4, 0.5], allele: 2..3, ..Window::default() };
        let alternate =
            Window { base_scores: &[0.1, 0.3, 0.3, 0.3, 0.3, 0.1, 0.5], allele: 2..5, ..Window::default() };
        let site = Measure::BaseDelta.of(&reference, &alternate, 0).unwrap();
        assert!((site + 0.6).abs() < 1e-6, "{site}");
        let largest = Measure::BaseDeltaMax.of(&reference, &alternate, 0).unwrap();
        assert!((largest + 0.3).abs() < 1e-6, "{largest}");
        let same = Window { base_scores: &[0.1, 0.2, 0.1, 0.4, 0.5], allele: 2..3, ..Window::default() };
        let largest = Measure::BaseDeltaMax.of(&reference, &same, 0).unwrap();
        assert!(
            (largest + 0.8).abs() < 1e-6,
            "the allele itself counts where its length is the same: {largest}"
        );
    }

    #[test]
    fn embeddings_that_point_the_same_way_differ_in_length_only() {
        let (r, a) = ([3.0f32, 4.0], [6.0f32, 8.0]);
        let window = |embedding| Window { embedding, ..Window::default() };
        assert!(Measure::EmbeddingCosine.of(&window(&r), &window(&a), 0).unwrap().abs() < 1e-12);
        assert_eq!(Measure::EmbeddingEuclid.of(&window(&r), &window(&a), 0), Some(5.0));
        assert_eq!(Measure::EmbeddingEuclid.of(&window(&r), &window(&[]), 0), None);
    }

    #[test]
    fn the_spread_is_that_of_a_sample() {
        assert_eq!(mean_and_spread(&[1.0, 3.0]), (2.0, 2f64.sqrt()));
        assert!(mean_and_spread(&[1.0]).1.is_nan());
    }
}
