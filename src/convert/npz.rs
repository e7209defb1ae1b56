//! Fi-NeMo's regions file: one-hot sequences and contributions of all regions in one `.npz`.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use arrow_array::{Array, RecordBatch, StringArray};
use arrow_schema::Schema;
use half::f16;
use npyz::npz::NpzWriter;
use npyz::zip::write::FileOptions;
use npyz::zip::{CompressionMethod, DateTime};
use npyz::{DType, WriterBuilder};

use super::header;
use crate::dna::{self, base_index};
use crate::error::{Error, InFile, Result};
use crate::output::temporary_beside;
use crate::pipe::Pipe;
use crate::provenance::{CHAIN_KEY, GENOME_KEY};
use crate::region::Strand;
use crate::schema;

mod vectors;

pub use vectors::{has_vectors, write as write_vectors};

/// Writes the regions file at `path`, which appears when it is whole: `sequences` int8 `[n, 4, L]`,
/// `contributions` float16 `[n, 4, L]` (hypothetical, where the stream has them) or `[n, L]`, and the
/// coordinates where the rows have them.
///
/// Rows wait in temporary files, because an array says first how long it is. A row without sequence or
/// contributions is all zeros. The file has no strands: a row of the reverse strand is written as the forward strand
/// reads, which its coordinates are of. The provenance is the comment of the archive.
///
/// # Errors
///
/// Rows of different lengths, some with and some without coordinates, and values that float16 cannot hold.
pub fn write(pipe: Pipe, provenance: bool, path: &Path) -> Result<()> {
    let comment = if provenance { comment_of(pipe.schema()) } else { String::new() };
    let mut rows = Rows::new(schema::has(pipe.schema(), schema::HYPOTHETICAL), path)?;
    for batch in pipe.into_parts().1 {
        rows.add(&batch?).in_file(path)?;
    }
    let temporary = temporary_beside(path)?;
    let writer = BufWriter::new(temporary.file().try_clone().in_file(path)?);
    rows.finish(writer, comment).in_file(path)?;
    temporary.commit(path)
}

/// The rows so far: small things in memory, arrays in temporary files without names.
struct Rows {
    hypothetical: bool,
    width: Option<usize>,
    sequences: BufWriter<File>,
    contributions: BufWriter<File>,
    regions: Vec<u32>,
    chroms: Vec<Option<String>>,
    starts: Vec<i32>,
    names: Vec<String>,
}

impl Rows {
    fn new(hypothetical: bool, path: &Path) -> Result<Self> {
        let spool = || Ok::<_, Error>(BufWriter::new(tempfile::tempfile_in(directory(path)).in_file(path)?));
        Ok(Self {
            hypothetical,
            width: None,
            sequences: spool()?,
            contributions: spool()?,
            regions: Vec::new(),
            chroms: Vec::new(),
            starts: Vec::new(),
            names: Vec::new(),
        })
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let regions = schema::u64s(batch, schema::REGION)?;
        let chroms = schema::strings(batch, schema::CHROM)?;
        let starts = schema::i64s(batch, schema::START)?;
        let ends = schema::i64s(batch, schema::END)?;
        let names = schema::strings(batch, schema::NAME)?;
        let has_strands = schema::has(batch.schema_ref(), schema::STRAND);
        let strands = has_strands.then(|| schema::strings(batch, schema::STRAND)).transpose()?;
        let sequences = schema::strings(batch, schema::SEQUENCE)?;
        let column = if self.hypothetical { schema::HYPOTHETICAL } else { schema::CONTRIBUTIONS };
        let contributions = schema::lists(batch, column)?;
        for row in 0..batch.num_rows() {
            let place = || format!("region {}", regions.value(row));
            let width = ends.value(row) - starts.value(row);
            self.check_width(width).map_err(|error| error.at(place()))?;
            let strand = strands.and_then(|strands| text(strands, row));
            let is_reverse = strand == Some(Strand::Reverse.as_str()) && chroms.is_valid(row);
            let mut bases = text(sequences, row).unwrap_or_default().as_bytes().to_vec();
            let mut values = schema::float_items(contributions, row)?.to_vec();
            if is_reverse {
                dna::reverse_complement(&mut bases);
                // Rows are A, C, G, T: backwards they are those of the complements.
                values.reverse();
            }
            self.add_sequence(&bases).map_err(|error| error.at(place()))?;
            self.add_contributions(&values).map_err(|error| error.at(place()))?;
            self.regions.push(narrow(regions.value(row), "region")?);
            self.chroms.push(text(chroms, row).map(str::to_string));
            self.starts.push(narrow(starts.value(row), "start")?);
            self.names.push(text(names, row).unwrap_or("None").to_string());
        }
        Ok(())
    }

    fn check_width(&mut self, width: i64) -> Result<()> {
        let width = usize::try_from(width).unwrap_or(0);
        match *self.width.get_or_insert(width) {
            expected if expected == width => Ok(()),
            expected => {
                Err(Error::data(format!("{width} bases, the regions before have {expected}: one width")))
            }
        }
    }

    fn add_sequence(&mut self, sequence: &[u8]) -> Result<()> {
        let width = self.width.unwrap_or(0);
        let mut onehot = vec![0; 4 * width];
        if !sequence.is_empty() && sequence.len() != width {
            return Err(Error::data(format!(
                "a sequence of {} bases in a window of {width}",
                sequence.len()
            )));
        }
        for (column, base) in sequence.iter().enumerate() {
            if let Some(row) = base_index(*base) {
                onehot[row * width + column] = 1;
            }
        }
        Ok(self.sequences.write_all(&onehot)?)
    }

    fn add_contributions(&mut self, values: &[f32]) -> Result<()> {
        let size = self.width.unwrap_or(0) * if self.hypothetical { 4 } else { 1 };
        if !values.is_empty() && values.len() != size {
            return Err(Error::data(format!("{} contributions, {size} expected", values.len())));
        }
        let mut bytes = Vec::with_capacity(2 * size);
        for &value in values {
            let half = f16::from_f32(value);
            if half.is_infinite() && value.is_finite() {
                return Err(Error::data(format!(
                    "the contribution {value} is beyond float16, which Fi-NeMo's file holds: scale them down"
                )));
            }
            bytes.extend_from_slice(&half.to_le_bytes());
        }
        bytes.resize(2 * size, 0);
        Ok(self.contributions.write_all(&bytes)?)
    }

    fn finish(mut self, writer: impl Write + Seek, comment: String) -> Result<()> {
        let mut npz = NpzWriter::new(writer);
        npz.zip_writer().set_comment(comment);
        let (rows, width) = (self.regions.len() as u64, self.width.unwrap_or(0) as u64);
        let wide = [rows, 4, width];
        let projected = [rows, width];
        let shape: &[u64] = if self.hypothetical { &wide } else { &projected };
        copy::<i8, 1, _>(&mut npz, "sequences", &wide, &mut self.sequences, |bytes| bytes[0] as i8)?;
        copy::<f16, 2, _>(&mut npz, "contributions", shape, &mut self.contributions, f16::from_le_bytes)?;
        let located = self.chroms.iter().flatten().count();
        if located > 0 {
            if located < self.chroms.len() {
                let count = self.chroms.len() - located;
                return Err(Error::data(format!("{count} of {rows} rows have no coordinates: all or none")));
            }
            self.finish_coordinates(&mut npz)?;
        }
        npz.zip_writer().finish().map_err(|error| Error::data(error.to_string()))?.flush()?;
        Ok(())
    }

    fn finish_coordinates(&self, npz: &mut NpzWriter<impl Write + Seek>) -> Result<()> {
        let chroms: Vec<&str> = self.chroms.iter().flatten().map(String::as_str).collect();
        let mut distinct: Vec<&str> = Vec::new();
        let ids = chroms.iter().map(|chrom| {
            let known = distinct.iter().position(|seen| seen == chrom);
            known.unwrap_or_else(|| {
                distinct.push(chrom);
                distinct.len() - 1
            }) as i64
        });
        let ids: Vec<i64> = ids.collect();
        write_texts(npz, "chr", &chroms)?;
        write_numbers(npz, "chr_id", &ids)?;
        write_numbers(npz, "start", &self.starts)?;
        write_numbers(npz, "peak_id", &self.regions)?;
        write_texts(npz, "peak_name", &self.names.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// Returns the provenance as the comment of a zip archive, which NumPy passes over. It has room for 64 KiB: the contigs
/// of the genome are left out where they are too many.
fn comment_of(schema: &Schema) -> String {
    let mut object = header::embedded(schema);
    for key in [None, Some(GENOME_KEY), Some(CHAIN_KEY)] {
        let _ = key.and_then(|key| object.remove(key));
        let text = serde_json::to_string(&object).expect("an object of texts");
        if text.len() <= usize::from(u16::MAX) {
            return text;
        }
    }
    String::new()
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn text(texts: &StringArray, row: usize) -> Option<&str> {
    texts.is_valid(row).then(|| texts.value(row))
}

fn narrow<T, U: TryFrom<T>>(value: T, what: &str) -> Result<U>
where
    T: Copy + std::fmt::Display,
{
    U::try_from(value).map_err(|_| Error::data(format!("{what} {value} does not fit into Fi-NeMo's file")))
}

/// Returns how members are stored: without the time, so that the same rows are the same bytes.
fn options() -> FileOptions {
    let options = FileOptions::default().compression_method(CompressionMethod::Deflated).large_file(true);
    options.last_modified_time(DateTime::default())
}

/// Copies the values of a temporary file, `N` bytes each, into the array `name`.
fn copy<T: npyz::AutoSerialize, const N: usize, W: Write + Seek>(
    npz: &mut NpzWriter<W>,
    name: &str,
    shape: &[u64],
    spool: &mut BufWriter<File>,
    value: impl Fn([u8; N]) -> T,
) -> Result<()> {
    spool.flush()?;
    spool.get_mut().seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 18, spool.get_ref());
    let mut writer = npz.array::<T>(name, options())?.default_dtype().shape(shape).begin_nd()?;
    let mut bytes = [0; N];
    for _ in 0..shape.iter().product() {
        reader.read_exact(&mut bytes)?;
        writer.push(&value(bytes))?;
    }
    Ok(writer.finish()?)
}

fn write_numbers<T: npyz::AutoSerialize>(
    npz: &mut NpzWriter<impl Write + Seek>,
    name: &str,
    values: &[T],
) -> Result<()> {
    let shape = [values.len() as u64];
    let mut writer = npz.array::<T>(name, options())?.default_dtype().shape(&shape).begin_nd()?;
    for value in values {
        writer.push(value)?;
    }
    Ok(writer.finish()?)
}

fn write_texts(npz: &mut NpzWriter<impl Write + Seek>, name: &str, texts: &[&str]) -> Result<()> {
    let width = texts.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(1);
    let dtype = DType::Plain(format!("<U{width}").parse().expect("a type string"));
    let shape = [texts.len() as u64];
    let mut writer = npz.array::<str>(name, options())?.dtype(dtype).shape(&shape).begin_nd()?;
    for text in texts {
        writer.push(text)?;
    }
    Ok(writer.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::sample;
    use crate::npy::Npz;

    #[test]
    fn the_file_has_the_arrays_of_finemo() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("regions.npz");
        write(sample::pipe(), true, &path).unwrap();
        let mut npz = Npz::open(&path).unwrap();
        let sequences = npz.numbers::<i64>("sequences").unwrap();
        assert_eq!(sequences.shape, [3, 4, 3]);
        // ACN, rows A C G T; the row without a sequence is zeros.
        assert_eq!(sequences.values[..12], [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(sequences.values[24..], [0; 12]);
        let contributions = npz.numbers::<f32>("contributions").unwrap();
        assert_eq!(contributions.shape, [3, 4, 3]);
        let second: Vec<f32> = (0..12).map(|n| 1.0 + n as f32 / 4.0).collect();
        assert_eq!(contributions.values[12..24], second);
        assert_eq!(npz.texts("chr").unwrap(), ["chr2", "chr1", "chrU"]);
        assert_eq!(npz.texts("peak_name").unwrap(), ["p\tq", "None", "u"]);
        for (name, values) in [("chr_id", [0, 1, 2]), ("start", [10, -2, 5]), ("peak_id", [0, 1, 2])] {
            assert_eq!(npz.numbers::<i64>(name).unwrap().values, values, "{name}");
        }
    }

    #[test]
    fn a_cut_stream_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("regions.npz");
        assert_eq!(write(sample::cut(), true, &path).unwrap_err().exit_status(), 3);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_float16_cannot_hold_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut rows = Rows::new(false, &directory.path().join("x.npz")).unwrap();
        rows.width = Some(1);
        assert!(rows.add_contributions(&[65504.0]).is_ok());
        assert!(rows.add_contributions(&[f32::INFINITY]).is_ok());
        assert!(rows.add_contributions(&[7e4]).unwrap_err().to_string().contains("float16"));
    }
}
