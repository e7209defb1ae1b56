//! What is kept of a search on disk: what it is a search of, and the result of every trial.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nyx::error::InFile;
use nyx::tune::Task;
use nyx::{Error, Result, output};
use serde::{Deserialize, Serialize};

/// What the trials of a directory are trials of. The number of trials is no part of it: there can be more later.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The method and what it depends on besides the seed.
    pub search: String,
    /// The ranges, as typed.
    pub space: Vec<String>,
    /// The measure.
    pub objective: String,
    /// The seed.
    pub seed: u64,
    /// The command of nyx-train.
    pub train: Vec<String>,
}

/// A trial: its hyper-parameters and its results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Its number.
    pub trial: usize,
    /// Its bracket in Hyperband.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bracket: Option<usize>,
    /// Values by flag.
    pub parameters: Vec<(String, String)>,
    /// A result for each rung that it reached, the last one for its end.
    pub results: Vec<Outcome>,
}

/// What a trial came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Epochs behind it, where that is a rung.
    pub epochs: Option<u64>,
    /// The objective at its best; none where training failed.
    pub value: Option<f64>,
    /// Steps behind it.
    pub steps: u64,
    /// Seconds that it took, without those of a run that was killed.
    pub seconds: f64,
    /// Why training failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Trial {
    /// Returns the result of a task.
    pub fn outcome(&self, task: &Task) -> Option<&Outcome> {
        self.results.iter().find(|outcome| outcome.epochs == task.epochs)
    }
}

/// The directory of a search, locked against a second one.
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Opens the directory of a search, which must be of the same one.
    pub fn open(path: &Path, manifest: &Manifest) -> Result<Self> {
        let trials = path.join("trials");
        fs::create_dir_all(&trials).in_file(&trials)?;
        let lock = locked(&path.join("lock"))?;
        if lock.try_lock().is_err() {
            return Err(Error::data("another nyx-tune works here").at(path.display().to_string()));
        }
        let file = path.join("search.json");
        match fs::read_to_string(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => write_json(&file, manifest)?,
            text => match check(&serde_json::from_str(&text.in_file(&file)?)?, manifest) {
                // A command that failed before its first trial is no reason to refuse the one that is right.
                Err(_) if !has_results(&trials)? => {
                    fs::remove_dir_all(&trials).and_then(|()| fs::create_dir(&trials)).in_file(&trials)?;
                    write_json(&file, manifest)?;
                }
                checked => checked.in_file(&file)?,
            },
        }
        Ok(Self { path: path.into(), _lock: lock })
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the model directory of a trial.
    pub fn model(&self, trial: usize) -> PathBuf {
        self.path.join(self.relative(trial))
    }

    /// Returns the model directory of a trial, from here.
    pub fn relative(&self, trial: usize) -> PathBuf {
        Path::new("trials").join(format!("{trial:04}"))
    }

    /// Returns the place of a file of nyx-tune about a trial.
    pub fn file(&self, trial: usize, ending: &str) -> PathBuf {
        self.path.join("trials").join(format!("{trial:04}.{ending}"))
    }

    /// Returns the file that a training holds locked while it runs, also when nyx-tune is not there any more.
    pub fn lock(&self, trial: usize) -> Result<File> {
        locked(&self.file(trial, "lock"))
    }

    /// Reads what is known of a trial.
    pub fn read(&self, trial: usize) -> Result<Option<Trial>> {
        let path = self.file(trial, "json");
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            text => serde_json::from_str(&text.in_file(&path)?).map(Some).in_file(&path),
        }
    }

    /// Writes what is known of a trial.
    pub fn write(&self, trial: &Trial) -> Result<()> {
        write_json(&self.file(trial.trial, "json"), trial)
    }
}

/// Returns whether a trial has come to an end.
fn has_results(trials: &Path) -> Result<bool> {
    let names = fs::read_dir(trials).in_file(trials)?.map(|entry| Ok(entry?.path()));
    let names: Vec<PathBuf> = names.collect::<Result<_>>().in_file(trials)?;
    Ok(names.iter().any(|name| name.extension().is_some_and(|ending| ending == "json")))
}

fn locked(path: &Path) -> Result<File> {
    File::options().create(true).read(true).append(true).open(path).in_file(path)
}

/// Writes JSON with a line for each field.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    output::write_file(path, format!("{}\n", serde_json::to_string_pretty(value)?).as_bytes())
}

/// Refuses trials of another search.
fn check(found: &Manifest, wanted: &Manifest) -> Result<()> {
    let difference = match found {
        _ if found == wanted => return Ok(()),
        _ if found.train != wanted.train => format!("of another training, `{}`", found.train.join(" ")),
        _ if found.space != wanted.space => format!("of another space, {}", found.space.join(" ")),
        _ if found.search != wanted.search => format!("by another method, {}", found.search),
        _ if found.objective != wanted.objective => format!("by another objective, {}", found.objective),
        _ => format!("with another seed, {}", found.seed),
    };
    Err(Error::data(format!("the trials here are {difference}: remove the directory, or name another")))
}
