//! Where the parts of a model directory are: the transformer, and what SentenceTransformers puts after it.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::weights::Weights;
use crate::error::{Error, InFile, Result};

/// How the vectors of tokens become one of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The vector of the first token.
    Cls,
    /// The mean over all tokens, specials included.
    Mean,
    /// The maximum over all tokens.
    Max,
}

/// How layers and tokens become one vector (`models.md` C.3).
#[derive(Clone, Debug, PartialEq)]
pub struct Pooling {
    /// What is done over tokens.
    pub mode: Mode,
    /// Weights of a mean over layers, where there is one.
    pub layers: Option<LayerWeights>,
}

/// The weights of a mean over the outputs of layers.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerWeights {
    /// The first layer that counts.
    pub start: usize,
    /// The weights of it and those after it; they need not sum to 1.
    pub weights: Vec<f32>,
}

/// A model directory, taken apart.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The directory of the transformer: its `config.json`, weights and tokenizer.
    pub transformer: PathBuf,
    /// The pooling of a sentence embedder.
    pub pooling: Option<Pooling>,
}

/// A line of `modules.json`.
#[derive(Deserialize)]
struct Module {
    path: String,
    r#type: String,
}

impl Layout {
    /// Takes the model directory `directory` apart.
    ///
    /// # Errors
    ///
    /// When `modules.json` or a file that it leads to is damaged or of a kind that nyx does not know.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("modules.json");
        if !path.is_file() {
            return Ok(Self { transformer: directory.into(), pooling: None });
        }
        let modules: Vec<Module> = read_json(&path)?;
        let (mut transformer, mut mode, mut layers) = (directory.to_path_buf(), None, None);
        for module in modules {
            // A file from elsewhere must not lead out of its directory.
            if !module.path.is_empty() && Path::new(&module.path).file_name() != Some(module.path.as_ref()) {
                return Err(Error::data(format!("`{}` is no directory in this one", module.path)))
                    .in_file(&path);
            }
            let part = directory.join(&module.path);
            match module.r#type.rsplit('.').next().unwrap_or_default() {
                "Transformer" => transformer = part,
                "WeightedLayerPooling" => layers = Some(layer_weights(&part)?),
                "Pooling" => mode = Some(pooling_mode(&part.join("config.json"))?),
                // Length does not change what a vector says about a sequence, but is asked for by its name.
                "Normalize" => {}
                other => {
                    return Err(Error::data(format!("a module `{other}`, which nyx does not know")))
                        .in_file(&path);
                }
            }
        }
        let pooling = mode.map(|mode| Pooling { mode, layers });
        Ok(Self { transformer, pooling })
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).in_file(path)?;
    serde_json::from_str(&text).in_file(path)
}

/// Reads `config.json` and the one tensor of a WeightedLayerPooling.
fn layer_weights(directory: &Path) -> Result<LayerWeights> {
    let path = directory.join("config.json");
    let config: Value = read_json(&path)?;
    let start =
        config["layer_start"].as_u64().ok_or_else(|| Error::data("no `layer_start`")).in_file(&path)?;
    let weights = Weights::open(directory)?;
    let [count] = weights.shape("layer_weights")?;
    Ok(LayerWeights { start: start as usize, weights: weights.get("layer_weights", &[count])?.to_vec() })
}

/// Reads the mode of a Pooling: one switch among several, or its name.
fn pooling_mode(path: &Path) -> Result<Mode> {
    let config: Value = read_json(path)?;
    let switches = [
        ("pooling_mode_cls_token", "cls"),
        ("pooling_mode_mean_tokens", "mean"),
        ("pooling_mode_max_tokens", "max"),
        ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len"),
        ("pooling_mode_weightedmean_tokens", "weightedmean"),
        ("pooling_mode_lasttoken", "lasttoken"),
    ];
    let mut on: Vec<&str> =
        switches.iter().filter(|(key, _)| config[*key] == true).map(|(_, name)| *name).collect();
    on.extend(config["pooling_mode"].as_str());
    match on[..] {
        ["cls"] => Ok(Mode::Cls),
        ["mean"] => Ok(Mode::Mean),
        ["max"] => Ok(Mode::Max),
        _ => {
            let message =
                format!("the pooling mode is [{}]; nyx knows cls, mean and max, one of them", on.join(", "));
            Err(Error::data(message)).in_file(path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::*;
    use std::fs;

    /// A SentenceTransformers directory with a mean over tokens and over the layers 10 and 11.
    fn embedder(transformer: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for folder in [transformer, "1_WeightedLayerPooling", "2_Pooling"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        let module = |index: usize, path: &str, class: &str| {
            serde_json::json!({ "idx": index, "name": index.to_string(), "path": path,
                                "type": format!("sentence_transformers.models.{class}") })
        };
        let modules = Value::Array(vec![
            module(0, transformer, "Transformer"),
            module(1, "1_WeightedLayerPooling", "WeightedLayerPooling"),
            module(2, "2_Pooling", "Pooling"),
        ]);
        fs::write(path("modules.json"), modules.to_string()).unwrap();
        fs::write(path(transformer).join("config.json"), r#"{"model_type": "bert"}"#).unwrap();
        let config = r#"{"word_embedding_dimension": 768, "layer_start": 10, "num_hidden_layers": 11}"#;
        fs::write(path("1_WeightedLayerPooling/config.json"), config).unwrap();
        let bytes: Vec<u8> = [1f32, 0.5].iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &bytes).unwrap();
        let weights = safetensors::serialize([("layer_weights", view)], None).unwrap();
        fs::write(path("1_WeightedLayerPooling/model.safetensors"), weights).unwrap();
        let config = r#"{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}"#;
        fs::write(path("2_Pooling/config.json"), config).unwrap();
        directory
    }

    #[test]
    fn an_embedder_is_its_transformer_and_its_pooling() {
        for transformer in ["", "0_Transformer"] {
            let directory = embedder(transformer);
            let Layout { transformer: found, pooling } = Layout::read(directory.path()).unwrap();
            assert_eq!(Config::read(&found).unwrap().architecture(), "bert");
            let layers = Some(LayerWeights { start: 10, weights: vec![1.0, 0.5] });
            assert_eq!(pooling, Some(Pooling { mode: Mode::Mean, layers }));
        }
    }

    #[test]
    fn what_leads_elsewhere_or_is_unknown_is_refused() {
        let directory = embedder("0_Transformer");
        let path = directory.path().join("modules.json");
        let modules = fs::read_to_string(&path).unwrap();
        for (from, to, expected) in [
            ("0_Transformer", "../0_Transformer", "no directory in this one"),
            ("models.Pooling", "models.LSTM", "`LSTM`"),
        ] {
            fs::write(&path, modules.replace(from, to)).unwrap();
            let message = Layout::read(directory.path()).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        fs::write(&path, modules).unwrap();
        let both = r#"{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}"#;
        fs::write(directory.path().join("2_Pooling/config.json"), both).unwrap();
        assert!(Layout::read(directory.path()).unwrap_err().to_string().contains("[cls, max]"));
    }
}
