//! Arrays of sequences and contributions, whatever file they are in, read block by block.

use std::collections::VecDeque;
use std::ops::Range;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::rows::{Batch, Payload};
use super::windows::Window;
use super::{central, onehot};
use crate::error::{Error, Result};
use crate::genome::Genome;
use crate::schema::Status;

/// Length of the axes of an array `[rows, channels, length]`; `channels` is 4, or 1 for projected values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub rows: usize,
    pub channels: usize,
    pub length: usize,
}

/// An array that is read row by row from the first.
pub trait Reader: Send {
    /// Returns the shape of the whole array.
    fn shape(&self) -> Shape;

    /// Returns the file and the array's name in it.
    fn place(&self) -> String;

    /// Reads `columns` of the next `count` rows as `[count, channels, columns]`.
    fn read(&mut self, count: usize, columns: Range<usize>) -> Result<Vec<f32>>;
}

/// Sequences and contributions of the same regions.
pub struct Arrays {
    sequences: Vec<Box<dyn Reader>>,
    attributions: Vec<Box<dyn Reader>>,
    method: String,
}

impl Arrays {
    /// Puts together one or more arrays of sequences, which must agree, and of attributions, which are
    /// averaged.
    ///
    /// # Errors
    ///
    /// Shapes that differ.
    pub(super) fn new(
        sequences: Vec<Box<dyn Reader>>,
        attributions: Vec<Box<dyn Reader>>,
        method: String,
    ) -> Result<Self> {
        let first = sequences[0].shape();
        let channels = attributions[0].shape().channels;
        let expected = |shape: Shape| Shape { channels: shape.channels, ..first };
        for array in sequences.iter().chain(&attributions) {
            let shape = array.shape();
            let Shape { rows, length, .. } = shape;
            if shape != expected(shape) {
                return Err(Error::data(format!(
                    "{rows} rows of {length} bases, but {} has {} rows of {}",
                    sequences[0].place(),
                    first.rows,
                    first.length
                ))
                .at(array.place()));
            }
        }
        // Where there is no row, nobody knows how wide it would be.
        if first.length == 0 && first.rows > 0 {
            return Err(Error::data("the arrays have no positions").at(sequences[0].place()));
        }
        if let Some(array) = sequences.iter().find(|array| array.shape().channels != 4) {
            return Err(Error::data("sequences need the shape [n, 4, length]").at(array.place()));
        }
        if let Some(array) = attributions.iter().find(|array| array.shape().channels != channels) {
            let message = "some attributions are projected and some hypothetical: they have no mean";
            return Err(Error::data(message).at(array.place()));
        }
        Ok(Self { sequences, attributions, method })
    }

    /// Returns how many bases wide the arrays are.
    pub fn length(&self) -> usize {
        self.sequences[0].shape().length
    }

    /// Returns how many regions there are.
    pub fn rows(&self) -> usize {
        self.sequences[0].shape().rows
    }

    /// Returns the first of the `width` central columns; of no rows any width can be had.
    ///
    /// # Errors
    ///
    /// When there are fewer columns.
    pub(super) fn first_of(&self, width: usize) -> Result<usize> {
        if self.rows() == 0 { Ok(0) } else { central(self.length(), width) }
    }

    /// Returns whether the contributions of all four bases are there.
    pub(super) fn hypothetical(&self) -> bool {
        self.attributions[0].shape().channels == 4
    }

    /// Returns where the contributions come from.
    pub(super) fn method(&self) -> &str {
        &self.method
    }
}

/// The batches of a pipe made from arrays.
pub struct Blocks {
    arrays: Arrays,
    windows: Option<VecDeque<Window>>,
    genome: Option<Genome>,
    columns: Range<usize>,
    batch_rows: usize,
    done: usize,
    schema: SchemaRef,
}

impl Blocks {
    /// Checks that rows and widths agree.
    pub fn new(
        arrays: Arrays,
        windows: Option<Vec<Window>>,
        width: usize,
        genome: Option<Genome>,
        batch_rows: usize,
        schema: SchemaRef,
    ) -> Result<Self> {
        let rows = arrays.rows();
        let first = arrays.first_of(width).map_err(|error| error.at(arrays.sequences[0].place()))?;
        if let Some(windows) = windows.as_ref().filter(|windows| windows.len() != rows) {
            return Err(Error::data(format!(
                "{rows} rows, but there are {} peaks: give the peaks the contributions were made from",
                windows.len()
            ))
            .at(arrays.sequences[0].place()));
        }
        let windows = windows.map(VecDeque::from);
        Ok(Self { arrays, windows, genome, columns: first..first + width, batch_rows, done: 0, schema })
    }

    fn block(&mut self, count: usize) -> Result<RecordBatch> {
        let windows: Vec<Window> = (0..count)
            .map(|row| match &mut self.windows {
                Some(windows) => windows.pop_front().expect("the counts agree"),
                None => Window::unknown((self.done + row) as u64),
            })
            .collect();
        let sequences = self.sequences(count, &windows)?;
        let means = self.means(count)?;
        let width = self.columns.len();
        let size = self.arrays.attributions[0].shape().channels * width;
        let mut batch = Batch::new(self.schema.clone());
        for ((window, sequence), mean) in windows.iter().zip(sequences).zip(means.chunks_exact(size)) {
            self.compare(window, &sequence)?;
            batch.push(window, width, payload(sequence, mean));
        }
        self.done += count;
        batch.finish()
    }

    /// Reads the sequences of a block, which must be the same in every file.
    fn sequences(&mut self, count: usize, windows: &[Window]) -> Result<Vec<String>> {
        let size = 4 * self.columns.len();
        let mut first: Option<Vec<String>> = None;
        for array in &mut self.arrays.sequences {
            let values = array.read(count, self.columns.clone()).map_err(|error| error.at(array.place()))?;
            let decode = |(onehot, window): (&[f32], &Window)| {
                onehot::decode(onehot).map_err(|error| error.at(window.place()).at(array.place()))
            };
            let decoded = values.chunks_exact(size).zip(windows).map(decode).collect::<Result<Vec<_>>>()?;
            let Some(first) = &first else {
                first = Some(decoded);
                continue;
            };
            if let Some(row) = (0..count).find(|&row| first[row] != decoded[row]) {
                let place = windows[row].place();
                let message = format!("the sequence of {place} is not that of the first file");
                return Err(Error::data(message).at(array.place()));
            }
        }
        Ok(first.unwrap_or_default())
    }

    /// Reads the attributions of a block and averages them over the files.
    fn means(&mut self, count: usize) -> Result<Vec<f32>> {
        let files = self.arrays.attributions.len();
        let mut sums: Option<Vec<f32>> = None;
        for array in &mut self.arrays.attributions {
            let values = array.read(count, self.columns.clone()).map_err(|error| error.at(array.place()))?;
            match &mut sums {
                None => sums = Some(values),
                Some(sums) => onehot::add(sums, &values),
            }
        }
        let mut sums = sums.unwrap_or_default();
        if files > 1 {
            sums.iter_mut().for_each(|sum| *sum /= files as f32);
        }
        Ok(sums)
    }

    /// Compares a sequence with the genome, if there is one and the row has coordinates.
    fn compare(&mut self, window: &Window, sequence: &str) -> Result<()> {
        let (Some(genome), Some(chrom)) = (&mut self.genome, &window.chrom) else { return Ok(()) };
        let mut bases = Vec::new();
        let end = window.start + sequence.len() as i64;
        genome.fetch(chrom, window.start, end, &mut bases).map_err(|error| error.at(window.place()))?;
        let different = bases.iter().zip(sequence.as_bytes()).filter(|(a, b)| a != b).count();
        if different == 0 {
            return Ok(());
        }
        Err(Error::data(format!(
            "the sequence in the file differs from the genome in {different} of {} bases: \
             other peaks, another genome or another order of rows",
            sequence.len()
        ))
        .at(window.place()))
    }
}

fn payload(sequence: String, mean: &[f32]) -> Payload {
    let projected = mean.len() == sequence.len();
    let contributions = if projected {
        let mut values = mean.to_vec();
        onehot::mask(&mut values, &sequence);
        values
    } else {
        onehot::project(mean, &sequence)
    };
    let status = if sequence.bytes().all(|base| base == b'N') { Status::AllN } else { Status::Ok };
    let hypothetical = (!projected).then(|| mean.to_vec());
    Payload { sequence: Some(sequence), contributions: Some(contributions), hypothetical, status }
}

impl Iterator for Blocks {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let count = (self.arrays.rows() - self.done).min(self.batch_rows);
        if count == 0 {
            return None;
        }
        let block = self.block(count);
        if block.is_err() {
            self.done = self.arrays.rows();
        }
        Some(block)
    }
}
