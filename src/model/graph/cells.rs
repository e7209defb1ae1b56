//! SigTFB as it is trained (`models.md` B.10, B.11): stage 1 has a logit for each cell type, stage 2 is told the cell
//! type, or is not.

use candle_core::{Device, Tensor};

use super::super::encoding::{self, Unknown};
use super::super::weights::Weights;
use super::{Graph, Initial, Parameters, Pass};
use crate::error::{Error, Result};
use crate::kernel::Activation::Relu;
use crate::kernel::learn::conv::{self, Geometry};
use crate::kernel::learn::pointwise::activate;
use crate::kernel::{learn, pool};

/// Bases of a filter.
const WIDTH: usize = 24;
/// Numbers between the filters and the cell types of stage 1.
const HIDDEN: usize = 32;
/// What stands before the names of stage 1 in stage 2.
const INNER: &str = "model_stage1.";

/// Stage 1: a logit for each cell type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CellTypes {
    /// Bases of a sequence.
    pub window: usize,
    /// Filters.
    pub filters: usize,
    /// Cell types.
    pub cells: usize,
    /// The deviation of the filters' weights at the beginning.
    pub conv_deviation: f64,
    /// The deviation of the other weights at the beginning.
    pub linear_deviation: f64,
}

/// Returns how strongly each filter matches a sequence at most, `[B, filters]`.
fn matches(input: &Tensor, prefix: &str, pass: &Pass) -> Result<Tensor> {
    let weight = pass.get(&format!("{prefix}conv1.weight"))?.squeeze(2)?;
    let bias = pass.get(&format!("{prefix}conv1.bias"))?;
    let maps = conv::conv_1d(input, &weight, Some(bias), Geometry::default())?;
    pool::global_max(&activate(&maps, Relu)?)
}

/// Draws a layer: normal weights, biases of zero.
fn draw(initial: &mut Initial, name: &str, shape: &[usize], deviation: f64) {
    initial.normal(&format!("{name}.weight"), shape, deviation);
    initial.constant(&format!("{name}.bias"), &shape[..1], 0.0);
}

impl Graph for CellTypes {
    fn architecture(&self) -> &'static str {
        "CNN_Multilabel"
    }

    fn window(&self) -> Option<usize> {
        Some(self.window)
    }

    fn encode(&self, sequences: &[&[u8]]) -> Result<Tensor> {
        encoding::one_hot(sequences, Unknown::Quarter, &Device::Cpu)
    }

    fn initial(&self, initial: &mut Initial) {
        draw(initial, "conv1", &[self.filters, 4, 1, WIDTH], self.conv_deviation);
        draw(initial, "fc1", &[HIDDEN, self.filters], self.linear_deviation);
        draw(initial, "fc2", &[self.cells, HIDDEN], self.linear_deviation);
    }

    fn logits(&self, input: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        encoding::check_input(input, self.window())?;
        let hidden = activate(&pass.linear(&matches(input, "", pass)?, "fc1")?, Relu)?;
        pass.linear(&hidden, "fc2")
    }
}

/// Stage 2: whether a sequence is bound in the cell type that is told, or in any where none is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ToldCell {
    /// Bases of a sequence.
    pub window: usize,
    /// Filters of stage 1.
    pub filters: usize,
    /// Cell types.
    pub cells: usize,
    /// Numbers that a cell type becomes before it becomes one.
    pub units: usize,
    /// Numbers between that with the filters, and the two logits.
    pub neurons: usize,
    /// The chance of either to drop out.
    pub dropout: f64,
    /// The deviation of weights at the beginning.
    pub linear_deviation: f64,
}

impl ToldCell {
    /// Puts the weights of stage 1 under those that are drawn, and returns both.
    ///
    /// # Errors
    ///
    /// When these are no weights of such a stage 1.
    pub fn initial(&self, stage_1: &Weights, seed: u64) -> Result<Parameters> {
        let [filters, bases, _, _] = stage_1.shape("conv1.weight")?;
        let [cells, _] = stage_1.shape("fc2.weight")?;
        if [filters, bases, cells] != [self.filters, 4, self.cells] {
            let found = format!("{filters} filters of {bases} rows and {cells} cell types");
            return Err(Error::data(format!("stage 1 has {found}, of {} and {}", self.filters, self.cells)));
        }
        let mut initial =
            Initial::on(Parameters::of(&stage_1.renamed(|name| format!("{INNER}{name}")))?, seed);
        draw(&mut initial, "fc1", &[self.units, self.cells], self.linear_deviation);
        initial.batch_norm("bn1", self.units);
        draw(&mut initial, "fc2", &[1, self.units], self.linear_deviation);
        draw(&mut initial, "fc3", &[self.neurons, self.filters + 1], self.linear_deviation);
        initial.batch_norm("bn3", self.neurons);
        draw(&mut initial, "fc4", &[2, self.neurons], self.linear_deviation);
        Ok(initial.finish())
    }

    /// Returns whether a tensor belongs to stage 1.
    pub fn is_stage_1(name: &str) -> bool {
        name.starts_with(INNER)
    }

    /// Returns the logits of not being bound and of being bound, `[B, 2]`. `told` is the cell type of each row, where
    /// it is told.
    ///
    /// # Errors
    ///
    /// When a tensor is missing, or the shapes do not belong together.
    pub fn logits(&self, input: &Tensor, told: &[Option<usize>], pass: &mut Pass) -> Result<Tensor> {
        encoding::check_input(input, Some(self.window))?;
        let mut cells = vec![0.0; told.len() * self.cells];
        for (row, cell) in cells.chunks_exact_mut(self.cells).zip(told) {
            cell.iter().for_each(|&cell| row[cell] = 1.0);
        }
        let cells = learn::tensor(cells, (told.len(), self.cells))?;
        let unit = self.block(&cells, ["fc1", "bn1"], pass)?;
        let unit = pass.linear(&unit, "fc2")?;
        let joined = Tensor::cat(&[matches(input, INNER, pass)?, unit], 1)?;
        let hidden = self.block(&joined, ["fc3", "bn3"], pass)?;
        pass.linear(&hidden, "fc4")
    }

    fn block(&self, input: &Tensor, [linear, norm]: [&str; 2], pass: &mut Pass) -> Result<Tensor> {
        let linear = pass.linear(input, linear)?;
        let normal = pass.batch_norm(&linear, norm)?;
        pass.dropout(&activate(&normal, Relu)?, self.dropout)
    }
}
