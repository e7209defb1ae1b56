//! What the first token of a language model attends to, as one number for each base.
//!
//! | rule | heads | layers | a token's score goes to its bases | then |
//! |---|---|---|---|---|
//! | [`Rule::Kmers`] (DNABERT-viz) | sum | sum | each base has the mean over the tokens that cover it | divided by the L2 norm |
//! | [`Rule::Tokens`] (NyxBind's `score_from_sft`) | mean | mean | each base has the score divided by the bases of its token | z-score, sample standard deviation |
//!
//! A base of no token has 0 before the last step, special tokens have no bases. Rollout (Abnar and Zuidema 2020)
//! takes instead of one layer's attention the product over the layers of (A + 1) / 2, A the mean over heads: how
//! much of what each token is at last can have come from each token at first. Several models are added up, as
//! DNABERT adds its four k.

use super::Attribution;
use crate::error::{Error, Result};
use crate::model::{Attentions, Ensemble, Input, Misfit, Model, Scores, Wanted};
use crate::tokenizer::{Tokenizer, Tokens};

/// Attention probabilities that are computed before they are summed up: bounds memory whatever the batch is.
const PROBABILITIES: usize = 1 << 25;

/// How the scores of tokens become those of bases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// DNABERT's, for k-mers that overlap.
    Kmers,
    /// NyxBind's, for tokens side by side.
    Tokens,
}

/// Which attentions are read, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The layers, from 0; empty for the last, in rollout for all.
    pub layers: Vec<usize>,
    /// The heads, from 0; empty for all.
    pub heads: Vec<usize>,
    /// The rule; by default that of the tokenizer's kind.
    pub rule: Option<Rule>,
}

/// Scores every base of every sequence by the attention of the first token, or by rollout.
pub(super) fn attribute(
    models: &Ensemble,
    sequences: &[&[u8]],
    reading: &Reading,
    rollout: bool,
) -> Result<Vec<Result<Attribution, Misfit>>> {
    if models.averages_strands() {
        return Err(Error::usage("--rc-average: attention is of one strand"));
    }
    let mut sums: Vec<Result<Vec<f64>, Misfit>> =
        sequences.iter().map(|sequence| Ok(vec![0.0; sequence.len()])).collect();
    for model in models.models() {
        let scores = Reader::new(model, reading, rollout)?.scores(sequences)?;
        for (sum, scores) in sums.iter_mut().zip(scores) {
            match (sum.as_mut(), scores) {
                (Ok(sum), Ok(scores)) => sum.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score),
                (Ok(_), Err(misfit)) => *sum = Err(misfit),
                (Err(_), _) => {}
            }
        }
    }
    let attribution = |scores: Vec<f64>| Attribution {
        contributions: scores.into_iter().map(|score| score as f32).collect(),
        ..Attribution::default()
    };
    Ok(sums.into_iter().map(|sum| sum.map(attribution)).collect())
}

/// What is read of one model.
struct Reader<'a> {
    model: &'a dyn Model,
    tokenizer: &'a Tokenizer,
    layers: Vec<usize>,
    heads: Vec<usize>,
    all_heads: usize,
    rule: Rule,
    rollout: bool,
}

impl<'a> Reader<'a> {
    fn new(model: &'a dyn Model, reading: &Reading, rollout: bool) -> Result<Self> {
        let wanted = Wanted { attentions: Some(Attentions::Cls), ..Wanted::default() };
        let (Some(tokenizer), Some((all_layers, all_heads))) =
            (model.tokenizer(), model.outputs(&wanted)?.attentions)
        else {
            return Err(Error::usage("--method attention and rollout are for language models: this is none"));
        };
        let layers = match reading.layers.as_slice() {
            [] if rollout => (0..all_layers).collect(),
            [] => vec![all_layers - 1],
            layers => layers.to_vec(),
        };
        let heads = if reading.heads.is_empty() { (0..all_heads).collect() } else { reading.heads.clone() };
        for (numbers, all, what) in [(&layers, all_layers, "layer"), (&heads, all_heads, "head")] {
            if let Some(number) = numbers.iter().find(|&&number| number >= all) {
                return Err(Error::usage(format!(
                    "--{what}s: there is no {what} {number}; the model has {all}, from 0 to {}",
                    all - 1
                )));
            }
        }
        let usual = if matches!(tokenizer, Tokenizer::Kmer(_)) { Rule::Kmers } else { Rule::Tokens };
        let rule = reading.rule.unwrap_or(usual);
        Ok(Self { model, tokenizer, layers, heads, all_heads, rule, rollout })
    }

    /// Returns the score of every base of every sequence.
    fn scores(&self, sequences: &[&[u8]]) -> Result<Vec<Result<Vec<f64>, Misfit>>> {
        let which = if self.rollout { Attentions::All } else { Attentions::Cls };
        let wanted = Wanted { attentions: Some(which), layers: self.layers.clone(), ..Wanted::default() };
        let mut all = Vec::with_capacity(sequences.len());
        let longest = sequences.iter().map(|sequence| sequence.len() + 2).max().unwrap_or(1);
        let each =
            self.layers.len() * self.all_heads * if self.rollout { longest * longest } else { longest };
        for sequences in sequences.chunks((PROBABILITIES / each).max(1)) {
            let rows: Vec<Input> = sequences.iter().map(|sequence| Input::of(sequence)).collect();
            for (sequence, answer) in sequences.iter().zip(self.model.predict(&rows, &wanted)?) {
                all.push(match answer {
                    Ok(scores) => Ok(self.of_bases(sequence, &scores)?),
                    Err(misfit) => Err(misfit),
                });
            }
        }
        Ok(all)
    }

    /// Scores the bases of one sequence.
    fn of_bases(&self, sequence: &[u8], scores: &Scores) -> Result<Vec<f64>> {
        let attentions = scores.attentions.as_deref().unwrap_or_default();
        let text = std::str::from_utf8(sequence).map_err(|_| Error::data("a sequence is no text"))?;
        let tokens = self.tokenizer.encode(text, None)?;
        let count = tokens.ids.len();
        let layer = self.all_heads * count * if self.rollout { count } else { 1 };
        if attentions.len() != self.layers.len() * layer {
            return Err(Error::data(
                "the attentions are of other tokens than the tokenizer's: long sequences in pieces have none",
            ));
        }
        let layers = attentions.chunks_exact(layer.max(1));
        let of_tokens = if self.rollout {
            rollout(layers, &self.heads, count)
        } else {
            let divisor = match self.rule {
                Rule::Kmers => 1.0,
                Rule::Tokens => (self.layers.len() * self.heads.len()) as f64,
            };
            add_up(layers, &self.heads, count).into_iter().map(|sum| sum / divisor).collect()
        };
        Ok(match self.rule {
            Rule::Kmers => over_norm(means_over_tokens(&of_tokens, &tokens, sequence.len())),
            Rule::Tokens => standardized(shares_of_tokens(&of_tokens, &tokens, sequence.len())),
        })
    }
}

/// Adds up the attention of the first token over layers `[heads, tokens]` and heads.
fn add_up<'a>(layers: impl Iterator<Item = &'a [f32]>, heads: &[usize], count: usize) -> Vec<f64> {
    let mut sums = vec![0.0; count];
    for layer in layers {
        for &head in heads {
            let row = &layer[head * count..][..count];
            sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
    }
    sums
}

/// Returns what the first token has of each token after layers of attention `[heads, tokens, tokens]`.
fn rollout<'a>(
    layers: impl DoubleEndedIterator<Item = &'a [f32]>,
    heads: &[usize],
    count: usize,
) -> Vec<f64> {
    // The first row of the product, from the last layer down: a vector times a matrix each.
    let mut row: Vec<f64> = (0..count).map(|token| if token == 0 { 1.0 } else { 0.0 }).collect();
    for layer in layers.rev() {
        let mut next = vec![0.0; count];
        for &head in heads {
            let matrix = &layer[head * count * count..][..count * count];
            for (&part, values) in row.iter().zip(matrix.chunks_exact(count)) {
                next.iter_mut().zip(values).for_each(|(sum, &value)| *sum += part * f64::from(value));
            }
        }
        let heads = heads.len() as f64;
        next.iter_mut().zip(&row).for_each(|(sum, own)| *sum = (*sum / heads + own) / 2.0);
        row = next;
    }
    row
}

/// Returns the bases of each token that has some.
fn places(tokens: &Tokens) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let places = tokens.starts.iter().zip(&tokens.ends).enumerate();
    places
        .filter(|(_, (start, _))| **start >= 0)
        .map(|(token, (&start, &end))| (token, start as usize..end as usize))
}

/// Gives each base the mean score of the tokens that cover it.
fn means_over_tokens(scores: &[f64], tokens: &Tokens, length: usize) -> Vec<f64> {
    let (mut sums, mut counts) = (vec![0.0; length], vec![0u32; length]);
    for (token, bases) in places(tokens) {
        for base in bases {
            sums[base] += scores[token];
            counts[base] += 1;
        }
    }
    sums.iter().zip(counts).map(|(sum, count)| sum / f64::from(count.max(1))).collect()
}

/// Gives each base an equal share of the score of its token.
fn shares_of_tokens(scores: &[f64], tokens: &Tokens, length: usize) -> Vec<f64> {
    let mut shares = vec![0.0; length];
    for (token, bases) in places(tokens) {
        let share = scores[token] / bases.len() as f64;
        shares[bases].iter_mut().for_each(|score| *score += share);
    }
    shares
}

/// Divides by the L2 norm; zeros stay.
fn over_norm(mut scores: Vec<f64>) -> Vec<f64> {
    let norm = scores.iter().map(|score| score * score).sum::<f64>().sqrt();
    if norm > 0.0 {
        scores.iter_mut().for_each(|score| *score /= norm);
    }
    scores
}

/// Subtracts the mean and divides by the sample standard deviation, unless that is zero.
fn standardized(mut scores: Vec<f64>) -> Vec<f64> {
    let count = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / count;
    scores.iter_mut().for_each(|score| *score -= mean);
    let variance = scores.iter().map(|score| score * score).sum::<f64>() / (count - 1.0);
    if variance > 0.0 {
        scores.iter_mut().for_each(|score| *score /= variance.sqrt());
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(places: &[(i32, i32)]) -> Tokens {
        Tokens {
            ids: vec![0; places.len()],
            starts: places.iter().map(|place| place.0).collect(),
            ends: places.iter().map(|place| place.1).collect(),
            truncated: false,
        }
    }

    #[test]
    fn a_base_has_the_mean_of_its_kmers_or_its_share_of_its_token() {
        let kmers = tokens(&[(-1, -1), (0, 2), (1, 3), (-1, -1)]);
        assert_eq!(means_over_tokens(&[9.0, 2.0, 4.0, 9.0], &kmers, 3), [2.0, 3.0, 4.0]);
        // The last base has no token.
        let side_by_side = tokens(&[(-1, -1), (0, 3), (3, 4), (-1, -1)]);
        assert_eq!(shares_of_tokens(&[9.0, 6.0, 4.0, 9.0], &side_by_side, 5), [2.0, 2.0, 2.0, 4.0, 0.0]);
    }

    #[test]
    fn norms_and_deviations_of_nothing_change_nothing() {
        assert_eq!(over_norm(vec![3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(over_norm(vec![0.0; 3]), [0.0; 3]);
        assert_eq!(standardized(vec![1.0, 2.0, 3.0]), [-1.0, 0.0, 1.0]);
        assert_eq!(standardized(vec![5.0, 5.0]), [0.0, 0.0]);
    }

    #[test]
    fn rollout_is_the_first_row_of_a_product_of_matrices() {
        // Two heads whose rows sum to one, three tokens, two layers.
        let random = crate::kernel::testing::noise(2 * 2 * 9, 5);
        let mut layers: Vec<f32> = random.iter().map(|x| x.exp()).collect();
        for row in layers.chunks_exact_mut(3) {
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|value| *value /= sum);
        }
        let matrix = |layer: usize| {
            std::array::from_fn::<[f64; 3], 3, _>(|row| {
                std::array::from_fn(|column| {
                    let at = |head: usize| f64::from(layers[((layer * 2 + head) * 3 + row) * 3 + column]);
                    let own = if row == column { 1.0 } else { 0.0 };
                    0.5 * (at(0) + at(1)) / 2.0 + 0.5 * own
                })
            })
        };
        let (first, second) = (matrix(0), matrix(1));
        let found = rollout(layers.chunks_exact(18), &[0, 1], 3);
        for column in 0..3 {
            let expected: f64 = (0..3).map(|k| second[0][k] * first[k][column]).sum();
            assert!((found[column] - expected).abs() < 1e-12);
        }
        assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-6);
    }
}
