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
//! sequence, which depend on the sequence and the seed alone.
//!
//! Both share out the difference to rounding, integrated gradients too, by the chords of the steps of their path
//! ([`Way::IntegratedGradients`]): `delta` does not say how near they are to the integral. So the steps are tripled until
//! that changes little ([`Steps::settled`]), and a row has `converged` when `delta` is at most the tolerance times
//! abs(f(x) − mean of f(r)) and, of integrated gradients, the last tripling changed no more than that.
//!
//! `attention` and `rollout` are no contributions and have a column of their own: see [`attention`].
//!
//! Language models read tokens: saliency, gradxinput, ig and deeplift are of the embeddings of their tokens, shared out
//! to the bases they cover, and there are no hypothetical contributions: see [`tokens`].
//!
//! f is the logit of one class, the mean over the models and strands of an [`Ensemble`]; f(0) is that of
//! the all-zero encoding. Where the sequence has `N` all numbers are 0 and nothing is mutated. Saliency is
//! the absolute gradient as Captum has it; the mean-centred mutagenesis is what TF-MoDISco and Fi-NeMo
//! read as hypothetical contributions.

pub mod attention;
mod completeness;
mod gradient;
mod ism;
mod shared;
mod tokens;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float32Array, RecordBatch};
use arrow_schema::{DataType, Field, SchemaRef};

use crate::dna;
use crate::error::{Error, Result};
use crate::model::{Ensemble, Misfit, Steps, Way};
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
    /// What the first token of a language model attends to.
    Attention,
    /// The same through all layers.
    Rollout,
}

impl Method {
    /// Returns whether the contributions are to share out a difference, and so have a completeness error that
    /// tells whether they do.
    pub fn is_complete(self) -> bool {
        matches!(self, Self::IntegratedGradients | Self::DeepLift)
    }

    /// Returns whether it reads attentions, and gives the column `attention` instead of contributions.
    pub fn is_attention(self) -> bool {
        matches!(self, Self::Attention | Self::Rollout)
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
            "attention" => Ok(Self::Attention),
            "rollout" => Ok(Self::Rollout),
            _ => Err("write ism, saliency, gradxinput, ig, deeplift, attention or rollout".into()),
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
            Self::Attention => "attention",
            Self::Rollout => "rollout",
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attribution {
    /// `[4, L]`, rows A C G T; empty for attention.
    pub hypothetical: Vec<f32>,
    /// `[L]`; attention where that is the method.
    pub contributions: Vec<f32>,
    /// Completeness error, where the method promises completeness.
    pub delta: Option<f32>,
    /// What part of the contributions changed when the steps of a path were last tripled, where the method promises
    /// completeness: 0 without a path, infinite where they were not tripled.
    pub change: Option<f32>,
    /// Whether that error is within the tolerance, and that change no larger than it may be, where there are such.
    pub converged: Option<bool>,
}

impl Attribution {
    /// Returns whether every number is finite.
    pub fn is_finite(&self) -> bool {
        self.hypothetical.iter().chain(&self.contributions).chain(&self.delta).all(|value| value.is_finite())
    }
}

/// What to attribute, how, and what to write of it.
#[derive(Clone, Debug)]
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
    /// The steps of integrated gradients; their tolerance is that of every method that shares out a difference.
    pub steps: Steps,
    /// Which attentions are read.
    pub attention: attention::Reading,
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
            steps: Steps::default(),
            attention: attention::Reading::default(),
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
    let target = attributed_schema(pipe.schema(), &models, &options);
    Ok(pipe.map(target.clone(), move |batch| attrib_batch(&batch, &target, &models, &options)))
}

/// Attributes the logit of a class of every sequence, in order. A language model may not fit some.
///
/// # Errors
///
/// When a model cannot be differentiated and the method needs it, or has no attentions.
pub fn attribute(
    models: &Ensemble,
    sequences: &[&[u8]],
    options: &Options,
) -> Result<Vec<Result<Attribution, Misfit>>> {
    if models.models().any(|model| model.reads_pairs()) {
        return Err(Error::usage(
            "the model reads pairs of sequences, and contributions are of one: score mutants of either \
             (nyx-extract mutate, nyx-score)",
        ));
    }
    if options.method.is_attention() {
        let rollout = options.method == Method::Rollout;
        return attention::attribute(models, sequences, &options.attention, rollout);
    }
    let misfits = models.misfits(sequences)?;
    let fitting = sequences.iter().zip(&misfits).filter(|(_, misfit)| misfit.is_none());
    let fitting: Vec<&[u8]> = fitting.map(|(&sequence, _)| sequence).collect();
    let mut attributions = contribute(models, &fitting, options)?.into_iter();
    let answer = |misfit: Option<Misfit>| match misfit {
        None => Ok(attributions.next().expect("one for each sequence that fits")),
        Some(misfit) => Err(misfit),
    };
    Ok(misfits.into_iter().map(answer).collect())
}

/// Finds the contributions of sequences that fit the models.
fn contribute(models: &Ensemble, sequences: &[&[u8]], options: &Options) -> Result<Vec<Attribution>> {
    let &Options { class, comparison, steps, .. } = options;
    if models.reads_tokens() && !matches!(options.method, Method::Ism(_)) {
        return tokens::attribute(models, sequences, options);
    }
    let shared = |way| shared::attribute(models, sequences, class, comparison, way, steps);
    match options.method {
        Method::Ism(center) => ism::attribute(models, sequences, class, center),
        Method::Saliency => gradient::attribute(models, sequences, class, gradient::saliency),
        Method::GradientInput => gradient::attribute(models, sequences, class, gradient::gradient_input),
        Method::IntegratedGradients => shared(Way::IntegratedGradients(steps)),
        Method::DeepLift => shared(Way::DeepLift),
        Method::Attention | Method::Rollout => Ok(Vec::new()),
    }
}

fn attributed_schema(schema: &SchemaRef, models: &Ensemble, options: &Options) -> SchemaRef {
    let mut metadata: std::collections::HashMap<String, String> = [
        (schema::METHOD_KEY.to_string(), options.method.to_string()),
        (schema::DIGEST_KEY.into(), models.digest()),
    ]
    .into();
    if !options.method.is_attention() {
        metadata.insert(TARGET_KEY.into(), models.labels()[options.class].clone());
    }
    let add = |schema: &SchemaRef, name: &str, kind: DataType| {
        schema::with_field(schema, Field::new(name, kind, true).with_metadata(metadata.clone()))
    };
    let floats = || schema::list_of(DataType::Float32);
    if options.method.is_attention() {
        return add(schema, schema::ATTENTION, floats());
    }
    let mut target = schema.clone();
    if options.columns != Columns::Hypothetical {
        target = add(&target, schema::CONTRIBUTIONS, floats());
    }
    if options.columns != Columns::Projected {
        target = add(&target, schema::HYPOTHETICAL, floats());
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
    options: &Options,
) -> Result<RecordBatch> {
    let mut rows = Rows::select(batch, models.window())?;
    let answers = attribute(models, &rows.sequences(), options)?;
    rows.mark(&answers, options.strict, status)?;
    if options.strict {
        refuse_incomplete(batch, &rows, &answers)?;
    }
    let statuses = rows.statuses();
    let mut answers: Vec<Option<Attribution>> =
        rows.spread(answers.into_iter().map(Result::ok)).into_iter().map(Option::flatten).collect();
    let mut take = |part: fn(&mut Attribution) -> &mut Vec<f32>| -> ArrayRef {
        let lists: Vec<Option<Vec<f32>>> = answers
            .iter_mut()
            .map(|answer| answer.as_mut().map(|answer| std::mem::take(part(answer))))
            .collect();
        // What a method has nothing of is null, not an empty list.
        let lists: Vec<_> = lists.into_iter().map(|list| list.filter(|list| !list.is_empty())).collect();
        schema::float_lists(&lists)
    };
    let observed = take(|answer| &mut answer.contributions);
    let mut columns = vec![(schema::STATUS, statuses)];
    if options.method.is_attention() {
        columns.push((schema::ATTENTION, observed));
        return schema::with_columns(batch, target, columns);
    }
    if options.columns != Columns::Hypothetical {
        columns.push((schema::CONTRIBUTIONS, observed));
    }
    if options.columns != Columns::Projected {
        columns.push((schema::HYPOTHETICAL, take(|answer| &mut answer.hypothetical)));
    }
    let deltas = answers.iter().map(|answer| answer.as_ref()?.delta);
    columns.push((schema::DELTA, Arc::new(Float32Array::from_iter(deltas))));
    if options.method.is_complete() {
        let converged = answers.iter().map(|answer| answer.as_ref()?.converged);
        columns.push((schema::CONVERGED, Arc::new(BooleanArray::from_iter(converged))));
    }
    schema::with_columns(batch, target, columns)
}

/// Returns the status that an answer gives its row, if any.
fn status(answer: &Result<Attribution, Misfit>) -> Option<Status> {
    match answer {
        Ok(attribution) => (!attribution.is_finite()).then_some(Status::Nonfinite),
        Err(Misfit::TooLong) => Some(Status::TooLong),
        Err(Misfit::TooShort) => Some(Status::TooShort),
    }
}

/// Refuses a batch in which the contributions of a row do not share out what they should.
fn refuse_incomplete(
    batch: &RecordBatch,
    rows: &Rows,
    answers: &[Result<Attribution, Misfit>],
) -> Result<()> {
    let mut answered =
        rows.places().zip(answers).filter_map(|(row, answer)| Some((row, answer.as_ref().ok()?)));
    match answered.find(|(_, answer)| answer.converged == Some(false)) {
        None => Ok(()),
        Some((row, answer)) => {
            let [delta, change] = [answer.delta, answer.change].map(|value| value.unwrap_or(f32::NAN));
            let message = format!(
                "the contributions miss the difference by {delta:e}, tripling the steps changed the part {change:.2e} of \
                 them, and --strict was given: raise --max-steps or --settled if that change is too much, --tolerance \
                 if the error is"
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
