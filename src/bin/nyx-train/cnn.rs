//! `nyx-train cnn`, and the recipe of networks over encoded bases.

use std::path::Path;

use clap::ValueEnum;
use nyx::Result;
use nyx::cli::Common;
use nyx::model::convert::{self, Converted};
use nyx::model::graph::{DanQ, DeepBind, Graph, Initial, Parameters};
use nyx::train::network::{NetworkTask, Objective};
use nyx::train::optimizer::Decaying;
use nyx::train::{Measures, Plan, Schedule, Task, Warmup};

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

/// A recipe for networks over encoded bases.
pub struct Recipe {
    pub plan: Plan,
    pub batch: usize,
    pub objective: Objective,
}

impl Recipe {
    /// Trains, and returns the measures of the test set, or of the dev set where there is none; nothing where it was
    /// stopped before its end.
    pub fn train(
        &self,
        graph: Box<dyn Graph>,
        sets: Sets,
        args: &TrainArgs,
        common: &Common,
    ) -> Result<Option<Measures>> {
        let batch = args.train_batch.map_or(self.batch, |batch| batch as usize);
        let plan = args.plan(self.plan.clone(), common.seed)?;
        sets.say(common);
        let mut settings = options::settings(&plan, batch);
        settings.insert("architecture".into(), graph.architecture().into());
        settings.insert("data".into(), sets.digest().into());
        let mut initial = Initial::new(plan.seed);
        graph.initial(&mut initial);
        let Sets { train, dev, test } = sets;
        let task = NetworkTask::new(graph, self.objective, train, dev, batch)?;
        let job = Job { common, args, plan, settings };
        let write = |trained: &Parameters, directory: &Path| {
            convert::write(&Converted { config: task.config(), weights: trained.weights()? }, directory)
        };
        let test = |trained: &Parameters| test.map(|test| task.measure(trained, &test)).transpose();
        match job.complete(&task, initial.finish(), write, test)? {
            Some((training, None)) => task.evaluate(training.parameters()).map(Some),
            finished => Ok(finished.and_then(|(_, measures)| measures)),
        }
    }
}
