//! Contribution files of ChromBPNet and BPNet in HDF5, read by rows.

use std::ops::Range;
use std::path::{Path, PathBuf};

use rust_hdf5::format::messages::datatype::DatatypeMessage;
use rust_hdf5::{H5Dataset, Hdf5Error};

use super::arrays::{Arrays, Reader, Shape};
use super::central;
use super::windows::Window;
use crate::error::{Error, InFile, Result};
use crate::input::hdf5::{Hdf5, run};

/// Where the arrays are in a file, and whether the bases are the last axis.
pub struct Layout {
    sequences: &'static str,
    attributions: &'static str,
    bases_last: bool,
}

/// `[n, 4, len]`, as `chrombpnet contribs_bw` writes it.
pub const CHROMBPNET: Layout = Layout { sequences: "raw/seq", attributions: "shap/seq", bases_last: false };

/// `[n, len, 4]`, as `bpnet-shap` writes it.
pub const BPNET: Layout = Layout { sequences: "input_seqs", attributions: "hyp_scores", bases_last: true };

/// Opens files of one layout.
pub fn open(files: &[PathBuf], layout: &Layout, method: String) -> Result<Arrays> {
    let mut sequences: Vec<Box<dyn Reader>> = Vec::new();
    let mut attributions: Vec<Box<dyn Reader>> = Vec::new();
    for path in files {
        let file = Hdf5::open(path)?;
        sequences.push(Box::new(Dataset::open(&file, path, layout.sequences, layout.bases_last)?));
        attributions.push(Box::new(Dataset::open(&file, path, layout.attributions, layout.bases_last)?));
    }
    Arrays::new(sequences, attributions, method)
}

/// Reads the coordinates of a BPNet file, `coords_chrom`, `coords_start` and `coords_end`, and cuts them to
/// the central `width` bases; `None` when they are not there or do not span the rows.
pub fn bpnet_windows(path: &Path, width: usize) -> Result<Option<Vec<Window>>> {
    let file = Hdf5::open(path)?;
    let present = file.dataset_names().in_file(path)?;
    let is_there = |name: &str| present.iter().any(|other| other.trim_start_matches('/') == name);
    if !["coords_chrom", "coords_start", "coords_end"].into_iter().all(is_there) {
        return Ok(None);
    }
    let dataset = |name| file.dataset(name).in_file(path);
    let (chroms, starts, ends) = (dataset("coords_chrom")?, dataset("coords_start")?, dataset("coords_end")?);
    let length = Dataset::open(&file, path, BPNET.sequences, true)?.shape.length;
    let chroms = run(|| chroms.read_strings()).in_file(path)?;
    let starts = run(|| starts.read_numeric_as::<i64>()).in_file(path)?;
    let ends = run(|| ends.read_numeric_as::<i64>()).in_file(path)?;
    let on_contigs = starts.iter().all(|start| start.unsigned_abs() < 1 << 48);
    let spans = starts.iter().zip(&ends).all(|(start, end)| end.wrapping_sub(*start) == length as i64);
    if !on_contigs || !spans || chroms.len() != starts.len() || starts.len() != ends.len() {
        return Ok(None);
    }
    let first = central(length, width).in_file(path)? as i64;
    let window = |(row, (chrom, start)): (usize, (String, i64))| Window {
        region: row as u64,
        chrom: Some(chrom.trim_end_matches('\0').to_string()),
        start: start + first,
        name: None,
    };
    Ok(Some(chroms.into_iter().zip(starts).enumerate().map(window).collect()))
}

/// How the values are stored; all are read as float32.
#[derive(Clone, Copy)]
enum Kind {
    Single,
    Double,
    Integer,
}

/// A three-dimensional dataset.
struct Dataset {
    dataset: H5Dataset,
    place: String,
    shape: Shape,
    bases_last: bool,
    kind: Kind,
    done: usize,
}

impl Dataset {
    fn open(file: &Hdf5, path: &Path, name: &str, bases_last: bool) -> Result<Self> {
        let place = format!("{}[{name}]", path.display());
        let at = |error: Error| error.at(place.clone());
        let dataset = file.dataset(name).in_file(path)?;
        let shape = match (dataset.shape().as_slice(), bases_last) {
            (&[rows, 4, length], false) | (&[rows, length, 4], true) => Shape { rows, channels: 4, length },
            (other, _) => {
                let wanted = if bases_last { "[n, length, 4]" } else { "[n, 4, length]" };
                return Err(at(Error::data(format!("the shape is {other:?}, not {wanted}"))));
            }
        };
        let kind = match run(|| dataset.datatype()).map_err(at)? {
            DatatypeMessage::FloatingPoint { size: 8, .. } => Kind::Double,
            DatatypeMessage::FloatingPoint { .. } => Kind::Single,
            DatatypeMessage::FixedPoint { .. } => Kind::Integer,
            _ => return Err(at(Error::data("the dataset does not hold numbers"))),
        };
        Ok(Self { dataset, place, shape, bases_last, kind, done: 0 })
    }

    fn values(&self, starts: [usize; 3], counts: [usize; 3]) -> Result<Vec<f32>, Hdf5Error> {
        match self.kind {
            Kind::Single => self.dataset.read_numeric_slice_as::<f32>(&starts, &counts),
            Kind::Double => {
                let values = self.dataset.read_numeric_slice_as::<f64>(&starts, &counts)?;
                Ok(values.into_iter().map(|value| value as f32).collect())
            }
            Kind::Integer => {
                let values = self.dataset.read_numeric_slice_as::<i64>(&starts, &counts)?;
                Ok(values.into_iter().map(|value| value as f32).collect())
            }
        }
    }
}

impl Reader for Dataset {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn read(&mut self, count: usize, columns: Range<usize>) -> Result<Vec<f32>> {
        let width = columns.len();
        let (starts, counts) = match self.bases_last {
            false => ([self.done, 0, columns.start], [count, 4, width]),
            true => ([self.done, columns.start, 0], [count, width, 4]),
        };
        let values = run(|| self.values(starts, counts))?;
        self.done += count;
        Ok(if self.bases_last { bases_first(&values, width) } else { values })
    }
}

/// Turns `[n, width, 4]` into `[n, 4, width]`.
fn bases_first(values: &[f32], width: usize) -> Vec<f32> {
    let mut turned = Vec::with_capacity(values.len());
    for row in values.chunks_exact(4 * width) {
        for base in 0..4 {
            turned.extend(row[base..].iter().step_by(4));
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_the_axes_puts_each_base_in_its_row() {
        // Value = 100 * row + 10 * column + base.
        let value = |row: usize, column: usize, base: usize| (100 * row + 10 * column + base) as f32;
        let mut last = Vec::new();
        let mut first = Vec::new();
        for row in 0..2 {
            (0..3).for_each(|column| last.extend((0..4).map(|base| value(row, column, base))));
            (0..4).for_each(|base| first.extend((0..3).map(|column| value(row, column, base))));
        }
        assert_eq!(bases_first(&last, 3), first);
    }
}
