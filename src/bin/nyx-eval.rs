//! nyx-eval: predictions with labels → every number that papers report, with plots.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use nyx::cli::{self, Common};
use nyx::error::{Error, InFile, Result};
use nyx::evaluate::{self, Average, Interval, Options, rows};
use nyx::input::{self, Opened};
use nyx::output;
use nyx::report::evaluation::{self, Evaluated};
use serde_json::{Map, Value, json};

/// The thresholds that the residual network's training tries, and a finer row of them.
const COARSE: (f64, usize) = (0.05, 17);
const FINE: (f64, usize) = (0.01, 81);

/// Compare predictions with labels.
///
/// Reads rows that nyx-score has answered (their columns `label` and `probs` or `base_scores`) or tables with a header,
/// and writes a line of numbers for each input. Names say how a number was averaged: `f1_positive` is that of the
/// positive class, `f1_macro` the mean over classes; `average_precision` and `pr_auc_trapezoid` are different areas
/// under one curve. A folder stands for all files in it. Labels and scores are held in memory.
///
/// Example: nyx-extract sequences test.csv | nyx-score --model ctcf/ | nyx-eval - --html eval.html
#[derive(Parser)]
#[command(name = "nyx-eval", arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Scored rows (an Arrow stream, an Arrow or Parquet file), a CSV or TSV with a header, or a folder of those;
    /// `-` is standard input
    #[arg(value_name = "INPUT", required = true)]
    inputs: Vec<PathBuf>,
    /// Names of the inputs in the tables, by comma [default: those of the files]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    names: Vec<String>,
    /// Inputs are models that were asked about the same rows: tell what they differ by from the first
    #[arg(long)]
    compare: bool,
    /// Scores above it are positive: a number, best-f1 (of .1, .15, … .9) or best-f1-fine (of .1, .11, … .9)
    #[arg(long, value_name = "VALUE", default_value = "0.5")]
    threshold: String,
    /// Means over classes: those of the positive class, macro, or all
    #[arg(long, value_enum, value_name = "MEAN", default_value_t)]
    average: AverageArg,
    /// Means over batches of so many rows instead of numbers of all rows
    #[arg(long, value_name = "ROWS", conflicts_with_all = ["bootstrap", "compare"])]
    per_batch: Option<usize>,
    /// Bootstrap samples for intervals (1000 with --compare)
    #[arg(long, value_name = "N")]
    bootstrap: Option<usize>,
    /// Part of the bootstrap samples that an interval holds
    #[arg(long, value_name = "PART", default_value_t = 0.95)]
    level: f64,
    /// Decimals of the table [default: all]
    #[arg(long, value_name = "DIGITS")]
    round: Option<usize>,
    /// Column of a table with the labels
    #[arg(long, value_name = "COLUMN", default_value = "label")]
    label_column: String,
    /// Column of a table with the predictions
    #[arg(long, value_name = "COLUMN", default_value = "score")]
    score_column: String,
    /// Lists in a table are of bases, not of several labels
    #[arg(long)]
    per_base: bool,
    /// Write everything as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with plots, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum AverageArg {
    #[default]
    All,
    Positive,
    Macro,
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(args: Args) -> Result<()> {
    args.check()?;
    let mut sets = args.sets()?;
    let mut differences = Vec::new();
    let samples = args.bootstrap.or(args.compare.then_some(1000));
    if let Some(samples) = samples {
        differences = args.bootstrap(&mut sets, samples)?;
    }
    output::write_file(&args.common.output, args.table(&sets, &differences).as_bytes())?;
    let step = args.common.step();
    if let Some(path) = &args.html {
        output::write_file(path, evaluation::page(&sets, &differences, &step).as_bytes())?;
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&document(&sets, &differences, &step.command))?;
        output::write_file(path, (text + "\n").as_bytes())?;
    }
    let rows: usize = sets.iter().map(|set| set.predictions.len()).sum();
    let without: u64 = sets.iter().map(|set| set.without).sum();
    let lacking =
        if without > 0 { format!("; {without} rows lack a label or a prediction") } else { String::new() };
    args.common.say(&format!("{rows} predictions in {} sets{lacking}", sets.len()));
    Ok(())
}

/// Returns the files of a folder, sorted, with their places in it as names.
fn files(folder: &Path, name: &str, found: &mut Vec<(String, PathBuf)>) -> Result<()> {
    let entries = std::fs::read_dir(folder).in_file(folder)?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>().in_file(folder)?;
    paths.sort();
    for path in paths {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = if name.is_empty() { stem } else { format!("{name}/{stem}") };
        match path.is_dir() {
            true => files(&path, &name, found)?,
            false => found.push((name, path)),
        }
    }
    Ok(())
}

impl Args {
    fn check(&self) -> Result<()> {
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(Error::usage(format!("--level {}: it must lie between 0 and 1", self.level)));
        }
        if self.compare && self.inputs.len() < 2 {
            return Err(Error::usage("--compare needs two inputs at least"));
        }
        if matches!(self.bootstrap, Some(0)) || matches!(self.per_batch, Some(0)) {
            return Err(Error::usage("--bootstrap and --per-batch need a number above 0"));
        }
        let number = self.threshold.parse::<f64>().is_ok_and(f64::is_finite);
        if !number && !matches!(self.threshold.as_str(), "best-f1" | "best-f1-fine") {
            return Err(Error::usage(format!(
                "--threshold {}: write a number, best-f1 or best-f1-fine",
                self.threshold
            )));
        }
        Ok(())
    }

    fn sets(&self) -> Result<Vec<Evaluated>> {
        let mut found = Vec::new();
        for path in &self.inputs {
            match path.is_dir() {
                true => files(path, "", &mut found)?,
                false => {
                    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                    found.push((stem.into_owned(), path.clone()));
                }
            }
        }
        if found.is_empty() {
            return Err(Error::data("there is no file in the folder"));
        }
        if !self.names.is_empty() && self.names.len() != found.len() {
            return Err(Error::usage(format!(
                "--names: {} names for {} inputs",
                self.names.len(),
                found.len()
            )));
        }
        found.iter_mut().zip(&self.names).for_each(|(found, name)| found.0 = name.clone());
        found.into_iter().map(|(name, path)| self.set(name, &path).in_file(&path)).collect()
    }

    fn set(&self, name: String, path: &Path) -> Result<Evaluated> {
        let (predictions, without) = match input::open_any(path)? {
            Opened::Pipe(pipe) => rows::from_pipe(pipe)?,
            Opened::Text(text) => {
                rows::from_table(text, &self.label_column, &self.score_column, self.per_base)?
            }
        };
        let candidates = |(step, count): (f64, usize)| -> Vec<f64> {
            (0..count).map(|index| 0.1 + index as f64 * step).collect()
        };
        let best = |grid| predictions.best_threshold(&candidates(grid)).unwrap_or(0.5);
        let threshold = match self.threshold.as_str() {
            "best-f1" => best(COARSE),
            "best-f1-fine" => best(FINE),
            number => number.parse().expect("checked"),
        };
        let options = self.options(threshold);
        let metrics = match self.per_batch {
            Some(rows) => predictions.batch_means(rows, &options),
            None => predictions.metrics(&options),
        };
        Ok(Evaluated { name, predictions, without, threshold, metrics, intervals: Vec::new() })
    }

    fn options(&self, threshold: f64) -> Options {
        let average = match self.average {
            AverageArg::All => Average::All,
            AverageArg::Positive => Average::Positive,
            AverageArg::Macro => Average::Macro,
        };
        Options { threshold, average }
    }

    /// Adds intervals to the sets; returns the differences of models from the first.
    fn bootstrap(&self, sets: &mut [Evaluated], samples: usize) -> Result<Vec<(String, Vec<Interval>)>> {
        let groups: Vec<usize> = if self.compare { vec![sets.len()] } else { vec![1; sets.len()] };
        let (mut first, mut differences) = (0, Vec::new());
        for size in groups {
            let group = &mut sets[first..first + size];
            let options: Vec<Options> = group.iter().map(|set| self.options(set.threshold)).collect();
            let models: Vec<_> = group.iter().map(|set| set.predictions.clone()).collect();
            let (own, against) =
                evaluate::bootstrap(&models, &options, samples, self.level, self.common.seed)?;
            group.iter_mut().zip(own).for_each(|(set, intervals)| set.intervals = intervals);
            let name = |index: usize| format!("{} - {}", group[index + 1].name, group[0].name);
            differences.extend(against.into_iter().enumerate().map(|(index, found)| (name(index), found)));
            first += size;
        }
        Ok(differences)
    }

    fn number(&self, value: Option<f64>) -> String {
        match (value, self.round) {
            (None, _) => String::new(),
            (Some(value), Some(digits)) => format!("{value:.digits$}"),
            (Some(value), None) => format!("{value}"),
        }
    }

    /// Returns a line for each set, then their mean and median, then differences.
    fn table(&self, sets: &[Evaluated], differences: &[(String, Vec<Interval>)]) -> String {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in sets.iter().flat_map(|set| &set.metrics) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let with_intervals = sets.iter().any(|set| !set.intervals.is_empty());
        let mut text = String::from("set\tpredictions\tthreshold");
        for name in &names {
            let _ = write!(text, "\t{name}");
            if with_intervals {
                let _ = write!(text, "\t{name}_low\t{name}_high");
            }
        }
        text.push('\n');
        for set in sets {
            let _ = write!(text, "{}\t{}\t{}", set.name, set.predictions.len(), set.threshold);
            for name in &names {
                let value = set.metrics.iter().find(|(other, _)| other == name).and_then(|(_, value)| *value);
                self.cells(&mut text, name, value, &set.intervals, with_intervals);
            }
            text.push('\n');
        }
        if sets.len() > 1 && !self.compare {
            for (title, of) in [("mean", mean as fn(&[f64]) -> f64), ("median", median)] {
                let _ = write!(text, "{title}\t\t");
                for name in &names {
                    let values: Vec<f64> = sets
                        .iter()
                        .filter_map(|set| set.metrics.iter().find(|(other, _)| other == name)?.1)
                        .collect();
                    self.cells(
                        &mut text,
                        name,
                        (!values.is_empty()).then(|| of(&values)),
                        &[],
                        with_intervals,
                    );
                }
                text.push('\n');
            }
        }
        for (title, intervals) in differences {
            let _ = write!(text, "{title}\t\t");
            for name in &names {
                let value =
                    intervals.iter().find(|interval| interval.name == *name).and_then(|found| found.value);
                self.cells(&mut text, name, value, intervals, with_intervals);
            }
            text.push('\n');
        }
        text
    }

    fn cells(&self, text: &mut String, name: &str, value: Option<f64>, intervals: &[Interval], with: bool) {
        let _ = write!(text, "\t{}", self.number(value));
        if with {
            let interval = intervals.iter().find(|interval| interval.name == name);
            let (low, high) = interval.map_or((None, None), |interval| (interval.low, interval.high));
            let _ = write!(text, "\t{}\t{}", self.number(low), self.number(high));
        }
    }
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

fn document(sets: &[Evaluated], differences: &[(String, Vec<Interval>)], command: &str) -> Value {
    let intervals = |intervals: &[Interval]| -> Map<String, Value> {
        let one = |interval: &Interval| {
            (
                interval.name.clone(),
                json!({ "value": interval.value, "low": interval.low, "high": interval.high }),
            )
        };
        intervals.iter().map(one).collect()
    };
    let set = |set: &Evaluated| {
        let metrics: Map<String, Value> =
            set.metrics.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({
            "name": set.name,
            "predictions": set.predictions.len(),
            "rows_without": set.without,
            "threshold": set.threshold,
            "metrics": metrics,
            "confusion": set.predictions.confusion(set.threshold).map(|confusion| confusion.counts().to_vec()),
            "intervals": intervals(&set.intervals),
        })
    };
    let difference =
        |(name, found): &(String, Vec<Interval>)| json!({ "name": name, "intervals": intervals(found) });
    json!({
        "command": command,
        "sets": sets.iter().map(set).collect::<Vec<_>>(),
        "differences": differences.iter().map(difference).collect::<Vec<_>>(),
    })
}
