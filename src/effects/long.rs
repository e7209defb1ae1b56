//! Effects in long form: a row for every model (or class) of every row.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, FixedSizeListArray, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::take::take;

use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::schema::{self, LABELS_KEY};

/// The column that names the model or class of a row.
pub const MODEL: &str = "model";

/// Gives every row as often as there are labels in its lists, with the number of that label in place of each list.
/// Where a list has no such label, or a row no number, it is null.
///
/// # Errors
///
/// When the stream has no labelled lists.
pub fn long(pipe: Pipe) -> Result<Pipe> {
    let mut labels: Vec<String> = Vec::new();
    for field in pipe.schema().fields().iter().filter(|field| is_labelled(field)) {
        for label in labels_of(field) {
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
    }
    if labels.is_empty() {
        return Err(Error::data("the stream has no effects (nyx-effects makes them)"));
    }
    let target = long_schema(pipe.schema());
    let schema = target.clone();
    Ok(pipe.map(target, move |batch| long_batch(&batch, &labels, &schema)))
}

fn is_labelled(field: &Field) -> bool {
    matches!(field.data_type(), DataType::FixedSizeList(..)) && field.metadata().contains_key(LABELS_KEY)
}

fn labels_of(field: &Field) -> Vec<String> {
    field
        .metadata()
        .get(LABELS_KEY)
        .map_or(Vec::new(), |labels| labels.split(',').map(String::from).collect())
}

fn long_schema(schema: &Schema) -> SchemaRef {
    let mut fields = Vec::new();
    let mut named = false;
    for field in schema.fields() {
        if !is_labelled(field) {
            fields.push(field.clone());
            continue;
        }
        if !named {
            fields.push(Arc::new(Field::new(MODEL, DataType::Utf8, false)));
            named = true;
        }
        let is_text = matches!(field.data_type(), DataType::FixedSizeList(item, _) if *item.data_type() == DataType::Utf8);
        let kind = if is_text { DataType::Utf8 } else { DataType::Float64 };
        fields.push(Arc::new(Field::new(field.name(), kind, true)));
    }
    Arc::new(Schema::new_with_metadata(fields, schema.metadata.clone()))
}

fn long_batch(batch: &RecordBatch, labels: &[String], target: &SchemaRef) -> Result<RecordBatch> {
    let rows = || (0..batch.num_rows()).flat_map(|row| (0..labels.len()).map(move |label| (row, label)));
    let taken = UInt32Array::from_iter_values(rows().map(|(row, _)| row as u32));
    let models: ArrayRef = Arc::new(StringArray::from_iter_values(rows().map(|(_, label)| &labels[label])));
    let mut columns = Vec::new();
    for field in target.fields() {
        if field.name() == MODEL {
            columns.push(models.clone());
            continue;
        }
        let source = batch.schema_ref().field_with_name(field.name())?;
        let column = schema::column(batch, field.name())?;
        columns.push(match is_labelled(source) {
            false => take(column, &taken, None)?,
            true => {
                let own = labels_of(source);
                let places: Vec<Option<usize>> =
                    labels.iter().map(|label| own.iter().position(|found| found == label)).collect();
                scalars(column.as_fixed_size_list(), rows().map(|(row, label)| Some((row, places[label]?))))
            }
        });
    }
    Ok(RecordBatch::try_new(target.clone(), columns)?)
}

/// Returns items of lists, each given by row and place.
fn scalars(lists: &FixedSizeListArray, items: impl Iterator<Item = Option<(usize, usize)>>) -> ArrayRef {
    let at = |item: Option<(usize, usize)>| {
        let (row, place) = item.filter(|&(row, _)| lists.is_valid(row))?;
        Some(lists.value_offset_at(row) + place)
    };
    let values = lists.values();
    if let Some(texts) = values.as_string_opt::<i32>() {
        let text = |item| at(item).filter(|&at| texts.is_valid(at)).map(|at| texts.value(at));
        return Arc::new(StringArray::from_iter(items.map(text)));
    }
    let number = |item| {
        let at = at(item)?;
        let number = match values.as_primitive_opt::<Float64Type>() {
            Some(doubles) => doubles.value(at),
            // The shortest decimal of the 32-bit number, and not that of the same number in 64 bits.
            None => values.as_primitive_opt::<Float32Type>()?.value(at).to_string().parse().ok()?,
        };
        (!number.is_nan()).then_some(number)
    };
    Arc::new(Float64Array::from_iter(items.map(number)))
}
