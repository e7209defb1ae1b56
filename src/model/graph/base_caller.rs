//! DeepSNR and D-AEDNet as they are trained (`models.md` B.8, B.9): one logit a base.

use candle_core::{Device, Tensor};

use super::super::base_caller::LENGTH;
use super::super::encoding::{self, Unknown};
use super::{Graph, Initial, Pass};
use crate::error::Result;
use crate::kernel::Activation::Relu;
use crate::kernel::learn::conv::{self, Geometry};
use crate::kernel::learn::gate::{rectified_sum, weigh_and_join};
use crate::kernel::learn::pointwise::{activate, add_row};
use crate::kernel::resize::bilinear;
use crate::kernel::{Padding, pool};

/// DeepSNR.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeepSnr;

/// Filters of DeepSNR.
const FILTERS: usize = 16;
/// Bases of a filter of DeepSNR.
const WIDTH: usize = 15;

impl Graph for DeepSnr {
    fn architecture(&self) -> &'static str {
        "DeepSNR"
    }

    fn window(&self) -> Option<usize> {
        Some(LENGTH)
    }

    fn encode(&self, sequences: &[&[u8]]) -> Result<Tensor> {
        encoding::one_hot(sequences, Unknown::Thymine, &Device::Cpu)
    }

    fn initial(&self, initial: &mut Initial) {
        const SHAPE: [usize; 4] = [FILTERS, 1, 4, WIDTH];
        initial.layer("ConvolutionalNetwork.Convolution.0", &SHAPE);
        initial.batch_norm("ConvolutionalNetwork.Convolution.1", FILTERS);
        initial.layer("ConvolutionalNetwork.FullyConnection.0", &[1, FILTERS]);
        initial.layer("ConvolutionalNetwork.FullyConnection.2", &[FILTERS, 1]);
        initial.layer_of("DeconvolutionalNetwork.Deconvolution.0", &SHAPE, 1);
        initial.batch_norm("DeconvolutionalNetwork.Deconvolution.1", 1);
    }

    fn logits(&self, input: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        encoding::check_input(input, self.window())?;
        let rows = input.dim(0)?;
        // Kernels span all four bases: the image [1, 4, L] of the original is L positions of 4 channels here.
        let first = "ConvolutionalNetwork.Convolution.0";
        let weight = pass.get(&format!("{first}.weight"))?.reshape((FILTERS, 4, WIDTH))?;
        let bias = pass.get(&format!("{first}.bias"))?;
        let maps = conv::conv_1d(input, &weight, Some(bias), Geometry::default())?;
        let maps = activate(&pass.batch_norm(&maps, "ConvolutionalNetwork.Convolution.1")?, Relu)?;
        let best = pool::global_max(&maps)?;
        let strength = activate(&pass.linear(&best, "ConvolutionalNetwork.FullyConnection.0")?, Relu)?;
        let spread = pass.linear(&strength, "ConvolutionalNetwork.FullyConnection.2")?;
        let placed = pool::unpool(&spread, &maps)?.unsqueeze(1)?;
        let last = "DeconvolutionalNetwork.Deconvolution.0";
        let weight = pass.get(&format!("{last}.weight"))?.reshape((FILTERS, 4, 1, WIDTH))?;
        let marks = conv::conv_transpose(&placed, &weight, Geometry::default(), [1, LENGTH])?;
        let marks = add_row(&marks.reshape((rows * LENGTH * 4, 1))?, pass.get(&format!("{last}.bias"))?)?;
        let marks = activate(&pass.batch_norm(&marks, "DeconvolutionalNetwork.Deconvolution.1")?, Relu)?;
        // The maximum over the four bases of a position.
        Ok(pool::global_max(&marks.reshape((rows * LENGTH, 4, 1))?)?.reshape((rows, LENGTH))?)
    }
}

/// D-AEDNet.
#[derive(Clone, Copy, Debug, Default)]
pub struct DAedNet;

impl DAedNet {
    /// Convolution, ReLU, norm.
    fn block(pass: &mut Pass, input: &Tensor, names: [&str; 2], padding: Padding) -> Result<Tensor> {
        pass.normed_conv(input, names, Geometry::padded(padding), true)
    }

    /// Two blocks of 3×3.
    fn stack(pass: &mut Pass, input: &Tensor, name: &str) -> Result<Tensor> {
        let name = |part: usize| format!("StackConvolutionOf{name}.{part}");
        let first = Self::block(pass, input, [&name(0), &name(2)], Padding::all(1))?;
        Self::block(pass, &first, [&name(3), &name(5)], Padding::all(1))
    }

    fn down(pass: &Pass, input: &Tensor, name: &str) -> Result<Tensor> {
        let geometry = Geometry { stride: [2, 2], ..Geometry::padded(Padding::all(1)) };
        pass.conv(input, name, geometry)
    }

    /// Weighs a skip connection by what the decoder knows, and joins both.
    fn gate(pass: &mut Pass, decoder: &Tensor, skip: &Tensor, level: usize) -> Result<Tensor> {
        let mut part = |input: &Tensor, part: &str| -> Result<Tensor> {
            let name = |layer: usize| format!("AttentionGate{level}.{part}.{layer}");
            pass.normed_conv(input, [&name(0), &name(1)], Geometry::default(), false)
        };
        let of_decoder = part(decoder, "ParallelConvolutionOfGS")?;
        let joint = rectified_sum(&of_decoder, &part(skip, "ParallelConvolutionOfSC")?)?;
        weigh_and_join(skip, &part(&joint, "ComputeWeightMap")?, decoder)
    }

    /// One step up: resize, gate the skip connection, join, convolve.
    fn up(pass: &mut Pass, input: &Tensor, skip: &Tensor, level: usize) -> Result<Tensor> {
        let (_, height, width, _) = skip.dims4()?;
        let narrow = pass.conv(input, &format!("UpSampleOfDB{level}.0"), Geometry::default())?;
        let up = bilinear(&narrow, height, width)?;
        let joint = Self::gate(pass, &up, skip, level)?;
        Self::stack(pass, &joint, &format!("DB{level}"))
    }
}

impl Graph for DAedNet {
    fn architecture(&self) -> &'static str {
        "DAEDNet"
    }

    fn window(&self) -> Option<usize> {
        Some(LENGTH)
    }

    fn encode(&self, sequences: &[&[u8]]) -> Result<Tensor> {
        encoding::one_hot(sequences, Unknown::Thymine, &Device::Cpu)
    }

    fn initial(&self, initial: &mut Initial) {
        for (name, inputs, outputs) in [("EB1", 1, 16), ("EB2", 16, 32), ("DB2", 64, 32), ("DB1", 32, 16)] {
            let name = |part: usize| format!("StackConvolutionOf{name}.{part}");
            initial.layer(&name(0), &[outputs, inputs, 3, 3]);
            initial.batch_norm(&name(2), outputs);
            initial.layer(&name(3), &[outputs, outputs, 3, 3]);
            initial.batch_norm(&name(5), outputs);
        }
        for (level, channels) in [(1, 16), (2, 32)] {
            initial.layer(&format!("DownSampleOfEB{level}"), &[channels, channels, 3, 3]);
            initial.layer(&format!("UpSampleOfDB{level}.0"), &[channels, 2 * channels, 1, 1]);
            for (part, shape) in [
                ("ParallelConvolutionOfGS", [16, channels, 1, 1]),
                ("ParallelConvolutionOfSC", [16, channels, 1, 1]),
                ("ComputeWeightMap", [1, 16, 1, 1]),
            ] {
                initial.layer(&format!("AttentionGate{level}.{part}.0"), &shape);
                initial.batch_norm(&format!("AttentionGate{level}.{part}.1"), shape[0]);
            }
        }
        initial.layer("BridgeNetwork.0", &[64, 32, 1, 3]);
        initial.batch_norm("BridgeNetwork.2", 64);
        initial.layer("OutputNetwork.0", &[1, 16, 3, 3]);
        initial.batch_norm("OutputNetwork.2", 1);
        initial.layer("OutputNetwork.3", &[1, 1, 4, 1]);
    }

    fn logits(&self, input: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        encoding::check_input(input, self.window())?;
        let image = input.transpose(1, 2)?.unsqueeze(3)?;
        let first = Self::stack(pass, &image, "EB1")?;
        let second = Self::stack(pass, &Self::down(pass, &first, "DownSampleOfEB1")?, "EB2")?;
        let deepest = Self::down(pass, &second, "DownSampleOfEB2")?;
        let bridge = ["BridgeNetwork.0", "BridgeNetwork.2"];
        let bottom = Self::block(pass, &deepest, bridge, Padding::width(1))?;
        let up = Self::up(pass, &bottom, &second, 2)?;
        let up = Self::up(pass, &up, &first, 1)?;
        let output = ["OutputNetwork.0", "OutputNetwork.2"];
        let marks = Self::block(pass, &up, output, Padding::all(1))?;
        Ok(pass.conv(&marks, "OutputNetwork.3", Geometry::default())?.flatten_from(1)?)
    }
}
