//! Stage: rows → predictions.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, SchemaRef};

use crate::error::{Error, Result};
use crate::model::{Ensemble, Scores};
use crate::pipe::Pipe;
use crate::schema::{self, Rows};

/// Metadata key of the profile's field: `tracks,length`.
pub const SHAPE_KEY: &str = "shape";

/// Adds the predictions of `models` to every row: `logits`, and `probs`, `base_scores` and `profile` where
/// the models have them. Rows the models cannot read have nulls, and their status says why.
///
/// # Errors
///
/// When the stream has no sequences; in the batches, when a result is not finite and `strict`.
pub fn score(pipe: Pipe, models: Arc<Ensemble>, strict: bool) -> Result<Pipe> {
    schema::require(pipe.schema(), schema::SEQUENCE, &DataType::Utf8)?;
    schema::require(pipe.schema(), schema::STATUS, &DataType::Utf8)?;
    let target = scored_schema(pipe.schema(), &models);
    Ok(pipe.map(target.clone(), move |batch| score_batch(&batch, &target, &models, strict)))
}

/// Leaves columns out of a pipe.
///
/// # Errors
///
/// When there is no such column, or every later stage needs it (`region`, `status`).
pub fn drop_columns(pipe: Pipe, names: &[String]) -> Result<Pipe> {
    if names.is_empty() {
        return Ok(pipe);
    }
    for name in names {
        if [schema::REGION, schema::STATUS].contains(&name.as_str()) {
            return Err(Error::usage(format!("--drop {name}: this column is the identity of a row")));
        }
        if !schema::has(pipe.schema(), name) {
            return Err(Error::usage(format!("--drop {name}: the stream has no such column")));
        }
    }
    let fields = pipe.schema().fields().iter();
    let keep: Vec<usize> = fields
        .enumerate()
        .filter(|(_, field)| !names.contains(field.name()))
        .map(|(index, _)| index)
        .collect();
    let target = Arc::new(pipe.schema().project(&keep)?);
    Ok(pipe.map(target, move |batch| Ok(batch.project(&keep)?)))
}

/// Returns the schema of scored rows.
fn scored_schema(schema: &SchemaRef, models: &Ensemble) -> SchemaRef {
    let outputs = models.outputs();
    let digest = models.digest();
    let labels = models.labels().join(",");
    let add = |schema: &SchemaRef, name: &str, kind: DataType, key: &str, value: &str| {
        let metadata = [(schema::DIGEST_KEY.to_string(), digest.clone()), (key.into(), value.into())];
        schema::with_field(schema, Field::new(name, kind, true).with_metadata(metadata))
    };
    let list = || schema::list_of(DataType::Float32);
    let mut target =
        add(schema, schema::LOGITS, schema::floats(outputs.classes), schema::LABELS_KEY, &labels);
    if outputs.probs {
        target = add(&target, schema::PROBS, schema::floats(outputs.classes), schema::LABELS_KEY, &labels);
    }
    if outputs.base_scores {
        target = add(&target, schema::BASE_SCORES, list(), schema::LABELS_KEY, &labels);
    }
    if let Some((tracks, length)) = outputs.profile {
        // Without a window the length follows the row's.
        let length = models.window().map_or("*".into(), |_| length.to_string());
        target = add(&target, schema::PROFILE, list(), SHAPE_KEY, &format!("{tracks},{length}"));
    }
    target
}

fn score_batch(
    batch: &RecordBatch,
    target: &SchemaRef,
    models: &Ensemble,
    strict: bool,
) -> Result<RecordBatch> {
    let mut rows = Rows::select(batch, models.window())?;
    let scores = models.predict(&rows.sequences())?;
    rows.check_finite(&scores, strict, Scores::is_finite)?;
    let outputs = models.outputs();
    let mut columns: Vec<(&str, ArrayRef)> = vec![(schema::STATUS, rows.statuses())];
    let mut scores = rows.spread(scores);
    let mut take = |part: fn(&mut Scores) -> Option<Vec<f32>>| -> Vec<Option<Vec<f32>>> {
        scores.iter_mut().map(|scores| scores.as_mut().and_then(part)).collect()
    };
    let logits = take(|scores| Some(std::mem::take(&mut scores.logits)));
    columns.push((schema::LOGITS, schema::float_vectors(&logits, outputs.classes)));
    if outputs.probs {
        let probs = take(|scores| scores.probs.take());
        columns.push((schema::PROBS, schema::float_vectors(&probs, outputs.classes)));
    }
    if outputs.base_scores {
        columns.push((schema::BASE_SCORES, schema::float_lists(&take(|scores| scores.base_scores.take()))));
    }
    if outputs.profile.is_some() {
        columns.push((schema::PROFILE, schema::float_lists(&take(|scores| scores.profile.take()))));
    }
    schema::with_columns(batch, target, columns)
}

#[cfg(test)]
pub(crate) mod tests;
