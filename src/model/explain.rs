//! What the bases of a sequence contribute to a logit of a network, compared with a background: integrated
//! gradients and DeepLIFT.
//!
//! Both give a multiplier m of every input, with Σ m · (x − r) = f(x) − f(r) for the sequence x and a background r
//! (for integrated gradients in the limit of many steps). The hypothetical contribution of base b at position i
//! is what it would have there, Σ over b′ of m[i, b′] · (1 if b′ is b − r[i, b′]), and that of the observed
//! base is its share in the difference. Several backgrounds are averaged (DeepSHAP).

use candle_core::{Tensor, Var};

use super::network::PASS_BASES;
use super::{Network, ensemble::not_differentiable};
use crate::dna::base_index;
use crate::error::Result;
use crate::kernel::rule;

/// What a sequence is compared with. An `N` of the sequence stands in every background, too: it differs in
/// nothing and contributes nothing.
#[derive(Clone, Debug)]
pub enum Background {
    /// No base anywhere.
    Zeros,
    /// These sequences, of the same length.
    Sequences(Vec<Vec<u8>>),
}

/// The steps of a path from background to sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steps {
    /// How many at first. While the result is not complete they are tripled.
    pub first: usize,
    /// The most.
    pub most: usize,
    /// Complete is an error of at most this part of the difference between sequence and background.
    pub tolerance: f64,
}

/// How multipliers are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// The mean gradient on the straight path from background to sequence, at the middle of each step.
    IntegratedGradients(Steps),
    /// The rescale rule, layer by layer: see [`rule`].
    DeepLift,
}

/// What bases contribute, and the difference that they share.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Hypothetical contributions, `[L, 4]`, base order A C G T.
    pub hypothetical: Vec<f32>,
    /// The logit of the sequence.
    pub logit: f32,
    /// The logit of the background; of several, the mean.
    pub logit_of_background: f32,
}

/// The same for one network, before means over networks are taken.
pub(super) struct Share {
    /// `[L, 4]`.
    pub hypothetical: Vec<f64>,
    pub logit: f64,
    pub logit_of_background: f64,
}

/// Explains the logit of `class` of one sequence.
pub(super) fn explain(
    network: &dyn Network,
    sequence: &[u8],
    class: usize,
    background: &Background,
    way: Way,
) -> Result<Share> {
    let encode =
        |sequence: &[u8]| -> Result<Vec<f32>> { Ok(network.encode(&[sequence])?.flatten_all()?.to_vec1()?) };
    let input = encode(sequence)?;
    let backgrounds = match background {
        Background::Zeros => vec![zeros(sequence, &input)],
        Background::Sequences(sequences) => {
            sequences.iter().map(|sequence| encode(sequence)).collect::<Result<_>>()?
        }
    };
    let question = Question { network, class, input: &input, backgrounds: &backgrounds };
    let logits = question.logits_of_backgrounds()?;
    let logit = question.logits(std::slice::from_ref(&input))?[0];
    let logit_of_background = mean(&logits);
    let multipliers = match way {
        Way::DeepLift => question.rescaled()?,
        Way::IntegratedGradients(steps) => question.integrated(steps, logit - logit_of_background)?,
    };
    Ok(Share { hypothetical: question.hypothetical(&multipliers), logit, logit_of_background })
}

/// Returns no base where there is a base in the sequence.
fn zeros(sequence: &[u8], input: &[f32]) -> Vec<f32> {
    let mut zeros = input.to_vec();
    for (column, &base) in zeros.chunks_exact_mut(4).zip(sequence) {
        if base_index(base).is_some() {
            column.fill(0.0);
        }
    }
    zeros
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// A logit of an encoded sequence, and what it is compared with.
struct Question<'a> {
    network: &'a dyn Network,
    class: usize,
    /// `[L, 4]`.
    input: &'a [f32],
    backgrounds: &'a [Vec<f32>],
}

impl Question<'_> {
    /// Returns how many inputs go through the network together. It depends on nothing but their length.
    fn pass(&self) -> usize {
        (PASS_BASES * 4 / self.input.len().max(1)).max(1)
    }

    /// Joins inputs to a batch that can be differentiated.
    fn batch(&self, inputs: &[&[f32]]) -> Result<Var> {
        let shape = (inputs.len(), self.input.len() / 4, 4);
        Ok(Var::from_vec(inputs.concat(), shape, &candle_core::Device::Cpu)?)
    }

    /// Returns the logits of a batch, `[B, 1]`.
    fn forward(&self, batch: &Tensor) -> Result<Tensor> {
        Ok(self.network.forward(batch)?.logits.narrow(1, self.class, 1)?)
    }

    fn logits(&self, inputs: &[Vec<f32>]) -> Result<Vec<f64>> {
        let mut logits = Vec::with_capacity(inputs.len());
        for inputs in inputs.chunks(self.pass()) {
            let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
            let batch = self.batch(&inputs)?;
            let values: Vec<f32> = self.forward(&batch.as_detached_tensor())?.flatten_all()?.to_vec1()?;
            logits.extend(values.into_iter().map(f64::from));
        }
        Ok(logits)
    }

    fn logits_of_backgrounds(&self) -> Result<Vec<f64>> {
        self.logits(self.backgrounds)
    }

    /// Returns the multipliers of the rescale rule for each background, `[L, 4]`.
    fn rescaled(&self) -> Result<Vec<Vec<f64>>> {
        let mut all = Vec::with_capacity(self.backgrounds.len());
        for backgrounds in self.backgrounds.chunks((self.pass() / 2).max(1)) {
            let inputs = std::iter::repeat_n(self.input, backgrounds.len());
            let pairs: Vec<&[f32]> = inputs.chain(backgrounds.iter().map(Vec::as_slice)).collect();
            let batch = self.batch(&pairs)?;
            let multipliers = rule::multipliers(&self.forward(batch.as_tensor())?)?;
            let multipliers = multipliers.get(batch.as_tensor()).ok_or_else(not_differentiable)?;
            let values: Vec<f32> = multipliers.flatten_all()?.to_vec1()?;
            let each = values.chunks_exact(self.input.len()).take(backgrounds.len());
            all.extend(each.map(|values| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>()));
        }
        Ok(all)
    }

    /// Returns the mean gradients on the path from each background, `[L, 4]`.
    fn integrated(&self, steps: Steps, difference: f64) -> Result<Vec<Vec<f64>>> {
        let mut sums = vec![vec![0.0; self.input.len()]; self.backgrounds.len()];
        let mut count = steps.first;
        let mut places: Vec<usize> = (0..count).collect();
        loop {
            for (background, sums) in self.backgrounds.iter().zip(&mut sums) {
                self.add_gradients(background, (&places, count), sums)?;
            }
            let means: Vec<Vec<f64>> =
                sums.iter().map(|sums| sums.iter().map(|sum| sum / count as f64).collect()).collect();
            let error = (self.shared(&means) - difference).abs();
            // What is no number will not become one by more steps.
            let incomplete = error > steps.tolerance * difference.abs();
            if !incomplete || 3 * count > steps.most {
                return Ok(means);
            }
            // The middle of each step stays the middle of one when every step is cut in three.
            count *= 3;
            places = (0..count).filter(|place| place % 3 != 1).collect();
        }
    }

    /// Adds the gradients at the middle of the steps `places` of `count` on the path from one background.
    fn add_gradients(
        &self,
        background: &[f32],
        (places, count): (&[usize], usize),
        sums: &mut [f64],
    ) -> Result<()> {
        let at = |&place: &usize| -> Vec<f32> {
            let part = ((place as f64 + 0.5) / count as f64) as f32;
            self.input.iter().zip(background).map(|(&x, &r)| r + part * (x - r)).collect()
        };
        for places in places.chunks(self.pass()) {
            let inputs: Vec<Vec<f32>> = places.iter().map(at).collect();
            let batch = self.batch(&inputs.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
            let gradients = rule::gradients(&self.forward(batch.as_tensor())?)?;
            let gradients = gradients.get(batch.as_tensor()).ok_or_else(not_differentiable)?;
            let values: Vec<f32> = gradients.flatten_all()?.to_vec1()?;
            for gradient in values.chunks_exact(self.input.len()) {
                sums.iter_mut().zip(gradient).for_each(|(sum, &value)| *sum += f64::from(value));
            }
        }
        Ok(())
    }

    /// Returns what multipliers share out in all, the mean over backgrounds.
    fn shared(&self, multipliers: &[Vec<f64>]) -> f64 {
        let of = |(multipliers, background): (&Vec<f64>, &Vec<f32>)| -> f64 {
            let differences = self.input.iter().zip(background).map(|(&x, &r)| f64::from(x) - f64::from(r));
            multipliers.iter().zip(differences).map(|(m, difference)| m * difference).sum()
        };
        mean(&multipliers.iter().zip(self.backgrounds).map(of).collect::<Vec<_>>())
    }

    /// Returns the hypothetical contributions `[L, 4]`, the mean over backgrounds.
    fn hypothetical(&self, multipliers: &[Vec<f64>]) -> Vec<f64> {
        let mut hypothetical = vec![0.0; self.input.len()];
        for (multipliers, background) in multipliers.iter().zip(self.backgrounds) {
            let columns = multipliers.chunks_exact(4).zip(background.chunks_exact(4));
            for (sums, (multipliers, background)) in hypothetical.chunks_exact_mut(4).zip(columns) {
                let of_background: f64 =
                    multipliers.iter().zip(background).map(|(m, &r)| m * f64::from(r)).sum();
                sums.iter_mut().zip(multipliers).for_each(|(sum, m)| *sum += m - of_background);
            }
        }
        let count = self.backgrounds.len() as f64;
        hypothetical.iter_mut().for_each(|sum| *sum /= count);
        hypothetical
    }
}
