//! Recurrent layers that read the pieces of a long sequence, both ways.

use crate::kernel::Linear;

/// One direction of one layer.
pub struct Direction {
    /// From the input to the gates, `[gates·hidden, inputs]`.
    pub input: Linear,
    /// From the last hidden state to the gates, `[gates·hidden, hidden]`.
    pub hidden: Linear,
}

/// Layers of two directions each. Three gates a unit are a gated recurrent unit (PyTorch's order: reset, update,
/// new), four a long short-term memory (input, forget, cell, output).
pub struct Recurrent {
    /// Forwards and backwards, layer by layer.
    pub layers: Vec<[Direction; 2]>,
}

impl Recurrent {
    /// Reads `[steps, inputs]` and returns the sum of the last hidden states of all layers and directions,
    /// `[hidden]`.
    pub fn read(&self, steps: &[f32]) -> Vec<f32> {
        let mut sum = Vec::new();
        let mut input = steps.to_vec();
        for [forwards, backwards] in &self.layers {
            let there = forwards.read(&input, false);
            let back = backwards.read(&input, true);
            sum.resize(forwards.size(), 0.0);
            for state in [there.last(), back.first()].into_iter().flatten() {
                sum.iter_mut().zip(state).for_each(|(sum, value)| *sum += value);
            }
            input = there.into_iter().zip(back).flat_map(|(there, back)| [there, back].concat()).collect();
        }
        sum
    }
}

impl Direction {
    /// Returns the length of the hidden state.
    fn size(&self) -> usize {
        self.hidden.inputs()
    }

    /// Returns the hidden state at each step.
    fn read(&self, steps: &[f32], backwards: bool) -> Vec<Vec<f32>> {
        let (size, gates) = (self.size(), self.input.outputs());
        let count = steps.len() / self.input.inputs();
        let mut from_input = vec![0.0; count * gates];
        self.input.apply(steps, &mut from_input);
        let mut state = vec![0.0; size];
        let mut cell = vec![0.0; size];
        let mut from_state = vec![0.0; gates];
        let mut states = vec![Vec::new(); count];
        for step in 0..count {
            let step = if backwards { count - 1 - step } else { step };
            self.hidden.apply(&state, &mut from_state);
            let from_input = &from_input[step * gates..(step + 1) * gates];
            if gates == 3 * size {
                gated_unit(from_input, &from_state, &mut state);
            } else {
                memory(from_input, &from_state, &mut cell, &mut state);
            }
            states[step] = state.clone();
        }
        states
    }
}

fn gated_unit(from_input: &[f32], from_state: &[f32], state: &mut [f32]) {
    let size = state.len();
    for (unit, state) in state.iter_mut().enumerate() {
        let both = |gate: usize| from_input[gate * size + unit] + from_state[gate * size + unit];
        let (reset, update) = (sigmoid(both(0)), sigmoid(both(1)));
        let new = (from_input[2 * size + unit] + reset * from_state[2 * size + unit]).tanh();
        *state = (1.0 - update) * new + update * *state;
    }
}

fn memory(from_input: &[f32], from_state: &[f32], cell: &mut [f32], state: &mut [f32]) {
    let size = state.len();
    for (unit, (cell, state)) in cell.iter_mut().zip(state).enumerate() {
        let both = |gate: usize| from_input[gate * size + unit] + from_state[gate * size + unit];
        *cell = sigmoid(both(1)) * *cell + sigmoid(both(0)) * both(2).tanh();
        *state = sigmoid(both(3)) * cell.tanh();
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
