//! DeepBind as published (and as Kipoi stores it in Keras): both strands, the better one counts.
//!
//! The sequence is padded with a quarter of each base by the kernel width less one; convolution, ReLU,
//! maxima over windows of positions, one or two linear layers at each, the maximum over windows, the
//! maximum over strands.

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::encoding::{self, Unknown};
use super::weights::Weights;
use super::{Head, Network, Prediction};
use crate::error::Result;
use crate::kernel::{Conv, pool};

/// The family's part of `config.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shape {
    /// Positions of a pooling window.
    pub pool_size: usize,
}

struct DeepBindPublished {
    motifs: Conv,
    width: usize,
    pool_size: usize,
    dense: Vec<Conv>,
    labels: Vec<String>,
    device: Device,
}

/// Builds the network.
pub(super) fn load(config: &Config, weights: &Weights, device: &Device) -> Result<Box<dyn Network>> {
    let [filters, _, width] = weights.shape("conv.weight")?;
    let dense = if weights.tensors().contains_key("dense.1.weight") {
        let [hidden, _] = weights.shape("dense.0.weight")?;
        vec![
            weights.linear("dense.0", [hidden, filters])?.with_relu(),
            weights.linear("dense.1", [1, hidden])?,
        ]
    } else {
        vec![weights.linear("dense.0", [1, filters])?]
    };
    Ok(Box::new(DeepBindPublished {
        motifs: weights.conv_1d("conv", [filters, 4, width])?.with_relu(),
        width,
        pool_size: config.part::<Shape>()?.pool_size,
        dense,
        labels: config.labels(1)?,
        device: device.clone(),
    }))
}

impl DeepBindPublished {
    /// Returns the logit of one strand, `[B, 1]`.
    fn strand(&self, padded: &Tensor) -> Result<Tensor> {
        let mut x = pool::max(&self.motifs.forward_1d(padded)?, self.pool_size, 1)?;
        for layer in &self.dense {
            x = layer.forward_rows(&x)?;
        }
        pool::global_max(&x)
    }
}

impl Network for DeepBindPublished {
    fn window(&self) -> Option<usize> {
        None
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn encode(&self, sequences: &[&[u8]]) -> Result<Tensor> {
        encoding::one_hot(sequences, Unknown::Quarter, &self.device)
    }

    fn forward(&self, input: &Tensor) -> Result<Prediction> {
        encoding::check_input(input, None)?;
        let rows = input.dim(0)?;
        let edge = Tensor::full(0.25f32, (rows, self.width - 1, 4), input.device())?;
        let padded = Tensor::cat(&[&edge, input, &edge], 1)?;
        // Base order A C G T: the complement reverses the channels, too.
        let strands = [self.strand(&padded)?, self.strand(&padded.flip(&[1, 2])?)?];
        Head::Sigmoid.predict(pool::global_max(&Tensor::stack(&strands, 1)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::convert::Hints;
    use super::super::testing::*;

    #[test]
    fn the_published_models_give_the_reference_scores() {
        let Some(folder) = shared("data/models/deepbind") else { return };
        let table = text(&folder.join("reference_outputs.tsv.gz"));
        let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split('\t').collect()).collect();
        let mut models = 0;
        let mut pairs = [[(); 2].map(|_| Vec::new()), [(); 2].map(|_| Vec::new())];
        for rows in rows.chunk_by(|a, b| a[0] == b[0]) {
            let name = rows[0][0];
            let file =
                std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string());
            let file =
                file.map(Result::unwrap).find(|file| file.ends_with(".h5") && file.contains(name)).unwrap();
            let model = converted(&format!("data/models/deepbind/{file}"), &Hints::default()).unwrap();
            for row in rows {
                let (logits, probs) = predict(&*model, &[row[3].as_bytes()]);
                let expected = [4, 5].map(|column: usize| row[column].parse::<f32>().unwrap());
                for (pairs, (found, expected)) in pairs.iter_mut().zip([logits, probs].iter().zip(expected)) {
                    assert_eq!(found.len(), 1, "{name}");
                    pairs[0].push(found[0]);
                    pairs[1].push(expected);
                }
            }
            models += 1;
            let rows: Vec<&[u8]> = rows[..7].iter().map(|row| row[3].as_bytes()).collect();
            if models == 1 {
                check_batch_invariance(&*model, &rows);
                check_gradient_direction(&*model, rows[0]);
            }
        }
        assert!(models > 50);
        let [logits, probs] = &pairs;
        let name = format!("DeepBind, {models} published");
        check_parity(&name, "logits", "f32", [&logits[0], &logits[1]], 1e-4);
        check_parity(&name, "probabilities", "f32", [&probs[0], &probs[1]], 1e-5);
    }

    #[test]
    fn the_model_of_ctcfl_finds_ctcfl() {
        let Some(model) = converted("data/models/deepbind/CTCFL.D00753.001.h5", &Hints::default()) else {
            return;
        };
        let table = text(&shared("data/benchmarks/nyxbind_33tf/CTCFL/test.csv.gz").unwrap());
        let rows: Vec<(&str, &str)> =
            table.lines().skip(1).filter_map(|line| line.rsplit_once(',')).take(400).collect();
        let sequences: Vec<&[u8]> = rows.iter().map(|(sequence, _)| sequence.as_bytes()).collect();
        let labels: Vec<bool> = rows.iter().map(|(_, label)| label.trim() == "1").collect();
        let area = auc(&predict(&*model, &sequences).0, &labels);
        assert!((area - 0.947).abs() < 1e-3, "{area}");
    }
}
