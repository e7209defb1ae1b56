//! The attention gate of a U-Net: a skip connection weighed by a map of one channel, and joined with what comes up.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result as Candle, Shape, Tensor};
use rayon::prelude::*;

use super::super::Instructions;
use super::super::instructions::vectorize;
use super::pointwise::sigmoid;
use super::{argument, output, read, tensor};
use crate::error::Result;

/// Returns max(a + b, 0).
///
/// # Errors
///
/// When the shapes differ.
pub fn rectified_sum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(a.contiguous()?.apply_op2(&b.contiguous()?, RectifiedSum)?)
}

struct RectifiedSum;

/// Numbers that one thread takes at a time.
const PIECE: usize = 1 << 15;

/// Numbers of a vector.
const LANES: usize = 16;

impl CustomOp2 for RectifiedSum {
    fn name(&self) -> &'static str {
        "rectified_sum"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        if layout.shape() != b_layout.shape() {
            candle_core::bail!("{:?} and {:?} cannot be added", layout.shape(), b_layout.shape());
        }
        let mut values = argument(a, layout)?.to_vec();
        let pieces = values.par_chunks_mut(PIECE).zip(argument(b, b_layout)?.par_chunks(PIECE));
        pieces.for_each(|(values, more)| add_rectified(Instructions::detect(), values, more));
        output(values, layout.shape().clone())
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        sum: &Tensor,
        gradient: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>)> {
        let mut values = read(gradient, <[f32]>::to_vec)?;
        read(sum, |sum| {
            let pieces = values.par_chunks_mut(PIECE).zip(sum.par_chunks(PIECE));
            pieces.for_each(|(gradient, sum)| keep_positive(Instructions::detect(), gradient, sum));
        })?;
        let back = tensor(values, gradient.shape().clone())?;
        Ok((Some(back.clone()), Some(back)))
    }
}

vectorize!(fn add_rectified(values: &mut [f32], more: &[f32]) = add_rectified_here);

#[inline(always)]
fn add_rectified_here(values: &mut [f32], more: &[f32]) {
    for (x, more) in values.iter_mut().zip(more) {
        let sum = *x + *more;
        // What is no number stays, as in PyTorch.
        *x = if sum < 0.0 { 0.0 } else { sum };
    }
}

vectorize!(fn keep_positive(gradient: &mut [f32], sum: &[f32]) = keep_positive_here);

#[inline(always)]
fn keep_positive_here(gradient: &mut [f32], sum: &[f32]) {
    for (g, sum) in gradient.iter_mut().zip(sum) {
        *g = if *sum > 0.0 { *g } else { 0.0 };
    }
}

/// Weighs `skip` `[…, C]` by the sigmoid of `map` `[…, 1]`, and puts `other` `[…, D]` behind it: `[…, C + D]`.
///
/// # Errors
///
/// When the shapes do not belong together.
pub fn weigh_and_join(skip: &Tensor, map: &Tensor, other: &Tensor) -> Result<Tensor> {
    Ok(skip.contiguous()?.apply_op3(&map.contiguous()?, &other.contiguous()?, Gate)?)
}

struct Gate;

/// Returns the last axis.
fn width(shape: &Shape) -> usize {
    shape.dims().last().copied().unwrap_or(1)
}

impl CustomOp3 for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn cpu_fwd(
        &self,
        skip: &CpuStorage,
        layout: &Layout,
        map: &CpuStorage,
        map_layout: &Layout,
        other: &CpuStorage,
        other_layout: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let [skip, map, other] =
            [argument(skip, layout)?, argument(map, map_layout)?, argument(other, other_layout)?];
        let widths = [width(layout.shape()), width(other_layout.shape())];
        if map.len() * widths[0] != skip.len() || map.len() * widths[1] != other.len() {
            let shapes = [layout, map_layout, other_layout].map(Layout::shape);
            candle_core::bail!("a gate of skip, map and rest of {shapes:?}");
        }
        let joint = widths[0] + widths[1];
        let mut values = vec![0.0; map.len() * joint];
        let rows = (PIECE / joint.max(1)).max(1);
        let pieces = values.par_chunks_mut(rows * joint).zip(map.par_chunks(rows));
        let others = skip.par_chunks(rows * widths[0]).zip(other.par_chunks(rows * widths[1]));
        pieces.zip(others).for_each(|((values, map), (skip, other))| {
            join(Instructions::detect(), [skip, map, other], widths, values);
        });
        let mut shape = layout.dims().to_vec();
        *shape.last_mut().expect("an axis of channels") = joint;
        output(values, shape)
    }

    fn bwd(
        &self,
        skip: &Tensor,
        map: &Tensor,
        other: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let widths = [width(skip.shape()), width(other.shape())];
        let [mut of_skip, mut of_map, mut of_other] =
            [skip, map, other].map(|tensor| vec![0.0; tensor.elem_count()]);
        let joint = widths[0] + widths[1];
        let rows = (PIECE / joint.max(1)).max(1);
        read(skip, |skip| {
            read(map, |map| {
                read(gradient, |gradient| {
                    let outputs = (of_skip.par_chunks_mut(rows * widths[0]).zip(of_map.par_chunks_mut(rows)))
                        .zip(of_other.par_chunks_mut(rows * widths[1]));
                    let inputs = (skip.par_chunks(rows * widths[0]).zip(map.par_chunks(rows)))
                        .zip(gradient.par_chunks(rows * joint));
                    outputs.zip(inputs).for_each(
                        |(((of_skip, of_map), of_other), ((skip, map), gradient))| {
                            let inputs = [skip, map, gradient];
                            part(Instructions::detect(), inputs, widths, of_skip, of_map, of_other);
                        },
                    );
                })
            })
        })???;
        Ok((
            Some(tensor(of_skip, skip.shape().clone())?),
            Some(tensor(of_map, map.shape().clone())?),
            Some(tensor(of_other, other.shape().clone())?),
        ))
    }
}

vectorize!(fn join(inputs: [&[f32]; 3], widths: [usize; 2], output: &mut [f32]) = join_rows);

#[inline(always)]
fn join_rows([skip, map, other]: [&[f32]; 3], widths: [usize; 2], output: &mut [f32]) {
    let rows = skip.chunks_exact(widths[0]).zip(other.chunks_exact(widths[1])).zip(map);
    for (output, ((skip, other), map)) in output.chunks_exact_mut(widths[0] + widths[1]).zip(rows) {
        let weight = sigmoid(*map);
        let (weighed, rest) = output.split_at_mut(widths[0]);
        scale(skip, weight, weighed);
        rest.copy_from_slice(other);
    }
}

vectorize!(fn part(
    inputs: [&[f32]; 3], widths: [usize; 2], of_skip: &mut [f32], of_map: &mut [f32], of_other: &mut [f32],
) = part_rows);

#[inline(always)]
fn part_rows(
    [skip, map, gradient]: [&[f32]; 3],
    widths: [usize; 2],
    of_skip: &mut [f32],
    of_map: &mut [f32],
    of_other: &mut [f32],
) {
    let outputs = of_skip.chunks_exact_mut(widths[0]).zip(of_other.chunks_exact_mut(widths[1])).zip(of_map);
    let inputs = skip.chunks_exact(widths[0]).zip(map).zip(gradient.chunks_exact(widths[0] + widths[1]));
    for (((of_skip, of_other), of_map), ((skip, map), gradient)) in outputs.zip(inputs) {
        let weight = sigmoid(*map);
        let (of_weighed, rest) = gradient.split_at(widths[0]);
        scale(of_weighed, weight, of_skip);
        *of_map = dot(of_weighed, skip) * weight * (1.0 - weight);
        of_other.copy_from_slice(rest);
    }
}

/// Multiplies numbers by one. Whole vectors first: rows are too short for what a compiler makes of plain loops.
#[inline(always)]
fn scale(values: &[f32], factor: f32, output: &mut [f32]) {
    let (vectors, rest) = values.as_chunks::<LANES>();
    let (whole, last) = output.as_chunks_mut::<LANES>();
    for (whole, vector) in whole.iter_mut().zip(vectors) {
        for lane in 0..LANES {
            whole[lane] = vector[lane] * factor;
        }
    }
    for (y, x) in last.iter_mut().zip(rest) {
        *y = *x * factor;
    }
}

/// Returns Σ a · b, sixteen chains that are added by halves.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += *a * *b;
    }
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::*;
    use super::*;

    #[test]
    fn the_gradients_are_those_of_finite_differences() {
        let (skip, map, other) =
            (noise_tensor(&[2, 3, 5], 1), noise_tensor(&[2, 3, 1], 2), noise_tensor(&[2, 3, 2], 3));
        check_gradient(&skip, |skip| weigh_and_join(skip, &map, &other));
        check_gradient(&map, |map| weigh_and_join(&skip, map, &other));
        check_gradient(&other, |other| weigh_and_join(&skip, &map, other));
        let more = noise_tensor(&[2, 3, 5], 4);
        check_gradient(&skip, |skip| rectified_sum(skip, &more));
        check_gradient(&more, |more| rectified_sum(&skip, more));
    }

    #[test]
    fn a_gate_weighs_by_the_sigmoid_and_joins() {
        let device = &candle_core::Device::Cpu;
        let skip = Tensor::new(&[[2.0f32, -4.0], [1.0, 3.0]], device).unwrap();
        let (map, other) =
            (Tensor::new(&[[0.0f32], [50.0]], device), Tensor::new(&[[7.0f32], [8.0]], device));
        let joint = weigh_and_join(&skip, &map.unwrap(), &other.unwrap()).unwrap();
        assert_eq!(flat(&joint), [1.0, -2.0, 7.0, 1.0, 3.0, 8.0]);
        assert_eq!(flat(&rectified_sum(&skip, &skip).unwrap()), [4.0, 0.0, 2.0, 6.0]);
        assert!(weigh_and_join(&skip, &skip, &joint).is_err() && rectified_sum(&skip, &joint).is_err());
    }
}
