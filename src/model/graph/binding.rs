//! DeepBind and DanQ as they are trained (`models.md` B.5, B.6): one logit a sequence.

use candle_core::{Device, Tensor};

use super::super::encoding::{self, Unknown};
use super::{Graph, Initial, Pass};
use crate::error::Result;
use crate::kernel::Activation;
use crate::kernel::learn::conv::Geometry;
use crate::kernel::learn::pointwise::{activate, add_row};
use crate::kernel::learn::{linear, recurrent};
use crate::kernel::{Padding, pool};

/// Filters of the first layer of both.
const FILTERS: usize = 16;
/// Bases of a filter of both.
const WIDTH: usize = 24;

/// DeepBind as NyxBind trains it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeepBind;

impl Graph for DeepBind {
    fn architecture(&self) -> &'static str {
        "DeepBind"
    }

    fn window(&self) -> Option<usize> {
        None
    }

    fn encode(&self, sequences: &[&[u8]]) -> Result<Tensor> {
        encoding::one_hot(sequences, Unknown::Zeros, &Device::Cpu)
    }

    fn initial(&self, initial: &mut Initial) {
        initial.layer("Convolutions.1", &[FILTERS, 1, 4, WIDTH]);
        initial.batch_norm("Convolutions.3", FILTERS);
        initial.layer("Dense.0", &[32, FILTERS]);
        initial.layer("Dense.3", &[1, 32]);
    }

    fn logits(&self, input: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        encoding::check_input(input, None)?;
        // The kernel spans all four bases: the image [1, 4, L] of the original is L positions of 4 channels here.
        let weight = pass.get("Convolutions.1.weight")?.reshape((FILTERS, 4, WIDTH))?;
        let geometry = Geometry::padded(Padding { left: 11, right: 12, ..Padding::default() });
        let names = ["Convolutions.1", "Convolutions.3"];
        let maps = pass.normed_conv_1d(input, &weight, names, geometry, true)?;
        let hidden = activate(&pass.linear(&pool::global_max(&maps)?, "Dense.0")?, Activation::Relu)?;
        let hidden = pass.dropout(&hidden, 0.5)?;
        pass.linear(&hidden, "Dense.3")
    }
}

/// DanQ as NyxBind trains it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DanQ;

/// Hidden numbers of a direction of DanQ's memory.
const HIDDEN: usize = 32;
/// Numbers of its last layer but one.
const FEATURES: usize = 925;
/// Bases of its sequences.
const LENGTH: usize = 101;
/// Positions of which the largest is taken.
const POOL: usize = 8;

impl DanQ {
    /// Runs one direction of one layer.
    fn direction(pass: &Pass, input: &Tensor, name: &str, backwards: bool) -> Result<Tensor> {
        let get = |part: &str| pass.get(&format!("BiLSTM.{part}_{name}"));
        let gates = linear::linear(input, get("weight_ih")?, Some(get("bias_ih")?))?;
        let gates = add_row(&gates, get("bias_hh")?)?;
        recurrent::lstm(&gates, get("weight_hh")?, backwards)
    }
}

impl Graph for DanQ {
    fn architecture(&self) -> &'static str {
        "DanQ"
    }

    fn window(&self) -> Option<usize> {
        Some(LENGTH)
    }

    fn encode(&self, sequences: &[&[u8]]) -> Result<Tensor> {
        encoding::one_hot(sequences, Unknown::Zeros, &Device::Cpu)
    }

    fn initial(&self, initial: &mut Initial) {
        initial.layer("Conv.0", &[FILTERS, 4, WIDTH]);
        initial.batch_norm("Conv.2", FILTERS);
        let bound = 1.0 / (HIDDEN as f64).sqrt();
        for (layer, inputs) in [(0, FILTERS), (1, 2 * HIDDEN)] {
            for direction in ["", "_reverse"] {
                let name = |part: &str| format!("BiLSTM.{part}_l{layer}{direction}");
                initial.uniform(&name("weight_ih"), &[4 * HIDDEN, inputs], bound);
                initial.uniform(&name("weight_hh"), &[4 * HIDDEN, HIDDEN], bound);
                initial.uniform(&name("bias_ih"), &[4 * HIDDEN], bound);
                initial.uniform(&name("bias_hh"), &[4 * HIDDEN], bound);
            }
        }
        let steps = (LENGTH - WIDTH + 1) / POOL;
        initial.layer("FullyConnection.0", &[FEATURES, steps * 2 * HIDDEN]);
        initial.layer("FullyConnection.2", &[1, FEATURES]);
    }

    fn logits(&self, input: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        encoding::check_input(input, self.window())?;
        let filters = pass.get("Conv.0.weight")?;
        let maps = pass.normed_conv_1d(input, filters, ["Conv.0", "Conv.2"], Geometry::default(), true)?;
        let mut states = pass.dropout(&pool::max(&maps, POOL, POOL)?, 0.2)?;
        for layer in 0..2 {
            if layer > 0 {
                states = pass.dropout(&states, 0.5)?;
            }
            let forwards = Self::direction(pass, &states, &format!("l{layer}"), false)?;
            let backwards = Self::direction(pass, &states, &format!("l{layer}_reverse"), true)?;
            states = Tensor::cat(&[forwards, backwards], 2)?;
        }
        let hidden = pass.linear(&states.flatten_from(1)?, "FullyConnection.0")?;
        pass.linear(&activate(&hidden, Activation::Relu)?, "FullyConnection.2")
    }
}
