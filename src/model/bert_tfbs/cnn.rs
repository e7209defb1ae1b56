//! The convolutions of BERT-TFBS: hidden states as an image whose channels are the tokens.

use candle_core::Tensor;

use super::super::weights::Weights;
use crate::error::Result;
use crate::kernel::learn::pointwise::activate;
use crate::kernel::pointwise::{Affine, sigmoid};
use crate::kernel::rule::product;
use crate::kernel::{Activation, Conv, Padding, pool};

/// Channels of the three branches together.
const CHANNELS: usize = 180;
/// Channels of one branch.
const BRANCH: usize = 60;

/// A convolution of width 3 without bias, its batch norm folded in, then GELU.
struct Block(Conv);

impl Block {
    fn load(weights: &Weights, conv: &str, norm: &str, [outputs, inputs]: [usize; 2]) -> Result<Self> {
        let mut weight = weights.get(&format!("{conv}.weight"), &[outputs, inputs, 3])?.to_vec();
        let mut bias = vec![0.0; outputs];
        weights.batch_norm(norm, outputs, 1e-5)?.fold(&mut weight, &mut bias);
        Ok(Self(Conv::new(&weight, [outputs, inputs, 1, 3], &bias).with_padding(Padding::width(1))))
    }

    /// Spreads the three taps; the length stays.
    fn dilated(self, by: usize) -> Self {
        Self(self.0.with_dilation([1, by]).with_padding(Padding::width(by)))
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        activate(&self.0.forward_1d(input)?, Activation::Gelu)
    }
}

/// A convolution of width 3 without bias, GELU, then a batch norm.
struct NormedLast {
    conv: Conv,
    norm: Affine,
}

impl NormedLast {
    fn load(weights: &Weights, name: &str) -> Result<Self> {
        let weight = weights.get(&format!("{name}.0.weight"), &[CHANNELS, CHANNELS, 3])?;
        let conv = Conv::new(weight, [CHANNELS, CHANNELS, 1, 3], &[0.0; CHANNELS]);
        let norm = weights.batch_norm(&format!("{name}.2"), CHANNELS, 1e-5)?.layer();
        Ok(Self { conv: conv.with_padding(Padding::width(1)), norm })
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        self.norm.forward(&activate(&self.conv.forward_1d(input)?, Activation::Gelu)?)
    }
}

/// Attention over channels, then over positions (CBAM).
struct Gates {
    squeeze: Conv,
    widen: Conv,
    spatial: Conv,
}

impl Gates {
    fn load(weights: &Weights) -> Result<Self> {
        let [middle, _, _] = weights.shape("ChannelGate.mlp.0.weight")?;
        let squeeze = weights.get("ChannelGate.mlp.0.weight", &[middle, CHANNELS, 1])?;
        let widen = weights.get("ChannelGate.mlp.2.weight", &[CHANNELS, middle, 1])?;
        let mut spatial = weights.get("SpatialGate.spatial.conv.weight", &[1, 2, 7])?.to_vec();
        let mut bias = [0.0];
        weights.batch_norm("SpatialGate.spatial.bn", 1, 1e-5)?.fold(&mut spatial, &mut bias);
        Ok(Self {
            squeeze: Conv::linear(squeeze, [middle, CHANNELS], &vec![0.0; middle]).with_relu(),
            widen: Conv::linear(widen, [CHANNELS, middle], &[0.0; CHANNELS]),
            spatial: Conv::new(&spatial, [1, 2, 1, 7], &bias).with_padding(Padding::width(3)).with_relu(),
        })
    }

    /// Scales `[B, L, channels]`.
    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let weigh = |pooled: Tensor| self.widen.forward_rows(&self.squeeze.forward_rows(&pooled)?);
        let of_channels = (weigh(pool::global_mean(input)?)? + weigh(pool::global_max(input)?)?)?;
        let of_channels = sigmoid(&of_channels)?.unsqueeze(1)?;
        let input = product(input, &of_channels.broadcast_as(input.shape())?)?;
        let (rows, length, channels) = input.dims3()?;
        let positions = input.reshape((rows * length, channels, 1))?;
        let pooled = Tensor::cat(&[pool::global_max(&positions)?, pool::global_mean(&positions)?], 1)?;
        let of_positions = self.spatial.forward_1d(&pooled.reshape((rows, length, 2))?)?;
        product(&input, &sigmoid(&of_positions)?.broadcast_as(input.shape())?)
    }
}

/// The network after the encoder.
pub struct Cnn {
    first: Block,
    branches: Vec<[Block; 2]>,
    join: NormedLast,
    gates: Gates,
    residual: NormedLast,
    last: Block,
    hidden: Conv,
    output: Conv,
    tokens: usize,
    states: usize,
}

impl Cnn {
    /// Builds the network from tensors named as in the module that holds them.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn load(weights: &Weights) -> Result<Self> {
        let [_, tokens, _] = weights.shape("conv1.0.weight")?;
        let [hidden, flat] = weights.shape("linear1.weight")?;
        let [classes, _] = weights.shape("linear2.weight")?;
        let branch = |number: usize, dilation: usize| -> Result<[Block; 2]> {
            let name = |part: usize| format!("conv2_{number}.{part}");
            let half = BRANCH / 2;
            Ok([
                Block::load(weights, &name(0), &name(1), [half, BRANCH])?,
                Block::load(weights, &name(4), &name(5), [BRANCH, half])?.dilated(dilation),
            ])
        };
        Ok(Self {
            first: Block::load(weights, "conv1.0", "conv1.1", [BRANCH, tokens])?,
            branches: vec![branch(1, 1)?, branch(2, 2)?, branch(3, 4)?],
            join: NormedLast::load(weights, "conv3")?,
            gates: Gates::load(weights)?,
            residual: NormedLast::load(weights, "residual_BN")?,
            last: Block::load(weights, "conv4.0", "conv4.1", [CHANNELS, CHANNELS])?,
            hidden: weights.linear("linear1", [hidden, flat])?,
            output: weights.linear("linear2", [classes, hidden])?,
            tokens,
            states: flat / CHANNELS,
        })
    }

    /// Returns the number of tokens that are read, specials and padding included.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Returns the length of a token's hidden state.
    pub fn states(&self) -> usize {
        self.states
    }

    /// Returns the number of classes.
    pub fn classes(&self) -> usize {
        self.output.outputs()
    }

    /// Returns the logits `[B, classes]` of hidden states `[B, tokens, hidden]`; padding is zeros.
    ///
    /// # Errors
    ///
    /// When the shape is another.
    pub fn forward(&self, states: &Tensor) -> Result<Tensor> {
        let image = states.transpose(1, 2)?.contiguous()?;
        let first = self.first.forward(&image)?;
        let branch = |[narrow, wide]: &[Block; 2]| wide.forward(&narrow.forward(&first)?);
        let branches = self.branches.iter().map(branch).collect::<Result<Vec<_>>>()?;
        let joined = self.join.forward(&Tensor::cat(&branches, 2)?)?;
        let gated = (self.gates.forward(&joined)? + self.residual.forward(&joined)?)?;
        let last = self.last.forward(&gated)?;
        // The original flattens channel by channel.
        let flat = last.transpose(1, 2)?.contiguous()?.flatten_from(1)?;
        self.output.forward_rows(&self.hidden.forward_rows(&flat)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::super::testing::*;
    use super::super::super::weights::Array;
    use super::*;
    use crate::kernel::testing::{bits, distance, flat, noise_tensor};
    use crate::npy::Npz;

    /// Returns the weights of the golden outputs: all by their names, one tensor smaller than the rule has it.
    fn weights() -> Option<Weights> {
        let folder = shared("golden/models/bert_tfbs_head")?;
        let shape = vec![CHANNELS, CHANNELS * 768];
        let values = hash_uniform("linear1.weight", CHANNELS * CHANNELS * 768);
        let values = values.into_iter().map(|x| 0.005 * x).collect();
        Some(hashed_weights(&folder).with_tensor("linear1.weight", Array { shape, values }))
    }

    #[test]
    fn hidden_states_have_the_logits_of_pytorch_and_the_batch_changes_no_bit() {
        let Some(weights) = weights() else { return };
        let mut golden = Npz::open(&shared("golden/models/bert_tfbs_head/golden.npz").unwrap()).unwrap();
        let mut expected = |name: &str| golden.numbers::<f32>(name).unwrap().values;
        let cnn = Cnn::load(&weights).unwrap();
        assert_eq!((cnn.tokens(), cnn.states(), cnn.classes()), (30, 768, 2));
        let mut values = hash_uniform("bert_tfbs_input", 2 * 30 * 768);
        values[(30 + 20) * 768..].fill(0.0);
        let states = Tensor::from_vec(values, (2, 30, 768), &Device::Cpu).unwrap();
        let logits = cnn.forward(&states).unwrap();
        check_parity("BERT-TFBS head", "logits", "f32", [&flat(&logits), &expected("linear2")], 1e-5);
        let probs = crate::kernel::pointwise::softmax(&logits).unwrap();
        check_parity(
            "BERT-TFBS head",
            "probabilities",
            "f32",
            [&flat(&probs), &expected("softmax_out")],
            1e-5,
        );
        // The logits vary little between inputs, so the states on the way are compared too.
        let first = cnn.first.forward(&states.transpose(1, 2).unwrap().contiguous().unwrap()).unwrap();
        let corner = first.transpose(1, 2).unwrap().narrow(1, 0, 4).unwrap().narrow(2, 0, 16).unwrap();
        assert!(distance(&flat(&corner.contiguous().unwrap()), &expected("conv1_slice")) < 1e-5);
        for row in 0..2 {
            let alone = cnn.forward(&states.narrow(0, row, 1).unwrap()).unwrap();
            assert_eq!(bits(&alone), bits(&logits.narrow(0, row, 1).unwrap()));
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let Some(weights) = weights() else { return };
        let cnn = Cnn::load(&weights).unwrap();
        let states = noise_tensor(&[1, 30, 768], 3);
        let broken = states.affine(f64::from(f32::NAN), 0.0).unwrap();
        assert!(flat(&cnn.forward(&broken).unwrap()).iter().all(|logit| logit.is_nan()));
        assert!(flat(&cnn.forward(&states).unwrap()).iter().all(|logit| logit.is_finite()));
    }
}
