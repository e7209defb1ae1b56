//! Streams of effects one after the other, such as those of one contig each.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt64Array};

use crate::error::{Error, Result};
use crate::pipe::{Pipe, with_schema};
use crate::provenance::GENOME_KEY;
use crate::schema::{self, REGION, VARIANT};

/// Joins streams in the order given. Every shard counts its regions from 0, so those of a later one are numbered on
/// from the largest before it.
///
/// # Errors
///
/// When there is no stream, or they differ in their columns or in the genome.
pub fn join(pipes: Vec<Pipe>) -> Result<Pipe> {
    let first = pipes.first().ok_or_else(|| Error::usage("no stream to join"))?.schema().clone();
    for (number, pipe) in pipes.iter().enumerate() {
        let other = pipe.schema();
        let differs = if other.metadata.get(GENOME_KEY) != first.metadata.get(GENOME_KEY) {
            "is of another genome"
        } else if other.fields() != first.fields() {
            "has other columns"
        } else {
            continue;
        };
        return Err(Error::data(format!(
            "input {} {differs} than the first: shards are of one run (models, --target, --null)",
            number + 1
        )));
    }
    let target = first.clone();
    let (mut offset, mut next) = (0, 0);
    let batches = pipes
        .into_iter()
        .enumerate()
        .flat_map(|(shard, pipe)| pipe.into_parts().1.map(move |batch| batch.map(|batch| (shard, batch))));
    let mut current = 0;
    Ok(Pipe::new(
        first,
        batches.map(move |batch| {
            let (shard, batch) = batch?;
            if shard != current {
                (current, offset) = (shard, next);
            }
            let batch = renumber(&with_schema(&batch, &target)?, offset)?;
            next =
                next.max(schema::u64s(&batch, REGION)?.values().iter().max().map_or(0, |region| region + 1));
            Ok(batch)
        }),
    ))
}

fn renumber(batch: &RecordBatch, offset: u64) -> Result<RecordBatch> {
    let add = |name| -> Result<(&str, ArrayRef)> {
        let numbers = schema::u64s(batch, name)?.values().iter().map(|number| number + offset);
        Ok((name, Arc::new(UInt64Array::from_iter_values(numbers))))
    };
    let names = [REGION, VARIANT].into_iter().filter(|name| schema::has(batch.schema_ref(), name));
    let columns = names.map(add).collect::<Result<Vec<_>>>()?;
    schema::with_columns(batch, &batch.schema(), columns)
}
