//! A search as it runs: rounds of trials, some at once, and what they leave on disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use nyx::error::InFile;
use nyx::tune::{self, Round, Search, Task};
use nyx::{Error, Result};

use super::records::{Directory, Manifest, Outcome, Trial};
use super::runner::{self, Runner};
use super::{Args, Keep, tables};

/// Trials that fail before any succeeds until the search gives up.
const FAILURES: usize = 3;

/// A search and its directory.
pub struct Session<'a> {
    args: &'a Args,
    search: &'a Search,
    directory: Directory,
    objective: String,
    trials: Mutex<BTreeMap<usize, Trial>>,
}

impl<'a> Session<'a> {
    /// Opens the directory of a search.
    pub fn open(args: &'a Args, search: &'a Search, space: Vec<String>) -> Result<Self> {
        let mut method = args.name();
        match search.method {
            tune::Method::Bayes { at_once, .. } => method += &format!(" --jobs {at_once}"),
            tune::Method::Hyperband { epochs, factor } => {
                method += &format!(" --max-epochs {epochs} --factor {factor}");
            }
            _ => {}
        }
        let objective = args.objective();
        let manifest = Manifest {
            search: method,
            space,
            objective: objective.clone(),
            seed: search.seed,
            train: args.train.clone(),
        };
        let directory = Directory::open(&args.common.output, &manifest)?;
        Ok(Self { args, search, directory, objective, trials: Mutex::default() })
    }

    /// Runs the search to its end.
    pub fn run(&self) -> Result<()> {
        let mut rounds: Vec<Round> = Vec::new();
        let mut next = self.search.next(&rounds)?;
        while let Some(tasks) = next {
            let values = self.round(&tasks)?;
            rounds.push(Round { tasks, values });
            next = self.search.next(&rounds)?;
            self.settle(&rounds, next.as_deref().unwrap_or_default())?;
        }
        let Some((task, value)) = tune::best(&rounds) else {
            return Err(Error::data("every trial failed; their logs are in the directory").at(self
                .directory
                .path()
                .display()
                .to_string()));
        };
        let model = self.directory.model(task.trial);
        let (value, trial) = (value * self.args.sign(), task.trial);
        let line = format!("best: trial {trial}, {} {value:.6}, in {}", self.objective, model.display());
        self.args.common.say(&line);
        Ok(())
    }

    /// Returns the values of tasks, larger ones better: those that are known, and of the others what training gives.
    fn round(&self, tasks: &[Task]) -> Result<Vec<Option<f64>>> {
        let known: Vec<Option<Outcome>> = tasks.iter().map(|task| self.known(task)).collect::<Result<_>>()?;
        let done = known.iter().flatten().count();
        if done > 0 {
            self.args.common.say(&format!("{done} of {} trials of this round are done already", tasks.len()));
        }
        let results: Vec<Mutex<Option<Outcome>>> = known.into_iter().map(Mutex::new).collect();
        self.run_all(tasks, &results)?;
        let sign = self.args.sign();
        let value = |result: Mutex<Option<Outcome>>| {
            result
                .into_inner()
                .expect("no thread panics with it")
                .and_then(|outcome| outcome.value)
                .map(|v| sign * v)
        };
        Ok(results.into_iter().map(value).collect())
    }

    /// Returns the result of a task from an earlier run.
    fn known(&self, task: &Task) -> Result<Option<Outcome>> {
        let Some(trial) = self.directory.read(task.trial)? else { return Ok(None) };
        if trial.parameters != self.parameters(task) {
            return Err(Error::data(
                "other hyper-parameters than this search would try: remove the directory",
            )
            .at(self.directory.file(task.trial, "json").display().to_string()));
        }
        let outcome = trial.outcome(task).cloned();
        self.trials.lock().expect("no thread panics with it").insert(task.trial, trial);
        Ok(outcome)
    }

    fn parameters(&self, task: &Task) -> Vec<(String, String)> {
        let names = self.search.space.parameters().iter().map(|parameter| parameter.name.clone());
        names.zip(self.search.space.values(&task.point)).collect()
    }

    /// Runs the tasks without a result, some at once; after an error no other begins.
    fn run_all(&self, tasks: &[Task], results: &[Mutex<Option<Outcome>>]) -> Result<()> {
        let runner = self.runner();
        let open = |index: &usize| results[*index].lock().expect("no thread panics with it").is_none();
        let queue: Vec<usize> = (0..tasks.len()).filter(open).collect();
        let (queue, failed, failure) = (Mutex::new(queue.iter()), AtomicBool::new(false), Mutex::new(None));
        let work = || {
            while !failed.load(Relaxed) {
                let Some(&index) = queue.lock().expect("no thread panics with it").next() else { return };
                match self.run_one(&runner, &tasks[index]) {
                    Ok(outcome) => *results[index].lock().expect("no thread panics with it") = Some(outcome),
                    Err(error) => {
                        failed.store(true, Relaxed);
                        failure.lock().expect("no thread panics with it").get_or_insert(error);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.args.jobs {
                if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, work) {
                    failed.store(true, Relaxed);
                    let error = Error::data(format!("cannot start a thread: {error}"));
                    failure.lock().expect("no thread panics with it").get_or_insert(error);
                }
            }
        });
        failure.into_inner().expect("no thread panics with it").map_or(Ok(()), Err)
    }

    fn runner(&self) -> Runner<'_> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.args.common.threads.map_or(cores, usize::from) / usize::from(self.args.jobs);
        let epochs = match self.search.method {
            tune::Method::Hyperband { epochs, .. } => Some(epochs),
            _ => None,
        };
        Runner {
            program: runner::program(),
            train: &self.args.train,
            directory: &self.directory,
            objective: &self.objective,
            epochs,
            threads: threads.max(1),
            seed: self.args.common.seed,
        }
    }

    /// Runs a task, and writes what came of it before anything else begins.
    fn run_one(&self, runner: &Runner, task: &Task) -> Result<Outcome> {
        let parameters = self.parameters(task);
        let outcome = runner.run(task, &parameters)?;
        let mut trials = self.trials.lock().expect("no thread panics with it");
        let fresh = Trial { trial: task.trial, bracket: task.bracket, parameters, results: Vec::new() };
        let trial = trials.entry(task.trial).or_insert(fresh);
        trial.results.push(outcome.clone());
        self.directory.write(trial)?;
        self.say(trial, &outcome);
        tables::write(self.directory.path(), &self.objective, self.search, &trials)?;
        let failures =
            trials.values().filter(|trial| trial.results.iter().all(|result| result.value.is_none()));
        if failures.count() == trials.len() && trials.len() >= FAILURES {
            let why = outcome.error.as_deref().unwrap_or_default();
            return Err(Error::data(format!("the first {} trials all failed: {why}", trials.len())));
        }
        Ok(outcome)
    }

    fn say(&self, trial: &Trial, outcome: &Outcome) {
        let values: Vec<String> =
            trial.parameters.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let what = match (&outcome.error, outcome.value) {
            (Some(error), _) => format!("failed: {error}"),
            (None, value) => format!("{} {:.6}", self.objective, value.unwrap_or(f64::NAN)),
        };
        let epochs = outcome.epochs.map_or(String::new(), |epochs| format!(" after {epochs} epochs"));
        let of = self.search.trials().map_or(String::new(), |trials| format!(" of {trials}"));
        let line = format!("trial {}{of}{epochs}: {what} ({})", trial.trial, values.join(", "));
        self.args.common.say(&line);
    }

    /// After a round: names the best, draws, and removes the models that nobody needs where only the best is kept.
    fn settle(&self, rounds: &[Round], next: &[Task]) -> Result<()> {
        let trials = self.trials.lock().expect("no thread panics with it");
        tables::write(self.directory.path(), &self.objective, self.search, &trials)?;
        let Some((task, value)) = tune::best(rounds) else { return Ok(()) };
        let best = &trials[&task.trial];
        let value = value * self.args.sign();
        tables::write_best(&self.directory, best, &self.objective, value)?;
        if self.args.keep == Keep::Best {
            let needed = |trial: usize| trial == task.trial || next.iter().any(|task| task.trial == trial);
            for trial in trials.keys().filter(|trial| !needed(**trial)) {
                remove(&self.directory.model(*trial))?;
            }
        }
        Ok(())
    }
}

fn remove(model: &Path) -> Result<()> {
    match fs::remove_dir_all(model) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.in_file(model),
    }
}
