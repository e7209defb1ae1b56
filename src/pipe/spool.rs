//! A whole pipe into a temporary file and out again, where a stage has to see every row before the first goes on.

use std::io::{BufReader, BufWriter, Seek};

use arrow_array::RecordBatch;

use super::{Pipe, ipc};
use crate::error::{Error, Result};

/// Bytes read and written at once.
const BUFFER: usize = 1 << 20;

/// Reads all of `pipe` into an unnamed file in the directory of temporary files (`TMPDIR`), shows every batch to
/// `watch`, and returns the same pipe, read from the file. The file is gone when the pipe is.
///
/// # Errors
///
/// The first error of the pipe or of `watch`, and a disk that is full.
pub fn through_file(pipe: Pipe, mut watch: impl FnMut(&RecordBatch) -> Result<()>) -> Result<Pipe> {
    let place = |error: std::io::Error| {
        Error::from(error).at(format!("a temporary file in {}", std::env::temp_dir().display()))
    };
    let mut file = tempfile::tempfile().map_err(place)?;
    let (schema, batches) = pipe.into_parts();
    let watched = batches.map(|batch| batch.and_then(|batch| watch(&batch).map(|()| batch)));
    write(schema, watched, &file)?;
    file.rewind().map_err(place)?;
    ipc::read(BufReader::with_capacity(BUFFER, file))
}

fn write(
    schema: arrow_schema::SchemaRef,
    batches: impl Iterator<Item = Result<RecordBatch>>,
    file: &std::fs::File,
) -> Result<()> {
    let mut stream =
        arrow_ipc::writer::StreamWriter::try_new(BufWriter::with_capacity(BUFFER, file), &schema)?;
    for batch in batches {
        stream.write(&batch?)?;
    }
    stream.finish()?;
    Ok(std::io::Write::flush(stream.get_mut())?)
}

#[cfg(test)]
mod tests {
    use super::super::tests::numbers;
    use super::*;

    #[test]
    fn every_batch_is_seen_first_and_comes_out_again() {
        let expected: Vec<_> = numbers(&[3, 0, 2]).into_parts().1.map(Result::unwrap).collect();
        let mut seen = Vec::new();
        let pipe = through_file(numbers(&[3, 0, 2]), |batch| {
            seen.push(batch.clone());
            Ok(())
        });
        assert_eq!(pipe.unwrap().into_parts().1.map(Result::unwrap).collect::<Vec<_>>(), expected);
        assert_eq!(seen, expected);
    }

    #[test]
    fn an_error_upstream_is_an_error_at_once() {
        let (schema, batches) = numbers(&[2]).into_parts();
        let failing = Pipe::new(schema, batches.chain([Err(Error::data("bad"))]));
        assert_eq!(through_file(failing, |_| Ok(())).err().unwrap().to_string(), "bad");
    }
}
