//! The loop: batches, losses, steps, evaluations, and when to stop. Everything that it decides by is in
//! [`State`] and can be put into a checkpoint.

use candle_core::Tensor;

use super::optimizer::{self, Decaying, Gradients, Optimizer, Rule};
use super::schedule::{Plateau, Schedule};
use crate::error::{Error, Result};
use crate::kernel::learn::dropout::mix;
use crate::kernel::learn::leaf::backward;
use crate::model::graph::{Parameters, Pass, Random, Snapshot};

/// What is learned from what.
pub trait Task {
    /// Returns the batches of an epoch, by the numbers of examples. `random` is the epoch's own.
    fn batches(&self, random: Random) -> Vec<Vec<usize>>;

    /// Returns the loss of a batch, a scalar.
    ///
    /// # Errors
    ///
    /// When the network cannot read an example.
    fn loss(&self, batch: &[usize], pass: &mut Pass) -> Result<Tensor>;

    /// Returns how well the dev set is predicted, by the name of each measure; `loss` is one of them.
    ///
    /// # Errors
    ///
    /// When the network cannot read an example.
    fn evaluate(&self, parameters: &Parameters) -> Result<Measures>;
}

/// Shuffles `count` examples into batches.
pub(super) fn shuffled(count: usize, batch: usize, mut random: Random) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..count).collect();
    random.shuffle(&mut order);
    order.chunks(batch.max(1)).map(<[usize]>::to_vec).collect()
}

/// Measures by name, in the order in which they are shown.
pub type Measures = Vec<(String, f64)>;

/// How a training goes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Times that every example is seen.
    pub epochs: u64,
    /// Batches whose gradients make one step.
    pub accumulation: usize,
    /// The rule of a step.
    pub rule: Rule,
    /// The highest learning rate.
    pub rate: f64,
    /// Weight decay.
    pub decay: f64,
    /// What decays.
    pub decaying: Decaying,
    /// How the rate goes.
    pub schedule: Schedule,
    /// Steps of warm-up.
    pub warmup: Warmup,
    /// The largest norm of a gradient.
    pub clip: Option<f64>,
    /// Steps between evaluations; once an epoch where there is no number.
    pub evaluate_every: Option<u64>,
    /// The measure by which the best weights are chosen.
    pub best_by: String,
    /// Evaluations without a better measure after which training stops.
    pub patience: Option<u64>,
    /// Whether the best weights are put back at the end, or the last are kept.
    pub keep_last: bool,
    /// The seed of everything random.
    pub seed: u64,
}

/// How long the learning rate rises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warmup {
    /// For a number of steps.
    Steps(u64),
    /// For a part of all steps.
    Part(f64),
}

impl Warmup {
    fn steps(self, total: u64) -> u64 {
        match self {
            Self::Steps(steps) => steps,
            Self::Part(part) => (part * total as f64).ceil() as u64,
        }
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            epochs: 1,
            accumulation: 1,
            rule: Rule::AdamW(optimizer::Betas::default()),
            rate: 1e-3,
            decay: 0.0,
            decaying: Decaying::All,
            schedule: Schedule::Constant,
            warmup: Warmup::Steps(0),
            clip: None,
            evaluate_every: None,
            best_by: "loss".into(),
            patience: None,
            keep_last: false,
            seed: 0,
        }
    }
}

/// Whether a larger number of a measure is better.
pub fn larger_is_better(measure: &str) -> bool {
    !measure.ends_with("loss")
}

/// Where a training stands.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Steps taken.
    pub step: u64,
    /// Whole epochs behind.
    pub epoch: u64,
    /// Batches of this epoch behind.
    pub batch: u64,
    /// The best measure so far, and the step at which it was reached.
    pub best: Option<(f64, u64)>,
    /// Evaluations since.
    pub waited: u64,
    /// What a plateau schedule remembers.
    pub plateau: Plateau,
    /// Losses since the last evaluation, and of how many steps.
    pub losses: (f64, u64),
    /// Whether training has ended.
    pub is_over: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            step: 0,
            epoch: 0,
            batch: 0,
            best: None,
            waited: 0,
            plateau: Plateau::default(),
            losses: (0.0, 0),
            is_over: false,
        }
    }
}

/// What one step was like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Its number, from 1.
    pub step: u64,
    /// Steps of the whole training.
    pub total: u64,
    /// Epochs behind, with the part of the present one.
    pub epoch: f64,
    /// Its loss.
    pub loss: f64,
    /// Its learning rate.
    pub rate: f64,
    /// The norm of its gradient, before clipping.
    pub norm: f64,
    /// Its examples.
    pub examples: usize,
}

/// What an evaluation showed.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Steps behind.
    pub step: u64,
    /// Epochs behind, with the part of the present one.
    pub epoch: f64,
    /// The mean loss of the steps since the last evaluation.
    pub train_loss: f64,
    /// The measures of the dev set.
    pub measures: Measures,
    /// Whether it is the best so far.
    pub is_best: bool,
}

/// Looks on while a network is trained.
pub trait Watch {
    /// Sees a step.
    ///
    /// # Errors
    ///
    /// When what it writes cannot be written: training stops.
    fn step(&mut self, _step: &Step) -> Result<()> {
        Ok(())
    }

    /// Sees an evaluation.
    ///
    /// # Errors
    ///
    /// As [`Watch::step`].
    fn evaluation(&mut self, _evaluation: &Evaluation) -> Result<()> {
        Ok(())
    }

    /// Sees the training between two steps, to write a checkpoint; returns whether to go on.
    ///
    /// # Errors
    ///
    /// As [`Watch::step`].
    fn pause(&mut self, _training: &Training) -> Result<bool> {
        Ok(true)
    }
}

/// Looks at nothing.
impl Watch for () {}

/// A network in training.
pub struct Training {
    pub(super) plan: Plan,
    pub(super) parameters: Parameters,
    pub(super) optimizer: Optimizer,
    pub(super) state: State,
    /// The best weights so far.
    pub(super) best: Option<Snapshot>,
}

impl Training {
    /// Begins a training.
    pub fn new(plan: Plan, parameters: Parameters) -> Self {
        let optimizer = Optimizer::new(plan.rule, plan.decay, plan.decaying);
        Self { plan, parameters, optimizer, state: State::default(), best: None }
    }

    /// Returns where it stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns the weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Trains to the end, or until the watch says so, and puts the best weights back.
    ///
    /// # Errors
    ///
    /// When a loss or a gradient is no number, or the task's or the watch's own.
    pub fn run(&mut self, task: &dyn Task, watch: &mut dyn Watch) -> Result<()> {
        while !self.state.is_over {
            if !self.epoch(task, watch)? {
                return Ok(());
            }
        }
        match self.best.take() {
            Some(best) if !self.plan.keep_last => self.parameters.restore(&best),
            _ => Ok(()),
        }
    }

    /// Trains what is left of an epoch; returns whether to go on.
    fn epoch(&mut self, task: &dyn Task, watch: &mut dyn Watch) -> Result<bool> {
        let batches = task.batches(Random::new(self.plan.seed, "epoch", self.state.epoch));
        if batches.is_empty() {
            return Err(Error::data("there is nothing to train on"));
        }
        let accumulation = self.plan.accumulation.max(1);
        let total = (batches.len().div_ceil(accumulation)) as u64 * self.plan.epochs;
        while (self.state.batch as usize) < batches.len() && !self.state.is_over {
            let first = self.state.batch as usize;
            let group = &batches[first..(first + accumulation).min(batches.len())];
            let step = self.step(task, group, total, batches.len())?;
            watch.step(&step)?;
            let at_end = self.state.batch as usize == batches.len();
            let is_last = at_end && self.state.epoch + 1 >= self.plan.epochs;
            let due = match self.plan.evaluate_every {
                Some(every) => self.state.step.is_multiple_of(every.max(1)) || is_last,
                None => at_end,
            };
            if due {
                watch.evaluation(&self.evaluate(task, step.epoch)?)?;
            }
            if at_end {
                (self.state.epoch, self.state.batch) = (self.state.epoch + 1, 0);
            }
            self.state.is_over |= is_last;
            if !watch.pause(self)? {
                return Ok(false);
            }
            if at_end {
                break;
            }
        }
        Ok(true)
    }

    /// Takes one step on a group of batches.
    fn step(&mut self, task: &dyn Task, group: &[Vec<usize>], total: u64, batches: usize) -> Result<Step> {
        let (gradients, loss) = self.gradients(task, group)?;
        let norm = optimizer::norm(&gradients)?;
        let clipped = self.plan.clip.map_or(1.0, |most| optimizer::clipping(norm, most));
        let warmup = self.plan.warmup.steps(total);
        let factor = self.plan.schedule.factor(self.state.step, warmup, total);
        let rate = self.plan.rate * factor * self.state.plateau.factor;
        self.optimizer.step(&self.parameters, &gradients, clipped, rate)?;
        self.state.step += 1;
        self.state.batch += group.len() as u64;
        self.state.losses = (self.state.losses.0 + loss, self.state.losses.1 + 1);
        Ok(Step {
            step: self.state.step,
            total,
            epoch: self.state.epoch as f64 + self.state.batch as f64 / batches as f64,
            loss,
            rate,
            norm,
            examples: group.iter().map(Vec::len).sum(),
        })
    }

    /// Returns the gradients of a group of batches, and their mean loss.
    fn gradients(&mut self, task: &dyn Task, group: &[Vec<usize>]) -> Result<(Gradients, f64)> {
        let mut gradients = Gradients::new();
        let mut total = 0.0;
        for (index, batch) in group.iter().enumerate() {
            let key = mix(self.plan.seed ^ mix(self.state.step)).wrapping_add(index as u64);
            let (loss, more, seen) = one_batch(task, batch, &self.parameters, key, group.len())?;
            seen.keep(&mut self.parameters);
            total += loss;
            join(&mut gradients, more)?;
        }
        Ok((gradients, total / group.len() as f64))
    }

    fn evaluate(&mut self, task: &dyn Task, epoch: f64) -> Result<Evaluation> {
        let measures = task.evaluate(&self.parameters)?;
        let named = |name: &str| measures.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
        let value = named(&self.plan.best_by).ok_or_else(|| {
            let names: Vec<&str> = measures.iter().map(|(name, _)| name.as_str()).collect();
            Error::usage(format!("--best-by {}: the measures are {}", self.plan.best_by, names.join(", ")))
        })?;
        if let (Schedule::Plateau { factor, patience }, Some(loss)) = (self.plan.schedule, named("loss")) {
            self.state.plateau.see(loss, factor, patience);
        }
        let larger = larger_is_better(&self.plan.best_by);
        let is_best = match self.state.best {
            None => true,
            Some((best, _)) => {
                if larger {
                    value > best
                } else {
                    value < best
                }
            }
        };
        if is_best {
            (self.state.best, self.state.waited) = (Some((value, self.state.step)), 0);
            self.best = Some(self.parameters.snapshot()?);
        } else {
            self.state.waited += 1;
        }
        self.state.is_over |= self.plan.patience.is_some_and(|patience| self.state.waited >= patience);
        let (losses, steps) = std::mem::take(&mut self.state.losses);
        let train_loss = losses / steps.max(1) as f64;
        Ok(Evaluation { step: self.state.step, epoch, train_loss, measures, is_best })
    }
}

/// Returns loss and gradients of one batch, and what norms saw; of `parts` that make a step.
fn one_batch(
    task: &dyn Task,
    batch: &[usize],
    parameters: &Parameters,
    key: u64,
    parts: usize,
) -> Result<(f64, Gradients, crate::model::graph::Seen)> {
    let mut pass = Pass::training(parameters, key);
    let loss = task.loss(batch, &mut pass)?;
    let value = f64::from(loss.to_scalar::<f32>()?);
    if !value.is_finite() {
        return Err(Error::data("the loss is infinite or no number: a lower --learning-rate may help"));
    }
    let loss = if parts > 1 { (loss / parts as f64)? } else { loss };
    let mut found = backward(&loss)?;
    let mut gradients = Gradients::new();
    for (name, variable) in parameters.trained() {
        if let Some(gradient) = found.take(variable.as_tensor())? {
            gradients.insert(name.to_string(), gradient);
        }
    }
    Ok((value, gradients, pass.finish()))
}

/// Adds gradients to others.
fn join(gradients: &mut Gradients, more: Gradients) -> Result<()> {
    for (name, gradient) in more {
        let sum = match gradients.remove(&name) {
            Some(sum) => (sum + gradient)?,
            None => gradient,
        };
        gradients.insert(name, sum);
    }
    Ok(())
}
