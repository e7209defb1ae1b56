//! The flags of commands that run models, and of attribution.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;

use super::{Common, DeviceArg};
use crate::attrib::{Center, Columns, Method, Options};
use crate::error::{Error, Result};
use crate::model;
use crate::model::{Ensemble, Member, Wanted};
use crate::provenance::Step;

/// Rows of a batch whose contributions are wanted, unless the user says otherwise.
pub const ATTRIB_ROWS: usize = 32;

/// The number format of the arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
    /// 16-bit floats.
    F16,
}

/// Flags that choose models and how they run.
#[derive(clap::Args, Clone, Debug)]
pub struct ModelArgs {
    /// Model directory; several make an ensemble (the mean of their logits, and of their probabilities)
    #[arg(long, value_name = "DIR", required = true)]
    pub model: Vec<PathBuf>,
    /// Average every answer over the sequence and its reverse complement
    #[arg(long)]
    pub rc_average: bool,
    /// Fail on the first result that is infinite or not a number, rather than mark its row
    #[arg(long)]
    pub strict: bool,
    /// Number format of the arithmetic
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
        if self.dtype != Dtype::F32 {
            return Err(Error::data("--dtype: this release computes in f32 only; leave the flag out"));
        }
        let device = self.device.device.candle()?;
        let load = |path: &PathBuf| -> Result<Member> {
            Ok(Member { name: name_of(path), loaded: model::load(path, &device)? })
        };
        let members = self.model.iter().map(load).collect::<Result<_>>()?;
        Ok(Arc::new(Ensemble::new(members, self.rc_average, Wanted::default())?))
    }

    /// Starts the record of this process with the models in it.
    pub fn step(&self, common: &Common, models: &Ensemble) -> Step {
        Step {
            model: Some(models.provenance()),
            device: Some("cpu".into()),
            dtype: Some("f32".into()),
            ..common.step()
        }
    }
}

/// Returns the last part of a path that is a name.
fn name_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
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
}

impl AttribArgs {
    /// Returns what to attribute, how, and what to write.
    ///
    /// # Errors
    ///
    /// When the models have no such class.
    pub fn options(&self, method: Method, models: &Ensemble, strict: bool) -> Result<Options> {
        let center = match self.ism_center {
            CenterArg::Mean => Center::Mean,
            CenterArg::Reference => Center::Reference,
        };
        Ok(Options {
            method: if matches!(method, Method::Ism(_)) { Method::Ism(center) } else { method },
            class: models.class(&self.target)?,
            columns: match self.columns {
                ColumnsArg::Projected => Columns::Projected,
                ColumnsArg::Hypothetical => Columns::Hypothetical,
                ColumnsArg::Both => Columns::Both,
            },
            strict,
        })
    }
}
