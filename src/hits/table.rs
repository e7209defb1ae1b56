//! Hits as rows of a stream.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{
    ArrayRef, BooleanArray, Float32Array, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow_schema::{Schema, SchemaRef};
use arrow_select::take::take;

use super::call::{Hit, Place};
use super::stage::Called;
use crate::error::Result;
use crate::motif::filters::MotifSet;
use crate::schema;
pub use crate::schema::hits::{
    CONVERGED, DUAL_GAP, END_UNTRIMMED, HIT_COEFFICIENT, HIT_COEFFICIENT_GLOBAL, HIT_CORRELATION,
    HIT_IMPORTANCE, HIT_IMPORTANCE_SQ, HIT_SIMILARITY, MOTIF_NAME, PEAK_ID, PEAK_NAME, START_UNTRIMMED,
};

/// Returns the schema of hits on regions of schema `input`.
pub(super) fn schema(input: &Schema) -> SchemaRef {
    schema::hits::schema(input, &[])
}

/// Makes the rows of the hits of `called`, which are the rows of `input`.
pub(super) fn batch(
    schema: &SchemaRef,
    input: &RecordBatch,
    motifs: &MotifSet,
    called: &[Called],
) -> Result<RecordBatch> {
    let rows: Vec<(usize, &Called, &Place, &Hit)> = called
        .iter()
        .enumerate()
        .flat_map(|(row, region)| region.hits.iter().map(move |(place, hit)| (row, region, place, hit)))
        .collect();
    let integers = |value: fn(&Place) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, _, place, _)| value(place))))
    };
    let numbers = |value: fn(&Hit) -> f32| -> ArrayRef {
        Arc::new(Float32Array::from_iter_values(rows.iter().map(|(.., hit)| value(hit))))
    };
    let texts = |value: fn(&Called) -> &Option<String>| -> ArrayRef {
        let mut builder = StringBuilder::new();
        rows.iter().for_each(|(_, region, ..)| builder.append_option(value(region).as_deref()));
        Arc::new(builder.finish())
    };
    let regions: ArrayRef =
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|(_, region, ..)| region.region)));
    let name = |hit: &Hit| motifs.motifs[motifs.filters[hit.filter].motif].name.as_str();
    let mut columns = vec![
        regions.clone(),
        texts(|region| &region.chrom),
        integers(|place| place.start),
        integers(|place| place.end),
        integers(|place| place.start_untrimmed),
        integers(|place| place.end_untrimmed),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(.., hit)| name(hit)))),
        numbers(|hit| hit.coefficient),
        numbers(|hit| hit.coefficient_global),
        numbers(|hit| hit.similarity),
        numbers(|hit| hit.similarity),
        numbers(|hit| hit.importance),
        numbers(|hit| hit.importance_sq),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, _, place, _)| place.strand.as_str()))),
        texts(|region| &region.name),
        regions,
        Arc::new(Float32Array::from_iter_values(rows.iter().map(|(_, region, ..)| region.dual_gap))),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|(_, region, ..)| Some(region.status.converged())))),
    ];
    let indices = UInt32Array::from_iter_values(rows.iter().map(|(row, ..)| *row as u32));
    for field in schema.fields().iter().skip(columns.len()) {
        columns.push(take(schema::column(input, field.name())?, &indices, None)?);
    }
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
