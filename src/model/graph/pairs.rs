//! The residual network on pairs of embeddings as it is trained (`models.md` B.12).

use candle_core::Tensor;

use super::{Initial, Pass};
use crate::error::Result;
use crate::kernel::Activation::Relu;
use crate::kernel::learn::pointwise::activate;

/// Layers with a way around all but the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResidualLayers {
    /// Features of a pair.
    pub inputs: usize,
    /// Numbers of the three layers.
    pub widths: [usize; 3],
    /// Classes.
    pub classes: usize,
    /// The chance of a number of a layer to drop out.
    pub dropout: f64,
}

impl ResidualLayers {
    /// Draws the weights that training begins with.
    pub fn initial(&self, initial: &mut Initial) {
        let [first, second, third] = self.widths;
        let widths = [self.inputs, first, second, third];
        for (layer, ends) in (1..).zip(widths.windows(2)) {
            initial.layer(&format!("fc{layer}"), &[ends[1], ends[0]]);
            initial.batch_norm(&format!("bn{layer}"), ends[1]);
        }
        initial.layer("residual1", &[second, self.inputs]);
        initial.layer("residual2", &[third, second]);
        initial.layer("fc_out", &[self.classes, third]);
    }

    /// Returns the logits `[B, classes]` of features `[B, inputs]`.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or the input has another width.
    pub fn logits(&self, features: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let first = self.block(features, 1, pass)?;
        let second = (self.block(&first, 2, pass)? + pass.linear(features, "residual1")?)?;
        let third = (self.block(&second, 3, pass)? + pass.linear(&second, "residual2")?)?;
        pass.linear(&third, "fc_out")
    }

    fn block(&self, input: &Tensor, layer: usize, pass: &mut Pass) -> Result<Tensor> {
        let linear = pass.linear(input, &format!("fc{layer}"))?;
        let normal = pass.batch_norm(&linear, &format!("bn{layer}"))?;
        pass.dropout(&activate(&normal, Relu)?, self.dropout)
    }
}
