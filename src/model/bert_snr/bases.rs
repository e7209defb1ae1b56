//! The probabilities of tokens as those of bases.

/// A token is called where its probability is above this.
const CALL: f32 = 0.5;

/// Returns the probability of each base, of those of overlapping k-mers, one for each base that has `width` − 1
/// after it.
///
/// BertSNR's own metric writes every token's call onto its bases, later ones over earlier ones, and then the
/// positive ones again. So a base has the probability of the last positive token that holds it, or, where none
/// is positive, of the last token that does.
pub fn of_tokens(tokens: &[f32], width: usize) -> Vec<f32> {
    let last = tokens.len().saturating_sub(1);
    let base = |base: usize| {
        let holding = || (base.saturating_sub(width - 1)..=base.min(last)).rev().map(|token| tokens[token]);
        holding().find(|&probability| probability > CALL).or_else(|| holding().next()).unwrap_or_default()
    };
    if tokens.is_empty() { Vec::new() } else { (0..tokens.len() + width - 1).map(base).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the metric of the original does, step by step.
    fn written(tokens: &[f32], width: usize) -> Vec<f32> {
        let mut bases = vec![0.0; tokens.len() + width - 1];
        for (token, &probability) in tokens.iter().enumerate() {
            bases[token..token + width].fill(probability);
        }
        for (token, &probability) in tokens.iter().enumerate().filter(|(_, p)| **p > CALL) {
            bases[token..token + width].fill(probability);
        }
        bases
    }

    #[test]
    fn positive_tokens_are_written_last() {
        assert_eq!(of_tokens(&[0.1, 0.9, 0.2, 0.3], 3), [0.1, 0.9, 0.9, 0.9, 0.3, 0.3]);
        assert_eq!(of_tokens(&[0.7, 0.6], 3), [0.7, 0.6, 0.6, 0.6]);
        assert!(of_tokens(&[], 3).is_empty());
    }

    #[test]
    fn bases_are_those_of_the_step_by_step_metric() {
        for seed in 0..50 {
            let noise = crate::kernel::testing::noise(98, seed);
            let tokens: Vec<f32> = noise.into_iter().map(|x| (x + 1.0) / 2.0).collect();
            for (width, count) in [(1, 98), (3, 98), (3, 1), (3, 2), (6, 4)] {
                assert_eq!(of_tokens(&tokens[..count], width), written(&tokens[..count], width));
            }
        }
    }
}
