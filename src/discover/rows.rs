//! The columns of a row that motifs are found in, and what is kept of the rows.

use arrow_array::{Array, ListArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Schema};

use crate::error::{Error, Result};
use crate::npy;
use crate::schema::{self, CONTRIBUTIONS, LABEL, SEQUENCE};

/// Columns of per-base scores, in the order in which they are looked for.
pub const SCORES: [&str; 3] = [ATTENTION, CONTRIBUTIONS, schema::BASE_SCORES];

/// Attention that each base receives, list of float32.
const ATTENTION: &str = "attention";

/// Where the scores of the bases are.
#[derive(Clone, Debug, PartialEq)]
pub enum Scores {
    /// In this column of the stream.
    Column(String),
    /// In an array (rows, bases), row by row; rows longer than their sequence are cut.
    Array(npy::Array<f32>),
}

impl Scores {
    /// Finds the scores of a stream: the column `name`, or else the first of [`SCORES`] that is there.
    ///
    /// # Errors
    ///
    /// When there is no such column of lists of float32.
    pub fn of(schema: &Schema, name: Option<&str>) -> Result<Self> {
        let present = || SCORES.into_iter().find(|name| schema::has(schema, name));
        let Some(name) = name.or_else(present) else {
            let names = SCORES.join(", ");
            return Err(Error::data(format!(
                "the stream has no scores of bases ({names}): nyx-attrib and nyx-score make them"
            )));
        };
        schema::require(schema, name, &schema::list_of(DataType::Float32))?;
        Ok(Self::Column(name.into()))
    }

    /// Checks that an array has two axes.
    ///
    /// # Errors
    ///
    /// When it has not.
    pub fn array(array: npy::Array<f32>) -> Result<Self> {
        match array.shape[..] {
            [_, _] => Ok(Self::Array(array)),
            _ => Err(Error::data(format!("shape {:?}: scores are an array (rows, bases)", array.shape))),
        }
    }

    /// Checks that an array has been used up by `rows` rows.
    ///
    /// # Errors
    ///
    /// When it has more rows: scores and rows are not of the same set.
    pub fn check_rows(&self, rows: usize) -> Result<()> {
        match self {
            Self::Array(array) if array.shape[0] != rows => Err(Error::data(format!(
                "the array of scores has {} rows, the stream {rows}: they are not of the same sequences",
                array.shape[0]
            ))),
            _ => Ok(()),
        }
    }
}

/// Typed views of one batch.
pub struct Views<'b> {
    batch: &'b RecordBatch,
    sequences: &'b StringArray,
    labels: Option<&'b ListArray>,
    scores: Option<&'b ListArray>,
    array: Option<&'b npy::Array<f32>>,
    first: usize,
}

impl<'b> Views<'b> {
    /// Returns the views of a batch whose first row is number `first` of the stream.
    pub fn of(batch: &'b RecordBatch, scores: Option<&'b Scores>, first: usize) -> Result<Self> {
        let column = match scores {
            Some(Scores::Column(name)) => Some(schema::lists(batch, name)?),
            _ => None,
        };
        let labels =
            schema::has(batch.schema_ref(), LABEL).then(|| schema::lists(batch, LABEL)).transpose()?;
        let array = match scores {
            Some(Scores::Array(array)) => Some(array),
            _ => None,
        };
        Ok(Self { batch, sequences: schema::strings(batch, SEQUENCE)?, labels, scores: column, array, first })
    }

    /// Returns the sequence of a row, if it has one.
    ///
    /// # Errors
    ///
    /// When it holds anything but upper-case `ACGTN`.
    pub fn sequence(&self, row: usize) -> Result<Option<&'b [u8]>> {
        if self.sequences.is_null(row) {
            return Ok(None);
        }
        let sequence = self.sequences.value(row).as_bytes();
        schema::check_bases(sequence).map_err(|error| self.at(row, error))?;
        Ok(Some(sequence))
    }

    /// Returns whether label number `class` of a row is one.
    ///
    /// # Errors
    ///
    /// When the row has no such label.
    pub fn is_positive(&self, row: usize, class: usize) -> Result<bool> {
        let labels = match self.labels {
            Some(lists) => schema::float_items(lists, row)?,
            None => &[],
        };
        match labels.get(class) {
            Some(&label) => Ok(label > 0.5),
            None => Err(self.at(row, Error::data(format!("the row has no label number {class}")))),
        }
    }

    /// Returns the scores of a row of `length` bases; `None` where the column is null.
    ///
    /// # Errors
    ///
    /// When they are not one for each base.
    pub fn scores(&self, row: usize, length: usize) -> Result<Option<&'b [f32]>> {
        let scores = match (self.scores, self.array) {
            (Some(lists), _) if lists.is_null(row) => return Ok(None),
            (Some(lists), _) => schema::float_items(lists, row)?,
            (None, Some(array)) => self.array_row(array, row, length)?,
            (None, None) => return Ok(None),
        };
        if scores.len() != length {
            let message = format!("{} scores for {length} bases", scores.len());
            return Err(self.at(row, Error::data(message)));
        }
        Ok(Some(scores))
    }

    fn array_row(&self, array: &'b npy::Array<f32>, row: usize, length: usize) -> Result<&'b [f32]> {
        let width = array.shape[1];
        let row = self.first + row;
        if row >= array.shape[0] {
            return Err(Error::data(format!(
                "the array of scores has {} rows, the stream more: they are not of the same sequences",
                array.shape[0]
            )));
        }
        Ok(&array.values[row * width..row * width + width.min(length)])
    }

    /// Puts the row in front of an error.
    pub fn at(&self, row: usize, error: Error) -> Error {
        error.at(schema::describe(self.batch, row))
    }
}

/// Sequences end to end.
#[derive(Clone, Debug, Default)]
pub struct Sequences {
    bases: Vec<u8>,
    ends: Vec<usize>,
}

impl Sequences {
    /// Adds a sequence.
    pub fn push(&mut self, bases: &[u8]) {
        self.bases.extend_from_slice(bases);
        self.ends.push(self.bases.len());
    }

    /// Returns how many sequences there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns sequence number `index`.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bases[start..self.ends[index]]
    }

    /// Returns all sequences.
    pub fn slices(&self) -> Vec<&[u8]> {
        (0..self.len()).map(|index| self.get(index)).collect()
    }
}
