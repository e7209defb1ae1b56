//! Collects rows with contributions into batches.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::windows::Window;
use crate::error::Result;
use crate::region::Strand;
use crate::schema::{self, Row, RowBuilder, RowKind, Status};

/// The payload of one row.
pub struct Payload {
    /// `ACGTN`; `None` when the contig is not in the genome.
    pub sequence: Option<String>,
    /// Contributions of the observed bases, length L.
    pub contributions: Option<Vec<f32>>,
    /// Contributions of all bases, length 4·L, where the source has them.
    pub hypothetical: Option<Vec<f32>>,
    /// What the source says of the row; a value that is not finite goes before it.
    pub status: Status,
}

/// Rows with the columns `contributions` and perhaps `hypothetical`.
pub struct Batch {
    schema: SchemaRef,
    identity: RowBuilder,
    contributions: Vec<Option<Vec<f32>>>,
    hypothetical: Vec<Option<Vec<f32>>>,
}

impl Batch {
    /// Creates an empty batch of rows with `schema`.
    pub fn new(schema: SchemaRef) -> Self {
        let fields = schema.fields().iter();
        let added = [schema::CONTRIBUTIONS, schema::HYPOTHETICAL];
        let identity: Vec<_> =
            fields.filter(|field| !added.contains(&field.name().as_str())).cloned().collect();
        let identity = arrow_schema::Schema::new_with_metadata(identity, schema.metadata.clone());
        Self {
            schema,
            identity: RowBuilder::new(RowKind::Regions, identity.into()),
            contributions: Vec::new(),
            hypothetical: Vec::new(),
        }
    }

    /// Adds the row of `window`, which is `width` bases wide.
    pub fn push(&mut self, window: &Window, width: usize, payload: Payload) {
        let values = payload.contributions.iter().chain(&payload.hypothetical).flatten();
        let finite = values.clone().all(|value| value.is_finite());
        self.identity.push(&Row {
            region: window.region,
            chrom: window.chrom.as_deref(),
            start: window.start,
            end: window.start + width as i64,
            strand: Strand::Unknown,
            name: window.name.as_deref(),
            sequence: payload.sequence.as_deref(),
            status: if finite { payload.status } else { Status::Nonfinite },
        });
        self.contributions.push(payload.contributions);
        self.hypothetical.push(payload.hypothetical);
    }

    /// Returns the rows as a record batch.
    pub fn finish(mut self) -> Result<RecordBatch> {
        let identity = self.identity.finish()?;
        let columns = vec![
            (schema::CONTRIBUTIONS, schema::float_lists(&self.contributions)),
            (schema::HYPOTHETICAL, schema::float_lists(&self.hypothetical)),
        ];
        schema::with_columns(&identity, &self.schema, columns)
    }
}
