//! The flags that choose models, and how they run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use clap::ValueEnum;

use super::{Common, DeviceArg};
use crate::device::backend::Number;
use crate::device::{DeviceChoice, Opened};
use crate::error::{Error, Result};
use crate::input::hub;
use crate::kernel::Precision;
use crate::model::long::Long;
use crate::model::transformer::Gpu;
use crate::model::transformer::gpu::Limits;
use crate::model::{Ensemble, Member, Opened as Directory, Wanted};
use crate::provenance::Step;

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
                Some(Gpu { backend: Arc::new(cuda.backend()?), number, limits: Limits::default() })
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
