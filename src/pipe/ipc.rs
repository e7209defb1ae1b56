//! Arrow IPC between processes: no end without its mark, and poison after a failure.
//!
//! The Arrow format lets a stream end at any message boundary, so a killed writer looks like a short,
//! valid result. Here every end of file that Arrow would have to read is an error; a complete stream
//! never reads one, because it ends at its end-of-stream marker, after which nothing may follow.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;

use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::provenance;

/// Bytes that make every Arrow reader fail: the announcement of a message that never comes.
pub const POISON: [u8; 8] = [0xFF, 0xFF, 0xFF, 0xFF, 0x40, 0x00, 0x00, 0x00];

/// A reader that may not end: an end of file is an error, and is remembered.
struct Unending<R> {
    inner: R,
    ended: Arc<AtomicBool>,
}

impl<R: Read> Read for Unending<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.ended.store(true, Ordering::Relaxed);
            return Err(io::Error::other("end of file"));
        }
        Ok(count)
    }
}

/// Reads a stream from the start of `reader`.
///
/// # Errors
///
/// [`Error::Truncated`] when the bytes end before the end mark, here for the schema and in the batches
/// for the rest; [`Error::Data`] when they are damaged or something follows the mark.
pub fn read(reader: impl Read + Send + 'static) -> Result<Pipe> {
    let ended = Arc::new(AtomicBool::new(false));
    let reader = Unending { inner: reader, ended: ended.clone() };
    let stream = StreamReader::try_new(reader, None).map_err(|error| {
        if ended.load(Ordering::Relaxed) {
            Error::Truncated { upstream: "the stage before this one".into(), rows: 0 }
        } else {
            Error::data(format!("not a readable Arrow stream: {error}"))
        }
    })?;
    let schema = stream.schema();
    let upstream = provenance::last_tool(&schema).unwrap_or_else(|| "the stage before this one".into());
    Ok(Pipe::new(schema, Batches { stream, ended, upstream, rows: 0, done: false }))
}

struct Batches<R> {
    stream: StreamReader<Unending<R>>,
    ended: Arc<AtomicBool>,
    upstream: String,
    rows: u64,
    done: bool,
}

impl<R: Read> Batches<R> {
    fn failure(&self, error: arrow_schema::ArrowError) -> Error {
        if self.ended.load(Ordering::Relaxed) {
            Error::Truncated { upstream: self.upstream.clone(), rows: self.rows }
        } else {
            let (upstream, rows) = (&self.upstream, self.rows);
            Error::data(format!("the stream from {upstream} is damaged after row {rows}: {error}"))
        }
    }

    /// Checks that nothing follows the end mark.
    fn check_end(&mut self) -> Result<()> {
        let mut byte = [0];
        match self.stream.get_mut().inner.read(&mut byte)? {
            0 => Ok(()),
            _ => Err(Error::data(
                "bytes follow the end mark of the stream: `cat` cannot join streams, use nyx-merge",
            )),
        }
    }
}

impl<R: Read> Iterator for Batches<R> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = match self.stream.next() {
            Some(Ok(batch)) => {
                self.rows += batch.num_rows() as u64;
                return Some(Ok(batch));
            }
            Some(Err(error)) => Some(Err(self.failure(error))),
            None => self.check_end().err().map(Err),
        };
        self.done = true;
        item
    }
}

/// Writes the whole pipe to `writer`: the end mark only when every batch arrived, poison otherwise.
///
/// # Errors
///
/// The first error of the pipe or of `writer`; a stage must not report success after either.
pub fn write(pipe: Pipe, writer: impl Write) -> Result<()> {
    let (schema, batches) = pipe.into_parts();
    let mut stream = StreamWriter::try_new(writer, &schema)?;
    for batch in batches {
        match batch {
            Ok(batch) => stream.write(&batch)?,
            Err(error) => {
                // Nobody may be left to read the poison; the error to report is the first one.
                let writer = stream.get_mut();
                let _ = writer.write_all(&POISON).and_then(|()| writer.flush());
                return Err(error);
            }
        }
    }
    stream.finish()?;
    Ok(stream.get_mut().flush()?)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::super::tests::numbers;
    use super::*;

    fn bytes(sizes: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(numbers(sizes), &mut bytes).unwrap();
        bytes
    }

    fn rows(bytes: Vec<u8>) -> Result<usize> {
        let mut rows = 0;
        for batch in read(Cursor::new(bytes))?.into_parts().1 {
            rows += batch?.num_rows();
        }
        Ok(rows)
    }

    #[test]
    fn a_whole_stream_comes_back_whole() {
        assert_eq!(rows(bytes(&[2, 0, 3])).unwrap(), 5);
        assert_eq!(rows(bytes(&[])).unwrap(), 0);
    }

    #[test]
    fn every_cut_is_an_error() {
        let whole = bytes(&[2, 3, 70]);
        for cut in 0..whole.len() {
            let error = rows(whole[..cut].to_vec()).expect_err("a cut stream passed");
            assert_eq!(error.exit_status(), 3, "cut at {cut}: {error}");
        }
    }

    #[test]
    fn two_streams_are_not_one() {
        let twice = [bytes(&[2]), bytes(&[3])].concat();
        let error = rows(twice).unwrap_err();
        assert!(error.to_string().contains("nyx-merge"), "{error}");
    }

    #[test]
    fn a_failure_upstream_poisons_the_stream() {
        let (schema, batches) = numbers(&[2, 3]).into_parts();
        let failing = Pipe::new(schema, batches.chain([Err(Error::data("bad"))]));
        let mut output = Vec::new();
        assert_eq!(write(failing, &mut output).unwrap_err().to_string(), "bad");
        assert!(output.ends_with(&POISON));
        // A stock Arrow reader, which accepts a cut stream, fails on the poison.
        assert!(StreamReader::try_new(Cursor::new(&output), None).unwrap().any(|batch| batch.is_err()));
        assert_eq!(rows(output).unwrap_err().exit_status(), 3);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_never_shortens_the_rows(bit in 0usize..8, place in any::<prop::sample::Index>()) {
            let mut damaged = bytes(&[2, 3, 70]);
            let index = place.index(damaged.len());
            damaged[index] ^= 1 << bit;
            let outcome = std::panic::catch_unwind(|| rows(damaged));
            if let Ok(Ok(rows)) = outcome {
                prop_assert_eq!(rows, 75);
            }
        }
    }
}
