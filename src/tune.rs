//! Which hyper-parameters to try next: grids, random points, Hyperband, Bayesian search. `models.md` C.5 to C.7.
//!
//! A search is a function of its seed and of the results so far, in **rounds**: trials of a round are independent and may
//! run at once, the next round needs the results of all before it. So a search that was stopped is gone through again
//! with the results that there are, and goes on; and no result depends on what ran faster.

pub mod bayes;
mod gaussian;
pub mod hyperband;
pub mod picture;
mod space;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub use gaussian::Process;
pub use space::{Parameter, Range, Space, words};

use crate::error::Result;
use hyperband::Rung;

/// Draws after which a random search takes a small space for used up.
const DRAWS: usize = 1000;
/// Trials of a Bayesian search before anything is known, at least.
const BEGINNING: usize = 5;

/// How points are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// All combinations.
    Grid,
    /// Points drawn evenly.
    Random {
        /// How many.
        trials: usize,
    },
    /// Where most improvement is to be expected, after some that cover the space.
    Bayes {
        /// How many in all.
        trials: usize,
        /// How many are chosen before their results are waited for.
        at_once: usize,
    },
    /// Many for few epochs, the best for more.
    Hyperband {
        /// Epochs of the best.
        epochs: u64,
        /// One of so many goes on, for so many times the epochs.
        factor: u64,
    },
}

/// A trial, or what is left of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Number of the trial, from 0.
    pub trial: usize,
    /// Its point.
    pub point: Vec<f64>,
    /// Epochs behind it at the end, where it does not go to its own end.
    pub epochs: Option<u64>,
    /// Its bracket in Hyperband.
    pub bracket: Option<usize>,
}

/// Tasks and their results: larger values are better, none is a trial that failed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Round {
    /// The tasks.
    pub tasks: Vec<Task>,
    /// A result for each.
    pub values: Vec<Option<f64>>,
}

/// A search for the best hyper-parameters.
#[derive(Clone, Debug)]
pub struct Search {
    /// Where.
    pub space: Space,
    /// How.
    pub method: Method,
    /// Seed.
    pub seed: u64,
}

impl Search {
    /// Returns the tasks of the next round; none at the end.
    ///
    /// # Errors
    ///
    /// When a grid is asked for where a range is an interval.
    pub fn next(&self, rounds: &[Round]) -> Result<Option<Vec<Task>>> {
        let whole = |points: Vec<Vec<f64>>, first: usize| -> Option<Vec<Task>> {
            let task = |(index, point)| Task { trial: first + index, point, epochs: None, bracket: None };
            Some(points.into_iter().enumerate().map(task).collect())
                .filter(|tasks: &Vec<Task>| !tasks.is_empty())
        };
        match self.method {
            Method::Grid if rounds.is_empty() => Ok(whole(self.space.grid()?, 0)),
            Method::Random { trials } if rounds.is_empty() => Ok(whole(self.draw(trials), 0)),
            Method::Grid | Method::Random { .. } => Ok(None),
            Method::Bayes { trials, at_once } => {
                let first = rounds.iter().map(|round| round.tasks.len()).sum();
                Ok(whole(self.bayes(rounds, trials, at_once.max(1)), first))
            }
            Method::Hyperband { epochs, factor } => Ok(self.climb(rounds, &hyperband::rungs(epochs, factor))),
        }
    }

    /// Returns how many trials there will be, where that is known.
    pub fn trials(&self) -> Option<usize> {
        match self.method {
            Method::Grid => self.space.size(),
            Method::Random { trials } | Method::Bayes { trials, .. } => {
                Some(trials.min(self.space.size().unwrap_or(usize::MAX)))
            }
            Method::Hyperband { epochs, factor } => {
                let first = hyperband::rungs(epochs, factor).into_iter().filter(|rung| rung.is_first);
                Some(first.map(|rung| rung.trials).sum())
            }
        }
    }

    /// Draws points that differ in what they mean.
    fn draw(&self, count: usize) -> Vec<Vec<f64>> {
        let (mut points, mut known) = (Vec::new(), std::collections::HashSet::new());
        for number in 0..count {
            let mut random = self.random(number);
            let draw = |_| (0..self.space.dimensions()).map(|_| random.random()).collect::<Vec<f64>>();
            let mut drawn = (0..DRAWS).map(draw);
            let Some(point) = drawn.find(|point| known.insert(self.space.values(point))) else { break };
            points.push(point);
        }
        points
    }

    fn random(&self, number: usize) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn bayes(&self, rounds: &[Round], trials: usize, at_once: usize) -> Vec<Vec<f64>> {
        let tasks = || rounds.iter().flat_map(|round| &round.tasks);
        let done = tasks().count();
        let left = trials.saturating_sub(done);
        if rounds.is_empty() {
            return self.beginning(left);
        }
        let values: Vec<Option<f64>> = rounds.iter().flat_map(|round| round.values.iter().copied()).collect();
        // What failed is as bad as the worst that did not: not there again.
        let worst = values.iter().flatten().copied().fold(f64::INFINITY, f64::min);
        if !worst.is_finite() {
            return self.draw(done + left.min(at_once)).split_off(done.min(self.draw(done).len()));
        }
        let values: Vec<f64> = values.iter().map(|value| value.unwrap_or(worst)).collect();
        let points: Vec<Vec<f64>> = tasks().map(|task| task.point.clone()).collect();
        bayes::propose(&self.space, &points, &values, left.min(at_once), self.seed.wrapping_add(done as u64))
    }

    /// Returns the first points of a Bayesian search: some that cover the space, of which none means the same as another.
    fn beginning(&self, most: usize) -> Vec<Vec<f64>> {
        let count = BEGINNING.max(self.space.dimensions() + 1).min(most);
        let mut known = std::collections::HashSet::new();
        (0..DRAWS as u64)
            .map(|number| self.space.settle(&bayes::scattered(number, self.space.dimensions(), self.seed)))
            .filter(|point| known.insert(self.space.values(point)))
            .take(count)
            .collect()
    }

    /// Returns the tasks of the next rung. Rungs that nobody reaches are left out.
    fn climb(&self, rounds: &[Round], rungs: &[Rung]) -> Option<Vec<Task>> {
        // Rounds and rungs side by side: a rung without a trial made no round.
        let (mut rounds, mut before, mut first): (_, Option<&Round>, usize) = (rounds.iter(), None, 0);
        for rung in rungs {
            let tasks = if rung.is_first {
                let begin = first;
                first += rung.trials;
                (begin..first).map(|trial| self.begun(trial, *rung)).collect()
            } else {
                before.map_or(Vec::new(), |before| climbers(before, *rung))
            };
            before = None;
            if tasks.is_empty() {
                continue;
            }
            match rounds.next() {
                Some(round) => before = Some(round),
                None => return Some(tasks),
            }
        }
        None
    }

    fn begun(&self, trial: usize, rung: Rung) -> Task {
        let mut random = self.random(trial);
        let point = (0..self.space.dimensions()).map(|_| random.random()).collect();
        Task { trial, point, epochs: Some(rung.epochs), bracket: Some(rung.bracket) }
    }
}

fn climbers(before: &Round, rung: Rung) -> Vec<Task> {
    let best = hyperband::best(&before.values, rung.trials).into_iter();
    best.map(|index| Task { epochs: Some(rung.epochs), ..before.tasks[index].clone() }).collect()
}

/// Returns the task of the best value, the first of equals, over all rounds.
pub fn best(rounds: &[Round]) -> Option<(&Task, f64)> {
    let all = rounds.iter().flat_map(|round| round.tasks.iter().zip(&round.values));
    let mut found: Option<(&Task, f64)> = None;
    for (task, value) in all.filter_map(|(task, value)| Some((task, (*value)?))) {
        if found.is_none_or(|(_, most)| value > most) {
            found = Some((task, value));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(method: Method, texts: &[&str]) -> Search {
        let space = Space::new(texts.iter().map(|text| text.parse().unwrap()).collect()).unwrap();
        Search { space, method, seed: 7 }
    }

    /// Goes through a search; the value of a trial is that of its point and of the epochs behind it.
    fn run(search: &Search, value: impl Fn(&Task) -> Option<f64>) -> Vec<Round> {
        let mut rounds = Vec::new();
        while let Some(tasks) = search.next(&rounds).unwrap() {
            let values = tasks.iter().map(&value).collect();
            rounds.push(Round { tasks, values });
            assert!(rounds.len() < 200);
        }
        rounds
    }

    #[test]
    fn a_grid_tries_each_combination_and_random_search_none_twice() {
        let space = ["learning-rate=1e-3,1e-4", "warmup=10%,20%"];
        let rounds = run(&search(Method::Grid, &space), |_| Some(0.0));
        assert_eq!((rounds.len(), rounds[0].tasks.len()), (1, 4));
        let random = search(Method::Random { trials: 9 }, &space);
        let rounds = run(&random, |_| Some(0.0));
        let mut values: Vec<_> =
            rounds[0].tasks.iter().map(|task| random.space.values(&task.point)).collect();
        values.sort();
        values.dedup();
        assert_eq!((values.len(), rounds[0].tasks.len(), random.trials()), (4, 4, Some(4)));
        let few = run(&search(Method::Random { trials: 3 }, &["a=0..1"]), |_| Some(0.0));
        let more = run(&search(Method::Random { trials: 8 }, &["a=0..1"]), |_| Some(0.0));
        assert_eq!(few[0].tasks, more[0].tasks[..3], "more trials change none of those before");
    }

    #[test]
    fn bayes_finds_what_is_best_and_goes_on_where_it_was() {
        let value = |task: &Task| Some(-(task.point[0] - 0.3).powi(2) - (task.point[1] - 0.8).powi(2));
        let texts = ["rate=0..1", "decay=0..1"];
        for at_once in [1, 3] {
            let search = search(Method::Bayes { trials: 20, at_once }, &texts);
            let rounds = run(&search, value);
            assert_eq!(rounds.iter().map(|round| round.tasks.len()).sum::<usize>(), 20);
            let (task, found) = best(&rounds).unwrap();
            assert!(found > -0.003, "{task:?} {found}");
            let numbers: Vec<usize> = rounds.iter().flat_map(|r| r.tasks.iter().map(|t| t.trial)).collect();
            assert_eq!(numbers, (0..20).collect::<Vec<_>>());
            assert_eq!(search.next(&rounds[..2]).unwrap().unwrap(), rounds[2].tasks);
        }
        // Trials that fail do not stop it, even if all of the first do.
        let fails = run(&search(Method::Bayes { trials: 12, at_once: 1 }, &texts), |task| {
            Some(task.point[0]).filter(|_| task.trial > 6)
        });
        assert_eq!(fails.iter().map(|round| round.tasks.len()).sum::<usize>(), 12);
    }

    #[test]
    fn hyperband_gives_epochs_to_the_best_of_each_rung() {
        let search = search(Method::Hyperband { epochs: 9, factor: 3 }, &["rate=0..1"]);
        let value = |task: &Task| Some(task.point[0]).filter(|_| task.trial != 4);
        let rounds = run(&search, value);
        let shape: Vec<(usize, u64)> =
            rounds.iter().map(|round| (round.tasks.len(), round.tasks[0].epochs.unwrap())).collect();
        assert_eq!(shape, [(9, 1), (3, 3), (1, 9), (5, 3), (1, 9), (3, 9)]);
        let mut first: Vec<(f64, usize)> =
            rounds[0].tasks.iter().filter(|t| t.trial != 4).map(|t| (t.point[0], t.trial)).collect();
        first.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut three: Vec<usize> = first[..3].iter().map(|pair| pair.1).collect();
        three.sort_unstable();
        assert_eq!(rounds[1].tasks.iter().map(|task| task.trial).collect::<Vec<_>>(), three);
        assert_eq!(search.trials(), Some(17));
        // All of a rung fail: its bracket ends there, the next begins.
        let none = run(&search, |task| Some(1.0).filter(|_| task.trial >= 9));
        let shape: Vec<usize> = none.iter().map(|round| round.tasks.len()).collect();
        assert_eq!(shape, [9, 5, 1, 3]);
        assert_eq!(best(&none).unwrap().0.trial, 9);
    }
}
