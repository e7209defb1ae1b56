//! Arrays in `.npy` and `.npz` files, read row by row without holding them, and Fi-NeMo's regions file.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::f16;
use npyz::zip::CompressionMethod;
use npyz::{DType, Endianness, Order, TypeChar};

use super::arrays::{Arrays, Reader, Shape};
use super::windows::Window;
use crate::error::{Error, InFile, Result, guarded};
use crate::npy::{self, Npz};

/// The name that `numpy.savez` gives to an array without one.
const UNNAMED: &str = "arr_0";

/// Opens one file of sequences and files of attributions.
pub fn open(sequences: &Path, attributions: &[PathBuf], method: String) -> Result<Arrays> {
    let attributions = attributions.iter().map(|path| Rows::open(path, UNNAMED)).collect::<Result<_>>()?;
    Arrays::new(vec![Rows::open(sequences, UNNAMED)?], attributions, method)
}

/// Opens a regions file of Fi-NeMo: its arrays, its coordinates (when it has them) and the width.
pub fn open_regions(
    path: &Path,
    width: Option<usize>,
    method: String,
) -> Result<(Arrays, Option<Vec<Window>>, usize)> {
    let sequences = Rows::open(path, "sequences")?;
    let contributions = Rows::open(path, "contributions")?;
    let arrays = Arrays::new(vec![sequences], vec![contributions], method)?;
    let width = width.unwrap_or(arrays.length());
    let first = arrays.first_of(width).in_file(path)? as i64;
    let mut npz = Npz::open(path)?;
    if !npz.has("chr") {
        return Ok((arrays, None, width));
    }
    let windows = coordinates(&mut npz, first, arrays.rows()).in_file(path)?;
    Ok((arrays, Some(windows), width))
}

/// Reads the coordinates of `rows` rows, moved by `first` bases.
fn coordinates(npz: &mut Npz, first: i64, rows: usize) -> Result<Vec<Window>> {
    let chroms = npz.texts("chr")?;
    let starts = npz.numbers::<i64>("start")?.values;
    let regions = match npz.has("peak_id") {
        true => npz.numbers::<i64>("peak_id")?.values,
        false => (0..rows as i64).collect(),
    };
    let names = if npz.has("peak_name") { npz.texts("peak_name")? } else { vec![String::new(); rows] };
    for (name, count) in [
        ("chr", chroms.len()),
        ("start", starts.len()),
        ("peak_id", regions.len()),
        ("peak_name", names.len()),
    ] {
        if count != rows {
            return Err(Error::data(format!("{count} values of `{name}` for {rows} regions")));
        }
    }
    let rows = chroms.into_iter().zip(starts).zip(regions).zip(names);
    rows.map(|(((chrom, start), region), name)| {
        let region = u64::try_from(region)
            .map_err(|_| Error::data(format!("`peak_id` {region} is no row of a peaks file")))?;
        // Fi-NeMo writes a peak without a name as the text `None`.
        let name = Some(name).filter(|name| !name.is_empty() && name != "None");
        let start = start.checked_add(first).filter(|start| start.abs() < 1 << 48);
        let start =
            start.ok_or_else(|| Error::data(format!("the start of region {region} is on no contig")))?;
        Ok(Window { region, chrom: Some(chrom), start, name })
    })
    .collect()
}

/// Turns the bytes of one value into a float32.
type Convert = fn(&[u8]) -> f32;

/// An array of two or three axes that is read from its first row on.
struct Rows {
    reader: Box<dyn Read + Send>,
    place: String,
    shape: Shape,
    size: usize,
    convert: Convert,
    done: usize,
}

impl Rows {
    /// Opens an `.npy` file, or the array `name` of an `.npz` file, whichever the bytes say it is.
    fn open(path: &Path, name: &str) -> Result<Box<dyn Reader>> {
        let mut file = BufReader::with_capacity(1 << 16, File::open(path).in_file(path)?);
        let mut magic = [0; 4];
        file.read_exact(&mut magic).in_file(path)?;
        file.seek(SeekFrom::Start(0)).in_file(path)?;
        let (reader, size, place): (Box<dyn Read + Send>, _, _) = match &magic {
            b"\x93NUM" => {
                let size = file.get_ref().metadata().in_file(path)?.len();
                (Box::new(file), size, path.display().to_string())
            }
            b"PK\x03\x04" => {
                let (reader, size) = entry(path, name).in_file(path)?;
                (reader, size, format!("{}[{name}]", path.display()))
            }
            _ => return Err(Error::data("neither an .npy nor an .npz file")).in_file(path),
        };
        let rows = Self::begin(reader, size, place.clone()).map_err(|error| error.at(place))?;
        Ok(Box::new(rows))
    }

    /// Begins to read an array that has `size` bytes with its header.
    fn begin(mut reader: Box<dyn Read + Send>, size: u64, place: String) -> Result<Self> {
        let header = npy::read_header(&mut reader, size)?;
        let axes: Vec<usize> = header.shape().iter().map(|&n| n as usize).collect();
        let shape = match axes[..] {
            [rows, 4, length] => Shape { rows, channels: 4, length },
            [rows, length] => Shape { rows, channels: 1, length },
            _ => {
                return Err(Error::data(format!("the shape is {axes:?}, not [n, 4, length] or [n, length]")));
            }
        };
        if header.order() == Order::Fortran {
            return Err(Error::data("the array is in Fortran order: save it with numpy.ascontiguousarray"));
        }
        let (size, convert) = conversion(&header.dtype())?;
        Ok(Self { reader, place, shape, size, convert, done: 0 })
    }
}

impl Reader for Rows {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn read(&mut self, count: usize, columns: Range<usize>) -> Result<Vec<f32>> {
        let Shape { rows, channels, length } = self.shape;
        let mut bytes = vec![0; count * channels * length * self.size];
        self.reader.read_exact(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                Error::data(format!("the file ends within rows {}-{}", self.done, self.done + count))
            }
            _ => error.into(),
        })?;
        self.done += count;
        if self.done == rows {
            // The checksum of an archive is checked where its data end.
            io::copy(&mut self.reader, &mut io::sink())?;
        }
        let window = columns.start * self.size..columns.end * self.size;
        let lines = bytes.chunks_exact(length.max(1) * self.size);
        Ok(lines.flat_map(|line| line[window.clone()].chunks_exact(self.size).map(self.convert)).collect())
    }
}

/// Returns the size of a value in bytes and how to read it.
fn conversion(dtype: &DType) -> Result<(usize, Convert)> {
    let DType::Plain(kind) = dtype else {
        return Err(Error::data("the array holds records, not numbers"));
    };
    let big = kind.endianness() == Endianness::Big;
    macro_rules! read {
        ($number:ty, $value:ident => $convert:expr) => {{
            const SIZE: usize = size_of::<$number>();
            let little: Convert = |bytes| {
                let $value = <$number>::from_le_bytes(bytes.try_into().expect("one value"));
                $convert
            };
            let reversed: Convert = |bytes| {
                let $value = <$number>::from_be_bytes(bytes.try_into().expect("one value"));
                $convert
            };
            (SIZE, if big { reversed } else { little })
        }};
    }
    Ok(match (kind.type_char(), kind.size_field()) {
        (TypeChar::Float, 2) => read!(f16, value => value.to_f32()),
        (TypeChar::Float, 4) => read!(f32, value => value),
        (TypeChar::Float, 8) => read!(f64, value => value as f32),
        (TypeChar::Int, 1) => read!(i8, value => value.into()),
        (TypeChar::Int, 2) => read!(i16, value => value.into()),
        (TypeChar::Int, 4) => read!(i32, value => value as f32),
        (TypeChar::Int, 8) => read!(i64, value => value as f32),
        (TypeChar::Uint, 1) | (TypeChar::Bool, _) => read!(u8, value => value.into()),
        _ => return Err(Error::data(format!("the array holds {kind}, not numbers"))),
    })
}

/// Opens the array `name` of an archive as a stream of its own; returns how many bytes that has, too.
fn entry(path: &Path, name: &str) -> Result<(Box<dyn Read + Send>, u64)> {
    let mut archive = npy::open_archive(path)?;
    let names: Vec<_> = archive.array_names().map(str::to_string).collect();
    if !names.iter().any(|present| present == name) {
        return Err(Error::data(format!("no array `{name}` (it has {})", names.join(", "))));
    }
    let file_name = npyz::npz::file_name_from_array_name(name);
    let (start, size, length, checksum, compression) = {
        let zip = archive.zip_archive();
        let entry = guarded("the zip archive", || zip.by_name(&file_name))?;
        let entry = entry.map_err(|error| Error::data(error.to_string()))?;
        (entry.data_start(), entry.compressed_size(), entry.size(), entry.crc32(), entry.compression())
    };
    npy::check_expansion(size, length)?;
    let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
    file.seek(SeekFrom::Start(start))?;
    let stored = file.take(size);
    let reader: Box<dyn Read + Send> = match compression {
        CompressionMethod::Stored => Box::new(stored),
        CompressionMethod::Deflated => Box::new(flate2::bufread::DeflateDecoder::new(stored)),
        other => return Err(Error::data(format!("`{name}` is compressed with {other}, not deflate"))),
    };
    Ok((Box::new(Checked { reader, left: length, checksum, crc: flate2::Crc::new() }), length))
}

/// A reader of as many bytes as an archive promises, which fails where they end early or where their
/// checksum is not the one promised.
struct Checked {
    reader: Box<dyn Read + Send>,
    left: u64,
    checksum: u32,
    crc: flate2::Crc,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.reader.read(&mut buffer[..size])?;
        self.crc.update(&buffer[..count]);
        self.left -= count as u64;
        if count == 0 && self.left == 0 && self.crc.sum() != self.checksum {
            return Err(io::Error::other(Error::data("the checksum is wrong: the file is damaged")));
        }
        Ok(count)
    }
}
