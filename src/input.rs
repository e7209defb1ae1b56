//! Opening things to read: `-`, files and FIFOs, compressed or not, known by their bytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_ipc::reader::FileReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::error::{Error, InFile, Result, guarded};
use crate::output::widen_pipe;
use crate::pipe::{self, Pipe, ipc};
use crate::provenance;

pub mod bgzf;
pub mod fetch;
pub mod hdf5;
pub mod hub;
pub mod index;
mod mapped;
pub mod standard;
pub mod track;

pub use mapped::Mapped;

/// Bytes read at once.
const BUFFER: usize = 1 << 18;

/// Opens `path` for reading as it is; `-` is standard input.
pub fn open_raw(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    if path == Path::new("-") {
        if standard::input_is_closed() {
            return Err(Error::data("standard input is closed: pipe something in, or name a file"));
        }
        if !standard::begin_input() {
            return Err(Error::usage(
                "standard input (`-`) is given twice, and can be read once: name a file",
            ));
        }
        widen_pipe(&io::stdin());
        return Ok(Box::new(BufReader::with_capacity(BUFFER, io::stdin())));
    }
    let file = File::open(path).in_file(path)?;
    Ok(Box::new(BufReader::with_capacity(BUFFER, file)))
}

/// Opens text at `path`, decompressing gzip, BGZF and zstd. The mark that some editors put before UTF-8 is no part of it.
pub fn open_text(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    decompress(open_raw(path)?, path == Path::new("-")).in_file(path)
}

/// The byte order mark, in UTF-8.
const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// Bytes that tell a stream, a compressed file, or text with a mark.
const HEAD: usize = 4;

/// Returns a reader whose next bytes are there for [`BufRead::fill_buf`], as many as tell what it is, however few its
/// writer gives at once.
fn settled(mut reader: Box<dyn BufRead + Send>) -> io::Result<Box<dyn BufRead + Send>> {
    if reader.fill_buf()?.len() >= HEAD {
        return Ok(reader);
    }
    let mut head = Vec::new();
    reader.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    Ok(Box::new(io::Cursor::new(head).chain(reader)))
}

/// Decompresses gzip, BGZF and zstd, known by their bytes; anything else passes as it is, but for a byte order mark. BGZF
/// has to end with its end-of-file block; `piped` says that another program writes it.
pub fn decompress(reader: Box<dyn BufRead + Send>, piped: bool) -> Result<Box<dyn BufRead + Send>> {
    let mut text = settled(inflated(reader, piped)?)?;
    if text.fill_buf()?.starts_with(&MARK) {
        text.consume(MARK.len());
    }
    Ok(text)
}

fn inflated(reader: Box<dyn BufRead + Send>, piped: bool) -> Result<Box<dyn BufRead + Send>> {
    let mut reader = settled(reader)?;
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
    let place = named(path);
    let mut reader = settled(open_raw(path)?).in_file(place)?;
    let head = reader.fill_buf().in_file(place)?;
    let pipe = if head.starts_with(b"ARROW1") {
        let file = seekable(path, reader).in_file(place)?;
        let open = || FileReader::try_new_buffered(file, None);
        let file = guarded("the Arrow file", open).in_file(place)?.in_file(place)?;
        Pipe::new(file.schema(), checked("the Arrow file", file))
    } else if head.starts_with(b"PAR1") {
        open_parquet(seekable(path, reader).in_file(place)?).in_file(place)?
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

/// Returns a file whose end can be looked at first: the one at `path`, or a copy of what comes through a pipe, which goes
/// with this process.
fn seekable(path: &Path, mut reader: impl Read) -> Result<File> {
    if path != Path::new("-") && path.is_file() {
        return Ok(File::open(path)?);
    }
    let place = |error: io::Error| Error::from(error).at("a temporary file (TMPDIR)");
    let mut file = tempfile::tempfile().map_err(place)?;
    io::copy(&mut reader, &mut file).map_err(place)?;
    file.rewind().map_err(place)?;
    Ok(file)
}

fn open_parquet(file: File) -> Result<Pipe> {
    let parquet = |error: parquet::errors::ParquetError| Error::data(error.to_string());
    let what = "the Parquet file";
    let reader = guarded(what, || ParquetRecordBatchReaderBuilder::try_new(file))?.map_err(parquet)?;
    let schema = reader.schema().clone();
    let batches = guarded(what, || reader.with_batch_size(1024).build())?.map_err(parquet)?;
    let target = schema.clone();
    let batches = checked(what, batches).map(move |batch| pipe::with_schema(&batch?, &target));
    Ok(Pipe::new(schema, batches))
}

/// Passes on the batches of a file; what its reader panics about, and more rows than the batch has bits, are errors.
fn checked<E: Into<Error>>(
    what: &'static str,
    mut batches: impl Iterator<Item = Result<RecordBatch, E>>,
) -> impl Iterator<Item = Result<RecordBatch>> {
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let batch = match guarded(what, || batches.next()) {
            Ok(batch) => batch?.map_err(Into::into),
            Err(error) => Err(error),
        };
        // Columns of nulls take no bytes, and a count of rows is easily written.
        let batch = batch.and_then(|batch| match batch.num_rows() / 8 > batch.get_array_memory_size() {
            true => Err(Error::data(format!("{what} is damaged: {} rows without values", batch.num_rows()))),
            false => Ok(batch),
        });
        failed = batch.is_err();
        Some(batch)
    })
}

/// Bytes that a small text file may have, decompressed.
const TEXT_MAX: u64 = 1 << 30;

/// Passes on at most as many bytes as a small text file may have; more are an error, so that a few compressed bytes
/// cannot fill the memory.
pub fn small(text: impl BufRead) -> impl BufRead {
    Small { inner: text, left: TEXT_MAX }
}

struct Small<R> {
    inner: R,
    left: u64,
}

impl<R: BufRead> Read for Small<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Small<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let bytes = self.inner.fill_buf()?;
        if self.left == 0 && !bytes.is_empty() {
            let message = format!("longer than {} MiB: no file of this kind is", TEXT_MAX >> 20);
            return Err(io::Error::other(Error::data(message)));
        }
        Ok(&bytes[..bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX))])
    }

    fn consume(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count as u64);
        self.inner.consume(count);
    }
}

/// Reads a whole small text file, decompressed.
pub fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    small(open_text(path)?).read_to_string(&mut text).in_file(path)?;
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

    /// Gives a byte at a time.
    struct Drops(Vec<u8>, usize);

    impl Read for Drops {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let bytes = self.0.get(self.1..self.1 + 1).unwrap_or_default();
            buffer[..bytes.len()].copy_from_slice(bytes);
            self.1 += bytes.len();
            Ok(bytes.len())
        }
    }

    #[test]
    fn a_mark_before_text_and_the_pace_of_its_writer_change_nothing() {
        let gzip = |text: &[u8]| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(text).unwrap();
            gzip.finish().unwrap()
        };
        for text in ["", "a", "ab\n", "abc", "name,sequence\nx,ACGT\n"] {
            let marked = [&MARK[..], text.as_bytes()].concat();
            for bytes in [text.as_bytes().to_vec(), marked.clone(), gzip(text.as_bytes()), gzip(&marked)] {
                let mut read = String::new();
                let reader = Box::new(BufReader::new(Drops(bytes, 0)));
                decompress(reader, true).unwrap().read_to_string(&mut read).unwrap();
                assert_eq!(read, text);
            }
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
    fn a_text_longer_than_any_of_its_kind_is_refused() {
        let read = |text: &'static [u8], left| {
            let mut all = String::new();
            Small { inner: text, left }.read_to_string(&mut all).map(|_| all)
        };
        assert_eq!(read(b"0123", 4).unwrap(), "0123");
        let message = Error::from(read(b"01234", 4).unwrap_err()).to_string();
        assert!(message.contains("no file of this kind"), "{message}");
        assert_eq!(Small { inner: &b"0123\n"[..], left: 9 }.lines().count(), 1);
    }

    /// As a stream (see [`ipc`]); in a file, the reader believes what the batch says.
    #[test]
    fn rows_without_values_in_a_file_are_not_believed() {
        use arrow_array::NullArray;
        use arrow_schema::{DataType, Field, Schema};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nulls.arrow");
        let schema = std::sync::Arc::new(Schema::new(vec![Field::new("nothing", DataType::Null, true)]));
        let array = std::sync::Arc::new(NullArray::new(1 << 40));
        let batch = RecordBatch::try_new(schema.clone(), vec![array]).unwrap();
        let file = File::create(&path).unwrap();
        let mut writer = arrow_ipc::writer::FileWriter::try_new(file, &schema).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let error = open_pipe(&path).unwrap().into_parts().1.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("1099511627776 rows without values"), "{error}");
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
