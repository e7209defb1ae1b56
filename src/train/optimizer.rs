//! What a gradient does to a weight: AdamW, Adam, and descent with Nesterov's momentum, as PyTorch has them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result as Candle, Tensor};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernel::Instructions;
use crate::kernel::instructions::vectorize;
use crate::kernel::learn::read;
use crate::model::graph::Parameters;

/// Gradients by the names of what is trained.
pub type Gradients = BTreeMap<String, Tensor>;

/// How a gradient becomes a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Adam with weight decay apart from the gradient.
    AdamW(Betas),
    /// Adam with weight decay as part of the gradient.
    Adam(Betas),
    /// Descent with momentum.
    Sgd {
        /// The share of the last step that is kept.
        momentum: f64,
        /// Whether the momentum looks ahead (Nesterov).
        nesterov: bool,
    },
}

/// The constants of Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Betas {
    /// The share of the mean of gradients that is kept.
    pub first: f64,
    /// The share of the mean of their squares that is kept.
    pub second: f64,
    /// Added to the root of the latter.
    pub epsilon: f64,
}

impl Default for Betas {
    fn default() -> Self {
        Self { first: 0.9, second: 0.999, epsilon: 1e-8 }
    }
}

/// Which weights decay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decaying {
    /// All, as PyTorch's optimizers do unless told otherwise.
    #[default]
    All,
    /// All but biases and layer norms, as Hugging Face's trainer does.
    NoBiasNoNorm,
}

impl Decaying {
    fn applies(self, name: &str) -> bool {
        let plain = name.to_lowercase().replace('_', "");
        self == Self::All || !(plain.contains("bias") || plain.contains("layernorm"))
    }
}

/// An optimizer and its memory.
#[derive(Clone, Debug)]
pub struct Optimizer {
    rule: Rule,
    decay: f64,
    decaying: Decaying,
    /// First and second moments by name.
    pub(super) moments: BTreeMap<String, [Vec<f32>; 2]>,
    pub(super) steps: u64,
}

impl Optimizer {
    /// Creates an optimizer without memory.
    pub fn new(rule: Rule, decay: f64, decaying: Decaying) -> Self {
        Self { rule, decay, decaying, moments: BTreeMap::new(), steps: 0 }
    }

    /// Takes a step at this learning rate along gradients times `factor`. What has no gradient stays as it is.
    ///
    /// # Errors
    ///
    /// When a tensor is not on the processor.
    pub fn step(
        &mut self,
        parameters: &Parameters,
        gradients: &Gradients,
        factor: f32,
        rate: f64,
    ) -> Result<()> {
        self.steps += 1;
        for (name, variable) in parameters.trained() {
            let Some(gradient) = gradients.get(name) else { continue };
            let decay = if self.decaying.applies(name) { self.decay } else { 0.0 };
            let is_first = !self.moments.contains_key(name);
            let count = gradient.elem_count();
            let second = if matches!(self.rule, Rule::Sgd { .. }) { 0 } else { count };
            let moments =
                self.moments.entry(name.into()).or_insert_with(|| [vec![0.0; count], vec![0.0; second]]);
            let (rule, steps) = (self.rule, self.steps);
            read(gradient, |gradient| {
                let moments = RefCell::new(moments);
                let update = Update { rule, rate, decay, steps, is_first, gradient, factor, moments };
                variable.as_tensor().inplace_op1(&update)
            })??;
        }
        Ok(())
    }
}

/// Numbers that one thread takes at a time.
const PIECE: usize = 1 << 14;

struct Update<'a> {
    rule: Rule,
    rate: f64,
    decay: f64,
    steps: u64,
    is_first: bool,
    gradient: &'a [f32],
    factor: f32,
    moments: RefCell<&'a mut [Vec<f32>; 2]>,
}

impl InplaceOp1 for Update<'_> {
    fn name(&self) -> &'static str {
        "optimizer"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Candle<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("weights in training are contiguous f32");
        };
        let values = &mut values[start..end];
        let mut moments = self.moments.borrow_mut();
        let [first, second] = &mut **moments;
        match self.rule {
            Rule::AdamW(betas) | Rule::Adam(betas) => self.adam(betas, values, first, second),
            Rule::Sgd { momentum, nesterov } => self.sgd([momentum as f32, nesterov.into()], values, first),
        }
        Ok(())
    }
}

impl Update<'_> {
    fn adam(&self, betas: Betas, values: &mut [f32], first: &mut [f32], second: &mut [f32]) {
        let Betas { first: beta_1, second: beta_2, epsilon } = betas;
        let steps = self.steps as i32;
        let apart = matches!(self.rule, Rule::AdamW(_));
        let adam = Adam {
            step: (self.rate / (1.0 - beta_1.powi(steps))) as f32,
            root: (1.0 - beta_2.powi(steps)).sqrt() as f32,
            shrink: if apart { (1.0 - self.rate * self.decay) as f32 } else { 1.0 },
            join: if apart { 0.0 } else { self.decay as f32 },
            shares: [shares(beta_1), shares(beta_2)],
            epsilon: epsilon as f32,
            factor: self.factor,
        };
        let pieces = (values.par_chunks_mut(PIECE).zip(first.par_chunks_mut(PIECE)))
            .zip(second.par_chunks_mut(PIECE).zip(self.gradient.par_chunks(PIECE)));
        pieces.for_each(|((values, first), (second, gradient))| {
            adam_step(Instructions::detect(), adam, values, [first, second], gradient);
        });
    }

    fn sgd(&self, [momentum, ahead]: [f32; 2], values: &mut [f32], buffer: &mut [f32]) {
        let (rate, decay) = (self.rate as f32, self.decay as f32);
        let keep = if self.is_first { 0.0 } else { momentum };
        for ((x, buffer), g) in values.iter_mut().zip(buffer).zip(self.gradient) {
            let g = self.factor * g + decay * *x;
            *buffer = keep * *buffer + g;
            *x -= rate * if ahead > 0.0 { g + momentum * *buffer } else { *buffer };
        }
    }
}

/// The numbers of one step of Adam.
#[derive(Clone, Copy)]
struct Adam {
    step: f32,
    root: f32,
    /// What weights are multiplied by.
    shrink: f32,
    /// The share of a weight in its gradient.
    join: f32,
    /// What is kept and what is new, of both moments.
    shares: [[f32; 2]; 2],
    epsilon: f32,
    /// What gradients are multiplied by.
    factor: f32,
}

vectorize!(fn adam_step(adam: Adam, values: &mut [f32], moments: [&mut [f32]; 2], gradient: &[f32]) = adam_piece);

#[inline(always)]
fn adam_piece(adam: Adam, values: &mut [f32], [first, second]: [&mut [f32]; 2], gradient: &[f32]) {
    let Adam { step, root, shrink, join, shares: [[b1, c1], [b2, c2]], epsilon, factor } = adam;
    for (((x, m), v), g) in values.iter_mut().zip(first).zip(second).zip(gradient) {
        let g = factor * *g + join * *x;
        *m = b1 * *m + c1 * g;
        *v = b2 * *v + c2 * g * g;
        *x = *x * shrink - step * *m / (v.sqrt() / root + epsilon);
    }
}

/// Returns what is kept and what is new.
fn shares(beta: f64) -> [f32; 2] {
    [beta as f32, (1.0 - beta) as f32]
}

/// Returns the norm of all gradients together.
///
/// # Errors
///
/// When one is no number: training has gone astray.
pub fn norm(gradients: &Gradients) -> Result<f64> {
    let mut sum = 0.0;
    for gradient in gradients.values() {
        let parts: Vec<f64> = read(gradient, |values| values.par_chunks(PIECE).map(square).collect())?;
        sum += parts.iter().sum::<f64>();
    }
    match sum.is_finite() {
        true => Ok(sum.sqrt()),
        false => Err(Error::data("a gradient is infinite or no number: a lower --learning-rate may help")),
    }
}

/// Returns the sum of the squares of numbers.
fn square(values: &[f32]) -> f64 {
    let mut sums = [0.0; CHAINS];
    add_squares(Instructions::detect(), values, &mut sums);
    sums.iter().sum()
}

/// Sums that are taken side by side.
const CHAINS: usize = 64;

vectorize!(fn add_squares(values: &[f32], sums: &mut [f64; CHAINS]) = add_squares_here);

#[inline(always)]
fn add_squares_here(values: &[f32], sums: &mut [f64; CHAINS]) {
    for values in values.chunks(CHAINS) {
        for (sum, x) in sums.iter_mut().zip(values) {
            *sum += f64::from(*x) * f64::from(*x);
        }
    }
}

/// Returns what gradients of this norm are multiplied by so that their norm is at most `most`.
pub fn clipping(norm: f64, most: f64) -> f32 {
    (most / (norm + 1e-6)).min(1.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::learn::tensor;
    use crate::kernel::testing::{distance, noise};
    use crate::model::weights::Array;

    fn train(rule: Rule, decay: f64, gradients: &[[f32; 3]]) -> Vec<f32> {
        step_by(rule, decay, gradients, 1.0)
    }

    fn step_by(rule: Rule, decay: f64, gradients: &[[f32; 3]], factor: f32) -> Vec<f32> {
        let mut parameters = Parameters::default();
        let values = vec![0.5, -1.0, 2.0];
        parameters.insert("w", Array { shape: vec![3], values }).unwrap();
        let mut optimizer = Optimizer::new(rule, decay, Decaying::All);
        for gradient in gradients {
            let gradients = [("w".to_string(), tensor(gradient.to_vec(), 3).unwrap())].into();
            optimizer.step(&parameters, &gradients, factor, 0.1).unwrap();
        }
        read(parameters.get("w").unwrap(), <[f32]>::to_vec).unwrap()
    }

    /// The formulas of PyTorch's documentation, in f64.
    fn expected(rule: Rule, decay: f64, gradients: &[[f32; 3]]) -> Vec<f64> {
        let mut all = vec![0.5, -1.0, 2.0];
        for (place, x) in all.iter_mut().enumerate() {
            let (mut m, mut v, mut buffer) = (0.0, 0.0, None::<f64>);
            for (step, gradient) in gradients.iter().enumerate() {
                let mut g = f64::from(gradient[place]);
                let t = step as i32 + 1;
                match rule {
                    Rule::AdamW(b) | Rule::Adam(b) => {
                        match rule {
                            Rule::AdamW(_) => *x -= 0.1 * decay * *x,
                            _ => g += decay * *x,
                        }
                        m = b.first * m + (1.0 - b.first) * g;
                        v = b.second * v + (1.0 - b.second) * g * g;
                        let (m, v): (f64, f64) = (m / (1.0 - b.first.powi(t)), v / (1.0 - b.second.powi(t)));
                        *x -= 0.1 * m / (v.sqrt() + b.epsilon);
                    }
                    Rule::Sgd { momentum, nesterov } => {
                        g += decay * *x;
                        let new = buffer.map_or(g, |buffer| momentum * buffer + g);
                        buffer = Some(new);
                        *x -= 0.1 * if nesterov { g + momentum * new } else { new };
                    }
                }
            }
        }
        all
    }

    #[test]
    fn steps_are_those_of_the_formulas() {
        let gradients = [[0.3, -0.1, 0.0], [0.1, 0.4, -2.0], [-0.5, 0.2, 1.0]];
        for rule in [
            Rule::AdamW(Betas::default()),
            Rule::Adam(Betas { first: 0.8, second: 0.98, epsilon: 1e-6 }),
            Rule::Sgd { momentum: 0.9, nesterov: true },
            Rule::Sgd { momentum: 0.5, nesterov: false },
        ] {
            for decay in [0.0, 0.05] {
                let found = train(rule, decay, &gradients);
                for (found, expected) in found.iter().zip(expected(rule, decay, &gradients)) {
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error < 1e-6, "{rule:?}: {found} is not {expected}");
                }
            }
        }
    }

    #[test]
    fn biases_and_layer_norms_do_not_decay_where_they_should_not() {
        let applies = |name| Decaying::NoBiasNoNorm.applies(name);
        assert!(applies("bert.encoder.layer.0.output.dense.weight") && applies("Convolutions.3.weight"));
        let exempt = [
            "a.bias",
            "bert.embeddings.LayerNorm.weight",
            "layer.1.mlp.layernorm.weight",
            "esm.encoder.emb_layer_norm_after.weight",
            "BiLSTM.bias_ih_l0",
        ];
        assert!(exempt.iter().all(|name| !applies(name)));
        assert!(Decaying::All.applies("a.bias"));
    }

    #[test]
    fn clipping_keeps_the_direction_and_a_lost_gradient_is_an_error() {
        let gradients = |values: Vec<f32>| -> Gradients { [("a".into(), tensor(values, 2).unwrap())].into() };
        let norm_of = |values| norm(&gradients(values)).unwrap();
        assert_eq!(norm_of(vec![3.0, 4.0]), 5.0);
        assert!((f64::from(clipping(5.0, 1.0)) - 0.2).abs() < 1e-6);
        assert_eq!(clipping(norm_of(vec![0.3, 0.4]), 1.0), 1.0);
        assert!(norm(&gradients(vec![f32::NAN, 0.0])).unwrap_err().to_string().contains("--learning-rate"));
        // A step along a clipped gradient is the one along the gradient that it becomes.
        let rule = Rule::Sgd { momentum: 0.0, nesterov: false };
        let clipped = step_by(rule, 0.0, &[[3.0, 4.0, 0.0]], clipping(5.0, 1.0));
        assert!(distance(&clipped, &train(rule, 0.0, &[[0.6, 0.8, 0.0]])) < 1e-6);
        let adam = Rule::Adam(Betas { epsilon: 0.5, ..Betas::default() });
        assert_eq!(step_by(adam, 0.0, &[[3.0, 4.0, 0.0]], 0.25), train(adam, 0.0, &[[0.75, 1.0, 0.0]]));
    }

    #[test]
    fn the_norm_is_that_of_all_numbers_however_many_there_are() {
        for count in [1, 63, 64, 65, PIECE - 1, 2 * PIECE + 7] {
            let values = noise(count, count as u64);
            let expected = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let gradients: Gradients = [("a".into(), tensor(values, count).unwrap())].into();
            assert!((norm(&gradients).unwrap() - expected).abs() < 1e-9 * expected.max(1.0), "{count}");
        }
    }
}
