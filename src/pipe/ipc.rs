//! Arrow IPC between processes: no end without its mark, and poison after a failure.
//!
//! The Arrow format lets a stream end at any message boundary, so a killed writer looks like a short,
//! valid result. Here every end of file is an error; a complete stream never meets one, because it ends at
//! its end-of-stream marker, after which nothing may follow.

mod frame;

use std::io::{Read, Write};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::SchemaRef;

use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::provenance;
use frame::{Fault, Frame};

/// Bytes that make every Arrow reader fail: the announcement of a message that never comes.
pub const POISON: [u8; 8] = [0xFF, 0xFF, 0xFF, 0xFF, 0x40, 0x00, 0x00, 0x00];

/// Reads a stream from the start of `reader`.
///
/// # Errors
///
/// [`Error::Truncated`] when the bytes end before the end mark, here for the schema and in the batches
/// for the rest; [`Error::Data`] when they are damaged or something follows the mark.
pub fn read(mut reader: impl Read + Send + 'static) -> Result<Pipe> {
    let unknown = "the stage before this one";
    let schema = match Frame::read(&mut reader) {
        Ok(Some(frame)) => frame.schema(),
        Ok(None) => Err(Fault::Damaged("it ends before its schema".into())),
        Err(fault) => Err(fault),
    };
    let schema: SchemaRef = Arc::new(schema.map_err(|fault| failure(fault, unknown, 0))?);
    let upstream = provenance::last_tool(&schema).unwrap_or_else(|| unknown.into());
    Ok(Pipe::new(schema.clone(), Batches { reader, schema, upstream, rows: 0, done: false }))
}

fn failure(fault: Fault, upstream: &str, rows: u64) -> Error {
    match fault {
        Fault::Ended => Error::Truncated { upstream: upstream.into(), rows },
        Fault::Io(error) => error.into(),
        Fault::Damaged(why) => {
            Error::data(format!("the stream from {upstream} is damaged after row {rows}: {why}"))
        }
    }
}

struct Batches<R> {
    reader: R,
    schema: SchemaRef,
    upstream: String,
    rows: u64,
    done: bool,
}

impl<R: Read> Batches<R> {
    /// Reads one batch; `None` when the stream is whole and over.
    fn read(&mut self) -> Result<Option<RecordBatch>> {
        let frame = Frame::read(&mut self.reader);
        let batch = frame.and_then(|frame| frame.map(|frame| frame.batch(&self.schema)).transpose());
        let batch = batch.map_err(|fault| failure(fault, &self.upstream, self.rows))?;
        match &batch {
            Some(batch) => self.rows += batch.num_rows() as u64,
            None => self.check_end()?,
        }
        Ok(batch)
    }

    /// Checks that nothing follows the end mark.
    fn check_end(&mut self) -> Result<()> {
        match self.reader.by_ref().take(1).read_to_end(&mut Vec::new())? {
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
        let batch = self.read().transpose();
        self.done = !matches!(batch, Some(Ok(_)));
        batch
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
            Ok(batch) => {
                stream.write(&batch)?;
                // The next stage can begin with it, however long the next batch takes.
                stream.get_mut().flush()?;
            }
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

    use arrow_array::{BooleanArray, NullArray};
    use arrow_ipc::reader::StreamReader;
    use arrow_schema::{DataType, Field, Schema};

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

    #[test]
    fn no_flipped_bit_shortens_the_rows() {
        let whole = bytes(&[2, 3, 70]);
        for index in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[index] ^= 1 << bit;
                if let Ok(rows) = rows(damaged) {
                    assert_eq!(rows, 75, "bit {bit} of byte {index}");
                }
            }
        }
    }

    /// A message of a hundred bytes could announce more rows than anybody can count: nulls take no bytes.
    #[test]
    fn rows_that_take_no_bytes_are_not_believed() {
        let nulls = |rows: usize| {
            let schema = Arc::new(Schema::new(vec![Field::new("nothing", DataType::Null, true)]));
            let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(NullArray::new(rows))]).unwrap();
            let mut bytes = Vec::new();
            write(Pipe::new(schema, std::iter::once(Ok(batch))), &mut bytes).unwrap();
            bytes
        };
        assert_eq!(rows(nulls(7)).unwrap(), 7);
        for count in [1000, 1 << 40] {
            let error = rows(nulls(count)).unwrap_err().to_string();
            assert!(error.contains(&format!("{count} rows of 1 columns")), "{error}");
        }
    }

    /// A truth value takes a bit, which is the least that a value takes.
    #[test]
    fn rows_of_bits_are_all_read() {
        let schema = Arc::new(Schema::new(vec![Field::new("bit", DataType::Boolean, false)]));
        for count in [1, 7, 8, 9, 511, 513, 70_000] {
            let bits = BooleanArray::from(vec![true; count]);
            let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(bits)]).unwrap();
            let mut bytes = Vec::new();
            write(Pipe::new(schema.clone(), std::iter::once(Ok(batch))), &mut bytes).unwrap();
            assert_eq!(rows(bytes).unwrap(), count);
        }
    }

    #[test]
    fn a_huge_announced_length_is_not_believed() {
        let mut bytes = vec![0xFF; 4];
        bytes.extend(i32::MAX.to_le_bytes());
        assert_eq!(rows(bytes).unwrap_err().exit_status(), 3);
    }
}
