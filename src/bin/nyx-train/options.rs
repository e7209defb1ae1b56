//! The flags that all trainings share, and the plan they make of a recipe.

use clap::ValueEnum;
use nyx::train::optimizer::{Betas, Rule};
use nyx::train::{Plan, Schedule, Warmup};
use nyx::{Error, Result};
use serde_json::{Map, Value};

/// How the learning rate goes after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScheduleArg {
    /// It stays
    Constant,
    /// To 0 on a line
    Linear,
    /// To 0 on half a wave of the cosine
    Cosine,
    /// Halved when the dev loss has not fallen for 3 evaluations
    Plateau,
}

/// What a gradient does to a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OptimizerArg {
    /// Adam, weight decay apart
    Adamw,
    /// Adam, weight decay in the gradient
    Adam,
    /// Descent with Nesterov's momentum
    Sgd,
}

/// The heading of these flags in the help.
const HEADING: &str = "Options of training (defaults are the recipe's)";

/// Flags of every training.
#[derive(clap::Args, Clone, Debug)]
pub struct TrainArgs {
    /// Times that every example is seen
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = HEADING)]
    pub epochs: Option<u64>,
    /// The highest learning rate
    #[arg(long, value_name = "RATE", visible_alias = "lr", help_heading = HEADING)]
    pub learning_rate: Option<f64>,
    /// Examples of a batch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = HEADING)]
    pub train_batch: Option<u32>,
    /// Batches whose gradients make one step
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = HEADING)]
    pub accumulate: Option<u32>,
    /// Steps of warm-up, or a part of all steps as in `10%`
    #[arg(long, value_name = "STEPS", help_heading = HEADING)]
    pub warmup: Option<String>,
    /// How the learning rate goes after the warm-up
    #[arg(long, value_enum, value_name = "SHAPE", help_heading = HEADING)]
    pub schedule: Option<ScheduleArg>,
    /// The rule of a step
    #[arg(long, value_enum, value_name = "RULE", help_heading = HEADING)]
    pub optimizer: Option<OptimizerArg>,
    /// Momentum of sgd
    #[arg(long, value_name = "SHARE", help_heading = HEADING)]
    pub momentum: Option<f64>,
    /// Weight decay
    #[arg(long, value_name = "DECAY", help_heading = HEADING)]
    pub weight_decay: Option<f64>,
    /// The largest norm of a gradient; 0 for none
    #[arg(long, value_name = "NORM", help_heading = HEADING)]
    pub max_grad_norm: Option<f64>,
    /// Steps between evaluations on the dev set; 0 for once an epoch
    #[arg(long, value_name = "STEPS", help_heading = HEADING)]
    pub eval_every: Option<u64>,
    /// The measure by which the best weights are chosen: loss, roc_auc, pr_auc, accuracy, …
    #[arg(long, value_name = "MEASURE", help_heading = HEADING)]
    pub best_by: Option<String>,
    /// Evaluations without a better measure after which training stops; 0 for never
    #[arg(long, value_name = "N", help_heading = HEADING)]
    pub patience: Option<u64>,
    /// Keep the last weights, not the best
    #[arg(long, help_heading = HEADING)]
    pub keep_last: bool,
    /// Steps between checkpoints, besides one at every evaluation
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..), help_heading = HEADING)]
    pub checkpoint_every: Option<u64>,
    /// Go on from the checkpoint in DIR/training, if there is one
    #[arg(long, help_heading = HEADING)]
    pub resume: bool,
    /// Stop after this step, with a checkpoint
    #[arg(long, value_name = "STEP", help_heading = HEADING)]
    pub stop_after: Option<u64>,
}

impl TrainArgs {
    /// Returns the recipe's plan with what the user wants otherwise.
    pub fn plan(&self, recipe: Plan, seed: u64) -> Result<Plan> {
        let above = |value: Option<u64>, recipe| match value {
            Some(0) => None,
            Some(value) => Some(value),
            None => recipe,
        };
        let plan = Plan {
            epochs: self.epochs.unwrap_or(recipe.epochs),
            accumulation: self.accumulate.map_or(recipe.accumulation, |count| count as usize),
            rule: self.rule(recipe.rule),
            rate: self.learning_rate.unwrap_or(recipe.rate),
            decay: self.weight_decay.unwrap_or(recipe.decay),
            schedule: self.schedule.map_or(recipe.schedule, schedule),
            warmup: self.warmup.as_deref().map(warmup).transpose()?.unwrap_or(recipe.warmup),
            clip: self.max_grad_norm.map_or(recipe.clip, |norm| (norm > 0.0).then_some(norm)),
            evaluate_every: above(self.eval_every, recipe.evaluate_every),
            best_by: self.best_by.clone().unwrap_or(recipe.best_by),
            patience: above(self.patience, recipe.patience),
            keep_last: self.keep_last || recipe.keep_last,
            seed,
            decaying: recipe.decaying,
        };
        for (flag, value) in [("--learning-rate", plan.rate), ("--weight-decay", plan.decay)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(Error::usage(format!("{flag} {value}: give a number from 0 on")));
            }
        }
        Ok(plan)
    }

    fn rule(&self, recipe: Rule) -> Rule {
        let sgd = |momentum: f64| Rule::Sgd { momentum, nesterov: momentum > 0.0 };
        match (self.optimizer, recipe) {
            (None, Rule::Sgd { momentum, .. }) => sgd(self.momentum.unwrap_or(momentum)),
            (None, rule) => rule,
            (Some(OptimizerArg::Adamw), _) => Rule::AdamW(Betas::default()),
            (Some(OptimizerArg::Adam), _) => Rule::Adam(Betas::default()),
            (Some(OptimizerArg::Sgd), _) => sgd(self.momentum.unwrap_or(0.9)),
        }
    }
}

fn schedule(shape: ScheduleArg) -> Schedule {
    match shape {
        ScheduleArg::Constant => Schedule::Constant,
        ScheduleArg::Linear => Schedule::Linear,
        ScheduleArg::Cosine => Schedule::Cosine { floor: 0.0 },
        ScheduleArg::Plateau => Schedule::Plateau { factor: 0.5, patience: 3 },
    }
}

fn warmup(text: &str) -> Result<Warmup> {
    let percent =
        text.strip_suffix('%').map(|part| part.parse::<f64>().map(|part| Warmup::Part(part / 100.0)).ok());
    let found = percent.unwrap_or_else(|| text.parse().map(Warmup::Steps).ok());
    let fits = |warmup: &Warmup| !matches!(warmup, Warmup::Part(part) if !(0.0..=1.0).contains(part));
    found
        .filter(fits)
        .ok_or_else(|| Error::usage(format!("--warmup {text}: give steps, or a part as in 10%")))
}

/// Returns a plan as the record shows it.
pub fn settings(plan: &Plan, batch: usize) -> Map<String, Value> {
    let mut settings = Map::new();
    let mut put = |name: &str, value: Value| _ = settings.insert(name.into(), value);
    put("epochs", plan.epochs.into());
    put("train_batch", batch.into());
    put("accumulate", plan.accumulation.into());
    put("optimizer", format!("{:?}", plan.rule).into());
    put("learning_rate", plan.rate.into());
    put("weight_decay", plan.decay.into());
    put("schedule", format!("{:?}", plan.schedule).into());
    put("warmup", format!("{:?}", plan.warmup).into());
    put("max_grad_norm", plan.clip.into());
    put("eval_every", plan.evaluate_every.into());
    put("best_by", plan.best_by.clone().into());
    put("patience", plan.patience.into());
    put("seed", plan.seed.into());
    settings
}
