//! `nyx-train base-caller`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use nyx::cli::Common;
use nyx::error::InFile;
use nyx::model::bert_snr;
use nyx::model::convert;
use nyx::model::graph::{DAedNet, DeepSnr, Graph, Parameters};
use nyx::model::transformer::graph::Family;
use nyx::tokenizer::Tokenizer;
use nyx::train::callers::{CallTask, Called};
use nyx::train::network::Objective;
use nyx::train::{Examples, Measures, Plan, Schedule, Warmup};
use nyx::{Error, Result, input};

use crate::cnn::Recipe;
use crate::data::Sets;
use crate::drive::{self, Job};
use crate::finetune::BeginArgs;
use crate::options::{self, TrainArgs};

/// Train a network that calls single bases: DeepSNR, D-AEDNet, BertSNR.
///
/// Sequences of one length, 100 bases but for BertSNR, and a 0 or 1 for each base. Recipe of the first two: AdamW 5e-4,
/// decay 1e-5, batches of 32, 10 epochs, stop at the first epoch whose area under the precision-recall curve is not
/// better. BertSNR stands on a DNABERT, --model: AdamW 1e-4, decay 0.01, 10 % of warm-up and a linear fall, 10 epochs of
/// 32, patience 3. Of --sequences and --base-labels the first fifth is the test set and, as published, chooses the
/// weights; --dev-part N takes the Nth part after it instead.
///
/// Example: nyx-train base-caller --architecture deepsnr --sequences TF/sequence.txt --base-labels TF/label.txt -o snr/
#[derive(clap::Args)]
pub struct BaseCallerArgs {
    /// The network
    #[arg(long, value_enum, value_name = "NAME")]
    architecture: Caller,
    /// The DNABERT that bertsnr begins with: a model directory
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Begin with random weights: the DNABERT needs a config.json and a tokenizer only
    #[arg(long, requires = "model")]
    from_scratch: bool,
    /// Sequences, one a line; gzip or not
    #[arg(long, value_name = "FILE")]
    sequences: PathBuf,
    /// A line of 0 and 1 for each of them
    #[arg(long, value_name = "FILE")]
    base_labels: PathBuf,
    /// Begin anew with the next seed, up to N times in all, where training ends with a precision or recall of at most 0.1
    /// (not BertSNR)
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u8).range(1..))]
    tries: u8,
    /// Choose the weights on the Nth fifth (2 to 5) and leave it out of training; 1 is the test set itself
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    dev_part: u8,
    #[command(flatten)]
    train: TrainArgs,
}

/// Networks with a number for each base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Caller {
    /// A convolution, and its way back from the strongest place
    Deepsnr,
    /// A U-net with attention gates
    #[value(name = "d-aednet")]
    DAednet,
    /// DNABERT with a head for the sequence and one for its k-mers
    Bertsnr,
}

/// Runs `nyx-train base-caller`.
pub fn run(args: BaseCallerArgs, common: &Common) -> Result<()> {
    drive::directory(common)?;
    let sets = sets(&args)?;
    let from_scratch = args.from_scratch;
    let base = args.model.clone().map(|model| BeginArgs { model, from_scratch });
    match (args.architecture, &base) {
        (Caller::Bertsnr, Some(base)) => bert_snr(base, sets, &args.train, common),
        (Caller::Bertsnr, None) => Err(Error::usage("bertsnr stands on a DNABERT: name it with --model DIR")),
        (_, Some(_)) => Err(Error::usage("--model is for bertsnr; the others begin with random weights")),
        (Caller::Deepsnr, None) => network(&|| Box::new(DeepSnr), sets, &args, common),
        (Caller::DAednet, None) => network(&|| Box::new(DAedNet), sets, &args, common),
    }
}

/// Reads all examples and takes their fifths apart.
fn sets(args: &BaseCallerArgs) -> Result<Sets> {
    let [sequences, labels] = [&args.sequences, &args.base_labels].map(|path| input::read_text(path));
    let all = Examples::of_bases(&sequences?, &labels?).in_file(&args.base_labels)?;
    let fifth = all.len() / 5;
    if fifth == 0 {
        return Err(Error::data("fewer than five examples cannot be split")).in_file(&args.sequences);
    }
    let part = usize::from(args.dev_part);
    let dev = (part - 1) * fifth..if part == 5 { all.len() } else { part * fifth };
    Ok(Sets {
        train: all.select((fifth..all.len()).filter(|row| !dev.contains(row))),
        dev: all.select(dev.clone()),
        test: Some(all.select(0..fifth)),
    })
}

/// Trains a network over encoded bases, with one seed after the other until one has learned something.
fn network(
    graph: &dyn Fn() -> Box<dyn Graph>,
    sets: Sets,
    args: &BaseCallerArgs,
    common: &Common,
) -> Result<()> {
    let plan = Plan {
        epochs: 10,
        rate: 5e-4,
        decay: 1e-5,
        best_by: "pr_auc".into(),
        patience: Some(1),
        ..Plan::default()
    };
    let recipe = Recipe { plan, batch: 32, objective: Objective::Bases };
    for attempt in 0..u64::from(args.tries) {
        let mut common = common.clone();
        common.seed += attempt;
        let Some(measures) = recipe.train(graph(), sets.clone(), &args.train, &common)? else {
            return Ok(());
        };
        if has_learned(&measures) {
            return Ok(());
        }
        common.say(&format!("seed {} learned nothing", common.seed));
    }
    Err(Error::data(format!(
        "{} seeds have learned nothing: another --learning-rate or more --epochs may",
        args.tries
    )))
}

fn has_learned(measures: &Measures) -> bool {
    let above = |name: &str| measures.iter().any(|(known, value)| known == name && *value > 0.1);
    above("precision") && above("recall")
}

/// Trains BertSNR.
fn bert_snr(base: &BeginArgs, sets: Sets, args: &TrainArgs, common: &Common) -> Result<()> {
    let (mut body, mut parameters, tokenizer) = base.open(common.seed)?;
    let width = match &tokenizer {
        Tokenizer::Kmer(kmer) if body.graph.family() == Family::Bert => kmer.width(),
        _ => return Err(Error::usage("bertsnr stands on a DNABERT over overlapping k-mers")),
    };
    let window = sets.train.length(None)?;
    for head in ["cls.", "classifier."] {
        parameters.remove_under(head);
    }
    body.graph.add_callers(&mut parameters, common.seed)?;
    body.config.architectures = vec![bert_snr::NAME.into()];
    (body.config.window, body.config.labels) = (Some(window), None);
    let recipe = Plan {
        epochs: 10,
        rate: 1e-4,
        decay: 0.01,
        schedule: Schedule::Linear,
        warmup: Warmup::Part(0.1),
        best_by: "pr_auc".into(),
        patience: Some(3),
        ..Plan::default()
    };
    let plan = args.plan(recipe, common.seed)?;
    let batch = args.train_batch.map_or(32, |batch| batch as usize);
    sets.say(common);
    let mut settings = options::settings(&plan, batch);
    settings.insert("model".into(), base.model.display().to_string().into());
    settings.insert("architecture".into(), bert_snr::NAME.into());
    settings.insert("data".into(), sets.digest().into());
    let read = |examples: &Examples| Called::of(&tokenizer, examples, window);
    let task = CallTask { body, width, train: read(&sets.train)?, dev: read(&sets.dev)?, batch };
    let job = Job { common, args, plan, settings };
    let write = |trained: &Parameters, directory: &Path| {
        convert::write_directory(&task.body.opened(trained)?, &task.body.path, directory)
    };
    let test = |trained: &Parameters| match &sets.test {
        Some(test) => task.measure(trained, &read(test)?).map(Some),
        None => Ok(None),
    };
    job.complete(&task, parameters, write, test).map(drop)
}
