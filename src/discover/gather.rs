//! Rows with contributions → examples for motif discovery.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type};
use arrow_array::{Array, ListArray, RecordBatch};
use arrow_schema::DataType;

use super::tracks::{Example, Tracks};
use crate::dna::base_index;
use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::schema::{self, CHROM, CONTRIBUTIONS, END, HYPOTHETICAL, REGION, SEQUENCE, START, STRAND};

/// Where the first base that was looked at of a row lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Contig, `None` when coordinates are unknown.
    pub chrom: Option<String>,
    /// First base of the row, 0-based.
    pub start: i64,
    /// One past its last base.
    pub end: i64,
    /// Whether the row reads on the reverse strand.
    pub reverse: bool,
    /// Bases of the row before those that were looked at.
    pub skipped: i64,
}

impl Origin {
    /// Returns the coordinates of the bases `start..end` of what was looked at.
    pub fn place(&self, start: usize, end: usize) -> (i64, i64) {
        let (start, end) = (self.skipped + start as i64, self.skipped + end as i64);
        if self.reverse { (self.end - end, self.end - start) } else { (self.start + start, self.start + end) }
    }
}

/// Examples, and what was left out.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// The examples.
    pub tracks: Tracks,
    /// Where each example lies.
    pub origins: Vec<Origin>,
    /// Rows that were read.
    pub rows: u64,
    /// Rows without a sequence or contributions.
    pub missing: u64,
    /// Rows with contributions that are infinite or not a number.
    pub nonfinite: u64,
}

/// Gathers the central `window` bases of all rows of a pipe, or all bases of rows that have no more. The hypothetical
/// contributions where the stream has them; of projected ones those of the bases that were not observed are 0. All of
/// it stays in memory: 17 bytes a base.
///
/// # Errors
///
/// When the stream has no contributions, or a row not as many as bases.
pub fn gather(pipe: Pipe, window: usize) -> Result<Gathered> {
    schema::require(pipe.schema(), REGION, &DataType::UInt64)?;
    schema::require(pipe.schema(), SEQUENCE, &DataType::Utf8)?;
    let whole = schema::has(pipe.schema(), HYPOTHETICAL);
    let column = if whole { HYPOTHETICAL } else { CONTRIBUTIONS };
    if schema::require(pipe.schema(), column, &schema::list_of(DataType::Float16)).is_err() {
        schema::require(pipe.schema(), column, &schema::list_of(DataType::Float32))?;
    }
    let mut gathered = Gathered::default();
    for batch in pipe.into_parts().1 {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            gathered.row(&batch, row, column, window)?;
        }
    }
    Ok(gathered)
}

impl Gathered {
    fn row(&mut self, batch: &RecordBatch, row: usize, column: &str, window: usize) -> Result<()> {
        self.rows += 1;
        let (sequences, lists) = (schema::strings(batch, SEQUENCE)?, schema::lists(batch, column)?);
        if sequences.is_null(row) || lists.is_null(row) {
            self.missing += 1;
            return Ok(());
        }
        let sequence = sequences.value(row).as_bytes();
        schema::check_bases(sequence).map_err(|error| error.at(schema::describe(batch, row)))?;
        let values = floats(lists, row)?;
        if values.iter().any(|value| !value.is_finite()) {
            self.nonfinite += 1;
            return Ok(());
        }
        let whole = column == HYPOTHETICAL;
        if values.len() != sequence.len() * if whole { 4 } else { 1 } {
            let message = format!("{} values of `{column}` for {} bases", values.len(), sequence.len());
            return Err(Error::data(message).at(schema::describe(batch, row)));
        }
        let values = if whole { values } else { spread(sequence, &values) };
        self.origins.push(origin(batch, row, sequence.len(), window)?);
        let (sequence, values) = centre(sequence, &values, window);
        let region = schema::u64s(batch, REGION)?.value(row);
        self.tracks.examples.push(Example::new(region, sequence, &values));
        Ok(())
    }
}

/// Returns where a row lies; without coordinates it begins at 0.
fn origin(batch: &RecordBatch, row: usize, length: usize, window: usize) -> Result<Origin> {
    let skipped = if length > window { (length / 2 - window / 2) as i64 } else { 0 };
    let unknown = Origin { chrom: None, start: 0, end: length as i64, reverse: false, skipped };
    let present = [CHROM, START, END, STRAND].iter().all(|name| schema::has(batch.schema_ref(), name));
    if !present || schema::strings(batch, CHROM)?.is_null(row) {
        return Ok(unknown);
    }
    Ok(Origin {
        chrom: Some(schema::strings(batch, CHROM)?.value(row).to_string()),
        start: schema::i64s(batch, START)?.value(row),
        end: schema::i64s(batch, END)?.value(row),
        reverse: schema::strings(batch, STRAND)?.value(row) == "-",
        skipped,
    })
}

fn floats(lists: &ListArray, row: usize) -> Result<Vec<f32>> {
    let values = lists.value(row);
    if let Some(halves) = values.as_primitive_opt::<Float16Type>() {
        return Ok(halves.values().iter().map(|value| value.to_f32()).collect());
    }
    let floats = values.as_primitive_opt::<Float32Type>();
    let floats = floats.ok_or_else(|| Error::data("contributions are neither float32 nor float16"))?;
    Ok(floats.values().to_vec())
}

/// Returns contributions of the observed bases as rows A C G T.
fn spread(sequence: &[u8], values: &[f32]) -> Vec<f32> {
    let mut rows = vec![0.0; 4 * sequence.len()];
    for (i, (&base, &value)) in sequence.iter().zip(values).enumerate() {
        if let Some(base) = base_index(base) {
            rows[base * sequence.len() + i] = value;
        }
    }
    rows
}

/// Returns the central `window` bases and the four rows of values there.
fn centre<'a>(sequence: &'a [u8], values: &[f32], window: usize) -> (&'a [u8], Vec<f32>) {
    let length = sequence.len();
    if length <= window {
        return (sequence, values.to_vec());
    }
    let start = length / 2 - window / 2;
    let inside = start..start + window;
    let values = values.chunks_exact(length).flat_map(|row| row[inside.clone()].to_vec()).collect();
    (&sequence[inside], values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_centre_is_cut_from_all_four_rows() {
        let values: Vec<f32> = (0..20).map(|i| i as f32).collect();
        let (sequence, cut) = centre(b"ACGTN", &values, 2);
        assert_eq!(sequence, b"CG");
        assert_eq!(cut, [1.0, 2.0, 6.0, 7.0, 11.0, 12.0, 16.0, 17.0]);
        assert_eq!(centre(b"ACGTN", &values, 9).1, values);
    }

    #[test]
    fn places_are_on_the_contig_whatever_the_strand() {
        let origin =
            |reverse| Origin { chrom: Some("chr1".into()), start: 1000, end: 1010, reverse, skipped: 3 };
        assert_eq!(origin(false).place(0, 2), (1003, 1005));
        assert_eq!(origin(true).place(0, 2), (1005, 1007));
    }

    #[test]
    fn projected_contributions_lie_on_the_observed_base() {
        assert_eq!(
            spread(b"CNT", &[1.0, 2.0, 3.0]),
            [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0]
        );
    }
}
