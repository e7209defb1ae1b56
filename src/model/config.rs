//! `config.json` of a model directory: the architecture, the names of the classes, and what a family adds.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, InFile, Result};

/// The contents of `config.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// The architecture; the first name counts.
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
}

impl Config {
    /// Creates the config of an architecture that needs nothing else.
    pub fn new(architecture: &str) -> Self {
        Self { architectures: vec![architecture.into()], labels: None, window: None, rest: Map::new() }
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
                "{}: not a model directory (config.json and model.safetensors; `nyx-model convert` makes one)",
                path.display()
            ))
        })?;
        let config: Self = serde_json::from_str(&text).in_file(&path)?;
        if config.architectures.is_empty() {
            return Err(Error::data("`architectures` is empty: it names the network")).in_file(&path);
        }
        Ok(config)
    }

    /// Returns the architecture.
    pub fn architecture(&self) -> &str {
        &self.architectures[0]
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

    /// Returns the labels, or numbered ones, for `classes` classes.
    ///
    /// # Errors
    ///
    /// When there are more or fewer labels than classes.
    pub fn labels(&self, classes: usize) -> Result<Vec<String>> {
        match &self.labels {
            Some(labels) if labels.len() == classes => Ok(labels.clone()),
            Some(labels) => Err(Error::data(format!(
                "config.json names {} labels, the network has {classes} classes",
                labels.len()
            ))),
            None if classes == 1 => Ok(vec!["score".into()]),
            None => Ok((0..classes).map(|class| format!("class_{class}")).collect()),
        }
    }
}
