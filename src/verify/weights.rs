//! Weights, checkpoints of trainings and model directories.

use std::path::Path;

use candle_core::Device;
use safetensors::tensor::SafeTensors;

use super::{Checked, broken, history};
use crate::convert::sidecar;
use crate::error::{Error, Result};
use crate::input::Mapped;
use crate::kernel::Precision;
use crate::model::Opened;
use crate::model::weights::Weights;

/// Checks a file of weights: its header describes it to the last byte, and every number is one.
pub fn file(path: &Path) -> Result<Checked> {
    let weights = Weights::read(path).map_err(|error| broken(error.to_string()))?;
    let checked = Checked::of(format(path)?).holds("the header describes the file to its last byte");
    let checked = finite(&weights, checked)?;
    let checked = checked.holds(format!("SHA-256 {}", weights.digest()));
    Ok(checked
        .cannot_tell("the format has no checksum: compare the SHA-256 with that of the chain of a stream"))
}

/// Returns what a file of weights is called.
fn format(path: &Path) -> Result<&'static str> {
    let file = Mapped::open(path)?;
    Ok(match SafeTensors::read_metadata(file.bytes()) {
        Ok((_, header)) => match header.metadata() {
            Some(metadata) if metadata.contains_key("purpose") => "checkpoint of a training",
            _ => "safetensors",
        },
        Err(_) => "PyTorch weights",
    })
}

/// Checks that no tensor holds what is not a number.
fn finite(weights: &Weights, checked: Checked) -> Result<Checked> {
    for (name, tensor) in weights.tensors() {
        if tensor.read().iter().any(|value| value.is_nan()) {
            let message =
                format!("poisoned: the tensor `{name}` holds NaN; take an earlier checkpoint or train again");
            return Err(Error::data(message));
        }
    }
    let count = weights.tensors().len();
    Ok(checked.holds(format!("no NaN in {count} tensors of floats")))
}

/// Checks a model directory: that its network can be built of its weights.
pub fn model(path: &Path) -> Result<Checked> {
    let opened = Opened::read(path)?;
    let loaded = opened.build(&Device::Cpu, Precision::F32)?;
    let checked = Checked::of(format!("model ({})", loaded.architecture));
    let checked = checked.holds("the network can be built: no tensor is missing, all have their shapes");
    let checked = finite(&opened.weights, checked)?;
    let checked = checked.holds(format!("SHA-256 {}", loaded.digest));
    let checked = match loaded.unused.len() {
        0 => checked,
        unused => {
            checked.cannot_tell(format!("what {unused} tensors are for, which the network does not use"))
        }
    };
    if !path.join(sidecar::IN_DIRECTORY).is_file() {
        return Ok(checked.cannot_tell("how it was made: there is no nyx.json"));
    }
    checked.made_by(&history::history(path)?)
}
