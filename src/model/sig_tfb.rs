//! SigTFB: does a factor bind, cell type by cell type. `models.md` B.10 and B.11.
//!
//! Stage 1 (`CNN_Multilabel`) has a logit for each cell type. Stage 2 (`Net_Stage2`) is told the cell type,
//! or is not: its logits are the log-odds of binding when told each cell type in turn, and last, `untold`.
//!
//! The two with `motif_` before their names leave out one filter after another: what a filter contributes to
//! `conv_out` is replaced by the mean of its map, and there is a logit for each filter and class. The
//! original takes that mean over the batch at hand, so that its numbers depend on the batch. Here it belongs
//! to the model: the tensor `filter_means`, which [`influence`] computes once, on sequences of one's choice.
//!
//! `N` is a quarter of each base, so the original's padding of short sequences is padding with `N`.

use candle_core::{Device, Tensor};

use super::config::Config;
use super::encoding::{self, Unknown};
use super::weights::Weights;
use super::{Head, Network, Prediction};
use crate::error::{Error, Result};
use crate::kernel::pointwise::relu;
use crate::kernel::{Conv, pool};

pub mod influence;

/// Bases of a row, unless `config.json` says otherwise.
const LENGTH: usize = 101;

/// Name of the class of stage 2 that is not told the cell type.
pub const UNTOLD: &str = "untold";

/// Name of the tensor of what stands for a filter that is left out, `[filters]`.
pub const FILTER_MEANS: &str = "filter_means";

/// The convolution that both stages share.
pub(super) struct Filters {
    conv: Conv,
    width: usize,
}

impl Filters {
    fn load(weights: &Weights, prefix: &str) -> Result<Self> {
        let name = format!("{prefix}conv1");
        let [filters, _, _, width] = weights.shape(&format!("{name}.weight"))?;
        Ok(Self { conv: weights.conv(&name, [filters, 4, 1, width])?.with_relu(), width })
    }

    /// Returns how strongly each filter matches at each position, `[B, positions, filters]`.
    pub(super) fn maps(&self, input: &Tensor) -> Result<Tensor> {
        self.conv.forward_1d(input)
    }

    /// Encodes sequences, `[B, L, 4]`.
    pub(super) fn encode(&self, sequences: &[&[u8]], device: &Device) -> Result<Tensor> {
        encoding::one_hot(sequences, Unknown::Quarter, device)
    }
}

/// What follows the strongest match of each filter.
enum Classifier {
    /// Two linear layers.
    Cells { hidden: Conv, output: Conv },
    /// The layers after the cell type is known, with what it adds to their input, `[classes, hidden]`.
    Told { hidden: Conv, cells: Tensor, odds: Conv },
}

impl Classifier {
    fn cells(weights: &Weights, filters: usize) -> Result<Self> {
        let [hidden, _] = weights.shape("fc1.weight")?;
        let [classes, _] = weights.shape("fc2.weight")?;
        Ok(Self::Cells {
            hidden: weights.linear("fc1", [hidden, filters])?.with_relu(),
            output: weights.linear("fc2", [classes, hidden])?,
        })
    }

    fn told(config: &Config, weights: &Weights, filters: usize, device: &Device) -> Result<Self> {
        let [hidden, inputs] = weights.shape("fc3.weight")?;
        let accessible = accessibility(config, inputs, filters)?;
        let mut weight = weights.get("fc3.weight", &[hidden, inputs])?.to_vec();
        let mut bias = weights.get("fc3.bias", &[hidden])?.to_vec();
        weights.batch_norm("bn3", hidden, 1e-5)?.fold(&mut weight, &mut bias);
        let mut of_filters = Vec::with_capacity(hidden * filters);
        for (weight, bias) in weight.chunks_exact(inputs).zip(&mut bias) {
            of_filters.extend_from_slice(&weight[..filters]);
            *bias += weight[filters..].iter().zip(&accessible).map(|(w, x)| w * x).sum::<f32>();
        }
        let units = units(weights)?;
        let last = |row: usize| weight[(row + 1) * inputs - 1];
        let cells: Vec<f32> =
            units.iter().flat_map(|unit| (0..hidden).map(move |row| last(row) * unit)).collect();
        Ok(Self::Told {
            hidden: Conv::linear(&of_filters, [hidden, filters], &bias),
            cells: Tensor::from_vec(cells, (units.len(), hidden), device)?,
            odds: odds(weights, hidden)?,
        })
    }

    fn classes(&self) -> Result<usize> {
        match self {
            Self::Cells { output, .. } => Ok(output.outputs()),
            Self::Told { cells, .. } => Ok(cells.dim(0)?),
        }
    }

    /// Returns the logits `[…, classes]` of `[…, filters]`.
    fn forward(&self, matches: &Tensor) -> Result<Tensor> {
        match self {
            Self::Cells { hidden, output } => output.forward_rows(&hidden.forward_rows(matches)?),
            Self::Told { hidden, cells, odds } => {
                let shared = hidden.forward_rows(matches)?;
                let axis = shared.rank() - 1;
                let told = relu(&shared.unsqueeze(axis)?.broadcast_add(cells)?)?;
                Ok(odds.forward_rows(&told)?.squeeze(axis + 1)?)
            }
        }
    }
}

/// Returns the two numbers between the filters and the cell type that older checkpoints have: `[1, 0]` where
/// chromatin is closed, `[0, 1]` where it is open, zeros where that is not told.
fn accessibility(config: &Config, inputs: usize, filters: usize) -> Result<Vec<f32>> {
    let told = config.rest.get("chromatin").and_then(|value| value.as_str());
    let bits = match told {
        None | Some(UNTOLD) => [0.0, 0.0],
        Some("closed") => [1.0, 0.0],
        Some("open") => [0.0, 1.0],
        Some(other) => {
            let message = format!("config.json: `chromatin` is `{other}`; open, closed or {UNTOLD}");
            return Err(Error::data(message));
        }
    };
    match inputs.checked_sub(filters) {
        Some(3) => Ok(bits.to_vec()),
        Some(1) if told.is_none() => Ok(Vec::new()),
        Some(1) => Err(Error::data("config.json: this network is not told of chromatin")),
        _ => Err(Error::data(format!(
            "`fc3.weight` reads {inputs} numbers of {filters} filters: expected one more, or three"
        ))),
    }
}

/// Returns the one number that tells a cell type, for each of them, and last for none.
fn units(weights: &Weights) -> Result<Vec<f32>> {
    let [units, cells] = weights.shape("fc1.weight")?;
    let mut weight = weights.get("fc1.weight", &[units, cells])?.to_vec();
    let mut bias = weights.get("fc1.bias", &[units])?.to_vec();
    weights.batch_norm("bn1", units, 1e-5)?.fold(&mut weight, &mut bias);
    let output = weights.get("fc2.weight", &[1, units])?;
    let shift = weights.get("fc2.bias", &[1])?[0];
    let unit = |cell: Option<usize>| {
        let hidden = (0..units).map(|row| cell.map_or(0.0, |cell| weight[row * cells + cell]) + bias[row]);
        // Not f32::max, which would make a number of what is none.
        let rectified = hidden.map(|x| if x < 0.0 { 0.0 } else { x });
        rectified.zip(output).map(|(x, weight)| x * weight).sum::<f32>() + shift
    };
    Ok((0..cells).map(Some).chain([None]).map(unit).collect())
}

/// Builds the last layer: of two logits, that of binding minus that of not binding.
fn odds(weights: &Weights, hidden: usize) -> Result<Conv> {
    let (no, yes) = weights.get("fc4.weight", &[2, hidden])?.split_at(hidden);
    let bias = weights.get("fc4.bias", &[2])?;
    let difference: Vec<f32> = yes.iter().zip(no).map(|(yes, no)| yes - no).collect();
    Ok(Conv::linear(&difference, [1, hidden], &[bias[1] - bias[0]]))
}

struct SigTfb {
    filters: Filters,
    classifier: Classifier,
    /// What stands for each filter in turn: zeros on the diagonal, ones elsewhere, and the means on the
    /// diagonal, zeros elsewhere; both `[filters, filters]`.
    left_out: Option<(Tensor, Tensor)>,
    window: usize,
    labels: Vec<String>,
    device: Device,
}

/// Builds stage 1.
pub(super) fn load_stage_1(config: &Config, weights: &Weights, device: &Device) -> Result<Box<dyn Network>> {
    let (filters, classifier) = stage_1(weights)?;
    let labels = config.labels(classifier.classes()?)?;
    Ok(Box::new(SigTfb::new(config, filters, classifier, labels, device)?))
}

/// Builds stage 2.
pub(super) fn load_stage_2(config: &Config, weights: &Weights, device: &Device) -> Result<Box<dyn Network>> {
    let (filters, classifier) = stage_2(config, weights, device)?;
    let labels = labels_with_untold(config, classifier.classes()?)?;
    Ok(Box::new(SigTfb::new(config, filters, classifier, labels, device)?))
}

/// Builds stage 1 with each filter left out in turn.
pub(super) fn load_motif_stage_1(
    config: &Config,
    weights: &Weights,
    device: &Device,
) -> Result<Box<dyn Network>> {
    let (filters, classifier) = stage_1(weights)?;
    let cells = classifier.classes()?;
    load_motifs(config, weights, filters, classifier, &|config| config.labels(cells), device)
}

/// Builds stage 2 with each filter left out in turn.
pub(super) fn load_motif_stage_2(
    config: &Config,
    weights: &Weights,
    device: &Device,
) -> Result<Box<dyn Network>> {
    let (filters, classifier) = stage_2(config, weights, device)?;
    let classes = classifier.classes()?;
    let labels = |config: &Config| labels_with_untold(config, classes);
    load_motifs(config, weights, filters, classifier, &labels, device)
}

fn stage_1(weights: &Weights) -> Result<(Filters, Classifier)> {
    let filters = Filters::load(weights, "")?;
    let classifier = Classifier::cells(weights, filters.conv.outputs())?;
    Ok((filters, classifier))
}

fn stage_2(config: &Config, weights: &Weights, device: &Device) -> Result<(Filters, Classifier)> {
    let filters = Filters::load(weights, "model_stage1.")?;
    let classifier = Classifier::told(config, weights, filters.conv.outputs(), device)?;
    Ok((filters, classifier))
}

/// Returns the labels of stage 2; `untold` need not be among those of the config.
fn labels_with_untold(config: &Config, classes: usize) -> Result<Vec<String>> {
    let mut config = config.clone();
    match &mut config.labels {
        Some(labels) if labels.len() + 1 == classes => labels.push(UNTOLD.into()),
        Some(_) => {}
        None => {
            let cells = (0..classes - 1).map(|cell| format!("cell_{cell}"));
            config.labels = Some(cells.chain([UNTOLD.into()]).collect());
        }
    }
    config.labels(classes)
}

fn load_motifs(
    config: &Config,
    weights: &Weights,
    filters: Filters,
    classifier: Classifier,
    class_labels: &dyn Fn(&Config) -> Result<Vec<String>>,
    device: &Device,
) -> Result<Box<dyn Network>> {
    let count = filters.conv.outputs();
    let means = weights.get(FILTER_MEANS, &[count])?;
    // A directory that was written with the long labels is read with them.
    let answers = count * classifier.classes()?;
    let labels = match &config.labels {
        Some(labels) if labels.len() == answers => labels.clone(),
        _ => motif_labels(count, &class_labels(config)?),
    };
    let mut network = SigTfb::new(config, filters, classifier, labels, device)?;
    let square = |on: &dyn Fn(usize) -> f32, off: f32| -> Result<Tensor> {
        let cell = |index: usize| if index % count == index / count { on(index / count) } else { off };
        Ok(Tensor::from_vec((0..count * count).map(cell).collect(), (count, count), device)?)
    };
    network.left_out = Some((square(&|_| 0.0, 1.0)?, square(&|filter| means[filter], 0.0)?));
    Ok(Box::new(network))
}

/// Returns the names of the answers without each filter.
fn motif_labels(filters: usize, classes: &[String]) -> Vec<String> {
    let names = |filter: usize| classes.iter().map(move |class| format!("{class} without filter {filter}"));
    (0..filters).flat_map(names).collect()
}

impl SigTfb {
    fn new(
        config: &Config,
        filters: Filters,
        classifier: Classifier,
        labels: Vec<String>,
        device: &Device,
    ) -> Result<Self> {
        let window = config.window.unwrap_or(LENGTH);
        if window < filters.width {
            let width = filters.width;
            return Err(Error::data(format!(
                "a window of {window} bases is narrower than the filters, {width}"
            )));
        }
        Ok(Self { filters, classifier, left_out: None, window, labels, device: device.clone() })
    }
}

impl Network for SigTfb {
    fn window(&self) -> Option<usize> {
        Some(self.window)
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn encode(&self, sequences: &[&[u8]]) -> Result<Tensor> {
        self.filters.encode(sequences, &self.device)
    }

    fn forward(&self, input: &Tensor) -> Result<Prediction> {
        encoding::check_input(input, self.window())?;
        let mut matches = pool::global_max(&self.filters.maps(input)?)?;
        if let Some((others, means)) = &self.left_out {
            matches = matches.unsqueeze(1)?.broadcast_mul(others)?.broadcast_add(means)?;
        }
        let logits = self.classifier.forward(&matches)?;
        Head::Sigmoid.predict(logits.flatten_from(1)?)
    }
}

#[cfg(test)]
mod tests;
