//! What stands for a filter that is left out: the mean of its map over reference sequences.

use candle_core::{Device, Tensor};

use super::super::config::Config;
use super::super::convert::Converted;
use super::super::weights::{Array, Weights};
use super::{FILTER_MEANS, Filters};
use crate::error::{Error, Result};
use crate::kernel::pool;

/// The sums of the filters' maps over sequences seen so far. The order of the sequences fixes the sums,
/// their batches do not.
pub struct FilterMeans {
    filters: Filters,
    sums: Vec<f64>,
    sequences: u64,
    length: usize,
}

impl FilterMeans {
    /// Starts with no sequence, on the filters of a SigTFB model.
    ///
    /// # Errors
    ///
    /// When the architecture is another, or the tensors are not there.
    pub fn new(config: &Config, weights: &Weights) -> Result<Self> {
        let prefix = match config.architecture() {
            "CNN_Multilabel" => "",
            "Net_Stage2" => "model_stage1.",
            other => {
                let message =
                    format!("a {other} has no filters to leave out: CNN_Multilabel and Net_Stage2 have");
                return Err(Error::data(message));
            }
        };
        let filters = Filters::load(weights, prefix)?;
        let length = config.window.unwrap_or(super::LENGTH);
        Ok(Self { sums: vec![0.0; filters.conv.outputs()], filters, sequences: 0, length })
    }

    /// Returns the number of bases that a sequence must have.
    pub fn window(&self) -> usize {
        self.length
    }

    /// Returns how many sequences were added.
    pub fn sequences(&self) -> u64 {
        self.sequences
    }

    /// Adds sequences (upper-case `ACGTN`) of [`FilterMeans::window`] bases.
    ///
    /// # Errors
    ///
    /// When their lengths differ.
    pub fn add(&mut self, sequences: &[&[u8]]) -> Result<()> {
        for pass in sequences.chunks(64) {
            self.add_encoded(&self.filters.encode(pass, &Device::Cpu)?)?;
        }
        Ok(())
    }

    /// Adds encoded sequences, `[B, L, 4]`.
    pub(super) fn add_encoded(&mut self, input: &Tensor) -> Result<()> {
        let maps = self.filters.maps(input)?;
        for means in pool::global_mean(&maps)?.to_vec2::<f32>()? {
            self.sums.iter_mut().zip(means).for_each(|(sum, mean)| *sum += f64::from(mean));
            self.sequences += 1;
        }
        Ok(())
    }

    /// Returns the mean over positions and sequences, `[filters]`.
    ///
    /// # Errors
    ///
    /// When there was no sequence.
    pub fn means(&self) -> Result<Vec<f32>> {
        if self.sequences == 0 {
            return Err(Error::data("no sequence that the model can read: the means of filters need some"));
        }
        Ok(self.sums.iter().map(|sum| (sum / self.sequences as f64) as f32).collect())
    }

    /// Returns the model that leaves out one filter after another.
    ///
    /// # Errors
    ///
    /// As [`FilterMeans::means`].
    pub fn into_model(self, mut config: Config, weights: Weights) -> Result<Converted> {
        let means = self.means()?;
        config.architectures = vec![format!("motif_{}", config.architecture())];
        config.rest.insert("filter_mean_sequences".into(), self.sequences.into());
        Ok(Converted {
            config,
            weights: weights.with_tensor(FILTER_MEANS, Array { shape: vec![means.len()], values: means }),
        })
    }
}
