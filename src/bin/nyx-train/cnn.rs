//! `nyx-train cnn` and `nyx-train base-caller`.

use std::path::PathBuf;

use clap::ValueEnum;
use nyx::cli::Common;
use nyx::error::InFile;
use nyx::model::convert::{self, Converted};
use nyx::model::graph::{DAedNet, DanQ, DeepBind, DeepSnr, Graph, Initial};
use nyx::train::network::{NetworkTask, Objective};
use nyx::train::optimizer::Decaying;
use nyx::train::{Examples, Measures, Plan, Schedule, Task, Warmup};
use nyx::{Error, Result, input};

use crate::data::{DataArgs, Sets};
use crate::drive::{self, Job};
use crate::options::{self, TrainArgs};

/// Train a network that says whether a sequence is bound: DeepBind, DanQ.
///
/// NyxBind's recipe: AdamW 1e-3, 30 steps of warm-up and a linear fall, 15 epochs of batches of 64, an evaluation
/// every 50 steps, the best by dev loss, patience 10. Every sequence and its reverse complement are examples of their
/// own, in all three sets.
///
/// Example: nyx-train cnn --architecture danq --data TF/ -o danq/
#[derive(clap::Args)]
pub struct CnnArgs {
    /// The network
    #[arg(long, value_enum, value_name = "NAME")]
    architecture: Classifier,
    #[command(flatten)]
    data: DataArgs,
    /// Take sequences as they are, without their reverse complements
    #[arg(long)]
    no_reverse_complement: bool,
    #[command(flatten)]
    train: TrainArgs,
}

/// Networks with one number for a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Classifier {
    /// A convolution and its maximum; sequences of any one length
    Deepbind,
    /// A convolution and a recurrent memory; 101 bases
    Danq,
}

/// Train a network that calls single bases: DeepSNR, D-AEDNet.
///
/// Sequences of 100 bases and a 0 or 1 for each base. Recipe: AdamW 5e-4, decay 1e-5, batches of 32, 10 epochs, stop at
/// the first epoch whose area under the precision-recall curve is not better. Of --sequences and --base-labels the first
/// fifth is the test set and, as published, chooses the weights; --dev-part N takes the Nth part after it instead.
///
/// Example: nyx-train base-caller --architecture deepsnr --sequences TF/sequence.txt --base-labels TF/label.txt -o snr/
#[derive(clap::Args)]
pub struct BaseCallerArgs {
    /// The network
    #[arg(long, value_enum, value_name = "NAME")]
    architecture: Caller,
    /// Sequences, one a line; gzip or not
    #[arg(long, value_name = "FILE")]
    sequences: PathBuf,
    /// A line of 0 and 1 for each of them
    #[arg(long, value_name = "FILE")]
    base_labels: PathBuf,
    /// Begin anew with the next seed, up to N times in all, where training ends with a precision or recall of at most 0.1
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
}

/// Runs `nyx-train cnn`.
pub fn run(args: CnnArgs, common: &Common) -> Result<()> {
    drive::directory(common)?;
    let Sets { mut train, mut dev, mut test } = args.data.read()?;
    if !args.no_reverse_complement {
        train = train.with_reverse_complements();
        dev = dev.with_reverse_complements();
        test = test.map(|test| test.with_reverse_complements());
    }
    let graph: Box<dyn Graph> = match args.architecture {
        Classifier::Deepbind => Box::new(DeepBind),
        Classifier::Danq => Box::new(DanQ),
    };
    let recipe = Plan {
        epochs: 15,
        rate: 1e-3,
        decay: 0.01,
        decaying: Decaying::NoBiasNoNorm,
        schedule: Schedule::Linear,
        warmup: Warmup::Steps(30),
        clip: Some(1.0),
        evaluate_every: Some(50),
        patience: Some(10),
        ..Plan::default()
    };
    let recipe = Recipe { plan: recipe, batch: 64, objective: Objective::Sequences };
    recipe.train(graph, Sets { train, dev, test }, &args.train, common).map(drop)
}

/// Runs `nyx-train base-caller`.
pub fn run_base_caller(args: BaseCallerArgs, common: &Common) -> Result<()> {
    drive::directory(common)?;
    let [sequences, labels] = [&args.sequences, &args.base_labels].map(|path| input::read_text(path));
    let all = Examples::of_bases(&sequences?, &labels?).in_file(&args.base_labels)?;
    let fifth = all.len() / 5;
    if fifth == 0 {
        return Err(Error::data("fewer than five examples cannot be split")).in_file(&args.sequences);
    }
    let part = usize::from(args.dev_part);
    let dev = (part - 1) * fifth..if part == 5 { all.len() } else { part * fifth };
    let sets = Sets {
        train: all.select((fifth..all.len()).filter(|row| !dev.contains(row))),
        dev: all.select(dev.clone()),
        test: Some(all.select(0..fifth)),
    };
    let graph = || -> Box<dyn Graph> {
        match args.architecture {
            Caller::Deepsnr => Box::new(DeepSnr),
            Caller::DAednet => Box::new(DAedNet),
        }
    };
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
        let learned = |name: &str| measures.iter().any(|(known, value)| known == name && *value > 0.1);
        if learned("precision") && learned("recall") {
            return Ok(());
        }
        common.say(&format!("seed {} learned nothing", common.seed));
    }
    Err(Error::data(format!(
        "{} seeds have learned nothing: another --learning-rate or more --epochs may",
        args.tries
    )))
}

/// A recipe for networks over encoded bases.
struct Recipe {
    plan: Plan,
    batch: usize,
    objective: Objective,
}

impl Recipe {
    /// Trains, and returns the measures of the test set, or of the dev set where there is none; nothing where it was
    /// stopped before its end.
    fn train(
        &self,
        graph: Box<dyn Graph>,
        sets: Sets,
        args: &TrainArgs,
        common: &Common,
    ) -> Result<Option<Measures>> {
        let batch = args.train_batch.map_or(self.batch, |batch| batch as usize);
        let plan = args.plan(self.plan.clone(), common.seed)?;
        let Sets { train, dev, test } = sets;
        let sizes = format!("{} examples to train on, {} dev", train.len(), dev.len());
        common.say(&format!("{sizes}, {} test", test.as_ref().map_or(0, Examples::len)));
        let mut settings = options::settings(&plan, batch);
        settings.insert("architecture".into(), graph.architecture().into());
        let data = format!("{}{}", &train.digest()[..16], &dev.digest()[..16]);
        settings.insert("data".into(), data.into());
        let purpose = serde_json::to_string(&settings)?;
        let mut initial = Initial::new(plan.seed);
        graph.initial(&mut initial);
        let task = NetworkTask::new(graph, self.objective, train, dev, batch)?;
        let job = Job { common, args, plan, settings, purpose };
        let Some((training, mut record)) = job.run(&task, initial.finish())? else { return Ok(None) };
        let converted = Converted { config: task.config(), weights: training.parameters().weights()? };
        convert::write(&converted, job.directory()?)?;
        let measures = test.map(|test| task.measure(training.parameters(), &test)).transpose()?;
        if let Some(measures) = &measures {
            drive::say(common, "test", measures);
        }
        record.finish(training.state().step, measures.as_ref())?;
        match measures {
            Some(measures) => Ok(Some(measures)),
            None => task.evaluate(training.parameters()).map(Some),
        }
    }
}
