//! The long short-term memory as one operation: all steps of one direction, and back through time.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, Layout, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

use super::super::Instructions;
use super::super::activation::tanh;
use super::super::instructions::vectorize;
use super::super::matrix::{self, Matrix};
use super::leaf::of_leaf;
use super::pointwise::sigmoid;
use super::{argument, output, read, tensor};
use crate::error::Result;

/// Rows of a batch that one thread takes through all steps.
const ROWS: usize = 12;

/// Runs through steps: `gates` `[B, T, 4·hidden]` is what the input gives, biases included, in PyTorch's order
/// (input, forget, cell, output); `weight` `[4·hidden, hidden]` is what the last hidden state gives. Returns the
/// hidden states `[B, T, hidden]`.
///
/// # Errors
///
/// When the shapes do not belong together.
pub fn lstm(gates: &Tensor, weight: &Tensor, backwards: bool) -> Result<Tensor> {
    let lstm = Lstm { backwards, saved: OnceLock::new() };
    Ok(gates.contiguous()?.apply_op2(weight, lstm)?)
}

struct Lstm {
    backwards: bool,
    saved: OnceLock<Saved>,
}

/// What the way back needs.
struct Saved {
    /// The gates as they are applied, `[B, T, 4·hidden]`.
    gates: Vec<f32>,
    /// `[B, T, hidden]`.
    cells: Vec<f32>,
}

/// The shapes of a run.
#[derive(Clone, Copy)]
struct Run {
    steps: usize,
    hidden: usize,
    backwards: bool,
}

impl Run {
    /// Returns the place of the `index`th step that is taken.
    fn step(&self, index: usize) -> usize {
        if self.backwards { self.steps - 1 - index } else { index }
    }

    /// Takes some rows forward: gates become applied gates.
    fn forward(&self, weight: &matrix::Packed, gates: &mut [f32], cells: &mut [f32], states: &mut [f32]) {
        let &Self { steps, hidden, .. } = self;
        let rows = cells.len() / (steps * hidden);
        let mut state = vec![0.0; rows * hidden];
        let mut cell = state.clone();
        let mut recurrent = vec![0.0; rows * 4 * hidden];
        let mut scratch = Vec::new();
        for index in 0..steps {
            let step = self.step(index);
            let left = Matrix::new(&state, [rows, hidden]);
            matrix::rows(left, 4 * hidden, weight, 0, &mut recurrent, &mut scratch);
            for row in 0..rows {
                let place = row * steps + step;
                let gates = &mut gates[place * 4 * hidden..][..4 * hidden];
                let own = row * hidden..(row + 1) * hidden;
                let more = &recurrent[row * 4 * hidden..][..4 * hidden];
                advance(Instructions::detect(), gates, more, &mut cell[own.clone()], &mut state[own.clone()]);
                cells[place * hidden..][..hidden].copy_from_slice(&cell[own.clone()]);
                states[place * hidden..][..hidden].copy_from_slice(&state[own]);
            }
        }
    }

    /// Takes the gradient of some rows back: applied gates become the gradient of the gates.
    fn backward(&self, weight: &matrix::Packed, gates: &mut [f32], cells: &[f32], gradient: &[f32]) {
        let &Self { steps, hidden, .. } = self;
        let rows = cells.len() / (steps * hidden);
        let mut state = vec![0.0; rows * hidden];
        let mut cell = state.clone();
        let mut back = vec![0.0; rows * 4 * hidden];
        let mut scratch = Vec::new();
        let zeros = vec![0.0; hidden];
        for index in (0..steps).rev() {
            let step = self.step(index);
            for row in 0..rows {
                let place = row * steps + step;
                let own = row * hidden..(row + 1) * hidden;
                let more = gradient[place * hidden..][..hidden].iter();
                state[own.clone()].iter_mut().zip(more).for_each(|(state, more)| *state += more);
                let before = match index {
                    0 => &zeros[..],
                    _ => &cells[(row * steps + self.step(index - 1)) * hidden..][..hidden],
                };
                let gates = &mut gates[place * 4 * hidden..][..4 * hidden];
                let now = &cells[place * hidden..][..hidden];
                retreat(Instructions::detect(), gates, [before, now], &mut cell[own.clone()], &state[own]);
                back[row * 4 * hidden..][..4 * hidden].copy_from_slice(gates);
            }
            let left = Matrix::new(&back, [rows, 4 * hidden]);
            matrix::rows(left, hidden, weight, 0, &mut state, &mut scratch);
        }
    }
}

vectorize!(fn advance(gates: &mut [f32], more: &[f32], cell: &mut [f32], state: &mut [f32]) = advance_row);

/// Splits the gates of a row. All parts have the length that the loops go to, which spares them checks.
#[inline(always)]
fn parts(gates: &mut [f32], hidden: usize) -> [&mut [f32]; 4] {
    let (write, rest) = gates.split_at_mut(hidden);
    let (keep, rest) = rest.split_at_mut(hidden);
    let (new, show) = rest.split_at_mut(hidden);
    [write, keep, new, &mut show[..hidden]]
}

#[inline(always)]
fn advance_row(gates: &mut [f32], more: &[f32], cell: &mut [f32], state: &mut [f32]) {
    for (gate, more) in gates.iter_mut().zip(more) {
        *gate += *more;
    }
    let hidden = cell.len();
    let state = &mut state[..hidden];
    let [write, keep, new, show] = parts(gates, hidden);
    for unit in 0..hidden {
        write[unit] = sigmoid(write[unit]);
        keep[unit] = sigmoid(keep[unit]);
        new[unit] = tanh(new[unit]);
        show[unit] = sigmoid(show[unit]);
        cell[unit] = keep[unit] * cell[unit] + write[unit] * new[unit];
        state[unit] = show[unit] * tanh(cell[unit]);
    }
}

vectorize!(fn retreat(gates: &mut [f32], cells: [&[f32]; 2], cell: &mut [f32], state: &[f32]) = retreat_row);

/// `cells` are those before and after the step, `cell` and `state` the gradients of what it gives.
#[inline(always)]
fn retreat_row(gates: &mut [f32], cells: [&[f32]; 2], cell: &mut [f32], state: &[f32]) {
    let hidden = cell.len();
    let [before, now] = cells.map(|cells| &cells[..hidden]);
    let state = &state[..hidden];
    let [write, keep, new, show] = parts(gates, hidden);
    for unit in 0..hidden {
        let (i, f, g, o) = (write[unit], keep[unit], new[unit], show[unit]);
        let shown = tanh(now[unit]);
        let total = cell[unit] + state[unit] * o * (1.0 - shown * shown);
        write[unit] = total * g * i * (1.0 - i);
        keep[unit] = total * before[unit] * f * (1.0 - f);
        new[unit] = total * i * (1.0 - g * g);
        show[unit] = state[unit] * shown * o * (1.0 - o);
        cell[unit] = total * f;
    }
}

impl CustomOp2 for Lstm {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn cpu_fwd(
        &self,
        gates: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let (batch, steps, wide) = layout.shape().dims3()?;
        let (rows, hidden) = weight_layout.shape().dims2()?;
        if rows != wide || rows != 4 * hidden {
            candle_core::bail!("gates of {wide} and weights of {rows} by {hidden} are no LSTM");
        }
        let run = Run { steps, hidden, backwards: self.backwards };
        let weight = Matrix::new(argument(weight, weight_layout)?, [rows, hidden]);
        let packed = matrix::pack(weight.transpose());
        let mut gates = argument(gates, layout)?.to_vec();
        let mut cells = vec![0.0; batch * steps * hidden];
        let mut states = cells.clone();
        let piece = ROWS * steps * hidden;
        (gates.par_chunks_mut(4 * piece).zip(cells.par_chunks_mut(piece)).zip(states.par_chunks_mut(piece)))
            .for_each(|((gates, cells), states)| run.forward(&packed, gates, cells, states));
        // Computed again, it would be the same.
        let _ = self.saved.set(Saved { gates, cells });
        output(states, (batch, steps, hidden))
    }

    fn bwd(
        &self,
        gates: &Tensor,
        weight: &Tensor,
        states: &Tensor,
        gradient: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        let (batch, steps, hidden) = states.dims3()?;
        let run = Run { steps, hidden, backwards: self.backwards };
        let Some(saved) = self.saved.get() else { candle_core::bail!("an LSTM goes forward first") };
        let packed = read(weight, |weight| matrix::pack(Matrix::new(weight, [4 * hidden, hidden])))?;
        let mut values = saved.gates.clone();
        let piece = ROWS * steps * hidden;
        read(gradient, |gradient| {
            (values
                .par_chunks_mut(4 * piece)
                .zip(saved.cells.par_chunks(piece))
                .zip(gradient.par_chunks(piece)))
            .for_each(|((gates, cells), gradient)| run.backward(&packed, gates, cells, gradient));
        })?;
        let of_weight = of_leaf(weight, || {
            let before = read(states, |states| self.before(states, run))?;
            let rows = batch * steps;
            let mut sums = vec![0.0; 4 * hidden * hidden];
            let left = Matrix::new(&values, [rows, 4 * hidden]).transpose();
            matrix::multiply(left, Matrix::new(&before, [rows, hidden]), &mut sums);
            tensor(sums, (4 * hidden, hidden))
        })?;
        Ok((Some(tensor(values, gates.shape().clone())?), of_weight))
    }
}

impl Lstm {
    /// Returns the hidden states that each step began with.
    fn before(&self, states: &[f32], run: Run) -> Vec<f32> {
        let Run { steps, hidden, .. } = run;
        let mut before = vec![0.0; states.len()];
        let size = steps * hidden;
        for (before, states) in before.chunks_exact_mut(size).zip(states.chunks_exact(size)) {
            let length = size - hidden;
            match self.backwards {
                false => before[hidden..].copy_from_slice(&states[..length]),
                true => before[..length].copy_from_slice(&states[hidden..]),
            }
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::recurrent as plain;
    use super::super::super::{Conv, testing::*};
    use super::*;

    #[test]
    fn the_gradients_are_those_of_finite_differences() {
        let (gates, weight) = (noise_tensor(&[2, 3, 8], 1), noise_tensor(&[8, 2], 2));
        for backwards in [false, true] {
            check_gradient(&gates, |gates| lstm(gates, &weight, backwards));
            check_gradient(&weight, |weight| lstm(&gates, weight, backwards));
        }
    }

    #[test]
    fn it_gives_the_states_of_the_memory_that_scores() {
        let (input, hidden) = (noise(8 * 3, 1), noise(8 * 2, 2));
        let (first_bias, second_bias) = (noise(8, 3), noise(8, 4));
        let memory = plain::Lstm {
            input: Conv::linear(&input, [8, 3], &first_bias),
            hidden: Conv::linear(&hidden, [8, 2], &second_bias),
        };
        let rows = noise_tensor(&[30, 5, 3], 5);
        let bias: Vec<f32> = first_bias.iter().zip(&second_bias).map(|(a, b)| a + b).collect();
        let gates = Conv::linear(&input, [8, 3], &bias).forward_rows(&rows).unwrap();
        let weight = tensor(hidden, (8, 2)).unwrap();
        for backwards in [false, true] {
            let expected = flat(&memory.forward(&rows, backwards).unwrap());
            assert!(distance(&flat(&lstm(&gates, &weight, backwards).unwrap()), &expected) < 1e-5);
        }
    }
}
