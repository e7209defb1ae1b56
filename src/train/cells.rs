//! SigTFB as a task: sequences that are bound in some cell types, each cell type with as many bound as unbound ones.
//! `models.md` C.6.

use candle_core::{Device, Tensor};

use super::examples::Examples;
use super::measures::{self, Convention, named};
use super::run::{Measures, Task};
use crate::error::{Error, Result};
use crate::kernel::learn::loss;
use crate::metrics;
use crate::model::config::Config;
use crate::model::encoding::{Unknown, one_hot};
use crate::model::graph::{CellTypes, Graph, Parameters, Pass, Random, ToldCell, scorer};

/// Which network is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    /// A logit for each cell type.
    One(CellTypes),
    /// Told the cell type, or not.
    Two(ToldCell),
}

/// A stage of SigTFB in training.
pub struct CellTask {
    stage: Stage,
    config: Config,
    train: Examples,
    dev: Examples,
    /// Draws of a batch, of two sequences each.
    draws: usize,
    /// Of each cell type with both: the sequences that are bound in it, and those that are not.
    sides: Vec<(usize, [Vec<usize>; 2])>,
}

impl CellTask {
    /// Joins them.
    ///
    /// # Errors
    ///
    /// When a sequence has another length than the others, its labels are not a 0 or 1 for each cell type, or no cell
    /// type has both bound and unbound sequences.
    pub fn new(stage: Stage, train: Examples, dev: Examples, draws: usize) -> Result<Self> {
        let (window, cells) = match stage {
            Stage::One(CellTypes { window, cells, .. }) | Stage::Two(ToldCell { window, cells, .. }) => {
                (window, cells)
            }
        };
        for (examples, name) in [(&train, "training set"), (&dev, "dev set")] {
            check(examples, window, cells).map_err(|error| error.at(name))?;
        }
        let sides = sides(&train, cells);
        if sides.is_empty() {
            let message = "no cell type has both bound and unbound sequences";
            return Err(Error::data(message).at("training set"));
        }
        let architecture = match &stage {
            Stage::One(network) => network.architecture(),
            Stage::Two(_) => "Net_Stage2",
        };
        let names = (!train.names.is_empty()).then(|| train.names.clone());
        let config = Config { window: Some(window), labels: names, ..Config::new(architecture) };
        Ok(Self { stage, config, train, dev, draws: draws.max(1), sides })
    }

    /// Returns the config of the model that comes out.
    pub fn config(&self) -> Config {
        self.config.clone()
    }

    /// Returns the cell types, by number, that have bound and unbound sequences to train on.
    pub fn cells(&self) -> impl Iterator<Item = usize> {
        self.sides.iter().map(|(cell, _)| *cell)
    }

    /// Measures other examples: all cell types of all sequences as one set.
    ///
    /// # Errors
    ///
    /// When the network cannot read one.
    pub fn measure(&self, parameters: &Parameters, examples: &Examples) -> Result<Measures> {
        let cells = self.train.labels[0].len();
        check(examples, self.config.window.unwrap_or(0), cells)?;
        let scores = self.scores(parameters, examples)?;
        let labels: Vec<Vec<bool>> =
            examples.labels.iter().map(|row| row.iter().map(|&label| label > 0.5).collect()).collect();
        let told: Vec<f64> = scores.iter().flat_map(|row| &row[..cells]).copied().collect();
        let all: Vec<bool> = labels.concat();
        let mut measures = measures::of_probabilities(&told, &all, 0.5, Convention::Macro);
        measures.extend(match self.stage {
            Stage::One(_) => of_rows(&scores, &labels),
            Stage::Two(_) => of_knowing(&told, &scores, &all),
        });
        Ok(measures)
    }

    /// Returns the probabilities of each sequence, from the network as it will score.
    fn scores(&self, parameters: &Parameters, examples: &Examples) -> Result<Vec<Vec<f64>>> {
        let network = scorer(&self.config, &parameters.weights()?)?;
        let mut scores = Vec::with_capacity(examples.len());
        for batch in examples.sequences.chunks(256) {
            let rows: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
            let probs = network.forward(&network.encode(&rows)?)?.probs;
            let probs = probs.ok_or_else(|| Error::data("the network gives no probabilities"))?;
            let rows = probs.to_vec2::<f32>()?.into_iter();
            scores.extend(rows.map(|row| row.into_iter().map(f64::from).collect::<Vec<f64>>()));
        }
        Ok(scores)
    }

    /// Returns the sequence and the cell type of a draw's number.
    fn drawn(&self, number: usize) -> (usize, usize) {
        let cells = self.train.labels[0].len();
        (number / cells, number % cells)
    }
}

/// Returns how well all cell types of a sequence are predicted together.
fn of_rows(scores: &[Vec<f64>], labels: &[Vec<bool>]) -> Measures {
    let called: Vec<Vec<bool>> =
        scores.iter().map(|row| row.iter().map(|&score| score > 0.5).collect()).collect();
    named([
        ("hamming_score", metrics::hamming_score(&called, labels)),
        ("exact_match", metrics::exact_match(&called, labels)),
    ])
}

/// Returns what it is worth to know the cell type: the area without it, and the difference. The last score of a row
/// is that of a sequence alone.
fn of_knowing(told: &[f64], scores: &[Vec<f64>], labels: &[bool]) -> Measures {
    let untold = |row: &Vec<f64>| std::iter::repeat_n(row[row.len() - 1], row.len() - 1);
    let untold: Vec<f64> = scores.iter().flat_map(untold).collect();
    let [told, untold] = [told, &untold].map(|scores| metrics::roc_auc(scores, labels).unwrap_or(f64::NAN));
    named([("roc_auc_untold", untold), ("auc_difference", told - untold)])
}

/// Returns, of each cell type that has both, its number and the sequences that are bound in it and those that are not.
fn sides(examples: &Examples, cells: usize) -> Vec<(usize, [Vec<usize>; 2])> {
    let of = |cell: usize, bound: bool| -> Vec<usize> {
        (0..examples.len()).filter(|&row| (examples.labels[row][cell] > 0.5) == bound).collect()
    };
    let all = (0..cells).map(|cell| (cell, [of(cell, true), of(cell, false)]));
    all.filter(|(_, sides)| sides.iter().all(|side| !side.is_empty())).collect()
}

/// Checks lengths, and that there is a 0 or 1 for each cell type.
fn check(examples: &Examples, window: usize, cells: usize) -> Result<()> {
    if examples.is_empty() {
        return Err(Error::data("there are no examples"));
    }
    examples.length(Some(window))?;
    let fits = |label: &Vec<f32>| label.len() == cells && label.iter().all(|x| [0.0, 1.0].contains(x));
    match examples.labels.iter().position(|label| !fits(label)) {
        None => Ok(()),
        Some(row) => {
            let message = format!("the label is not {cells} numbers, 0 or 1, one for each cell type");
            Err(Error::data(message).at(format!("example {}", row + 1)))
        }
    }
}

impl Task for CellTask {
    /// Goes round the cell types; each time a bound and an unbound sequence of the next are drawn. As many draws as
    /// there are sequences. A draw's number is that of the sequence times the cell types, and the cell type.
    fn batches(&self, mut random: Random) -> Vec<Vec<usize>> {
        let cells = self.train.labels[0].len();
        let mut numbers = Vec::with_capacity(2 * self.train.len());
        for draw in 0..self.train.len() {
            let (cell, sides) = &self.sides[draw % self.sides.len()];
            let mut pair = [0, 1].map(|side: usize| sides[side][random.below(sides[side].len())]);
            pair.sort_unstable();
            numbers.extend(pair.map(|row| row * cells + cell));
        }
        numbers.chunks(2 * self.draws).map(<[usize]>::to_vec).collect()
    }

    /// The mean cross-entropy of the drawn cell types. The first half of a batch is told them in stage 2, the second
    /// is not.
    fn loss(&self, batch: &[usize], pass: &mut Pass) -> Result<Tensor> {
        let drawn: Vec<(usize, usize)> = batch.iter().map(|&number| self.drawn(number)).collect();
        let rows: Vec<&[u8]> = drawn.iter().map(|&(row, _)| self.train.sequences[row].as_slice()).collect();
        let input = one_hot(&rows, Unknown::Quarter, &Device::Cpu)?;
        let label = |&(row, cell): &(usize, usize)| self.train.labels[row][cell];
        match self.stage {
            Stage::One(network) => {
                let logits = network.logits(&input, pass)?;
                let mut targets = vec![0.0; logits.elem_count()];
                let mut weights = targets.clone();
                for (row, drawn) in drawn.iter().enumerate() {
                    let place = row * network.cells + drawn.1;
                    (targets[place], weights[place]) = (label(drawn), 1.0 / batch.len() as f32);
                }
                loss::binary(&logits, &targets, &weights)
            }
            Stage::Two(network) => {
                let told: Vec<Option<usize>> = (0..)
                    .zip(&drawn)
                    .map(|(row, drawn)| (2 * row < batch.len()).then_some(drawn.1))
                    .collect();
                let targets: Vec<Option<u32>> = drawn.iter().map(|drawn| Some(label(drawn) as u32)).collect();
                loss::cross_entropy(&network.logits(&input, &told, pass)?, &targets)
            }
        }
    }

    fn evaluate(&self, parameters: &Parameters) -> Result<Measures> {
        self.measure(parameters, &self.dev)
    }
}

#[cfg(test)]
pub(super) mod tests;
