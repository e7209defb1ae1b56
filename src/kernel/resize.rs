//! Bilinear resizing, corners aligned, as PyTorch's `interpolate(mode="bilinear", align_corners=True)`.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};

use super::pointwise::values;
use crate::error::Result;

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

impl Bilinear {
    /// Calls `visit(output pixel, input pixel, weight)` for the four neighbours of each output, in order.
    fn each(self, [height, width]: [usize; 2], mut visit: impl FnMut(usize, usize, f32)) {
        let (rows, columns) = (blends(height, self.size[0]), blends(width, self.size[1]));
        for (y, &(top, bottom, down)) in rows.iter().enumerate() {
            for (x, &(left, right, along)) in columns.iter().enumerate() {
                let output = y * self.size[1] + x;
                visit(output, top * width + left, (1.0 - down) * (1.0 - along));
                visit(output, top * width + right, (1.0 - down) * along);
                visit(output, bottom * width + left, down * (1.0 - along));
                visit(output, bottom * width + right, down * along);
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
        let input = values(storage, layout)?;
        let [rows, columns] = self.size;
        let mut output = vec![0.0; batch * rows * columns * channels];
        for (b, output) in output.chunks_exact_mut((rows * columns * channels).max(1)).enumerate() {
            let input = &input[b * height * width * channels..];
            self.each([height, width], |to, from, weight| {
                for c in 0..channels {
                    output[to * channels + c] += weight * input[from * channels + c];
                }
            });
        }
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
        let mut output = vec![0.0; layout.shape().elem_count()];
        let pixels = self.0.size[0] * self.0.size[1] * channels;
        for (b, output) in output.chunks_exact_mut((height * width * channels).max(1)).enumerate() {
            let gradient = &gradient[b * pixels..][..pixels];
            self.0.each([height, width], |to, from, weight| {
                for c in 0..channels {
                    output[from * channels + c] += weight * gradient[to * channels + c];
                }
            });
        }
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
    }
}
