//! ChromBPNet's accessibility model as Keras saves it (`chrombpnet_nobias.h5`).
//!
//! Its convolutions read valid positions only and crop what they add to; on the positions that are left, that
//! is bpnet-lite's network, which pads and crops once.

use serde_json::Value;

use super::keras::{Source, Tensors, layers_of, number, permute, text};
use crate::error::{Error, Result};
use crate::model::config::Config;

/// What ChromBPNet puts before the names of the layers of its accessibility model.
const PREFIX: &str = "wo_bias_";

/// Whether this is a network of ChromBPNet: with its bias model, or one of the two.
pub fn is_chrombpnet(model: &Value) -> bool {
    let layers = model["config"]["layers"].as_array().into_iter().flatten();
    layers
        .map(|layer| text(&layer["config"], "name"))
        .any(|name| name == "model_wo_bias" || name.strip_prefix(PREFIX).unwrap_or(name) == "bpnet_1st_conv")
}

/// Translates the network.
///
/// # Errors
///
/// When it has its bias model in it, is that model, or its layers are of other kinds or shapes.
pub fn convert(model: &Value, source: &Source) -> Result<(Config, Tensors)> {
    let convs: Vec<&Value> = layers_of(model, "Conv1D").collect();
    let names: Vec<&str> = convs.iter().map(|layer| text(&layer["config"], "name")).collect();
    let &[first, .., profile] = &names[..] else {
        return Err(Error::data(
            "a ChromBPNet with its bias model in it: convert chrombpnet_nobias.h5 instead",
        ));
    };
    let mut tensors = Tensors::new();
    let mut conv = |name: &str, to: &str| -> Result<usize> {
        let kernel = permute(&source.get(name, "kernel")?, &[2, 1, 0])?;
        let width = kernel.shape[2];
        tensors.insert(format!("{to}.weight"), kernel);
        tensors.insert(format!("{to}.bias"), source.get(name, "bias")?);
        Ok(width)
    };
    let mut lost = conv(first, "iconv")?.saturating_sub(1);
    let middle = convs.iter().zip(&names).skip(1).take(convs.len() - 2);
    for (index, (layer, name)) in middle.enumerate() {
        let width = conv(name, &format!("rconvs.{index}"))?;
        let dilation = number(&layer["config"], "dilation_rate")?;
        if Some(dilation) != 2usize.checked_shl(index as u32) {
            return Err(Error::data(format!(
                "`{name}` is dilated otherwise than a BPNet's layer {}",
                index + 1
            )));
        }
        lost += width.saturating_sub(1) * dilation;
    }
    lost += conv(profile, "fconv")?.saturating_sub(1);
    check_layers(model, &convs)?;
    let counts = text_of(model, "Dense")?;
    tensors.insert("linear.weight".into(), permute(&source.get(counts, "kernel")?, &[1, 0])?);
    tensors.insert("linear.bias".into(), source.get(counts, "bias")?);
    let mut config = Config::new("BPNet");
    config.window = Some(window(model)?);
    config.rest.insert("trimming".into(), (lost / 2).into());
    Ok((config, tensors))
}

/// Refuses what bpnet-lite's network cannot do: other paddings or activations, and a profile that is cropped,
/// for then the counts see more than the profile.
fn check_layers(model: &Value, convs: &[&Value]) -> Result<()> {
    for (index, layer) in convs.iter().enumerate() {
        let config = &layer["config"];
        let activation = if index + 1 < convs.len() { "relu" } else { "linear" };
        if text(config, "padding") != "valid" || text(config, "activation") != activation {
            let name = text(config, "name");
            return Err(Error::data(format!("`{name}` is padded or activated otherwise than in ChromBPNet")));
        }
    }
    // One crops what each residual layer adds to, the last one the profile.
    let crops: Vec<&Value> = layers_of(model, "Cropping1D").collect();
    match crops.get(convs.len() - 2..) {
        Some([last]) if number(&last["config"], "cropping")? == 0 => Ok(()),
        Some([]) => Ok(()),
        _ => Err(Error::data(
            "its profile is cropped, so its counts see more than its profile, as in a bias model: nyx converts the \
             accessibility model",
        )),
    }
}

/// Returns the name of the only layer of a class.
fn text_of<'a>(model: &'a Value, class: &'a str) -> Result<&'a str> {
    let mut layers = layers_of(model, class);
    match (layers.next(), layers.next()) {
        (Some(layer), None) => Ok(text(&layer["config"], "name")),
        _ => Err(Error::data(format!("a ChromBPNet has one {class} layer, this has another number"))),
    }
}

fn window(model: &Value) -> Result<usize> {
    let input = layers_of(model, "InputLayer").next().map(|layer| &layer["config"]);
    let shapes = input.into_iter().flat_map(|config| [&config["batch_input_shape"], &config["batch_shape"]]);
    let length = shapes.filter_map(|shape| shape[1].as_u64()).next();
    length.map(|bases| bases as usize).ok_or_else(|| Error::data("its input has no length"))
}

#[cfg(test)]
mod tests {
    use rust_hdf5::H5File;
    use serde_json::json;

    use super::super::{Hints, read};
    use crate::kernel::testing::{distance, flat, noise};
    use crate::model::testing::model;
    use std::path::Path;

    const WINDOW: usize = 150;
    const FILTERS: usize = 3;
    /// Name, width, inputs, outputs and dilation of each convolution.
    const CONVS: [(&str, usize, usize, usize, usize); 4] = [
        ("wo_bias_bpnet_1st_conv", 21, 4, FILTERS, 1),
        ("wo_bias_bpnet_1conv", 3, FILTERS, FILTERS, 2),
        ("wo_bias_bpnet_2conv", 3, FILTERS, FILTERS, 4),
        ("wo_bias_bpnet_prof_out_precrop", 75, FILTERS, 1, 1),
    ];
    const COUNTS: &str = "wo_bias_bpnet_logcount_predictions";

    fn layer(class: &str, mut config: serde_json::Value, name: &str) -> serde_json::Value {
        config["name"] = name.into();
        json!({ "class_name": class, "name": name, "config": config, "inbound_nodes": [] })
    }

    fn kernel(index: usize) -> Vec<f32> {
        let (_, width, inputs, outputs, _) = CONVS[index];
        noise(width * inputs * outputs, index as u64).iter().map(|x| x / 4.0).collect()
    }

    /// Writes a file as Keras does; the profile is cropped by `crop` positions on both sides.
    fn write(path: &Path, crop: usize) {
        let mut layers =
            vec![layer("InputLayer", json!({ "batch_input_shape": [null, WINDOW, 4] }), "sequence")];
        for (index, (name, _, _, _, dilation)) in CONVS.into_iter().enumerate() {
            let activation = if index == 3 { "linear" } else { "relu" };
            let config = json!({ "padding": "valid", "activation": activation, "dilation_rate": [dilation] });
            layers.push(layer("Conv1D", config, name));
            if index > 0 {
                let cropping = if index == 3 { crop } else { dilation };
                let config = json!({ "cropping": [cropping, cropping] });
                layers.push(layer("Cropping1D", config, &format!("crop_{index}")));
            }
        }
        layers.push(layer("Dense", json!({ "activation": "linear" }), COUNTS));
        let file = H5File::create(path).unwrap();
        let model = json!({ "class_name": "Functional", "config": { "name": "model", "layers": layers } });
        file.set_attr_string("model_config", &model.to_string()).unwrap();
        let weights = file.create_group("model_weights").unwrap();
        let put = |name: &str, shape: &[usize], kernel: &[f32], bias: &[f32]| {
            let group = weights.create_group(name).unwrap().create_group(name).unwrap();
            let data = group.new_dataset::<f32>().shape(shape).create("kernel:0").unwrap();
            data.write_raw(kernel).unwrap();
            let data = group.new_dataset::<f32>().shape([bias.len()]).create("bias:0").unwrap();
            data.write_raw(bias).unwrap();
        };
        for (index, (name, width, inputs, outputs, _)) in CONVS.into_iter().enumerate() {
            put(name, &[width, inputs, outputs], &kernel(index), &noise(outputs, 10 + index as u64));
        }
        put(COUNTS, &[FILTERS, 1], &noise(FILTERS, 20), &noise(1, 21));
    }

    /// A valid convolution of `x` [positions][inputs], as Keras defines it.
    fn valid(x: &[Vec<f64>], index: usize) -> Vec<Vec<f64>> {
        let (_, width, inputs, outputs, dilation) = CONVS[index];
        let (kernel, bias) = (kernel(index), noise(outputs, 10 + index as u64));
        let at = |position: usize, output: usize| {
            let taps = (0..width * inputs).map(|tap| {
                let (w, input) = (tap / inputs, tap % inputs);
                x[position + w * dilation][input] * f64::from(kernel[tap * outputs + output])
            });
            f64::from(bias[output]) + taps.sum::<f64>()
        };
        let positions = x.len() - (width - 1) * dilation;
        (0..positions).map(|position| (0..outputs).map(|output| at(position, output)).collect()).collect()
    }

    fn relu(mut x: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
        x.iter_mut().flatten().for_each(|value| *value = value.max(0.0));
        x
    }

    #[test]
    fn valid_convolutions_and_crops_give_what_bpnet_gives() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chrombpnet_nobias.h5");
        write(&path, 0);
        let converted = read(&path, &Hints::default()).unwrap();
        let bases: Vec<u8> = (0..WINDOW).map(|i| b"ACGT"[i * i % 7 % 4]).collect();
        let mut x: Vec<Vec<f64>> = (bases.iter())
            .map(|base| b"ACGT".iter().map(|other| f64::from(u8::from(other == base))).collect())
            .collect();
        x = relu(valid(&x, 0));
        for index in [1, 2] {
            let residual = relu(valid(&x, index));
            let crop = (x.len() - residual.len()) / 2;
            x = residual
                .iter()
                .zip(&x[crop..])
                .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect())
                .collect();
        }
        let profile: Vec<f32> = valid(&x, 3).into_iter().flatten().map(|value| value as f32).collect();
        let mean = |filter: usize| x.iter().map(|row| row[filter]).sum::<f64>() / x.len() as f64;
        let counts =
            (0..FILTERS).map(|filter| mean(filter) * f64::from(noise(FILTERS, 20)[filter])).sum::<f64>();
        let counts = (counts + f64::from(noise(1, 21)[0])) as f32;

        let model = model(&converted.config, &converted.weights);
        assert_eq!(model.window(), Some(WINDOW));
        let prediction = model.forward(&model.encode(&[&bases]).unwrap()).unwrap();
        assert_eq!(prediction.profile.as_ref().unwrap().dims(), [1, 1, WINDOW - 20 - 4 - 8 - 74]);
        assert!(distance(&flat(&prediction.profile.unwrap()), &profile) < 1e-5);
        assert!(distance(&flat(&prediction.logits), &[counts]) < 1e-5);
    }

    #[test]
    fn a_bias_model_is_refused_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bias.h5");
        write(&path, 5);
        let message = read(&path, &Hints::default()).unwrap_err().to_string();
        assert!(message.contains("profile is cropped"), "{message}");
    }
}
