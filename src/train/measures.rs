//! How well a set is predicted, by the names that Hugging Face's trainer gives: the conventions of the recipes.

use super::run::Measures;
use crate::metrics::{self, Confusion};

/// Whose precision, recall and F1 are shown, and what area lies under the precision-recall curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// The mean of both classes, average precision: NyxBind.
    Macro,
    /// The positive class, average precision: the pairs of DNABERT embeddings.
    Positive,
    /// The positive class, the trapezoid: BertSNR.
    Trapezoid,
}

/// Returns the measures of probabilities, called where they are above `threshold`.
pub fn of_probabilities(scores: &[f64], labels: &[bool], threshold: f64, convention: Convention) -> Measures {
    let confusion = Confusion::above(threshold, scores, labels);
    let of_class = |of: fn(&Confusion, usize) -> f64| match convention {
        Convention::Macro => confusion.macro_mean(of),
        Convention::Positive | Convention::Trapezoid => of(&confusion, 1),
    };
    let area = match convention {
        Convention::Macro | Convention::Positive => metrics::average_precision(scores, labels),
        Convention::Trapezoid => metrics::precision_recall_trapezoid(scores, labels),
    };
    named([
        ("loss", log_loss(scores, labels)),
        ("accuracy", confusion.accuracy()),
        ("f1", of_class(Confusion::f1)),
        ("matthews_correlation", confusion.matthews()),
        ("precision", of_class(Confusion::precision)),
        ("recall", of_class(Confusion::recall)),
        ("roc_auc", metrics::roc_auc(scores, labels).unwrap_or(f64::NAN)),
        ("pr_auc", area.unwrap_or(f64::NAN)),
    ])
}

/// Returns the measures of logits, a row for each example: macro means, and areas where there are two classes.
pub fn of_logits(logits: &[Vec<f32>], classes: &[u32]) -> Measures {
    let count = logits.first().map_or(2, Vec::len);
    let actual: Vec<usize> = classes.iter().map(|&class| class as usize).collect();
    let predicted: Vec<usize> = logits.iter().map(|row| metrics::argmax(row)).collect();
    let confusion = Confusion::new(&actual, &predicted, count);
    let mut all = named([
        ("loss", cross_entropy(logits, &actual)),
        ("accuracy", confusion.accuracy()),
        ("f1", confusion.macro_mean(Confusion::f1)),
        ("matthews_correlation", confusion.matthews()),
        ("precision", confusion.macro_mean(Confusion::precision)),
        ("recall", confusion.macro_mean(Confusion::recall)),
    ]);
    if count == 2 {
        // The odds of the second class rank as its probability does.
        let odds: Vec<f64> = logits.iter().map(|row| f64::from(row[1]) - f64::from(row[0])).collect();
        let labels: Vec<bool> = actual.iter().map(|&class| class == 1).collect();
        all.extend(named([
            ("roc_auc", metrics::roc_auc(&odds, &labels).unwrap_or(f64::NAN)),
            ("pr_auc", metrics::average_precision(&odds, &labels).unwrap_or(f64::NAN)),
        ]));
    }
    all
}

/// Gives measures their names.
pub fn named<const N: usize>(measures: [(&str, f64); N]) -> Measures {
    measures.map(|(name, value)| (name.to_string(), value)).to_vec()
}

/// Returns the mean binary cross-entropy; logarithms end at -100, as in PyTorch.
fn log_loss(scores: &[f64], labels: &[bool]) -> f64 {
    let term = |(&score, &label): (&f64, &bool)| -(if label { score } else { 1.0 - score }).ln().max(-100.0);
    scores.iter().zip(labels).map(term).sum::<f64>() / scores.len().max(1) as f64
}

/// Returns the mean cross-entropy of logits.
fn cross_entropy(logits: &[Vec<f32>], classes: &[usize]) -> f64 {
    let term = |(row, &class): (&Vec<f32>, &usize)| {
        let largest = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let total = row.iter().map(|&x| (f64::from(x) - largest).exp()).sum::<f64>().ln() + largest;
        total - f64::from(row[class])
    };
    logits.iter().zip(classes).map(term).sum::<f64>() / logits.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_logit_and_two_have_the_same_measures() {
        let odds = [2.0f32, -1.0, 0.3, -0.2, 1.5, -3.0];
        let labels = [true, false, false, true, true, false];
        let logits: Vec<Vec<f32>> = odds.iter().map(|&x| vec![0.5, 0.5 + x]).collect();
        let classes: Vec<u32> = labels.iter().map(|&label| u32::from(label)).collect();
        let scores: Vec<f64> = odds.iter().map(|&x| 1.0 / (1.0 + (-f64::from(x)).exp())).collect();
        let two = of_logits(&logits, &classes);
        for ((name, one), (other, two)) in
            of_probabilities(&scores, &labels, 0.5, Convention::Macro).iter().zip(&two)
        {
            assert_eq!(name, other);
            assert!((one - two).abs() < 1e-6, "{name}: {one} {two}");
        }
    }

    #[test]
    fn the_positive_class_is_called_above_the_threshold() {
        let (scores, labels) = ([0.9, 0.6, 0.4, 0.1], [true, false, true, false]);
        let at = |threshold: f64| -> Vec<f64> {
            let all = of_probabilities(&scores, &labels, threshold, Convention::Positive);
            let value = |name: &str| all.iter().find(|(known, _)| known == name).unwrap().1;
            ["precision", "recall", "accuracy"].map(value).to_vec()
        };
        assert_eq!(at(0.5), [0.5, 0.5, 0.5]);
        assert_eq!(at(0.3), [2.0 / 3.0, 1.0, 0.75]);
        assert_eq!(at(0.7), [1.0, 0.5, 0.75]);
    }
}
