//! nyx-eval: predictions with labels → every number that papers report, with plots.

mod compare;
mod document;
mod inputs;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use nyx::cli::{self, Common};
use nyx::error::{Error, InFile, Result};
use nyx::evaluate::{Average, OneClass, Options, rows};
use nyx::input::{self, Opened};
use nyx::output;
use nyx::report::evaluation::{self, Evaluated, pictures};

use compare::{Bootstrap, Difference};
use table::Table;

/// The thresholds that the residual network's training tries, and a finer row of them.
const COARSE: (f64, usize) = (0.05, 17);
const FINE: (f64, usize) = (0.01, 81);

/// Compare predictions with labels.
///
/// Reads rows that nyx-score has answered (their columns `label` and `probs` or `base_scores`) or tables with a header,
/// and writes a line of numbers for each input. Names say how a number was averaged: `f1_positive` is that of the
/// positive class, `f1_macro` the mean over classes; `average_precision` and `pr_auc_trapezoid` are different areas
/// under one curve. A folder stands for all files in it: a line for each, their mean and median. With --compare, inputs
/// are models on the same rows, or folders of models on the same sets: those with the same names are compared, and the mean
/// difference over sets has an interval from samples of the sets. Labels and scores are held in memory.
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
    /// Inputs are models that were asked about the same rows, or folders of such: tell what they differ by from the first
    #[arg(long)]
    compare: bool,
    /// Scores above it are positive: a number, best-f1 (of .1, .15, … .9) or best-f1-fine (of .1, .11, … .9)
    #[arg(long, value_name = "VALUE", default_value = "0.5")]
    threshold: String,
    /// Means over classes: those of the positive class, macro, or all
    #[arg(long, value_enum, value_name = "MEAN", default_value_t)]
    average: AverageArg,
    /// Areas under the ROC curve where all labels are the same: none, or the accuracy instead (SigTFB)
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    one_class: OneClassArg,
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
    /// Write the points of the ROC, precision-recall and calibration curves as a table, too
    #[arg(long, value_name = "FILE")]
    curves: Option<PathBuf>,
    /// Write roc.svg, precision_recall.svg, calibration.svg and confusion.svg into this folder, too
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum AverageArg {
    #[default]
    All,
    Positive,
    Macro,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum OneClassArg {
    #[default]
    None,
    Accuracy,
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
    args.common.check_outputs(&[
        ("--json", args.json.as_deref()),
        ("--html", args.html.as_deref()),
        ("--curves", args.curves.as_deref()),
    ])?;
    args.check()?;
    let models = args.models();
    let mut sets = args.sets(&models)?;
    let (of_rows, over_sets) = args.differences(&mut sets, &models)?;
    let all: Vec<Difference> = of_rows.iter().chain(&over_sets).cloned().collect();
    let groups = args.groups(sets.len(), &models);
    let table = Table { round: args.round, sets: &sets, groups: &groups, differences: &all };
    output::write_file(&args.common.output, table.text().as_bytes())?;
    // A page of hundreds of differences tells nothing: of folders it shows those over sets.
    let shown = if over_sets.is_empty() { &of_rows } else { &over_sets };
    args.write_files(&sets, &all, shown)?;
    let rows: usize = sets.iter().map(|set| set.predictions.len()).sum();
    let without: u64 = sets.iter().map(|set| set.without).sum();
    let lacking =
        if without > 0 { format!("; {without} rows lack a label or a prediction") } else { String::new() };
    args.common.say(&format!("{rows} predictions in {} sets{lacking}", sets.len()));
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

    /// Returns the names of models whose folders are compared; none where inputs are files.
    fn models(&self) -> Vec<String> {
        let folders = self.compare && self.inputs.iter().all(|path| path.is_dir());
        match (folders, self.names.len() == self.inputs.len()) {
            (false, _) => Vec::new(),
            (true, true) => self.names.clone(),
            (true, false) => self.inputs.iter().map(|path| inputs::stem(path)).collect(),
        }
    }

    /// Reads and evaluates all sets; of folders of models, those of one set stand side by side.
    fn sets(&self, models: &[String]) -> Result<Vec<Evaluated>> {
        let mut found = Vec::new();
        if models.is_empty() {
            found = inputs::all(&self.inputs)?;
            found.iter_mut().zip(&self.names).for_each(|(found, name)| found.0 = name.clone());
        } else {
            for (set, paths) in inputs::side_by_side(&self.inputs)? {
                let named = models.iter().zip(paths).map(|(model, path)| (format!("{model}/{set}"), path));
                found.extend(named);
            }
        }
        let wanted = if models.is_empty() { found.len() } else { models.len() };
        if !self.names.is_empty() && self.names.len() != wanted {
            let message = format!("--names: {} names for {wanted} inputs", self.names.len());
            return Err(Error::usage(message));
        }
        found.into_iter().map(|(name, path)| self.set(name, &path).in_file(&path)).collect()
    }

    /// Adds intervals; returns what models differ by on rows, and over sets.
    fn differences(
        &self,
        sets: &mut [Evaluated],
        models: &[String],
    ) -> Result<(Vec<Difference>, Vec<Difference>)> {
        let Some(samples) = self.bootstrap.or(self.compare.then_some(1000)) else {
            return Ok((Vec::new(), Vec::new()));
        };
        let bootstrap = Bootstrap { samples, level: self.level, seed: self.common.seed };
        let side_by_side = match (self.compare, models.len()) {
            (false, _) => 1,
            (true, 0) => sets.len(),
            (true, models) => models,
        };
        let of_rows = bootstrap.rows(sets, side_by_side, |set| self.options(set.threshold))?;
        let over_sets = if models.is_empty() { Vec::new() } else { bootstrap.sets(sets, models) };
        Ok((of_rows, over_sets))
    }

    /// Returns which sets have a mean and a median: those of a model, or all.
    fn groups(&self, sets: usize, models: &[String]) -> Vec<(String, Vec<usize>)> {
        let of =
            |(index, model): (usize, &String)| (model.clone(), (index..sets).step_by(models.len()).collect());
        match (self.compare, sets) {
            (true, _) => models.iter().enumerate().map(of).collect(),
            (false, 0 | 1) => Vec::new(),
            (false, sets) => vec![(String::new(), (0..sets).collect())],
        }
    }

    /// Writes the page, the JSON, the curves and the pictures that were asked for.
    fn write_files(&self, sets: &[Evaluated], all: &[Difference], shown: &[Difference]) -> Result<()> {
        let step = self.common.step();
        if let Some(path) = &self.html {
            output::write_file(path, evaluation::page(sets, shown, &step).as_bytes())?;
        }
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&document::document(sets, all, &step.command))?;
            output::write_file(path, (text + "\n").as_bytes())?;
        }
        if let Some(path) = &self.curves {
            output::write_file(path, pictures::table(sets).as_bytes())?;
        }
        if let Some(folder) = &self.svg {
            std::fs::create_dir_all(folder).in_file(folder)?;
            for (name, picture) in pictures::all(sets) {
                output::write_file(&folder.join(format!("{name}.svg")), picture.as_bytes())?;
            }
        }
        Ok(())
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
        let one_class = match self.one_class {
            OneClassArg::None => OneClass::None,
            OneClassArg::Accuracy => OneClass::Accuracy,
        };
        Options { threshold, average, one_class }
    }
}
