//! Seqlets as rows of a stream.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema};

use super::found::P_VALUE;
use super::gather::Gathered;
use super::tracks::Seqlet;
use crate::error::Result;
use crate::pipe::Pipe;
use crate::provenance::KIND_KEY;
use crate::schema::{CHROM, END, REGION, START, STRAND};

/// Sum of the contributions of a seqlet, float32.
pub const CONTRIBUTION: &str = "contribution";

/// Returns seqlets as a pipe of one batch, in the order of rows and then of places, with the metadata of the stream that
/// they were found in; with their p-values where they have some. `start` and `end` are on the contig where the rows have
/// coordinates, else within their row.
///
/// # Panics
///
/// When there are not as many p-values as seqlets.
pub fn pipe(gathered: &Gathered, found: &[Seqlet], p_values: Option<&[f64]>, input: &Schema) -> Result<Pipe> {
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by_key(|&index| found[index].place());
    let seqlets: Vec<&Seqlet> = order.iter().map(|&index| &found[index]).collect();
    let places: Vec<(i64, i64)> = seqlets
        .iter()
        .map(|seqlet| gathered.origins[seqlet.example].place(seqlet.start, seqlet.end))
        .collect();
    let origin = |seqlet: &&Seqlet| &gathered.origins[seqlet.example];
    let strand = |seqlet: &&Seqlet| match (&origin(seqlet).chrom, origin(seqlet).reverse) {
        (None, _) => ".",
        (_, true) => "-",
        (_, false) => "+",
    };
    let tracks = &gathered.tracks;
    let sum = |seqlet: &&Seqlet| tracks.sum(seqlet, 0, seqlet.width()) as f32;
    let mut fields = vec![
        Field::new(REGION, DataType::UInt64, false),
        Field::new(CHROM, DataType::Utf8, true),
        Field::new(START, DataType::Int64, false),
        Field::new(END, DataType::Int64, false),
        Field::new(STRAND, DataType::Utf8, false),
        Field::new(CONTRIBUTION, DataType::Float32, false),
    ];
    let mut arrays: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(
            seqlets.iter().map(|seqlet| tracks.examples[seqlet.example].region),
        )),
        Arc::new(StringArray::from_iter(seqlets.iter().map(|seqlet| origin(seqlet).chrom.as_deref()))),
        Arc::new(Int64Array::from_iter_values(places.iter().map(|place| place.0))),
        Arc::new(Int64Array::from_iter_values(places.iter().map(|place| place.1))),
        Arc::new(StringArray::from_iter_values(seqlets.iter().map(strand))),
        Arc::new(Float32Array::from_iter_values(seqlets.iter().map(sum))),
    ];
    if let Some(p_values) = p_values {
        assert_eq!(p_values.len(), found.len(), "a p-value for each seqlet");
        fields.push(Field::new(P_VALUE, DataType::Float64, false));
        arrays.push(Arc::new(Float64Array::from_iter_values(order.iter().map(|&index| p_values[index]))));
    }
    let metadata = input.metadata.clone().with(KIND_KEY, "seqlets");
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
    let batch = RecordBatch::try_new(schema.clone(), arrays)?;
    Ok(Pipe::new(schema, std::iter::once(Ok(batch))))
}
