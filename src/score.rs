//! Stage: rows → predictions.

pub mod reuse;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, ArrayRef, Float32Array, ListArray, RecordBatch};
use arrow_schema::{DataType, Field, SchemaRef};

use crate::error::{Error, Result};
use crate::model::{Answer, Attentions, Ensemble, Input, Misfit, Scores};
use crate::pipe::Pipe;
use crate::schema::{self, Rows, Status};
use reuse::{Counts, KEPT_FLOATS, Reuse};

/// Metadata key of the profile's field: `tracks,length`.
pub const SHAPE_KEY: &str = "shape";

/// Metadata key of the attentions' field: which layers they are of, from 0 and by comma, where not all were asked for.
pub const LAYERS_KEY: &str = "layers";

/// Adds what `models` are asked for to every row: `logits`, and `probs`, `base_scores`, `profile`, `embedding`,
/// `likelihoods` with their sum, and `attentions` where the models have them. Rows the models cannot read
/// have nulls, and their status says why. A language model reads the `input_ids` of the stream, if it has any.
///
/// # Errors
///
/// When the stream has no sequences, or tokens of another tokenizer; in the batches, when a result is not
/// finite and `strict`.
pub fn score(pipe: Pipe, models: Arc<Ensemble>, strict: bool) -> Result<Pipe> {
    Ok(score_with(pipe, models, strict, Reuse::new(KEPT_FLOATS))?.0)
}

/// Scores as [`score`] does, with the answers that `reuse` keeps; returns as well how many rows went through the
/// models.
///
/// # Errors
///
/// As [`score`].
pub fn score_with(
    pipe: Pipe,
    models: Arc<Ensemble>,
    strict: bool,
    mut reuse: Reuse,
) -> Result<(Pipe, Arc<Counts>)> {
    schema::require(pipe.schema(), schema::SEQUENCE, &DataType::Utf8)?;
    schema::require(pipe.schema(), schema::STATUS, &DataType::Utf8)?;
    let tokens = has_tokens_for(pipe.schema(), &models)?;
    let target = scored_schema(pipe.schema(), &models);
    let counts = Arc::new(Counts::default());
    let counted = counts.clone();
    let pipe = pipe.map(target.clone(), move |batch| {
        let mut rows = Rows::select(&batch, models.window())?;
        let answers = predict(&inputs(&batch, &rows, tokens)?, &models, &mut reuse, &counted)?;
        rows.mark(&answers, strict, status)?;
        score_batch(&batch, &target, &models, &rows, answers)
    });
    Ok((pipe, counts))
}

/// Predicts every distinct input once.
fn predict(inputs: &[Input], models: &Ensemble, reuse: &mut Reuse, counts: &Counts) -> Result<Vec<Answer>> {
    let (outputs, wanted) = (models.outputs(), models.wanted());
    let plan = reuse.plan(inputs, |input| reuse::floats_of(input, &outputs, wanted));
    counts.rows.fetch_add(inputs.len() as u64, Relaxed);
    counts.passes.fetch_add(plan.new.len() as u64, Relaxed);
    let new: Vec<Input> = plan.new.iter().map(|&row| inputs[row]).collect();
    let answers = models.predict(&new)?;
    Ok(reuse.complete(plan, answers))
}

/// Returns whether the stream has tokens that the models read.
fn has_tokens_for(schema: &SchemaRef, models: &Ensemble) -> Result<bool> {
    let Some(tokenizer) = models.tokenizer() else { return Ok(false) };
    let Ok(field) = schema.field_with_name(schema::INPUT_IDS) else { return Ok(false) };
    schema::require(schema, schema::INPUT_IDS, &schema::list_of(DataType::UInt32))?;
    if field.metadata().get(schema::DIGEST_KEY) == Some(&tokenizer.digest()) {
        return Ok(true);
    }
    Err(Error::data(format!(
        "the stream's tokens were made by another tokenizer than the model's ({}): leave nyx-tokenize out, or give \
         it the model directory as --tokenizer",
        tokenizer.name()
    )))
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
    let mut target = schema.clone();
    if outputs.classes > 0 {
        target = add(&target, schema::LOGITS, schema::floats(outputs.classes), schema::LABELS_KEY, &labels);
    }
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
    let wanted = models.wanted();
    if let Some(pooling) = wanted.embedding.filter(|_| outputs.embedding > 0) {
        let kind = schema::floats(outputs.embedding);
        target = add(&target, schema::EMBEDDING, kind, schema::METHOD_KEY, pooling.name());
    }
    if let Some(likelihood) = wanted.likelihood.filter(|_| outputs.likelihood) {
        let float = DataType::Float32;
        target = add(&target, schema::LOG_LIKELIHOOD, float, schema::METHOD_KEY, likelihood.name());
        target = add(&target, schema::LIKELIHOODS, list(), schema::METHOD_KEY, likelihood.name());
    }
    if let Some((layers, heads)) = outputs.attentions {
        let tokens = if wanted.attentions == Some(Attentions::All) { "*,*" } else { "*" };
        target = add(&target, schema::ATTENTIONS, list(), SHAPE_KEY, &format!("{layers},{heads},{tokens}"));
        if !wanted.layers.is_empty() {
            let layers: Vec<_> = wanted.layers.iter().map(usize::to_string).collect();
            target = add_metadata(&target, schema::ATTENTIONS, LAYERS_KEY, &layers.join(","));
        }
    }
    target
}

/// Adds an entry to the metadata of a field.
fn add_metadata(schema: &SchemaRef, name: &str, key: &str, value: &str) -> SchemaRef {
    let Ok(field) = schema.field_with_name(name) else { return schema.clone() };
    let mut metadata = field.metadata().clone();
    metadata.insert(key.to_string(), value.to_string());
    schema::with_field(schema, field.clone().with_metadata(metadata))
}

fn score_batch(
    batch: &RecordBatch,
    target: &SchemaRef,
    models: &Ensemble,
    rows: &Rows,
    answers: Vec<Answer>,
) -> Result<RecordBatch> {
    let outputs = models.outputs();
    let mut columns: Vec<(&str, ArrayRef)> = vec![(schema::STATUS, rows.statuses())];
    let mut scores: Vec<Option<Scores>> =
        rows.spread(answers.into_iter().map(Result::ok)).into_iter().map(Option::flatten).collect();
    let mut take = |part: fn(&mut Scores) -> Option<Vec<f32>>| -> Vec<Option<Vec<f32>>> {
        scores.iter_mut().map(|scores| scores.as_mut().and_then(part)).collect()
    };
    if outputs.classes > 0 {
        let logits = take(|scores| Some(std::mem::take(&mut scores.logits)));
        columns.push((schema::LOGITS, schema::float_vectors(&logits, outputs.classes)));
    }
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
    if outputs.embedding > 0 {
        let embeddings = take(|scores| scores.embedding.take());
        columns.push((schema::EMBEDDING, schema::float_vectors(&embeddings, outputs.embedding)));
    }
    if outputs.likelihood {
        let likelihoods = take(|scores| scores.likelihoods.take());
        columns.push((schema::LOG_LIKELIHOOD, sums(&likelihoods)));
        columns.push((schema::LIKELIHOODS, schema::float_lists(&likelihoods)));
    }
    if outputs.attentions.is_some() {
        columns.push((schema::ATTENTIONS, schema::float_lists(&take(|scores| scores.attentions.take()))));
    }
    schema::with_columns(batch, target, columns)
}

/// Returns what the models read of the accepted rows.
fn inputs<'a>(batch: &'a RecordBatch, rows: &Rows<'a>, tokens: bool) -> Result<Vec<Input<'a>>> {
    let ids = match tokens {
        true => Some(batch[schema::INPUT_IDS].as_list::<i32>()),
        false => None,
    };
    let second = match schema::has(batch.schema_ref(), schema::SECOND) {
        true => Some(schema::strings(batch, schema::SECOND)?),
        false => None,
    };
    let input = |(row, bases)| -> Result<Input<'a>> {
        let second = second.filter(|second| second.is_valid(row));
        let second = second.map(|second| second.value(row).as_bytes());
        second.map_or(Ok(()), schema::check_bases).map_err(|error| error.at(schema::describe(batch, row)))?;
        Ok(Input { bases, second, tokens: ids.filter(|ids| ids.is_valid(row)).map(|ids| slice_of(ids, row)) })
    };
    rows.places().zip(rows.sequences()).map(input).collect()
}

/// Returns the items of one list.
fn slice_of(lists: &ListArray, row: usize) -> &[u32] {
    let offsets = lists.value_offsets();
    &lists.values().as_primitive::<UInt32Type>().values()[offsets[row] as usize..offsets[row + 1] as usize]
}

/// Returns the status that an answer gives its row, if any.
fn status(answer: &Answer) -> Option<Status> {
    match answer {
        Ok(scores) => (!scores.is_finite()).then_some(Status::Nonfinite),
        Err(Misfit::TooLong) => Some(Status::TooLong),
        Err(Misfit::TooShort) => Some(Status::TooShort),
    }
}

/// Returns the sum of every list.
fn sums(lists: &[Option<Vec<f32>>]) -> ArrayRef {
    let sum = |list: &Vec<f32>| list.iter().map(|&value| f64::from(value)).sum::<f64>() as f32;
    Arc::new(Float32Array::from_iter(lists.iter().map(|list| list.as_ref().map(sum))))
}

#[cfg(test)]
pub(crate) mod tests;
