//! One training from its first step to the model directory: record, progress, checkpoints.

use std::path::{Path, PathBuf};
use std::time::Instant;

use nyx::cli::{Common, TrainingProgress};
use nyx::error::InFile;
use nyx::model::graph::Parameters;
use nyx::train::record::Record;
use nyx::train::{Evaluation, Measures, Plan, Step, Task, Training, Watch, checkpoint};
use nyx::{Error, Result};
use serde_json::{Map, Value};

use crate::options::TrainArgs;

/// What a training is called and where it goes.
pub struct Job<'a> {
    pub common: &'a Common,
    pub args: &'a TrainArgs,
    pub plan: Plan,
    /// What the record shows, and a checkpoint must have been made for: network, data, plan.
    pub settings: Map<String, Value>,
}

impl Job<'_> {
    /// Returns the directory of the model.
    fn directory(&self) -> Result<&Path> {
        directory(self.common)
    }

    /// Trains, writes the model, and measures it on the test set, where there is one. Returns the weights and these
    /// measures; `None` when it was stopped before its end.
    pub fn complete(
        &self,
        task: &dyn Task,
        parameters: Parameters,
        write: impl FnOnce(&Parameters, &Path) -> Result<()>,
        test: impl FnOnce(&Parameters) -> Result<Option<Measures>>,
    ) -> Result<Option<(Training, Option<Measures>)>> {
        let Some((training, mut record)) = self.run(task, parameters)? else { return Ok(None) };
        write(training.parameters(), self.directory()?)?;
        let measures = test(training.parameters())?;
        if let Some(measures) = &measures {
            say(self.common, "test", measures);
        }
        record.finish(training.state().step, measures.as_ref())?;
        Ok(Some((training, measures)))
    }

    fn purpose(&self) -> Result<String> {
        Ok(serde_json::to_string(&self.settings)?)
    }

    /// Trains; `None` when it was stopped before its end.
    fn run(&self, task: &dyn Task, parameters: Parameters) -> Result<Option<(Training, Record)>> {
        let folder = self.directory()?.join("training");
        std::fs::create_dir_all(&folder)
            .map_err(Error::Io)
            .map_err(|error| error.at(folder.display().to_string()))?;
        let path = folder.join("checkpoint.safetensors");
        let mut training = Training::new(self.plan.clone(), parameters);
        if self.args.resume {
            sweep(&folder)?;
        }
        if self.args.resume && path.is_file() {
            checkpoint::read(&mut training, &self.purpose()?, &path)?;
            self.common.say(&format!("goes on after step {}", training.state().step));
        }
        let [trained, all] = training.parameters().count();
        self.common.say(&format!("{trained} of {all} numbers are trained"));
        let mut watcher = Watcher {
            job: self,
            record: Record::begin(&folder, &self.settings, training.state().step)?,
            progress: TrainingProgress::new(self.common.progress, self.common.quiet),
            path,
            is_due: false,
            examples: 0,
            seconds: 0.0,
            since: Instant::now(),
        };
        training.run(task, &mut watcher)?;
        if !training.state().is_over {
            self.common.say(&format!("stopped after step {}; --resume goes on", training.state().step));
            return Ok(None);
        }
        if self.common.verbose {
            let Watcher { seconds, examples, record, .. } = &watcher;
            let rate = *examples as f64 / seconds;
            let all = record.seconds();
            self.common.say(&format!("{all:.1} s, of which {seconds:.1} s in steps: {rate:.0} examples/s"));
        }
        Ok(Some((training, watcher.record)))
    }
}

/// Removes what a killed training left unfinished: its checkpoints may be large.
fn sweep(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).in_file(folder)? {
        let path = entry.in_file(folder)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') && name.ends_with(".tmp") {
            std::fs::remove_file(&path).in_file(&path)?;
        }
    }
    Ok(())
}

/// Returns the directory that `-o` names.
pub fn directory(common: &Common) -> Result<&Path> {
    if common.output == Path::new("-") {
        return Err(Error::usage("a model is a directory: name it with -o DIR"));
    }
    Ok(&common.output)
}

/// Says measures in a line, after what they are of.
pub fn say(common: &Common, what: &str, measures: &Measures) {
    let list: Vec<String> = measures.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    common.say(&format!("{what}: {}", list.join(", ")));
}

struct Watcher<'a> {
    job: &'a Job<'a>,
    record: Record,
    progress: TrainingProgress,
    path: PathBuf,
    /// Whether an evaluation asks for a checkpoint.
    is_due: bool,
    examples: usize,
    /// Time in steps: without evaluations and checkpoints.
    seconds: f64,
    since: Instant,
}

impl Watch for Watcher<'_> {
    fn step(&mut self, step: &Step) -> Result<()> {
        self.examples += step.examples;
        self.seconds += self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        self.progress.step(step.step, step.total, step.loss, self.examples as f64 / self.seconds);
        self.record.step(step)
    }

    fn evaluation(&mut self, evaluation: &Evaluation) -> Result<()> {
        self.is_due = true;
        let mark = if evaluation.is_best { " (best)" } else { "" };
        let what = format!(
            "step {}, epoch {:.2}{mark}: train loss {:.4}; dev",
            evaluation.step, evaluation.epoch, evaluation.train_loss
        );
        self.progress.above(|| say(self.job.common, &what, &evaluation.measures));
        self.record.evaluation(evaluation)
    }

    fn pause(&mut self, training: &Training) -> Result<bool> {
        let step = training.state().step;
        let stops = self.job.args.stop_after.is_some_and(|last| step >= last) && !training.state().is_over;
        let every = self.job.args.checkpoint_every;
        if std::mem::take(&mut self.is_due) || stops || every.is_some_and(|every| step.is_multiple_of(every))
        {
            checkpoint::write(training, &self.job.purpose()?, &self.path)?;
        }
        self.since = Instant::now();
        Ok(!stops)
    }
}
