//! What goes back through layers that are not linear: gradients, or the multipliers of DeepLIFT.
//!
//! Under the rescale rule (Shrikumar et al. 2017, as DeepSHAP has it) a batch is pairs: its first half are the
//! inputs, its second half what each is compared with. A layer hands back, instead of its derivative, how much
//! the output of the pair differs for each unit that its input differs, so that differences at the output are
//! shared out over the input completely. Linear layers do the same either way. The other rules:
//!
//! | layer | multiplier of the input, for differences Δ within the pair |
//! |---|---|
//! | ReLU, sigmoid, tanh, GELU, SiLU | Δy / Δx; the derivative halfway where Δx is all but 0 |
//! | maximum over a window | Δy / Δx at the position of the larger maximum of the pair, 0 at the others |
//! | product a · b | of a, the mean of b over the pair; of b, that of a: Shapley's way of sharing |
//! | ln Σ eˣ | (Δeˣ / Δx) · (Δ ln S / Δ S), S = Σ eˣ |
//! | softmax p | m · (of p, less its mean by the weights m), m the secant of eᶻ for z = ln p: as the derivative, with m for p |
//! | layer norm, root-mean-square norm | centring is linear; v = mean c² by the mean of c over the pair, (v + ε)^−½ by its secant, their product by the rule of products |
//! | attention | scores q · k and contexts p · v by the rule of products, softmax by its own |
//! | gated unit f(a) · b | f by its secant, the product by the rule of products |
//! | unpooling to the maximum | of the value, as a product with the marks; see [`super::pool::unpool`] |
//!
//! [`chords`] are the same with other rules where something is chosen, for pairs that are two places of one path:
//!
//! | layer | multiplier of the input, for a pair that moves in a straight line |
//! |---|---|
//! | maximum over a window | of each of the two largest positions of the pair, the part of the way on which it is the larger one |
//! | unpooling to the maximum | as above, with value and place where the two change over |
//!
//! All of them are the mean derivative on a way without bends, so that chords of ever shorter ways go to the gradient,
//! the error of a way falls with the square of its length, and chords of consecutive ways add up to the difference
//! between the ends, however few they are.
//!
//! candle asks a layer for its derivative without a word on what it is for. So the rule is a property of the
//! thread, set by [`gradients`], [`multipliers`] and [`chords`] until they return. All set it: a thread of a pool may
//! begin the one while it waits for a part of another.

use std::cell::Cell;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};

use super::pointwise::values;
use crate::error::Result;

/// Differences below this are none: a secant through them would be noise.
const LEAST: f64 = 1e-6;

/// What layers hand back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Derivatives.
    Gradient,
    /// The multipliers of DeepLIFT.
    Rescale,
    /// Mean derivatives between the two places of a pair.
    Chord,
}

thread_local! {
    static RULE: Cell<Rule> = const { Cell::new(Rule::Gradient) };
}

/// Returns the gradients of the sum of a tensor.
///
/// # Errors
///
/// When an operation has no derivative.
pub fn gradients(loss: &Tensor) -> Result<GradStore> {
    Ok(ruled(Rule::Gradient, || loss.backward())?)
}

/// Returns the multipliers of the sum of a tensor, which was computed of pairs: in every operation the first half
/// of the numbers belongs to the inputs, the second to what they are compared with.
///
/// # Errors
///
/// When an operation has no derivative.
pub fn multipliers(loss: &Tensor) -> Result<GradStore> {
    Ok(ruled(Rule::Rescale, || loss.backward())?)
}

/// Returns the multipliers of the sum of a tensor, which was computed of pairs as for [`multipliers`], each of two
/// places of one path.
///
/// # Errors
///
/// When an operation has no derivative.
pub fn chords(loss: &Tensor) -> Result<GradStore> {
    Ok(ruled(Rule::Chord, || loss.backward())?)
}

/// Runs `f` under a rule, and puts the former one back, after a panic too.
fn ruled<T>(rule: Rule, f: impl FnOnce() -> T) -> T {
    struct Former(Rule);
    impl Drop for Former {
        fn drop(&mut self) {
            RULE.set(self.0);
        }
    }
    let _former = Former(RULE.replace(rule));
    f()
}

/// Returns whether multipliers of pairs are wanted.
pub(super) fn rescales() -> bool {
    RULE.get() != Rule::Gradient
}

/// Returns whether pairs are places of a path.
pub(super) fn follows_path() -> bool {
    RULE.get() == Rule::Chord
}

/// Computes what a linear layer hands back. Both of a pair get the same, so where pairs are wanted and halves can be told
/// apart along the first axis, it is computed for one of them.
pub(super) fn once_for_pairs(
    gradient: &Tensor,
    back: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Tensor> {
    let rows = gradient.dim(0)?;
    if !rescales() || rows == 0 || !rows.is_multiple_of(2) {
        return back(gradient);
    }
    let half = back(&gradient.narrow(0, 0, rows / 2)?.contiguous()?)?;
    Tensor::cat(&[&half, &half], 0)
}

/// Returns the numbers of a tensor.
pub(super) fn numbers(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

/// Multiplies a gradient by the secant of each pair of inputs; both halves have the same.
pub(super) fn by_secant(
    input: &Tensor,
    gradient: &Tensor,
    secant: impl Fn(f64, f64) -> f64,
) -> candle_core::Result<Tensor> {
    let (input, mut multipliers) = (numbers(input)?, numbers(gradient)?);
    let half = input.len() / 2;
    let (first, second) = multipliers.split_at_mut(half);
    for (index, (first, second)) in first.iter_mut().zip(second).enumerate() {
        let slope = secant(f64::from(input[index]), f64::from(input[half + index])) as f32;
        *first *= slope;
        *second *= slope;
    }
    Tensor::from_vec(multipliers, gradient.shape(), gradient.device())
}

/// Computes the multipliers of functions of whole rows: `multipliers` gets both rows of a pair and the gradient of
/// the function, and gives the multipliers of the row.
pub(super) fn by_rows_of_pairs(
    input: &Tensor,
    gradient: &Tensor,
    multipliers: impl Fn([&[f32]; 2], &[f32]) -> Vec<f32>,
) -> candle_core::Result<Tensor> {
    let length = input.dims().last().copied().unwrap_or(1).max(1);
    let (values, gradients) = (numbers(input)?, numbers(gradient)?);
    let (first, second) = values.split_at(values.len() / 2);
    let pairs = first.len() / length;
    let outputs = gradients.len() / (2 * pairs).max(1);
    let mut all = Vec::with_capacity(values.len());
    for (pair, (a, b)) in first.chunks_exact(length).zip(second.chunks_exact(length)).enumerate() {
        all.extend(multipliers([a, b], &gradients[pair * outputs..][..outputs]));
    }
    all.extend_from_within(..);
    Tensor::from_vec(all, input.shape(), input.device())
}

/// Returns the secant of a smooth function through two places.
pub(super) fn secant(a: f64, b: f64, f: impl Fn(f64) -> f64, derivative: impl Fn(f64) -> f64) -> f64 {
    if (a - b).abs() < LEAST { derivative((a + b) / 2.0) } else { (f(a) - f(b)) / (a - b) }
}

/// Returns the secant of max(x, 0).
pub(super) fn relu_secant(a: f64, b: f64) -> f64 {
    match (a > 0.0, b > 0.0) {
        (true, true) => 1.0,
        (false, false) => 0.0,
        // On both sides of zero, and so different.
        _ => (a.max(0.0) - b.max(0.0)) / (a - b),
    }
}

/// Returns the secant of eˣ⁻ˢ.
pub(super) fn exp_secant(a: f64, b: f64, shift: f64) -> f64 {
    secant(a, b, |x| (x - shift).exp(), |x| (x - shift).exp())
}

/// Returns the multiplier of the input that a maximum was found at, of the differences of both within the pair.
pub(super) fn share(difference: f32, input_difference: f32) -> f32 {
    if f64::from(input_difference).abs() < LEAST { 1.0 } else { difference / input_difference }
}

/// Returns the products of the numbers of two tensors of one shape.
///
/// # Errors
///
/// When the shapes differ.
pub fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(a.contiguous()?.apply_op2(&b.contiguous()?, Product)?)
}

/// A product whose factors both depend on the input.
struct Product;

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        if layout.shape() != b_layout.shape() {
            candle_core::bail!("factors of {:?} and {:?}", layout.shape(), b_layout.shape());
        }
        let (a, b) = (values(a, layout)?, values(b, b_layout)?);
        let products = a.iter().zip(b).map(|(a, b)| a * b).collect();
        Ok((CpuStorage::F32(products), layout.shape().clone()))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        if !rescales() {
            return Ok((Some((gradient * b)?), Some((gradient * a)?)));
        }
        Ok((Some((gradient * mean_of_pairs(b)?)?), Some((gradient * mean_of_pairs(a)?)?)))
    }
}

/// Returns a tensor with each number replaced by the mean over its pair.
pub(super) fn mean_of_pairs(tensor: &Tensor) -> candle_core::Result<Tensor> {
    let values = numbers(tensor)?;
    let (first, second) = values.split_at(values.len() / 2);
    let mean: Vec<f32> = first.iter().zip(second).map(|(a, b)| (a + b) / 2.0).collect();
    Tensor::from_vec([mean.as_slice(), &mean].concat(), tensor.shape(), tensor.device())
}

#[cfg(test)]
pub(in crate::kernel) mod testing {
    use candle_core::backprop::GradStore;
    use candle_core::{Tensor, Var};

    use super::super::testing::{flat, noise_tensor};
    use crate::error::Result;

    /// Checks that multipliers and chords of a layer share out the difference of each pair of its outputs: weighed at
    /// random, Σ multiplier · Δinput = Σ weight · Δoutput.
    pub fn check_completeness(input: &Tensor, layer: impl Fn(&Tensor) -> Result<Tensor>) {
        for rule in [super::multipliers, super::chords] {
            check_rule(input, &layer, rule);
        }
    }

    fn check_rule(
        input: &Tensor,
        layer: &impl Fn(&Tensor) -> Result<Tensor>,
        rule: fn(&Tensor) -> Result<GradStore>,
    ) {
        let variable = Var::from_tensor(input).unwrap();
        let output = layer(variable.as_tensor()).unwrap();
        let half = noise_tensor(&[output.elem_count() / 2], 99);
        let weights = Tensor::cat(&[&half, &half], 0).unwrap().reshape(output.shape()).unwrap();
        let loss = (&output * &weights).unwrap().sum_all().unwrap();
        let gradients = rule(&loss).unwrap();
        let multipliers = flat(gradients.get(variable.as_tensor()).expect("the input has multipliers"));
        let differences = |values: &[f32]| -> Vec<f64> {
            let (a, b) = values.split_at(values.len() / 2);
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect()
        };
        let shared: f64 =
            differences(&flat(input)).iter().zip(&multipliers).map(|(d, &m)| d * f64::from(m)).sum();
        let wanted: f64 =
            differences(&flat(&output)).iter().zip(flat(&half)).map(|(d, w)| d * f64::from(w)).sum();
        assert!(wanted.abs() > 1e-3, "the outputs do not differ");
        assert!((shared - wanted).abs() < 1e-4 * wanted.abs().max(1.0), "{shared} is not {wanted}");
        let half = multipliers.len() / 2;
        assert_eq!(multipliers[..half], multipliers[half..], "both of a pair have the same multipliers");
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::testing::check_completeness;
    use super::*;

    #[test]
    fn a_product_has_its_gradient_and_shares_out_its_differences() {
        let factors = |x: &Tensor| product(&x.narrow(1, 0, 3)?, &x.narrow(1, 3, 3)?);
        let input = noise_tensor(&[4, 6], 1);
        check_gradient(&input, factors);
        check_completeness(&input, factors);
        assert!(product(&noise_tensor(&[2], 1), &noise_tensor(&[3], 1)).is_err());
    }

    #[test]
    fn the_rule_ends_with_the_call_even_after_a_panic() {
        let now = || (rescales(), follows_path());
        let nested =
            ruled(Rule::Rescale, || (now(), ruled(Rule::Gradient, now), ruled(Rule::Chord, now), now()));
        assert_eq!(nested, ((true, false), (false, false), (true, true), (true, false)));
        assert!(std::panic::catch_unwind(|| ruled(Rule::Chord, || panic!("on purpose"))).is_err());
        assert_eq!(now(), (false, false));
    }

    #[test]
    fn a_secant_of_no_length_is_the_derivative() {
        let slope = secant(0.3, 0.3 + 1e-9, f64::tanh, |x| 1.0 - x.tanh().powi(2));
        assert!((slope - (1.0 - 0.3f64.tanh().powi(2))).abs() < 1e-8);
        assert_eq!([relu_secant(2.0, 1.0), relu_secant(-1.0, 0.0), relu_secant(3.0, -1.0)], [1.0, 0.0, 0.75]);
    }
}
