//! A motif that was found, and motifs as rows of a stream.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::motif::{Matrix, meme};
use crate::pipe::Pipe;
use crate::provenance::KIND_KEY;
use crate::schema;

/// Name of the motif.
pub const MOTIF: &str = "motif";
/// The most frequent base of each position.
pub const CONSENSUS: &str = "consensus";
/// Number of positions W.
pub const WIDTH: &str = "width";
/// Number of windows or seqlets that the motif was made of.
pub const SITES: &str = "sites";
/// P-value of the enrichment of the motif's key.
pub const P_VALUE: &str = "p_value";
/// The p-value corrected for the number of keys.
pub const Q_VALUE: &str = "q_value";
/// Counts of the bases, list of float32 of length 4·W, rows A C G T.
pub const COUNTS: &str = "counts";

/// A motif that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Unique name.
    pub name: String,
    /// Counts of the bases at each position.
    pub counts: Matrix,
    /// Number of windows or seqlets.
    pub sites: u64,
    /// P-value of the enrichment, and the corrected one.
    pub significance: Option<(f64, f64)>,
    /// Mean contributions and mean hypothetical contributions at each position.
    pub contributions: Option<(Matrix, Matrix)>,
}

impl Found {
    /// Returns the motif as MEME has it.
    pub fn meme(&self) -> meme::Motif {
        meme::Motif {
            identifier: self.name.clone(),
            alternate: None,
            ppm: self.counts.probabilities(),
            sites: self.sites as f64,
            background: [0.25; 4],
        }
    }
}

/// Returns motifs as a pipe of one batch, with the metadata of the stream that they were found in.
pub fn pipe(found: &[Found], input: &Schema) -> Result<Pipe> {
    let schema = motif_schema(input);
    let batch = batch(found, &schema)?;
    Ok(Pipe::new(schema, std::iter::once(Ok(batch))))
}

/// Reads motifs from a pipe that [`pipe`] made: names, counts and sites.
///
/// # Errors
///
/// When the stream is not one of motifs, or a motif has no counts.
pub fn read(pipe: Pipe) -> Result<Vec<Found>> {
    schema::require(pipe.schema(), MOTIF, &DataType::Utf8)?;
    schema::require(pipe.schema(), SITES, &DataType::UInt64)?;
    schema::require(pipe.schema(), COUNTS, &schema::list_of(DataType::Float32))?;
    let mut found = Vec::new();
    for batch in pipe.into_parts().1 {
        let batch = batch?;
        let (names, lists) = (schema::strings(&batch, MOTIF)?, schema::lists(&batch, COUNTS)?);
        let sites = schema::u64s(&batch, SITES)?;
        for row in 0..batch.num_rows() {
            let name = names.value(row).to_string();
            let counts = schema::float_items(lists, row)?;
            if counts.is_empty() || counts.len() % 4 != 0 {
                return Err(Error::data(format!("motif `{name}` has no counts")));
            }
            let values = counts.iter().map(|&count| f64::from(count)).collect();
            let counts = Matrix::new(counts.len() / 4, values);
            found.push(Found {
                name,
                counts,
                sites: sites.value(row),
                significance: None,
                contributions: None,
            });
        }
    }
    Ok(found)
}

fn motif_schema(input: &Schema) -> SchemaRef {
    let list = || schema::list_of(DataType::Float32);
    let fields = vec![
        Field::new(MOTIF, DataType::Utf8, false),
        Field::new(CONSENSUS, DataType::Utf8, false),
        Field::new(WIDTH, DataType::UInt32, false),
        Field::new(SITES, DataType::UInt64, false),
        Field::new(P_VALUE, DataType::Float64, true),
        Field::new(Q_VALUE, DataType::Float64, true),
        Field::new(COUNTS, list(), true),
        Field::new(schema::CONTRIBUTIONS, list(), true),
        Field::new(schema::HYPOTHETICAL, list(), true),
    ];
    Arc::new(Schema::new_with_metadata(fields, input.metadata.clone().with(KIND_KEY, "motifs")))
}

fn batch(found: &[Found], schema: &SchemaRef) -> Result<RecordBatch> {
    let floats = |matrix: &Matrix| matrix.values().iter().map(|&value| value as f32).collect::<Vec<f32>>();
    let column = |values: Vec<Option<Vec<f32>>>| schema::float_lists(&values);
    let means = |pick: fn(&(Matrix, Matrix)) -> &Matrix| {
        column(
            found.iter().map(|motif| motif.contributions.as_ref().map(|pair| floats(pick(pair)))).collect(),
        )
    };
    let p = |pick: fn(&(f64, f64)) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter(found.iter().map(|motif| motif.significance.as_ref().map(pick))))
    };
    let text = |f: &dyn Fn(&Found) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(found.iter().map(f)))
    };
    let arrays: Vec<ArrayRef> = vec![
        text(&|motif| motif.name.clone()),
        text(&|motif| motif.counts.consensus()),
        Arc::new(UInt32Array::from_iter_values(found.iter().map(|motif| motif.counts.width() as u32))),
        Arc::new(UInt64Array::from_iter_values(found.iter().map(|motif| motif.sites))),
        p(|pair| pair.0),
        p(|pair| pair.1),
        column(found.iter().map(|motif| Some(floats(&motif.counts))).collect()),
        means(|pair| &pair.0),
        means(|pair| &pair.1),
    ];
    Ok(RecordBatch::try_new(schema.clone(), arrays)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn motifs_come_out_of_a_stream_as_they_went_in() {
        let counts = Matrix::from_columns(&[[9.0, 0.0, 1.0, 0.0], [0.0, 10.0, 0.0, 0.0]]);
        let motif = |name: &str, sites| Found {
            name: name.into(),
            counts: counts.clone(),
            sites,
            significance: None,
            contributions: None,
        };
        let motifs = [motif("one", 10), motif("two", 3)];
        let again = read(pipe(&motifs, &Schema::empty()).unwrap()).unwrap();
        assert_eq!(again, motifs);
        let other = Arc::new(Schema::empty());
        assert!(read(Pipe::new(other, std::iter::empty())).unwrap_err().to_string().contains("`motif`"));
    }
}
