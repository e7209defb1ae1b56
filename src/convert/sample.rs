//! A small pipe for the tests of the writers.

use std::sync::Arc;

use arrow_schema::{DataType, Field};

use crate::error::Error;
use crate::pipe::Pipe;
use crate::provenance::{self, Genome, Step};
use crate::region::Strand;
use crate::schema::{self, Row, RowBuilder, RowKind, Status};

/// Three rows in two batches: a named one, one over the start of its contig, one of an unknown contig.
pub fn pipe() -> Pipe {
    let genome = Genome::new("g.fa", vec![("chr2".into(), 100), ("chr1".into(), 50)]);
    let base = RowKind::Regions.schema(Some(&genome));
    let list = |name| Field::new(name, schema::list_of(DataType::Float32), true);
    let mut target = schema::with_field(&base, list(schema::CONTRIBUTIONS));
    target = schema::with_field(&target, list(schema::HYPOTHETICAL));
    let step = Step { tool: "nyx-extract".into(), ..Step::default() };
    let metadata = provenance::append(&target.metadata, step).unwrap();
    let target = Arc::new(target.as_ref().clone().with_metadata(metadata));
    let row = |region: u64, chrom: &'static str, start: i64, name: Option<&'static str>| Row {
        region,
        chrom: Some(chrom),
        start,
        end: start + 3,
        strand: Strand::Forward,
        name,
        sequence: Some("ACN").filter(|_| chrom != "chrU"),
        status: if chrom == "chrU" { Status::UnknownContig } else { Status::Ok },
    };
    let rows = [row(0, "chr2", 10, Some("p\tq")), row(1, "chr1", -2, None), row(2, "chrU", 5, Some("u"))];
    let mut batches = Vec::new();
    for rows in rows.chunks(2) {
        let mut builder = RowBuilder::new(RowKind::Regions, base.clone());
        rows.iter().for_each(|row| builder.push(row));
        let floats = |count: usize| -> Vec<Option<Vec<f32>>> {
            let values = |row: &Row| (0..count).map(|n| row.region as f32 + n as f32 / 4.0).collect();
            rows.iter().map(|row| row.sequence.map(|_| values(row))).collect()
        };
        let columns = vec![
            (schema::CONTRIBUTIONS, schema::float_lists(&floats(3))),
            (schema::HYPOTHETICAL, schema::float_lists(&floats(12))),
        ];
        batches.push(schema::with_columns(&builder.finish().unwrap(), &target, columns));
    }
    Pipe::new(target, batches.into_iter())
}

/// The same pipe, cut after its first batch.
pub fn cut() -> Pipe {
    let (schema, batches) = pipe().into_parts();
    let truncated = Error::Truncated { upstream: "nyx-extract".into(), rows: 2 };
    Pipe::new(schema, batches.take(1).chain([Err(truncated)]))
}
