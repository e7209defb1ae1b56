//! Parquet and the Arrow file format, with the whole schema and its provenance.

use std::io::Write;

use arrow_ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::error::{Error, Result};
use crate::pipe::Pipe;

/// Bytes of encoded rows that a Parquet row group holds at most, about; memory is bounded by it.
const ROW_GROUP: usize = 64 << 20;

/// Writes Parquet with zstd; the metadata of the schema are also in the metadata of the file.
pub fn write_parquet(pipe: Pipe, output: impl Write + Send) -> Result<()> {
    let (schema, batches) = pipe.into_parts();
    let pairs = schema.metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(pairs.collect()))
        .build();
    let mut writer = ArrowWriter::try_new(output, schema, Some(properties)).map_err(failure)?;
    for batch in batches {
        writer.write(&batch?).map_err(failure)?;
        if writer.in_progress_size() >= ROW_GROUP {
            writer.flush().map_err(failure)?;
        }
    }
    Ok(writer.into_inner().map_err(failure)?.flush()?)
}

/// Writes the Arrow IPC file format, which can be read at any place.
pub fn write_arrow(pipe: Pipe, output: impl Write) -> Result<()> {
    let (schema, batches) = pipe.into_parts();
    let mut writer = FileWriter::try_new(output, &schema)?;
    for batch in batches {
        writer.write(&batch?)?;
    }
    writer.finish()?;
    Ok(writer.into_inner()?.flush()?)
}

fn failure(error: ParquetError) -> Error {
    match error {
        ParquetError::External(error) => match error.downcast::<std::io::Error>() {
            Ok(error) => (*error).into(),
            Err(error) => Error::data(format!("Parquet: {error}")),
        },
        other => Error::data(other.to_string()),
    }
}
