//! Keras' fully connected networks with ways around layers: functional models of Dense, BatchNormalization,
//! Activation and Add.

use serde_json::{Value, json};

use super::{Source, Tensors, constant, permute, text};
use crate::error::{Error, Result};
use crate::model::config::Config;
use crate::model::residual_fcnn;

/// Whether this is a functional network that adds the outputs of layers, on vectors.
pub(super) fn is_residual(model: &Value) -> bool {
    let classes: Vec<&str> = layers(model).iter().map(|layer| text(layer, "class_name")).collect();
    ["Functional", "Model"].contains(&text(model, "class_name"))
        && ["Add", "Dense"].iter().all(|class| classes.contains(class))
        && !classes.iter().any(|class| class.starts_with("Conv"))
}

fn layers(model: &Value) -> &[Value] {
    model["config"]["layers"].as_array().map_or(&[], Vec::as_slice)
}

/// Translates the network.
pub(super) fn read(model: &Value, source: &Source) -> Result<(Config, Tensors)> {
    let mut tensors = Tensors::new();
    let mut listed = Vec::new();
    let mut names = Names::default();
    for layer in layers(model) {
        let name = text(&layer["config"], "name");
        let at = |error: Error| error.at(format!("the layer `{name}`"));
        let inputs: Vec<String> =
            inbound(&layer["inbound_nodes"]).iter().map(|name| names.of(name)).collect();
        match text(layer, "class_name") {
            "InputLayer" => names.stands_for(name, String::new()),
            "Dropout" => names.stands_for(name, inputs.concat()),
            // The answer is the logits; a softmax follows them in any case.
            "Activation" if activation(layer)? == "softmax" => names.stands_for(name, inputs.concat()),
            class => listed.push(translate(layer, class, name, inputs, source, &mut tensors).map_err(at)?),
        }
    }
    let mut config = Config::new(residual_fcnn::NAME);
    config.rest.insert("layers".into(), listed.into());
    Ok((config, tensors))
}

/// Layers that are left out, and the layers that stand for them.
#[derive(Default)]
struct Names(Vec<(String, String)>);

impl Names {
    fn stands_for(&mut self, name: &str, other: String) {
        self.0.push((name.into(), other));
    }

    fn of(&self, name: &str) -> String {
        let known = self.0.iter().find(|(known, _)| known == name);
        known.map_or_else(|| name.to_string(), |(_, other)| other.clone())
    }
}

fn translate(
    layer: &Value,
    class: &str,
    name: &str,
    inputs: Vec<String>,
    source: &Source,
    tensors: &mut Tensors,
) -> Result<Value> {
    // The features have no name.
    let inputs: Vec<String> = if inputs.iter().all(String::is_empty) { Vec::new() } else { inputs };
    let mut insert = |part: &str, array| tensors.insert(format!("{name}.{part}"), array);
    match class {
        "Dense" => {
            let weight = permute(&source.get(name, "kernel")?, &[1, 0])?;
            let bias = source.find(name, "bias")?.unwrap_or_else(|| constant(weight.shape[0], 0.0));
            insert("weight", weight);
            insert("bias", bias);
            let relu = match activation(layer)? {
                "linear" | "softmax" => false,
                "relu" => true,
                other => return Err(Error::data(format!("its activation `{other}` is not known to nyx"))),
            };
            Ok(json!({ "op": "linear", "name": name, "inputs": inputs, "relu": relu }))
        }
        "BatchNormalization" => {
            let mean = source.get(name, "moving_mean")?;
            let n = mean.values.len();
            insert("weight", source.find(name, "gamma")?.unwrap_or_else(|| constant(n, 1.0)));
            insert("bias", source.find(name, "beta")?.unwrap_or_else(|| constant(n, 0.0)));
            insert("running_mean", mean);
            insert("running_var", source.get(name, "moving_variance")?);
            let epsilon = layer["config"]["epsilon"].as_f64().unwrap_or(1e-3);
            Ok(json!({ "op": "batch_norm", "name": name, "inputs": inputs, "epsilon": epsilon }))
        }
        "Activation" | "ReLU" if class == "ReLU" || activation(layer)? == "relu" => {
            Ok(json!({ "op": "relu", "name": name, "inputs": inputs }))
        }
        "Add" => Ok(json!({ "op": "add", "name": name, "inputs": inputs })),
        other => Err(Error::data(format!("it is a {other}, which nyx does not know here"))),
    }
}

fn activation(layer: &Value) -> Result<&str> {
    let activation = &layer["config"]["activation"];
    activation.as_str().ok_or_else(|| Error::data(format!("its activation is {activation}, no name")))
}

/// Returns the names of the layers that a layer reads: in Keras 2 `[name, node, output, {}]`, in Keras 3 the
/// `keras_history` `[name, node, output]` of its arguments.
fn inbound(nodes: &Value) -> Vec<&str> {
    match nodes {
        Value::Array(items) => match items.as_slice() {
            [Value::String(name), Value::Number(_), Value::Number(_), ..] => vec![name],
            items => items.iter().flat_map(inbound).collect(),
        },
        Value::Object(entries) => entries.values().flat_map(inbound).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use rust_hdf5::H5File;

    use super::super::super::{Hints, read as convert};
    use super::*;
    use crate::kernel::testing::{distance, flat, noise};
    use crate::model::residual_fcnn::{Graph, Range};

    /// The architecture as Keras 2 or 3 writes it: a normed block, a way around it, a softmax.
    fn architecture(keras_3: bool) -> Value {
        let layer = |class: &str, name: &str, extra: Value, inputs: &[&str]| {
            let mut config = json!({ "name": name });
            config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            let nodes: Vec<Value> = match keras_3 {
                false => inputs.iter().map(|input| json!([input, 0, 0, {}])).collect(),
                true => {
                    let tensor = |input: &&str| {
                        json!({"class_name": "__keras_tensor__",
                               "config": {"shape": [null, 6], "keras_history": [input, 0, 0]}})
                    };
                    vec![json!({ "args": [inputs.iter().map(tensor).collect::<Vec<_>>()], "kwargs": {} })]
                }
            };
            let nodes = if keras_3 { json!(nodes) } else { json!([nodes]) };
            json!({ "class_name": class, "name": name, "config": config, "inbound_nodes": nodes })
        };
        let linear = || json!({ "activation": "linear" });
        json!({ "class_name": "Functional", "config": { "layers": [
            layer("InputLayer", "in", json!({}), &[]),
            layer("Dense", "d1", linear(), &["in"]),
            layer("BatchNormalization", "b1", json!({"epsilon": 0.01}), &["d1"]),
            layer("Activation", "r1", json!({"activation": "relu"}), &["b1"]),
            layer("Dropout", "drop", json!({"rate": 0.4}), &["r1"]),
            layer("Dense", "around", json!({"activation": "relu"}), &["in"]),
            layer("Add", "sum", json!({}), &["drop", "around"]),
            layer("Dense", "out", json!({"activation": "softmax"}), &["sum"]),
        ]}})
    }

    /// Returns the value of one dense unit: kernels are [inputs, outputs].
    fn unit(input: &[f32], kernel: &[f32], bias: &[f32], column: usize) -> f32 {
        let weights = kernel[column..].iter().step_by(bias.len());
        input.iter().zip(weights).map(|(x, w)| x * w).sum::<f32>() + bias[column]
    }

    #[test]
    fn a_functional_network_has_the_logits_of_its_layers_one_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let (path, json) = (directory.path().join("w.h5"), directory.path().join("model.json"));
        let sizes = [("d1", 6, 3), ("around", 6, 3), ("out", 3, 2)];
        let kernel = |seed: u64, inputs: usize, outputs: usize| noise(inputs * outputs, seed);
        let groups = H5File::create(&path).unwrap();
        for (seed, (name, inputs, outputs)) in (0..).zip(sizes) {
            let group = groups.create_group(name).unwrap();
            let kernel = kernel(seed, inputs, outputs);
            group
                .new_dataset::<f32>()
                .shape([inputs, outputs])
                .create("kernel:0")
                .unwrap()
                .write_raw(&kernel)
                .unwrap();
            let bias = noise(outputs, 10 + seed);
            group.new_dataset::<f32>().shape([outputs]).create("bias:0").unwrap().write_raw(&bias).unwrap();
        }
        let norm = [("gamma", 20), ("beta", 21), ("moving_mean", 22), ("moving_variance", 23)];
        let parameter = |seed: u64| -> Vec<f32> {
            noise(3, seed).into_iter().map(|x| if seed == 23 { x.abs() + 0.5 } else { x }).collect()
        };
        let group = groups.create_group("b1").unwrap();
        for (name, seed) in norm {
            let values = parameter(seed);
            group
                .new_dataset::<f32>()
                .shape([3])
                .create(&format!("{name}:0"))
                .unwrap()
                .write_raw(&values)
                .unwrap();
        }
        groups.close().unwrap();
        let input = noise(6, 30);
        let sums: Vec<f32> = (0..3)
            .map(|column| {
                let plain = unit(&input, &kernel(0, 6, 3), &noise(3, 10), column);
                let [gamma, beta, mean, variance] = norm.map(|(_, seed)| parameter(seed)[column]);
                let normed = (plain - mean) / (variance + 0.01).sqrt() * gamma + beta;
                normed.max(0.0) + unit(&input, &kernel(1, 6, 3), &noise(3, 11), column).max(0.0)
            })
            .collect();
        let expected: Vec<f32> =
            (0..2).map(|column| unit(&sums, &kernel(2, 3, 2), &noise(2, 12), column)).collect();
        for keras_3 in [false, true] {
            std::fs::write(&json, architecture(keras_3).to_string()).unwrap();
            let range = Some(Range { minimum: -1.0, maximum: 1.0 });
            let hints = Hints { keras_json: Some(&json), encoder: Some("../e"), range, ..Hints::default() };
            let converted = convert(&path, &hints).unwrap();
            let graph = Graph::load(&converted.config, &converted.weights).unwrap();
            let logits =
                graph.forward(&Tensor::from_vec(input.clone(), (1, 6), &Device::Cpu).unwrap()).unwrap();
            assert!(distance(&flat(&logits), &expected) < 1e-5, "Keras 3: {keras_3}");
        }
    }

    #[test]
    fn other_networks_are_not_taken_for_residual_ones() {
        assert!(is_residual(&architecture(false)));
        assert!(!is_residual(&json!({ "class_name": "Sequential", "config": { "layers": [] } })));
        let mut with_convolution = architecture(false);
        with_convolution["config"]["layers"][1]["class_name"] = "Conv1D".into();
        assert!(!is_residual(&with_convolution));
    }
}
