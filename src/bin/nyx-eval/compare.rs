//! What models differ by: on one set, and over the sets of folders.

use nyx::Result;
use nyx::evaluate::{self, Interval, Metric, Options};
use nyx::report::evaluation::Evaluated;

/// Two models, and what the numbers of one are more than those of the other.
pub type Difference = (String, Vec<Interval>);

/// How intervals are made.
#[derive(Clone, Copy)]
pub struct Bootstrap {
    /// Samples.
    pub samples: usize,
    /// Part of them that an interval holds.
    pub level: f64,
    /// Seed.
    pub seed: u64,
}

impl Bootstrap {
    /// Adds intervals to sets that were predicted by `models` models each, side by side; returns what the others differ by
    /// from the first of each.
    pub fn rows(
        &self,
        sets: &mut [Evaluated],
        models: usize,
        options: impl Fn(&Evaluated) -> Options,
    ) -> Result<Vec<Difference>> {
        let mut differences = Vec::new();
        for group in sets.chunks_mut(models) {
            let options: Vec<Options> = group.iter().map(&options).collect();
            let predictions: Vec<_> = group.iter().map(|set| set.predictions.clone()).collect();
            let (own, against) =
                evaluate::bootstrap(&predictions, &options, self.samples, self.level, self.seed)?;
            group.iter_mut().zip(own).for_each(|(set, intervals)| set.intervals = intervals);
            let name = |index: usize| format!("{} - {}", group[index + 1].name, group[0].name);
            differences.extend(against.into_iter().enumerate().map(|(index, found)| (name(index), found)));
        }
        Ok(differences)
    }

    /// Returns by how much each model is better than the first on average over sets, with intervals from samples of the
    /// sets; and in how many of them.
    pub fn sets(&self, sets: &[Evaluated], models: &[String]) -> Vec<Difference> {
        let of = |model: usize| -> Vec<&[Metric]> {
            sets.chunks(models.len()).map(|group| group[model].metrics.as_slice()).collect()
        };
        let mut differences = Vec::new();
        for (index, name) in models.iter().enumerate().skip(1) {
            let (mean, better) = evaluate::over_sets(&of(0), &of(index), self.samples, self.level, self.seed);
            differences.push((format!("mean of {name} - {}", models[0]), mean));
            differences.push((format!("sets where {name} > {}", models[0]), better));
        }
        differences
    }
}
