//! BPNet in the form of bpnet-lite: dilated convolutions with residual connections, a profile head and a
//! count head. The logit is the natural logarithm of the counts.

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::encoding::{self, Unknown};
use super::weights::Weights;
use super::{Network, Prediction};
use crate::error::{Error, Result};
use crate::kernel::{Conv, Layer, Padding, Precision, Stack, pool};

/// The family's part of `config.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Shape {
    /// Bases cut from both ends of the input to give the profile; 2 to the number of layers when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trimming: Option<usize>,
}

/// Dilated layers at most: the last one reaches over two million bases.
const DILATIONS_MAX: usize = 20;
/// Bases of a row where `config.json` has none.
const WINDOW: usize = 2114;

struct BpNet {
    /// The stem, the residual layers, and a cut to the positions that the heads see.
    trunk: Stack,
    profile: Conv,
    counts: Conv,
    /// Bases of the profile.
    length: usize,
    window: usize,
    labels: Vec<String>,
    device: Device,
}

/// Builds the network.
pub(super) fn load(
    config: &Config,
    weights: &Weights,
    device: &Device,
    precision: Precision,
) -> Result<Box<dyn Network>> {
    let (stem, filters) = same(weights, "iconv", 4, 1)?;
    let mut layers = vec![Layer::Conv(stem.with_relu())];
    while weights.tensors().contains_key(&format!("rconvs.{}.weight", layers.len() - 1)) {
        let layer = layers.len() - 1;
        if layer > DILATIONS_MAX {
            return Err(Error::data("a BPNet whose layers reach over more than any window"));
        }
        let conv = same(weights, &format!("rconvs.{layer}"), filters, 2 << layer)?.0;
        layers.push(Layer::Residual(conv.with_relu().with_precision(precision)));
    }
    let [tracks, _, width] = weights.shape("fconv.weight")?;
    // The profile's convolution reads as many bases on both sides; the counts see them as well.
    let flank = width / 2;
    let trimming = config.part::<Shape>()?.trimming.unwrap_or(1 << (layers.len() - 1));
    let window = config.window.unwrap_or(WINDOW);
    if trimming < flank || trimming.checked_mul(2).is_none_or(|both| window <= both) {
        let message =
            format!("config.json: trimming {trimming} does not fit {window} bases, flanks of {flank}");
        return Err(Error::data(message));
    }
    let length = window - 2 * trimming;
    layers.push(Layer::Crop { start: trimming - flank, count: length + 2 * flank });
    let [classes, _] = weights.shape("linear.weight")?;
    Ok(Box::new(BpNet {
        trunk: Stack::new(layers),
        profile: weights.conv_1d("fconv", [tracks, filters, width])?.with_precision(precision),
        counts: weights.linear("linear", [classes, filters])?,
        length,
        window,
        labels: config.labels(classes)?,
        device: device.clone(),
    }))
}

/// Loads a convolution with as many outputs as inputs, and returns its number of filters.
fn same(weights: &Weights, name: &str, inputs: usize, dilation: usize) -> Result<(Conv, usize)> {
    let [outputs, _, width] = weights.shape(&format!("{name}.weight"))?;
    let conv = weights.conv_1d(name, [outputs, inputs, width])?;
    Ok((conv.with_dilation([1, dilation]).with_padding(Padding::width(dilation * (width / 2))), outputs))
}

impl Network for BpNet {
    fn window(&self) -> Option<usize> {
        Some(self.window)
    }

    fn labels(&self) -> &[String] {
        &self.labels
    }

    fn encode(&self, sequences: &[&[u8]]) -> Result<Tensor> {
        encoding::one_hot(sequences, Unknown::Zeros, &self.device)
    }

    fn forward(&self, input: &Tensor) -> Result<Prediction> {
        encoding::check_input(input, self.window())?;
        self.conclude(&self.trunk.forward(input)?)
    }

    fn rounds(&self) -> bool {
        self.trunk.rounds() || self.profile.precision() != Precision::F32
    }

    fn trunk(&self) -> Option<&Stack> {
        Some(&self.trunk)
    }

    fn conclude(&self, trunk: &Tensor) -> Result<Prediction> {
        let logits = self.finish(trunk)?;
        let profile = self.profile.forward_1d(trunk)?.narrow(1, 0, self.length)?;
        let profile = profile.transpose(1, 2)?.contiguous()?;
        Ok(Prediction { logits, probs: None, base_scores: None, profile: Some(profile) })
    }

    fn finish(&self, trunk: &Tensor) -> Result<Tensor> {
        self.counts.forward_rows(&pool::global_mean(trunk)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::convert::Hints;
    use super::super::testing::*;
    use crate::kernel::testing::flat;

    /// Returns the sequences of the reference regions.
    fn sequences() -> Vec<Vec<u8>> {
        let regions = text(&shared("data/models/bpnet_ctcf_k562/reference_regions.bed").unwrap());
        let bases = chromosome_20();
        let region = |line: &str| {
            let fields: Vec<&str> = line.split('\t').collect();
            let place = |field: &str| field.parse::<usize>().unwrap() - 1_000_000;
            bases[place(fields[1])..place(fields[2])].to_vec()
        };
        regions.lines().map(region).collect()
    }

    #[test]
    fn state_dict_and_whole_module_give_the_reference_profile_and_counts() {
        for file in ["model.safetensors", "bpnet.torch"] {
            let path = format!("data/models/bpnet_ctcf_k562/{file}");
            let Some(model) = converted(&path, &Hints::default()) else { return };
            let sequences = sequences();
            let sequences: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
            let path = shared("data/models/bpnet_ctcf_k562/reference_outputs.npz").unwrap();
            let mut reference = crate::npy::Npz::open(&path).unwrap();
            let prediction = model.forward(&model.encode(&sequences).unwrap()).unwrap();
            let counts = reference.numbers::<f32>("log_counts").unwrap();
            let counted = flat(&prediction.logits);
            let name = format!("BPNet CTCF K562, {file}");
            check_parity(&name, "log counts", "f32", [&counted, &counts.values], 1e-4);
            let profile = reference.numbers::<f32>("profile_logits").unwrap();
            let ours = prediction.profile.unwrap();
            assert_eq!(ours.dims(), profile.shape);
            check_parity(&name, "profile logits", "f32", [&flat(&ours), &profile.values], 1e-4);
            check_batch_invariance(&*model, &sequences[..7]);
            check_gradient_direction(&*model, sequences[0]);
        }
    }

    #[test]
    fn in_bfloat16_profile_and_counts_stay_near_and_the_batch_changes_no_bit() {
        let Some(path) = shared("data/models/bpnet_ctcf_k562/model.safetensors") else { return };
        let converted = super::super::convert::read(&path, &Hints::default()).unwrap();
        let model = rounded(&converted.config, &converted.weights);
        let sequences = sequences();
        let sequences: Vec<&[u8]> = sequences.iter().map(Vec::as_slice).collect();
        let path = shared("data/models/bpnet_ctcf_k562/reference_outputs.npz").unwrap();
        let mut reference = crate::npy::Npz::open(&path).unwrap();
        let prediction = model.forward(&model.encode(&sequences).unwrap()).unwrap();
        let counts = reference.numbers::<f32>("log_counts").unwrap().values;
        let name = "BPNet CTCF K562";
        check_parity(name, "log counts", "bf16", [&flat(&prediction.logits), &counts], 0.05);
        let profile = reference.numbers::<f32>("profile_logits").unwrap().values;
        let ours = flat(&prediction.profile.unwrap());
        let worst = ours.chunks(2000).zip(profile.chunks(2000)).map(|(a, b)| correlation(a, b));
        let worst = worst.fold(1.0, f64::min);
        let what = format!("profile logits, correlation of each region at least {worst:.6}");
        check_parity(name, &what, "bf16", [&ours, &profile], 0.1);
        assert!(worst > 0.999, "{worst}");
        check_batch_invariance(&*model, &sequences[..5]);
        check_gradient_direction(&*model, sequences[0]);
    }

    fn correlation(a: &[f32], b: &[f32]) -> f64 {
        let mean = |x: &[f32]| x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len() as f64;
        let (mean_a, mean_b) = (mean(a), mean(b));
        let mut sums = [0.0; 3];
        for (&a, &b) in a.iter().zip(b) {
            let (a, b) = (f64::from(a) - mean_a, f64::from(b) - mean_b);
            sums = [sums[0] + a * b, sums[1] + a * a, sums[2] + b * b];
        }
        sums[0] / (sums[1] * sums[2]).sqrt()
    }
}
