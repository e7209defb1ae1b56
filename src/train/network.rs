//! Networks over encoded bases as tasks: one label a sequence, or one a base.

use candle_core::Tensor;

use super::examples::Examples;
use super::measures::{self, Convention};
use super::run::{Measures, Task, shuffled};
use crate::error::{Error, Result};
use crate::kernel::learn::loss;
use crate::model::config::Config;
use crate::model::graph::{Graph, Parameters, Pass, Random, scorer};

/// What a network learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// A number from 0 to 1 for a sequence.
    Sequences,
    /// A number from 0 to 1 for each base.
    Bases,
}

/// A network, what it is trained on, and what it is measured on.
pub struct NetworkTask {
    graph: Box<dyn Graph>,
    objective: Objective,
    train: Examples,
    dev: Examples,
    /// Examples of a batch.
    batch: usize,
}

impl NetworkTask {
    /// Joins them.
    ///
    /// # Errors
    ///
    /// When a sequence has another length than the others or the network's, or a label does not fit.
    pub fn new(
        graph: Box<dyn Graph>,
        objective: Objective,
        train: Examples,
        dev: Examples,
        batch: usize,
    ) -> Result<Self> {
        for (examples, name) in [(&train, "training set"), (&dev, "dev set")] {
            check(graph.as_ref(), objective, examples).map_err(|error| error.at(name))?;
        }
        Ok(Self { graph, objective, train, dev, batch: batch.max(1) })
    }

    /// Returns the config of the model that comes out.
    pub fn config(&self) -> Config {
        Config { window: self.graph.window(), ..Config::new(self.graph.architecture()) }
    }

    /// Measures other examples.
    ///
    /// # Errors
    ///
    /// When the network cannot read one.
    pub fn measure(&self, parameters: &Parameters, examples: &Examples) -> Result<Measures> {
        check(self.graph.as_ref(), self.objective, examples)?;
        let scores = self.scores(parameters, examples)?;
        let labels: Vec<bool> = examples.labels.iter().flatten().map(|&label| label > 0.5).collect();
        let convention = match self.objective {
            Objective::Sequences => Convention::Macro,
            Objective::Bases => Convention::Trapezoid,
        };
        Ok(measures::of_probabilities(&scores, &labels, 0.5, convention))
    }

    /// Returns probabilities: one for each sequence or base, from the network as it will score.
    fn scores(&self, parameters: &Parameters, examples: &Examples) -> Result<Vec<f64>> {
        let network = scorer(&self.config(), &parameters.weights()?)?;
        let mut scores = Vec::new();
        for batch in examples.sequences.chunks(256) {
            let rows: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
            let prediction = network.forward(&network.encode(&rows)?)?;
            let values = match self.objective {
                Objective::Sequences => prediction.probs,
                Objective::Bases => prediction.base_scores,
            };
            let values = values.ok_or_else(|| Error::data("the network gives no probabilities"))?;
            scores.extend(values.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f64::from));
        }
        Ok(scores)
    }
}

/// Checks that a network can read examples and that their labels are what it learns.
fn check(graph: &dyn Graph, objective: Objective, examples: &Examples) -> Result<()> {
    if examples.is_empty() {
        return Err(Error::data("there are no examples"));
    }
    let length = examples.length(graph.window())?;
    let wanted = if objective == Objective::Bases { length } else { 1 };
    let fits = |label: &Vec<f32>| label.len() == wanted && label.iter().all(|x| (0.0..=1.0).contains(x));
    match examples.labels.iter().position(|label| !fits(label)) {
        None => Ok(()),
        Some(row) => {
            let message = format!("the label is not {wanted} number(s) from 0 to 1");
            Err(Error::data(message).at(format!("example {}", row + 1)))
        }
    }
}

impl Task for NetworkTask {
    fn batches(&self, random: Random) -> Vec<Vec<usize>> {
        shuffled(self.train.len(), self.batch, random)
    }

    fn loss(&self, batch: &[usize], pass: &mut Pass) -> Result<Tensor> {
        let rows: Vec<&[u8]> = batch.iter().map(|&row| self.train.sequences[row].as_slice()).collect();
        let targets: Vec<f32> =
            batch.iter().flat_map(|&row| self.train.labels[row].iter().copied()).collect();
        loss::binary_mean(&self.graph.logits(&self.graph.encode(&rows)?, pass)?, &targets)
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Measures> {
        self.measure(parameters, &self.dev)
    }
}
