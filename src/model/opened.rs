//! A model directory that was read, before a network is built from it.

use std::path::{Path, PathBuf};

use candle_core::Device;

use super::adapter::Adapter;
use super::config::Config;
use super::layout::Layout;
use super::transformer::Gpu;
use super::weights::Weights;
use super::{Builder, Loaded, Model, Network, NetworkModel, Source, build, builder};
use crate::error::{Error, InFile, Result};
use crate::kernel::Precision;

/// The config and the weights of a model.
pub struct Opened {
    /// What `config.json` says.
    pub config: Config,
    /// The tensors. After [`Opened::build`] they know which of them the network asked for.
    pub weights: Weights,
    /// What may be wrong, a line each.
    pub doubts: Vec<String>,
    /// The directory of the transformer.
    pub path: PathBuf,
}

impl Opened {
    /// Reads the model directory `path`: `config.json` and weights, in the layout of transformers or of
    /// SentenceTransformers.
    ///
    /// # Errors
    ///
    /// When a file is missing or damaged.
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_file() {
            let message = "a weights file is not a model directory: `nyx-model convert` makes one from it, as in \
                           `nyx-model convert FILE -o DIR`";
            return Err(Error::data(message)).in_file(path);
        }
        if path.join("adapter_config.json").is_file() && !path.join("config.json").is_file() {
            let message = "an adapter, not a model: give its base as the model, and this as --adapter";
            return Err(Error::data(message)).in_file(path);
        }
        let Layout { transformer, pooling } = Layout::read(path)?;
        let config = Config { pooling, ..Config::read(&transformer)? };
        Ok(Self { config, weights: Weights::open(&transformer)?, doubts: Vec::new(), path: transformer })
    }

    /// Merges the adapter in `directory` into the weights; `name` is what the base is called.
    ///
    /// # Errors
    ///
    /// When it is no LoRA adapter, or one of another model.
    pub fn adapt(mut self, directory: &Path, name: &str) -> Result<Self> {
        let adapter = Adapter::read(directory)?;
        self.doubts.extend(adapter.doubts(&self.weights, name));
        self.config = adapter.config(&self.config);
        self.weights = adapter.merge(&self.weights).in_file(directory)?;
        Ok(self)
    }

    /// Builds the model, a network on `device`. What multiplies in numbers of this `precision` are language models,
    /// and in bfloat16 the deep layers of networks.
    ///
    /// # Errors
    ///
    /// When the architecture is unknown, or a tensor is missing or has another shape: the message names it.
    pub fn build(&self, device: &Device, precision: Precision) -> Result<Loaded> {
        self.build_on(device, precision, None)
    }

    /// Builds the model like [`Opened::build`], with the encoder of a language model or the first layers of a network
    /// on `gpu`.
    ///
    /// # Errors
    ///
    /// When there are no kernels for it, or as [`Opened::build`].
    pub fn build_on(&self, device: &Device, precision: Precision, gpu: Option<&Gpu>) -> Result<Loaded> {
        let Self { config, weights, path, .. } = self;
        let source = Source { directory: path, config, weights, precision, gpu };
        let model: Box<dyn Model> = match builder(config).in_file(path)? {
            Builder::Model(build) => build(&source).in_file(path)?,
            networks => {
                let network = network(networks, &source, device).in_file(path)?;
                let model = NetworkModel::new(network).in_file(path)?;
                Box::new(match gpu {
                    Some(gpu) => model.on(gpu).in_file(path)?,
                    None => model,
                })
            }
        };
        Ok(Loaded {
            model,
            digest: weights.digest().into(),
            architecture: config.architecture().into(),
            unused: weights.unused().into_iter().map(str::to_string).collect(),
        })
    }
}

/// Builds a network on the processor.
fn network(builder: &Builder, source: &Source, device: &Device) -> Result<Box<dyn Network>> {
    let Source { config, weights, precision, .. } = *source;
    let name = config.architecture();
    let refuse =
        |numbers: &str| Err(Error::data(format!("a {name} computes in {numbers}: leave --dtype out")));
    match (builder, precision) {
        (Builder::Deep(_), Precision::Int8) => refuse("f32 or bf16"),
        (Builder::Deep(build), _) => {
            let network = build(config, weights, device, precision)?;
            match precision == Precision::F32 || network.rounds() {
                true => Ok(network),
                false => refuse("f32 only, because no layer of this one is faster in bf16"),
            }
        }
        (_, Precision::F32) => build(config, weights, device),
        _ => refuse("f32 only"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::shared;

    #[test]
    fn a_file_or_an_adapter_in_place_of_a_model_is_refused_with_the_remedy() {
        let Some(adapter) = shared("golden/models/dnabert2_tiny_lora") else { return };
        let message = |path: &Path| Opened::read(path).err().unwrap().to_string();
        assert!(message(&adapter).contains("--adapter"));
        assert!(message(&adapter.join("adapter_model.safetensors")).contains("nyx-model convert"));
    }

    #[test]
    fn the_digest_of_a_merged_model_is_that_of_the_bytes_of_both() {
        let Some(base) = shared("golden/models/nt_v2_tiny") else { return };
        let adapter = shared("golden/models/nt_v2_tiny_lora").unwrap();
        let opened = Opened::read(&base).unwrap().adapt(&adapter, "nt_v2_tiny").unwrap();
        assert_eq!(opened.config.architecture(), "EsmForSequenceClassification");
        assert_eq!(opened.doubts, [""; 0]);
        let files = [
            base.join("model.safetensors"),
            adapter.join("adapter_config.json"),
            adapter.join("adapter_model.safetensors"),
        ];
        let bytes: Vec<u8> = files.iter().flat_map(|path| std::fs::read(path).unwrap()).collect();
        use sha2::Digest;
        let expected = crate::provenance::hexadecimal(&sha2::Sha256::digest(bytes));
        assert_eq!(opened.weights.digest(), expected);
    }
}
