//! NumPy's `.npy` and `.npz` files, read into row-major arrays of the type that is wanted.
//!
//! A header is checked against the bytes that there are before anything is made of it, an archive's promise of more
//! bytes against what its entries can hold, so that memory follows the file and not what the file says of itself.

use std::fs::File;
use std::io::{BufReader, Read, Take};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use half::f16;
use npyz::npz::{NpzArchive, file_name_from_array_name};
use npyz::zip::read::ZipFile;
use npyz::{DType, NpyFile, NpyHeader, Order, TypeChar};

use crate::error::{Error, InFile, Result, guarded};

/// Bytes that a header may have; NumPy itself reads no more than 10000.
const HEADER_MAX: usize = 1 << 16;
/// How deep tuples, lists and dictionaries of a header may be nested. Its reader tries a brace in two ways, and
/// what is inside it as often.
const NESTING_MAX: usize = 8;
/// Bytes that an entry may expand to however little it takes in the archive.
const EXPANDED_FREE: u64 = 256 << 20;
/// How many times larger than in the archive an entry may be beyond that. One-hot sequences reach 60.
const EXPANSION_MAX: u64 = 300;

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
    let file = File::open(path).in_file(path)?;
    let length = file.metadata().in_file(path)?.len();
    open_array(BufReader::new(file), length).and_then(numbers).in_file(path)
}

/// Reads the header of an array, which leaves `reader` at the first value; `length` is how many bytes the array and its
/// header have.
///
/// # Errors
///
/// When it is no header of an array, is longer or more deeply nested than any that NumPy writes, or its shape needs
/// more bytes than there are.
pub fn read_header(reader: &mut impl Read, length: u64) -> Result<NpyHeader> {
    let mut bytes = vec![0; 10];
    reader.read_exact(&mut bytes).map_err(|_| Error::data("not an .npy array: it has no header"))?;
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err(Error::data("not an .npy array"));
    }
    let mut size = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    if bytes[6] > 1 {
        let mut more = [0; 2];
        reader.read_exact(&mut more)?;
        bytes.extend(more);
        size |= usize::from(u16::from_le_bytes(more)) << 16;
    }
    if size > HEADER_MAX {
        return Err(Error::data(format!("a header of {size} bytes: no array has more than {HEADER_MAX}")));
    }
    let begin = bytes.len();
    bytes.resize(begin + size, 0);
    reader.read_exact(&mut bytes[begin..]).map_err(|_| Error::data("the file ends within its header"))?;
    if nesting(&bytes[begin..]) > NESTING_MAX {
        return Err(Error::data("its header is nested deeper than that of any array of numbers"));
    }
    let header = guarded("the header of the array", || NpyHeader::from_reader(&bytes[..]))??;
    check_size(&header, length.saturating_sub(bytes.len() as u64))?;
    Ok(header)
}

/// Returns how deep brackets are nested, those in texts counted, too.
fn nesting(header: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in header {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Checks that the values a header describes are among the `length` bytes that follow it.
fn check_size(header: &NpyHeader, length: u64) -> Result<()> {
    let shape = header.shape();
    let count = shape.iter().try_fold(1u64, |count, &n| count.checked_mul(n));
    let size = header.dtype().num_bytes().map(|size| size as u64);
    let bytes = count.zip(size).and_then(|(count, size)| count.checked_mul(size));
    match bytes {
        Some(bytes) if bytes <= length && (size != Some(0) || count == Some(0)) => Ok(()),
        _ if header.uses_pickled_array() => {
            Err(Error::data("the array holds Python objects, which nyx does not make: save numbers or text"))
        }
        _ => Err(Error::data(format!(
            "its header says {shape:?} values of {} bytes, but {length} bytes follow: the file is damaged or cut short",
            size.unwrap_or(0)
        ))),
    }
}

/// Reads the header of an array of `length` bytes.
fn open_array<R: Read>(mut reader: R, length: u64) -> Result<NpyFile<R>> {
    let header = read_header(&mut reader, length)?;
    Ok(NpyFile::with_header(header, reader))
}

/// Refuses an entry of an archive that expands to far more than arrays do.
///
/// # Errors
///
/// When `size` bytes come out of `stored` ones, more than 300 times as many and more than 256 MiB.
pub fn check_expansion(stored: u64, size: u64) -> Result<()> {
    if size <= EXPANDED_FREE || size <= stored.saturating_mul(EXPANSION_MAX) {
        return Ok(());
    }
    Err(Error::data(format!(
        "{stored} bytes that expand to {size}: arrays do not compress like that. If you know where it is from, \
         unpack it (`unzip`) and give the .npy"
    )))
}

/// Opens an `.npz` archive, whose list of arrays has no checksum: each must have the name that stands before it.
///
/// # Errors
///
/// When it is no archive, or its names differ.
pub fn open_archive(path: &Path) -> Result<NpzArchive<BufReader<File>>> {
    let mut archive = guarded("the zip archive", || NpzArchive::open(path))??;
    let file = File::open(path)?;
    let zip = archive.zip_archive();
    for index in 0..zip.len() {
        let entry = guarded("the zip archive", || zip.by_index_raw(index))?;
        let entry = entry.map_err(|error| Error::data(error.to_string()))?;
        let (name, start) = (entry.name_raw(), entry.header_start());
        let mut before = vec![0; name.len() + 32];
        let read = file.read_at(&mut before, start)?;
        // The length of the name is at byte 26, the name at 30.
        let length = before.get(26..28).map(|bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])));
        if length != Some(name.len()) || before[..read].get(30..30 + name.len()) != Some(name) {
            let message = "its list of arrays is not that of the arrays in it: the file is damaged";
            return Err(Error::data(message));
        }
    }
    Ok(archive)
}

/// An open `.npz` archive.
pub struct Npz {
    path: PathBuf,
    archive: NpzArchive<BufReader<File>>,
}

impl Npz {
    /// Opens the archive at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let archive = open_archive(path).in_file(path)?;
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
        read: impl FnOnce(NpyFile<&mut Take<ZipFile<'_>>>) -> Result<T>,
    ) -> Result<T> {
        if !self.has(name) {
            let message = format!("no array `{name}` (it has {})", self.names().join(", "));
            return Err(Error::data(message)).in_file(&self.path);
        }
        let place = format!("{}[{name}]", self.path.display());
        self.checked(name, read).map_err(|error| error.at(place))
    }

    fn checked<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(NpyFile<&mut Take<ZipFile<'_>>>) -> Result<T>,
    ) -> Result<T> {
        let zip = self.archive.zip_archive();
        let entry = guarded("the zip archive", || zip.by_name(&file_name_from_array_name(name)))?;
        let entry = entry.map_err(|error| Error::data(error.to_string()))?;
        check_expansion(entry.compressed_size(), entry.size())?;
        let length = entry.size();
        let mut entry = entry.take(length.saturating_add(1));
        let values = read(open_array(&mut entry, length)?)?;
        // The checksum of an archive is checked where its data end.
        std::io::copy(&mut entry, &mut std::io::sink())?;
        match entry.limit() {
            0 => Err(Error::data(format!("more than the {length} bytes it says: the file is damaged"))),
            _ => Ok(values),
        }
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

    fn npy(version: u8, header: &str, values: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((header.len() as u16).to_le_bytes()),
            _ => bytes.extend((header.len() as u32).to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes.extend(values);
        bytes
    }

    fn refused(bytes: &[u8]) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.npy");
        std::fs::write(&path, bytes).unwrap();
        let message = read_npy::<f32>(&path).unwrap_err().to_string();
        assert!(message.contains("a.npy"), "{message}");
        message
    }

    #[test]
    fn a_header_that_promises_more_than_the_file_has_is_refused_before_anything_is_allocated() {
        let header = |descr: &str, shape: &str| {
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n")
        };
        for (descr, shape) in [
            ("<f4", "(3,)"),
            ("<f4", "(4611686018427387904,)"),
            // Products of 2^64 and 2^65.
            ("<f4", "(4294967296, 4294967296)"),
            ("<f4", "(4294967296, 4294967296, 2)"),
            ("|S0", "(9223372036854775807,)"),
        ] {
            let message = refused(&npy(1, &header(descr, shape), &[0; 8]));
            assert!(message.contains("8 bytes follow") || message.contains("gave up"), "{message}");
        }
        let message = refused(&npy(1, &header("|O", "(1,)"), &[0; 8]));
        assert!(message.contains("Python objects"), "{message}");
        let mut huge = npy(2, "{}", &[]);
        huge[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(refused(&huge).contains("header of 4294967295 bytes"));
    }

    #[test]
    fn a_header_of_brackets_costs_neither_stack_nor_time() {
        for bracket in ["(", "[", "{", "{1:"] {
            let message = refused(&npy(1, &bracket.repeat(20_000), &[]));
            assert!(message.contains("nested"), "{message}");
        }
        // As deep as is allowed: two ways at each brace.
        refused(&npy(1, &"{".repeat(NESTING_MAX), &[]));
    }

    #[test]
    fn an_archive_that_expands_beyond_reason_is_refused() {
        check_expansion(1, EXPANDED_FREE).unwrap();
        check_expansion(1 << 30, 300 << 30).unwrap();
        let message = check_expansion(1 << 20, 1 << 30).unwrap_err().to_string();
        assert!(message.contains("1048576 bytes that expand to 1073741824"), "{message}");
    }

    /// The list at the end of an archive has no checksum: an array under another name would not be there.
    #[test]
    fn an_array_whose_name_changed_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.npz");
        let mut npz = npyz::npz::NpzWriter::create(&path).unwrap();
        let options = npyz::zip::write::FileOptions::default();
        npz.array("chr", options)
            .unwrap()
            .default_dtype()
            .shape(&[1])
            .begin_nd()
            .unwrap()
            .extend([1i64])
            .unwrap();
        drop(npz);
        let whole = std::fs::read(&path).unwrap();
        assert!(Npz::open(&path).unwrap().has("chr"));
        let places = (0..whole.len() - 3).filter(|&at| whole[at..].starts_with(b"chr"));
        let places: Vec<usize> = places.collect();
        assert_eq!(places.len(), 2, "before the array and in the list");
        for at in places {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            let message = Npz::open(&path).err().unwrap().to_string();
            assert!(message.contains("a.npz") && message.contains("list of arrays"), "{message}");
        }
    }

    #[test]
    fn an_entry_that_is_longer_than_the_archive_says_is_an_error() {
        use npyz::zip::{CompressionMethod, ZipWriter, write::FileOptions};
        use std::io::{Cursor, Write};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.npz");
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = FileOptions::default().compression_method(CompressionMethod::Deflated);
        zip.start_file("x.npy", options).unwrap();
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000,), }\n";
        zip.write_all(&npy(1, header, &vec![0; 4_000_000])).unwrap();
        let whole = zip.finish().unwrap().into_inner();
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(Npz::open(&path).unwrap().numbers::<f32>("x").unwrap().values.len(), 1_000_000);
        // The size in the central directory, without compression.
        let central = whole.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
        let mut lying = whole.clone();
        lying[central + 24..central + 28].copy_from_slice(&64u32.to_le_bytes());
        std::fs::write(&path, &lying).unwrap();
        let message = Npz::open(&path).unwrap().numbers::<f32>("x").unwrap_err().to_string();
        assert!(message.contains("a.npz[x]"), "{message}");
    }
}
