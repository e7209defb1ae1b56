//! The convolutions of BERT-TFBS as they are trained (`models.md` B.4): hidden states as an image whose channels are
//! the tokens, attention over channels and then over positions.

use candle_core::Tensor;

use super::{Initial, Pass};
use crate::error::Result;
use crate::kernel::Activation::{Gelu, Relu};
use crate::kernel::learn::conv::Geometry;
use crate::kernel::learn::pointwise::activate;
use crate::kernel::pointwise::sigmoid;
use crate::kernel::{Padding, pool};

/// Channels of a branch.
const BRANCH: usize = 60;
/// Channels of the three branches together.
const CHANNELS: usize = 3 * BRANCH;
/// Channels in the middle of the attention over channels.
const SQUEEZED: usize = 15;
/// Steps between the taps of the branches.
const DILATIONS: [usize; 3] = [1, 2, 4];

/// The convolutions on an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolutions {
    /// Tokens that are read, specials and padding included.
    pub tokens: usize,
    /// Length of a token's hidden state.
    pub states: usize,
    /// Classes.
    pub classes: usize,
}

/// Returns the name of a part.
fn name(part: &str) -> String {
    format!("model.{part}")
}

/// Three taps, so far from each other; the length stays.
fn taps(dilation: usize) -> Geometry {
    Geometry { dilation: [1, dilation], ..Geometry::padded(Padding::width(dilation)) }
}

/// A convolution, its norm, GELU.
fn block(input: &Tensor, conv: &str, norm: &str, geometry: Geometry, pass: &mut Pass) -> Result<Tensor> {
    let maps = pass.conv_1d(input, &name(conv), geometry)?;
    activate(&pass.batch_norm(&maps, &name(norm))?, Gelu)
}

/// A convolution, GELU, and the norm last.
fn normed_last(input: &Tensor, part: &str, pass: &mut Pass) -> Result<Tensor> {
    let maps = activate(&pass.conv_1d(input, &name(&format!("{part}.0")), taps(1))?, Gelu)?;
    pass.batch_norm(&maps, &name(&format!("{part}.2")))
}

/// Weighs channels, `[B, L, channels]`.
fn channel_gate(input: &Tensor, pass: &Pass) -> Result<Tensor> {
    let weigh = |pooled: Tensor| -> Result<Tensor> {
        let narrow = pass.conv_1d(&pooled.unsqueeze(1)?, &name("ChannelGate.mlp.0"), Geometry::default())?;
        pass.conv_1d(&activate(&narrow, Relu)?, &name("ChannelGate.mlp.2"), Geometry::default())
    };
    let weights = (weigh(pool::global_mean(input)?)? + weigh(pool::global_max(input)?)?)?;
    Ok(input.broadcast_mul(&sigmoid(&weights)?)?)
}

/// Weighs positions, `[B, L, channels]`.
fn spatial_gate(input: &Tensor, pass: &mut Pass) -> Result<Tensor> {
    // The share of a batch in these running statistics.
    const MOMENTUM: f64 = 0.01;
    let (rows, length, channels) = input.dims3()?;
    let positions = input.reshape((rows * length, channels, 1))?;
    let pooled = Tensor::cat(&[pool::global_max(&positions)?, pool::global_mean(&positions)?], 1)?;
    let pooled = pooled.reshape((rows, length, 2))?;
    let geometry = Geometry::padded(Padding::width(3));
    let maps = pass.conv_1d(&pooled, &name("SpatialGate.spatial.conv"), geometry)?;
    let maps = pass.batch_norm_with(&maps, &name("SpatialGate.spatial.bn"), MOMENTUM)?;
    Ok(input.broadcast_mul(&sigmoid(&activate(&maps, Relu)?)?)?)
}

impl Convolutions {
    /// Draws the weights that training begins with.
    pub fn initial(&self, initial: &mut Initial) {
        let mut conv = |part: &str, norm: &str, shape: [usize; 3]| {
            initial.matrix(&name(part), &shape);
            initial.batch_norm(&name(norm), shape[0]);
        };
        conv("conv1.0", "conv1.1", [BRANCH, self.tokens, 3]);
        for branch in 1..=DILATIONS.len() {
            let part = |part: usize| format!("conv2_{branch}.{part}");
            conv(&part(0), &part(1), [BRANCH / 2, BRANCH, 3]);
            conv(&part(4), &part(5), [BRANCH, BRANCH / 2, 3]);
        }
        conv("conv3.0", "conv3.2", [CHANNELS, CHANNELS, 3]);
        conv("SpatialGate.spatial.conv", "SpatialGate.spatial.bn", [1, 2, 7]);
        conv("residual_BN.0", "residual_BN.2", [CHANNELS, CHANNELS, 3]);
        conv("conv4.0", "conv4.1", [CHANNELS, CHANNELS, 3]);
        initial.matrix(&name("ChannelGate.mlp.0"), &[SQUEEZED, CHANNELS, 1]);
        initial.matrix(&name("ChannelGate.mlp.2"), &[CHANNELS, SQUEEZED, 1]);
        initial.layer(&name("linear1"), &[CHANNELS, CHANNELS * self.states]);
        initial.layer(&name("linear2"), &[self.classes, CHANNELS]);
    }

    /// Returns the logits `[B, classes]` of hidden states `[B, tokens, states]`; padding is zeros.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or the shape is another.
    pub fn logits(&self, states: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let image = states.transpose(1, 2)?.contiguous()?;
        let first = block(&image, "conv1.0", "conv1.1", taps(1), pass)?;
        let mut branches = Vec::new();
        for (branch, dilation) in (1..).zip(DILATIONS) {
            let part = |part: usize| format!("conv2_{branch}.{part}");
            let narrow = block(&first, &part(0), &part(1), taps(1), pass)?;
            let narrow = pass.dropout(&narrow, 0.2)?;
            branches.push(block(&narrow, &part(4), &part(5), taps(dilation), pass)?);
        }
        let joined = normed_last(&Tensor::cat(&branches, 2)?, "conv3", pass)?;
        let gated = spatial_gate(&channel_gate(&joined, pass)?, pass)?;
        let gated = (gated + normed_last(&joined, "residual_BN", pass)?)?;
        let last = block(&gated, "conv4.0", "conv4.1", taps(1), pass)?;
        let last = pass.dropout(&last, 0.4)?;
        // The original flattens channel by channel.
        let flat = last.transpose(1, 2)?.contiguous()?.flatten_from(1)?;
        let hidden = pass.linear(&flat, &name("linear1"))?;
        let hidden = pass.dropout(&hidden, 0.5)?;
        pass.linear(&hidden, &name("linear2"))
    }
}
