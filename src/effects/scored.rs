//! The scores of a batch of allele rows, as windows of [`super::measure`].

use std::ops::Range;

use arrow_array::types::Float32Type;
use arrow_array::{
    Array, FixedSizeListArray, Float32Array, Int64Array, ListArray, RecordBatch, StringArray, cast::AsArray,
};
use arrow_schema::{DataType, Schema};

use super::measure::{Measure, Window};
use crate::error::{Error, Result};
use crate::schema::{
    self, ALT, BASE_SCORES, EMBEDDING, HAPLOTYPE, LABELS_KEY, LOG_LIKELIHOOD, LOGITS, POS, PROBS, PROFILE,
    REF, START, STRAND,
};

/// Returns the measures that scores of this schema have, in the order of their columns.
///
/// # Errors
///
/// When there is no score at all.
pub(super) fn measures(schema: &Schema) -> Result<Vec<Measure>> {
    use Measure as M;
    let has = |name| schema::has(schema, name);
    let mut found = Vec::new();
    if has(PROBS) {
        found.extend([M::RefProb, M::AltProb, M::Diff, M::LogOddsRatio, M::Log2FoldChange]);
    } else if has(LOGITS) {
        found.extend([M::RefLogit, M::AltLogit]);
        // The logit beside a profile is the logarithm of its counts.
        found.extend(has(PROFILE).then_some(M::Log2FoldChangeOfCounts));
    }
    for (column, measures) in [
        (LOGITS, &[M::DeltaLogit][..]),
        (PROFILE, &[M::ProfileDistance]),
        (EMBEDDING, &[M::EmbeddingCosine, M::EmbeddingEuclid]),
        (LOG_LIKELIHOOD, &[M::LogLikelihoodRatio]),
        (BASE_SCORES, &[M::BaseDelta, M::BaseDeltaMax]),
    ] {
        found.extend(measures.iter().filter(|_| has(column)));
    }
    if found.is_empty() {
        return Err(Error::data(
            "the stream has no scores (logits, probs, profile, embedding, log_likelihood, base_scores): nyx-score makes them",
        ));
    }
    found.sort_unstable();
    Ok(found)
}

/// Returns the names of the classes of a stream; empty when it has no logits.
pub(super) fn classes(schema: &Schema) -> Result<Vec<String>> {
    let Some(field) = [PROBS, LOGITS].iter().find_map(|name| schema.field_with_name(name).ok()) else {
        return Ok(Vec::new());
    };
    let DataType::FixedSizeList(_, size) = field.data_type() else {
        return Err(Error::data(format!("column `{}` of the stream is no list of fixed size", field.name())));
    };
    let names: Vec<String> = match field.metadata().get(LABELS_KEY) {
        Some(labels) => labels.split(',').map(String::from).collect(),
        None => Vec::new(),
    };
    if names.len() == *size as usize {
        return Ok(names);
    }
    Ok((0..*size).map(|class| class.to_string()).collect())
}

/// Typed views of one batch.
pub(super) struct Scored<'b> {
    logits: Option<&'b FixedSizeListArray>,
    probs: Option<&'b FixedSizeListArray>,
    embedding: Option<&'b FixedSizeListArray>,
    profile: Option<&'b ListArray>,
    base_scores: Option<&'b ListArray>,
    log_likelihood: Option<&'b Float32Array>,
    start: &'b Int64Array,
    strand: &'b StringArray,
    position: &'b Int64Array,
    reference: &'b StringArray,
    alternate: &'b StringArray,
    haplotype: Option<&'b StringArray>,
}

impl<'b> Scored<'b> {
    pub(super) fn of(batch: &'b RecordBatch) -> Result<Self> {
        let has = |name| schema::has(batch.schema_ref(), name);
        let fixed = |name| has(name).then(|| float_vectors(batch, name)).transpose();
        let lists = |name| has(name).then(|| schema::lists(batch, name)).transpose();
        Ok(Self {
            logits: fixed(LOGITS)?,
            probs: fixed(PROBS)?,
            embedding: fixed(EMBEDDING)?,
            profile: lists(PROFILE)?,
            base_scores: lists(BASE_SCORES)?,
            log_likelihood: has(LOG_LIKELIHOOD).then(|| schema::f32s(batch, LOG_LIKELIHOOD)).transpose()?,
            start: schema::i64s(batch, START)?,
            strand: schema::strings(batch, STRAND)?,
            position: schema::i64s(batch, POS)?,
            reference: schema::strings(batch, REF)?,
            alternate: schema::strings(batch, ALT)?,
            haplotype: has(HAPLOTYPE).then(|| schema::strings(batch, HAPLOTYPE)).transpose()?,
        })
    }

    /// Returns what was predicted for `row`, and where in its window the allele of the row `of` is: its ALT, or its
    /// REF when `row` is the reference.
    pub(super) fn window(&self, row: usize, of: usize) -> Result<Window<'b>> {
        // Indels move the bases of a haplotype, so there is no place to compare.
        let base_scores = if self.is_haplotype(of) { &[] } else { list(self.base_scores, row)? };
        Ok(Window {
            logits: vector(self.logits, row),
            probs: vector(self.probs, row),
            embedding: vector(self.embedding, row),
            profile: list(self.profile, row)?,
            log_likelihood: self
                .log_likelihood
                .filter(|values| values.is_valid(row))
                .map(|values| values.value(row)),
            allele: self.allele_bases(row, of, base_scores.len()),
            base_scores,
        })
    }

    fn is_haplotype(&self, row: usize) -> bool {
        self.haplotype.is_some_and(|names| names.is_valid(row))
    }

    /// Returns where the bases of an allele are in a window of `length` bases.
    ///
    /// The bases left of an allele are the genome's, so it begins where POS is counted from the window's start.
    fn allele_bases(&self, row: usize, of: usize, length: usize) -> Range<usize> {
        let letters = if row == of { self.alternate } else { self.reference };
        let first = (self.position.value(of) - 1 - self.start.value(row)).max(0) as usize;
        let (first, end) = (first.min(length), (first + letters.value(of).len()).min(length));
        if self.strand.value(row) == "-" { length - end..length - first } else { first..end }
    }
}

fn float_vectors<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b FixedSizeListArray> {
    let lists = schema::fixed_lists(batch, name)?;
    match lists.values().as_primitive_opt::<Float32Type>() {
        Some(_) => Ok(lists),
        None => Err(Error::data(format!(
            "column `{name}` of the stream holds {}, not float32",
            lists.value_type()
        ))),
    }
}

fn vector(lists: Option<&FixedSizeListArray>, row: usize) -> &[f32] {
    let Some(lists) = lists.filter(|lists| lists.is_valid(row)) else { return &[] };
    let range = lists.value_offset_at(row)..lists.value_offset_at(row + 1);
    &lists.values().as_primitive::<Float32Type>().values()[range]
}

fn list(lists: Option<&ListArray>, row: usize) -> Result<&[f32]> {
    lists.map_or(Ok(&[]), |lists| schema::float_items(lists, row))
}
