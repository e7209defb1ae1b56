//! Hits as rows of a stream.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{
    ArrayRef, BooleanArray, Float32Array, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::take::take;

use super::call::{Hit, Place};
use super::stage::Called;
use crate::error::Result;
use crate::motif::filters::MotifSet;
use crate::provenance::KIND_KEY;
use crate::schema::{
    self, ALLELE, ALT, CHROM, END, HAPLOTYPE, POS, REF, REGION, START, STRAND, VARIANT, VARIANT_ID,
};

/// First base of the untrimmed motif.
pub const START_UNTRIMMED: &str = "start_untrimmed";
/// One past the last base of the untrimmed motif.
pub const END_UNTRIMMED: &str = "end_untrimmed";
/// Name of the motif.
pub const MOTIF_NAME: &str = "motif_name";
/// Coefficient in the scaled region.
pub const HIT_COEFFICIENT: &str = "hit_coefficient";
/// Coefficient times the square of the region's scale.
pub const HIT_COEFFICIENT_GLOBAL: &str = "hit_coefficient_global";
/// Cosine of CWM and contributions over the trimmed window (with `--compat`, Fi-NeMo's variant of it).
pub const HIT_SIMILARITY: &str = "hit_similarity";
/// The same number as [`HIT_SIMILARITY`], as in Fi-NeMo.
pub const HIT_CORRELATION: &str = "hit_correlation";
/// Sum of absolute contributions in the trimmed window.
pub const HIT_IMPORTANCE: &str = "hit_importance";
/// Sum of squared contributions in the trimmed window.
pub const HIT_IMPORTANCE_SQ: &str = "hit_importance_sq";
/// Name of the region that the hit lies in.
pub const PEAK_NAME: &str = "peak_name";
/// Ordinal of the region that the hit lies in.
pub const PEAK_ID: &str = "peak_id";
/// Duality gap of the region over its length.
pub const DUAL_GAP: &str = "dual_gap";
/// Whether the gap is within tolerance.
pub const CONVERGED: &str = "converged";

/// Columns of allele rows that go on with every hit.
const VARIANT_COLUMNS: [&str; 7] = [VARIANT, VARIANT_ID, POS, REF, ALT, ALLELE, HAPLOTYPE];

/// Returns the schema of hits on regions of schema `input`.
pub(super) fn schema(input: &Schema) -> SchemaRef {
    let float = |name| Field::new(name, DataType::Float32, false);
    let integer = |name| Field::new(name, DataType::Int64, false);
    let mut fields = vec![
        Field::new(REGION, DataType::UInt64, false),
        Field::new(CHROM, DataType::Utf8, true),
        integer(START),
        integer(END),
        integer(START_UNTRIMMED),
        integer(END_UNTRIMMED),
        Field::new(MOTIF_NAME, DataType::Utf8, false),
        float(HIT_COEFFICIENT),
        float(HIT_COEFFICIENT_GLOBAL),
        float(HIT_SIMILARITY),
        float(HIT_CORRELATION),
        float(HIT_IMPORTANCE),
        float(HIT_IMPORTANCE_SQ),
        Field::new(STRAND, DataType::Utf8, false),
        Field::new(PEAK_NAME, DataType::Utf8, true),
        Field::new(PEAK_ID, DataType::UInt64, false),
        float(DUAL_GAP),
        Field::new(CONVERGED, DataType::Boolean, false),
    ];
    fields.extend(VARIANT_COLUMNS.iter().filter_map(|name| input.field_with_name(name).ok().cloned()));
    let metadata = input.metadata.clone().with(KIND_KEY, "hits");
    Arc::new(Schema::new_with_metadata(fields, metadata))
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
