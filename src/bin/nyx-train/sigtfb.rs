//! `nyx-train sigtfb`.

use std::path::{Path, PathBuf};

use nyx::cli::Common;
use nyx::error::InFile;
use nyx::model::Opened;
use nyx::model::convert::{self, Converted};
use nyx::model::graph::{CellTypes, Graph, Initial, Parameters, ToldCell};
use nyx::train::Plan;
use nyx::train::cells::{CellTask, Stage};
use nyx::train::optimizer::{Betas, Rule};
use nyx::{Error, Result};
use serde_json::{Map, Value};

use crate::data::{DataArgs, Sets};
use crate::drive::{self, Job};
use crate::options::{self, TrainArgs};

/// Train SigTFB: in which cell types a factor binds, and whether knowing the cell type helps.
///
/// Labels are a 0 or 1 for each cell type, as `nyx-extract merge-peaks` makes them. Stage 1 has a logit for each; stage
/// 2, on the filters of --stage1, is told the cell type of half of a batch. In both, each batch goes round the cell types
/// and draws a bound and an unbound sequence of each (a draw: --train-batch counts draws). `auc_difference` is what
/// knowing the cell type is worth. Published values come from searches, so the defaults are round numbers inside these
/// (nyx-tune searches): stage 1 Adam 1e-3, decay 1e-6, 50 epochs of 64 draws; stage 2 SGD 1e-2 with Nesterov's momentum
/// 0.1, decay 1e-6. The best by the dev set's pr_auc; without a dev set a fifth of the training set becomes one.
///
/// Example: nyx-extract merge-peaks CTCF.tsv --fasta hg38.fa | nyx-train sigtfb --train - -o ctcf/
#[derive(clap::Args)]
pub struct SigTfbArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Train stage 2 on the filters of this stage 1
    #[arg(long, value_name = "DIR")]
    stage1: Option<PathBuf>,
    /// Keep the filters of stage 1 as they are
    #[arg(long, requires = "stage1")]
    freeze: bool,
    /// Names of the cell types, where the data has none
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    cells: Vec<String>,
    /// Filters of stage 1
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "stage1")]
    filters: u16,
    /// Deviation of the filters at the beginning
    #[arg(long, value_name = "STD", default_value_t = 1.0, conflicts_with = "stage1")]
    conv_std: f64,
    /// Deviation of the other weights at the beginning
    #[arg(long, value_name = "STD", default_value_t = 0.01)]
    linear_std: f64,
    /// Numbers that a cell type becomes in stage 2 before it becomes one
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..), requires = "stage1")]
    pre_concat: u16,
    /// Numbers before the logits of stage 2
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..), requires = "stage1")]
    neurons: u16,
    /// The chance of a number of stage 2 to drop out
    #[arg(long, value_name = "RATE", default_value_t = 0.001, requires = "stage1")]
    dropout: f64,
    #[command(flatten)]
    train: TrainArgs,
}

impl SigTfbArgs {
    /// Reads the sets; the cell types of the training set have their names.
    fn sets(&self, seed: u64) -> Result<Sets> {
        let mut sets = self.data.read_or_split(seed)?;
        if !self.cells.is_empty() {
            sets.train.names.clone_from(&self.cells);
        }
        let (names, cells) = (sets.train.names.len(), sets.train.labels[0].len());
        match names == cells || names == 0 {
            true => Ok(sets),
            false => Err(Error::usage(format!("{names} names of cell types; a label has {cells} numbers"))),
        }
    }

    fn settings(&self, plan: &Plan, draws: usize, stage: &Stage, sets: &Sets) -> Map<String, Value> {
        let mut settings = options::settings(plan, draws);
        let stage_1 = self.stage1.as_ref().map(|path| path.display().to_string());
        settings.insert("network".into(), format!("{stage:?}").into());
        settings.insert("stage1".into(), stage_1.into());
        settings.insert("freeze".into(), self.freeze.into());
        settings.insert("data".into(), sets.digest().into());
        settings
    }
}

/// Runs `nyx-train sigtfb`.
pub fn run(args: SigTfbArgs, common: &Common) -> Result<()> {
    drive::directory(common)?;
    if !(0.0..1.0).contains(&args.dropout) {
        return Err(Error::usage("--dropout is from 0 to below 1"));
    }
    let mut sets = args.sets(common.seed)?;
    let (stage, parameters) = match &args.stage1 {
        None => stage_1(&args, &sets, common.seed)?,
        Some(path) => stage_2(&args, path, &mut sets, common.seed)?,
    };
    let plan = args.train.plan(recipe(&stage), common.seed)?;
    let draws = args.train.train_batch.map_or(64, |draws| draws as usize);
    sets.say(common);
    let settings = args.settings(&plan, draws, &stage, &sets);
    let Sets { train, dev, test } = sets;
    let cells = train.labels[0].len();
    let task = CellTask::new(stage, train, dev, draws)?;
    let used = task.cells().count();
    if used < cells {
        common.say(&format!("{used} of {cells} cell types have bound and unbound sequences to learn from"));
    }
    let job = Job { common, args: &args.train, plan, settings };
    let write = |trained: &Parameters, directory: &Path| {
        convert::write(&Converted { config: task.config(), weights: trained.weights()? }, directory)
    };
    let test = |trained: &Parameters| test.map(|test| task.measure(trained, &test)).transpose();
    job.complete(&task, parameters, write, test).map(drop)
}

fn recipe(stage: &Stage) -> Plan {
    let (rule, rate) = match stage {
        Stage::One(_) => (Rule::Adam(Betas::default()), 1e-3),
        Stage::Two(_) => (Rule::Sgd { momentum: 0.1, nesterov: true }, 1e-2),
    };
    Plan { epochs: 50, rule, rate, decay: 1e-6, best_by: "pr_auc".into(), ..Plan::default() }
}

/// Returns stage 1 and the weights that it begins with.
fn stage_1(args: &SigTfbArgs, sets: &Sets, seed: u64) -> Result<(Stage, Parameters)> {
    let network = CellTypes {
        window: sets.train.length(None)?,
        filters: args.filters.into(),
        cells: sets.train.labels[0].len(),
        conv_deviation: args.conv_std,
        linear_deviation: args.linear_std,
    };
    let mut initial = Initial::new(seed);
    network.initial(&mut initial);
    Ok((Stage::One(network), initial.finish()))
}

/// Returns stage 2 on a stage 1 that was trained, and the weights that it begins with. Where the data does not name the
/// cell types, stage 1 does.
fn stage_2(args: &SigTfbArgs, path: &Path, sets: &mut Sets, seed: u64) -> Result<(Stage, Parameters)> {
    let Opened { config, weights, .. } = Opened::read(path)?;
    let [filters, ..] = weights.shape::<4>("conv1.weight").in_file(path)?;
    let (known, names) = (config.labels.unwrap_or_default(), &mut sets.train.names);
    if names.is_empty() {
        *names = known;
    } else if !known.is_empty() && known != *names {
        return Err(Error::data("stage 1 was trained on other cell types, or in another order"))
            .in_file(path);
    }
    let network = ToldCell {
        window: sets.train.length(None)?,
        filters,
        cells: sets.train.labels[0].len(),
        units: args.pre_concat.into(),
        neurons: args.neurons.into(),
        dropout: args.dropout,
        linear_deviation: args.linear_std,
    };
    let mut parameters = network.initial(&weights, seed).in_file(path)?;
    if args.freeze {
        parameters.freeze(|name| !ToldCell::is_stage_1(name));
    }
    Ok((Stage::Two(network), parameters))
}
