//! The tensors of a model by name, as f32, with errors that say what was expected.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use crate::error::{Error, InFile, Result};
use crate::kernel::Conv;
use crate::kernel::pointwise::Affine;

/// A tensor: its shape, and its values in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// The values, the last axis fastest.
    pub values: Vec<f32>,
}

/// The tensors of a model file.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    path: PathBuf,
    tensors: BTreeMap<String, Array>,
    digest: String,
}

impl Weights {
    /// Reads a safetensors file; tensors of integers are left out.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is no safetensors file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).in_file(path)?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| Error::data(format!("not a safetensors file: {error}")))
            .in_file(path)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            if let Some(values) = floats(view.dtype(), view.data()) {
                tensors.insert(name.to_string(), Array { shape: view.shape().to_vec(), values });
            }
        }
        Ok(Self { path: path.into(), tensors, digest: hexadecimal(&Sha256::digest(&bytes)) })
    }

    /// Collects tensors that came from the file at `path`.
    pub fn collect(path: &Path, tensors: BTreeMap<String, Array>) -> Self {
        Self { path: path.into(), tensors, digest: String::new() }
    }

    /// Returns these weights and one more tensor, in the place of one of the same name.
    pub fn with_tensor(mut self, name: &str, array: Array) -> Self {
        self.tensors.insert(name.into(), array);
        self
    }

    /// Returns the SHA-256 of the file.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Returns the tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Array> {
        &self.tensors
    }

    /// Returns how many numbers were trained: all but the running statistics of norms.
    pub fn parameters(&self) -> usize {
        let trained = self.tensors.iter().filter(|(name, _)| !name.contains(".running_"));
        trained.map(|(_, array)| array.values.len()).sum()
    }

    /// Returns the tensor `name` of any shape.
    ///
    /// # Errors
    ///
    /// When it is missing.
    pub fn any(&self, name: &str) -> Result<&Array> {
        self.tensors.get(name).ok_or_else(|| {
            let names: Vec<_> = self.tensors.keys().take(8).map(String::as_str).collect();
            let more = if self.tensors.len() > 8 { ", …" } else { "" };
            Error::data(format!("no tensor `{name}` (it has {}{more})", names.join(", ")))
                .at(self.path.display().to_string())
        })
    }

    /// Returns the shape of the tensor `name`, which must have `N` axes, none of them empty.
    ///
    /// # Errors
    ///
    /// When it is missing or has another number of axes.
    pub fn shape<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let shape = &self.any(name)?.shape;
        let axes = shape.as_slice().try_into().ok().filter(|axes: &[usize; N]| !axes.contains(&0));
        axes.ok_or_else(|| {
            let message = format!("tensor `{name}` is {shape:?}, expected {N} axes, none of them empty");
            Error::data(message).at(self.path.display().to_string())
        })
    }

    /// Returns the values of the tensor `name`, which must have this shape.
    ///
    /// # Errors
    ///
    /// When it is missing or of another shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<&[f32]> {
        let array = self.any(name)?;
        if array.shape != shape {
            let message = format!("tensor `{name}` is {:?}, expected {shape:?}", array.shape);
            return Err(Error::data(message).at(self.path.display().to_string()));
        }
        Ok(&array.values)
    }

    /// Builds the convolution `{name}.weight` `[outputs, inputs, rows, columns]` with `{name}.bias`.
    ///
    /// # Errors
    ///
    /// As [`Weights::get`].
    pub fn conv(&self, name: &str, shape: [usize; 4]) -> Result<Conv> {
        let bias = self.get(&format!("{name}.bias"), &shape[..1])?;
        Ok(Conv::new(self.get(&format!("{name}.weight"), &shape)?, shape, bias))
    }

    /// Builds the convolution of `{name}.weight` `[outputs, inputs, width]` with `{name}.bias`.
    ///
    /// # Errors
    ///
    /// As [`Weights::get`].
    pub fn conv_1d(&self, name: &str, [outputs, inputs, width]: [usize; 3]) -> Result<Conv> {
        let bias = self.get(&format!("{name}.bias"), &[outputs])?;
        let weights = self.get(&format!("{name}.weight"), &[outputs, inputs, width])?;
        Ok(Conv::new(weights, [outputs, inputs, 1, width], bias))
    }

    /// Builds the linear layer of `{name}.weight` `[outputs, inputs]` and `{name}.bias`.
    ///
    /// # Errors
    ///
    /// As [`Weights::get`].
    pub fn linear(&self, name: &str, shape: [usize; 2]) -> Result<Conv> {
        let bias = self.get(&format!("{name}.bias"), &shape[..1])?;
        Ok(Conv::linear(self.get(&format!("{name}.weight"), &shape)?, shape, bias))
    }

    /// Reads the batch norm `name` of `channels` channels.
    ///
    /// # Errors
    ///
    /// As [`Weights::get`].
    pub fn batch_norm(&self, name: &str, channels: usize, epsilon: f64) -> Result<BatchNorm> {
        let get = |part: &str| self.get(&format!("{name}.{part}"), &[channels]);
        let (weight, bias) = (get("weight")?, get("bias")?);
        let (mean, variance) = (get("running_mean")?, get("running_var")?);
        let scale = |c: usize| f64::from(weight[c]) / (f64::from(variance[c]) + epsilon).sqrt();
        let shift = |c: usize| f64::from(bias[c]) - f64::from(mean[c]) * scale(c);
        Ok(BatchNorm { scale: (0..channels).map(scale).collect(), shift: (0..channels).map(shift).collect() })
    }
}

/// A batch norm in use: a scale and a shift per channel, from the running statistics.
pub struct BatchNorm {
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl BatchNorm {
    /// Returns the scale of each channel.
    pub fn scale(&self) -> &[f64] {
        &self.scale
    }

    /// Returns the shift of each channel.
    pub fn shift(&self) -> &[f64] {
        &self.shift
    }

    /// Folds the norm into the weights (outputs first) and biases of the layer before it.
    pub fn fold(&self, weights: &mut [f32], bias: &mut [f32]) {
        let taps = weights.len() / bias.len().max(1);
        for (channel, weights) in weights.chunks_exact_mut(taps.max(1)).enumerate() {
            let (scale, shift) = (self.scale[channel], self.shift[channel]);
            weights.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * scale) as f32);
            bias[channel] = (f64::from(bias[channel]) * scale + shift) as f32;
        }
    }

    /// Returns the norm as a layer of its own.
    pub fn layer(&self) -> Affine {
        let narrow = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        Affine::new(narrow(&self.scale), narrow(&self.shift))
    }
}

/// Returns the numbers of a tensor, or `None` where they are no floats.
fn floats(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    fn read<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Option<Vec<f32>> {
        Some(bytes.as_chunks::<N>().0.iter().map(|chunk| convert(*chunk)).collect())
    }
    match dtype {
        Dtype::F32 => read(bytes, f32::from_le_bytes),
        Dtype::F64 => read(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        Dtype::F16 => read(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => read(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        _ => None,
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
