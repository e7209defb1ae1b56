//! The linear layer and products of batches of matrices.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result as Candle, Shape, Tensor};

use super::super::matrix::{self, Matrix};
use super::super::rule;
use super::leaf::of_leaf;
use super::pointwise::{activate_back, activated};
use super::sums::column_sums;
use super::{argument, output, read, tensor};
use crate::error::Result;
use crate::kernel::Activation;

/// Computes y = x·Wᵀ + b: `[…, inputs]` to `[…, outputs]`, with `weight` `[outputs, inputs]` and `bias` `[outputs]`.
///
/// # Errors
///
/// When the shapes do not belong together.
pub fn linear(input: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    in_rows(input, weight, |rows, weight| match bias {
        Some(bias) => rows.apply_op3(weight, bias, Linear { function: Activation::None }),
        None => rows.apply_op2(weight, Product { turned: [false, true] }),
    })
}

/// Computes f(x)·Wᵀ + b, with the shapes of [`linear`]. The numbers f(x) are as many as the widest of a transformer; no
/// copy of them is kept, nor of their gradient.
///
/// # Errors
///
/// When the shapes do not belong together.
pub fn activated_linear(
    input: &Tensor,
    function: Activation,
    weight: &Tensor,
    bias: &Tensor,
) -> Result<Tensor> {
    in_rows(input, weight, |rows, weight| rows.apply_op3(weight, bias, Linear { function }))
}

/// Lets `[…, inputs]` be rows.
fn in_rows(
    input: &Tensor,
    weight: &Tensor,
    layer: impl FnOnce(&Tensor, &Tensor) -> Candle<Tensor>,
) -> Result<Tensor> {
    let mut shape = input.dims().to_vec();
    let inputs = shape.pop().unwrap_or(1);
    let (outputs, columns) = weight.dims2()?;
    if inputs != columns {
        let message = format!("a linear layer of {columns} inputs was given rows of {inputs}");
        return Err(crate::Error::data(message));
    }
    let rows = input.contiguous()?.reshape((input.elem_count() / inputs, inputs))?;
    shape.push(outputs);
    Ok(layer(&rows, &weight.contiguous()?)?.reshape(shape)?)
}

/// A linear layer of what a function makes of its input.
struct Linear {
    function: Activation,
}

impl Linear {
    /// The factors of rows and a turned matrix.
    const PRODUCT: Product = Product { turned: [false, true] };

    /// Returns the gradients of the input and of the weight.
    fn gradients(
        &self,
        input: &Tensor,
        weight: &Tensor,
        gradient: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        if self.function == Activation::None {
            return Self::PRODUCT.gradients(input, weight, gradient);
        }
        let gradient = gradient.contiguous()?;
        let of_weight = of_leaf(weight, || {
            let values = tensor(read(input, |x| activated(x, self.function))?, input.shape().clone())?;
            Self::PRODUCT.of_second(&values, &gradient)
        })?;
        let of_input = of_leaf(input, || {
            let of_values = Self::PRODUCT.of_first(weight, &gradient)?;
            activate_back(self.function, input, &of_values)
        })?;
        Ok((of_input, of_weight))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let (rows, inputs) = input_layout.shape().dims2()?;
        let (outputs, _) = weight_layout.shape().dims2()?;
        let (input, weight) = (argument(input, input_layout)?, argument(weight, weight_layout)?);
        let bias = argument(bias, bias_layout)?;
        let made = (self.function != Activation::None).then(|| activated(input, self.function));
        let input = made.as_deref().unwrap_or(input);
        let mut values = vec![0.0; rows * outputs];
        let weight = Matrix::new(weight, [outputs, inputs]).transpose();
        matrix::multiply(Matrix::new(input, [rows, inputs]), weight, &mut values);
        for row in values.chunks_exact_mut(outputs) {
            row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
        }
        output(values, (rows, outputs))
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (input, weight) = self.gradients(input, weight, gradient)?;
        let bias = of_leaf(bias, || {
            let outputs = bias.dim(0)?;
            tensor(read(gradient, |gradient| column_sums(gradient, outputs))?, outputs)
        })?;
        Ok((input, weight, bias))
    }
}

/// Multiplies matrices: `[M, K]` by `[K, N]`, or batches of them, `[G, M, K]` by `[G, K, N]`; with `turned`, the
/// transpose of the first or the second is taken.
///
/// # Errors
///
/// When the shapes do not belong together.
pub fn product(a: &Tensor, b: &Tensor, turned: [bool; 2]) -> Result<Tensor> {
    Ok(a.contiguous()?.apply_op2(&b.contiguous()?, Product { turned })?)
}

#[derive(Clone, Copy)]
struct Product {
    turned: [bool; 2],
}

impl Product {
    /// Returns how many matrices there are, and rows and columns of each of both factors after turning.
    fn shapes(&self, a: &Shape, b: &Shape) -> Candle<(usize, [usize; 2], [usize; 2])> {
        let sides = |shape: &Shape, turned: bool| -> Candle<(usize, [usize; 2])> {
            let (count, rows, columns) = match shape.dims() {
                [rows, columns] => (1, *rows, *columns),
                [count, rows, columns] => (*count, *rows, *columns),
                _ => candle_core::bail!("a product of matrices was given {shape:?}"),
            };
            Ok((count, if turned { [columns, rows] } else { [rows, columns] }))
        };
        let (count, a_sides) = sides(a, self.turned[0])?;
        let (other, b_sides) = sides(b, self.turned[1])?;
        if count != other || a_sides[1] != b_sides[0] {
            candle_core::bail!("{a:?} and {b:?} cannot be multiplied");
        }
        Ok((count, a_sides, b_sides))
    }

    fn gradients(
        self,
        a: &Tensor,
        b: &Tensor,
        gradient: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let of_a = of_leaf(a, || self.of_first(b, &gradient))?;
        let of_b = of_leaf(b, || self.of_second(a, &gradient))?;
        Ok((of_a, of_b))
    }

    /// Returns the gradient of the first factor.
    fn of_first(self, b: &Tensor, gradient: &Tensor) -> Candle<Tensor> {
        let turned = self.turned[1];
        match self.turned[0] {
            // Weights are the same for all rows.
            false if gradient.rank() == 2 && !b.track_op() => {
                rule::once_for_pairs(gradient, |gradient| multiplied(gradient, b, [false, !turned]))
            }
            false => multiplied(gradient, b, [false, !turned]),
            true => multiplied(b, gradient, [turned, true]),
        }
    }

    /// Returns the gradient of the second factor.
    fn of_second(self, a: &Tensor, gradient: &Tensor) -> Candle<Tensor> {
        let turned = self.turned[0];
        match self.turned[1] {
            false => multiplied(a, gradient, [!turned, false]),
            true => multiplied(gradient, a, [true, turned]),
        }
    }
}

/// Multiplies without a way back.
fn multiplied(a: &Tensor, b: &Tensor, turned: [bool; 2]) -> Candle<Tensor> {
    a.apply_op2_no_bwd(b, &Product { turned })
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let (count, a_sides, b_sides) = self.shapes(a_layout.shape(), b_layout.shape())?;
        let (a, b) = (argument(a, a_layout)?, argument(b, b_layout)?);
        let view = |values, [rows, columns]: [usize; 2], turned| match turned {
            false => Matrix::new(values, [rows, columns]),
            true => Matrix::new(values, [columns, rows]).transpose(),
        };
        let of = |a, b| (view(a, a_sides, self.turned[0]), view(b, b_sides, self.turned[1]));
        let mut values = vec![0.0; count * a_sides[0] * b_sides[1]];
        if a_layout.dims().len() == 2 {
            let (a, b) = of(a, b);
            matrix::multiply(a, b, &mut values);
            return output(values, (a_sides[0], b_sides[1]));
        }
        matrix::multiply_each(count, [a, b], of, &mut values);
        output(values, (count, a_sides[0], b_sides[1]))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(a, b, gradient)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::rule::testing::check_completeness;
    use super::super::super::testing::*;
    use super::super::pointwise::activate;
    use super::*;

    #[test]
    fn the_gradients_of_a_linear_layer_are_those_of_finite_differences() {
        let (input, weight, bias) =
            (noise_tensor(&[2, 3, 5], 1), noise_tensor(&[4, 5], 2), noise_tensor(&[4], 3));
        check_gradient(&input, |x| linear(x, &weight, Some(&bias)));
        check_gradient(&weight, |w| linear(&input, w, Some(&bias)));
        check_gradient(&bias, |b| linear(&input, &weight, Some(b)));
        check_gradient(&weight, |w| linear(&input, w, None));
        assert!(linear(&noise_tensor(&[2, 4], 1), &weight, None).is_err());
    }

    #[test]
    fn a_linear_layer_of_a_function_is_both_one_after_the_other() {
        let (input, weight, bias) =
            (noise_tensor(&[4, 3, 5], 1), noise_tensor(&[4, 5], 2), noise_tensor(&[4], 3));
        for function in [Activation::Relu, Activation::Gelu, Activation::Silu] {
            let apart = linear(&activate(&input, function).unwrap(), &weight, Some(&bias)).unwrap();
            assert_eq!(flat(&apart), flat(&activated_linear(&input, function, &weight, &bias).unwrap()));
            check_gradient(&input, |x| activated_linear(x, function, &weight, &bias));
            check_gradient(&weight, |w| activated_linear(&input, function, w, &bias));
            check_gradient(&bias, |b| activated_linear(&input, function, &weight, b));
            check_completeness(&input, |x| activated_linear(x, function, &weight, &bias));
        }
    }

    #[test]
    fn the_gradients_of_products_are_those_of_finite_differences_however_factors_lie() {
        for turned in [[false, false], [false, true], [true, false], [true, true]] {
            let shape = |rows, columns, turned| if turned { [2, columns, rows] } else { [2, rows, columns] };
            let a = noise_tensor(&shape(3, 4, turned[0]), 1);
            let b = noise_tensor(&shape(4, 5, turned[1]), 2);
            assert_eq!(product(&a, &b, turned).unwrap().dims(), [2, 3, 5]);
            check_gradient(&a, |a| product(a, &b, turned));
            check_gradient(&b, |b| product(&a, b, turned));
        }
    }
}
