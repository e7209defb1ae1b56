//! Convolution, ReLU or none, and the norm of the batch as one operation: forwards no more numbers go through memory
//! than are needed on the way back, and back the gradient is changed in place.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result as Candle, Shape, Tensor};

use super::super::Conv;
use super::batch::{Batch, Statistics};
use super::conv::{Geometry, gradients};
use super::sums::column_sums;
use super::{argument, output, read, tensor};
use crate::error::Result;

/// The vectors of a block, `[outputs]` each.
#[derive(Clone, Copy, Debug)]
pub struct Vectors<'a> {
    /// The biases of the convolution.
    pub bias: &'a Tensor,
    /// What the norm multiplies by.
    pub scale: &'a Tensor,
    /// What the norm adds.
    pub shift: &'a Tensor,
}

/// Convolves `[B, H, W, inputs]` with `weight` `[outputs, inputs, rows, columns]`, makes negative numbers zero where
/// `is_rectified`, and normalizes each channel by mean and variance of the batch, as
/// [`batch_norm`](super::norm::batch_norm) does. Returns the statistics, too.
///
/// # Errors
///
/// When the shapes do not belong together, or the padded image is smaller than the kernel.
pub fn normed(
    input: &Tensor,
    weight: &Tensor,
    vectors: Vectors,
    geometry: Geometry,
    is_rectified: bool,
    epsilon: f32,
) -> Result<(Tensor, Statistics)> {
    let Vectors { bias, scale, shift } = vectors;
    let conv = geometry.conv(weight, Some(bias))?;
    let conv = if is_rectified { conv.with_relu() } else { conv };
    let saved = Arc::new(OnceLock::new());
    let block = Block { conv, geometry, is_rectified, epsilon, saved: saved.clone() };
    let output = input.contiguous()?.apply_op3(weight, &Tensor::cat(&[bias, scale, shift], 0)?, block)?;
    let Saved { statistics, .. } = saved.get().expect("the block went forward");
    Ok((output, statistics.clone()))
}

struct Block {
    conv: Conv,
    geometry: Geometry,
    is_rectified: bool,
    epsilon: f32,
    saved: Arc<OnceLock<Saved>>,
}

/// What the way back needs.
struct Saved {
    /// What was normalized.
    values: Vec<f32>,
    batch: Batch,
    statistics: Statistics,
}

impl CustomOp3 for Block {
    fn name(&self) -> &'static str {
        "conv_relu_norm"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        layout: &Layout,
        _: &CpuStorage,
        _: &Layout,
        vectors: &CpuStorage,
        vectors_layout: &Layout,
    ) -> Candle<(CpuStorage, Shape)> {
        let (storage, shape) = self.conv.cpu_fwd(input, layout)?;
        let CpuStorage::F32(values) = storage else {
            candle_core::bail!("convolutions are of 32-bit floats")
        };
        let channels = self.conv.outputs();
        let vectors = argument(vectors, vectors_layout)?;
        let statistics = Statistics::of(&values, channels);
        let batch = Batch::new(&statistics, self.epsilon);
        let normal = batch.apply(&values, &vectors[channels..2 * channels], &vectors[2 * channels..]);
        // Computed again, it would be the same.
        let _ = self.saved.set(Saved { values, batch, statistics });
        output(normal, shape)
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        vectors: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Candle<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(Saved { values, batch, .. }) = self.saved.get() else {
            candle_core::bail!("a block goes forward first")
        };
        let channels = self.conv.outputs();
        let mut back = read(gradient, <[f32]>::to_vec)?;
        let [of_scale, of_shift] = read(vectors, |vectors| {
            batch.back(values, &vectors[channels..2 * channels], &mut back, self.is_rectified)
        })?;
        let of_vectors = [column_sums(&back, channels), of_scale, of_shift].concat();
        let back = tensor(back, gradient.shape().clone())?;
        let [of_input, of_weight] = gradients(&self.conv, self.geometry, [input, weight], &back)?;
        Ok((of_input, of_weight, Some(tensor(of_vectors, 3 * channels)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::*;
    use super::super::super::{Activation, Padding};
    use super::super::conv::conv;
    use super::super::leaf::backward;
    use super::super::norm::batch_norm;
    use super::super::pointwise::activate;
    use super::*;
    use candle_core::Var;

    #[test]
    fn a_block_and_its_gradients_are_those_of_its_layers() {
        let geometry = Geometry::padded(Padding::all(1));
        let leaf = |shape: &[usize], seed| Var::from_tensor(&noise_tensor(shape, seed)).unwrap();
        for is_rectified in [true, false] {
            let input = leaf(&[3, 4, 9, 2], 1);
            let (weight, bias) = (leaf(&[18, 2, 3, 3], 2), leaf(&[18], 3));
            let (scale, shift) = (leaf(&[18], 4), leaf(&[18], 5));
            let maps = conv(&input, &weight, Some(bias.as_tensor()), geometry).unwrap();
            let maps = if is_rectified { activate(&maps, Activation::Relu).unwrap() } else { maps };
            let (expected, seen) = batch_norm(&maps, &scale, &shift, 1e-5).unwrap();
            let vectors = Vectors { bias: &bias, scale: &scale, shift: &shift };
            let (found, statistics) = normed(&input, &weight, vectors, geometry, is_rectified, 1e-5).unwrap();
            assert_eq!(bits(&found), bits(&expected));
            assert_eq!(statistics, seen);
            let factors = noise_tensor(found.dims(), 6);
            let loss = |output: &Tensor| (output * &factors).unwrap().sum_all().unwrap();
            let mut expected = backward(&loss(&expected)).unwrap();
            let mut found = backward(&loss(&found)).unwrap();
            for leaf in [&input, &weight, &bias, &scale, &shift] {
                let gradient =
                    |of: &mut super::super::leaf::Gradients| flat(&of.take(leaf).unwrap().unwrap());
                let (found, expected) = (gradient(&mut found), gradient(&mut expected));
                assert!(distance(&found, &expected) < 1e-5, "{:?}", leaf.dims());
            }
        }
    }
}
