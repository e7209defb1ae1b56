//! The flags of commands that run models, and of attribution.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use candle_core::Device;
use clap::ValueEnum;

use super::{Common, DeviceArg};
use crate::attrib::attention::{Reading, Rule};
use crate::attrib::{Center, Columns, Comparison, Completeness, Method, Options};
use crate::device::backend::Number;
use crate::device::{DeviceChoice, Opened};
use crate::error::{Error, Result};
use crate::input::hub;
use crate::kernel::Precision;
use crate::model::long::Long;
use crate::model::transformer::Gpu;
use crate::model::transformer::gpu::{Limits, PTX};
use crate::model::{Attentions, Ensemble, Likelihood, Member, Opened as Directory, Pooling, Steps, Wanted};
use crate::provenance::Step;

/// Rows of a batch whose contributions are wanted, unless the user says otherwise.
pub const ATTRIB_ROWS: usize = 32;

/// The number format of the arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16 (language models, and networks with deep convolutions: BPNet, SequentialCnn).
    Bf16,
    /// 16-bit floats.
    F16,
    /// Whole numbers of 8 bits (language models; less exact).
    Int8,
}

impl Dtype {
    /// Returns the numbers that layers multiply on the processor.
    fn precision(self) -> Result<Precision> {
        match self {
            Self::F32 => Ok(Precision::F32),
            Self::Bf16 => Ok(Precision::Bf16),
            Self::Int8 => Ok(Precision::Int8),
            Self::F16 => Err(Error::data("--dtype f16: the processor computes in f32, bf16 or int8")),
        }
    }

    /// Returns the numbers of weights and activations on a GPU.
    fn number(self) -> Result<Number> {
        match self {
            Self::F32 => Ok(Number::F32),
            Self::Bf16 => Ok(Number::Bf16),
            Self::F16 => Ok(Number::F16),
            Self::Int8 => Err(Error::data("--dtype int8: a GPU computes in f32, bf16 or f16")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }
}

/// Flags that choose models and how they run.
#[derive(clap::Args, Clone, Debug)]
pub struct ModelArgs {
    /// Model directory, or hf://ORG/NAME@REVISION from the Hugging Face cache; several make an ensemble (the
    /// mean of their logits, and of their probabilities)
    #[arg(long, value_name = "DIR", required = true)]
    pub model: Vec<PathBuf>,
    /// LoRA adapter (a PEFT directory) to merge into the model: one for each --model in their order, or one for all
    #[arg(long, value_name = "DIR")]
    pub adapter: Vec<PathBuf>,
    /// Average every answer over the sequence and its reverse complement
    #[arg(long)]
    pub rc_average: bool,
    /// Fail on the first result that is infinite or not a number, rather than mark its row
    #[arg(long)]
    pub strict: bool,
    /// Number format of the arithmetic; on a GPU f32, bf16 or f16
    #[arg(long, value_enum, value_name = "TYPE", default_value_t)]
    pub dtype: Dtype,
    #[command(flatten)]
    device: DeviceArg,
}

impl ModelArgs {
    /// Loads the models.
    ///
    /// # Errors
    ///
    /// When a directory is no model, the models do not fit together, or the device or number format is
    /// not to be had.
    pub fn load(&self) -> Result<Arc<Ensemble>> {
        self.load_for(Wanted::default(), None)
    }

    /// Loads the models, to be asked for what is `wanted`; rows longer than a model are read in `windows`.
    ///
    /// # Errors
    ///
    /// As [`ModelArgs::load`], and when a model cannot give what is wanted.
    pub fn load_for(&self, wanted: Wanted, windows: Option<Windows>) -> Result<Arc<Ensemble>> {
        let place = self.place()?;
        let adapters = match self.adapter.len() {
            0 => vec![None; self.model.len()],
            1 => vec![self.adapter.first(); self.model.len()],
            count if count == self.model.len() => self.adapter.iter().map(Some).collect(),
            count => {
                let models = self.model.len();
                let message =
                    format!("{count} --adapter for {models} --model: give one for each, or one for all");
                return Err(Error::usage(message));
            }
        };
        let members = self.model.iter().zip(adapters);
        let members = members
            .map(|(model, adapter)| in_windows(load(model, adapter, &place)?, windows))
            .collect::<Result<_>>()?;
        Ok(Arc::new(Ensemble::new(members, self.rc_average, wanted)?))
    }

    /// Returns the rows of a batch, unless the user says otherwise: for a GPU so many that a batch fills it several
    /// times over, because it waits between batches.
    pub fn rows(&self) -> usize {
        if matches!(self.device.device, DeviceChoice::Cuda(_)) { 4096 } else { 256 }
    }

    /// Opens the device.
    fn place(&self) -> Result<Place> {
        let gpu = match self.device.device.open()? {
            Opened::Cpu => None,
            Opened::Cuda(cuda) => {
                let number = self.dtype.number()?;
                Some(Gpu { backend: Arc::new(cuda.backend(PTX)?), number, limits: Limits::default() })
            }
        };
        let precision = if gpu.is_some() { Precision::F32 } else { self.dtype.precision()? };
        Ok(Place { gpu, precision })
    }

    /// Starts the record of this process with the models in it.
    pub fn step(&self, common: &Common, models: &Ensemble) -> Step {
        Step {
            model: Some(models.provenance()),
            device: Some(match self.device.device {
                DeviceChoice::Auto => "cpu".into(),
                named => named.to_string(),
            }),
            dtype: Some(self.dtype.name().into()),
            ..common.step()
        }
    }
}

/// Where models run, and in what numbers.
struct Place {
    gpu: Option<Gpu>,
    /// On the processor.
    precision: Precision,
}

/// Loads one model with its adapter. Its name tells both, and what may be wrong with them.
fn load(model: &Path, adapter: Option<&PathBuf>, place: &Place) -> Result<Member> {
    let located = hub::locate(model)?;
    let mut opened = Directory::read(&located.path)?;
    let mut name = located.name.clone();
    if let Some(adapter) = adapter {
        let adapter = hub::locate(adapter)?;
        opened = opened.adapt(&adapter.path, located.base_name())?;
        name = format!("{name} with adapter {}", adapter.name);
        for doubt in &opened.doubts {
            name = format!("{name} ({doubt})");
        }
    }
    Ok(Member { name, loaded: opened.build_on(&Device::Cpu, place.precision, place.gpu.as_ref())? })
}

/// Lets a model read long rows in windows, if it is to.
fn in_windows(mut member: Member, windows: Option<Windows>) -> Result<Member> {
    if let Some(Windows { overlap }) = windows {
        let long = Long::new(member.loaded.model, overlap)?;
        member.name = format!("{} in {}", member.name, long.describe());
        member.loaded.model = Box::new(long);
    }
    Ok(member)
}

/// How rows longer than a model are read: in windows that overlap by half of one, unless this says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Bases, or tokens of a language model.
    pub overlap: Option<usize>,
}

/// How the hidden states of tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PoolingArg {
    /// That of the first token.
    Cls,
    /// The mean over all tokens, specials too.
    Mean,
    /// The mean over tokens that are no specials.
    Bases,
    /// That of the last token (of causal models, which has seen all others).
    Last,
    /// The model directory's own (a SentenceTransformer's), or the mean over all tokens.
    Own,
}

/// How the likelihood of a sequence is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LikelihoodArg {
    /// A pass for each token, which is masked: the pseudo-log-likelihood.
    Masked,
    /// One pass over the sequence as it is.
    Unmasked,
    /// Each token after those before it (of causal models).
    Causal,
}

/// Which attention probabilities are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AttentionsArg {
    /// What the first token attends to.
    Cls,
    /// What every token attends to.
    All,
}

/// What becomes of rows that are longer than the model reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LongArg {
    /// They get the status `too_long`, and nulls.
    #[default]
    Status,
    /// They are read in overlapping windows, the last flush with the end, whose answers are merged: the mean of
    /// logits, probabilities and embeddings over windows, and of each base's score over the windows that hold it.
    Windows,
}

/// Flags of what a model is asked for besides its classes.
#[derive(clap::Args, Clone, Debug)]
pub struct OutputArgs {
    /// Add the column `embedding` (language models)
    #[arg(long, value_enum, value_name = "POOLING")]
    pub embed: Option<PoolingArg>,
    /// Add the log-likelihood of every token in `likelihoods` and their sum in `log_likelihood` (language models)
    #[arg(long, value_enum, value_name = "HOW")]
    pub likelihood: Option<LikelihoodArg>,
    /// Add attention probabilities in `attentions`, as layers, heads, tokens (language models)
    #[arg(long, value_enum, value_name = "OF")]
    pub attentions: Option<AttentionsArg>,
    /// Layers whose attentions are written, from 0 and by comma (default: all)
    #[arg(long, value_name = "LAYER", value_delimiter = ',', requires = "attentions")]
    pub layers: Vec<usize>,
    /// What becomes of rows that are longer than the model reads; shorter ones are `too_short` in any case
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub long: LongArg,
    /// Bases (of a language model: tokens) that neighbouring windows share (default: half a window)
    #[arg(long, value_name = "N")]
    pub overlap: Option<usize>,
}

impl OutputArgs {
    /// Returns what a model is asked for.
    pub fn wanted(&self) -> Wanted {
        Wanted {
            embedding: self.embed.map(|pooling| match pooling {
                PoolingArg::Cls => Pooling::Cls,
                PoolingArg::Mean => Pooling::Mean,
                PoolingArg::Bases => Pooling::MeanOfBases,
                PoolingArg::Last => Pooling::Last,
                PoolingArg::Own => Pooling::Own,
            }),
            likelihood: self.likelihood.map(|likelihood| match likelihood {
                LikelihoodArg::Masked => Likelihood::Masked,
                LikelihoodArg::Unmasked => Likelihood::Unmasked,
                LikelihoodArg::Causal => Likelihood::Causal,
            }),
            attentions: self.attentions.map(|attentions| match attentions {
                AttentionsArg::Cls => Attentions::Cls,
                AttentionsArg::All => Attentions::All,
            }),
            layers: self.layers.clone(),
            logits_only: false,
        }
    }

    /// Returns the windows of long rows, when they are to be read.
    ///
    /// # Errors
    ///
    /// When there is an overlap of windows without windows.
    pub fn windows(&self) -> Result<Option<Windows>> {
        match (self.long, self.overlap) {
            (LongArg::Windows, overlap) => Ok(Some(Windows { overlap })),
            (LongArg::Status, None) => Ok(None),
            (LongArg::Status, Some(_)) => Err(Error::usage("--overlap is of windows: add --long windows")),
        }
    }
}

/// What mutagenesis compares a mutated logit with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CenterArg {
    /// The mean over the four bases at that position.
    #[default]
    Mean,
    /// The sequence as it is.
    Reference,
}

/// Which columns of contributions are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColumnsArg {
    /// `contributions`: one number per base, of the observed base.
    Projected,
    /// `hypothetical`: four numbers per base.
    Hypothetical,
    /// Both.
    #[default]
    Both,
}

/// Flags of attribution; the command has the argument `method` beside them.
#[derive(clap::Args, Clone, Debug)]
pub struct AttribArgs {
    /// The class to explain: its name, or its index from 0. `all` is for models with one class
    #[arg(long, value_name = "CLASS", default_value = "0", requires = "method")]
    pub target: String,
    /// What mutagenesis compares a mutant with: the mean of the four bases, or the sequence as it is
    #[arg(long, value_enum, value_name = "CENTER", default_value_t, requires = "method")]
    pub ism_center: CenterArg,
    /// Columns to write: of the observed base (projected), of all four bases (hypothetical), or both
    #[arg(long = "contributions", value_enum, value_name = "COLUMNS", default_value_t, requires = "method")]
    pub columns: ColumnsArg,
    /// What ig and deeplift compare a sequence with: zero (for language models all tokens masked), or shuffle:N, exact dinucleotide shuffles of the
    /// sequence itself that depend on it and --seed alone (default: zero for ig, shuffle:20 for deeplift)
    #[arg(long, value_name = "BACKGROUND", requires = "method")]
    pub background: Option<BackgroundArg>,
    /// Steps of ig; they are tripled while the completeness error is beyond --tolerance
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = 50, requires = "method")]
    pub steps: u32,
    /// The most steps of ig
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = 4050, requires = "method")]
    pub max_steps: u32,
    /// What part of the difference between sequence and background the contributions may miss; rows beyond are
    /// not `converged`, and an error with --strict
    #[arg(long, value_name = "PART", default_value_t = 1e-4, requires = "method")]
    pub tolerance: f64,
    /// Heads whose attention is read, from 0 and by comma (default: all)
    #[arg(long, value_name = "HEAD", value_delimiter = ',', requires = "method")]
    pub heads: Vec<usize>,
    /// How attention to tokens becomes attention to bases (default: dnabert for k-mers, nyxbind for other tokens)
    #[arg(long, value_enum, value_name = "RULE", requires = "method")]
    pub attention_rule: Option<RuleArg>,
}

/// How attention to tokens becomes attention to bases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RuleArg {
    /// Heads and layers are summed, a base has the mean over the k-mers that cover it, the row is divided by its L2
    /// norm.
    Dnabert,
    /// Heads and layers are averaged, a token's attention is shared among its bases, the row is standardized.
    Nyxbind,
}

/// What a sequence is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackgroundArg {
    /// No base anywhere.
    Zero,
    /// So many shuffles.
    Shuffle(usize),
}

impl FromStr for BackgroundArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = |text: &str| text.parse().ok().filter(|&count| count > 0);
        match text.split_once(':') {
            None if text == "zero" => Ok(Self::Zero),
            Some(("shuffle", number)) if count(number).is_some() => {
                Ok(Self::Shuffle(count(number).expect("it was just read")))
            }
            _ => Err("write zero or shuffle:N".into()),
        }
    }
}

impl BackgroundArg {
    fn comparison(self, seed: u64) -> Comparison {
        match self {
            Self::Zero => Comparison::Zero,
            Self::Shuffle(count) => Comparison::Shuffles { count, seed },
        }
    }
}

/// What attribution takes from the flags of the command beside its own.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a> {
    /// `--strict`.
    pub strict: bool,
    /// `--seed`.
    pub seed: u64,
    /// `--layers`.
    pub layers: &'a [usize],
}

impl AttribArgs {
    /// Returns what to attribute, how, and what to write; `layers` are those whose attention is read.
    ///
    /// # Errors
    ///
    /// When the models have no such class.
    pub fn options(
        &self,
        method: Method,
        models: &Ensemble,
        Plain { strict, seed, layers }: Plain,
    ) -> Result<Options> {
        let center = match self.ism_center {
            CenterArg::Mean => Center::Mean,
            CenterArg::Reference => Center::Reference,
        };
        Ok(Options {
            method: if matches!(method, Method::Ism(_)) { Method::Ism(center) } else { method },
            // Attention is of the row, not of a class: a model without classes has it, too.
            class: if method.is_attention() { 0 } else { models.class(&self.target)? },
            columns: match self.columns {
                ColumnsArg::Projected => Columns::Projected,
                ColumnsArg::Hypothetical => Columns::Hypothetical,
                ColumnsArg::Both => Columns::Both,
            },
            strict,
            comparison: self.background.unwrap_or(usual_background(method)).comparison(seed),
            steps: Steps {
                first: self.steps as usize,
                most: self.max_steps.max(self.steps) as usize,
                tolerance: self.tolerance,
            },
            attention: Reading {
                layers: layers.to_vec(),
                heads: self.heads.clone(),
                rule: self.attention_rule.map(|rule| match rule {
                    RuleArg::Dnabert => Rule::Kmers,
                    RuleArg::Nyxbind => Rule::Tokens,
                }),
            },
        })
    }

    /// Says how complete contributions are, if the method promises it.
    pub fn say(&self, common: &Common, completeness: &Completeness) {
        if let Some(words) = completeness.describe() {
            common.say(&words);
        }
    }
}

/// Returns what a method compares sequences with, unless the user says otherwise.
fn usual_background(method: Method) -> BackgroundArg {
    if method == Method::DeepLift { BackgroundArg::Shuffle(20) } else { BackgroundArg::Zero }
}
