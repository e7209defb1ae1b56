//! Keras' HDF5 files: Sequential networks, Kipoi's DeepBind and ChromBPNet, of Keras 2, and DragoNN's of Keras 0.
//!
//! Keras keeps kernels as [width, inputs, outputs]; here they become [outputs, inputs, width].

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::{Converted, chrombpnet};
use crate::error::{Error, InFile, Result};
use crate::input::hdf5::{self, Hdf5};
use crate::model::config::Config;
use crate::model::weights::{Array, Weights};

mod residual;

/// Reads the HDF5 file at `path`; `json` is the architecture where the file has none.
///
/// # Errors
///
/// When the architecture is missing or holds layers that nyx does not know.
pub fn read(path: &Path, json: Option<&Path>) -> Result<Converted> {
    let file = Hdf5::open(path)?;
    let text = match json {
        Some(json) => std::fs::read_to_string(json).in_file(json)?,
        None => file.text("model_config").map_err(|_| {
            Error::data("the file holds weights only: add its architecture with --keras-json model.json")
                .at(path.display().to_string())
        })?,
    };
    let place = json.unwrap_or(path);
    let model: Value = serde_json::from_str(&text).in_file(place)?;
    let source = Source { file };
    let converted = if is_deep_bind(&model) {
        deep_bind(&model, &source)
    } else if chrombpnet::is_chrombpnet(&model) {
        chrombpnet::convert(&model, &source)
    } else if residual::is_residual(&model) {
        residual::read(&model, &source)
    } else {
        sequential(&model, &source)
    };
    let (config, tensors) = converted.in_file(path)?;
    Ok(Converted { config, weights: Weights::collect(path, tensors) })
}

pub(super) type Tensors = BTreeMap<String, Array>;

/// The datasets of a file.
pub(super) struct Source {
    file: Hdf5,
}

impl Source {
    /// Reads the dataset `parameter` of `layer`, wherever in the layer's group it is.
    pub(super) fn find(&self, layer: &str, parameter: &str) -> Result<Option<Array>> {
        let names = self.file.dataset_names()?;
        let wanted = names.iter().find(|name| {
            let name = name.trim_start_matches('/');
            let name = name.strip_prefix("model_weights/").unwrap_or(name);
            let mut parts = name.split('/');
            let last = name.rsplit('/').next().unwrap_or_default();
            parts.next() == Some(layer) && last.split(':').next() == Some(parameter)
        });
        let Some(name) = wanted else { return Ok(None) };
        let dataset = self.file.dataset(name)?;
        let values = hdf5::run(|| dataset.read_numeric_as::<f64>())?;
        let shape = dataset.shape();
        if shape.iter().product::<usize>() != values.len() {
            return Err(Error::data(format!("{name}: {} values of shape {shape:?}", values.len())));
        }
        Ok(Some(Array { shape, values: values.into_iter().map(|value| value as f32).collect() }))
    }

    pub(super) fn get(&self, layer: &str, parameter: &str) -> Result<Array> {
        let array = self.find(layer, parameter)?;
        array.ok_or_else(|| Error::data(format!("the layer `{layer}` has no weights named `{parameter}`")))
    }
}

/// Moves the axes of an array: axis `order[i]` becomes axis i.
pub(super) fn permute(array: &Array, order: &[usize]) -> Result<Array> {
    if array.shape.len() != order.len() {
        return Err(Error::data(format!("a kernel is {:?}, expected {} axes", array.shape, order.len())));
    }
    let shape: Vec<usize> = order.iter().map(|&axis| array.shape[axis]).collect();
    let stride = |axis: usize| array.shape[axis + 1..].iter().product::<usize>();
    let strides: Vec<usize> = order.iter().map(|&axis| stride(axis)).collect();
    let place = |mut index: usize| {
        shape.iter().zip(&strides).rev().fold(0, |place, (&n, &stride)| {
            let here = index % n;
            index /= n;
            place + here * stride
        })
    };
    let values = (0..array.values.len()).map(|index| array.values[place(index)]).collect();
    Ok(Array { shape, values })
}

/// A network being translated.
#[derive(Default)]
struct Translation {
    layers: Vec<Value>,
    tensors: Tensors,
    channels: usize,
    window: Option<usize>,
}

impl Translation {
    fn push(&mut self, layer: Value) {
        self.layers.push(layer);
    }

    fn insert(&mut self, part: &str, array: Array) {
        self.tensors.insert(format!("{}.{part}", self.layers.len()), array);
    }

    /// Adds an activation, which a layer may carry or be.
    fn activation(&mut self, name: &str) -> Result<()> {
        match name {
            "linear" => {}
            "relu" | "sigmoid" | "softmax" => self.push(json!({ "op": name })),
            other => return Err(Error::data(format!("the activation `{other}` is not known to nyx"))),
        }
        Ok(())
    }
}

fn sequential(model: &Value, source: &Source) -> Result<(Config, Tensors)> {
    let old = model.get("layers").is_some();
    let layers = if old { &model["layers"] } else { &model["config"] };
    let layers = layers.as_array().or_else(|| layers["layers"].as_array());
    let layers = layers.ok_or_else(|| Error::data("its architecture lists no layers"))?;
    let class = model["class_name"].as_str().or_else(|| model["name"].as_str()).unwrap_or_default();
    if class != "Sequential" {
        return Err(Error::data(format!(
            "a Keras network of class `{class}`: nyx converts Sequential ones, DeepBind, ChromBPNet, and residual ones of \
             Dense layers"
        )));
    }
    let mut translation = Translation::default();
    for (index, layer) in layers.iter().enumerate() {
        if old {
            old_layer(&mut translation, layer, &format!("layer_{index}"), source)?;
        } else {
            new_layer(&mut translation, layer, source)?;
        }
    }
    let mut config = Config::new("SequentialCnn");
    config.window = translation.window;
    config.rest.insert("layers".into(), translation.layers.into());
    Ok((config, translation.tensors))
}

pub(super) fn text<'a>(config: &'a Value, key: &str) -> &'a str {
    config[key].as_str().unwrap_or_default()
}

/// Returns a whole number, or the first of a list of them.
pub(super) fn number(config: &Value, key: &str) -> Result<usize> {
    let value = config[key].get(0).unwrap_or(&config[key]).as_u64();
    value.map(|value| value as usize).ok_or_else(|| Error::data(format!("a layer has no `{key}`")))
}

/// Translates a layer of Keras 2.
fn new_layer(to: &mut Translation, layer: &Value, source: &Source) -> Result<()> {
    let config = &layer["config"];
    let name = text(config, "name");
    if let Some(length) = config["batch_input_shape"][1].as_u64() {
        to.window = Some(length as usize);
    }
    match text(layer, "class_name") {
        "InputLayer" | "Dropout" | "SpatialDropout1D" => {}
        "Activation" => to.activation(text(config, "activation"))?,
        "ReLU" => to.activation("relu")?,
        "Conv1D" => {
            let kernel = permute(&source.get(name, "kernel")?, &[2, 1, 0])?;
            let &[out, inputs, k] = kernel.shape.as_slice() else { unreachable!("three axes were permuted") };
            let bias = source.find(name, "bias")?;
            to.insert("weight", kernel);
            to.insert("bias", bias.unwrap_or_else(|| constant(out, 0.0)));
            to.push(
                json!({ "op": "conv1d", "in_": inputs, "out": out, "k": k, "padding": text(config, "padding"),
                "stride": number(config, "strides")?, "dilation": number(config, "dilation_rate")? }),
            );
            to.channels = out;
            to.activation(text(config, "activation"))?;
        }
        "BatchNormalization" => {
            let mean = source.get(name, "moving_mean")?;
            let n = mean.values.len();
            to.insert("weight", source.find(name, "gamma")?.unwrap_or_else(|| constant(n, 1.0)));
            to.insert("bias", source.find(name, "beta")?.unwrap_or_else(|| constant(n, 0.0)));
            to.insert("running_mean", mean);
            to.insert("running_var", source.get(name, "moving_variance")?);
            to.push(json!({ "op": "batchnorm1d", "n": n, "eps": config["epsilon"] }));
        }
        "MaxPooling1D" if text(config, "padding") == "valid" => {
            let (k, stride) = (number(config, "pool_size")?, number(config, "strides")?);
            to.push(json!({ "op": "maxpool1d", "k": k, "stride": stride }));
        }
        "GlobalMaxPooling1D" => to.push(json!({ "op": "globalmaxpool" })),
        "GlobalAveragePooling1D" => to.push(json!({ "op": "globalavgpool" })),
        "Flatten" => to.push(json!({ "op": "flatten_keras" })),
        "Dense" => {
            let bias = source.find(name, "bias")?;
            dense(to, &source.get(name, "kernel")?, bias)?;
            to.activation(text(config, "activation"))?;
        }
        other => {
            return Err(Error::data(format!("the layer `{name}` is a {other}, which nyx does not know")));
        }
    }
    Ok(())
}

fn constant(count: usize, value: f32) -> Array {
    Array { shape: vec![count], values: vec![value; count] }
}

fn dense(to: &mut Translation, kernel: &Array, bias: Option<Array>) -> Result<()> {
    let weight = permute(kernel, &[1, 0])?;
    let (out, inputs) = (weight.shape[0], weight.shape[1]);
    to.insert("weight", weight);
    to.insert("bias", bias.unwrap_or_else(|| constant(out, 0.0)));
    to.push(json!({ "op": "linear", "in_": inputs, "out": out }));
    Ok(())
}

/// Translates a layer of Keras 0 on Theano, as DragoNN used it: images [1, 4, L], channels first.
fn old_layer(to: &mut Translation, layer: &Value, name: &str, source: &Source) -> Result<()> {
    match text(layer, "name") {
        "Dropout" => {}
        "Activation" => to.activation(text(layer, "activation"))?,
        "Convolution2D" if text(layer, "dim_ordering") == "th" && text(layer, "border_mode") == "valid" => {
            if to.layers.is_empty() {
                to.window = layer["input_shape"][2].as_u64().map(|length| length as usize);
            }
            let kernel = theano_kernel(&source.get(name, "param_0")?)?;
            let (out, inputs, k) = (kernel.shape[0], kernel.shape[1], kernel.shape[2]);
            to.insert("weight", kernel);
            to.insert("bias", source.get(name, "param_1")?);
            to.push(json!({ "op": "conv1d", "in_": inputs, "out": out, "k": k, "padding": "valid" }));
            to.activation(text(layer, "activation"))?;
        }
        "MaxPooling2D" if text(layer, "border_mode") == "valid" => {
            let (k, stride) = (&layer["pool_size"][1], &layer["strides"][1]);
            to.push(json!({ "op": "maxpool1d", "k": k, "stride": stride }));
        }
        "Flatten" => to.push(json!({ "op": "flatten" })),
        "Dense" => {
            dense(to, &source.get(name, "param_0")?, Some(source.get(name, "param_1")?))?;
            to.activation(text(layer, "activation"))?;
        }
        other => {
            return Err(Error::data(format!("`{name}` is a {other} of Keras 0, which nyx does not know")));
        }
    }
    Ok(())
}

/// Turns a kernel [outputs, inputs, rows, columns] into [outputs, inputs × rows, columns]. Theano convolves in
/// the mathematical sense: rows and columns run backwards.
fn theano_kernel(kernel: &Array) -> Result<Array> {
    let &[outputs, inputs, rows, columns] = kernel.shape.as_slice() else {
        return Err(Error::data(format!("a kernel is {:?}, expected four axes", kernel.shape)));
    };
    let images = kernel.values.chunks_exact((rows * columns).max(1));
    let values = images.flat_map(|image| image.iter().rev().copied()).collect();
    Ok(Array { shape: vec![outputs, inputs * rows, columns], values })
}

/// Returns the layers of a class in a functional network.
pub(super) fn layers_of<'a>(model: &'a Value, class: &'a str) -> impl Iterator<Item = &'a Value> {
    model["config"]["layers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(move |layer| layer["class_name"] == class)
}

/// Whether this is Kipoi's DeepBind: one convolution that reads two strands, both pooled.
fn is_deep_bind(model: &Value) -> bool {
    let strands = |layer: &Value| layer["inbound_nodes"].as_array().map_or(0, Vec::len);
    layers_of(model, "Conv1D").map(strands).eq([2]) && layers_of(model, "MaxPooling1D").count() == 2
}

fn deep_bind(model: &Value, source: &Source) -> Result<(Config, Tensors)> {
    let conv = layers_of(model, "Conv1D").next().ok_or_else(|| Error::data("it has no convolution"))?;
    let conv_name = text(&conv["config"], "name");
    let mut tensors = Tensors::new();
    tensors.insert("conv.weight".into(), permute(&source.get(conv_name, "kernel")?, &[2, 1, 0])?);
    tensors.insert("conv.bias".into(), source.get(conv_name, "bias")?);
    // Each linear layer appears once per strand, under the same inner name.
    let mut seen: Vec<&str> = Vec::new();
    for layer in layers_of(model, "TimeDistributed") {
        let inner = text(&layer["config"]["layer"]["config"], "name");
        if seen.contains(&inner) {
            continue;
        }
        let name = text(&layer["config"], "name");
        let index = seen.len();
        seen.push(inner);
        tensors.insert(format!("dense.{index}.weight"), permute(&source.get(name, "kernel")?, &[1, 0])?);
        tensors.insert(format!("dense.{index}.bias"), source.get(name, "bias")?);
    }
    let pool = layers_of(model, "MaxPooling1D").next().ok_or_else(|| Error::data("it has no pooling"))?;
    let mut config = Config::new("DeepBindPublished");
    config.rest.insert("pool_size".into(), number(&pool["config"], "pool_size")?.into());
    Ok((config, tensors))
}
