//! Networks and language models that read DNA, loaded from a model directory by its `config.json`.
//!
//! A model owns its encoding: how `N` is coded differs between families, and a wrong one scores well
//! enough to deceive. Shapes: B rows, L bases, channels last, base order A C G T.

use std::path::Path;

use candle_core::Device;

use crate::error::{Error, Result};

pub mod adapter;
pub mod bert;
pub mod bert_snr;
pub mod bert_tfbs;
pub mod config;
pub mod convert;
pub mod encoding;
pub mod weights;

mod base_caller;
pub mod bpnet;
pub mod causal;
pub mod d_aednet;
pub mod danq;
pub mod deep_bind;
pub mod deep_bind_published;
pub mod deep_snr;
mod ensemble;
pub mod esm;
pub(crate) mod explain;
pub mod graph;
pub mod layout;
pub mod long;
pub mod modern_bert;
mod mosaic_bert;
mod network;
mod opened;
pub mod residual_fcnn;
mod rotary;
mod scores;
pub mod sequential_cnn;
pub mod sig_tfb;
mod substitute;
pub mod transformer;
mod trunk_gpu;

pub use ensemble::{Ensemble, Gradient, Member};
pub use explain::{Background, Explanation, Steps, Way};
pub use network::{Network, NetworkModel, PASS_BASES, Prediction};
pub use opened::Opened;
pub use scores::{Answer, Attentions, Input, Likelihood, Misfit, Outputs, Pooling, Scores, Wanted};
pub use substitute::Table;

use config::Config;
use network::Head;
use transformer::gpu::GpuEncoder;
use transformer::{Checkpoint, Encoder, Gpu, Runner, Spec, Tensors};
use weights::Weights;

use crate::kernel::Precision;
use crate::tokenizer::Tokenizer;

/// A model that reads DNA. Its numbers do not depend on which rows share a batch.
pub trait Model: Send + Sync {
    /// Returns the number of bases a row must have; `None` when any number will do, or when what counts
    /// are tokens.
    fn window(&self) -> Option<usize>;

    /// Returns the names of the classes, one for each logit.
    fn labels(&self) -> &[String];

    /// Returns which outputs every row gets when this is wanted.
    ///
    /// # Errors
    ///
    /// When the model cannot give what is wanted.
    fn outputs(&self, wanted: &Wanted) -> Result<Outputs>;

    /// Predicts every row (any mixture of lengths), in order, on all threads.
    fn predict(&self, rows: &[Input], wanted: &Wanted) -> Result<Vec<Answer>>;

    /// Returns what turns bases into tokens, in a language model.
    fn tokenizer(&self) -> Option<&Tokenizer> {
        None
    }

    /// Returns the most tokens of a row, specials included, where a language model has such a limit.
    fn token_limit(&self) -> Option<usize> {
        None
    }

    /// Returns the language model that it is or has, and what makes its logits of that one's hidden states, where
    /// gradients can be taken with respect to its tokens.
    fn language(&self) -> Option<(&transformer::LanguageModel, &dyn transformer::StateReader)> {
        None
    }

    /// Returns whether it reads pairs of sequences, and nothing of a single one.
    fn reads_pairs(&self) -> bool {
        false
    }

    /// Returns the network over encoded bases, where there is one to be differentiated.
    fn network(&self) -> Option<&dyn Network> {
        None
    }
}

/// A model as loaded: the network and what identifies it.
pub struct Loaded {
    /// The network.
    pub model: Box<dyn Model>,
    /// SHA-256 of the bytes of all weights files, in hexadecimal.
    pub digest: String,
    /// The architecture, as `config.json` names it.
    pub architecture: String,
    /// Names of the tensors among its weights that it has no use for.
    pub unused: Vec<String>,
}

/// What a model is built from.
pub struct Source<'a> {
    /// Its directory.
    pub directory: &'a Path,
    /// Its `config.json`.
    pub config: &'a Config,
    /// Its tensors.
    pub weights: &'a Weights,
    /// The numbers it multiplies in, on the processor.
    pub precision: Precision,
    /// Where its encoder runs, if not on the processor.
    pub gpu: Option<&'a Gpu>,
}

impl Source<'_> {
    /// Returns what a language model keeps of where it came from, to be differentiated.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { config: self.config.clone(), weights: self.weights.clone(), precision: self.precision }
    }

    /// Builds an encoder where it is to run.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape, or there are no kernels for such an encoder.
    pub fn encoder(&self, spec: Spec, tensors: &dyn Tensors) -> Result<Runner> {
        match self.gpu {
            None => Ok(Runner::Processor(Box::new(Encoder::new(spec, tensors, self.precision)?))),
            Some(gpu) => {
                let Gpu { backend, number, limits } = gpu.clone();
                let encoder = GpuEncoder::new(backend, spec, tensors, number, limits)?;
                Ok(Runner::Gpu(Box::new(encoder)))
            }
        }
    }
}

/// Builds a network whose deep layers have this precision.
type BuildDeep = fn(&Config, &Weights, &Device, Precision) -> Result<Box<dyn Network>>;

/// What builds the models of a family.
enum Builder {
    /// Of a network, its config and weights are enough.
    Network(fn(&Config, &Weights, &Device) -> Result<Box<dyn Network>>),
    /// A network with layers that are worth computing in bfloat16.
    Deep(BuildDeep),
    /// Any model.
    Model(fn(&Source) -> Result<Box<dyn Model>>),
}

use Builder::{Deep, Model as Whole, Network as Net};

/// The families, by the name that `architectures` in `config.json` gives them.
const FAMILIES: &[(&str, Builder)] = &[
    ("BPNet", Deep(bpnet::load)),
    (bert_snr::NAME, Whole(bert_snr::load)),
    (bert_tfbs::NAME, Whole(bert_tfbs::load)),
    ("BertForLongSequenceClassification", Whole(bert)),
    ("BertForLongSequenceClassificationCat", Whole(bert)),
    ("BertForMaskedLM", Whole(bert)),
    ("BertForSequenceClassification", Whole(bert)),
    ("BertModel", Whole(bert)),
    ("CNN_Multilabel", Net(sig_tfb::load_stage_1)),
    ("DAEDNet", Net(d_aednet::load)),
    ("DNABertForSequenceClassification", Whole(bert)),
    ("DanQ", Net(danq::load)),
    ("DeepBind", Net(deep_bind::load)),
    ("DeepBindPublished", Net(deep_bind_published::load)),
    ("DeepSNR", Net(deep_snr::load)),
    ("EsmForMaskedLM", Whole(esm)),
    ("EsmForSequenceClassification", Whole(esm)),
    ("EsmModel", Whole(esm)),
    ("LlamaForCausalLM", Whole(causal)),
    ("LlamaForSequenceClassification", Whole(causal)),
    ("LlamaModel", Whole(causal)),
    ("MistralForCausalLM", Whole(causal)),
    ("MistralForSequenceClassification", Whole(causal)),
    ("MistralModel", Whole(causal)),
    ("ModernBertForMaskedLM", Whole(modern_bert)),
    ("ModernBertForSequenceClassification", Whole(modern_bert)),
    ("ModernBertModel", Whole(modern_bert)),
    ("Net_Stage2", Net(sig_tfb::load_stage_2)),
    ("Qwen2ForCausalLM", Whole(causal)),
    ("Qwen2ForSequenceClassification", Whole(causal)),
    ("Qwen2Model", Whole(causal)),
    ("Qwen3ForCausalLM", Whole(causal)),
    ("Qwen3ForSequenceClassification", Whole(causal)),
    ("Qwen3Model", Whole(causal)),
    (residual_fcnn::NAME, Whole(residual_fcnn::load)),
    ("SequentialCnn", Deep(sequential_cnn::load)),
    // The `model_type` of configs that name no architecture.
    ("bert", Whole(bert)),
    ("esm", Whole(esm)),
    ("llama", Whole(causal)),
    ("mistral", Whole(causal)),
    ("modernbert", Whole(modern_bert)),
    ("motif_CNN_Multilabel", Net(sig_tfb::load_motif_stage_1)),
    ("motif_Net_Stage2", Net(sig_tfb::load_motif_stage_2)),
    ("qwen2", Whole(causal)),
    ("qwen3", Whole(causal)),
];

fn bert(source: &Source) -> Result<Box<dyn Model>> {
    Ok(Box::new(bert::load(source)?))
}

fn causal(source: &Source) -> Result<Box<dyn Model>> {
    Ok(Box::new(causal::load(source)?))
}

fn modern_bert(source: &Source) -> Result<Box<dyn Model>> {
    Ok(Box::new(modern_bert::load(source)?))
}

fn esm(source: &Source) -> Result<Box<dyn Model>> {
    Ok(Box::new(esm::load(source)?))
}

/// Returns the names of the architectures that can be loaded.
pub fn architectures() -> Vec<&'static str> {
    FAMILIES.iter().map(|(name, _)| *name).collect()
}

/// Loads the model directory `path` (`config.json` and weights) onto `device`.
///
/// # Errors
///
/// When a file is missing, the architecture is unknown, or a tensor is missing or has another shape: the
/// message names it.
pub fn load(path: &Path, device: &Device) -> Result<Loaded> {
    Opened::read(path)?.build(device, Precision::F32)
}

/// Builds the network that `config` names.
fn build(config: &Config, weights: &Weights, device: &Device) -> Result<Box<dyn Network>> {
    match builder(config)? {
        Builder::Network(build) => build(config, weights, device),
        Builder::Deep(build) => build(config, weights, device, Precision::F32),
        Builder::Model(_) => Err(Error::data(format!(
            "a {} is a whole directory, no network in one file: it needs no conversion",
            config.architecture()
        ))),
    }
}

/// Returns what builds the architecture that `config` names.
fn builder(config: &Config) -> Result<&'static Builder> {
    let wanted = config.architecture();
    match FAMILIES.iter().find(|(name, _)| *name == wanted) {
        Some((_, builder)) => Ok(builder),
        None => Err(Error::data(format!(
            "config.json names the architecture `{wanted}`; known are {}",
            architectures().join(", ")
        ))),
    }
}

#[cfg(test)]
pub(crate) mod testing;
