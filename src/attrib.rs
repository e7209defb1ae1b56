//! Stage: rows → per-base contributions to one logit.
//!
//! | method | `hypothetical[b, i]` | `contributions[i]`, observed base o | `delta` |
//! |---|---|---|---|
//! | `ism`, mean | f(x with b at i) − mean over b′ of f(x with b′ at i) | hypothetical[o, i] | null |
//! | `ism`, reference | f(x with b at i) − f(x) | f(x) − mean over b ≠ o of f(x with b at i) | null |
//! | `saliency` | abs ∂f/∂x[i, b] | hypothetical[o, i] | null |
//! | `gradxinput` | ∂f/∂x[i, b] | hypothetical[o, i] | abs(Σ contributions − (f(x) − f(0))) |
//!
//! f is the logit of one class, the mean over the models and strands of an [`Ensemble`]; f(0) is that of
//! the all-zero encoding. Where the sequence has `N` all numbers are 0 and nothing is mutated. Saliency is
//! the absolute gradient as Captum has it; the mean-centred mutagenesis is what TF-MoDISco and Fi-NeMo
//! read as hypothetical contributions.

mod gradient;
mod ism;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, RecordBatch};
use arrow_schema::{DataType, Field, SchemaRef};

use crate::dna;
use crate::error::Result;
use crate::model::Ensemble;
use crate::pipe::Pipe;
use crate::schema::{self, Rows, Status};

/// Metadata key of a field: the class that was explained.
pub const TARGET_KEY: &str = "target";

/// What mutagenesis compares a mutated logit with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Center {
    /// The mean over the four bases at that position.
    #[default]
    Mean,
    /// The sequence as it is.
    Reference,
}

/// How a logit is attributed to bases. See the [module](self) for the formulas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// In-silico saturation mutagenesis: three mutants of every base.
    Ism(Center),
    /// Absolute gradient.
    Saliency,
    /// Gradient times input.
    GradientInput,
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ism" => Ok(Self::Ism(Center::Mean)),
            "saliency" => Ok(Self::Saliency),
            "gradxinput" => Ok(Self::GradientInput),
            _ => Err("write ism, saliency or gradxinput".into()),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Ism(Center::Mean) => "ism",
            Self::Ism(Center::Reference) => "ism-reference",
            Self::Saliency => "saliency",
            Self::GradientInput => "gradxinput",
        })
    }
}

/// Which columns of contributions are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// `contributions`.
    Projected,
    /// `hypothetical`.
    Hypothetical,
    /// Both.
    #[default]
    Both,
}

/// The contributions of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribution {
    /// `[4, L]`, rows A C G T.
    pub hypothetical: Vec<f32>,
    /// `[L]`.
    pub contributions: Vec<f32>,
    /// Completeness error, where the method promises completeness.
    pub delta: Option<f32>,
}

impl Attribution {
    /// Returns whether every number is finite.
    pub fn is_finite(&self) -> bool {
        self.hypothetical.iter().chain(&self.contributions).chain(&self.delta).all(|value| value.is_finite())
    }
}

/// What to attribute, how, and what to write of it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The method.
    pub method: Method,
    /// Index of the class whose logit is explained.
    pub class: usize,
    /// The columns to write.
    pub columns: Columns,
    /// Whether a result that is not finite is an error.
    pub strict: bool,
}

/// Adds contributions to every row. Rows the models cannot read have nulls, and their status says why.
///
/// # Errors
///
/// When the stream has no sequences; in the batches, when a model cannot be differentiated, or a result
/// is not finite and `strict`.
pub fn attrib(pipe: Pipe, models: Arc<Ensemble>, options: Options) -> Result<Pipe> {
    schema::require(pipe.schema(), schema::SEQUENCE, &DataType::Utf8)?;
    schema::require(pipe.schema(), schema::STATUS, &DataType::Utf8)?;
    let target = attributed_schema(pipe.schema(), &models, options);
    Ok(pipe.map(target.clone(), move |batch| attrib_batch(&batch, &target, &models, options)))
}

/// Attributes the logit of `class` of every sequence, in order.
pub fn attribute(
    models: &Ensemble,
    sequences: &[&[u8]],
    method: Method,
    class: usize,
) -> Result<Vec<Attribution>> {
    match method {
        Method::Ism(center) => ism::attribute(sequences, center, |mutants| models.logits(mutants, class)),
        Method::Saliency => gradient::attribute(models, sequences, class, gradient::saliency),
        Method::GradientInput => gradient::attribute(models, sequences, class, gradient::gradient_input),
    }
}

fn attributed_schema(schema: &SchemaRef, models: &Ensemble, options: Options) -> SchemaRef {
    let metadata = [
        (schema::METHOD_KEY.to_string(), options.method.to_string()),
        (schema::DIGEST_KEY.into(), models.digest()),
        (TARGET_KEY.into(), models.labels()[options.class].clone()),
    ];
    let add = |schema: &SchemaRef, name: &str, kind: DataType| {
        schema::with_field(schema, Field::new(name, kind, true).with_metadata(metadata.clone()))
    };
    let mut target = schema.clone();
    if options.columns != Columns::Hypothetical {
        target = add(&target, schema::CONTRIBUTIONS, schema::list_of(DataType::Float32));
    }
    if options.columns != Columns::Projected {
        target = add(&target, schema::HYPOTHETICAL, schema::list_of(DataType::Float32));
    }
    add(&target, schema::DELTA, DataType::Float32)
}

fn attrib_batch(
    batch: &RecordBatch,
    target: &SchemaRef,
    models: &Ensemble,
    options: Options,
) -> Result<RecordBatch> {
    let mut rows = Rows::select(batch, models.window())?;
    let answers = attribute(models, &rows.sequences(), options.method, options.class)?;
    rows.mark(&answers, options.strict, |answer| (!answer.is_finite()).then_some(Status::Nonfinite))?;
    let statuses = rows.statuses();
    let delta = rows.spread(answers.iter().map(|answer| answer.delta)).into_iter().map(Option::flatten);
    let delta: ArrayRef = Arc::new(Float32Array::from_iter(delta));
    let (hypothetical, contributions): (Vec<_>, Vec<_>) =
        answers.into_iter().map(|answer| (answer.hypothetical, answer.contributions)).unzip();
    let mut columns = vec![(schema::STATUS, statuses), (schema::DELTA, delta)];
    if options.columns != Columns::Hypothetical {
        columns.push((schema::CONTRIBUTIONS, schema::float_lists(&rows.spread(contributions))));
    }
    if options.columns != Columns::Projected {
        columns.push((schema::HYPOTHETICAL, schema::float_lists(&rows.spread(hypothetical))));
    }
    schema::with_columns(batch, target, columns)
}

/// Returns the values `[4, L]` of the observed bases, 0 at `N`.
fn project(sequence: &[u8], hypothetical: &[f32]) -> Vec<f32> {
    let observed = |(index, &base): (usize, &u8)| {
        dna::base_index(base).map_or(0.0, |base| hypothetical[base * sequence.len() + index])
    };
    sequence.iter().enumerate().map(observed).collect()
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod golden;
