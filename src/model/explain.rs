//! What the bases of a sequence contribute to a logit of a network, compared with a background: integrated
//! gradients and DeepLIFT.
//!
//! Both give a multiplier m of every input, with Σ m · (x − r) = f(x) − f(r) for the sequence x and a background r.
//! The hypothetical contribution of base b at position i is what it would have there,
//! Σ over b′ of m[i, b′] · (1 if b′ is b − r[i, b′]), and that of the observed base is its share in the difference.
//! Several backgrounds are averaged (DeepSHAP).
//!
//! The integral of the gradient on the straight path from r to x is a sum over steps of the path. Of each, the
//! multipliers are those of its chord ([`rule::chords`]): their sum over the inputs' differences is what f differs
//! between the ends of the step, so that the sum over steps is f(x) − f(r) whatever their number, and with shorter steps
//! they go to the gradient (a gradient at the middle of a step misses every bend and every change of a maximum in
//! that step). How near the sum is to the integral says how much it changes when every step is cut in three.

use candle_core::backprop::GradStore;
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
    /// How many at first. They are tripled until contributions have settled.
    pub first: usize,
    /// The most.
    pub most: usize,
    /// Contributions have settled when tripling the steps has changed at most this part of them, added up without
    /// their signs.
    pub settled: f64,
    /// Complete is an error of at most this part of the difference between sequence and background.
    pub tolerance: f64,
}

impl Default for Steps {
    /// 50 steps, at most 1350, of which the last tripling changed at most 1 %, and 1e-4 of the difference.
    fn default() -> Self {
        Self { first: 50, most: 1350, settled: 0.01, tolerance: 1e-4 }
    }
}

/// The places of a path are multiples of 1 / 2²⁰: such parts of 0 and 1 have no rounding, and the lengths of steps none.
const GRID: f64 = (1 << 20) as f64;

impl Steps {
    /// Returns the ends of so many steps as parts of the path, from 0 to 1.
    pub(super) fn ends(count: usize) -> Vec<f32> {
        (0..=count).map(|end| ((end as f64 / count as f64 * GRID).round() / GRID) as f32).collect()
    }

    /// Returns whether contributions that miss a difference by `error`, and of which the last tripling of the steps
    /// changed the part `change`, are complete and have settled.
    pub fn hold(&self, error: f64, difference: f64, change: f64) -> bool {
        error <= self.tolerance * difference.abs() && change <= self.settled
    }

    /// Computes with ever more steps until that changes little. Returns the last result and how much that differs from
    /// the one before, infinitely where there was none.
    pub(super) fn refine<T>(
        self,
        mut with: impl FnMut(usize) -> Result<T>,
        change: impl Fn(&T, &T) -> f64,
    ) -> Result<(T, f64)> {
        let mut count = self.first.max(1);
        let mut former = if count > 1 { Some(with(count.div_ceil(3))?) } else { None };
        loop {
            let found = with(count)?;
            let changed = former.map_or(f64::INFINITY, |former| change(&former, &found));
            // What is no number will not become one by more steps.
            if changed.is_nan() || changed <= self.settled || 3 * count > self.most {
                return Ok((found, changed));
            }
            former = Some(found);
            count *= 3;
        }
    }
}

/// Returns how much terms differ from others, as a part of all of them; both without signs.
pub(super) fn relative_change(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    let add = |(moved, size): (f64, f64), (former, term): (f64, f64)| {
        (moved + (term - former).abs(), size + term.abs())
    };
    let (moved, size) = pairs.fold((0.0, 0.0), add);
    if moved == 0.0 { 0.0 } else { moved / size }
}

/// How multipliers are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// The mean gradient on the straight path from background to sequence, by the chords of its steps.
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
    /// What part of the contributions changed when the steps of a path were last tripled, the largest of all networks
    /// and strands; infinite where they were not, 0 where there is no path.
    pub change: f64,
}

/// The same for one network, before means over networks are taken.
pub(super) struct Share {
    /// `[L, 4]`.
    pub hypothetical: Vec<f64>,
    pub logit: f64,
    pub logit_of_background: f64,
    pub change: f64,
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
    let (multipliers, change) = match way {
        Way::DeepLift => (question.rescaled()?, 0.0),
        Way::IntegratedGradients(steps) => steps
            .refine(|count| question.integrated(count), |former, found| question.change(former, found))?,
    };
    let hypothetical = question.hypothetical(&multipliers);
    Ok(Share { hypothetical, logit, logit_of_background, change })
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
            let values = self.of_pairs(&pairs, rule::multipliers)?;
            let each = values.chunks_exact(self.input.len());
            all.extend(each.map(|values| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>()));
        }
        Ok(all)
    }

    /// Returns what a rule makes of pairs of inputs, first all of what is explained, then what each is compared with:
    /// `[L, 4]` of each pair, end to end.
    fn of_pairs(&self, pairs: &[&[f32]], rule: fn(&Tensor) -> Result<GradStore>) -> Result<Vec<f32>> {
        let batch = self.batch(pairs)?;
        let multipliers = rule(&self.forward(batch.as_tensor())?)?;
        let multipliers = multipliers.get(batch.as_tensor()).ok_or_else(not_differentiable)?;
        let mut values: Vec<f32> = multipliers.flatten_all()?.to_vec1()?;
        values.truncate(values.len() / 2);
        Ok(values)
    }

    /// Returns the mean multipliers on the path from each background in so many steps, `[L, 4]`.
    fn integrated(&self, count: usize) -> Result<Vec<Vec<f64>>> {
        let ends = Steps::ends(count);
        self.backgrounds.iter().map(|background| self.follow(background, &ends)).collect()
    }

    /// Returns the mean multipliers on the path from one background by way of these places, `[L, 4]`.
    fn follow(&self, background: &[f32], ends: &[f32]) -> Result<Vec<f64>> {
        let at = |part: f32| -> Vec<f32> {
            self.input.iter().zip(background).map(|(&x, &r)| r + part * (x - r)).collect()
        };
        let mut sums = vec![0.0; self.input.len()];
        let steps: Vec<&[f32]> = ends.windows(2).collect();
        for steps in steps.chunks((self.pass() / 2).max(1)) {
            let ends = [1, 0].map(|end| steps.iter().map(|step| at(step[end])).collect::<Vec<_>>());
            let pairs: Vec<&[f32]> = ends.iter().flatten().map(Vec::as_slice).collect();
            let values = self.of_pairs(&pairs, rule::chords)?;
            for (step, values) in steps.iter().zip(values.chunks_exact(self.input.len())) {
                let length = f64::from(step[1]) - f64::from(step[0]);
                sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += length * f64::from(value));
            }
        }
        Ok(sums)
    }

    /// Returns what part of the contributions changed from former multipliers to new ones.
    fn change(&self, former: &[Vec<f64>], found: &[Vec<f64>]) -> f64 {
        let of = |((former, found), background): ((&'_ Vec<f64>, &'_ Vec<f64>), &'_ Vec<f32>)| {
            let differences = self.input.iter().zip(background).map(|(&x, &r)| f64::from(x) - f64::from(r));
            let terms = former.iter().zip(found).zip(differences);
            terms.map(|((former, found), by)| (former * by, found * by)).collect::<Vec<_>>()
        };
        relative_change(former.iter().zip(found).zip(self.backgrounds).flat_map(of))
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

#[cfg(test)]
pub(crate) mod midpoints;
