//! The long short-term memory, both ways (PyTorch's gate order: input, forget, cell, output).

use candle_core::{DType, Tensor};

use super::Conv;
use super::pointwise::{sigmoid, tanh};
use super::rule::product;
use crate::error::Result;

/// One direction of one layer.
pub struct Lstm {
    /// From the input to the four gates, `[4·hidden, inputs]`, with its bias.
    pub input: Conv,
    /// From the last hidden state to the four gates, `[4·hidden, hidden]`, with its bias.
    pub hidden: Conv,
}

impl Lstm {
    /// Reads `[B, T, inputs]` forwards, or backwards, and returns the hidden state at each step, `[B, T, hidden]`.
    ///
    /// # Errors
    ///
    /// When the shapes do not belong together.
    pub fn forward(&self, input: &Tensor, backwards: bool) -> Result<Tensor> {
        let (batch, steps, _) = input.dims3()?;
        let size = self.hidden.outputs() / 4;
        let from_input = self.input.forward_rows(input)?;
        let mut hidden = Tensor::zeros((batch, size), DType::F32, input.device())?;
        let mut cell = hidden.clone();
        let mut states = Vec::with_capacity(steps);
        for step in 0..steps {
            let step = if backwards { steps - 1 - step } else { step };
            let gates = (from_input.narrow(1, step, 1)?.squeeze(1)? + self.hidden.forward_rows(&hidden)?)?;
            let gate = |index: usize| gates.narrow(1, index * size, size);
            let (write, keep, show) = (sigmoid(&gate(0)?)?, sigmoid(&gate(1)?)?, sigmoid(&gate(3)?)?);
            cell = (product(&keep, &cell)? + product(&write, &tanh(&gate(2)?)?)?)?;
            hidden = product(&show, &tanh(&cell)?)?;
            states.push(hidden.clone());
        }
        if backwards {
            states.reverse();
        }
        Ok(Tensor::stack(&states, 1)?)
    }
}

/// Reads both ways and joins the hidden states, `[B, T, 2·hidden]`.
///
/// # Errors
///
/// As [`Lstm::forward`].
pub fn bidirectional([forwards, backwards]: &[Lstm; 2], input: &Tensor) -> Result<Tensor> {
    Ok(Tensor::cat(&[forwards.forward(input, false)?, backwards.forward(input, true)?], 2)?)
}

#[cfg(test)]
mod tests {
    use super::super::rule::testing::check_completeness;
    use super::super::testing::*;
    use super::*;

    #[test]
    fn the_gradient_is_that_of_finite_differences_and_multipliers_are_complete() {
        let direction = |seed| Lstm {
            input: Conv::linear(&noise(8 * 3, seed), [8, 3], &noise(8, seed + 1)),
            hidden: Conv::linear(&noise(8 * 2, seed + 2), [8, 2], &noise(8, seed + 3)),
        };
        let both = [direction(1), direction(5)];
        check_gradient(&noise_tensor(&[2, 4, 3], 9), |x| bidirectional(&both, x));
        check_completeness(&noise_tensor(&[4, 4, 3], 9), |x| bidirectional(&both, x));
    }
}
