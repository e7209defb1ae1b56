//! NumPy's files and HDF5.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use npyz::NpyFile;
use npyz::zip::ZipArchive;

use super::{Checked, broken, history};
use crate::error::{Error, Result};
use crate::input::hdf5::Hdf5;
use crate::provenance::{CHAIN_KEY, Step};

/// What a damaged zip archive says.
fn damaged(error: impl std::fmt::Display) -> Error {
    broken(format!("cut or damaged ({error})"))
}

fn open_zip(path: &Path) -> Result<ZipArchive<BufReader<File>>> {
    ZipArchive::new(BufReader::new(File::open(path)?)).map_err(damaged)
}

/// Checks an archive of arrays: its directory, the checksum of every member, their sizes.
pub fn npz(path: &Path) -> Result<Checked> {
    let mut archive = open_zip(path)?;
    let mut lengths = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).map_err(damaged)?;
        let name = member.name().to_string();
        let shape = array(&mut member).map_err(|error| error.at(name))?;
        lengths.push(shape.first().copied().unwrap_or(0));
    }
    let steps = steps_in(archive.comment())?;
    let count = lengths.len();
    let checked = Checked::of("npz").holds(format!("directory, checksums and sizes of {count} arrays"));
    let checked = checked.made_by(&steps)?;
    Ok(match lengths.as_slice() {
        [first, rest @ ..] if rest.iter().all(|length| length == first) => {
            checked.with_rows(*first).holds("as many rows in every array")
        }
        _ => checked.cannot_tell("how many rows there should be: arrays have different lengths"),
    })
}

/// Reads the stages in the comment of an archive.
pub fn npz_chain(path: &Path) -> Result<Vec<Step>> {
    steps_in(open_zip(path)?.comment())
}

fn steps_in(comment: &[u8]) -> Result<Vec<Step>> {
    // A comment of another program is none of ours.
    let value: serde_json::Value = serde_json::from_slice(comment).unwrap_or_default();
    history::steps_of(&value[CHAIN_KEY])
}

/// Checks one array.
pub fn npy(path: &Path) -> Result<Checked> {
    let shape = array(&mut BufReader::new(File::open(path)?))?;
    let checked = Checked::of("npy").holds("header and size");
    let checked = checked.with_rows(shape.first().copied().unwrap_or(0));
    Ok(checked.cannot_tell("the format has neither a checksum nor a place for its history"))
}

/// Reads an array to its end and returns its shape; nothing may follow.
fn array(reader: &mut impl Read) -> Result<Vec<u64>> {
    let npy = NpyFile::new(&mut *reader).map_err(damaged)?;
    let (shape, size) = (npy.shape().to_vec(), npy.dtype().num_bytes());
    drop(npy);
    let size = size.ok_or_else(|| Error::data("an array of objects, which nyx does not write"))? as u64;
    let expected = shape.iter().try_fold(size, |size, &length| size.checked_mul(length));
    let expected = expected.ok_or_else(|| broken(format!("an array of {shape:?} is too large to be one")))?;
    let found = io::copy(reader, &mut io::sink()).map_err(damaged)?;
    if found != expected {
        return Err(broken(format!("an array of {shape:?} has {found} bytes, and not {expected}")));
    }
    Ok(shape)
}

/// Checks an HDF5 file: its length, and that every numeric dataset can be read.
pub fn hdf5(path: &Path) -> Result<Checked> {
    let file = Hdf5::open(path)?;
    let steps = attribute(&file)?;
    let datasets = datasets(&file).map_err(damaged)?;
    let checked = Checked::of("HDF5").holds("length as in its first block");
    let checked = checked.holds(format!("{datasets} datasets have their shapes"));
    let checked = match crate::motif::read(path) {
        Ok(patterns) => checked.holds(format!("{} patterns can be read", patterns.len())),
        // Contributions and other arrays are no motifs.
        Err(_) => checked,
    };
    let checked = checked.made_by(&steps)?;
    Ok(checked.cannot_tell("datasets have no checksum: a number that was changed is not seen"))
}

/// Reads the stages in the attribute of the root.
pub fn hdf5_chain(path: &Path) -> Result<Vec<Step>> {
    attribute(&Hdf5::open(path)?)
}

fn attribute(file: &Hdf5) -> Result<Vec<Step>> {
    match file.text(CHAIN_KEY) {
        Ok(text) => history::steps_of(&serde_json::from_str(&text)?),
        // Files of other programs have no such attribute.
        Err(_) => Ok(Vec::new()),
    }
}

/// Counts the datasets of all groups.
fn datasets(file: &Hdf5) -> Result<u64> {
    let names = file.dataset_names()?;
    names.iter().try_for_each(|name| file.dataset(name).map(|dataset| _ = dataset.shape()))?;
    Ok(names.len() as u64)
}
