//! An evaluation as a table.

use std::fmt::Write;

use nyx::evaluate::Interval;
use nyx::report::evaluation::Evaluated;

use super::compare::Difference;

/// A table: a line for each set, then means and medians, then differences.
pub struct Table<'a> {
    /// Decimals; none for all.
    pub round: Option<usize>,
    /// The sets.
    pub sets: &'a [Evaluated],
    /// Names of groups of sets, and which sets those are: a mean and a median of each.
    pub groups: &'a [(String, Vec<usize>)],
    /// What models differ by.
    pub differences: &'a [Difference],
}

impl Table<'_> {
    /// Returns the text.
    pub fn text(&self) -> String {
        let names = self.names();
        let with_intervals =
            self.sets.iter().any(|set| !set.intervals.is_empty()) || !self.differences.is_empty();
        let mut text = String::from("set\tpredictions\tthreshold");
        for name in &names {
            let _ = write!(text, "\t{name}");
            if with_intervals {
                let _ = write!(text, "\t{name}_low\t{name}_high");
            }
        }
        text.push('\n');
        for set in self.sets {
            let _ = write!(text, "{}\t{}\t{}", set.name, set.predictions.len(), set.threshold);
            self.line(&mut text, &names, with_intervals, &set.intervals, |name| value(set, name));
        }
        for (title, members) in self.groups {
            for (word, of) in [("mean", mean as fn(&[f64]) -> f64), ("median", median)] {
                let _ = write!(
                    text,
                    "{}\t\t",
                    if title.is_empty() { word.into() } else { format!("{title}: {word}") }
                );
                self.line(&mut text, &names, with_intervals, &[], |name| {
                    let values: Vec<f64> =
                        members.iter().filter_map(|&index| value(&self.sets[index], name)).collect();
                    (!values.is_empty()).then(|| of(&values))
                });
            }
        }
        for (title, intervals) in self.differences {
            let _ = write!(text, "{title}\t\t");
            let find = |name: &str| intervals.iter().find(|interval| interval.name == name);
            self.line(&mut text, &names, with_intervals, intervals, |name| find(name)?.value);
        }
        text
    }

    /// Returns the names of all numbers, in the order in which they come.
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.sets.iter().flat_map(|set| &set.metrics) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    fn line(
        &self,
        text: &mut String,
        names: &[&str],
        with_intervals: bool,
        intervals: &[Interval],
        value: impl Fn(&str) -> Option<f64>,
    ) {
        for name in names {
            let _ = write!(text, "\t{}", self.number(value(name)));
            if with_intervals {
                let interval = intervals.iter().find(|interval| interval.name == *name);
                let (low, high) = interval.map_or((None, None), |interval| (interval.low, interval.high));
                let _ = write!(text, "\t{}\t{}", self.number(low), self.number(high));
            }
        }
        text.push('\n');
    }

    fn number(&self, value: Option<f64>) -> String {
        match (value, self.round) {
            (None, _) => String::new(),
            (Some(value), Some(digits)) => format!("{value:.digits$}"),
            (Some(value), None) => format!("{value}"),
        }
    }
}

fn value(set: &Evaluated, name: &str) -> Option<f64> {
    set.metrics.iter().find(|(other, _)| other == name).and_then(|(_, value)| *value)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}
