//! DeepSNR: a convolution finds the motif, its way back marks the bases. `models.md` B.8.
//!
//! A ReLU stands before the sigmoid, so that no base scores below one half.

use candle_core::{Device, Tensor};

use super::base_caller::{self, LENGTH};
use super::config::Config;
use super::encoding::{self, Unknown};
use super::weights::Weights;
use super::{Network, Prediction};
use crate::error::Result;
use crate::kernel::pointwise::relu;
use crate::kernel::{Conv, pool};

const FILTERS: usize = 16;
const WIDTH: usize = 15;

struct DeepSnr {
    motifs: Conv,
    strength: Conv,
    spread: Conv,
    marks: Conv,
    scale: f64,
    shift: f64,
    labels: Vec<String>,
    device: Device,
}

/// Builds the network.
pub(super) fn load(config: &Config, weights: &Weights, device: &Device) -> Result<Box<dyn Network>> {
    const SHAPE: [usize; 4] = [FILTERS, 1, 4, WIDTH];
    // Kernels span all four bases: the image [1, 4, L] of the original is L positions of 4 channels here.
    const FLAT: [usize; 4] = [FILTERS, 4, 1, WIDTH];
    let mut motifs = weights.get("ConvolutionalNetwork.Convolution.0.weight", &SHAPE)?.to_vec();
    let mut bias = weights.get("ConvolutionalNetwork.Convolution.0.bias", &[FILTERS])?.to_vec();
    weights.batch_norm("ConvolutionalNetwork.Convolution.1", FILTERS, 1e-5)?.fold(&mut motifs, &mut bias);
    let marks = weights.get("DeconvolutionalNetwork.Deconvolution.0.weight", &SHAPE)?;
    let mark_bias = weights.get("DeconvolutionalNetwork.Deconvolution.0.bias", &[1])?[0];
    let norm = weights.batch_norm("DeconvolutionalNetwork.Deconvolution.1", 1, 1e-5)?;
    Ok(Box::new(DeepSnr {
        motifs: Conv::new(&motifs, FLAT, &bias).with_relu(),
        strength: weights.linear("ConvolutionalNetwork.FullyConnection.0", [1, FILTERS])?.with_relu(),
        spread: weights.linear("ConvolutionalNetwork.FullyConnection.2", [FILTERS, 1])?,
        marks: Conv::new(marks, FLAT, &[0.0; FILTERS]),
        scale: norm.scale()[0],
        shift: norm.shift()[0] + norm.scale()[0] * f64::from(mark_bias),
        labels: config.labels(1)?,
        device: device.clone(),
    }))
}

impl Network for DeepSnr {
    fn window(&self) -> Option<usize> {
        Some(LENGTH)
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn encode(&self, sequences: &[&[u8]]) -> Result<Tensor> {
        encoding::one_hot(sequences, Unknown::Thymine, &self.device)
    }

    fn forward(&self, input: &Tensor) -> Result<Prediction> {
        encoding::check_input(input, self.window())?;
        let maps = self.motifs.forward_1d(input)?;
        let strength = self.strength.forward_rows(&pool::global_max(&maps)?)?;
        let placed = pool::unpool(&self.spread.forward_rows(&strength)?, &maps)?;
        let marks = self.marks.transpose(&placed.unsqueeze(1)?, [1, LENGTH])?.squeeze(1)?;
        let marks = relu(&marks.affine(self.scale, self.shift)?)?;
        // The maximum over the four bases of a position.
        let rows = marks.dim(0)?;
        let best = pool::global_max(&marks.reshape((rows * LENGTH, 4, 1))?)?;
        base_caller::predict(&best.reshape((rows, LENGTH))?)
    }
}
