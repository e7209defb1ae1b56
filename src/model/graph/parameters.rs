//! The weights of a network in training, by the names that its state dict has.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Tensor, Var};

use super::super::weights::{Array, Weights};
use super::Random;
use crate::error::{Error, Result};
use crate::kernel::learn;

/// The weights of a network in training, and the statistics that its norms keep.
#[derive(Debug, Default)]
pub struct Parameters {
    tensors: BTreeMap<String, Parameter>,
    buffers: BTreeMap<String, Array>,
    lora: Option<Lora>,
}

/// What low-rank adapters have in common: a linear layer `name` with the tensors `name.lora_A.weight`
/// `[rank, inputs]` and `name.lora_B.weight` `[outputs, rank]` gives scale·B·A·x besides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lora {
    /// α/r.
    pub scale: f64,
    /// The chance of an input of A to drop out.
    pub dropout: f64,
}

#[derive(Debug)]
enum Parameter {
    Trained(Var),
    Frozen(Tensor),
}

impl Parameter {
    fn tensor(&self) -> &Tensor {
        match self {
            Self::Trained(variable) => variable.as_tensor(),
            Self::Frozen(tensor) => tensor,
        }
    }
}

/// Copies of tensors and statistics.
pub type Snapshot = BTreeMap<String, Array>;

impl Parameters {
    /// Takes all tensors of `weights`; the running statistics of norms are not trained.
    ///
    /// # Errors
    ///
    /// When a tensor cannot be read.
    pub fn of(weights: &Weights) -> Result<Self> {
        let mut parameters = Self::default();
        for (name, stored) in weights.tensors() {
            let array = Array { shape: stored.shape.clone(), values: stored.read().into_owned() };
            match name.contains(".running_") {
                true => parameters.insert_buffer(name, array),
                false => parameters.insert(name, array)?,
            }
        }
        Ok(parameters)
    }

    /// Adds a tensor to be trained, in the place of one of the same name.
    ///
    /// # Errors
    ///
    /// When there are not as many values as its shape says.
    pub fn insert(&mut self, name: &str, array: Array) -> Result<()> {
        let variable = Var::from_tensor(&learn::tensor(array.values, array.shape)?)?;
        self.tensors.insert(name.into(), Parameter::Trained(variable));
        Ok(())
    }

    /// Adds numbers that are kept, not trained.
    pub fn insert_buffer(&mut self, name: &str, array: Array) {
        self.buffers.insert(name.into(), array);
    }

    /// Trains only what `is_trained` says.
    pub fn freeze(&mut self, is_trained: impl Fn(&str) -> bool) {
        for (name, parameter) in &mut self.tensors {
            if let (Parameter::Trained(variable), false) = (&*parameter, is_trained(name)) {
                *parameter = Parameter::Frozen(variable.as_tensor().detach());
            }
        }
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) {
        self.tensors.remove(name);
    }

    /// Takes out all tensors whose names begin so.
    pub fn remove_under(&mut self, prefix: &str) {
        self.tensors.retain(|name, _| !name.starts_with(prefix));
    }

    /// Says how adapters are applied.
    pub fn set_lora(&mut self, lora: Lora) {
        self.lora = Some(lora);
    }

    /// Returns how adapters are applied, where there are any.
    pub fn lora(&self) -> Option<Lora> {
        self.lora
    }

    /// Returns whether there is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Returns the tensor `name`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        let missing = || Error::data(format!("the network to be trained has no tensor `{name}`"));
        Ok(self.tensors.get(name).ok_or_else(missing)?.tensor())
    }

    /// Returns the statistics `name`.
    ///
    /// # Errors
    ///
    /// When there are none.
    pub fn buffer(&self, name: &str) -> Result<&Array> {
        self.buffers.get(name).ok_or_else(|| Error::data(format!("there are no statistics `{name}`")))
    }

    /// Returns the statistics `name`, to be changed.
    pub fn buffer_mut(&mut self, name: &str) -> Option<&mut Array> {
        self.buffers.get_mut(name)
    }

    /// Returns what is trained, in the order of names.
    pub fn trained(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.tensors.iter().filter_map(|(name, parameter)| match parameter {
            Parameter::Trained(variable) => Some((name.as_str(), variable)),
            Parameter::Frozen(_) => None,
        })
    }

    /// Returns the names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Returns how many numbers are trained, and how many there are.
    pub fn count(&self) -> [usize; 2] {
        let trained = self.trained().map(|(_, variable)| variable.as_tensor().elem_count()).sum();
        [trained, self.tensors.values().map(|parameter| parameter.tensor().elem_count()).sum()]
    }

    /// Copies what changes in training: what is trained, and the statistics.
    ///
    /// # Errors
    ///
    /// When a tensor is not on the processor.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let mut copies = self.buffers.clone();
        for (name, variable) in self.trained() {
            copies.insert(name.into(), array(variable.as_tensor())?);
        }
        Ok(copies)
    }

    /// Puts copies back.
    ///
    /// # Errors
    ///
    /// When they are those of another network.
    pub fn restore(&mut self, copies: &Snapshot) -> Result<()> {
        for (name, copy) in copies {
            if let Some(buffer) = self.buffers.get_mut(name) {
                buffer.clone_from(copy);
                continue;
            }
            let Some(Parameter::Trained(variable)) = self.tensors.get(name) else {
                return Err(Error::data(format!("a checkpoint of another training: it has `{name}`")));
            };
            if variable.dims() != copy.shape {
                let message = format!("a checkpoint of another network: `{name}` is {:?}", copy.shape);
                return Err(Error::data(message));
            }
            variable.set(&learn::tensor(copy.values.clone(), copy.shape.clone())?)?;
        }
        Ok(())
    }

    /// Returns all tensors and statistics, as scoring reads them; adapters are merged into what they adapt.
    ///
    /// # Errors
    ///
    /// When a tensor is not on the processor.
    pub fn weights(&self) -> Result<Weights> {
        let mut all = self.buffers.clone();
        for (name, parameter) in &self.tensors {
            all.insert(name.clone(), array(parameter.tensor())?);
        }
        if let Some(lora) = self.lora {
            merge(&mut all, lora);
        }
        Ok(Weights::collect(Path::new("training"), all))
    }
}

/// Replaces adapters by weights with them: W + scale·B·A, in double precision.
fn merge(all: &mut Snapshot, lora: Lora) {
    let modules: Vec<String> =
        all.keys().filter_map(|name| Some(name.strip_suffix(".lora_A.weight")?.to_string())).collect();
    for module in modules {
        let mut take = |part: &str| all.remove(&format!("{module}.{part}.weight"));
        let (Some(a), Some(b)) = (take("lora_A"), take("lora_B")) else { continue };
        let Some(target) = all.get_mut(&format!("{module}.weight")) else { continue };
        let (rank, inputs) = (a.shape[0], a.shape[1]);
        for (place, value) in target.values.iter_mut().enumerate() {
            let (output, input) = (place / inputs, place % inputs);
            let term = |k| f64::from(b.values[output * rank + k]) * f64::from(a.values[k * inputs + input]);
            *value = (f64::from(*value) + lora.scale * (0..rank).map(term).sum::<f64>()) as f32;
        }
    }
}

fn array(tensor: &Tensor) -> Result<Array> {
    Ok(Array { shape: tensor.dims().to_vec(), values: learn::read(tensor, <[f32]>::to_vec)? })
}

/// Draws the weights that training begins with, as PyTorch's layers do unless told otherwise. Each tensor has
/// random numbers of its own, so that none depends on the others.
#[derive(Debug)]
pub struct Initial {
    seed: u64,
    parameters: Parameters,
}

impl Initial {
    /// Begins with nothing.
    pub fn new(seed: u64) -> Self {
        Self::on(Parameters::default(), seed)
    }

    /// Begins with weights that are there.
    pub fn on(parameters: Parameters, seed: u64) -> Self {
        Self { seed, parameters }
    }

    /// Returns what was drawn.
    pub fn finish(self) -> Parameters {
        self.parameters
    }

    fn put(&mut self, name: &str, shape: &[usize], mut value: impl FnMut(&mut Random) -> f64) {
        let mut random = Random::new(self.seed, name, 0);
        let count = shape.iter().product();
        let values = (0..count).map(|_| value(&mut random) as f32).collect();
        let array = Array { shape: shape.to_vec(), values };
        self.parameters.insert(name, array).expect("as many values as the shape says");
    }

    /// Draws from the uniform distribution between -`bound` and `bound`.
    pub fn uniform(&mut self, name: &str, shape: &[usize], bound: f64) {
        self.put(name, shape, |random| bound * (2.0 * random.uniform() - 1.0));
    }

    /// Draws from the normal distribution of this deviation around 0.
    pub fn normal(&mut self, name: &str, shape: &[usize], deviation: f64) {
        self.put(name, shape, |random| deviation * random.normal());
    }

    /// Fills with one number.
    pub fn constant(&mut self, name: &str, shape: &[usize], value: f64) {
        self.put(name, shape, |_| value);
    }

    /// Draws weight `shape` and bias of a linear layer or convolution `name`: uniform within 1/√inputs.
    pub fn layer(&mut self, name: &str, shape: &[usize]) {
        self.layer_of(name, shape, shape[0]);
    }

    /// Draws weight `shape` and a bias of `outputs` numbers (a transposed convolution has as many as its weight
    /// has on the second axis).
    pub fn layer_of(&mut self, name: &str, shape: &[usize], outputs: usize) {
        let bound = self.matrix(name, shape);
        self.uniform(&format!("{name}.bias"), &[outputs], bound);
    }

    /// Draws the weight of a layer `name` without a bias, and returns its bound.
    pub fn matrix(&mut self, name: &str, shape: &[usize]) -> f64 {
        let inputs: usize = shape[1..].iter().product();
        let bound = 1.0 / (inputs as f64).sqrt();
        self.uniform(&format!("{name}.weight"), shape, bound);
        bound
    }

    /// Makes a batch norm `name`: weights 1, biases 0, statistics of the normal distribution.
    pub fn batch_norm(&mut self, name: &str, channels: usize) {
        self.constant(&format!("{name}.weight"), &[channels], 1.0);
        self.constant(&format!("{name}.bias"), &[channels], 0.0);
        for (part, value) in [("running_mean", 0.0), ("running_var", 1.0)] {
            let array = Array { shape: vec![channels], values: vec![value; channels] };
            self.parameters.insert_buffer(&format!("{name}.{part}"), array);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_frozen_has_no_gradient_and_a_snapshot_comes_back() {
        let mut initial = Initial::new(3);
        initial.layer("a", &[2, 3]);
        initial.batch_norm("b", 2);
        let mut parameters = initial.finish();
        parameters.freeze(|name| name.starts_with("a."));
        assert_eq!(parameters.count(), [8, 12]);
        assert!(!parameters.get("b.weight").unwrap().track_op());
        let before = parameters.snapshot().unwrap();
        let (_, variable) = parameters.trained().next().unwrap();
        variable.set(&variable.as_tensor().zeros_like().unwrap()).unwrap();
        parameters.buffer_mut("b.running_mean").unwrap().values[0] = 5.0;
        assert_ne!(parameters.snapshot().unwrap(), before);
        parameters.restore(&before).unwrap();
        assert_eq!(parameters.snapshot().unwrap(), before);
        assert_eq!(parameters.weights().unwrap().tensors().len(), 6);
        let other = Snapshot::from([("c".to_string(), Array { shape: vec![1], values: vec![0.0] })]);
        assert!(parameters.restore(&other).unwrap_err().to_string().contains("`c`"));
    }

    #[test]
    fn layers_begin_within_one_over_the_root_of_their_inputs() {
        let mut initial = Initial::new(1);
        initial.layer("x", &[40, 25]);
        let parameters = initial.finish();
        let values = learn::read(parameters.get("x.weight").unwrap(), <[f32]>::to_vec).unwrap();
        let largest = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        assert!(largest <= 0.2 && largest > 0.19, "{largest}");
    }
}
