//! Opening things to read: `-`, files and FIFOs, compressed or not, known by their bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use arrow_ipc::reader::FileReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rust_hdf5::format::superblock::{SuperblockV0V1, SuperblockV2V3, detect_superblock_version};
use rust_hdf5::{H5File, Hdf5Error};

use crate::error::{Error, InFile, Result};
use crate::output::widen_pipe;
use crate::pipe::{self, Pipe, ipc};
use crate::provenance;

pub mod bgzf;
pub mod fetch;
pub mod hub;
mod mapped;

pub use mapped::Mapped;

/// Bytes read at once.
const BUFFER: usize = 1 << 18;

/// Opens `path` for reading as it is; `-` is standard input.
pub fn open_raw(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    if path == Path::new("-") {
        widen_pipe(&io::stdin());
        return Ok(Box::new(BufReader::with_capacity(BUFFER, io::stdin())));
    }
    let file = File::open(path).in_file(path)?;
    Ok(Box::new(BufReader::with_capacity(BUFFER, file)))
}

/// Opens text at `path`, decompressing gzip, BGZF and zstd.
pub fn open_text(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    decompress(open_raw(path)?, path == Path::new("-")).in_file(path)
}

/// Decompresses gzip, BGZF and zstd, known by their bytes; anything else passes as it is. BGZF has to end with its
/// end-of-file block; `piped` says that another program writes it.
pub fn decompress(mut reader: Box<dyn BufRead + Send>, piped: bool) -> Result<Box<dyn BufRead + Send>> {
    let head = reader.fill_buf()?;
    if head.starts_with(&[0x1F, 0x8B]) {
        let mut head = Vec::new();
        reader.by_ref().take(bgzf::HEAD).read_to_end(&mut head)?;
        let is_bgzf = bgzf::is_bgzf(&head);
        let reader = io::Cursor::new(head).chain(reader);
        if is_bgzf {
            return Ok(Box::new(bgzf::Blocks::new(reader, piped)));
        }
        let decoder = flate2::bufread::MultiGzDecoder::new(reader);
        return Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)));
    }
    if head.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
        let decoder = zstd::Decoder::with_buffer(reader)?;
        return Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)));
    }
    Ok(reader)
}

/// What a path holds, known by its bytes.
pub enum Opened {
    /// An Arrow stream, an Arrow file or a Parquet file.
    Pipe(Pipe),
    /// Anything else, decompressed.
    Text(Box<dyn BufRead + Send>),
}

/// Opens a pipe from an Arrow stream, an Arrow file or a Parquet file; `-` is standard input.
///
/// # Errors
///
/// [`Error::Truncated`] for a stream without its schema; [`Error::Data`] for other bytes and for a stream
/// of another contract version.
pub fn open_pipe(path: &Path) -> Result<Pipe> {
    match open_any(path)? {
        Opened::Pipe(pipe) => Ok(pipe),
        Opened::Text(_) => {
            Err(Error::data("not an Arrow stream, Arrow file or Parquet file: begin with nyx-extract"))
                .in_file(named(path))
        }
    }
}

/// Opens what can be a pipe or a text; `-` is standard input.
///
/// # Errors
///
/// As [`open_pipe`], but other bytes are text.
pub fn open_any(path: &Path) -> Result<Opened> {
    if path == Path::new("-") && io::IsTerminal::is_terminal(&io::stdin()) {
        return Err(Error::usage("no input: pipe a stream in or name a file (nyx-extract makes streams)"));
    }
    let mut reader = open_raw(path)?;
    let place = named(path);
    let head = reader.fill_buf().in_file(place)?;
    let pipe = if head.starts_with(b"ARROW1") {
        let file = FileReader::try_new_buffered(File::open(path).in_file(place)?, None).in_file(place)?;
        Pipe::new(file.schema(), file.map(|batch| Ok(batch?)))
    } else if head.starts_with(b"PAR1") {
        open_parquet(path).in_file(place)?
    } else if head.starts_with(&[0xFF; 4]) || head.is_empty() {
        ipc::read(reader).in_file(place)?
    } else {
        return Ok(Opened::Text(decompress(reader, path == Path::new("-")).in_file(place)?));
    };
    provenance::check_version(pipe.schema()).in_file(place)?;
    Ok(Opened::Pipe(pipe))
}

/// Returns what to call `path` in a message.
fn named(path: &Path) -> &Path {
    if path == Path::new("-") { Path::new("standard input") } else { path }
}

fn open_parquet(path: &Path) -> Result<Pipe> {
    let parquet = |error: parquet::errors::ParquetError| Error::data(error.to_string());
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?).map_err(parquet)?;
    let schema = reader.schema().clone();
    let batches = reader.with_batch_size(1024).build().map_err(parquet)?;
    let target = schema.clone();
    Ok(Pipe::new(schema, batches.map(move |batch| pipe::with_schema(&batch?, &target))))
}

/// Opens an HDF5 file that is whole.
///
/// The library reads chunks that a cut file no longer has as zeros, so the length is checked here against the
/// one in the superblock.
///
/// # Errors
///
/// When the file is not HDF5 or ends before its own end.
pub fn open_hdf5(path: &Path) -> Result<H5File> {
    let hdf5 = |error: Hdf5Error| Error::data(format!("HDF5: {error}"));
    let file = H5File::open(path).map_err(hdf5).in_file(path)?;
    let mut raw = File::open(path).in_file(path)?;
    let length = raw.metadata().in_file(path)?.len();
    raw.seek(SeekFrom::Start(file.userblock_size())).in_file(path)?;
    let mut head = Vec::new();
    raw.take(1024).read_to_end(&mut head).in_file(path)?;
    let end = match detect_superblock_version(&head) {
        Ok(0 | 1) => SuperblockV0V1::decode(&head).map(|block| block.end_of_file_address),
        _ => SuperblockV2V3::decode(&head).map(|block| block.end_of_file_address),
    };
    let end = end.map_err(|error| Error::data(format!("HDF5: {error}"))).in_file(path)?;
    if length < end {
        let message = format!("the file is cut: {length} bytes of {end}. Copy or download it again");
        return Err(Error::data(message)).in_file(path);
    }
    Ok(file)
}

/// Reads a whole small text file, decompressed.
pub fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    open_text(path)?.read_to_string(&mut text).in_file(path)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn compression_is_known_by_its_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plain.txt");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"text").unwrap();
        for bytes in [b"text".to_vec(), gzip.finish().unwrap(), zstd::encode_all(&b"text"[..], 1).unwrap()] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read_text(&path).unwrap(), "text");
        }
    }

    #[test]
    fn bgzf_text_that_is_cut_between_two_blocks_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("peaks.bed.gz");
        let mut writer = noodles::bgzf::io::Writer::new(Vec::new());
        writer.write_all(b"chr1\t1\t2\n").unwrap();
        writer.flush().unwrap();
        let first = writer.get_ref().len();
        writer.write_all(b"chr1\t3\t4\n").unwrap();
        let whole = writer.finish().unwrap();
        std::fs::write(&path, [&whole[..], &whole].concat()).unwrap();
        assert_eq!(read_text(&path).unwrap().lines().count(), 4, "joined files are one");
        for cut in [first, whole.len() - 28] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let error = read_text(&path).unwrap_err().to_string();
            assert!(error.contains("peaks.bed.gz") && error.contains("truncated"), "{error}");
        }
    }

    #[test]
    fn every_cut_of_an_hdf5_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("values.h5");
        let file = H5File::create(&path).unwrap();
        let dataset = file.new_dataset::<f32>().shape([64, 8]).chunk(&[8, 8]).deflate(6).create("values");
        dataset.unwrap().write_raw(&[1.0f32; 512]).unwrap();
        file.close().unwrap();
        let whole = std::fs::read(&path).unwrap();
        open_hdf5(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let error = open_hdf5(&path).err().unwrap_or_else(|| panic!("cut at {cut} passed"));
            assert!(error.to_string().contains("values.h5"), "{error}");
        }
    }

    #[test]
    fn what_is_no_stream_is_refused_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("peaks.bed");
        std::fs::write(&path, "chr1\t1\t2\n").unwrap();
        let error = open_pipe(&path).err().unwrap().to_string();
        assert!(error.contains("peaks.bed") && error.contains("nyx-extract"), "{error}");
    }
}
