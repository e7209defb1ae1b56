//! Convolutions one after another: the Kundaje lab's transcription factor models, DragoNN, nyx's own.
//!
//! `layers` in `config.json` lists what a Keras or PyTorch `Sequential` would; the tensors of layer i are
//! `i.weight`, `i.bias`, `i.running_mean`, `i.running_var`.

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::encoding::{self, Unknown};
use super::network::WINDOW_MAX;
use super::weights::{BatchNorm, Weights};
use super::{Head, Network, Prediction};
use crate::error::{Error, Result};
use crate::kernel::pointwise::{self, Affine};
use crate::kernel::{self, Conv, Padding, Precision, Stack, pool};

/// The family's part of `config.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layers {
    /// The layers, first to last.
    pub layers: Vec<Entry>,
}

/// A layer and the number its tensors are named by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The number of the layer; its place in the list when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub i: Option<usize>,
    /// The layer.
    #[serde(flatten)]
    pub layer: Layer,
}

/// A layer of a sequential network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Layer {
    /// A convolution over positions, weights `[out, in_, k]`.
    Conv1d {
        /// Input channels.
        in_: usize,
        /// Output channels.
        out: usize,
        /// Kernel width.
        k: usize,
        /// Zeros around the sequence.
        #[serde(default)]
        padding: Around,
        /// Positions from one output to the next.
        #[serde(default = "one")]
        stride: usize,
        /// Positions from one tap to the next.
        #[serde(default = "one")]
        dilation: usize,
    },
    /// A batch norm in use.
    Batchnorm1d {
        /// Channels.
        n: usize,
        /// Added to the variance.
        #[serde(default = "torch_epsilon")]
        eps: f64,
    },
    /// max(x, 0).
    Relu,
    /// The maximum of `k` positions.
    Maxpool1d {
        /// Positions of a window.
        k: usize,
        /// Positions from one window to the next; `k` when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<usize>,
    },
    /// `[L, C]` to `[L·C]`, Keras' order.
    FlattenKeras,
    /// `[L, C]` to `[C·L]`, PyTorch's order.
    Flatten,
    /// The maximum over all positions.
    Globalmaxpool,
    /// The mean over all positions.
    Globalavgpool,
    /// A linear layer, weights `[out, in_]`.
    Linear {
        /// Input features.
        in_: usize,
        /// Output features.
        out: usize,
    },
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// eˣ over its sum.
    Softmax,
    /// Nothing, in use.
    Dropout,
}

/// Zeros around a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Around {
    /// By name.
    Named(Named),
    /// This many on each side.
    Both(usize),
}

/// The paddings that have names.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Named {
    /// As many outputs as inputs; an odd zero goes to the end.
    Same,
    /// None.
    Valid,
}

impl Default for Around {
    fn default() -> Self {
        Self::Named(Named::Valid)
    }
}

impl Around {
    fn amounts(self, reach: usize) -> (usize, usize) {
        match self {
            Self::Named(Named::Same) => (reach / 2, reach - reach / 2),
            Self::Named(Named::Valid) => (0, 0),
            Self::Both(amount) => (amount, amount),
        }
    }
}

fn one() -> usize {
    1
}

fn torch_epsilon() -> f64 {
    1e-5
}

/// What a layer became: norms and ReLUs are folded into the layer before them.
enum Step {
    Conv(Conv),
    Linear(Conv),
    Norm(Affine),
    Relu,
    Sigmoid,
    MaxPool { size: usize, stride: usize },
    GlobalMax,
    GlobalMean,
    Flatten,
    FlattenChannelsFirst,
}

impl Step {
    /// Returns the step as a layer over positions, if it is one.
    fn over_positions(&self) -> Option<kernel::Layer> {
        match *self {
            Self::Conv(ref conv) => Some(kernel::Layer::Conv(conv.clone())),
            Self::Norm(ref norm) => Some(kernel::Layer::Norm(norm.clone())),
            Self::Relu => Some(kernel::Layer::Relu),
            Self::MaxPool { size, stride } => Some(kernel::Layer::MaxPool { size, stride }),
            _ => None,
        }
    }
}

struct SequentialCnn {
    /// The first steps, as far as they go over positions.
    trunk: Stack,
    steps: Vec<Step>,
    head: Head,
    labels: Vec<String>,
    window: Option<usize>,
    device: Device,
}

/// Builds the network.
pub(super) fn load(
    config: &Config,
    weights: &Weights,
    device: &Device,
    precision: Precision,
) -> Result<Box<dyn Network>> {
    let entries = config.part::<Layers>()?.layers;
    let mut layers: Vec<(usize, Layer)> = (entries.into_iter().enumerate())
        .map(|(place, entry)| (entry.i.unwrap_or(place), entry.layer))
        .filter(|(_, layer)| *layer != Layer::Dropout)
        .collect();
    layers.iter().try_for_each(|(index, layer)| check(*index, layer))?;
    let head = match layers.last() {
        Some((_, Layer::Sigmoid)) => Head::Sigmoid,
        Some((_, Layer::Softmax)) => Head::Softmax,
        _ => Head::Linear,
    };
    if !matches!(head, Head::Linear) {
        layers.pop();
    }
    let window = config.window.or_else(|| smallest_window(&layers));
    let classes = layers.iter().rev().find_map(|(_, layer)| match layer {
        Layer::Linear { out, .. } | Layer::Conv1d { out, .. } => Some(*out),
        _ => None,
    });
    let labels =
        config.labels(classes.ok_or_else(|| Error::data("config.json lists no layer with weights"))?)?;
    let mut steps = build(&layers, weights, precision)?;
    let trunk: Vec<_> = steps.iter().map_while(Step::over_positions).collect();
    steps.drain(..trunk.len());
    Ok(Box::new(SequentialCnn {
        trunk: Stack::new(trunk),
        steps,
        head,
        labels,
        window,
        device: device.clone(),
    }))
}

/// Checks that no width or step of a layer is zero, and none is beyond all windows.
fn check(index: usize, layer: &Layer) -> Result<()> {
    let largest = match *layer {
        Layer::Conv1d { k, padding, stride, dilation, .. } => {
            let around = if let Around::Both(amount) = padding { amount } else { 0 };
            dilation.saturating_mul(k).max(stride).max(around)
        }
        Layer::Maxpool1d { k, stride } => k.max(stride.unwrap_or(k)),
        _ => 0,
    };
    if largest > WINDOW_MAX {
        return Err(Error::data(format!("config.json: layer {index} reaches over {largest} positions")));
    }
    let smallest = match *layer {
        Layer::Conv1d { in_, out, k, stride, dilation, .. } => in_.min(out).min(k).min(stride).min(dilation),
        Layer::Maxpool1d { k, stride } => k.min(stride.unwrap_or(k)),
        Layer::Linear { in_, out } => in_.min(out),
        _ => 1,
    };
    if smallest == 0 {
        return Err(Error::data(format!("config.json: layer {index} has a width or step of zero")));
    }
    Ok(())
}

fn build(layers: &[(usize, Layer)], weights: &Weights, precision: Precision) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = layers.iter().peekable();
    while let Some((index, layer)) = rest.next() {
        let mut parts = |taps: &[usize]| -> Result<(Vec<f32>, Vec<f32>, bool)> {
            let mut weight = weights.get(&format!("{index}.weight"), taps)?.to_vec();
            let mut bias = weights.get(&format!("{index}.bias"), &taps[..1])?.to_vec();
            if let Some((norm, Layer::Batchnorm1d { n, eps })) = rest.peek() {
                norm_of(weights, *norm, *n, *eps)?.fold(&mut weight, &mut bias);
                rest.next();
            }
            Ok((weight, bias, rest.next_if(|(_, layer)| *layer == Layer::Relu).is_some()))
        };
        steps.push(match *layer {
            Layer::Conv1d { in_, out, k, padding, stride, dilation } => {
                let (weight, bias, relu) = parts(&[out, in_, k])?;
                let (left, right) = padding.amounts(dilation * (k - 1));
                let conv = Conv::new(&weight, [out, in_, 1, k], &bias)
                    .with_padding(Padding { left, right, ..Padding::default() })
                    .with_stride([1, stride])
                    .with_dilation([1, dilation])
                    .with_precision(precision);
                Step::Conv(if relu { conv.with_relu() } else { conv })
            }
            Layer::Linear { in_, out } => {
                let (weight, bias, relu) = parts(&[out, in_])?;
                let linear = Conv::linear(&weight, [out, in_], &bias).with_precision(precision);
                Step::Linear(if relu { linear.with_relu() } else { linear })
            }
            Layer::Batchnorm1d { n, eps } => Step::Norm(norm_of(weights, *index, n, eps)?.layer()),
            Layer::Relu => Step::Relu,
            Layer::Maxpool1d { k, stride } => Step::MaxPool { size: k, stride: stride.unwrap_or(k) },
            Layer::FlattenKeras => Step::Flatten,
            Layer::Flatten => Step::FlattenChannelsFirst,
            Layer::Globalmaxpool => Step::GlobalMax,
            Layer::Globalavgpool => Step::GlobalMean,
            Layer::Sigmoid => Step::Sigmoid,
            Layer::Softmax => return Err(Error::data("softmax is known as the last layer only")),
            Layer::Dropout => continue,
        });
    }
    Ok(steps)
}

fn norm_of(weights: &Weights, index: usize, channels: usize, epsilon: f64) -> Result<BatchNorm> {
    weights.batch_norm(&index.to_string(), channels, epsilon)
}

/// Returns the smallest number of bases that gives the first linear layer after a flattening the features it
/// reads; `None` when any number will do.
fn smallest_window(layers: &[(usize, Layer)]) -> Option<usize> {
    let flatten =
        layers.iter().position(|(_, layer)| matches!(layer, Layer::Flatten | Layer::FlattenKeras))?;
    let features = layers[flatten..].iter().find_map(|(_, layer)| match layer {
        Layer::Linear { in_, .. } => Some(*in_),
        _ => None,
    })?;
    let channels = layers[..flatten].iter().rev().find_map(|(_, layer)| match layer {
        Layer::Conv1d { out, .. } => Some(*out),
        _ => None,
    })?;
    // Backwards, each layer's smallest input for the output that is wanted.
    let mut length = features / channels.max(1);
    for (_, layer) in layers[..flatten].iter().rev() {
        length = match *layer {
            Layer::Conv1d { k, padding, stride, dilation, .. } => {
                let reach = dilation * (k - 1);
                let (left, right) = padding.amounts(reach);
                ((length.max(1) - 1).saturating_mul(stride).saturating_add(reach + 1))
                    .saturating_sub(left + right)
            }
            Layer::Maxpool1d { k, stride } => {
                (length.max(1) - 1).saturating_mul(stride.unwrap_or(k)).saturating_add(k)
            }
            _ => length,
        };
    }
    Some(length)
}

impl Network for SequentialCnn {
    fn window(&self) -> Option<usize> {
        self.window
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn encode(&self, sequences: &[&[u8]]) -> Result<Tensor> {
        encoding::one_hot(sequences, Unknown::Zeros, &self.device)
    }

    fn forward(&self, input: &Tensor) -> Result<Prediction> {
        encoding::check_input(input, self.window)?;
        self.conclude(&self.trunk.forward(input)?)
    }

    fn trunk(&self) -> Option<&Stack> {
        (!self.trunk.is_empty()).then_some(&self.trunk)
    }

    fn conclude(&self, trunk: &Tensor) -> Result<Prediction> {
        self.head.predict(self.finish(trunk)?)
    }

    fn finish(&self, trunk: &Tensor) -> Result<Tensor> {
        let mut x = trunk.clone();
        for step in &self.steps {
            x = match step {
                Step::Conv(conv) => conv.forward_1d(&x)?,
                Step::Linear(linear) => linear.forward_rows(&x)?,
                Step::Norm(norm) => norm.forward(&x)?,
                Step::Relu => pointwise::relu(&x)?,
                Step::Sigmoid => pointwise::sigmoid(&x)?,
                Step::MaxPool { size, stride } => pool::max(&x, *size, *stride)?,
                Step::GlobalMax => pool::global_max(&x)?,
                Step::GlobalMean => pool::global_mean(&x)?,
                Step::Flatten => x.flatten_from(1)?,
                Step::FlattenChannelsFirst => x.transpose(1, 2)?.flatten_from(1)?,
            };
        }
        Ok(x)
    }

    fn rounds(&self) -> bool {
        let rounds = |step: &Step| match step {
            Step::Conv(layer) | Step::Linear(layer) => layer.precision() != Precision::F32,
            _ => false,
        };
        self.trunk.rounds() || self.steps.iter().any(rounds)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::kernel::testing::{distance, flat};
    use std::path::Path;

    /// Loads a model of the Kundaje lab from safetensors with the layers in the metadata.
    fn kundaje(name: &str) -> Option<(std::path::PathBuf, Box<dyn Network>)> {
        let folder = shared(&format!("data/models/kundaje_cnn/{name}"))?;
        Some((
            folder.clone(),
            model(&config_of(&folder), &Weights::read(&folder.join("model.safetensors")).unwrap()),
        ))
    }

    fn config_of(folder: &Path) -> Config {
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let layers = header.metadata().as_ref().unwrap()["nyx_arch"].clone();
        let mut config = Config::new("SequentialCnn");
        config.rest.insert("layers".into(), serde_json::from_str(&layers).unwrap());
        config
    }

    /// Returns the first records of the windows the references were computed on.
    fn windows(count: usize) -> Vec<Vec<u8>> {
        let fasta = text(&shared("data/genome/hg19_windows/windows_1kb.fa.gz").unwrap());
        let mut records = Vec::new();
        for record in fasta.split('>').skip(1).take(count) {
            let mut bases: Vec<u8> = record.lines().skip(1).collect::<String>().into_bytes();
            crate::dna::normalize(&mut bases);
            records.push(bases);
        }
        records
    }

    #[test]
    fn published_models_give_the_logits_pytorch_gives() {
        for name in ["SPI1_GM12878", "CTCF_GM12878", "JUND_HepG2", "GATA1_multitask"] {
            let Some((folder, model)) = kundaje(name) else { return };
            assert_eq!(model.window(), Some(1000));
            let (mut logits, mut probs) = (Vec::new(), Vec::new());
            for line in text(&folder.join("reference_outputs.tsv")).lines().skip(1) {
                let numbers: Vec<f32> =
                    line.split('\t').skip(1).map(|number| number.parse().unwrap()).collect();
                logits.extend(&numbers[..numbers.len() / 2]);
                probs.extend(&numbers[numbers.len() / 2..]);
            }
            let windows = windows(100);
            let windows: Vec<&[u8]> = windows.iter().map(Vec::as_slice).collect();
            let (ours, our_probs) = predict(&*model, &windows);
            check_parity(name, "logits", "f32", [&ours, &logits], 1e-4);
            check_parity(name, "probabilities", "f32", [&our_probs, &probs], 1e-5);
        }
    }

    #[test]
    fn in_bfloat16_published_models_stay_near_and_call_the_same_windows() {
        const COUNT: usize = 300;
        for name in ["SPI1_GM12878", "CTCF_GM12878"] {
            let Some((folder, exact)) = kundaje(name) else { return };
            let weights = Weights::read(&folder.join("model.safetensors")).unwrap();
            let rounded = rounded(&config_of(&folder), &weights);
            let windows = windows(COUNT);
            let windows: Vec<&[u8]> = windows.iter().map(Vec::as_slice).collect();
            let labels = text(&shared("data/genome/hg19_windows/windows_1kb.label.bed").unwrap());
            let labels: Vec<bool> = labels.lines().take(COUNT).map(|line| line.ends_with("\t1")).collect();
            let [exact, found] = [&exact, &rounded].map(|model| predict(&**model, &windows).0);
            let what = format!("logits against f32, real windows; {}", decisions(&exact, &found, &labels));
            check_parity(name, &what, "bf16", [&found, &exact], 0.3);
            assert!((auc(&exact, &labels) - auc(&found, &labels)).abs() < 2e-3, "{what}");
            check_batch_invariance(&*rounded, &windows[..3]);
        }
    }

    #[test]
    fn the_input_gradient_is_the_one_autograd_gives() {
        let Some((_, model)) = kundaje("SPI1_GM12878") else { return };
        let folder = shared("data/contribs/spi1_gm12878").unwrap();
        let mut reference = crate::npy::Npz::open(&folder.join("attribution_reference.npz")).unwrap();
        let expected = reference.numbers::<f32>("input_gradient").unwrap();
        let sequences =
            crate::npy::Npz::open(&folder.join("peaks.ohe.npz")).unwrap().numbers::<f32>("arr_0").unwrap();
        let rows = expected.shape[0];
        let bases = &sequences.values[..rows * 4000];
        let input =
            Tensor::from_slice(bases, (rows, 4, 1000), &Device::Cpu).unwrap().transpose(1, 2).unwrap();
        let input = candle_core::Var::from_tensor(&input.contiguous().unwrap()).unwrap();
        let logits = model.forward(input.as_tensor()).unwrap().logits;
        let expected_logits = reference.numbers::<f32>("logits").unwrap();
        assert!(distance(&flat(&logits), &expected_logits.values[..rows]) < 1e-4);
        let gradients = logits.sum_all().unwrap().backward().unwrap();
        let gradient = gradients.get(input.as_tensor()).unwrap().transpose(1, 2).unwrap();
        assert!(distance(&flat(&gradient), &expected.values) < 1e-4);
    }

    #[test]
    fn the_rest_of_the_batch_changes_no_bit() {
        let Some((_, model)) = kundaje("GATA1_multitask") else { return };
        let windows = windows(7);
        check_batch_invariance(&*model, &windows.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    #[test]
    fn a_window_longer_than_any_is_refused_before_it_is_tried() {
        let layers = serde_json::json!([{"op": "globalmaxpool"}, {"op": "linear", "in_": 4, "out": 1}]);
        let array = |shape: &[usize]| super::super::weights::Array {
            shape: shape.to_vec(),
            values: vec![0.0; shape.iter().product()],
        };
        let tensors = [("1.weight".to_string(), array(&[1, 4])), ("1.bias".to_string(), array(&[1]))];
        let weights = Weights::collect(Path::new("m"), tensors.into());
        let opened = |window| {
            let mut config = Config::new("SequentialCnn");
            config.window = Some(window);
            config.rest.insert("layers".into(), layers.clone());
            super::super::NetworkModel::new(model(&config, &weights))
        };
        assert!(opened(WINDOW_MAX).is_ok());
        let error = opened(WINDOW_MAX + 1).err().unwrap().to_string();
        assert!(error.contains("2097153 bases at once"), "{error}");
    }

    #[test]
    fn a_tensor_of_another_shape_is_named_with_what_was_expected() {
        let weights = Weights::collect(
            Path::new("m"),
            [("0.weight", vec![2, 4]), ("0.bias", vec![2])]
                .map(|(name, shape): (&str, Vec<usize>)| {
                    let values = vec![0.0; shape.iter().product()];
                    (name.to_string(), super::super::weights::Array { shape, values })
                })
                .into(),
        );
        let mut config = Config::new("SequentialCnn");
        config
            .rest
            .insert("layers".into(), serde_json::json!([{"op": "conv1d", "in_": 4, "out": 2, "k": 3}]));
        let message =
            |config: &Config| super::super::build(config, &weights, &Device::Cpu).err().unwrap().to_string();
        assert_eq!(message(&config), "m: tensor `0.weight` is [2, 4], expected [2, 4, 3]");
        for (key, value, words) in [
            ("stride", 0, "layer 0 has a width or step of zero"),
            ("stride", WINDOW_MAX + 1, "layer 0 reaches over 2097153 positions"),
            ("padding", WINDOW_MAX + 1, "layer 0 reaches over 2097153 positions"),
            ("dilation", usize::MAX / 2, "layer 0 reaches over 18446744073709551615 positions"),
        ] {
            let mut config = config.clone();
            config.rest["layers"][0][key] = value.into();
            assert!(message(&config).contains(words), "{key}: {}", message(&config));
        }
        config.architectures = vec!["Unheard".into()];
        assert!(message(&config).contains("`Unheard`; known are BPNet, "));
    }
}
