//! DeepBind as NyxBind trains it: one convolution, its maximum over positions, two linear layers.
//! `models.md` B.5.

use candle_core::{Device, Tensor};

use super::config::Config;
use super::encoding::{self, Unknown};
use super::weights::Weights;
use super::{Head, Network, Prediction};
use crate::error::Result;
use crate::kernel::{Conv, Layer, Padding, Stack, pool};

const FILTERS: usize = 16;
const WIDTH: usize = 24;
const HIDDEN: usize = 32;

struct DeepBind {
    /// The convolution and its norm.
    motifs: Stack,
    hidden: Conv,
    output: Conv,
    labels: Vec<String>,
    device: Device,
}

/// Builds the network.
pub(super) fn load(config: &Config, weights: &Weights, device: &Device) -> Result<Box<dyn Network>> {
    // The kernel spans all four bases: the image [1, 4, L] of the original is L positions of 4 channels here.
    let motifs = weights.get("Convolutions.1.weight", &[FILTERS, 1, 4, WIDTH])?;
    let bias = weights.get("Convolutions.1.bias", &[FILTERS])?;
    let padding = Padding { left: 11, right: 12, ..Padding::default() };
    let motifs = Conv::new(motifs, [FILTERS, 4, 1, WIDTH], bias).with_padding(padding).with_relu();
    let norm = weights.batch_norm("Convolutions.3", FILTERS, 1e-5)?.layer();
    Ok(Box::new(DeepBind {
        motifs: Stack::new(vec![Layer::Conv(motifs), Layer::Norm(norm)]),
        hidden: weights.linear("Dense.0", [HIDDEN, FILTERS])?.with_relu(),
        output: weights.linear("Dense.3", [1, HIDDEN])?,
        labels: config.labels(1)?,
        device: device.clone(),
    }))
}

impl Network for DeepBind {
    fn window(&self) -> Option<usize> {
        None
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn encode(&self, sequences: &[&[u8]]) -> Result<Tensor> {
        encoding::one_hot(sequences, Unknown::Zeros, &self.device)
    }

    fn forward(&self, input: &Tensor) -> Result<Prediction> {
        encoding::check_input(input, None)?;
        self.conclude(&self.motifs.forward(input)?)
    }

    fn trunk(&self) -> Option<&Stack> {
        Some(&self.motifs)
    }

    fn conclude(&self, trunk: &Tensor) -> Result<Prediction> {
        Head::Sigmoid.predict(self.finish(trunk)?)
    }

    fn finish(&self, trunk: &Tensor) -> Result<Tensor> {
        self.output.forward_rows(&self.hidden.forward_rows(&pool::global_max(trunk)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn it_gives_the_probabilities_pytorch_gives_and_the_batch_changes_no_bit() {
        let Some(folder) = shared("golden/models/deepbind") else { return };
        let model =
            model(&Config::new("DeepBind"), &Weights::read(&folder.join("model.safetensors")).unwrap());
        let sequences = golden_sequences(&folder);
        let sequences: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
        let mut golden = crate::npy::Npz::open(&folder.join("golden.npz")).unwrap();
        let expected = golden.numbers::<f32>("prob").unwrap().values;
        let found = predict(&*model, &sequences).1;
        check_parity("DeepBind (NyxBind's)", "probabilities", "f32", [&found, &expected], 1e-5);
        check_batch_invariance(&*model, &sequences[..7]);
        check_gradient_direction(&*model, sequences[0]);
    }
}
