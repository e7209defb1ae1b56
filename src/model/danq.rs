//! DanQ as NyxBind trains it: a convolution, two bidirectional LSTM layers, two linear layers.
//! `models.md` B.6.

use candle_core::{Device, Tensor};

use super::config::Config;
use super::encoding::{self, Unknown};
use super::weights::Weights;
use super::{Head, Network, Prediction};
use crate::error::Result;
use crate::kernel::pointwise::Affine;
use crate::kernel::recurrent::{Lstm, bidirectional};
use crate::kernel::{Conv, pool};

const LENGTH: usize = 101;
const FILTERS: usize = 16;
const WIDTH: usize = 24;
const POOL: usize = 8;
const HIDDEN: usize = 32;
const FEATURES: usize = 925;

struct DanQ {
    motifs: Conv,
    norm: Affine,
    memory: [[Lstm; 2]; 2],
    hidden: Conv,
    output: Conv,
    labels: Vec<String>,
    device: Device,
}

/// Builds the network.
pub(super) fn load(config: &Config, weights: &Weights, device: &Device) -> Result<Box<dyn Network>> {
    let steps = (LENGTH - WIDTH + 1) / POOL;
    let both = |layer: usize, inputs: usize| -> Result<[Lstm; 2]> {
        Ok([
            lstm(weights, &format!("l{layer}"), inputs)?,
            lstm(weights, &format!("l{layer}_reverse"), inputs)?,
        ])
    };
    Ok(Box::new(DanQ {
        motifs: weights.conv_1d("Conv.0", [FILTERS, 4, WIDTH])?.with_relu(),
        norm: weights.batch_norm("Conv.2", FILTERS, 1e-5)?.layer(),
        memory: [both(0, FILTERS)?, both(1, 2 * HIDDEN)?],
        hidden: weights.linear("FullyConnection.0", [FEATURES, steps * 2 * HIDDEN])?.with_relu(),
        output: weights.linear("FullyConnection.2", [1, FEATURES])?,
        labels: config.labels(1)?,
        device: device.clone(),
    }))
}

fn lstm(weights: &Weights, name: &str, inputs: usize) -> Result<Lstm> {
    let gates = 4 * HIDDEN;
    let part = |kind: &str, inputs: usize| -> Result<Conv> {
        let weight = weights.get(&format!("BiLSTM.weight_{kind}_{name}"), &[gates, inputs])?;
        let bias = weights.get(&format!("BiLSTM.bias_{kind}_{name}"), &[gates])?;
        Ok(Conv::linear(weight, [gates, inputs], bias))
    };
    Ok(Lstm { input: part("ih", inputs)?, hidden: part("hh", HIDDEN)? })
}

impl Network for DanQ {
    fn window(&self) -> Option<usize> {
        Some(LENGTH)
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn encode(&self, sequences: &[&[u8]]) -> Result<Tensor> {
        encoding::one_hot(sequences, Unknown::Zeros, &self.device)
    }

    fn forward(&self, input: &Tensor) -> Result<Prediction> {
        encoding::check_input(input, self.window())?;
        let maps = self.norm.forward(&self.motifs.forward_1d(input)?)?;
        let mut states = pool::max(&maps, POOL, POOL)?;
        for layer in &self.memory {
            states = bidirectional(layer, &states)?;
        }
        let hidden = self.hidden.forward_rows(&states.flatten_from(1)?)?;
        Head::Sigmoid.predict(self.output.forward_rows(&hidden)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn it_gives_the_probabilities_pytorch_gives_and_the_batch_changes_no_bit() {
        let Some(folder) = shared("golden/models/danq") else { return };
        let model = model(&Config::new("DanQ"), &hashed_weights(&folder));
        let sequences = golden_sequences(&folder);
        let sequences: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
        let mut golden = crate::npy::Npz::open(&folder.join("golden.npz")).unwrap();
        let expected = golden.numbers::<f32>("prob").unwrap().values;
        check_parity("DanQ", "probabilities", "f32", [&predict(&*model, &sequences).1, &expected], 1e-5);
        check_batch_invariance(&*model, &sequences[..7]);
        check_gradient_direction(&*model, sequences[0]);
    }
}
