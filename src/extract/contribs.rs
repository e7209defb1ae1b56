//! Stage: contribution scores that other tools have written → rows.
//!
//! Whatever the file, one row is one region: its sequence, the contribution of each observed base
//! (`contributions`, length L) and, where the file has them, the contributions of all four bases
//! (`hypothetical`, length 4·L, rows A C G T). Regions that read past the end of a contig are padded with
//! `N` and 0. Values are float32 as they stand in the file; several files are averaged.

mod arrays;
mod bigwig;
mod hdf5;
mod numpy;
mod onehot;
#[cfg(test)]
mod parity;
mod rows;
mod windows;

pub use arrays::Arrays;
pub use windows::{Window, around_summits};

use std::path::{Path, PathBuf};

use arrow_schema::{DataType, Field, Metadata, SchemaRef};

use crate::error::{Error, Result};
use crate::genome::Genome;
use crate::pipe::Pipe;
use crate::provenance;
use crate::schema::{self, RowKind};

/// Makes rows of windows with the mean of bigWig tracks as contributions; no data is 0.
///
/// The sequence comes from `genome`. A window on a contig that the genome does not have keeps its row,
/// with status `unknown_contig` and without sequence and contributions.
///
/// # Errors
///
/// A file that is no bigWig, that has no contig of the genome or another length for one; damage met while
/// reading.
pub fn from_bigwig(
    files: &[PathBuf],
    genome: Genome,
    windows: Vec<Window>,
    width: usize,
    batch_rows: usize,
) -> Result<Pipe> {
    let tracks = bigwig::Tracks::open(files, genome.record())?;
    let schema = output_schema(Some(genome.record()), &method("bigwig", files), false);
    Ok(Pipe::new(schema.clone(), bigwig::Rows::new(tracks, genome, windows, width, batch_rows, schema)))
}

/// Makes rows of arrays of sequences and contributions, cut to the central `width` columns.
///
/// `windows` are the coordinates of the rows after the cut, when they are known. With a `genome` every
/// sequence that has coordinates must be what the genome has there.
///
/// # Errors
///
/// Row counts that differ, a `width` larger than the arrays, columns that are not one-hot, sequences that
/// differ between files or from the genome; damage met while reading.
pub fn from_arrays(
    arrays: Arrays,
    windows: Option<Vec<Window>>,
    width: usize,
    genome: Option<Genome>,
    batch_rows: usize,
) -> Result<Pipe> {
    let record = genome.as_ref().map(Genome::record);
    let schema = output_schema(record, arrays.method(), arrays.hypothetical());
    let rows = arrays::Blocks::new(arrays, windows, width, genome, batch_rows, schema.clone())?;
    Ok(Pipe::new(schema, rows))
}

/// Opens ChromBPNet contribution files: `raw/seq` and `shap/seq`, both `[n, 4, len]`.
pub fn chrombpnet(files: &[PathBuf]) -> Result<Arrays> {
    hdf5::open(files, &hdf5::CHROMBPNET, method("chrombpnet-h5", files))
}

/// Opens BPNet contribution files: `input_seqs` and `hyp_scores`, both `[n, len, 4]`.
pub fn bpnet(files: &[PathBuf]) -> Result<Arrays> {
    hdf5::open(files, &hdf5::BPNET, method("bpnet-h5", files))
}

/// Returns the coordinates that a BPNet contribution file has itself, if it has them for whole rows.
pub fn bpnet_windows(file: &Path, width: usize) -> Result<Option<Vec<Window>>> {
    hdf5::bpnet_windows(file, width)
}

/// Opens one-hot sequences `[n, 4, len]` and attributions `[n, 4, len]` or `[n, len]`, in `.npy` files or
/// as `arr_0` of `.npz` files.
pub fn numpy(sequences: &Path, attributions: &[PathBuf]) -> Result<Arrays> {
    numpy::open(sequences, attributions, method("numpy", attributions))
}

/// Opens a regions file of Fi-NeMo with the coordinates in it, cut to the central `width` columns.
pub fn finemo_regions(file: &Path, width: Option<usize>) -> Result<(Arrays, Option<Vec<Window>>, usize)> {
    numpy::open_regions(file, width, method("finemo-regions", std::slice::from_ref(&file.to_owned())))
}

/// Says where contributions come from: the reader and the names of the files.
fn method(reader: &str, files: &[PathBuf]) -> String {
    let names: Vec<_> =
        files.iter().map(|file| file.file_name().unwrap_or_default().to_string_lossy()).collect();
    format!("{reader}:{}", names.join(","))
}

fn output_schema(genome: Option<&provenance::Genome>, method: &str, hypothetical: bool) -> SchemaRef {
    let field = |name| {
        let field = Field::new(name, schema::list_of(DataType::Float32), true);
        field.with_metadata(Metadata::new().with(schema::METHOD_KEY, method))
    };
    let base = RowKind::Regions.schema(genome);
    let with = schema::with_field(&base, field(schema::CONTRIBUTIONS));
    match hypothetical {
        true => schema::with_field(&with, field(schema::HYPOTHETICAL)),
        false => with,
    }
}

/// Returns the first of `width` central columns of `length`.
///
/// An even width has the center right of the middle, as [`crate::region::Region::around`] has it.
///
/// # Errors
///
/// When there are fewer columns than `width`.
fn central(length: usize, width: usize) -> Result<usize> {
    if width > length {
        return Err(Error::data(format!(
            "the arrays are {length} bases wide, {width} were asked for: use --width {length} or less"
        )));
    }
    Ok(length / 2 - width / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_central_columns_keep_the_center_in_its_place() {
        for length in 1..12 {
            for width in 1..=length {
                let first = central(length, width).unwrap();
                assert!(first + width <= length, "{length} {width}");
                assert_eq!(first + width / 2, length / 2, "{length} {width}");
            }
            assert!(central(length, length + 1).unwrap_err().to_string().contains("--width"));
        }
    }
}
