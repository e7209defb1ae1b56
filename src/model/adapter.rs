//! LoRA adapters as PEFT saves them, merged into the weights that they were trained on: W + (α/r)·B·A.
//! `models.md` C.2.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use regex::Regex;
use serde::Deserialize;

use super::config::Config;
use super::weights::{Stored, Weights};
use crate::error::{Error, InFile, Result};
use crate::input::Mapped;

/// What nyx reads of `adapter_config.json`.
#[derive(Clone, Debug, Deserialize)]
struct Settings {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    task_type: Option<String>,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    #[serde(default)]
    target_modules: Option<Targets>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    rank_pattern: BTreeMap<String, usize>,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
}

/// Which modules were adapted: last parts of their names, or a regular expression.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Targets {
    Names(Vec<String>),
    Pattern(String),
}

/// The two matrices of a module.
#[derive(Default)]
struct Pair {
    /// `[r, inputs]`; of an embedding `[r, rows]`.
    a: Option<Arc<Stored>>,
    /// `[outputs, r]`; of an embedding `[columns, r]`.
    b: Option<Arc<Stored>>,
    is_embedding: bool,
}

/// An adapter directory that was read: `adapter_config.json` and `adapter_model.safetensors` (or `.bin`).
pub struct Adapter {
    settings: Settings,
    pairs: BTreeMap<String, Pair>,
    /// Tensors that take the place of those of the base.
    whole: BTreeMap<String, Arc<Stored>>,
    files: Vec<Mapped>,
}

/// Merges the adapter in `directory` into the weights of its base. The digest is that of the files of both.
///
/// # Errors
///
/// As [`Adapter::read`] and [`Adapter::merge`].
pub fn merge(weights: &Weights, directory: &Path) -> Result<Weights> {
    Adapter::read(directory)?.merge(weights).in_file(directory)
}

impl Adapter {
    /// Reads an adapter directory.
    ///
    /// # Errors
    ///
    /// When a file is missing or damaged, or the adapter is of a kind other than LoRA.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("adapter_config.json");
        let file = Mapped::open(&path).map_err(|error| {
            error.at("not a PEFT adapter directory (adapter_config.json and adapter_model.safetensors)")
        })?;
        let settings: Settings = serde_json::from_slice(file.bytes()).in_file(&path)?;
        if settings.peft_type != "LORA" || settings.use_dora {
            let kind = if settings.use_dora { "DoRA" } else { &settings.peft_type };
            let message = format!("a {kind} adapter: nyx merges LoRA; merge it with PEFT's merge_and_unload");
            return Err(Error::data(message)).in_file(&path);
        }
        let names = ["adapter_model.safetensors", "adapter_model.bin"].map(|name| directory.join(name));
        let weights = names.iter().find(|path| path.is_file()).unwrap_or(&names[0]);
        let mut adapter = Self {
            settings,
            pairs: BTreeMap::new(),
            whole: BTreeMap::new(),
            files: vec![file, Mapped::open(weights)?],
        };
        for (name, tensor) in Weights::read(weights)?.tensors() {
            adapter.keep(name, tensor).in_file(weights)?;
        }
        Ok(adapter)
    }

    /// Sorts a tensor into pairs and whole ones.
    fn keep(&mut self, name: &str, tensor: &Arc<Stored>) -> Result<()> {
        // The untouched copy that PEFT keeps beside a module that was trained whole.
        if name.contains(".original_module.") {
            return Ok(());
        }
        // A module that is trained whole and adapted as well is stored under two names.
        let is_second = name.contains(".modules_to_save.");
        let name = name.strip_prefix("base_model.model.").unwrap_or(name);
        let name = name.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".");
        let name = ["A", "B"].iter().fold(name.replace(".base_layer.", "."), |name, part| {
            name.replace(&format!("_{part}.default"), &format!("_{part}"))
        });
        let parts = [
            (".lora_A.weight", true, false),
            (".lora_B.weight", false, false),
            (".lora_embedding_A", true, true),
            (".lora_embedding_B", false, true),
        ];
        for (suffix, is_a, is_embedding) in parts {
            let Some(module) = name.strip_suffix(suffix) else { continue };
            if tensor.shape.len() != 2 {
                let message = format!(
                    "`{name}` is {:?}: nyx merges adapters of linear layers and embeddings",
                    tensor.shape
                );
                return Err(Error::data(message));
            }
            let pair = self.pairs.entry(module.into()).or_default();
            pair.is_embedding = is_embedding;
            let place = if is_a { &mut pair.a } else { &mut pair.b };
            if place.is_none() || !is_second {
                *place = Some(tensor.clone());
            }
            return Ok(());
        }
        if name.contains(".lora_") {
            return Err(Error::data(format!("`{name}` is no part of a LoRA adapter that nyx knows")));
        }
        self.whole.insert(name, tensor.clone());
        Ok(())
    }

    /// Returns the name of the model that the adapter was trained on, if it says so.
    pub fn base(&self) -> Option<&str> {
        self.settings.base_model_name_or_path.as_deref().filter(|name| !name.is_empty())
    }

    /// Returns the config that the merged model has: that of the base, as a classifier where the adapter was
    /// trained as one.
    pub fn config(&self, base: &Config) -> Config {
        let mut config = base.clone();
        let architecture = base.architecture();
        if self.settings.task_type.as_deref() == Some("SEQ_CLS") && architecture.contains("For") {
            let stem = architecture.split("For").next().unwrap_or_default();
            config.architectures[0] = format!("{stem}ForSequenceClassification");
        }
        config
    }

    /// Merges the adapter into the weights of its base. Products are computed in f64 when a tensor is asked for.
    ///
    /// # Errors
    ///
    /// When a module that was adapted is not in the base, or has another shape.
    pub fn merge(&self, base: &Weights) -> Result<Weights> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in &self.whole {
            let (name, stored) = self.whole(base, name, tensor)?;
            tensors.insert(name, stored);
        }
        for (module, pair) in &self.pairs {
            let (name, stored) = self.merged(base, module, pair)?;
            tensors.insert(name, Arc::new(stored));
        }
        Ok(base.with(tensors, self.files.clone()))
    }

    /// Returns the tensor that replaces one of the base, or joins it.
    fn whole(&self, base: &Weights, name: &str, tensor: &Arc<Stored>) -> Result<(String, Arc<Stored>)> {
        let found = find(base, name);
        match &found {
            Some(found) if base.tensors()[found].shape != tensor.shape && !self.is_saved(name) => {
                let shape = &base.tensors()[found].shape;
                Err(Error::data(format!("`{name}` is {:?}, that of the base is {shape:?}", tensor.shape)))
            }
            None if !self.is_saved(name) => Err(no_target(name)),
            _ => Ok((found.unwrap_or_else(|| name.into()), tensor.clone())),
        }
    }

    /// Whether the module was trained whole. The heads of classifiers always are.
    fn is_saved(&self, name: &str) -> bool {
        let saved = self.settings.modules_to_save.iter().flatten().map(String::as_str);
        saved.chain(["classifier", "score"]).any(|module| name.split('.').any(|part| part == module))
    }

    /// Returns the name and the tensor of a module that was adapted.
    fn merged(&self, base: &Weights, module: &str, pair: &Pair) -> Result<(String, Stored)> {
        self.check_target(module)?;
        let (Some(a), Some(b)) = (&pair.a, &pair.b) else {
            return Err(Error::data(format!("of `{module}` only one of lora_A and lora_B is there")));
        };
        let weight = format!("{module}.weight");
        let in_adapter =
            self.whole.get(&weight).map(|tensor| (find(base, &weight).unwrap_or(weight.clone()), tensor));
        let target =
            in_adapter.or_else(|| find(base, &weight).map(|name| (name.clone(), &base.tensors()[&name])));
        let (name, target) = target.ok_or_else(|| self.no_base(&weight))?;
        let rank = pattern(&self.settings.rank_pattern, module)?.unwrap_or(self.settings.r);
        // Rows and columns of B·A.
        let product = if pair.is_embedding { [a.shape[1], b.shape[0]] } else { [b.shape[0], a.shape[1]] };
        let turned = self.settings.fan_in_fan_out && !pair.is_embedding;
        let expected = if turned { [product[1], product[0]] } else { product };
        if a.shape[0] != rank || b.shape[1] != rank || target.shape != expected {
            return Err(Error::data(format!(
                "`{module}`: A {:?} and B {:?} of rank {rank} do not fit the weight {:?} of the base",
                a.shape, b.shape, target.shape
            )));
        }
        let (target, a, b) = (target.clone(), a.clone(), b.clone());
        let (scale, is_turned) = (self.scale(module, rank)?, turned || pair.is_embedding);
        let shape = target.shape.clone();
        Ok((name, Stored::computed(shape, move || add_product(&target, &a, &b, scale, is_turned))))
    }

    /// Returns α/r, or α/√r of rank-stabilized adapters.
    fn scale(&self, module: &str, rank: usize) -> Result<f64> {
        let alpha = pattern(&self.settings.alpha_pattern, module)?.unwrap_or(self.settings.lora_alpha);
        let rank = rank as f64;
        Ok(alpha / if self.settings.use_rslora { rank.sqrt() } else { rank })
    }

    /// Refuses a module that PEFT would not have adapted: it would leave these tensors out.
    fn check_target(&self, module: &str) -> Result<()> {
        let fits = match &self.settings.target_modules {
            None => true,
            Some(Targets::Names(names)) => names.iter().any(|name| {
                module.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }),
            Some(Targets::Pattern(text)) if text == "all-linear" => true,
            Some(Targets::Pattern(text)) => expression(&format!("^(?:{text})$"))?.is_match(module),
        };
        if fits {
            return Ok(());
        }
        Err(Error::data(format!(
            "`{module}` has an adapter, but target_modules of adapter_config.json do not name it"
        )))
    }

    fn no_base(&self, weight: &str) -> Error {
        if !self.is_saved(weight) {
            return no_target(weight);
        }
        Error::data(format!(
            "the base has no `{weight}`, and PEFT saved its adapter without it: a head that was both adapted and \
             trained from random numbers cannot be had back. Save the merged model instead \
             (model.merge_and_unload().save_pretrained(DIR)), or leave the head out of target_modules"
        ))
    }

    /// Says what may be wrong with this adapter on this base, in a line; `name` is what the base is called.
    pub fn doubts(&self, base: &Weights, name: &str) -> Vec<String> {
        let mut doubts = Vec::new();
        let last =
            |name: &str| name.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_lowercase();
        if let Some(wanted) = self.base().filter(|wanted| last(wanted) != last(name)) {
            doubts.push(format!("the adapter was trained on {wanted}"));
        }
        let weights = self.pairs.keys().map(|module| format!("{module}.weight"));
        for weight in weights.filter(|weight| self.is_saved(weight) && !self.whole.contains_key(weight)) {
            if find(base, &weight).is_some() {
                doubts.push(format!(
                    "{weight} is the base's own: the adapter was trained on another, if on a new head"
                ));
            }
        }
        doubts
    }
}

fn no_target(name: &str) -> Error {
    Error::data(format!("the base has no `{name}`: the adapter belongs to another model"))
}

/// Finds a tensor of the base whose name may have the prefix of its base model (`bert.`) or lack it.
fn find(base: &Weights, name: &str) -> Option<String> {
    if base.contains(name) {
        return Some(name.into());
    }
    let rest = name.split_once('.').map(|(_, rest)| rest).filter(|rest| base.contains(rest));
    if let Some(rest) = rest.filter(|rest| rest.contains('.')) {
        return Some(rest.into());
    }
    let mut longer =
        base.tensors().keys().filter(|whole| whole.split_once('.').is_some_and(|(_, rest)| rest == name));
    longer.next().filter(|_| longer.next().is_none()).cloned()
}

/// Returns the value of the first pattern that fits the end of a module's name.
fn pattern<T: Copy>(patterns: &BTreeMap<String, T>, module: &str) -> Result<Option<T>> {
    for (text, value) in patterns {
        if expression(&format!(r"^(?:.*\.)?(?:{text})$"))?.is_match(module) {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

fn expression(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|error| Error::data(format!("adapter_config.json: {error}")))
}

/// Returns W + scale·B·A; `is_turned` where W is the transpose of the product.
fn add_product(target: &Stored, a: &Stored, b: &Stored, scale: f64, is_turned: bool) -> Vec<f32> {
    let (a_values, b_values) = (a.read(), b.read());
    let (rank, inputs) = (a.shape[0], a.shape[1]);
    let mut values = target.read().into_owned();
    let columns = target.shape[1].max(1);
    values.par_chunks_mut(columns).enumerate().for_each(|(row, values)| {
        for (column, value) in values.iter_mut().enumerate() {
            let (output, input) = if is_turned { (column, row) } else { (row, column) };
            let product =
                |k: usize| f64::from(b_values[output * rank + k]) * f64::from(a_values[k * inputs + input]);
            *value = (f64::from(*value) + scale * (0..rank).map(product).sum::<f64>()) as f32;
        }
    });
    values
}

#[cfg(test)]
mod tests;
