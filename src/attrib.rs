//! Stage: rows → per-base contributions to one logit.
//!
//! | method | `hypothetical[b, i]` | `contributions[i]`, observed base o | `delta` |
//! |---|---|---|---|
//! | `ism`, mean | f(x with b at i) − mean over b′ of f(x with b′ at i) | hypothetical[o, i] | null |
//! | `ism`, reference | f(x with b at i) − f(x) | f(x) − mean over b ≠ o of f(x with b at i) | null |
//! | `saliency` | abs ∂f/∂x[i, b] | hypothetical[o, i] | null |
//! | `gradxinput` | ∂f/∂x[i, b] | hypothetical[o, i] | abs(Σ contributions − (f(x) − f(0))) |
//! | `ig`, `deeplift` | mean over r of Σ over b′ of m[i, b′] · ((1 if b′ = b) − r[i, b′]) | hypothetical[o, i] | abs(Σ contributions − (f(x) − mean of f(r))) |
//!
//! m are the multipliers of integrated gradients (the mean gradient on the straight path from r to x) or of
//! DeepLIFT ([`crate::kernel::rule`] has its rules), r the backgrounds: zeros, or dinucleotide shuffles of the
//! sequence, which depend on the sequence and the seed alone. A row has `converged` when `delta` is at most the
//! tolerance times abs(f(x) − mean of f(r)).
//!
//! f is the logit of one class, the mean over the models and strands of an [`Ensemble`]; f(0) is that of
//! the all-zero encoding. Where the sequence has `N` all numbers are 0 and nothing is mutated. Saliency is
//! the absolute gradient as Captum has it; the mean-centred mutagenesis is what TF-MoDISco and Fi-NeMo
//! read as hypothetical contributions.

mod completeness;
mod gradient;
mod ism;
mod shared;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float32Array, RecordBatch};
use arrow_schema::{DataType, Field, SchemaRef};

use crate::dna;
use crate::error::{Error, Result};
use crate::model::{Ensemble, Steps, Way};
use crate::pipe::Pipe;
use crate::schema::{self, Rows, Status};

pub use completeness::Completeness;

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
    /// Integrated gradients.
    IntegratedGradients,
    /// DeepLIFT with the rescale rule; of several backgrounds the mean (DeepSHAP).
    DeepLift,
}

impl Method {
    /// Returns whether the contributions are to share out a difference, and so have a completeness error that
    /// tells whether they do.
    pub fn is_complete(self) -> bool {
        matches!(self, Self::IntegratedGradients | Self::DeepLift)
    }
}

/// What a sequence is compared with by the methods that share out a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// No base anywhere.
    Zero,
    /// Dinucleotide shuffles of the sequence itself.
    Shuffles {
        /// How many.
        count: usize,
        /// Their seed.
        seed: u64,
    },
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ism" => Ok(Self::Ism(Center::Mean)),
            "saliency" => Ok(Self::Saliency),
            "gradxinput" => Ok(Self::GradientInput),
            "ig" => Ok(Self::IntegratedGradients),
            "deeplift" => Ok(Self::DeepLift),
            _ => Err("write ism, saliency, gradxinput, ig or deeplift".into()),
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
            Self::IntegratedGradients => "ig",
            Self::DeepLift => "deeplift",
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
    /// Whether that error is within the tolerance, where there is one.
    pub converged: Option<bool>,
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
    /// Whether a result that is not finite, or not complete where it should be, is an error.
    pub strict: bool,
    /// What sequences are compared with, where the method does.
    pub comparison: Comparison,
    /// The steps of integrated gradients; their tolerance is that of every method that has one.
    pub steps: Steps,
}

impl Options {
    /// Returns the plainest attribution of a class: all columns, compared with zeros.
    pub fn new(method: Method, class: usize) -> Self {
        Self {
            method,
            class,
            columns: Columns::Both,
            strict: false,
            comparison: Comparison::Zero,
            steps: Steps { first: 50, most: 4050, tolerance: 1e-4 },
        }
    }
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

/// Attributes the logit of a class of every sequence, in order.
///
/// # Errors
///
/// When a model cannot be differentiated and the method needs it.
pub fn attribute(models: &Ensemble, sequences: &[&[u8]], options: Options) -> Result<Vec<Attribution>> {
    let Options { class, comparison, steps, .. } = options;
    let shared = |way| shared::attribute(models, sequences, class, comparison, way, steps.tolerance);
    match options.method {
        Method::Ism(center) => ism::attribute(models, sequences, class, center),
        Method::Saliency => gradient::attribute(models, sequences, class, gradient::saliency),
        Method::GradientInput => gradient::attribute(models, sequences, class, gradient::gradient_input),
        Method::IntegratedGradients => shared(Way::IntegratedGradients(steps)),
        Method::DeepLift => shared(Way::DeepLift),
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
    target = add(&target, schema::DELTA, DataType::Float32);
    if options.method.is_complete() {
        target = add(&target, schema::CONVERGED, DataType::Boolean);
    }
    target
}

fn attrib_batch(
    batch: &RecordBatch,
    target: &SchemaRef,
    models: &Ensemble,
    options: Options,
) -> Result<RecordBatch> {
    let mut rows = Rows::select(batch, models.window())?;
    let answers = attribute(models, &rows.sequences(), options)?;
    rows.mark(&answers, options.strict, |answer| (!answer.is_finite()).then_some(Status::Nonfinite))?;
    if options.strict {
        refuse_incomplete(batch, &rows, &answers)?;
    }
    let statuses = rows.statuses();
    let delta = rows.spread(answers.iter().map(|answer| answer.delta)).into_iter().map(Option::flatten);
    let delta: ArrayRef = Arc::new(Float32Array::from_iter(delta));
    let converged =
        rows.spread(answers.iter().map(|answer| answer.converged)).into_iter().map(Option::flatten);
    let converged: ArrayRef = Arc::new(BooleanArray::from_iter(converged));
    let (hypothetical, contributions): (Vec<_>, Vec<_>) =
        answers.into_iter().map(|answer| (answer.hypothetical, answer.contributions)).unzip();
    let mut columns = vec![(schema::STATUS, statuses), (schema::DELTA, delta)];
    if options.method.is_complete() {
        columns.push((schema::CONVERGED, converged));
    }
    if options.columns != Columns::Hypothetical {
        columns.push((schema::CONTRIBUTIONS, schema::float_lists(&rows.spread(contributions))));
    }
    if options.columns != Columns::Projected {
        columns.push((schema::HYPOTHETICAL, schema::float_lists(&rows.spread(hypothetical))));
    }
    schema::with_columns(batch, target, columns)
}

/// Refuses a batch in which the contributions of a row do not share out what they should.
fn refuse_incomplete(batch: &RecordBatch, rows: &Rows, answers: &[Attribution]) -> Result<()> {
    match rows.places().zip(answers).find(|(_, answer)| answer.converged == Some(false)) {
        None => Ok(()),
        Some((row, answer)) => {
            let delta = answer.delta.unwrap_or(f32::NAN);
            let message = format!(
                "the contributions miss the difference by {delta:e}, and --strict was given: raise --max-steps or \
                 --tolerance"
            );
            Err(Error::data(message).at(schema::describe(batch, row)))
        }
    }
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
