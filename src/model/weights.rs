//! The tensors of a model by name, as f32, with errors that say what was expected.
//!
//! Files are mapped, not read: a tensor costs memory when it is asked for. Names are made uniform on the way in
//! (`gamma` and `beta` of norms, prefixes of wrappers), and [`Weights::under`] takes off those of base models.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use crate::error::{Error, InFile, Result};
use crate::input::Mapped;
use crate::kernel::Conv;
use crate::kernel::pointwise::Affine;
use crate::provenance;

mod directory;
mod names;
mod pickle;
mod safetensors;
mod stored;
mod torch;

pub use directory::files;
use pickle::Globals;
pub use stored::{Dtype, Stored};
use torch::Archive;

/// A tensor: its shape, and its values in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// The values, the last axis fastest.
    pub values: Vec<f32>,
}

/// Tensors by name, as files have them.
#[derive(Clone, Debug, Default)]
pub struct Tensors {
    stored: BTreeMap<String, Arc<Stored>>,
    /// Tensors that are no floats, and what they are.
    others: BTreeMap<String, String>,
}

impl Tensors {
    fn insert(&mut self, name: &str, tensor: Stored) {
        self.stored.insert(name.into(), Arc::new(tensor));
    }

    /// Returns whether there are no tensors of floats.
    fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// Gives every tensor another name.
    fn rename(self, rename: impl Fn(&str) -> String) -> Self {
        Self {
            stored: self.stored.into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect(),
            others: self.others.into_iter().map(|(name, kind)| (rename(&name), kind)).collect(),
        }
    }
}

/// The tensors of a model, from one file, from many, or from none. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    path: PathBuf,
    /// What [`Weights::under`] took off the names.
    prefix: String,
    tensors: Tensors,
    source: Arc<Source>,
}

/// The bytes that weights were read from.
#[derive(Debug, Default)]
struct Source {
    files: Vec<Mapped>,
    digest: OnceLock<String>,
}

impl Source {
    fn digest(&self) -> &str {
        self.digest.get_or_init(|| {
            if self.files.is_empty() {
                return String::new();
            }
            let mut hasher = Sha256::new();
            self.files.iter().for_each(|file| hasher.update(file.bytes()));
            provenance::hexadecimal(&hasher.finalize())
        })
    }
}

impl Weights {
    /// Reads the weights of a model directory: `model.safetensors`, or `pytorch_model.bin` where there is none,
    /// in one file or in shards.
    ///
    /// # Errors
    ///
    /// When there are none, a file is damaged, or the shards are not those of their index.
    pub fn open(directory: &Path) -> Result<Self> {
        directory::open(directory)
    }

    /// Reads one weights file: safetensors, or tensors saved by PyTorch. Tensors of integers are left out.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is damaged, or holds more than tensors.
    pub fn read(path: &Path) -> Result<Self> {
        let file = Mapped::open(path)?;
        let tensors = read_file(&file, Globals::Weights).in_file(path)?.tensors;
        Ok(Self::from_files(path, tensors, vec![file]))
    }

    /// Reads one weights file as [`Weights::read`] does, whole modules too, and returns the whole numbers that
    /// the outermost module keeps.
    ///
    /// # Errors
    ///
    /// As [`Weights::read`]. Classes and functions that a pickle names are no error: they are left out, unused.
    pub fn read_module(path: &Path) -> Result<(Self, BTreeMap<String, i64>)> {
        let file = Mapped::open(path)?;
        let Archive { tensors, numbers } = read_file(&file, Globals::Any).in_file(path)?;
        Ok((Self::from_files(path, tensors, vec![file]), numbers))
    }

    fn from_files(path: &Path, tensors: Tensors, files: Vec<Mapped>) -> Self {
        let source = Arc::new(Source { files, digest: OnceLock::new() });
        Self { path: path.into(), prefix: String::new(), tensors: names::uniform(tensors), source }
    }

    /// Collects tensors that came from the file at `path`.
    pub fn collect(path: &Path, tensors: BTreeMap<String, Array>) -> Self {
        let mut all = Tensors::default();
        tensors.into_iter().for_each(|(name, array)| all.insert(&name, array.into()));
        Self::from_files(path, all, Vec::new())
    }

    /// Returns these weights and one more tensor, in the place of one of the same name.
    pub fn with_tensor(&self, name: &str, array: Array) -> Self {
        self.with([(name.to_string(), Arc::new(array.into()))].into(), Vec::new())
    }

    /// Returns these weights with some tensors replaced or added, which came from further files.
    pub(super) fn with(&self, tensors: BTreeMap<String, Arc<Stored>>, files: Vec<Mapped>) -> Self {
        let mut weights = self.clone();
        weights.tensors.stored.extend(tensors);
        let files = self.source.files.iter().cloned().chain(files).collect();
        weights.source = Arc::new(Source { files, digest: OnceLock::new() });
        weights
    }

    /// Returns the SHA-256 of the bytes of all files, one after the other; empty where there was none.
    pub fn digest(&self) -> &str {
        self.source.digest()
    }

    /// Returns the path that the weights came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Arc<Stored>> {
        &self.tensors.stored
    }

    /// Returns whether there is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.stored.contains_key(name)
    }

    /// Returns the tensors whose names begin with `prefix`, by the rest of their names; all tensors where no
    /// name does, for a base model saved alone has none (`bert.encoder…`, or `encoder…`).
    pub fn under(&self, prefix: &str) -> Self {
        let rest = |name: &str| name.strip_prefix(prefix).map(str::to_string);
        let stored: BTreeMap<_, _> = (self.tensors.stored.iter())
            .filter_map(|(name, tensor)| Some((rest(name)?, tensor.clone())))
            .collect();
        if stored.is_empty() {
            return self.clone();
        }
        let others = self.tensors.others.iter().filter_map(|(name, kind)| Some((rest(name)?, kind.clone())));
        Self {
            prefix: format!("{}{prefix}", self.prefix),
            tensors: Tensors { others: others.collect(), stored },
            ..self.clone()
        }
    }

    /// Returns the tensors under other names.
    pub fn renamed(&self, rename: impl Fn(&str) -> String) -> Self {
        Self { tensors: self.tensors.clone().rename(rename), ..self.clone() }
    }

    /// Returns the first of these names that there is: names of one tensor in different checkpoints, or of two
    /// that are tied.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn first<'a>(&self, names: &[&'a str]) -> Result<&'a str> {
        names
            .iter()
            .copied()
            .find(|name| self.contains(name))
            .ok_or_else(|| self.missing(&names.join("` or `")))
    }

    /// Returns the names of the tensors that no model asked for, besides those that are computed anew or have
    /// no use here.
    pub fn unused(&self) -> Vec<&str> {
        let expected = |name: &str| {
            name.ends_with("inv_freq") || name.ends_with("position_ids") || name.contains("contact_head.")
        };
        let unused =
            self.tensors.stored.iter().filter(|(name, tensor)| !tensor.is_wanted() && !expected(name));
        unused.map(|(name, _)| name.as_str()).collect()
    }

    /// Returns how many numbers were trained: all but the running statistics of norms.
    pub fn parameters(&self) -> usize {
        let trained = self.tensors.stored.iter().filter(|(name, _)| !name.contains(".running_"));
        trained.map(|(_, tensor)| tensor.len()).sum()
    }

    /// Returns the number formats of the tensors, each once.
    pub fn dtypes(&self) -> Vec<Dtype> {
        let mut dtypes: Vec<Dtype> = self.tensors.stored.values().map(|tensor| tensor.dtype()).collect();
        dtypes.sort();
        dtypes.dedup();
        dtypes
    }

    /// Returns the tensor `name` of any shape.
    ///
    /// # Errors
    ///
    /// When it is missing.
    pub fn any(&self, name: &str) -> Result<&Stored> {
        let tensor = self.tensors.stored.get(name).ok_or_else(|| self.missing(name))?;
        tensor.want();
        Ok(tensor)
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn missing(&self, name: &str) -> Error {
        if let Some(kind) = self.tensors.others.get(name) {
            let message = format!("tensor `{}{name}` holds {kind}, not floats", self.prefix);
            return Error::data(message).at(self.place());
        }
        let names: Vec<_> = self.tensors.stored.keys().take(8).map(String::as_str).collect();
        let more = if self.tensors.stored.len() > 8 { ", …" } else { "" };
        Error::data(format!("no tensor `{}{name}` (it has {}{more})", self.prefix, names.join(", ")))
            .at(self.place())
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
            let message =
                format!("tensor `{}{name}` is {shape:?}, expected {N} axes, none of them empty", self.prefix);
            Error::data(message).at(self.place())
        })
    }

    fn of_shape(&self, name: &str, shape: &[usize]) -> Result<&Stored> {
        let tensor = self.any(name)?;
        if tensor.shape != shape {
            let message = format!("tensor `{}{name}` is {:?}, expected {shape:?}", self.prefix, tensor.shape);
            return Err(Error::data(message).at(self.place()));
        }
        Ok(tensor)
    }

    /// Returns the values of the tensor `name`, which must have this shape. Values that are no f32 in the file
    /// are converted once and kept for as long as the weights live; [`Weights::read_tensor`] keeps nothing.
    ///
    /// # Errors
    ///
    /// When it is missing or of another shape.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<&[f32]> {
        Ok(self.of_shape(name, shape)?.keep())
    }

    /// Returns the values of the tensor `name`, which must have this shape: the file's own bytes where they are
    /// f32, converted anew where not. For layers of large models, which copy what they get.
    ///
    /// # Errors
    ///
    /// When it is missing or of another shape.
    pub fn read_tensor(&self, name: &str, shape: &[usize]) -> Result<Cow<'_, [f32]>> {
        Ok(self.of_shape(name, shape)?.read())
    }

    /// Builds the convolution `{name}.weight` `[outputs, inputs, rows, columns]` with `{name}.bias`.
    ///
    /// # Errors
    ///
    /// As [`Weights::get`].
    pub fn conv(&self, name: &str, shape: [usize; 4]) -> Result<Conv> {
        let bias = self.read_tensor(&format!("{name}.bias"), &shape[..1])?;
        Ok(Conv::new(&self.read_tensor(&format!("{name}.weight"), &shape)?, shape, &bias))
    }

    /// Builds the convolution of `{name}.weight` `[outputs, inputs, width]` with `{name}.bias`.
    ///
    /// # Errors
    ///
    /// As [`Weights::get`].
    pub fn conv_1d(&self, name: &str, [outputs, inputs, width]: [usize; 3]) -> Result<Conv> {
        let bias = self.read_tensor(&format!("{name}.bias"), &[outputs])?;
        let weights = self.read_tensor(&format!("{name}.weight"), &[outputs, inputs, width])?;
        Ok(Conv::new(&weights, [outputs, inputs, 1, width], &bias))
    }

    /// Builds the linear layer of `{name}.weight` `[outputs, inputs]` and `{name}.bias`.
    ///
    /// # Errors
    ///
    /// As [`Weights::get`].
    pub fn linear(&self, name: &str, shape: [usize; 2]) -> Result<Conv> {
        let bias = self.read_tensor(&format!("{name}.bias"), &shape[..1])?;
        Ok(Conv::linear(&self.read_tensor(&format!("{name}.weight"), &shape)?, shape, &bias))
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

/// Reads the tensors of a file, known by its bytes.
fn read_file(file: &Mapped, globals: Globals) -> Result<Archive> {
    // After its length, which may begin with any byte, the header of a safetensors file is JSON.
    let is_safetensors = file.bytes().get(8) == Some(&b'{');
    match file.bytes() {
        [b'P', b'K', ..] | [0x80, ..] if !is_safetensors => torch::read(file, globals),
        _ => Ok(Archive { tensors: safetensors::read(file)?, numbers: BTreeMap::new() }),
    }
}

#[cfg(test)]
mod tests;
