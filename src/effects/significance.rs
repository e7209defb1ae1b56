//! p- and q-values of a stream of effects against a null.
//!
//! p-values belong to a row and the null alone, so they are the same in every shard. q-values need all rows: shards
//! with p-values are merged first, and [`add_q_values`] counts the p-values of the merged stream.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, FixedSizeListArray, Float64Array, RecordBatch};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::null::{Null, Tally, exceeding_of, p_value};
use super::{DESCRIPTION_KEY, measure::Measure};
use crate::error::{Error, Result};
use crate::pipe::{Pipe, spool};
use crate::schema::{self, LABELS_KEY};

/// The column of p-values.
pub const P_VALUE: &str = "p_value";
/// The column of q-values.
pub const Q_VALUE: &str = "q_value";
/// Metadata key of [`P_VALUE`]: the column that is compared with the null.
pub const STATISTIC_KEY: &str = "statistic";
/// Metadata key of [`P_VALUE`]: how many numbers each null has, by comma.
const NULL_KEY: &str = "null";

/// Returns the column that is compared with a null unless the user says otherwise.
///
/// # Errors
///
/// When the stream has no effects.
pub fn default_statistic(schema: &Schema) -> Result<&'static str> {
    let preferred = [
        Measure::DeltaLogit,
        Measure::LogLikelihoodRatio,
        Measure::BaseDelta,
        Measure::ProfileDistance,
        Measure::EmbeddingCosine,
    ];
    let name = preferred.iter().map(|measure| measure.name()).find(|name| schema::has(schema, name));
    name.ok_or_else(|| {
        Error::data("the stream has no effects to compare with a null (nyx-effects makes them)")
    })
}

/// Collects the null of every number of `statistic` from a stream of effects of null rows.
///
/// # Errors
///
/// When the stream lacks the column, or has no number in it.
pub fn nulls(pipe: Pipe, statistic: &str) -> Result<Vec<Null>> {
    let (schema, batches) = pipe.into_parts();
    let size = size_of(&schema, statistic).map_err(|error| error.at("--null"))?;
    let mut values = vec![Vec::new(); size];
    for batch in batches {
        let batch = batch?;
        let lists = schema::fixed_lists(&batch, statistic)?;
        for row in (0..lists.len()).filter(|&row| lists.is_valid(row)) {
            for (values, &value) in values.iter_mut().zip(floats(lists, row)) {
                values.push(f64::from(value));
            }
        }
    }
    let nulls: Vec<Null> = values.into_iter().map(Null::new).collect();
    if nulls.iter().any(Null::is_empty) {
        return Err(
            Error::data(format!("no row has a number in `{statistic}`: there is no null")).at("--null")
        );
    }
    Ok(nulls)
}

/// Adds the p-values of `statistic`; two-sided, for its absolute value is compared.
///
/// # Errors
///
/// When the stream lacks the column, or there is not one null for each of its numbers.
pub fn add_p_values(pipe: Pipe, statistic: &str, nulls: Vec<Null>) -> Result<Pipe> {
    let size = size_of(pipe.schema(), statistic)?;
    if nulls.len() != size {
        return Err(Error::data(format!(
            "the null has {} numbers a row, `{statistic}` has {size}: make both with the same models and --target",
            nulls.len()
        )));
    }
    let sizes: Vec<String> = nulls.iter().map(|null| null.len().to_string()).collect();
    let description = format!("Empirical p-value of the size of {statistic}");
    let field = value_field(pipe.schema(), statistic, P_VALUE, &description)?;
    let field = with_metadata(with_metadata(field, STATISTIC_KEY, statistic), NULL_KEY, &sizes.join(","));
    let target = schema::with_field(pipe.schema(), field);
    let (schema, statistic) = (target.clone(), statistic.to_string());
    Ok(pipe.map(target, move |batch| {
        let lists = schema::fixed_lists(&batch, &statistic)?;
        let p_value = |number: usize, value: f32| match value.is_nan() {
            true => f64::NAN,
            false => p_value(nulls[number].exceeding(f64::from(value)), nulls[number].len()),
        };
        let of_row = |row| {
            floats(lists, row).iter().enumerate().map(|(number, &value)| p_value(number, value)).collect()
        };
        schema::with_columns(&batch, &schema, vec![(P_VALUE, double_lists(lists, size, of_row))])
    }))
}

/// Adds q-values to a stream with p-values. All rows are read, into an unnamed temporary file, before the first one
/// goes on; memory is bounded by the size of the null.
///
/// # Errors
///
/// When the stream has no p-values, and any error of the stream.
pub fn add_q_values(pipe: Pipe) -> Result<Pipe> {
    let sizes = null_sizes(pipe.schema())?;
    let mut tallies: Vec<Tally> = sizes.iter().map(|&n| Tally::new(n)).collect();
    let pipe = spool::through_file(pipe, |batch| {
        let lists = schema::fixed_lists(batch, P_VALUE)?;
        for row in (0..lists.len()).filter(|&row| lists.is_valid(row)) {
            for ((tally, &n), &p) in tallies.iter_mut().zip(&sizes).zip(doubles(lists, row)) {
                if !p.is_nan() {
                    tally.add(exceeding_of(p, n));
                }
            }
        }
        Ok(())
    })?;
    let q_values: Vec<Vec<f64>> = tallies.iter().map(Tally::q_values).collect();
    let field = value_field(pipe.schema(), P_VALUE, Q_VALUE, "Benjamini-Hochberg q-value over all rows")?;
    let target = schema::with_field(pipe.schema(), field);
    let schema = target.clone();
    Ok(pipe.map(target, move |batch| add_q_to_batch(&batch, &schema, &sizes, &q_values)))
}

fn add_q_to_batch(
    batch: &RecordBatch,
    target: &SchemaRef,
    sizes: &[usize],
    q_values: &[Vec<f64>],
) -> Result<RecordBatch> {
    let lists = schema::fixed_lists(batch, P_VALUE)?;
    let q_value = |(number, &p): (usize, &f64)| match p.is_nan() {
        true => f64::NAN,
        false => q_values[number][exceeding_of(p, sizes[number])],
    };
    let of_row = |row| doubles(lists, row).iter().enumerate().map(q_value).collect();
    schema::with_columns(batch, target, vec![(Q_VALUE, double_lists(lists, sizes.len(), of_row))])
}

/// Returns how many numbers a row has in the column `statistic`.
fn size_of(schema: &Schema, statistic: &str) -> Result<usize> {
    let field = schema.field_with_name(statistic).map_err(|_| {
        let numbers =
            schema.fields().iter().filter(|field| matches!(field.data_type(), DataType::FixedSizeList(..)));
        let names: Vec<_> = numbers.map(|field| field.name().as_str()).collect();
        Error::data(format!("the effects have no `{statistic}` (they have {})", names.join(", ")))
    })?;
    match field.data_type() {
        DataType::FixedSizeList(item, size) if *item.data_type() == DataType::Float32 => Ok(*size as usize),
        other => Err(Error::data(format!("`{statistic}` is {other}, not a list of numbers"))),
    }
}

fn null_sizes(schema: &Schema) -> Result<Vec<usize>> {
    let missing = || Error::data("the stream has no p-values: give --null where the effects are made");
    let field = schema.field_with_name(P_VALUE).map_err(|_| missing())?;
    let sizes = field.metadata().get(NULL_KEY).ok_or_else(missing)?;
    sizes.split(',').map(|size| size.parse().map_err(|_| missing())).collect()
}

/// Returns a field of doubles with the labels of another.
fn value_field(schema: &Schema, like: &str, name: &str, description: &str) -> Result<Field> {
    let like = schema.field_with_name(like)?;
    let DataType::FixedSizeList(_, size) = like.data_type() else {
        return Err(Error::data(format!("`{}` is no list", like.name())));
    };
    let kind = DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float64, false)), *size);
    let field = with_metadata(Field::new(name, kind, true), DESCRIPTION_KEY, description);
    let labels = like.metadata().get(LABELS_KEY).cloned().unwrap_or_default();
    Ok(with_metadata(field, LABELS_KEY, &labels))
}

fn with_metadata(field: Field, key: &str, value: &str) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(key.to_string(), value.to_string());
    field.with_metadata(metadata)
}

fn floats(lists: &FixedSizeListArray, row: usize) -> &[f32] {
    &lists.values().as_primitive::<Float32Type>().values()
        [lists.value_offset_at(row)..lists.value_offset_at(row + 1)]
}

fn doubles(lists: &FixedSizeListArray, row: usize) -> &[f64] {
    &lists.values().as_primitive::<Float64Type>().values()
        [lists.value_offset_at(row)..lists.value_offset_at(row + 1)]
}

/// Makes lists of `size` doubles where `like` has any.
fn double_lists(like: &FixedSizeListArray, size: usize, of_row: impl Fn(usize) -> Vec<f64>) -> ArrayRef {
    let mut values = Vec::with_capacity(like.len() * size);
    for row in 0..like.len() {
        match like.is_valid(row) {
            true => values.extend(of_row(row)),
            false => values.resize(values.len() + size, 0.0),
        }
    }
    let valid = NullBuffer::from_iter((0..like.len()).map(|row| like.is_valid(row)));
    let item = Arc::new(Field::new("item", DataType::Float64, false));
    Arc::new(FixedSizeListArray::new(item, size as i32, Arc::new(Float64Array::from(values)), Some(valid)))
}
