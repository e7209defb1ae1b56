//! Networks over encoded bases, as graphs that can be differentiated, and how one answers as a model.

use std::collections::BTreeMap;

use candle_core::Tensor;
use rayon::prelude::*;

use super::transformer::Gpu;
use super::trunk_gpu::GpuTrunk;
use super::{Answer, Input, Model, Outputs, Scores, Wanted};
use crate::error::{Error, Result};
use crate::kernel::{Stack, pointwise};

/// Bases computed in one pass: bounds the activations in memory whatever the batch size is. Networks
/// promise that results do not depend on it.
pub const PASS_BASES: usize = 1 << 14;

/// The same on a GPU, which must have enough to do.
const GPU_PASS_BASES: usize = 1 << 20;

/// Length of the sequence that shows which outputs a network without a window has.
const PROBE_BASES: usize = 1000;

/// Bases that a network may read at once: a few times the longest window of any published one.
pub const WINDOW_MAX: usize = 1 << 21;

/// What a network says about a batch of sequences. All tensors are f32 on the network's device.
pub struct Prediction {
    /// `[B, classes]`, before any sigmoid or softmax. A base-level caller has one class here: the
    /// log-sum-exp of its per-base logits. A BPNet has its log counts.
    pub logits: Tensor,
    /// `[B, classes]`, after the model's own sigmoid or softmax; `None` where logits are no odds.
    pub probs: Option<Tensor>,
    /// `[B, L]`, one probability per base, from base-level callers.
    pub base_scores: Option<Tensor>,
    /// `[B, tracks, length]`, profile logits.
    pub profile: Option<Tensor>,
}

/// A network over encoded bases. Its numbers do not depend on which rows share a batch.
pub trait Network: Send + Sync {
    /// Returns the number of bases a row must have; `None` when any number will do.
    fn window(&self) -> Option<usize>;

    /// Returns the names of the classes, one for each logit.
    fn labels(&self) -> &[String];

    /// Encodes sequences of equal length (upper-case `ACGTN`) as the network was trained to read them,
    /// `[B, L, 4]`.
    fn encode(&self, sequences: &[&[u8]]) -> Result<Tensor>;

    /// Runs the network. Differentiable with respect to `input`.
    fn forward(&self, input: &Tensor) -> Result<Prediction>;

    /// Returns whether some layer multiplies in bfloat16.
    fn rounds(&self) -> bool {
        false
    }

    /// Returns the layers over positions that it begins with, where [`Network::finish`] can go on from their output.
    fn trunk(&self) -> Option<&Stack> {
        None
    }

    /// Predicts from what the trunk made of sequences, `[B, positions, channels]`.
    fn conclude(&self, _trunk: &Tensor) -> Result<Prediction> {
        Err(Error::data("the network has no trunk"))
    }

    /// Returns the logits `[B, classes]` of what the trunk made of sequences, `[B, positions, channels]`. They have
    /// the bits of [`Network::forward`] where the trunk's output has.
    fn finish(&self, _trunk: &Tensor) -> Result<Tensor> {
        Err(Error::data("the network has no trunk"))
    }
}

/// What follows the logits of a classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// Nothing.
    Linear,
    /// A sigmoid for each class.
    Sigmoid,
    /// A softmax over the classes.
    Softmax,
}

impl Head {
    /// Turns logits `[B, classes]` into a prediction.
    pub(super) fn predict(self, logits: Tensor) -> Result<Prediction> {
        let probs = match self {
            Self::Linear => None,
            Self::Sigmoid => Some(pointwise::sigmoid(&logits)?),
            Self::Softmax => Some(pointwise::softmax(&logits)?),
        };
        Ok(Prediction { logits, probs, base_scores: None, profile: None })
    }
}

/// A network as a model: sequences of equal length go through it together.
pub struct NetworkModel {
    network: Box<dyn Network>,
    /// Its trunk, if that is not on the processor.
    gpu: Option<GpuTrunk>,
    outputs: Outputs,
}

impl NetworkModel {
    /// Wraps a network, after a trial that shows what it predicts.
    ///
    /// # Errors
    ///
    /// When it fails on a sequence of its length, or has more or fewer outputs than labels.
    pub fn new(network: Box<dyn Network>) -> Result<Self> {
        let outputs = probe(network.as_ref())?;
        Ok(Self { network, gpu: None, outputs })
    }

    /// Puts its trunk on a GPU.
    ///
    /// # Errors
    ///
    /// When it has none, there are no kernels for it, or memory is full.
    pub fn on(self, gpu: &Gpu) -> Result<Self> {
        let trunk = self.network.trunk().ok_or_else(|| {
            Error::data("--device cuda: there are no kernels for this kind of network; use --device cpu")
        })?;
        let trunk = GpuTrunk::new(gpu.backend.clone(), trunk, gpu.number)?;
        Ok(Self { gpu: Some(trunk), ..self })
    }

    /// Predicts rows of equal length.
    fn predict_pass(&self, pass: &[&[u8]], wanted: &Wanted) -> Result<Vec<Answer>> {
        let input = self.network.encode(pass)?;
        let mut prediction = match &self.gpu {
            Some(trunk) => self.network.conclude(&trunk.forward(&input)?)?,
            None => self.network.forward(&input)?,
        };
        if wanted.logits_only {
            prediction = Prediction { probs: None, base_scores: None, profile: None, ..prediction };
        }
        Ok(split(prediction)?.into_iter().map(Ok).collect())
    }
}

impl Model for NetworkModel {
    fn window(&self) -> Option<usize> {
        self.network.window()
    }

    fn labels(&self) -> &[String] {
        self.network.labels()
    }

    fn outputs(&self, wanted: &Wanted) -> Result<Outputs> {
        wanted.refuse_extras("a network over bases")?;
        Ok(self.outputs)
    }

    fn predict(&self, rows: &[Input], wanted: &Wanted) -> Result<Vec<Answer>> {
        let bases = if self.gpu.is_some() { GPU_PASS_BASES } else { PASS_BASES };
        let mut lengths = BTreeMap::<usize, Vec<usize>>::new();
        for (index, row) in rows.iter().enumerate() {
            lengths.entry(row.bases.len()).or_default().push(index);
        }
        let passes: Vec<&[usize]> =
            lengths.iter().flat_map(|(&length, rows)| rows.chunks((bases / length.max(1)).max(1))).collect();
        let answers: Vec<Vec<Answer>> = passes
            .par_iter()
            .map(|pass| {
                let bases: Vec<&[u8]> = pass.iter().map(|&row| rows[row].bases).collect();
                self.predict_pass(&bases, wanted)
            })
            .collect::<Result<_>>()?;
        let mut ordered: Vec<_> = passes.into_iter().flatten().zip(answers.into_iter().flatten()).collect();
        ordered.sort_unstable_by_key(|(row, _)| **row);
        Ok(ordered.into_iter().map(|(_, answer)| answer).collect())
    }

    fn network(&self) -> Option<&dyn Network> {
        // On a GPU it only predicts: gradients and substitutions that are followed are the processor's.
        self.gpu.is_none().then_some(self.network.as_ref())
    }
}

/// Finds out what a network predicts.
fn probe(network: &dyn Network) -> Result<Outputs> {
    let window = network.window().unwrap_or(PROBE_BASES);
    if window > WINDOW_MAX {
        let message = format!(
            "config.json makes it read {window} bases at once; nyx runs networks of at most {WINDOW_MAX}"
        );
        return Err(Error::data(message));
    }
    let sequence = vec![b'A'; window];
    let prediction = network.forward(&network.encode(&[&sequence])?)?;
    let classes = prediction.logits.dim(1)?;
    if classes != network.labels().len() {
        let labels = network.labels().len();
        return Err(Error::data(format!("the model has {classes} outputs and {labels} labels")));
    }
    let profile = match &prediction.profile {
        Some(profile) => Some((profile.dim(1)?, profile.dim(2)?)),
        None => None,
    };
    Ok(Outputs {
        classes,
        probs: prediction.probs.is_some(),
        base_scores: prediction.base_scores.is_some(),
        profile,
        ..Outputs::default()
    })
}

/// Splits a prediction into rows.
fn split(prediction: Prediction) -> Result<Vec<Scores>> {
    let rows = |tensor: Option<Tensor>| -> Result<Vec<Option<Vec<f32>>>> {
        let Some(tensor) = tensor else { return Ok(Vec::new()) };
        Ok(tensor.flatten_from(1)?.to_vec2()?.into_iter().map(Some).collect())
    };
    let logits = prediction.logits.to_vec2()?;
    let mut probs = rows(prediction.probs)?.into_iter();
    let mut base_scores = rows(prediction.base_scores)?.into_iter();
    let mut profile = rows(prediction.profile)?.into_iter();
    let row = |logits| Scores {
        logits,
        probs: probs.next().flatten(),
        base_scores: base_scores.next().flatten(),
        profile: profile.next().flatten(),
        ..Scores::default()
    };
    Ok(logits.into_iter().map(row).collect())
}
