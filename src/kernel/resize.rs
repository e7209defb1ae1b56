//! Bilinear resizing, corners aligned, as PyTorch's `interpolate(mode="bilinear", align_corners=True)`.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};

use rayon::prelude::*;

use super::Instructions;
use super::instructions::vectorize;
use super::pointwise::values;
use crate::error::Result;

/// Numbers of a vector.
const LANES: usize = 16;

/// Resizes `[B, H, W, C]` to `[B, height, width, C]`.
///
/// # Errors
///
/// When the input has not four axes.
pub fn bilinear(input: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    Ok(input.contiguous()?.apply_op1(Bilinear { size: [height, width] })?)
}

#[derive(Clone, Copy)]
struct Bilinear {
    size: [usize; 2],
}

/// Where an output lies between two inputs: the first, the second, and the weight of the second.
type Blend = (usize, usize, f32);

fn blends(from: usize, to: usize) -> Vec<Blend> {
    let scale = if to > 1 { (from - 1) as f32 / (to - 1) as f32 } else { 0.0 };
    let place = |index: usize| {
        let place = index as f32 * scale;
        let first = (place as usize).min(from - 1);
        (first, (first + 1).min(from - 1), place - first as f32)
    };
    (0..to).map(place).collect()
}

/// One output pixel.
struct Pixel {
    /// The place of its first number.
    to: usize,
    /// The places of its four neighbours, above before below, left before right.
    from: [usize; 4],
    weights: [f32; 4],
}

/// What the outputs of an image are made of.
struct Plan {
    pixels: Vec<Pixel>,
    channels: usize,
    /// Numbers of an image that goes in, and of one that comes out.
    sizes: [usize; 2],
}

impl Bilinear {
    /// Returns the plan of images `[height, width, channels]`.
    fn plan(self, height: usize, width: usize, channels: usize) -> Plan {
        let (rows, columns) = (blends(height, self.size[0]), blends(width, self.size[1]));
        let pixel = |(index, (row, column)): (usize, (&Blend, &Blend))| {
            let (&(top, bottom, down), &(left, right, along)) = (row, column);
            let places = [(top, left), (top, right), (bottom, left), (bottom, right)];
            let (up, before) = (1.0 - down, 1.0 - along);
            Pixel {
                to: index * channels,
                from: places.map(|(row, column)| (row * width + column) * channels),
                weights: [up * before, up * along, down * before, down * along],
            }
        };
        let all = rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
        let sizes = [height * width, rows.len() * columns.len()].map(|pixels| (pixels * channels).max(1));
        Plan { pixels: all.enumerate().map(pixel).collect(), channels, sizes }
    }
}

vectorize!(fn blend(plan: &Plan, input: &[f32], output: &mut [f32]) = blend_image);

#[inline(always)]
fn blend_image(plan: &Plan, input: &[f32], output: &mut [f32]) {
    for &Pixel { to, from, weights: [a, b, c, d] } in &plan.pixels {
        let (whole, rest) = output[to..][..plan.channels].as_chunks_mut::<LANES>();
        let [p, q, r, s] = from.map(|from| input[from..][..plan.channels].as_chunks::<LANES>());
        let vectors = p.0.iter().zip(q.0).zip(r.0.iter().zip(s.0));
        for (y, ((p, q), (r, s))) in whole.iter_mut().zip(vectors) {
            for lane in 0..LANES {
                y[lane] = a * p[lane] + b * q[lane] + c * r[lane] + d * s[lane];
            }
        }
        for (y, ((p, q), (r, s))) in rest.iter_mut().zip(p.1.iter().zip(q.1).zip(r.1.iter().zip(s.1))) {
            *y = a * *p + b * *q + c * *r + d * *s;
        }
    }
}

vectorize!(fn share_out(plan: &Plan, gradient: &[f32], output: &mut [f32]) = share_out_image);

#[inline(always)]
fn share_out_image(plan: &Plan, gradient: &[f32], output: &mut [f32]) {
    for &Pixel { to, from, weights } in &plan.pixels {
        let (vectors, last) = gradient[to..][..plan.channels].as_chunks::<LANES>();
        for (from, weight) in from.into_iter().zip(weights) {
            let (whole, rest) = output[from..][..plan.channels].as_chunks_mut::<LANES>();
            for (x, g) in whole.iter_mut().zip(vectors) {
                for lane in 0..LANES {
                    x[lane] += weight * g[lane];
                }
            }
            for (x, g) in rest.iter_mut().zip(last) {
                *x += weight * *g;
            }
        }
    }
}

impl CustomOp1 for Bilinear {
    fn name(&self) -> &'static str {
        "bilinear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (batch, height, width, channels) = layout.shape().dims4()?;
        let [rows, columns] = self.size;
        let plan = self.plan(height, width, channels);
        let mut output = vec![0.0; batch * rows * columns * channels];
        let images =
            output.par_chunks_mut(plan.sizes[1]).zip(values(storage, layout)?.par_chunks(plan.sizes[0]));
        images.for_each(|(output, input)| blend(Instructions::detect(), &plan, input, output));
        Ok((CpuStorage::F32(output), (batch, rows, columns, channels).into()))
    }

    fn bwd(&self, input: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        input.contiguous()?.apply_op2_no_bwd(&gradient.contiguous()?, &BilinearBack(*self)).map(Some)
    }
}

/// Gives each input its share of the gradients of the outputs it went into.
struct BilinearBack(Bilinear);

impl CustomOp2 for BilinearBack {
    fn name(&self) -> &'static str {
        "bilinear_gradient"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (_, height, width, channels) = layout.shape().dims4()?;
        let gradient = values(gradient, gradient_layout)?;
        let plan = self.0.plan(height, width, channels);
        let mut output = vec![0.0; layout.shape().elem_count()];
        let images = output.par_chunks_mut(plan.sizes[0]).zip(gradient.par_chunks(plan.sizes[1]));
        images.for_each(|(output, gradient)| share_out(Instructions::detect(), &plan, gradient, output));
        Ok((CpuStorage::F32(output), layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn corners_stay_and_the_rest_lies_between() {
        let input = Tensor::new(&[[[[0.0f32], [3.0]]]], &candle_core::Device::Cpu).unwrap();
        let output = bilinear(&input, 2, 4).unwrap();
        assert!(distance(&flat(&output), &[0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0]) < 1e-6);
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        check_gradient(&noise_tensor(&[2, 2, 5, 3], 1), |x| bilinear(x, 4, 9));
        check_gradient(&noise_tensor(&[1, 2, 3, 18], 2), |x| bilinear(x, 3, 5));
    }
}
