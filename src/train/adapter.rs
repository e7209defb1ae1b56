//! LoRA in training: which modules are adapted, new adapters, and adapter directories as PEFT has them.
//! `models.md` C.2.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use crate::error::{Error, InFile, Result};
use crate::kernel::learn::read;
use crate::model::graph::{Lora, Parameters, Random};
use crate::model::weights::Array;
use crate::output;

/// What an adapter is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraPlan {
    /// Rows of A.
    pub rank: usize,
    /// What B·A is multiplied by, over the rank.
    pub alpha: f64,
    /// The chance of an input of A to drop out.
    pub dropout: f64,
    /// Last parts of the names of linear layers that are adapted.
    pub targets: Vec<String>,
    /// Modules that are trained whole.
    pub whole: Vec<String>,
}

impl Default for LoraPlan {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            dropout: 0.05,
            targets: ["query", "value", "key", "dense"].map(String::from).to_vec(),
            whole: ["classifier", "score"].map(String::from).to_vec(),
        }
    }
}

impl LoraPlan {
    /// Trains whole, and so saves, modules that the base does not have: an adapter to random weights that nobody
    /// keeps could not be had back.
    pub fn with_new(mut self, modules: &[String]) -> Self {
        for module in modules {
            let parent = module.rsplit('.').nth(1).unwrap_or(module);
            if !self.is_whole(module) {
                self.whole.push(parent.into());
            }
        }
        self
    }

    fn is_whole(&self, name: &str) -> bool {
        // PEFT saves a head of several layers whole only where no layer of it is adapted.
        name.split('.').any(|part| self.whole.iter().any(|whole| whole == part))
    }

    fn is_target(&self, module: &str) -> bool {
        let last = module.rsplit('.').next().unwrap_or(module);
        self.targets.iter().any(|target| target == last || module.ends_with(&format!(".{target}")))
    }

    /// Freezes weights, but those trained whole, and adds adapters: A from the uniform distribution within
    /// 1/√inputs (Kaiming's with a = √5), B zero. Returns the adapted modules.
    ///
    /// # Errors
    ///
    /// When no module has such a name.
    pub fn apply(&self, parameters: &mut Parameters, seed: u64) -> Result<Vec<String>> {
        let is_matrix = |name: &str| parameters.get(name).is_ok_and(|tensor| tensor.rank() == 2);
        let modules: Vec<String> = (parameters.names())
            .filter_map(|name| name.strip_suffix(".weight"))
            .filter(|module| {
                self.is_target(module) && !self.is_whole(module) && is_matrix(&format!("{module}.weight"))
            })
            .filter(|module| !module.contains("embeddings"))
            .map(String::from)
            .collect();
        if modules.is_empty() {
            let message =
                format!("no linear layer is called {}: see `nyx-model info`", self.targets.join(", "));
            return Err(Error::usage(message));
        }
        parameters.freeze(|name| self.is_whole(name));
        for module in &modules {
            let (outputs, inputs) = parameters.get(&format!("{module}.weight"))?.dims2()?;
            let name = format!("{module}.lora_A.weight");
            let mut random = Random::new(seed, &name, 0);
            let bound = 1.0 / (inputs as f64).sqrt();
            let draw = |_| (bound * (2.0 * random.uniform() - 1.0)) as f32;
            let values = (0..self.rank * inputs).map(draw).collect();
            parameters.insert(&name, Array { shape: vec![self.rank, inputs], values })?;
            let zeros = Array { shape: vec![outputs, self.rank], values: vec![0.0; outputs * self.rank] };
            parameters.insert(&format!("{module}.lora_B.weight"), zeros)?;
        }
        parameters.set_lora(Lora { scale: self.alpha / self.rank as f64, dropout: self.dropout });
        Ok(modules)
    }

    /// Writes `adapter_config.json` and `adapter_model.safetensors` as PEFT does; `base` is what the base model is
    /// called.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written.
    pub fn write(&self, parameters: &Parameters, base: &str, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory).in_file(directory)?;
        let config = json!({
            "alpha_pattern": {},
            "auto_mapping": null,
            "base_model_name_or_path": base,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": if self.alpha.fract() == 0.0 { json!(self.alpha as i64) } else { json!(self.alpha) },
            "lora_dropout": self.dropout,
            "modules_to_save": self.whole,
            "peft_type": "LORA",
            "r": self.rank,
            "rank_pattern": {},
            "revision": null,
            "target_modules": self.targets,
            "task_type": "SEQ_CLS",
            "use_dora": false,
            "use_rslora": false,
        });
        let text = serde_json::to_string_pretty(&config)? + "\n";
        output::write_file(&directory.join("adapter_config.json"), text.as_bytes())?;
        let mut tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
        for (name, variable) in parameters.trained() {
            let tensor = variable.as_tensor();
            let values = read(tensor, <[f32]>::to_vec)?;
            tensors.insert(format!("base_model.model.{name}"), (tensor.dims().to_vec(), values));
        }
        let view = |(name, (shape, values)): (&String, &(Vec<usize>, Vec<f32>))| -> Result<(String, Vec<u8>, Vec<usize>)> {
            Ok((name.clone(), bytemuck::cast_slice::<f32, u8>(values).to_vec(), shape.clone()))
        };
        let bytes = tensors.iter().map(view).collect::<Result<Vec<_>>>()?;
        let views = bytes
            .iter()
            .map(|(name, bytes, shape)| {
                Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
            })
            .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>();
        let metadata = [("format".to_string(), "pt".to_string())].into();
        let file = views
            .and_then(|views| safetensors::serialize(views, Some(metadata)))
            .map_err(|error| Error::data(format!("cannot write safetensors: {error}")))?;
        output::write_file(&directory.join("adapter_model.safetensors"), &file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::adapter::Adapter;
    use crate::model::transformer::graph::EncoderGraph;
    use crate::model::{Opened, testing::arrays};
    use crate::testing::shared;

    #[test]
    fn the_modules_are_those_that_peft_adapts() {
        let expected = [("dnabert2_tiny", 4), ("nt_v2_tiny", 0)];
        for (name, count) in expected {
            let Some(folder) = shared(&format!("golden/models/{name}")) else { return };
            let golden = shared(&format!("golden/models/{name}_lora/adapter_model.safetensors")).unwrap();
            let golden = crate::model::weights::Weights::read(&golden).unwrap();
            let opened = Opened::read(&folder).unwrap();
            let mut parameters = Parameters::of(&opened.weights).unwrap();
            let found = LoraPlan::default().apply(&mut parameters, 1).unwrap();
            let mut wanted: Vec<&str> = golden
                .tensors()
                .keys()
                .filter_map(|name| name.split("base_model.model.").nth(1)?.strip_suffix(".lora_A.weight"))
                .filter(|name| !name.starts_with("classifier"))
                .collect();
            wanted.sort_unstable();
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), wanted, "{name}");
            assert!(count == 0 || found.len() == count, "{name}: {}", found.len());
        }
    }

    #[test]
    fn a_new_pooler_is_trained_whole() {
        let new = ["bert.pooler.dense".to_string(), "classifier".to_string()];
        assert_eq!(LoraPlan::default().with_new(&new).whole, ["classifier", "score", "pooler"]);
        assert_eq!(LoraPlan::default().with_new(&new[1..]), LoraPlan::default());
    }

    #[test]
    fn what_is_written_merges_to_what_was_trained() {
        let Some(folder) = shared("golden/models/dnabert2_tiny") else { return };
        let opened = Opened::read(&folder).unwrap();
        let graph = EncoderGraph::new(&opened.config, &opened.weights).unwrap();
        let mut parameters = Parameters::of(&opened.weights).unwrap();
        graph.add_classifier(&mut parameters, 2, 1).unwrap();
        let plan = LoraPlan::default();
        plan.apply(&mut parameters, 1).unwrap();
        // As if something had been learned.
        let mut snapshot = parameters.snapshot().unwrap();
        for (index, array) in snapshot.values_mut().enumerate() {
            array.values = crate::kernel::testing::noise(array.values.len(), index as u64);
        }
        parameters.restore(&snapshot).unwrap();
        let directory = tempfile::tempdir().unwrap();
        plan.write(&parameters, "dnabert2_tiny", directory.path()).unwrap();
        let merged = Adapter::read(directory.path()).unwrap().merge(&opened.weights).unwrap();
        let (found, expected) = (arrays(&merged), arrays(&parameters.weights().unwrap()));
        assert_eq!(found.len(), expected.len());
        for (name, array) in expected {
            assert!(crate::kernel::testing::distance(&found[&name].values, &array.values) < 1e-5, "{name}");
        }
    }
}
