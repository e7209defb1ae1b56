//! Layers one after another over the positions of a row, without a tensor between them.
//!
//! A row goes through all layers before the next begins, in two buffers that its thread keeps, so that
//! activations stay in the caches. Where gradients are wanted the same layers run as candle operations, with
//! the same bits.

mod trace;

use std::cell::RefCell;

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::pointwise::{self, Affine};
use super::{Conv, Precision, pool};
use crate::error::{Error, Result};

pub use trace::{Trace, Variants};

/// A layer from `[L, C]` to `[L', C']`.
#[derive(Clone, Debug)]
pub enum Layer {
    /// A convolution.
    Conv(Conv),
    /// A convolution whose input is added to its output, after the activation.
    Residual(Conv),
    /// A scale and shift per channel.
    Norm(Affine),
    /// max(x, 0).
    Relu,
    /// The maximum over windows; an incomplete last window is dropped.
    MaxPool {
        /// Positions of a window.
        size: usize,
        /// Positions from one window to the next.
        stride: usize,
    },
    /// The positions from `start` on, `count` of them.
    Crop {
        /// The first position that stays.
        start: usize,
        /// Positions that stay.
        count: usize,
    },
}

impl Layer {
    /// Returns length and channels of the output.
    fn output(&self, [length, channels]: [usize; 2]) -> Result<[usize; 2]> {
        Ok(match *self {
            Self::Conv(ref conv) | Self::Residual(ref conv) => {
                let shape = conv.output_1d([length, channels])?;
                if matches!(self, Self::Residual(_)) && shape != [length, channels] {
                    let message = format!("a residual layer makes {shape:?} of {:?}", [length, channels]);
                    return Err(Error::data(message));
                }
                shape
            }
            Self::MaxPool { size, stride } => [pool::windows(length, size, stride)?, channels],
            Self::Crop { start, count } if start + count > length => {
                return Err(Error::data(format!(
                    "{length} positions are fewer than the {count} from {start}"
                )));
            }
            Self::Crop { count, .. } => [count, channels],
            Self::Norm(_) | Self::Relu => [length, channels],
        })
    }

    /// Computes a row.
    fn run(&self, input: &[f32], [length, channels]: [usize; 2], output: &mut [f32]) {
        match *self {
            Self::Conv(ref conv) => conv.run_1d(input, length, false, output),
            Self::Residual(ref conv) => conv.run_1d(input, length, true, output),
            Self::MaxPool { size, stride } => pool::max_of_row(input, channels, size, stride, output),
            Self::Crop { start, count } => {
                output.copy_from_slice(&input[start * channels..][..count * channels]);
            }
            Self::Norm(ref norm) => {
                output.copy_from_slice(input);
                norm.apply(output);
            }
            Self::Relu => {
                for (output, &value) in output.iter_mut().zip(input) {
                    *output = if value < 0.0 { 0.0 } else { value };
                }
            }
        }
    }

    /// Computes a batch, differentiably.
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        match *self {
            Self::Conv(ref conv) => conv.forward_1d(input),
            Self::Residual(ref conv) => Ok((conv.forward_1d(input)? + input)?),
            Self::Norm(ref norm) => norm.forward(input),
            Self::Relu => pointwise::relu(input),
            Self::MaxPool { size, stride } => pool::max(input, size, stride),
            Self::Crop { start, count } => Ok(input.narrow(1, start, count)?),
        }
    }
}

/// Layers one after another.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    layers: Vec<Layer>,
}

thread_local! {
    static BUFFERS: RefCell<[Vec<f32>; 2]> = RefCell::default();
}

impl Stack {
    /// Joins layers, the first to be applied first.
    pub fn new(layers: Vec<Layer>) -> Self {
        Self { layers }
    }

    /// Returns the layers, the first to be applied first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Returns whether there are no layers.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Applies the layers to `[B, L, C]`.
    ///
    /// # Errors
    ///
    /// When a layer does not fit what comes from the one before.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        if input.track_op() || self.layers.is_empty() || input.dtype() != DType::F32 {
            return self.layers.iter().try_fold(input.clone(), |x, layer| layer.forward(&x));
        }
        let (rows, length, channels) = input.dims3()?;
        let shapes = self.shapes([length, channels])?;
        let [last_length, last_channels] = shapes[shapes.len() - 1];
        let input = input.contiguous()?;
        let (storage, layout) = input.storage_and_layout();
        let candle_core::Storage::Cpu(storage) = &*storage else {
            return Err(Error::data("layers on the processor need an input in its memory"));
        };
        let input = pointwise::values(storage, layout)?;
        let mut output = vec![0.0; rows * last_length * last_channels];
        output
            .par_chunks_mut((last_length * last_channels).max(1))
            .zip(input.par_chunks((length * channels).max(1)))
            .for_each(|(output, input)| {
                BUFFERS.with_borrow_mut(|buffers| self.row(input, &shapes, buffers, output));
            });
        Ok(Tensor::from_vec(output, (rows, last_length, last_channels), &candle_core::Device::Cpu)?)
    }

    /// Returns whether some layer multiplies in bfloat16.
    pub fn rounds(&self) -> bool {
        self.layers.iter().any(|layer| match layer {
            Layer::Conv(conv) | Layer::Residual(conv) => conv.precision() != Precision::F32,
            _ => false,
        })
    }

    /// Returns the shape of the input and of every layer's output, positions and channels.
    ///
    /// # Errors
    ///
    /// When a layer does not fit what comes from the one before.
    pub fn shapes(&self, input: [usize; 2]) -> Result<Vec<[usize; 2]>> {
        let mut shapes = vec![input];
        for layer in &self.layers {
            shapes.push(layer.output(shapes[shapes.len() - 1])?);
        }
        Ok(shapes)
    }

    /// Computes a row.
    fn row(&self, input: &[f32], shapes: &[[usize; 2]], buffers: &mut [Vec<f32>; 2], output: &mut [f32]) {
        let largest = shapes.iter().map(|[length, channels]| length * channels).max().unwrap_or(0);
        for buffer in &mut *buffers {
            buffer.resize(buffer.len().max(largest), 0.0);
        }
        let [mut from, mut to] = buffers.each_mut().map(Vec::as_mut_slice);
        for (index, layer) in self.layers.iter().enumerate() {
            let shape = shapes[index];
            let input = if index == 0 { input } else { &from[..shape[0] * shape[1]] };
            if index + 1 == self.layers.len() {
                layer.run(input, shape, output);
            } else {
                let [length, channels] = shapes[index + 1];
                layer.run(input, shape, &mut to[..length * channels]);
                std::mem::swap(&mut from, &mut to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::kernel::Padding;
    use candle_core::Var;

    fn stack() -> Stack {
        let conv = |outputs: usize, inputs: usize, seed| {
            Conv::new(&noise(outputs * inputs * 5, seed), [outputs, inputs, 1, 5], &noise(outputs, seed + 1))
                .with_padding(Padding::width(2))
        };
        Stack::new(vec![
            Layer::Conv(conv(18, 4, 1).with_relu()),
            Layer::Residual(conv(18, 18, 3).with_relu()),
            Layer::Norm(Affine::new(noise(18, 5), noise(18, 6))),
            Layer::Relu,
            Layer::Crop { start: 3, count: 40 },
            Layer::Residual(conv(18, 18, 7)),
            Layer::MaxPool { size: 4, stride: 3 },
        ])
    }

    #[test]
    fn rows_have_the_bits_of_the_operations_one_by_one() {
        let input = noise_tensor(&[3, 50, 4], 9);
        let rows = stack().forward(&input).unwrap();
        let tracked = Var::from_tensor(&input).unwrap();
        let graph = stack().forward(tracked.as_tensor()).unwrap();
        assert_eq!(rows.dims(), [3, 13, 18]);
        assert_eq!(bits(&rows), bits(&graph));
        assert!(graph.sum_all().unwrap().backward().unwrap().get(tracked.as_tensor()).is_some());
    }

    #[test]
    fn layers_that_do_not_fit_are_an_error_and_no_panic() {
        let message = |shape: &[usize]| stack().forward(&noise_tensor(shape, 1)).unwrap_err().to_string();
        assert!(message(&[2, 50, 5]).contains("reads 4 channels"));
        assert!(message(&[2, 42, 4]).contains("42 positions are fewer than the 40 from 3"));
        let short = Stack::new(vec![Layer::MaxPool { size: 4, stride: 4 }]);
        assert!(short.forward(&noise_tensor(&[1, 3, 2], 1)).is_err());
    }
}
