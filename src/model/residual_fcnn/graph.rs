//! Fully connected layers that branch and join.
//!
//! PyTorch's module has one layout, known by its names (`fc1`, `bn1`, …). Keras' has as many blocks as it was
//! given: `config.json` lists its layers, each with the layers before it.

use candle_core::Tensor;
use serde::Deserialize;

use super::super::config::Config;
use super::super::weights::Weights;
use crate::error::{Error, Result};
use crate::kernel::Conv;
use crate::kernel::pointwise::{Affine, relu};

/// What a layer does.
enum Operation {
    Linear(Conv),
    Norm(Affine),
    Relu,
    Add,
}

/// A layer and the places of those before it; place 0 is the input.
struct Layer {
    operation: Operation,
    inputs: Vec<usize>,
}

/// Layers in an order in which each follows those that it reads. The last is the output.
pub struct Graph {
    layers: Vec<Layer>,
    inputs: usize,
    outputs: usize,
}

/// A layer as `config.json` lists it.
#[derive(Debug, Deserialize)]
struct Listed {
    /// Its name, which its tensors begin with.
    name: String,
    /// `linear`, `batch_norm`, `relu` or `add`.
    op: String,
    /// The names of the layers before it; empty for the features.
    #[serde(default)]
    inputs: Vec<String>,
    /// Of a linear layer: whether a ReLU follows.
    #[serde(default)]
    relu: bool,
    /// Of a batch norm.
    #[serde(default = "usual_epsilon")]
    epsilon: f64,
}

fn usual_epsilon() -> f64 {
    1e-5
}

impl Graph {
    /// Builds the layers that the config lists, or those of PyTorch's module where it lists none.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or does not fit.
    pub fn load(config: &Config, weights: &Weights) -> Result<Self> {
        match config.rest.get("layers") {
            None => torch(weights),
            Some(layers) => listed(serde_json::from_value(layers.clone())?, weights),
        }
    }

    /// Returns the number of features.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Returns the number of classes.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Returns the logits `[B, classes]` of features `[B, inputs]`.
    ///
    /// # Errors
    ///
    /// When the input has another width.
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let mut states = vec![features.clone()];
        for Layer { operation, inputs } in &self.layers {
            let first = &states[inputs[0]];
            let state = match operation {
                Operation::Linear(linear) => linear.forward_rows(first)?,
                Operation::Norm(norm) => norm.forward(first)?,
                Operation::Relu => relu(first)?,
                Operation::Add => {
                    inputs[1..].iter().try_fold(first.clone(), |sum, &input| sum + &states[input])?
                }
            };
            states.push(state);
        }
        Ok(states.swap_remove(states.len() - 1))
    }
}

/// Builds the module of PyTorch: three layers, the second and third with a linear way around them.
fn torch(weights: &Weights) -> Result<Graph> {
    let [first, inputs] = weights.shape("fc1.weight")?;
    let [second, _] = weights.shape("fc2.weight")?;
    let [third, _] = weights.shape("fc3.weight")?;
    let [outputs, _] = weights.shape("fc_out.weight")?;
    let linear = |name: &str, shape: [usize; 2]| weights.linear(name, shape);
    let layers = [
        (Operation::Linear(block(weights, 1, [first, inputs])?), vec![0]),
        (Operation::Linear(block(weights, 2, [second, first])?), vec![1]),
        (Operation::Linear(linear("residual1", [second, inputs])?), vec![0]),
        (Operation::Add, vec![2, 3]),
        (Operation::Linear(block(weights, 3, [third, second])?), vec![4]),
        (Operation::Linear(linear("residual2", [third, second])?), vec![4]),
        (Operation::Add, vec![5, 6]),
        (Operation::Linear(linear("fc_out", [outputs, third])?), vec![7]),
    ];
    let layers = layers.map(|(operation, inputs)| Layer { operation, inputs }).into();
    Ok(Graph { layers, inputs, outputs })
}

/// Builds a linear layer with its norm and ReLU.
fn block(weights: &Weights, number: usize, shape: [usize; 2]) -> Result<Conv> {
    let mut weight = weights.get(&format!("fc{number}.weight"), &shape)?.to_vec();
    let mut bias = weights.get(&format!("fc{number}.bias"), &shape[..1])?.to_vec();
    weights.batch_norm(&format!("bn{number}"), shape[0], 1e-5)?.fold(&mut weight, &mut bias);
    Ok(Conv::linear(&weight, shape, &bias).with_relu())
}

/// Builds the layers of a list, checking that their widths fit.
fn listed(list: Vec<Listed>, weights: &Weights) -> Result<Graph> {
    let mut names: Vec<String> = vec![String::new()];
    let mut widths: Vec<Option<usize>> = vec![None];
    let mut layers = Vec::new();
    for layer in &list {
        let at = |error: Error| error.at(format!("layer `{}`", layer.name));
        let inputs = places(layer, &names).map_err(at)?;
        let (operation, width) = listed_layer(layer, &inputs, &mut widths, weights).map_err(at)?;
        layers.push(Layer { operation, inputs });
        names.push(layer.name.clone());
        widths.push(Some(width));
    }
    match (widths[0], widths.last().copied().flatten().filter(|_| !layers.is_empty())) {
        (Some(inputs), Some(outputs)) => Ok(Graph { layers, inputs, outputs }),
        _ => Err(Error::data("config.json: `layers` has no layer that reads the features")),
    }
}

/// Returns the places of the layers before one.
fn places(layer: &Listed, names: &[String]) -> Result<Vec<usize>> {
    if layer.inputs.is_empty() {
        return Ok(vec![0]);
    }
    let place = |name: &String| {
        let place = names.iter().position(|known| known == name);
        place.ok_or_else(|| Error::data(format!("it reads `{name}`, which is no layer before it")))
    };
    layer.inputs.iter().map(place).collect()
}

fn listed_layer(
    layer: &Listed,
    inputs: &[usize],
    widths: &mut [Option<usize>],
    weights: &Weights,
) -> Result<(Operation, usize)> {
    if layer.op == "linear" {
        let [outputs, width] = weights.shape(&format!("{}.weight", layer.name))?;
        expect(width, widths[inputs[0]].get_or_insert(width))?;
        let linear = weights.linear(&layer.name, [outputs, width])?;
        let linear = if layer.relu { linear.with_relu() } else { linear };
        return Ok((Operation::Linear(linear), outputs));
    }
    let width = widths[inputs[0]].ok_or_else(|| Error::data("it comes before any linear layer"))?;
    match layer.op.as_str() {
        "batch_norm" => {
            let norm = weights.batch_norm(&layer.name, width, layer.epsilon)?;
            Ok((Operation::Norm(norm.layer()), width))
        }
        "relu" => Ok((Operation::Relu, width)),
        "add" => {
            inputs.iter().try_for_each(|&input| expect(width, &widths[input].unwrap_or(0)))?;
            Ok((Operation::Add, width))
        }
        other => Err(Error::data(format!("`{other}` is none of linear, batch_norm, relu, add"))),
    }
}

fn expect(width: usize, found: &usize) -> Result<()> {
    match width == *found {
        true => Ok(()),
        false => Err(Error::data(format!("it reads {width} numbers, {found} come from the layer before"))),
    }
}
