//! Pairs of sequences by their embeddings: a residual network on what another model makes of each of the two.
//! `models.md` B.12 and C.7.
//!
//! `config.json` names the `encoder` (a model directory, relative to this one, or `hf://org/name`), its `pooling` (`mean` unless it
//! says `cls`, `bases` or `own`), and `minimum` and `maximum`, the ends of all embeddings at training: they
//! become −1 and 1, and what lies beyond them is not cut.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::config::Config;
use super::network::Head;
use super::weights::Weights;
use super::{Answer, Input, Model, Opened, Outputs, Pooling, Scores, Source, Wanted};
use crate::error::{Error, InFile, Result};
use crate::input::hub;

mod graph;

pub use graph::Graph;

/// The architecture's name in `config.json`.
pub const NAME: &str = "ResidualFcnn";

/// Pairs whose features are in memory at a time.
const PASS_PAIRS: usize = 256;

/// What `config.json` says of the embeddings.
#[derive(Clone, Debug, Deserialize)]
struct Embeddings {
    encoder: PathBuf,
    #[serde(default)]
    pooling: Option<String>,
    #[serde(flatten)]
    range: Range,
}

/// The ends of all embeddings at training.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Range {
    /// The smallest number.
    pub minimum: f32,
    /// The largest number.
    pub maximum: f32,
}

impl Range {
    /// Maps the minimum to −1 and the maximum to 1.
    pub fn scale(&self, value: f32) -> f32 {
        let (minimum, maximum) = (f64::from(self.minimum), f64::from(self.maximum));
        (2.0 * (f64::from(value) - minimum) / (maximum - minimum) - 1.0) as f32
    }

    fn check(&self) -> Result<()> {
        match self.minimum < self.maximum && (self.maximum - self.minimum).is_finite() {
            true => Ok(()),
            false => Err(Error::data(format!(
                "config.json: `minimum` {} and `maximum` {} of the embeddings are no range",
                self.minimum, self.maximum
            ))),
        }
    }
}

/// Returns the features of a pair: both embeddings, their difference and their product, each `[hidden]`.
pub fn features(first: &[f32], second: &[f32], range: Range) -> Vec<f32> {
    let first: Vec<f32> = first.iter().map(|&value| range.scale(value)).collect();
    let second: Vec<f32> = second.iter().map(|&value| range.scale(value)).collect();
    let pairs = || first.iter().zip(&second);
    let (differences, products) = (pairs().map(|(a, b)| a - b), pairs().map(|(a, b)| a * b));
    first.iter().chain(&second).copied().chain(differences).chain(products).collect()
}

/// Pairs of sequences, read by an encoder and decided by a network.
struct ResidualFcnn {
    encoder: Box<dyn Model>,
    pooling: Pooling,
    range: Range,
    graph: Graph,
    labels: Vec<String>,
}

/// Loads the network and its encoder.
pub(super) fn load(source: &Source) -> Result<Box<dyn Model>> {
    let Embeddings { encoder, pooling, range } = source.config.part()?;
    let pooling = pooling_of(pooling.as_deref())?;
    let encoder = load_encoder(source, &encoder)?;
    Ok(Box::new(ResidualFcnn::new(encoder, pooling, range, source.config, source.weights)?))
}

/// Loads the encoder.
fn load_encoder(source: &Source, encoder: &Path) -> Result<Box<dyn Model>> {
    let opened = open_encoder(source.directory, encoder).and_then(|opened| {
        // Encoders of encoders could lead in circles.
        match opened.config.architecture() == NAME {
            true => {
                Err(Error::data(format!("a {NAME} reads the embeddings of a language model, not of another")))
            }
            false => opened.build_on(&Device::Cpu, source.precision, source.gpu),
        }
    });
    Ok(opened.map_err(|error| error.at("the encoder that config.json names"))?.model)
}

/// Opens an encoder: a directory as seen from another, or a model of the hub.
///
/// # Errors
///
/// When it cannot be read.
pub fn open_encoder(directory: &Path, encoder: &Path) -> Result<Opened> {
    Opened::read(&match is_of_hub(encoder) {
        true => hub::locate(encoder)?.path,
        false => directory.join(encoder),
    })
}

/// Returns whether an encoder is named as a model of the hub.
pub fn is_of_hub(encoder: &Path) -> bool {
    encoder.to_str().is_some_and(|name| name.starts_with(hub::SCHEME))
}

/// Returns the pooling that `config.json` names, the mean where it names none.
///
/// # Errors
///
/// When there is no such pooling.
pub fn pooling_of(name: Option<&str>) -> Result<Pooling> {
    match name {
        None | Some("mean") => Ok(Pooling::Mean),
        Some("cls") => Ok(Pooling::Cls),
        Some("bases") => Ok(Pooling::MeanOfBases),
        Some("own") => Ok(Pooling::Own),
        Some(other) => Err(Error::data(format!(
            "config.json: `pooling` is `{other}`; known are mean, cls, bases and own"
        ))),
    }
}

impl ResidualFcnn {
    fn new(
        encoder: Box<dyn Model>,
        pooling: Pooling,
        range: Range,
        config: &Config,
        weights: &Weights,
    ) -> Result<Self> {
        range.check()?;
        let graph = Graph::load(config, weights)?;
        let wanted = Wanted { embedding: Some(pooling), ..Wanted::default() };
        let hidden = encoder.outputs(&wanted)?.embedding;
        if 4 * hidden != graph.inputs() {
            let inputs = graph.inputs();
            return Err(Error::data(format!(
                "the encoder's embeddings are {hidden} numbers, of which a pair has {}; the network reads {inputs}",
                4 * hidden
            )));
        }
        let labels = config.labels(graph.outputs())?;
        Ok(Self { encoder, pooling, range, graph, labels })
    }

    /// Returns the embeddings of both sequences of every row, or why there are none.
    fn embed(&self, rows: &[Input]) -> Result<Vec<Answer>> {
        let mut sequences = Vec::with_capacity(2 * rows.len());
        for row in rows {
            let second = row.second.ok_or_else(|| {
                Error::data(
                    "the model reads pairs of sequences, and a row has no second one in `sequence_2` \
                     (nyx-extract sequences makes it of a table with sequence1 and sequence2)",
                )
            })?;
            sequences.extend([row.bases, second].map(Input::of));
        }
        let wanted = Wanted { embedding: Some(self.pooling), ..Wanted::default() };
        self.encoder.predict(&sequences, &wanted)
    }

    /// Decides pairs that have embeddings: a row of logits each.
    fn decide(&self, pairs: &[[&[f32]; 2]], wanted: &Wanted) -> Result<Vec<Scores>> {
        let features: Vec<f32> =
            pairs.iter().flat_map(|[first, second]| features(first, second, self.range)).collect();
        let features = Tensor::from_vec(features, (pairs.len(), self.graph.inputs()), &Device::Cpu)?;
        let head = if self.labels.len() == 1 { Head::Sigmoid } else { Head::Softmax };
        let prediction = head.predict(self.graph.forward(&features)?)?;
        let mut probs = match prediction.probs.filter(|_| !wanted.logits_only) {
            Some(probs) => probs.to_vec2()?.into_iter().map(Some).collect(),
            None => vec![None; pairs.len()],
        }
        .into_iter();
        let row = |logits| Scores { logits, probs: probs.next().flatten(), ..Scores::default() };
        Ok(prediction.logits.to_vec2()?.into_iter().map(row).collect())
    }
}

impl Model for ResidualFcnn {
    fn window(&self) -> Option<usize> {
        self.encoder.window()
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn outputs(&self, wanted: &Wanted) -> Result<Outputs> {
        wanted.refuse_extras("a network on pairs")?;
        Ok(Outputs { classes: self.labels.len(), probs: true, ..Outputs::default() })
    }

    fn predict(&self, rows: &[Input], wanted: &Wanted) -> Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(rows.len());
        for rows in rows.chunks(PASS_PAIRS) {
            let embeddings = self.embed(rows)?;
            let mut pairs = Vec::with_capacity(rows.len());
            let mut misfits = Vec::with_capacity(rows.len());
            for pair in embeddings.chunks_exact(2) {
                misfits.push(pair.iter().find_map(|answer| answer.as_ref().err()).copied());
                if let [
                    Ok(Scores { embedding: Some(first), .. }),
                    Ok(Scores { embedding: Some(second), .. }),
                ] = pair
                {
                    pairs.push([first.as_slice(), second.as_slice()]);
                }
            }
            let mut scores =
                if pairs.is_empty() { Vec::new() } else { self.decide(&pairs, wanted)? }.into_iter();
            for misfit in misfits {
                answers.push(match misfit {
                    Some(misfit) => Err(misfit),
                    None => Ok(scores.next().ok_or_else(|| Error::data("the encoder gave no embedding"))?),
                });
            }
        }
        Ok(answers)
    }

    fn reads_pairs(&self) -> bool {
        true
    }
}

/// Checks a file of weights and puts what `encoder` and `range` say into the config.
///
/// # Errors
///
/// When either was not given.
pub fn complete(
    config: &mut Config,
    encoder: Option<&str>,
    range: Option<Range>,
    place: &Path,
) -> Result<()> {
    let (Some(encoder), Some(range)) = (encoder, range) else {
        let message = "a ResidualFcnn reads the embeddings of another model: name its directory with --encoder \
                       (as seen from the new one), and the ends of all embeddings at training with \
                       --embedding-range MIN,MAX";
        return Err(Error::usage(message)).in_file(place);
    };
    range.check().in_file(place)?;
    config.rest.insert("encoder".into(), encoder.into());
    config.rest.insert("minimum".into(), range.minimum.into());
    config.rest.insert("maximum".into(), range.maximum.into());
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
