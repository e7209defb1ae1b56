//! Functions of single numbers with gradients in one pass, and a row added to all rows.

use candle_core::cpu::erf::erf_f64;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

use super::super::Instructions;
use super::super::activation::{self, Activation};
use super::super::instructions::vectorize;
use super::super::rule;
use super::leaf::of_leaf;
use super::sums::column_sums;
use super::{argument, output, read, tensor};
use crate::error::Result;

/// Numbers that one thread takes at a time.
const PIECE: usize = 1 << 15;

/// Applies a function to every number.
///
/// # Errors
///
/// When the tensor is not on the processor.
pub fn activate(input: &Tensor, function: Activation) -> Result<Tensor> {
    Ok(input.contiguous()?.apply_op1(Activate(function))?)
}

/// Applies a function to numbers.
pub(super) fn activated(input: &[f32], function: Activation) -> Vec<f32> {
    let mut values = input.to_vec();
    values.par_chunks_mut(PIECE).for_each(|values| function.apply(values));
    values
}

struct Activate(Activation);

impl CustomOp1 for Activate {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn cpu_fwd(&self, input: &CpuStorage, layout: &Layout) -> Candle<(CpuStorage, Shape)> {
        let values = activated(argument(input, layout)?, self.0);
        output(values, layout.shape().clone())
    }

    fn bwd(&self, input: &Tensor, _: &Tensor, gradient: &Tensor) -> Candle<Option<Tensor>> {
        activate_back(self.0, input, gradient).map(Some)
    }
}

/// Turns the gradient of what a function gives into that of its input.
pub(super) fn activate_back(function: Activation, input: &Tensor, gradient: &Tensor) -> Candle<Tensor> {
    if rule::rescales() {
        return rule::by_secant(input, gradient, |a, b| secant(function, a, b));
    }
    let mut values = read(gradient, <[f32]>::to_vec)?;
    read(input, |input| {
        let pieces = values.par_chunks_mut(PIECE).zip(input.par_chunks(PIECE));
        pieces.for_each(|(gradient, x)| slopes(Instructions::detect(), function, x, gradient));
    })?;
    tensor(values, input.shape().clone())
}

/// Multiplies a function of the first half of each row by the second half: `[…, 2·size]` to `[…, size]`.
///
/// # Errors
///
/// When rows have no halves.
pub fn gated(input: &Tensor, function: Activation) -> Result<Tensor> {
    Ok(input.contiguous()?.apply_op1(Gated(function))?)
}

struct Gated(Activation);

impl Gated {
    /// Returns the numbers of half a row.
    fn size(shape: &Shape) -> Candle<usize> {
        match shape.dims().last() {
            Some(&wide) if wide > 0 && wide.is_multiple_of(2) => Ok(wide / 2),
            _ => candle_core::bail!("rows of {shape:?} have no halves"),
        }
    }

    fn forward(&self, row: &[f32], output: &mut [f32]) {
        let (gate, values) = row.split_at(output.len());
        output.copy_from_slice(gate);
        self.0.apply(output);
        multiply(Instructions::detect(), values, output);
    }

    /// Fills the gradient of a row.
    fn back(&self, row: &[f32], gradient: &[f32], result: &mut [f32]) {
        let (gate, values) = row.split_at(gradient.len());
        let (of_gate, of_values) = result.split_at_mut(gradient.len());
        of_gate.copy_from_slice(gradient);
        multiply(Instructions::detect(), values, of_gate);
        slopes(Instructions::detect(), self.0, gate, of_gate);
        of_values.copy_from_slice(gate);
        self.0.apply(of_values);
        multiply(Instructions::detect(), gradient, of_values);
    }

    /// Returns the multipliers: of a product, by the mean of the other factor over the pair.
    fn multipliers(&self, input: &Tensor, gradient: &Tensor) -> Candle<Tensor> {
        let (size, last) = (Self::size(input.shape())?, input.rank() - 1);
        let [gate, values] = [0, size].map(|from| input.narrow(last, from, size)?.contiguous());
        let (gate, values) = (gate?, values?);
        let opened = tensor(read(&gate, |gate| activated(gate, self.0))?, gate.shape().clone())?;
        let of_gate = activate_back(self.0, &gate, &(gradient * rule::mean_of_pairs(&values)?)?)?;
        Tensor::cat(&[of_gate, (gradient * rule::mean_of_pairs(&opened)?)?], last)
    }
}

impl CustomOp1 for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(&self, input: &CpuStorage, layout: &Layout) -> Candle<(CpuStorage, Shape)> {
        let size = Self::size(layout.shape())?;
        let input = argument(input, layout)?;
        let mut values = vec![0.0; input.len() / 2];
        let rows = values.par_chunks_mut(size).zip(input.par_chunks(2 * size));
        rows.with_min_len((PIECE / size).max(1)).for_each(|(values, row)| self.forward(row, values));
        let mut dims = layout.dims().to_vec();
        *dims.last_mut().expect("there are rows") = size;
        output(values, dims)
    }

    fn bwd(&self, input: &Tensor, _: &Tensor, gradient: &Tensor) -> Candle<Option<Tensor>> {
        if rule::rescales() {
            return self.multipliers(input, gradient).map(Some);
        }
        let size = Self::size(input.shape())?;
        let mut values = vec![0.0; input.elem_count()];
        read(input, |input| {
            read(gradient, |gradient| {
                let rows = values.par_chunks_mut(2 * size).zip(input.par_chunks(2 * size));
                let rows = rows.zip(gradient.par_chunks(size)).with_min_len((PIECE / size).max(1));
                rows.for_each(|((values, row), gradient)| self.back(row, gradient, values));
            })
        })??;
        tensor(values, input.shape().clone()).map(Some)
    }
}

vectorize!(
    /// Multiplies numbers by others.
    fn multiply(factors: &[f32], values: &mut [f32]) = multiply_each
);

#[inline(always)]
fn multiply_each(factors: &[f32], values: &mut [f32]) {
    for (value, factor) in values.iter_mut().zip(factors) {
        *value *= factor;
    }
}

/// Returns the slope of the line through two places of the curve of a function.
fn secant(function: Activation, a: f64, b: f64) -> f64 {
    // Slopes halfway, where the places are all but the same, need not be better than 32 bits.
    let slope = |x: f64, slope: fn(f32) -> f32| f64::from(slope(x as f32));
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match function {
        Activation::None => 1.0,
        Activation::Relu => rule::relu_secant(a, b),
        Activation::Gelu => {
            let gelu = |x: f64| 0.5 * x * (1.0 + erf_f64(x / std::f64::consts::SQRT_2));
            rule::secant(a, b, gelu, |x| slope(x, gelu_slope))
        }
        Activation::GeluTanh => {
            let gelu = |x: f64| {
                let inner = std::f64::consts::FRAC_2_PI.sqrt() * (x + 0.044715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            };
            rule::secant(a, b, gelu, |x| slope(x, gelu_tanh_slope))
        }
        Activation::Silu => rule::secant(a, b, |x| x * sigmoid(x), |x| slope(x, silu_slope)),
        Activation::Tanh => rule::secant(a, b, f64::tanh, |x| slope(x, tanh_slope)),
    }
}

vectorize!(fn slopes(function: Activation, x: &[f32], gradient: &mut [f32]) = multiply_slopes);

/// Multiplies a gradient by the slope of the function at `x`.
#[inline(always)]
fn multiply_slopes(function: Activation, x: &[f32], gradient: &mut [f32]) {
    // Loops, not closures, which might be compiled without the instructions of the caller.
    macro_rules! each {
        ($slope:ident) => {
            for (g, x) in gradient.iter_mut().zip(x) {
                *g *= $slope(*x);
            }
        };
    }
    match function {
        Activation::None => {}
        Activation::Relu => each!(relu_slope),
        Activation::Gelu => each!(gelu_slope),
        Activation::GeluTanh => each!(gelu_tanh_slope),
        Activation::Silu => each!(silu_slope),
        Activation::Tanh => each!(tanh_slope),
    }
}

/// The slope at zero is zero, as in PyTorch.
#[inline(always)]
fn relu_slope(x: f32) -> f32 {
    if x > 0.0 { 1.0 } else { 0.0 }
}

/// Φ(x) + x·φ(x).
#[inline(always)]
fn gelu_slope(x: f32) -> f32 {
    const DENSITY: f32 = 0.398_942_3;
    let bounded = if x.abs() > 13.0 { 13.0f32.copysign(x) } else { x };
    // x·Φ(x) over x; at zero Φ is a half.
    let normal = if bounded.abs() < 1e-6 { 0.5 } else { activation::gelu(bounded) / bounded };
    normal + bounded * DENSITY * activation::exp(-0.5 * bounded * bounded)
}

#[inline(always)]
fn gelu_tanh_slope(x: f32) -> f32 {
    const LINEAR: f32 = 1.595_769_2;
    const CUBIC: f32 = 0.071_354_814;
    let s = sigmoid(x * (LINEAR + CUBIC * x * x));
    s + x * s * (1.0 - s) * (LINEAR + 3.0 * CUBIC * x * x)
}

#[inline(always)]
fn silu_slope(x: f32) -> f32 {
    let s = sigmoid(x);
    s + x * s * (1.0 - s)
}

#[inline(always)]
fn tanh_slope(x: f32) -> f32 {
    let y = activation::tanh(x);
    1.0 - y * y
}

/// Returns 1/(1 + e⁻ˣ).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    let e = activation::exp(-x.abs());
    let part = if x < 0.0 { e } else { 1.0 };
    part / (1.0 + e)
}

/// Adds a row to every row: `[…, width]` and `[width]`.
///
/// # Errors
///
/// When the widths differ.
pub fn add_row(rows: &Tensor, row: &Tensor) -> Result<Tensor> {
    Ok(rows.contiguous()?.apply_op2(row, AddRow)?)
}

struct AddRow;

impl CustomOp2 for AddRow {
    fn name(&self) -> &'static str {
        "add_row"
    }

    fn cpu_fwd(
        &self,
        rows: &CpuStorage,
        layout: &Layout,
        row: &CpuStorage,
        row_layout: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let mut values = argument(rows, layout)?.to_vec();
        let row = argument(row, row_layout)?;
        if layout.dims().last() != Some(&row.len()) {
            candle_core::bail!("a row of {} cannot be added to {:?}", row.len(), layout.shape());
        }
        for values in values.chunks_exact_mut(row.len()) {
            values.iter_mut().zip(row).for_each(|(value, more)| *value += more);
        }
        output(values, layout.shape().clone())
    }

    fn bwd(
        &self,
        _: &Tensor,
        row: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        let width = row.dim(0)?;
        let of_row =
            of_leaf(row, || tensor(read(gradient, |gradient| column_sums(gradient, width))?, width))?;
        Ok((Some(gradient.clone()), of_row))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::rule::testing::check_completeness;
    use super::super::super::testing::*;
    use super::*;

    const FUNCTIONS: [Activation; 5] =
        [Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Tanh];

    #[test]
    fn the_gradients_are_those_of_finite_differences() {
        let input = (noise_tensor(&[6, 9], 1) * 4.0).unwrap();
        for function in FUNCTIONS {
            check_gradient(&input, |x| activate(x, function));
        }
        let row = noise_tensor(&[9], 2);
        check_gradient(&input, |x| add_row(x, &row));
        check_gradient(&row, |row| add_row(&input, row));
        assert!(add_row(&input, &noise_tensor(&[3], 1)).is_err());
    }

    #[test]
    fn a_gate_is_the_product_of_its_halves() {
        let input = (noise_tensor(&[6, 10], 1) * 2.0).unwrap();
        for function in FUNCTIONS {
            let [gate, values] = [0, 5].map(|from| input.narrow(1, from, 5).unwrap().contiguous().unwrap());
            let apart = rule::product(&activate(&gate, function).unwrap(), &values).unwrap();
            assert_eq!(flat(&gated(&input, function).unwrap()), flat(&apart));
            check_gradient(&input, |x| gated(x, function));
            check_completeness(&input, |x| gated(x, function));
        }
        assert!(gated(&noise_tensor(&[2, 3], 1), Activation::Gelu).is_err());
    }

    #[test]
    fn every_function_shares_out_its_differences() {
        let input = (noise_tensor(&[6, 9], 1) * 4.0).unwrap();
        for function in FUNCTIONS {
            check_completeness(&input, |x| activate(x, function));
        }
    }

    #[test]
    fn slopes_far_out_are_zero_and_one() {
        for function in [Activation::Relu, Activation::Gelu, Activation::Silu] {
            let mut gradient = [1.0; 4];
            slopes(Instructions::detect(), function, &[-60.0, 60.0, -1e30, 1e4], &mut gradient);
            assert!(distance(&gradient, &[0.0, 1.0, 0.0, 1.0]) < 1e-6, "{function:?}: {gradient:?}");
        }
    }
}
