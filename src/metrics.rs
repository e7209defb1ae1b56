//! How good predictions are: counts of right and wrong classes, and areas under curves of scores. `models.md` F.
//!
//! Scores and labels of one set in, numbers out. Which average was taken is in the name of each function, for
//! pipelines differ: a precision of one paper is the macro mean of two classes in another.

/// How often each class was taken for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    /// `[actual][predicted]`.
    counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// Counts predictions.
    ///
    /// # Panics
    ///
    /// When there are not as many of both, or a class is not below `classes`.
    pub fn new(actual: &[usize], predicted: &[usize], classes: usize) -> Self {
        assert_eq!(actual.len(), predicted.len(), "as many predictions as labels");
        let mut counts = vec![vec![0; classes]; classes];
        actual.iter().zip(predicted).for_each(|(&actual, &predicted)| counts[actual][predicted] += 1);
        Self { counts }
    }

    /// Creates a table of counts, `[actual][predicted]`.
    ///
    /// # Panics
    ///
    /// When it is not square.
    pub fn from_counts(counts: Vec<Vec<u64>>) -> Self {
        assert!(counts.iter().all(|row| row.len() == counts.len()), "as many columns as rows");
        Self { counts }
    }

    /// Counts scores above a threshold as positive.
    ///
    /// # Panics
    ///
    /// When there are not as many scores as labels.
    pub fn above(threshold: f64, scores: &[f64], labels: &[bool]) -> Self {
        let actual: Vec<usize> = labels.iter().map(|&label| usize::from(label)).collect();
        let predicted: Vec<usize> = scores.iter().map(|&score| usize::from(score > threshold)).collect();
        Self::new(&actual, &predicted, 2)
    }

    /// Returns the counts, `[actual][predicted]`: of two classes `[[tn, fp], [fn, tp]]`.
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }

    fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    fn actual(&self, class: usize) -> u64 {
        self.counts[class].iter().sum()
    }

    fn predicted(&self, class: usize) -> u64 {
        self.counts.iter().map(|row| row[class]).sum()
    }

    fn right(&self) -> u64 {
        (0..self.counts.len()).map(|class| self.counts[class][class]).sum()
    }

    /// Returns the part that is right.
    pub fn accuracy(&self) -> f64 {
        ratio(self.right(), self.total())
    }

    /// Returns the part of what was taken for a class that is one of it; 0 where nothing was.
    pub fn precision(&self, class: usize) -> f64 {
        ratio(self.counts[class][class], self.predicted(class))
    }

    /// Returns the part of a class that was taken for it; 0 where there is none.
    pub fn recall(&self, class: usize) -> f64 {
        ratio(self.counts[class][class], self.actual(class))
    }

    /// Returns the harmonic mean of precision and recall of a class; 0 where both are.
    pub fn f1(&self, class: usize) -> f64 {
        ratio(2 * self.counts[class][class], self.actual(class) + self.predicted(class))
    }

    /// Returns the mean over classes of one of [`Confusion::precision`], [`Confusion::recall`] and
    /// [`Confusion::f1`]. A class that neither is there nor was predicted does not count, as in scikit-learn.
    pub fn macro_mean(&self, of: impl Fn(&Self, usize) -> f64) -> f64 {
        let seen: Vec<usize> =
            (0..self.counts.len()).filter(|&class| self.actual(class) + self.predicted(class) > 0).collect();
        seen.iter().map(|&class| of(self, class)).sum::<f64>() / seen.len().max(1) as f64
    }

    /// Returns Matthews' correlation coefficient, of any number of classes (Gorodkin 2004); 0 where one class is
    /// all there is or all that was predicted.
    pub fn matthews(&self) -> f64 {
        let (total, right) = (self.total() as f64, self.right() as f64);
        let classes = 0..self.counts.len();
        let sum = |of: &dyn Fn(usize) -> f64| classes.clone().map(of).sum::<f64>();
        let actual = |class: usize| self.actual(class) as f64;
        let predicted = |class: usize| self.predicted(class) as f64;
        let covariance = right * total - sum(&|class| actual(class) * predicted(class));
        let spread = (total * total - sum(&|class| actual(class).powi(2)))
            * (total * total - sum(&|class| predicted(class).powi(2)));
        if spread == 0.0 { 0.0 } else { covariance / spread.sqrt() }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Returns the place of the largest score, the first of equals.
pub fn argmax(scores: &[f32]) -> usize {
    (1..scores.len()).fold(0, |best, place| if scores[place] > scores[best] { place } else { best })
}

/// True and false positives among all scores not below one of the scores: what curves and the areas under them are
/// made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// A score, and how many positives and negatives score as much or more; from the highest score down.
    points: Vec<(f64, u64, u64)>,
}

impl Curve {
    /// Counts scores; equal ones are one point.
    ///
    /// # Panics
    ///
    /// When there are not as many scores as labels.
    pub fn new(scores: &[f64], labels: &[bool]) -> Self {
        Self::weighted(&Ranked::new(scores, labels), |_| 1)
    }

    /// Counts each row as often as `times` says, of its place among the scores.
    pub fn weighted(ranked: &Ranked, times: impl Fn(usize) -> u64) -> Self {
        let (mut hits, mut misses) = (0, 0);
        let mut points = Vec::new();
        for tied in ranked.rows.chunk_by(|a, b| a.0 == b.0) {
            for &(_, positive, row) in tied {
                *(if positive { &mut hits } else { &mut misses }) += times(row);
            }
            points.push((tied[0].0, hits, misses));
        }
        Self { points }
    }

    /// Returns the numbers of positives and of negatives.
    pub fn totals(&self) -> (u64, u64) {
        self.points.last().map_or((0, 0), |&(_, hits, misses)| (hits, misses))
    }

    /// Returns the score at each point of the curves; before the first, where nothing is positive, infinity.
    pub fn thresholds(&self) -> Vec<f64> {
        [f64::INFINITY].into_iter().chain(self.points.iter().map(|point| point.0)).collect()
    }

    /// Returns the ROC curve: false and true positive rate, from (0, 0) to (1, 1).
    pub fn roc(&self) -> Vec<(f64, f64)> {
        let (positives, negatives) = self.totals();
        let point = |&(_, hits, misses): &(f64, u64, u64)| (ratio(misses, negatives), ratio(hits, positives));
        [(0.0, 0.0)].into_iter().chain(self.points.iter().map(point)).collect()
    }

    /// Returns the precision-recall curve: recall and precision, from recall 0 at precision 1.
    pub fn precision_recall(&self) -> Vec<(f64, f64)> {
        let positives = self.totals().0;
        let point =
            |&(_, hits, misses): &(f64, u64, u64)| (ratio(hits, positives), ratio(hits, hits + misses));
        [(0.0, 1.0)].into_iter().chain(self.points.iter().map(point)).collect()
    }

    /// Returns the area under the ROC curve: see [`roc_auc`].
    pub fn roc_auc(&self) -> Option<f64> {
        let (positives, negatives) = self.totals();
        if positives == 0 || negatives == 0 {
            return None;
        }
        let (mut area, mut last) = (0.0, (0, 0));
        for &(_, hits, misses) in &self.points {
            area += (misses - last.1) as f64 * (hits + last.0) as f64 / 2.0;
            last = (hits, misses);
        }
        Some(area / (positives as f64 * negatives as f64))
    }

    /// Returns the average precision: see [`average_precision`].
    pub fn average_precision(&self) -> Option<f64> {
        let positives = Some(self.totals().0).filter(|&positives| positives > 0)?;
        let mut last = 0;
        let steps = self.points.iter().map(|&(_, hits, misses)| {
            let gained = (hits - last) as f64;
            last = hits;
            gained * ratio(hits, hits + misses)
        });
        Some(steps.sum::<f64>() / positives as f64)
    }

    /// Returns the area under the precision-recall curve: see [`precision_recall_trapezoid`].
    pub fn trapezoid(&self) -> Option<f64> {
        let positives = Some(self.totals().0).filter(|&positives| positives > 0)?;
        let (mut area, mut last) = (0.0, (0, 1.0));
        for &(_, hits, misses) in &self.points {
            let precision = ratio(hits, hits + misses);
            area += (hits - last.0) as f64 * (precision + last.1) / 2.0;
            last = (hits, precision);
        }
        Some(area / positives as f64)
    }
}

/// Rows from the highest score down.
#[derive(Clone, Debug)]
pub struct Ranked {
    /// Score, label and row.
    rows: Vec<(f64, bool, usize)>,
}

impl Ranked {
    /// Sorts rows.
    ///
    /// # Panics
    ///
    /// When there are not as many scores as labels.
    pub fn new(scores: &[f64], labels: &[bool]) -> Self {
        assert_eq!(scores.len(), labels.len(), "as many scores as labels");
        let row = |(row, (&score, &label))| (score, label, row);
        let mut rows: Vec<(f64, bool, usize)> = scores.iter().zip(labels).enumerate().map(row).collect();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        Self { rows }
    }
}

/// Returns the area under the ROC curve: the chance that a positive scores more than a negative, ties half.
/// `None` where one of them is missing.
///
/// # Panics
///
/// When there are not as many scores as labels.
pub fn roc_auc(scores: &[f64], labels: &[bool]) -> Option<f64> {
    Curve::new(scores, labels).roc_auc()
}

/// Returns the average precision, Σ (Rᵢ − Rᵢ₋₁)·Pᵢ. `None` where there is no positive.
///
/// # Panics
///
/// When there are not as many scores as labels.
pub fn average_precision(scores: &[f64], labels: &[bool]) -> Option<f64> {
    Curve::new(scores, labels).average_precision()
}

/// Returns the area under the precision-recall curve by trapezoids, from precision 1 at recall 0: another number
/// than [`average_precision`]. `None` where there is no positive.
///
/// # Panics
///
/// When there are not as many scores as labels.
pub fn precision_recall_trapezoid(scores: &[f64], labels: &[bool]) -> Option<f64> {
    Curve::new(scores, labels).trapezoid()
}

/// Returns, for `bins` equal parts of 0 to 1, how many scores lie in each, their mean, and the part of them that is
/// positive.
///
/// # Panics
///
/// When there are not as many scores as labels.
pub fn calibration(scores: &[f64], labels: &[bool], bins: usize) -> Vec<(u64, f64, f64)> {
    assert_eq!(scores.len(), labels.len(), "as many scores as labels");
    let mut sums = vec![(0u64, 0.0, 0u64); bins];
    for (&score, &label) in scores.iter().zip(labels) {
        let sum = &mut sums[((score * bins as f64) as usize).min(bins - 1)];
        *sum = (sum.0 + 1, sum.1 + score, sum.2 + u64::from(label));
    }
    sums.into_iter()
        .map(|(count, sum, hits)| (count, sum / count.max(1) as f64, ratio(hits, count)))
        .collect()
}

/// Returns the mean over rows of shared over joint positives, 1 where a row has none of either: what SigTFB calls the
/// Hamming score.
pub fn hamming_score(predicted: &[Vec<bool>], actual: &[Vec<bool>]) -> f64 {
    let row = |(predicted, actual): (&Vec<bool>, &Vec<bool>)| {
        let count = |of: &dyn Fn(bool, bool) -> bool| {
            predicted.iter().zip(actual).filter(|(p, a)| of(**p, **a)).count() as f64
        };
        let joint = count(&|p, a| p || a);
        if joint == 0.0 { 1.0 } else { count(&|p, a| p && a) / joint }
    };
    predicted.iter().zip(actual).map(row).sum::<f64>() / actual.len().max(1) as f64
}

/// Returns the part of rows all of whose labels are right.
pub fn exact_match(predicted: &[Vec<bool>], actual: &[Vec<bool>]) -> f64 {
    let right = predicted.iter().zip(actual).filter(|(predicted, actual)| predicted == actual).count();
    ratio(right as u64, actual.len() as u64)
}

/// Returns the first of these thresholds at which the F1 of what scores more is highest, and that F1.
///
/// # Panics
///
/// When there are not as many scores as labels.
pub fn best_f1_threshold(thresholds: &[f64], scores: &[f64], labels: &[bool]) -> Option<(f64, f64)> {
    let mut best: Option<(f64, f64)> = None;
    for &threshold in thresholds {
        let f1 = Confusion::above(threshold, scores, labels).f1(1);
        if best.is_none_or(|(_, most)| f1 > most) {
            best = Some((threshold, f1));
        }
    }
    best
}

/// The best that a threshold between scores reaches, as sentence-transformers looks for it: midway between
/// neighbours in the order of scores, the last row left out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Best {
    /// The number that was looked for.
    pub value: f64,
    /// Where it is reached.
    pub threshold: f64,
    /// Precision there.
    pub precision: f64,
    /// Recall there.
    pub recall: f64,
}

/// Returns the best accuracy and the best F1 over thresholds midway between neighbouring scores.
///
/// # Panics
///
/// When there are not as many scores as labels.
pub fn best_between(scores: &[f64], labels: &[bool]) -> (Best, Best) {
    assert_eq!(scores.len(), labels.len(), "as many scores as labels");
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let positives = labels.iter().filter(|&&label| label).count();
    let (mut accuracy, mut f1, mut hits) = (Best::default(), Best::default(), 0);
    for taken in 1..order.len() {
        hits += usize::from(labels[order[taken - 1]]);
        let misses = taken - hits;
        let threshold = (scores[order[taken - 1]] + scores[order[taken]]) / 2.0;
        let (precision, recall) = (hits as f64 / taken as f64, hits as f64 / positives.max(1) as f64);
        let right = (hits + labels.len() - positives - misses) as f64 / labels.len() as f64;
        let better = |best: &mut Best, value: f64| {
            if value > best.value {
                *best = Best { value, threshold, precision, recall };
            }
        };
        better(&mut accuracy, right);
        better(&mut f1, if hits == 0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) });
    }
    (accuracy, f1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::shared;
    use serde_json::Value;

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    }

    #[test]
    fn the_numbers_are_those_of_scikit_learn_ties_and_all() {
        let Some(path) = shared("golden/models/metrics/golden.json") else { return };
        let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let cases = cases.as_array().unwrap();
        assert!(cases.len() >= 2);
        for case in cases {
            let scores = numbers(&case["score"]);
            let labels: Vec<bool> = numbers(&case["y"]).iter().map(|&label| label == 1.0).collect();
            let confusion = Confusion::above(0.5, &scores, &labels);
            let expected: Vec<u64> = numbers(&case["confusion"]).iter().map(|&count| count as u64).collect();
            assert_eq!(confusion.counts().concat(), expected);
            let pairs = [
                ("acc", confusion.accuracy()),
                ("f1_bin", confusion.f1(1)),
                ("f1_macro", confusion.macro_mean(Confusion::f1)),
                ("prec_bin", confusion.precision(1)),
                ("prec_macro", confusion.macro_mean(Confusion::precision)),
                ("rec_bin", confusion.recall(1)),
                ("rec_macro", confusion.macro_mean(Confusion::recall)),
                ("mcc", confusion.matthews()),
                ("roc_auc", roc_auc(&scores, &labels).unwrap()),
                ("average_precision", average_precision(&scores, &labels).unwrap()),
                ("pr_auc_trapz", precision_recall_trapezoid(&scores, &labels).unwrap()),
            ];
            for (name, value) in pairs {
                let expected = case[name].as_f64().unwrap();
                assert!((value - expected).abs() < 1e-12, "{name}: {value} is not {expected}");
            }
        }
    }

    #[test]
    fn the_evaluator_of_pairs_finds_the_thresholds_of_sentence_transformers() {
        let Some(path) = shared("golden/models/contrastive/golden.npz") else { return };
        let mut golden = crate::npy::Npz::open(&path).unwrap();
        let mut read = |name: &str| golden.numbers::<f64>(name).unwrap().values;
        let scores = read("ev_score");
        let labels: Vec<bool> = read("ev_label").iter().map(|&label| label == 1.0).collect();
        let (accuracy, f1) = best_between(&scores, &labels);
        let near = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-9, "{value} {expected}");
        let expected = read("ev_best_acc");
        near(accuracy.value, expected[0]);
        near(accuracy.threshold, expected[1]);
        let expected = read("ev_best_f1");
        for (value, expected) in [f1.value, f1.precision, f1.recall, f1.threshold].into_iter().zip(expected) {
            near(value, expected);
        }
        near(average_precision(&scores, &labels).unwrap(), read("ev_ap")[0]);
    }

    #[test]
    fn the_area_is_the_chance_that_a_positive_wins() {
        let scores = [0.1, 0.4, 0.4, 0.8, 0.8, 0.3];
        let labels = [false, true, false, true, false, true];
        let pairs =
            || (0..6).flat_map(|a| (0..6).map(move |b| (a, b))).filter(|&(a, b)| labels[a] && !labels[b]);
        let won = |(a, b): (usize, usize)| {
            f64::from(u8::from(scores[a] > scores[b])) + f64::from(u8::from(scores[a] == scores[b])) / 2.0
        };
        let expected = pairs().map(won).sum::<f64>() / pairs().count() as f64;
        assert_eq!(roc_auc(&scores, &labels), Some(expected));
        assert_eq!(roc_auc(&scores, &[true; 6]), None);
        assert_eq!(average_precision(&scores, &[false; 6]), None);
    }

    #[test]
    fn three_classes_have_a_correlation_and_means() {
        let confusion = Confusion::new(&[0, 0, 1, 1, 2, 2], &[0, 0, 1, 1, 2, 2], 4);
        assert_eq!((confusion.matthews(), confusion.macro_mean(Confusion::f1)), (1.0, 1.0));
        let guess = Confusion::new(&[0, 1, 2], &[0, 0, 0], 3);
        assert_eq!((guess.matthews(), guess.recall(0), guess.precision(0)), (0.0, 1.0, 1.0 / 3.0));
    }

    #[test]
    fn of_equally_good_thresholds_the_first_is_taken() {
        let found =
            best_f1_threshold(&[0.1, 0.2, 0.5, 0.6], &[0.05, 0.4, 0.55, 0.9], &[false, true, false, true]);
        assert_eq!(found, Some((0.1, 0.8)));
    }
}
