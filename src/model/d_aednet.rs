//! D-AEDNet: a small U-net over the image [4 bases, 100 positions], with attention gates on its skip
//! connections. `models.md` B.9.

use candle_core::{Device, Tensor};

use super::base_caller::{self, LENGTH};
use super::config::Config;
use super::encoding::{self, Unknown};
use super::weights::Weights;
use super::{Network, Prediction};
use crate::error::Result;
use crate::kernel::pointwise::{Affine, relu, sigmoid};
use crate::kernel::resize::bilinear;
use crate::kernel::rule::product;
use crate::kernel::{Conv, Padding};

/// Convolution, ReLU, norm.
struct Block {
    conv: Conv,
    norm: Affine,
}

impl Block {
    fn load(weights: &Weights, [conv, norm]: [&str; 2], shape: [usize; 4], padding: Padding) -> Result<Self> {
        let conv = weights.conv(conv, shape)?.with_padding(padding).with_relu();
        Ok(Self { conv, norm: weights.batch_norm(norm, shape[0], 1e-5)?.layer() })
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        self.norm.forward(&self.conv.forward(input)?)
    }
}

/// Two blocks of 3×3.
struct Stack([Block; 2]);

impl Stack {
    fn load(weights: &Weights, name: &str, inputs: usize, outputs: usize) -> Result<Self> {
        let block = |conv, norm, inputs| {
            let name = |part| format!("StackConvolutionOf{name}.{part}");
            Block::load(weights, [&name(conv), &name(norm)], [outputs, inputs, 3, 3], Padding::all(1))
        };
        Ok(Self([block(0, 2, inputs)?, block(3, 5, outputs)?]))
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        self.0[1].forward(&self.0[0].forward(input)?)
    }
}

/// Weighs a skip connection by what the decoder knows.
struct Gate {
    decoder: Conv,
    skip: Conv,
    map: Conv,
}

impl Gate {
    fn load(weights: &Weights, name: &str, channels: usize) -> Result<Self> {
        let part = |part: &str, shape: [usize; 4]| -> Result<Conv> {
            let name = format!("{name}.{part}");
            let mut weight = weights.get(&format!("{name}.0.weight"), &shape)?.to_vec();
            let mut bias = weights.get(&format!("{name}.0.bias"), &shape[..1])?.to_vec();
            weights.batch_norm(&format!("{name}.1"), shape[0], 1e-5)?.fold(&mut weight, &mut bias);
            Ok(Conv::new(&weight, shape, &bias))
        };
        Ok(Self {
            decoder: part("ParallelConvolutionOfGS", [16, channels, 1, 1])?,
            skip: part("ParallelConvolutionOfSC", [16, channels, 1, 1])?,
            map: part("ComputeWeightMap", [1, 16, 1, 1])?,
        })
    }

    fn forward(&self, decoder: &Tensor, skip: &Tensor) -> Result<Tensor> {
        let joint = relu(&(self.decoder.forward(decoder)? + self.skip.forward(skip)?)?)?;
        product(skip, &sigmoid(&self.map.forward(&joint)?)?.broadcast_as(skip.shape())?)
    }
}

/// One step up: resize, gate the skip connection, join, convolve.
struct Up {
    narrow: Conv,
    gate: Gate,
    stack: Stack,
}

impl Up {
    fn load(weights: &Weights, level: usize, channels: usize) -> Result<Self> {
        Ok(Self {
            narrow: weights.conv(&format!("UpSampleOfDB{level}.0"), [channels, 2 * channels, 1, 1])?,
            gate: Gate::load(weights, &format!("AttentionGate{level}"), channels)?,
            stack: Stack::load(weights, &format!("DB{level}"), 2 * channels, channels)?,
        })
    }

    fn forward(&self, input: &Tensor, skip: &Tensor) -> Result<Tensor> {
        let (_, height, width, _) = skip.dims4()?;
        let up = bilinear(&self.narrow.forward(input)?, height, width)?;
        let gated = self.gate.forward(&up, skip)?;
        self.stack.forward(&Tensor::cat(&[gated, up], 3)?)
    }
}

struct DAedNet {
    first: Stack,
    down_first: Conv,
    second: Stack,
    down_second: Conv,
    bridge: Block,
    up_second: Up,
    up_first: Up,
    output: Block,
    join: Conv,
    labels: Vec<String>,
    device: Device,
}

/// Builds the network.
pub(super) fn load(config: &Config, weights: &Weights, device: &Device) -> Result<Box<dyn Network>> {
    let down = |name, channels| -> Result<Conv> {
        let conv = weights.conv(name, [channels, channels, 3, 3])?;
        Ok(conv.with_padding(Padding::all(1)).with_stride([2, 2]))
    };
    let output = ["OutputNetwork.0", "OutputNetwork.2"];
    let bridge = ["BridgeNetwork.0", "BridgeNetwork.2"];
    Ok(Box::new(DAedNet {
        first: Stack::load(weights, "EB1", 1, 16)?,
        down_first: down("DownSampleOfEB1", 16)?,
        second: Stack::load(weights, "EB2", 16, 32)?,
        down_second: down("DownSampleOfEB2", 32)?,
        bridge: Block::load(weights, bridge, [64, 32, 1, 3], Padding::width(1))?,
        up_second: Up::load(weights, 2, 32)?,
        up_first: Up::load(weights, 1, 16)?,
        output: Block::load(weights, output, [1, 16, 3, 3], Padding::all(1))?,
        join: weights.conv("OutputNetwork.3", [1, 1, 4, 1])?,
        labels: config.labels(1)?,
        device: device.clone(),
    }))
}

impl Network for DAedNet {
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
        let image = input.transpose(1, 2)?.unsqueeze(3)?;
        let first = self.first.forward(&image)?;
        let second = self.second.forward(&self.down_first.forward(&first)?)?;
        let bottom = self.bridge.forward(&self.down_second.forward(&second)?)?;
        let up = self.up_second.forward(&bottom, &second)?;
        let up = self.up_first.forward(&up, &first)?;
        let logits = self.join.forward(&self.output.forward(&up)?)?;
        base_caller::predict(&logits.flatten_from(1)?)
    }
}
