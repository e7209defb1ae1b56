//! `config.json` of a model directory: the architecture, the names of the classes, and what a family adds.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::layout::Pooling;
use crate::error::{Error, InFile, Result};

/// The contents of `config.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// The architecture; the first name counts. Where a file names none, its `model_type` stands here.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub architectures: Vec<String>,
    /// The names of the classes, one for each logit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
    /// Bases of a row, where the weights do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// What the family reads.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
    /// How a sentence embedder pools; from the files beside `config.json`.
    #[serde(skip)]
    pub pooling: Option<Pooling>,
}

fn null_is_empty<'de, D: Deserializer<'de>>(source: D) -> std::result::Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}

impl Config {
    /// Creates the config of an architecture that needs nothing else.
    pub fn new(architecture: &str) -> Self {
        Self {
            architectures: vec![architecture.into()],
            labels: None,
            window: None,
            rest: Map::new(),
            pooling: None,
        }
    }

    /// Reads `config.json` in `directory`.
    ///
    /// # Errors
    ///
    /// When it is not there, is no JSON, or names no architecture.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(Error::Io).map_err(|error| {
            error.at(format!(
                "{}: not a model directory (config.json and weights; `nyx-model convert` makes one)",
                path.display()
            ))
        })?;
        let mut config: Self = serde_json::from_str(&text).in_file(&path)?;
        if config.architectures.is_empty() {
            let kind = config.model_type().map(str::to_string).ok_or_else(|| {
                Error::data("neither `architectures` nor `model_type`: nothing names the network")
            });
            config.architectures = vec![kind.in_file(&path)?];
        }
        Ok(config)
    }

    /// Returns the architecture.
    pub fn architecture(&self) -> &str {
        &self.architectures[0]
    }

    /// Returns the `model_type` of transformers, where there is one.
    pub fn model_type(&self) -> Option<&str> {
        self.rest.get("model_type")?.as_str()
    }

    /// Returns the names of classes by their numbers, as transformers keeps them.
    fn numbered_labels(&self) -> Option<Vec<String>> {
        let labels = self.rest.get("id2label")?.as_object()?;
        let label = |class: usize| Some(labels.get(&class.to_string())?.as_str()?.to_string());
        (0..labels.len()).map(label).collect()
    }

    /// Reads the part of a family.
    ///
    /// # Errors
    ///
    /// When a key is missing or of the wrong kind.
    pub fn part<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(Value::Object(self.rest.clone()))
            .map_err(|error| Error::data(format!("config.json of a {}: {error}", self.architecture())))
    }

    /// Returns the labels for `classes` classes: `labels`, those of `id2label` where they are as many, or numbered
    /// ones.
    ///
    /// # Errors
    ///
    /// When `labels` has more or fewer names than there are classes.
    pub fn labels(&self, classes: usize) -> Result<Vec<String>> {
        match &self.labels {
            Some(labels) if labels.len() == classes => Ok(labels.clone()),
            Some(labels) => Err(Error::data(format!(
                "config.json names {} labels, the network has {classes} classes",
                labels.len()
            ))),
            None => {
                Ok(self.numbered_labels().filter(|labels| labels.len() == classes).unwrap_or_else(|| {
                    let numbered = (0..classes).map(|class| format!("class_{class}"));
                    if classes == 1 { vec!["score".into()] } else { numbered.collect() }
                }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), text).unwrap();
        Config::read(directory.path())
    }

    #[test]
    fn configs_of_transformers_name_the_network_and_its_classes() {
        let text = r#"{"architectures": ["BertForMaskedLM"], "model_type": "bert", "auto_map": {"AutoModel": "x--y.Z"},
                       "id2label": {"1": "bound", "0": "free"}, "layer_norm_eps": 1e-12, "torch_dtype": "float32"}"#;
        let config = config(text).unwrap();
        assert_eq!((config.architecture(), config.model_type()), ("BertForMaskedLM", Some("bert")));
        assert_eq!(config.labels(2).unwrap(), ["free", "bound"]);
        assert_eq!(config.labels(3).unwrap(), ["class_0", "class_1", "class_2"]);
        assert_eq!(config.labels(1).unwrap(), ["score"]);
    }

    #[test]
    fn where_no_architecture_is_named_its_type_stands_for_it() {
        for text in [r#"{"model_type": "esm"}"#, r#"{"architectures": null, "model_type": "esm"}"#] {
            assert_eq!(config(text).unwrap().architecture(), "esm");
        }
        assert!(config("{}").unwrap_err().to_string().contains("nothing names the network"));
    }

    #[test]
    fn labels_of_a_wrong_number_are_refused() {
        let config = config(r#"{"architectures": ["X"], "labels": ["a", "b"]}"#).unwrap();
        assert!(config.labels(3).unwrap_err().to_string().contains("names 2 labels"));
    }
}
