//! Sites as rows of a stream.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    UInt32Array, UInt64Array,
};
use arrow_schema::SchemaRef;
use arrow_select::take::take;

use super::{Motif, Site, place};
use crate::error::Result;
use crate::region::Strand;
use crate::schema::{self, CHROM, END, NAME, REGION, START, STRAND};

/// Makes the rows of the sites in the rows of `input`.
pub(super) fn batch(
    schema: &SchemaRef,
    input: &RecordBatch,
    motifs: &[Motif],
    sites: &[Site],
) -> Result<RecordBatch> {
    let (starts, ends) = (schema::i64s(input, START)?, schema::i64s(input, END)?);
    let strands = schema::strings(input, STRAND)?;
    let places: Vec<(i64, i64, Strand)> = sites
        .iter()
        .map(|site| {
            let strand = strands.value(site.row).parse()?;
            let width = motifs[site.motif].pwm.width();
            Ok(place(site, width, starts.value(site.row), ends.value(site.row), strand))
        })
        .collect::<Result<_>>()?;
    let rows = UInt32Array::from_iter_values(sites.iter().map(|site| site.row as u32));
    let taken = |name: &str| -> Result<ArrayRef> { Ok(take(schema::column(input, name)?, &rows, None)?) };
    let first: ArrayRef = Arc::new(Int64Array::from_iter_values(places.iter().map(|place| place.0)));
    let last: ArrayRef = Arc::new(Int64Array::from_iter_values(places.iter().map(|place| place.1)));
    let numbers = |of: &dyn Fn(&Site) -> f64| -> ArrayRef {
        Arc::new(Float32Array::from_iter_values(sites.iter().map(|site| of(site) as f32)))
    };
    let score = |site: &Site| motifs[site.motif].pwm.score(site.level);
    let p_value = |site: &Site| motifs[site.motif].pwm.p_value(site.level);
    let similarity =
        |site: &Site| score(site) / motifs[site.motif].pwm.score(motifs[site.motif].pwm.highest());
    let importance = |site: &Site| -p_value(site).log10();
    let names = sites.iter().map(|site| motifs[site.motif].name.as_str());
    let mut columns = vec![
        taken(REGION)?,
        taken(CHROM)?,
        first.clone(),
        last.clone(),
        first,
        last,
        Arc::new(StringArray::from_iter_values(names)),
        numbers(&score),
        numbers(&score),
        numbers(&similarity),
        numbers(&similarity),
        numbers(&importance),
        numbers(&|site| importance(site).powi(2)),
        Arc::new(StringArray::from_iter_values(places.iter().map(|place| place.2.as_str()))),
        taken(NAME)?,
        taken(REGION)?,
        numbers(&|_| 0.0),
        Arc::new(BooleanArray::from(vec![true; sites.len()])),
        numbers(&score),
        Arc::new(Float64Array::from_iter_values(sites.iter().map(p_value))),
    ];
    debug_assert!(columns[0].as_any().is::<UInt64Array>());
    for field in schema.fields().iter().skip(columns.len()) {
        columns.push(taken(field.name())?);
    }
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
