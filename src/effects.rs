//! Stage: scored allele rows → effects, one row for every alternate allele.
//!
//! The rows of a `region` are one group: the reference row (`allele` 0 and no `haplotype`) first, then its alternates,
//! single variants of haplotypes, and haplotypes. Every row but the reference becomes one row with what [`measure`] has to say about it and the reference. Scores of several
//! streams are joined: streams of one name are folds of a model, whose effects are averaged (and get a standard
//! deviation, `…_sd`); streams of different names are different models, side by side in every column.
//!
//! A haplotype whose variants are in the group one by one (`applied` names them) has `epistasis`, its effect minus the
//! sum of theirs. Base scores are not compared for haplotypes, whose indels move the bases.
//!
//! A column of effects is a list of fixed size, with one number a class (or one a model); the names are in the
//! field's metadata as `labels`. Where one of the models has no number it is NaN, where none has the row is null.
//!
//! | status | the row |
//! |---|---|
//! | `no_reference` | its group has no reference row |
//! | `unscored` | it or the reference row has no scores |
//! | any other than `ok` | is what the allele row had, or else the reference row |
//!
//! [`significance`] adds p- and q-values, [`annotation`] what is near, [`hit_changes`] motif hits gained and lost,
//! and [`shuffled`] makes the rows of a null.

pub mod annotation;
pub mod hit_changes;
mod layout;
mod lockstep;
pub mod long;
pub mod measure;
pub mod null;
mod scored;
pub mod shards;
pub mod shuffled;
pub mod significance;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, StringBuilder};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, UInt16Array, UInt32Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::take::take;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::provenance::KIND_KEY;
use crate::schema::{
    self, ALLELE, ALT, APPLIED, CHROM, HAPLOTYPE, LABELS_KEY, POS, REF, REGION, START, STATUS, STRAND, Status,
};
use layout::{Column, Layout, Part};
use lockstep::Lockstep;
use measure::{Call, Window};
use scored::Scored;

/// What the rows of a stream of effects are, in its metadata.
pub const KIND: &str = "effects";
/// The column of calls.
pub const CALL: &str = "call";
/// The column of what a haplotype does beyond the sum of its variants.
pub const EPISTASIS: &str = "epistasis";
/// The column of the reference window.
pub const REF_SEQUENCE: &str = "ref_sequence";
/// The column of the alternate window.
pub const ALT_SEQUENCE: &str = "alt_sequence";
/// Metadata key of a field: what it is, in a line.
pub const DESCRIPTION_KEY: &str = "description";

/// Columns that belong to a window and not to a comparison of two.
const WINDOW_COLUMNS: [&str; 16] = [
    schema::SEQUENCE,
    schema::SECOND,
    schema::INPUT_IDS,
    schema::TOKEN_START,
    schema::TOKEN_END,
    schema::LOGITS,
    schema::PROBS,
    schema::EMBEDDING,
    schema::BASE_SCORES,
    schema::LIKELIHOODS,
    schema::LOG_LIKELIHOOD,
    schema::ATTENTIONS,
    schema::PROFILE,
    schema::CONTRIBUTIONS,
    schema::HYPOTHETICAL,
    schema::DELTA,
];

/// A scored stream and the model that scored it.
pub struct Source {
    /// Name of the model; streams of the same name are its folds.
    pub name: String,
    /// Allele rows with scores.
    pub pipe: Pipe,
}

/// What to compare, and what to call a change.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Classes by name or by index from 0; empty for all.
    pub targets: Vec<String>,
    /// What a loss falls below and a gain rises to: of probabilities, or of logits where there are none. Without it
    /// only probabilities are called, at 0.5.
    pub threshold: Option<f64>,
    /// Smallest change of the same that is a loss or a gain.
    pub change: f64,
    /// Whether both windows go on with the row, in [`REF_SEQUENCE`] and [`ALT_SEQUENCE`].
    pub sequences: bool,
}

/// Compares every alternate allele with its reference.
///
/// # Errors
///
/// When there is no stream, one lacks identity or scores, folds differ in their scores, or a target is unknown; in
/// the batches, when the streams are not of the same rows or rows of a group are not together.
pub fn effects(sources: Vec<Source>, options: Options) -> Result<Pipe> {
    let schemas = sources.iter().map(check).collect::<Result<Vec<_>>>()?;
    let first = schemas.first().ok_or_else(|| Error::usage("no stream to compare"))?;
    let layout = Layout::new(&sources, &options)?;
    if options.sequences {
        schema::require(first, schema::SEQUENCE, &DataType::Utf8)?;
    }
    let target = target_schema(first, &layout, options.sequences);
    let schema = target.clone();
    let named = sources.into_iter().zip(1..).map(|(source, number)| {
        let name = if source.name.is_empty() { "the stream".into() } else { source.name };
        (format!("{name} (input {number})"), source.pipe)
    });
    let compare = move |batches: Result<Vec<RecordBatch>>| compare(&batches?, &layout, &schema);
    Ok(Pipe::new(target, Lockstep::new(named.collect()).map(compare)))
}

/// Checks that a stream has alleles, and the same reference as all.
fn check(source: &Source) -> Result<SchemaRef> {
    let schema = source.pipe.schema();
    for (name, kind) in [
        (REGION, DataType::UInt64),
        (CHROM, DataType::Utf8),
        (START, DataType::Int64),
        (STRAND, DataType::Utf8),
        (POS, DataType::Int64),
        (REF, DataType::Utf8),
        (ALT, DataType::Utf8),
        (ALLELE, DataType::UInt16),
        (STATUS, DataType::Utf8),
    ] {
        schema::require(schema, name, &kind).map_err(|error| {
            Error::data(format!("{error}: effects are of allele rows (nyx-extract variants makes them)"))
        })?;
    }
    Ok(schema.clone())
}

fn target_schema(input: &Schema, layout: &Layout, sequences: bool) -> SchemaRef {
    let own: Vec<String> =
        layout.all_columns().flat_map(Column::fields).map(|field| field.name().clone()).collect();
    let kept = input.fields().iter().filter(|field| {
        let name = field.name();
        !WINDOW_COLUMNS.contains(&name.as_str()) && name != CALL && !own.contains(name)
    });
    let mut schema = Arc::new(Schema::new_with_metadata(
        kept.cloned().collect::<Vec<_>>(),
        input.metadata.clone().with(KIND_KEY, KIND),
    ));
    for name in [REF_SEQUENCE, ALT_SEQUENCE].into_iter().filter(|_| sequences) {
        schema = schema::with_field(&schema, Field::new(name, DataType::Utf8, true));
    }
    for field in layout.all_columns().flat_map(Column::fields) {
        schema = schema::with_field(&schema, field);
    }
    if let Some(calls) = &layout.calls {
        let item = Field::new("item", DataType::Utf8, true);
        let kind = DataType::FixedSizeList(Arc::new(item), calls.parts.len() as i32);
        schema = schema::with_field(&schema, described(CALL, kind, &calls.labels, &calls.description));
    }
    schema
}

/// Returns a nullable field with names of its numbers and what it is.
fn described(name: &str, kind: DataType, labels: &[String], description: &str) -> Field {
    let metadata = [(LABELS_KEY, labels.join(",")), (DESCRIPTION_KEY, description.into())];
    Field::new(name, kind, true).with_metadata(metadata.map(|(key, value)| (key.to_string(), value)))
}

/// An alternate row and the rows it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    alternate: usize,
    /// The reference row of the group, if it has one.
    reference: Option<usize>,
    /// Of a haplotype the rows of its variants, when all are in the group.
    singles: Option<Vec<usize>>,
}

/// Returns the alternate rows of whole groups.
///
/// # Errors
///
/// When a reference row is not the first of its group.
fn pairs(batch: &RecordBatch) -> Result<Vec<Pair>> {
    let regions = schema::u64s(batch, REGION)?;
    let identity = Identity::of(batch)?;
    let mut pairs = Vec::with_capacity(batch.num_rows());
    let mut start = 0;
    for group in regions.values().chunk_by(|a, b| a == b) {
        let rows = start..start + group.len();
        start = rows.end;
        let reference = Some(rows.start).filter(|&row| identity.is_reference(row));
        let singles = identity.singles(rows.clone());
        for alternate in rows.skip(usize::from(reference.is_some())) {
            if identity.is_reference(alternate) {
                return Err(Error::data(format!(
                    "{} has a reference row after others of its rows: the reference has to come first, once",
                    schema::describe(batch, alternate)
                )));
            }
            pairs.push(Pair { alternate, reference, singles: identity.parts(alternate, &singles) });
        }
    }
    Ok(pairs)
}

/// What tells the rows of a group apart.
struct Identity<'b> {
    allele: &'b UInt16Array,
    haplotype: Option<&'b StringArray>,
    applied: Option<&'b StringArray>,
}

impl<'b> Identity<'b> {
    fn of(batch: &'b RecordBatch) -> Result<Self> {
        let optional =
            |name| schema::has(batch.schema_ref(), name).then(|| schema::strings(batch, name)).transpose();
        Ok(Self {
            allele: schema::u16s(batch, ALLELE)?,
            haplotype: optional(HAPLOTYPE)?,
            applied: optional(APPLIED)?,
        })
    }

    fn is_haplotype(&self, row: usize) -> bool {
        self.haplotype.is_some_and(|names| names.is_valid(row))
    }

    fn is_reference(&self, row: usize) -> bool {
        self.allele.value(row) == 0 && !self.is_haplotype(row)
    }

    /// Returns the rows of single variants among `rows`, by name.
    fn singles(&self, rows: Range<usize>) -> HashMap<&'b str, usize> {
        let Some(applied) = self.applied else { return HashMap::new() };
        let single =
            |row: &usize| !self.is_haplotype(*row) && !self.is_reference(*row) && applied.is_valid(*row);
        rows.rev().filter(single).map(|row| (applied.value(row), row)).collect()
    }

    /// Returns the rows of the variants of a haplotype.
    fn parts(&self, row: usize, singles: &HashMap<&str, usize>) -> Option<Vec<usize>> {
        let applied = self.applied.filter(|applied| self.is_haplotype(row) && applied.is_valid(row))?;
        let names = applied.value(row).split(';').filter(|name| !name.is_empty());
        names.map(|name| singles.get(name).copied()).collect()
    }
}

/// Compares the rows of one batch of every stream.
fn compare(batches: &[RecordBatch], layout: &Layout, target: &SchemaRef) -> Result<RecordBatch> {
    let first = &batches[0];
    let pairs = pairs(first)?;
    let scored = batches.iter().map(Scored::of).collect::<Result<Vec<_>>>()?;
    let rows: Vec<Effects> =
        pairs.par_iter().map(|pair| Effects::of(pair, &scored, layout)).collect::<Result<_>>()?;
    let taken = UInt32Array::from_iter_values(pairs.iter().map(|pair| pair.alternate as u32));
    let references = UInt32Array::from_iter(pairs.iter().map(|pair| pair.reference.map(|row| row as u32)));
    let mut columns = Vec::with_capacity(target.fields().len());
    let added = layout.all_columns().map(|column| column.fields().len()).sum::<usize>();
    let added = added + usize::from(layout.calls.is_some());
    for field in target.fields().iter().take(target.fields().len() - added) {
        columns.push(match field.name().as_str() {
            STATUS => statuses(batches, &pairs, &rows)?,
            REF_SEQUENCE => take(schema::column(first, schema::SEQUENCE)?, &references, None)?,
            ALT_SEQUENCE => take(schema::column(first, schema::SEQUENCE)?, &taken, None)?,
            name => take(schema::column(first, name)?, &taken, None)?,
        });
    }
    for (index, column) in layout.all_columns().enumerate() {
        let of = |row: &Effects| Some(row.columns[index].means.clone()).filter(|values| any(values));
        columns.push(schema::float_vectors(&rows.iter().map(of).collect::<Vec<_>>(), column.parts.len()));
        if column.has_spread {
            let of = |row: &Effects| Some(row.columns[index].spreads.clone()).filter(|values| any(values));
            columns.push(schema::float_vectors(&rows.iter().map(of).collect::<Vec<_>>(), column.parts.len()));
        }
    }
    if let Some(calls) = &layout.calls {
        columns.push(call_column(&rows, calls));
    }
    Ok(RecordBatch::try_new(target.clone(), columns)?)
}

fn any(values: &[f32]) -> bool {
    values.iter().any(|value| !value.is_nan())
}

/// The numbers of one row.
struct Effects {
    columns: Vec<Numbers>,
    /// `None` where there is nothing to call.
    calls: Vec<Option<Call>>,
    /// Whether every model scored both rows.
    scored: bool,
}

/// The numbers of one row in one column, in the order of its labels.
#[derive(Clone, Default)]
struct Numbers {
    means: Vec<f32>,
    spreads: Vec<f32>,
}

/// A reference and an alternate window in each of the streams.
type Windows<'b> = Vec<(Window<'b>, Window<'b>)>;

impl Effects {
    fn of(pair: &Pair, scored: &[Scored], layout: &Layout) -> Result<Self> {
        let windows = windows(pair.reference, pair.alternate, scored)?;
        let mut columns: Vec<Numbers> = layout
            .columns
            .iter()
            .map(|column| numbers(column, |part| layout.of_folds(part, &windows)))
            .collect();
        if let Some(column) = &layout.epistasis {
            columns.push(epistasis(pair, scored, layout, column, &windows)?);
        }
        let calls = layout.calls.as_ref().map_or(Vec::new(), |calls| {
            let mean = |measure, part: &Part| {
                let values = layout.of_folds(&Part { measure, ..*part }, &windows);
                (!values.is_empty()).then(|| measure::mean_and_spread(&values).0)
            };
            let call = |part: &Part| {
                let (reference, alternate) = part.measure.before_and_after();
                Some(Call::of(mean(reference, part)?, mean(alternate, part)?, calls.threshold, calls.change))
            };
            calls.parts.iter().map(call).collect()
        });
        let scored =
            windows.iter().all(|(reference, alternate)| reference.is_scored() && alternate.is_scored());
        Ok(Self { columns, calls, scored })
    }
}

fn windows<'b>(reference: Option<usize>, alternate: usize, scored: &[Scored<'b>]) -> Result<Windows<'b>> {
    let of = |scored: &Scored<'b>| match reference {
        Some(reference) => Ok((scored.window(reference, alternate)?, scored.window(alternate, alternate)?)),
        None => Ok((Window::default(), Window::default())),
    };
    scored.iter().map(of).collect()
}

/// Returns mean and spread over folds of every part of a column.
fn numbers(column: &Column, values: impl Fn(&Part) -> Vec<f64>) -> Numbers {
    let mut numbers = Numbers::default();
    for part in &column.parts {
        let values = values(part);
        let none = (f64::NAN, f64::NAN);
        let (mean, spread) = if values.is_empty() { none } else { measure::mean_and_spread(&values) };
        numbers.means.push(mean as f32);
        numbers.spreads.push(spread as f32);
    }
    numbers
}

/// Returns the effect of a haplotype minus the sum of those of its variants.
fn epistasis(
    pair: &Pair,
    scored: &[Scored],
    layout: &Layout,
    column: &Column,
    joint: &Windows,
) -> Result<Numbers> {
    let Some(singles) = &pair.singles else { return Ok(numbers(column, |_| Vec::new())) };
    let singles = singles.iter().map(|&single| windows(pair.reference, single, scored));
    let singles = singles.collect::<Result<Vec<_>>>()?;
    Ok(numbers(column, |part| {
        let mut values = layout.of_folds(part, joint);
        for single in &singles {
            let of_single = layout.of_folds(part, single);
            // Without one of its variants there is no sum.
            values.truncate(of_single.len());
            values.iter_mut().zip(of_single).for_each(|(value, single)| *value -= single);
        }
        values
    }))
}

/// Returns every row's status: the first that is not `ok` of its own in any stream, its reference's, and what is
/// missing.
fn statuses(batches: &[RecordBatch], pairs: &[Pair], rows: &[Effects]) -> Result<ArrayRef> {
    let columns = batches.iter().map(|batch| schema::strings(batch, STATUS)).collect::<Result<Vec<_>>>()?;
    let found = |row: usize| {
        columns.iter().map(|column| column.value(row)).find(|status| *status != Status::Ok.as_str())
    };
    let status = |(pair, effects): (&Pair, &Effects)| -> Cow<str> {
        let own = found(pair.alternate).or_else(|| pair.reference.and_then(found));
        let missing = match (pair.reference, effects.scored) {
            (None, _) => Status::NoReference,
            (Some(_), false) => Status::Unscored,
            (Some(_), true) => Status::Ok,
        };
        own.unwrap_or(missing.as_str()).to_string().into()
    };
    Ok(Arc::new(StringArray::from_iter_values(pairs.iter().zip(rows).map(status))))
}

fn call_column(rows: &[Effects], calls: &layout::Calls) -> ArrayRef {
    let mut builder = FixedSizeListBuilder::new(StringBuilder::new(), calls.parts.len() as i32)
        .with_field(Field::new("item", DataType::Utf8, true));
    for row in rows {
        row.calls.iter().for_each(|call| builder.values().append_option(call.map(Call::as_str)));
        builder.append(row.calls.iter().any(Option::is_some));
    }
    Arc::new(builder.finish())
}

#[cfg(test)]
mod tests;
