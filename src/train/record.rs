//! The record of a training on disk: metrics as JSON lines, what Weights & Biases reads, TensorBoard's events,
//! and curves. Nothing leaves the machine.
//!
//! A line of `metrics.jsonl` is an object with W&B's `_step`, `_timestamp` and `_runtime` and with `train/…` or
//! `eval/…`; `config.yaml` and `wandb-summary.json` have the layout of a W&B run, so that the lines can be logged
//! to a run later.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use serde_json::{Map, Value};

use super::curves::{self, Line};
use super::run::{Evaluation, Measures, Step};
use super::tensorboard::Events;
use crate::error::{InFile, Result};
use crate::output;

/// Steps between lines of training losses.
const EVERY: u64 = 10;

/// The record of a training.
pub struct Record {
    directory: PathBuf,
    lines: File,
    events: Events<File>,
    began: Instant,
    losses: (f64, u64),
    curves: Vec<(String, Vec<(f64, f64)>)>,
    summary: Map<String, Value>,
}

impl Record {
    /// Begins a record in `directory`, or goes on with one: lines after `step` are those of a training that was
    /// stopped after its last checkpoint, and are taken off.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written.
    pub fn begin(directory: &Path, settings: &Map<String, Value>, step: u64) -> Result<Self> {
        fs::create_dir_all(directory).in_file(directory)?;
        let path = directory.join("metrics.jsonl");
        let kept = if step == 0 { Vec::new() } else { lines_until(&path, step)? };
        let text: String = kept.iter().map(|line| format!("{line}\n")).collect();
        output::write_file(&path, text.as_bytes())?;
        let yaml: String = settings
            .iter()
            .map(|(name, value)| format!("{name}:\n  desc: null\n  value: {value}\n"))
            .collect();
        output::write_file(&directory.join("config.yaml"), yaml.as_bytes())?;
        let time = now();
        let events = directory.join(format!("events.out.tfevents.{:.0}.nyx.{}", time, std::process::id()));
        let mut record = Self {
            lines: File::options().append(true).open(&path).in_file(&path)?,
            events: Events::new(File::create(&events).in_file(&events)?, time)?,
            directory: directory.into(),
            began: Instant::now(),
            losses: (0.0, 0),
            curves: Vec::new(),
            summary: Map::new(),
        };
        for line in &kept {
            let step = line["_step"].as_f64().unwrap_or(0.0);
            let values = line.as_object().into_iter().flatten();
            for (name, value) in values.filter(|(name, _)| !name.starts_with('_')) {
                record.plot(name, step, value.as_f64().unwrap_or(f64::NAN));
            }
        }
        Ok(record)
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the seconds since it began.
    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Takes down a step; several make a line.
    ///
    /// # Errors
    ///
    /// When the disk is full.
    pub fn step(&mut self, step: &Step) -> Result<()> {
        self.losses = (self.losses.0 + step.loss, self.losses.1 + 1);
        if !step.step.is_multiple_of(EVERY) && step.step != step.total {
            return Ok(());
        }
        let (losses, count) = std::mem::take(&mut self.losses);
        let values = [
            ("train/loss", losses / count as f64),
            ("train/learning_rate", step.rate),
            ("train/grad_norm", step.norm),
            ("train/epoch", step.epoch),
        ];
        self.write(step.step, &values)
    }

    /// Takes down an evaluation, and draws the curves.
    ///
    /// # Errors
    ///
    /// When the disk is full.
    pub fn evaluation(&mut self, evaluation: &Evaluation) -> Result<()> {
        let names: Vec<String> = evaluation.measures.iter().map(|(name, _)| format!("eval/{name}")).collect();
        let values: Vec<(&str, f64)> = names
            .iter()
            .map(String::as_str)
            .zip(evaluation.measures.iter().map(|(_, value)| *value))
            .collect();
        self.write(evaluation.step, &values)?;
        self.draw()
    }

    /// Takes down the measures of the test set, and ends the record.
    ///
    /// # Errors
    ///
    /// When the disk is full.
    pub fn finish(&mut self, step: u64, test: Option<&Measures>) -> Result<()> {
        let mut results = Map::new();
        for (name, value) in test.into_iter().flatten() {
            self.summary.insert(format!("test/{name}"), (*value).into());
            results.insert(format!("eval_{name}"), (*value).into());
        }
        self.summary.insert("_step".into(), step.into());
        self.summary.insert("_runtime".into(), self.seconds().into());
        if !results.is_empty() {
            write_json(&self.directory.join("eval_results.json"), results)?;
        }
        write_json(&self.directory.join("wandb-summary.json"), self.summary.clone())?;
        self.draw()
    }

    fn write(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let time = now();
        let mut line = Map::new();
        line.insert("_step".into(), step.into());
        line.insert("_timestamp".into(), time.into());
        line.insert("_runtime".into(), self.seconds().into());
        for &(name, value) in values {
            line.insert(name.into(), value.into());
            self.summary.insert(name.into(), value.into());
            self.plot(name, step as f64, value);
        }
        writeln!(self.lines, "{}", Value::Object(line))?;
        self.events.scalars(time, step, values.iter().copied())
    }

    fn plot(&mut self, name: &str, step: f64, value: f64) {
        match self.curves.iter_mut().find(|(known, _)| known == name) {
            Some((_, points)) => points.push((step, value)),
            None => self.curves.push((name.into(), vec![(step, value)])),
        }
    }

    fn draw(&self) -> Result<()> {
        let of = |wanted: &dyn Fn(&str) -> bool| -> Vec<Line> {
            let curves = self.curves.iter().filter(|(name, _)| wanted(name));
            curves.map(|(name, points)| Line { name: name.clone(), points: points.clone() }).collect()
        };
        let panels = [
            ("loss", of(&|name| name.ends_with("/loss"))),
            ("measures of the dev set", of(&|name| name.starts_with("eval/") && name != "eval/loss")),
            ("learning rate", of(&|name| name == "train/learning_rate")),
        ];
        output::write_file(&self.directory.join("curves.svg"), curves::draw(&panels).as_bytes())
    }
}

/// Returns the lines of a record up to a step.
fn lines_until(path: &Path, step: u64) -> Result<Vec<Value>> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).in_file(path)?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.filter(|line| line["_step"].as_u64().is_some_and(|at| at <= step)).collect())
}

fn write_json(path: &Path, values: Map<String, Value>) -> Result<()> {
    let mut text = serde_json::to_string_pretty(&Value::Object(values))?;
    text.push('\n');
    output::write_file(path, text.as_bytes())
}

/// Returns seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_goes_on_has_no_line_twice() {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Map::new();
        settings.insert("learning_rate".into(), 0.001.into());
        let step = |step| Step { step, total: 40, epoch: 0.5, loss: 1.0, rate: 0.1, norm: 2.0, examples: 3 };
        let mut record = Record::begin(directory.path(), &settings, 0).unwrap();
        (1..=30).for_each(|number| record.step(&step(number)).unwrap());
        drop(record);
        let mut record = Record::begin(directory.path(), &settings, 20).unwrap();
        (21..=40).for_each(|number| record.step(&step(number)).unwrap());
        record.finish(40, Some(&vec![("roc_auc".into(), 0.9)])).unwrap();
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        let steps: Vec<u64> = read("metrics.jsonl")
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["_step"].as_u64().unwrap())
            .collect();
        assert_eq!(steps, [10, 20, 30, 40]);
        assert!(read("eval_results.json").contains("\"eval_roc_auc\": 0.9"));
        assert!(read("wandb-summary.json").contains("\"train/loss\": 1.0"));
        assert!(read("config.yaml").contains("learning_rate:\n  desc: null\n  value: 0.001"));
        let points =
            read("curves.svg").split("points=\"").nth(1).unwrap().split('"').next().unwrap().to_string();
        assert_eq!(points.split(' ').count(), 4);
    }
}
