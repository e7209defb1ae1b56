//! NumPy's `.npy` and `.npz` files, read into row-major arrays of the type that is wanted.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use half::f16;
use npyz::npz::NpzArchive;
use npyz::zip::read::ZipFile;
use npyz::{DType, NpyFile, Order, TypeChar};

use crate::error::{Error, InFile, Result};

/// A row-major array.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<T> {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// The values, the last axis fastest.
    pub values: Vec<T>,
}

/// Numbers that any NumPy number converts to, as `astype` does.
pub trait Number: Copy {
    /// Converts, rounding where it must.
    fn from_f64(value: f64) -> Self;
    /// Converts, exactly where it can.
    fn from_i64(value: i64) -> Self;
}

impl Number for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    fn from_i64(value: i64) -> Self {
        value as f32
    }
}

impl Number for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
    fn from_i64(value: i64) -> Self {
        value as f64
    }
}

impl Number for i64 {
    fn from_f64(value: f64) -> Self {
        value as i64
    }
    fn from_i64(value: i64) -> Self {
        value
    }
}

/// Reads the array of an `.npy` file.
pub fn read_npy<T: Number>(path: &Path) -> Result<Array<T>> {
    let file = BufReader::new(File::open(path).in_file(path)?);
    let npy = NpyFile::new(file).in_file(path)?;
    numbers(npy).in_file(path)
}

/// An open `.npz` archive.
pub struct Npz {
    path: PathBuf,
    archive: NpzArchive<BufReader<File>>,
}

impl Npz {
    /// Opens the archive at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let archive = NpzArchive::open(path).in_file(path)?;
        Ok(Self { path: path.to_owned(), archive })
    }

    /// Returns whether the archive has the array `name`.
    pub fn has(&self, name: &str) -> bool {
        self.archive.array_names().any(|present| present == name)
    }

    /// Returns the names of the arrays.
    pub fn names(&self) -> Vec<String> {
        self.archive.array_names().map(str::to_string).collect()
    }

    /// Reads the array `name`, of whatever numbers, as `T`.
    pub fn numbers<T: Number>(&mut self, name: &str) -> Result<Array<T>> {
        self.read(name, |npy| numbers(npy))
    }

    /// Reads the one-dimensional array `name` of text.
    pub fn texts(&mut self, name: &str) -> Result<Vec<String>> {
        self.read(name, |npy| {
            let texts = npy.data().map_err(|error| Error::data(error.to_string()))?;
            // NumPy pads its fixed-width text with zeros.
            texts.map(|text: std::io::Result<String>| Ok(text?.trim_end_matches('\0').to_string())).collect()
        })
    }

    fn read<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(NpyFile<&mut ZipFile<'_>>) -> Result<T>,
    ) -> Result<T> {
        if !self.has(name) {
            let message = format!("no array `{name}` (it has {})", self.names().join(", "));
            return Err(Error::data(message)).in_file(&self.path);
        }
        let place = format!("{}[{name}]", self.path.display());
        let file = npyz::npz::file_name_from_array_name(name);
        let entry = self.archive.zip_archive().by_name(&file).map_err(|error| Error::data(error.to_string()));
        let values = entry.and_then(|mut entry| {
            let values = read(NpyFile::new(&mut entry)?)?;
            // The checksum of an archive is checked where its data end.
            std::io::copy(&mut entry, &mut std::io::sink())?;
            Ok(values)
        });
        values.map_err(|error| error.at(place))
    }
}

/// Reads the numbers of one array.
fn numbers<T: Number, R: Read>(npy: NpyFile<R>) -> Result<Array<T>> {
    let shape: Vec<usize> = npy.shape().iter().map(|&n| n as usize).collect();
    if npy.order() == Order::Fortran && shape.len() > 1 {
        return Err(Error::data("the array is in Fortran order: save it with numpy.ascontiguousarray"));
    }
    let DType::Plain(kind) = npy.dtype() else {
        return Err(Error::data("the array holds records, not numbers"));
    };
    macro_rules! read {
        ($native:ty, $convert:expr) => {
            npy.into_vec::<$native>()?.into_iter().map($convert).collect()
        };
    }
    let values = match (kind.type_char(), kind.size_field()) {
        (TypeChar::Float, 2) => read!(f16, |v| T::from_f64(v.to_f64())),
        (TypeChar::Float, 4) => read!(f32, |v| T::from_f64(v.into())),
        (TypeChar::Float, 8) => read!(f64, T::from_f64),
        (TypeChar::Int, 1) => read!(i8, |v| T::from_i64(v.into())),
        (TypeChar::Int, 2) => read!(i16, |v| T::from_i64(v.into())),
        (TypeChar::Int, 4) => read!(i32, |v| T::from_i64(v.into())),
        (TypeChar::Int, 8) => read!(i64, T::from_i64),
        (TypeChar::Uint, 1) => read!(u8, |v| T::from_i64(v.into())),
        (TypeChar::Uint, 2) => read!(u16, |v| T::from_i64(v.into())),
        (TypeChar::Uint, 4) => read!(u32, |v| T::from_i64(v.into())),
        (TypeChar::Uint, 8) => read!(u64, |v| T::from_i64(v as i64)),
        (TypeChar::Bool, _) => read!(bool, |v| T::from_i64(v.into())),
        _ => return Err(Error::data(format!("the array holds {kind}, not numbers"))),
    };
    Ok(Array { shape, values })
}

#[cfg(test)]
mod tests {
    use super::*;
    use npyz::WriterBuilder;

    #[test]
    fn any_number_type_reads_as_the_one_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.npy");
        let mut bytes = Vec::new();
        let options = npyz::WriteOptions::new().default_dtype().shape(&[2, 2]);
        let mut writer = options.writer(&mut bytes).begin_nd().unwrap();
        writer.extend([1i32, -2, 3, 4]).unwrap();
        writer.finish().unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let array: Array<f32> = read_npy(&path).unwrap();
        assert_eq!((array.shape, array.values), (vec![2, 2], vec![1.0, -2.0, 3.0, 4.0]));
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(read_npy::<f32>(&path).unwrap_err().to_string().contains("a.npy"));
    }

    #[test]
    fn a_number_that_changed_in_an_archive_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.npz");
        let mut npz = npyz::npz::NpzWriter::create(&path).unwrap();
        npz.array(
            "x",
            npyz::zip::write::FileOptions::default().compression_method(npyz::zip::CompressionMethod::Stored),
        )
        .unwrap()
        .default_dtype()
        .shape(&[3])
        .begin_nd()
        .unwrap()
        .extend([1.5f64, 2.5, 3.5])
        .unwrap();
        drop(npz);
        assert_eq!(Npz::open(&path).unwrap().numbers::<f64>("x").unwrap().values, [1.5, 2.5, 3.5]);
        let mut bytes = std::fs::read(&path).unwrap();
        let place = bytes.windows(8).position(|bytes| bytes == 2.5f64.to_le_bytes()).unwrap();
        bytes[place + 6] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = Npz::open(&path).unwrap().numbers::<f64>("x").unwrap_err().to_string();
        assert!(error.contains("a.npz[x]") && error.to_lowercase().contains("checksum"), "{error}");
    }
}
