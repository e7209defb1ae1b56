//! One trial: nyx-train as a process of its own, whose checkpoint is where the trial stands.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nyx::error::InFile;
use nyx::train::run::larger_is_better;
use nyx::tune::{Task, words};
use nyx::{Error, Result};
use serde_json::Value;

use super::records::{Directory, Outcome};

/// Steps after which the record of a training says how long an epoch is: nyx-train writes a line every so many.
const FIRST_STEPS: u64 = 10;

/// Runs trials.
pub struct Runner<'a> {
    /// The executable nyx-train.
    pub program: PathBuf,
    /// The command as typed.
    pub train: &'a [String],
    /// Where trials are.
    pub directory: &'a Directory,
    /// What is searched by.
    pub objective: &'a str,
    /// Epochs of a whole training, where the search gives them.
    pub epochs: Option<u64>,
    /// Threads of a training.
    pub threads: usize,
    /// Seed of a training, unless its command has one.
    pub seed: u64,
}

/// Returns whether a command has one of these flags.
pub fn has(command: &[String], flags: &[&str]) -> bool {
    let is = |word: &String| flags.iter().any(|flag| word == flag || word.starts_with(&format!("{flag}=")));
    command.iter().any(is)
}

/// Finds nyx-train beside this executable, or on the path.
pub fn program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("nyx-train"));
    beside.filter(|program| program.is_file()).unwrap_or("nyx-train".into())
}

impl Runner<'_> {
    /// Trains until a task is done, from where the trial stands.
    ///
    /// # Errors
    ///
    /// When nyx-train cannot be started, does not know a flag, or is killed. A training that fails is a result.
    pub fn run(&self, task: &Task, parameters: &[(String, String)]) -> Result<Outcome> {
        let lock = self.directory.lock(task.trial)?;
        // A training that a killed nyx-tune has left behind: its results are ours.
        lock.lock().in_file(&self.directory.file(task.trial, "lock"))?;
        let began = Instant::now();
        let failure = self.train(task, parameters, &lock)?;
        let record = Record::read(&self.directory.model(task.trial))?;
        let value = record.best(self.objective).filter(|_| failure.is_none());
        let missing = || format!("no `{}` of the dev set in its record", self.objective);
        let error = failure.or_else(|| value.is_none().then(missing));
        let seconds = began.elapsed().as_secs_f64();
        Ok(Outcome { epochs: task.epochs, value, steps: record.steps(), seconds, error })
    }

    /// Trains up to a task's epochs; returns why training failed, if it did.
    fn train(&self, task: &Task, parameters: &[(String, String)], lock: &File) -> Result<Option<String>> {
        let rung = task.epochs.filter(|epochs| self.epochs.is_some_and(|most| *epochs < most));
        let Some(epochs) = rung else { return self.start(task, parameters, None, lock) };
        let model = self.directory.model(task.trial);
        if Record::read(&model)?.steps_of_epoch().is_none()
            && let Some(failure) = self.start(task, parameters, Some(FIRST_STEPS), lock)?
        {
            return Ok(Some(failure));
        }
        let steps = Record::read(&model)?.steps_of_epoch().ok_or_else(|| {
            Error::data("its record does not say how long an epoch is").at(model.display().to_string())
        })?;
        self.start(task, parameters, Some(steps * epochs), lock)
    }

    /// Runs nyx-train once; returns why training failed, if it did.
    fn start(
        &self,
        task: &Task,
        parameters: &[(String, String)],
        stop_after: Option<u64>,
        lock: &File,
    ) -> Result<Option<String>> {
        let log = self.directory.file(task.trial, "log");
        let mut command = self.command(task.trial, parameters, stop_after);
        let mut file = File::options().create(true).append(true).open(&log).in_file(&log)?;
        let length = file.metadata().in_file(&log)?.len();
        writeln!(file, "$ {command:?}").in_file(&log)?;
        // The lock stays as long as the training has it as its standard input.
        command.stdin(Stdio::from(lock.try_clone()?)).stdout(Stdio::null()).stderr(Stdio::from(file));
        let status = command.status().in_file(&self.program)?;
        let said = || last_line(&log, length);
        match status.code() {
            Some(0) => Ok(None),
            Some(1) => Ok(Some(said())),
            Some(2) => Err(Error::usage(said()).at(format!("trial {}", task.trial))),
            _ => {
                Err(Error::data(format!("trial {}: nyx-train was ended ({status}): {}", task.trial, said())))
            }
        }
    }

    fn command(&self, trial: usize, parameters: &[(String, String)], stop_after: Option<u64>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.train);
        command.args(words(parameters));
        let mut unless = |flags: &[&str], value: String| {
            let searched = |flag: &&str| parameters.iter().any(|(name, _)| flag[2..] == *name);
            if !has(self.train, flags) && !flags.iter().any(|flag| flag.len() > 2 && searched(flag)) {
                command.arg(flags[flags.len() - 1]).arg(value);
            }
        };
        unless(&["--best-by"], self.objective.to_string());
        unless(&["--seed"], self.seed.to_string());
        unless(&["-@", "--threads"], self.threads.to_string());
        unless(&["--progress"], "never".to_string());
        if let Some(epochs) = self.epochs {
            unless(&["--epochs"], epochs.to_string());
            // Rungs are whole epochs: each ends with an evaluation.
            unless(&["--eval-every"], "0".to_string());
        }
        command.args(stop_after.map(|_| "--stop-after")).args(stop_after.map(|step| step.to_string()));
        command.arg("--resume").arg("-o").arg(self.directory.model(trial));
        command
    }
}

/// Returns the last line of a log after its first bytes, without the name of the command.
fn last_line(log: &Path, from: u64) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes.get(from as usize..).unwrap_or_default()).into_owned();
    let mut errors =
        text.lines().filter(|line| line.starts_with("nyx-train: ") || line.starts_with("error: "));
    let line = errors.next_back().or(text.lines().last()).unwrap_or_default();
    line.trim_start_matches("nyx-train: ").to_string()
}

/// The lines of a training's `metrics.jsonl`.
struct Record(Vec<Value>);

impl Record {
    fn read(model: &Path) -> Result<Self> {
        let path = model.join("training").join("metrics.jsonl");
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.in_file(&path)?,
        };
        // A killed training may have left half a line.
        Ok(Self(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()))
    }

    fn best(&self, objective: &str) -> Option<f64> {
        let name = format!("eval/{objective}");
        let values = self.0.iter().filter_map(|line| line[&name].as_f64()).filter(|value| value.is_finite());
        match larger_is_better(objective) {
            true => values.reduce(f64::max),
            false => values.reduce(f64::min),
        }
    }

    fn steps(&self) -> u64 {
        self.0.iter().filter_map(|line| line["_step"].as_u64()).max().unwrap_or(0)
    }

    fn steps_of_epoch(&self) -> Option<u64> {
        let line =
            self.0.iter().find(|line| line["train/epoch"].as_f64().is_some_and(|epoch| epoch > 0.0))?;
        Some((line["_step"].as_f64()? / line["train/epoch"].as_f64()?).round() as u64)
    }
}
