//! Predictions against labels: every number of an evaluation under the name of its convention, how sure it is, and
//! what two models differ by.
//!
//! | name | of |
//! |---|---|
//! | `…_positive` | the positive class (BertSNR, the residual network, DNABERT-Enhancer's tables) |
//! | `…_macro` | the mean over both classes, or all (NyxBind, DNABERT, scikit-learn's `average="macro"`) |
//! | `average_precision` | Σ (Rᵢ − Rᵢ₋₁)·Pᵢ (NyxBind, SigTFB) |
//! | `pr_auc_trapezoid` | trapezoids under the same curve (BertSNR, DeepSNR), another number |
//! | `hamming_score`, `exact_match` | rows with several labels (SigTFB) |
//! | `roc_auc_or_accuracy` | the area, or the accuracy where all labels are the same (SigTFB, if asked for) |

pub mod rows;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::metrics::{self, Confusion, Curve, Ranked};

/// What a model said, and what is true.
#[derive(Clone, Debug, PartialEq)]
pub enum Predictions {
    /// A probability of being positive, and whether it is; a row or a base each.
    Binary {
        /// Probabilities.
        scores: Vec<f64>,
        /// Truth.
        labels: Vec<bool>,
    },
    /// Probabilities of more than two classes, one of which is right.
    Classes {
        /// By row and class.
        scores: Vec<Vec<f64>>,
        /// The class.
        labels: Vec<usize>,
    },
    /// Several labels a row.
    Columns {
        /// By row and label.
        scores: Vec<Vec<f64>>,
        /// Truth.
        labels: Vec<Vec<bool>>,
    },
}

/// A number with its name; `None` where it is not defined, as an area without negatives.
pub type Metric = (String, Option<f64>);

/// Which means over classes are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Average {
    /// All that there are.
    #[default]
    All,
    /// Those of the positive class.
    Positive,
    /// Means over classes.
    Macro,
}

/// What stands for an area under the ROC curve where all labels are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OneClass {
    /// Nothing: there is none.
    #[default]
    None,
    /// The accuracy, under a name that says so (SigTFB).
    Accuracy,
}

impl OneClass {
    /// Returns the name of an area and what it is.
    fn area(self, area: Option<f64>, accuracy: impl FnOnce() -> f64) -> (&'static str, Option<f64>) {
        match self {
            Self::None => ("roc_auc", area),
            Self::Accuracy => ("roc_auc_or_accuracy", area.or_else(|| Some(accuracy()))),
        }
    }
}

/// How predictions are evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Scores above it count as positive.
    pub threshold: f64,
    /// Means over classes.
    pub average: Average,
    /// Areas where all labels are the same.
    pub one_class: OneClass,
}

impl Predictions {
    /// Returns how many rows (or bases) there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Binary { labels, .. } => labels.len(),
            Self::Classes { labels, .. } => labels.len(),
            Self::Columns { labels, .. } => labels.len(),
        }
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns all numbers, in the order of a table.
    pub fn metrics(&self, options: &Options) -> Vec<Metric> {
        match self {
            Self::Binary { scores, labels } => {
                let ranked = Ranked::new(scores, labels);
                binary(scores, labels, &Curve::weighted(&ranked, |_| 1), |_| 1, options)
            }
            Self::Classes { scores, labels } => classes(scores, labels, options),
            Self::Columns { scores, labels } => columns(scores, labels, options),
        }
    }

    /// Returns the counts of right and wrong, `[actual][predicted]`; none for several labels a row.
    pub fn confusion(&self, threshold: f64) -> Option<Confusion> {
        match self {
            Self::Binary { scores, labels } => Some(Confusion::above(threshold, scores, labels)),
            Self::Classes { scores, labels } => Some(class_confusion(scores, labels)),
            Self::Columns { .. } => None,
        }
    }

    /// Returns the threshold of `candidates` with the best F1 of the positive class.
    pub fn best_threshold(&self, candidates: &[f64]) -> Option<f64> {
        match self {
            Self::Binary { scores, labels } => {
                metrics::best_f1_threshold(candidates, scores, labels).map(|best| best.0)
            }
            _ => None,
        }
    }

    /// Returns the numbers of `rows` rows at a time, averaged over these batches, as DeepLearning_Test has them; a
    /// batch in which a number is not defined does not count for it.
    pub fn batch_means(&self, rows: usize, options: &Options) -> Vec<Metric> {
        let Self::Binary { scores, labels } = self else { return self.metrics(options) };
        let batch = |(scores, labels): (&[f64], &[bool])| {
            Self::Binary { scores: scores.to_vec(), labels: labels.to_vec() }.metrics(options)
        };
        let batches: Vec<Vec<Metric>> =
            scores.chunks(rows.max(1)).zip(labels.chunks(rows.max(1))).map(batch).collect();
        let Some(first) = batches.first() else { return self.metrics(options) };
        let mean = |index: usize| {
            let values: Vec<f64> = batches.iter().filter_map(|batch| batch[index].1).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        first
            .iter()
            .enumerate()
            .map(|(index, (name, _))| (format!("{name}_batch_mean"), mean(index)))
            .collect()
    }
}

fn binary(
    scores: &[f64],
    labels: &[bool],
    curve: &Curve,
    times: impl Fn(usize) -> u64,
    options: &Options,
) -> Vec<Metric> {
    let mut counts = [[0u64; 2]; 2];
    for (row, (&score, &label)) in scores.iter().zip(labels).enumerate() {
        counts[usize::from(label)][usize::from(score > options.threshold)] += times(row);
    }
    let confusion = Confusion::from_counts(counts.map(|row| row.to_vec()).to_vec());
    let mut metrics = vec![("accuracy".to_string(), Some(confusion.accuracy()))];
    metrics.extend(averages(&confusion, options.average, true));
    metrics.push(("mcc".into(), Some(confusion.matthews())));
    let (name, area) = options.one_class.area(curve.roc_auc(), || confusion.accuracy());
    metrics.push((name.into(), area));
    metrics.push(("average_precision".into(), curve.average_precision()));
    metrics.push(("pr_auc_trapezoid".into(), curve.trapezoid()));
    metrics
}

/// Returns precision, recall and F1 under the names of their means.
fn averages(confusion: &Confusion, average: Average, binary: bool) -> Vec<Metric> {
    type Of = fn(&Confusion, usize) -> f64;
    let all: [(&str, Of); 3] =
        [("precision", Confusion::precision), ("recall", Confusion::recall), ("f1", Confusion::f1)];
    let mut metrics = Vec::new();
    if binary && average != Average::Macro {
        metrics.extend(all.iter().map(|(name, of)| (format!("{name}_positive"), Some(of(confusion, 1)))));
    }
    if average != Average::Positive || !binary {
        metrics
            .extend(all.iter().map(|(name, of)| (format!("{name}_macro"), Some(confusion.macro_mean(of)))));
    }
    metrics
}

fn class_confusion(scores: &[Vec<f64>], labels: &[usize]) -> Confusion {
    let classes = scores.first().map_or(0, Vec::len);
    let most = |scores: &Vec<f64>| {
        (1..classes).fold(0, |best, class| if scores[class] > scores[best] { class } else { best })
    };
    Confusion::new(labels, &scores.iter().map(most).collect::<Vec<_>>(), classes)
}

fn classes(scores: &[Vec<f64>], labels: &[usize], options: &Options) -> Vec<Metric> {
    let confusion = class_confusion(scores, labels);
    let mut metrics = vec![("accuracy".to_string(), Some(confusion.accuracy()))];
    metrics.extend(averages(&confusion, options.average, false));
    metrics.push(("mcc".into(), Some(confusion.matthews())));
    // One class against the others, the mean over classes.
    let classes = scores.first().map_or(0, Vec::len);
    let areas: Option<Vec<f64>> = (0..classes)
        .map(|class| {
            let own: Vec<f64> = scores.iter().map(|scores| scores[class]).collect();
            metrics::roc_auc(&own, &labels.iter().map(|&label| label == class).collect::<Vec<_>>())
        })
        .collect();
    let mean = areas.map(|areas| areas.iter().sum::<f64>() / areas.len().max(1) as f64);
    metrics.push(("roc_auc_one_vs_rest_macro".into(), mean));
    metrics
}

fn columns(scores: &[Vec<f64>], labels: &[Vec<bool>], options: &Options) -> Vec<Metric> {
    let above = |scores: &Vec<f64>| scores.iter().map(|&score| score > options.threshold).collect();
    let predicted: Vec<Vec<bool>> = scores.iter().map(above).collect();
    let mut metrics = vec![
        ("hamming_score".to_string(), Some(metrics::hamming_score(&predicted, labels))),
        ("exact_match".to_string(), Some(metrics::exact_match(&predicted, labels))),
    ];
    let width = labels.first().map_or(0, Vec::len);
    let of = |column: usize| {
        let scores: Vec<f64> = scores.iter().map(|row| row[column]).collect();
        let labels: Vec<bool> = labels.iter().map(|row| row[column]).collect();
        let accuracy = || Confusion::above(options.threshold, &scores, &labels).accuracy();
        let area = options.one_class.area(metrics::roc_auc(&scores, &labels), accuracy).1;
        (area, metrics::average_precision(&scores, &labels))
    };
    let areas: Vec<_> = (0..width).map(of).collect();
    let area = options.one_class.area(None, || 0.0).0;
    let mean = |values: Vec<Option<f64>>| {
        let values: Vec<f64> = values.into_iter().flatten().collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    metrics.push((format!("{area}_mean_of_columns"), mean(areas.iter().map(|areas| areas.0).collect())));
    metrics.push((
        "average_precision_mean_of_columns".into(),
        mean(areas.iter().map(|areas| areas.1).collect()),
    ));
    for (column, (roc, precision)) in areas.iter().enumerate() {
        metrics.push((format!("{area}_column_{column}"), *roc));
        metrics.push((format!("average_precision_column_{column}"), *precision));
    }
    metrics
}

/// What resampling says about a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// Name of the number.
    pub name: String,
    /// The number itself.
    pub value: Option<f64>,
    /// Lower end of its interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

/// The intervals of a model's numbers, or of its differences.
pub type Intervals = Vec<Interval>;

/// By model, its numbers from one bootstrap sample.
type Drawn = Vec<Vec<Option<f64>>>;

/// Returns percentile intervals that hold `level` of the numbers of `samples` bootstrap samples of the rows, for each
/// model; and for each model but the first, of its numbers less those of the first in the same samples.
///
/// Sample i is drawn with a random number generator of its own, from the seed and i, so that nothing depends on threads.
///
/// # Errors
///
/// When the models were not asked about the same rows, or rows have more than one label.
pub fn bootstrap(
    models: &[Predictions],
    options: &[Options],
    samples: usize,
    level: f64,
    seed: u64,
) -> Result<(Vec<Intervals>, Vec<Intervals>)> {
    let mut ranked = Vec::new();
    for model in models {
        let Predictions::Binary { scores, labels } = model else {
            return Err(Error::usage("intervals by bootstrap are for one label a row and two classes"));
        };
        ranked.push((scores, labels, Ranked::new(scores, labels)));
    }
    if ranked.windows(2).any(|pair| pair[0].1 != pair[1].1) {
        return Err(Error::data("the models were not asked about the same rows: their labels differ"));
    }
    let rows = models.first().map_or(0, Predictions::len);
    let sample = |index: usize| -> Drawn {
        let mut random = StdRng::seed_from_u64(seed ^ (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut times = vec![0u64; rows];
        (0..rows).for_each(|_| times[random.random_range(0..rows)] += 1);
        let one = |((scores, labels, ranked), options): (&(&Vec<f64>, &Vec<bool>, Ranked), &Options)| {
            let curve = Curve::weighted(ranked, |row| times[row]);
            binary(scores, labels, &curve, |row| times[row], options)
                .into_iter()
                .map(|(_, value)| value)
                .collect()
        };
        ranked.iter().zip(options).map(one).collect()
    };
    let drawn: Vec<Drawn> = (0..samples).into_par_iter().map(sample).collect();
    let values: Vec<Vec<Metric>> =
        models.iter().zip(options).map(|(model, options)| model.metrics(options)).collect();
    let interval = |name: &str, value: Option<f64>, of: &dyn Fn(&Drawn) -> Option<f64>| {
        let mut found: Vec<f64> = drawn.iter().filter_map(of).collect();
        found.sort_by(f64::total_cmp);
        let at = |share: f64| quantile(&found, share);
        let (low, high) = (at((1.0 - level) / 2.0), at((1.0 + level) / 2.0));
        Interval { name: name.into(), value, low, high }
    };
    let own = |model: usize| {
        let metrics = values[model].iter().enumerate();
        metrics.map(|(index, (name, value))| interval(name, *value, &|sample| sample[model][index])).collect()
    };
    let against = |model: usize| {
        let metrics = values[model].iter().enumerate();
        metrics
            .map(|(index, (name, value))| {
                let less = |a: Option<f64>, b: Option<f64>| Some(a? - b?);
                let difference = less(*value, values[0][index].1);
                interval(name, difference, &|sample| less(sample[model][index], sample[0][index]))
            })
            .collect()
    };
    Ok(((0..models.len()).map(own).collect(), (1..models.len()).map(against).collect()))
}

/// Returns, for each number, the mean over sets of how much more it is of one model than of the first, with the percentile
/// interval of `samples` samples of the sets; and in how many sets it is more, a tie counting half.
///
/// Sets in which one of the two is not defined do not count for it.
pub fn over_sets(
    first: &[&[Metric]],
    other: &[&[Metric]],
    samples: usize,
    level: f64,
    seed: u64,
) -> (Intervals, Intervals) {
    let names = first.first().map_or(&[] as &[Metric], |metrics| metrics).iter().map(|(name, _)| name);
    let of = |metrics: &[Metric], name: &str| metrics.iter().find(|(other, _)| other == name)?.1;
    let (mut means, mut better) = (Vec::new(), Vec::new());
    for name in names {
        let both = first.iter().zip(other);
        let differences: Vec<f64> =
            both.filter_map(|(first, other)| Some(of(other, name)? - of(first, name)?)).collect();
        let value =
            (!differences.is_empty()).then(|| differences.iter().sum::<f64>() / differences.len() as f64);
        let drawn = sampled_means(&differences, samples, seed);
        let at = |share: f64| quantile(&drawn, share);
        let (low, high) = (at((1.0 - level) / 2.0), at((1.0 + level) / 2.0));
        means.push(Interval { name: name.clone(), value, low, high });
        let count =
            |difference: &f64| if *difference > 0.0 { 1.0 } else { 0.5 * f64::from(*difference == 0.0) };
        let count = value.map(|_| differences.iter().map(count).sum());
        better.push(Interval { name: name.clone(), value: count, low: None, high: None });
    }
    (means, better)
}

/// Returns the means of samples of values, ascending.
fn sampled_means(values: &[f64], samples: usize, seed: u64) -> Vec<f64> {
    if values.is_empty() {
        return Vec::new();
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut mean = || {
        let sum: f64 = values.iter().map(|_| values[random.random_range(0..values.len())]).sum();
        sum / values.len() as f64
    };
    let mut means: Vec<f64> = (0..samples).map(|_| mean()).collect();
    means.sort_by(f64::total_cmp);
    means
}

/// Returns the quantile of numbers that ascend, between neighbours by proportion.
fn quantile(ascending: &[f64], share: f64) -> Option<f64> {
    let place = share * ascending.len().checked_sub(1)? as f64;
    let (below, above) = (ascending[place.floor() as usize], ascending[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(shift: f64) -> Predictions {
        let mut random = StdRng::seed_from_u64(5);
        let labels: Vec<bool> = (0..400).map(|_| random.random()).collect();
        let score = |&label: &bool| {
            let noise: f64 = random.random();
            (noise + if label { shift } else { 0.0 }) / (1.0 + shift)
        };
        let scores = labels.iter().map(score).collect();
        Predictions::Binary { scores, labels }
    }

    const OPTIONS: Options = Options { threshold: 0.5, average: Average::All, one_class: OneClass::None };

    fn value(metrics: &[Metric], name: &str) -> f64 {
        metrics.iter().find(|(other, _)| other == name).unwrap().1.unwrap()
    }

    #[test]
    fn a_weight_is_a_row_that_often() {
        let Predictions::Binary { scores, labels } = set(0.4) else { unreachable!() };
        let times = |row: usize| (row % 3) as u64;
        let rows = (0..scores.len()).flat_map(|row| std::iter::repeat_n(row, row % 3));
        let (mut many, mut of_many) = (Vec::new(), Vec::new());
        rows.for_each(|row| {
            many.push(scores[row]);
            of_many.push(labels[row]);
        });
        let curve = Curve::weighted(&Ranked::new(&scores, &labels), times);
        let weighted = binary(&scores, &labels, &curve, times, &OPTIONS);
        let expected = Predictions::Binary { scores: many, labels: of_many }.metrics(&OPTIONS);
        for ((name, ours), (_, theirs)) in weighted.iter().zip(&expected) {
            assert!((ours.unwrap() - theirs.unwrap()).abs() < 1e-12, "{name}");
        }
    }

    #[test]
    fn intervals_hold_the_number_and_differ_where_models_do() {
        let (models, options) = ([set(0.2), set(0.6)], [OPTIONS; 2]);
        let run = |seed| bootstrap(&models, &options, 300, 0.95, seed).unwrap();
        let (own, against) = run(1);
        assert_eq!((own.clone(), against.clone()), run(1));
        assert_ne!(own, run(2).0);
        for interval in own.iter().flatten() {
            let (low, value, high) = (interval.low.unwrap(), interval.value.unwrap(), interval.high.unwrap());
            assert!(low <= value && value <= high && low < high, "{interval:?}");
        }
        let difference = against[0].iter().find(|interval| interval.name == "roc_auc").unwrap();
        assert!(difference.low.unwrap() > 0.0, "the second model is better");
        // Hanley and McNeil (1982): the standard error of an area.
        let area = own[0].iter().find(|interval| interval.name == "roc_auc").unwrap();
        let (a, n) = (area.value.unwrap(), 200.0);
        let (q1, q2) = (a / (2.0 - a), 2.0 * a * a / (1.0 + a));
        let error = ((a * (1.0 - a) + (n - 1.0) * (q1 - a * a + q2 - a * a)) / (n * n)).sqrt();
        let width = area.high.unwrap() - area.low.unwrap();
        assert!((width / (2.0 * 1.96 * error) - 1.0).abs() < 0.2, "{width} {error}");
        let other = Predictions::Binary { scores: vec![0.5], labels: vec![true] };
        assert!(bootstrap(&[set(0.2), other], &options, 10, 0.95, 0).is_err());
    }

    #[test]
    fn names_say_which_mean_was_taken() {
        let positive = Options { average: Average::Positive, ..OPTIONS };
        let names: Vec<String> = set(0.3).metrics(&positive).into_iter().map(|(name, _)| name).collect();
        assert!(
            names.contains(&"f1_positive".to_string()) && !names.iter().any(|name| name.ends_with("_macro"))
        );
        let several = Predictions::Columns {
            scores: vec![vec![0.9, 0.1], vec![0.2, 0.3], vec![0.6, 0.7]],
            labels: vec![vec![true, false], vec![false, false], vec![true, false]],
        };
        let metrics = several.metrics(&OPTIONS);
        assert_eq!(value(&metrics, "hamming_score"), (1.0 + 1.0 + 0.5) / 3.0);
        assert_eq!(value(&metrics, "exact_match"), 2.0 / 3.0);
        assert_eq!(value(&metrics, "roc_auc_column_0"), 1.0);
        let three = Predictions::Classes {
            scores: vec![vec![0.8, 0.1, 0.1], vec![0.1, 0.8, 0.1], vec![0.3, 0.4, 0.3]],
            labels: vec![0, 1, 2],
        };
        assert_eq!(value(&three.metrics(&OPTIONS), "accuracy"), 2.0 / 3.0);
    }

    #[test]
    fn labels_of_one_class_have_no_area_or_the_accuracy_by_another_name() {
        let one = Predictions::Binary { scores: vec![0.9, 0.2, 0.7], labels: vec![true; 3] };
        let metrics = one.metrics(&OPTIONS);
        assert_eq!(metrics.iter().find(|(name, _)| name == "roc_auc").unwrap().1, None);
        let options = Options { one_class: OneClass::Accuracy, ..OPTIONS };
        assert_eq!(value(&one.metrics(&options), "roc_auc_or_accuracy"), 2.0 / 3.0);
        let both = set(0.4);
        let area = value(&both.metrics(&OPTIONS), "roc_auc");
        assert_eq!(value(&both.metrics(&options), "roc_auc_or_accuracy"), area);
        let columns = Predictions::Columns {
            scores: vec![vec![0.9, 0.1], vec![0.2, 0.8]],
            labels: vec![vec![true, false], vec![false, false]],
        };
        let metrics = columns.metrics(&options);
        assert_eq!(value(&metrics, "roc_auc_or_accuracy_column_1"), 0.5);
        assert_eq!(value(&metrics, "roc_auc_or_accuracy_mean_of_columns"), 0.75);
    }

    #[test]
    fn a_model_that_is_better_in_every_set_is_so_on_average_and_noise_is_not() {
        let metrics = |value: f64| vec![("roc_auc".to_string(), Some(value)), ("mcc".to_string(), None)];
        let mut random = StdRng::seed_from_u64(2);
        let first: Vec<Vec<Metric>> = (0..30).map(|set| metrics(0.7 + 0.01 * f64::from(set % 7))).collect();
        let mut shifted = |shift: f64| -> Vec<Vec<Metric>> {
            first
                .iter()
                .map(|old| metrics(old[0].1.unwrap() + shift + 0.02 * (random.random::<f64>() - 0.5)))
                .collect()
        };
        let (better, same) = (shifted(0.05), shifted(0.0));
        let run = |other: &[Vec<Metric>]| {
            let (first, other): (Vec<&[Metric]>, Vec<&[Metric]>) =
                (first.iter().map(Vec::as_slice).collect(), other.iter().map(Vec::as_slice).collect());
            over_sets(&first, &other, 500, 0.95, 1)
        };
        let (mean, count) = run(&better);
        assert!(mean[0].low.unwrap() > 0.03 && mean[0].high.unwrap() < 0.07, "{mean:?}");
        assert_eq!((count[0].value, mean[1].value, count[1].value), (Some(30.0), None, None));
        let (mean, count) = run(&same);
        assert!(mean[0].low.unwrap() < 0.0 && mean[0].high.unwrap() > 0.0, "{mean:?}");
        assert!((5.0..25.0).contains(&count[0].value.unwrap()));
        assert_eq!(run(&first).1[0].value, Some(15.0), "ties count half");
    }

    #[test]
    fn means_over_batches_are_other_numbers_with_another_name() {
        let whole = set(0.4);
        let means = whole.batch_means(32, &OPTIONS);
        assert!(means.iter().all(|(name, _)| name.ends_with("_batch_mean")));
        // All batches but the last have as many rows, so accuracy is nearly that of all.
        let accuracy = value(&whole.metrics(&OPTIONS), "accuracy");
        assert!((value(&means, "accuracy_batch_mean") - accuracy).abs() < 0.02);
    }
}
