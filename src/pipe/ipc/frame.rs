//! The messages of an Arrow IPC stream, one by one, with the checks that a stock reader leaves out.
//!
//! A message is `FFFFFFFF`, the length of its metadata (int32), the metadata (a flatbuffer), and a body whose
//! length the metadata tells. A wrong length could swallow the messages behind it and leave a short stream
//! that reads well; so both lengths must fit what they enclose.

use std::io::{self, Read};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::{Message, MessageHeader, convert, reader, root_as_message};
use arrow_schema::{Schema, SchemaRef};

use crate::error::guarded;

/// Writers pad metadata and buffers to at most this many bytes.
const PADDING_MAX: usize = 72;
/// What is allocated before any of it has arrived.
const ALLOCATION_MAX: usize = 64 << 20;

/// Why a message could not be read.
#[derive(Debug)]
pub enum Fault {
    /// The bytes ended.
    Ended,
    /// The bytes are not those of a message.
    Damaged(String),
    /// The operating system refused.
    Io(io::Error),
}

fn damaged(error: impl std::fmt::Display) -> Fault {
    Fault::Damaged(error.to_string())
}

/// One message as it came.
pub struct Frame {
    metadata: Vec<u8>,
    body: Vec<u8>,
}

impl Frame {
    /// Reads the next message; `None` at the end mark.
    pub fn read(input: &mut impl Read) -> Result<Option<Self>, Fault> {
        let mark = exactly(input, 4)?;
        if mark != [0xFF; 4] {
            return Err(damaged("no message begins here"));
        }
        let length = exactly(input, 4)?;
        let length = i32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        if length == 0 {
            return Ok(None);
        }
        let metadata = exactly(input, usize::try_from(length).map_err(damaged)?)?;
        let body_length = {
            let message = root_as_message(&metadata).map_err(damaged)?;
            let shorter = metadata.len().saturating_sub(PADDING_MAX);
            if root_as_message(&metadata[..shorter]).is_ok() {
                return Err(damaged("metadata is longer than what it says"));
            }
            let length = usize::try_from(message.bodyLength()).map_err(damaged)?;
            check_body(&message, length)?;
            length
        };
        let body = exactly(input, body_length)?;
        Ok(Some(Self { metadata, body }))
    }

    fn message(&self) -> Result<Message<'_>, Fault> {
        root_as_message(&self.metadata).map_err(damaged)
    }

    /// Returns the schema that this message, the first of a stream, holds.
    pub fn schema(&self) -> Result<Schema, Fault> {
        let message = self.message()?;
        let schema =
            message.header_as_schema().ok_or_else(|| damaged("the first message holds no schema"))?;
        decode(|| convert::try_fb_to_schema(schema))
    }

    /// Returns the rows that this message holds.
    pub fn batch(self, schema: &SchemaRef) -> Result<RecordBatch, Fault> {
        let body = Buffer::from_vec(self.body);
        let message = root_as_message(&self.metadata).map_err(damaged)?;
        let batch = match message.header_type() {
            MessageHeader::RecordBatch => message.header_as_record_batch(),
            MessageHeader::DictionaryBatch => {
                return Err(damaged("it has dictionary-encoded columns: write them as plain columns"));
            }
            _ => None,
        };
        let batch = batch.ok_or_else(|| damaged("a message holds no rows"))?;
        check_rows(&batch, schema, body.len())?;
        let (schema, version) = (Arc::clone(schema), message.version());
        decode(|| reader::read_record_batch(&body, batch, schema, &Default::default(), None, &version))
    }
}

/// Checks that the buffers a message announces fill its body.
fn check_body(message: &Message, length: usize) -> Result<(), Fault> {
    let buffers = message.header_as_record_batch().and_then(|batch| batch.buffers());
    let end =
        buffers.into_iter().flatten().map(|buffer| buffer.offset().saturating_add(buffer.length())).max();
    let end = usize::try_from(end.unwrap_or(0)).map_err(damaged)?;
    if end > length || length - end >= PADDING_MAX {
        return Err(damaged(format!("a body of {length} bytes holds buffers of {end}")));
    }
    Ok(())
}

/// Checks that a message announces no more rows than its body can hold. Columns of nulls, or none at all, take no
/// bytes, so that a small message could announce more rows than anybody can count.
fn check_rows(batch: &arrow_ipc::RecordBatch, schema: &Schema, body: usize) -> Result<(), Fault> {
    let rows = usize::try_from(batch.length()).map_err(damaged)?;
    // A truth value takes a bit.
    if rows / 8 > body {
        let columns = schema.fields().len();
        return Err(damaged(format!("{rows} rows of {columns} columns in a body of {body} bytes")));
    }
    Ok(())
}

/// Reads `length` bytes, allocating little more than arrives.
fn exactly(input: &mut impl Read, length: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = vec![0; length.min(ALLOCATION_MAX)];
    let mut filled = 0;
    loop {
        input.read_exact(&mut bytes[filled..]).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Fault::Ended,
            _ => Fault::Io(error),
        })?;
        filled = bytes.len();
        if filled == length {
            return Ok(bytes);
        }
        bytes.resize(length.min(filled + ALLOCATION_MAX), 0);
    }
}

/// Turns a panic of the Arrow crate, which some damaged bytes cause, into a fault.
fn decode<T, E: std::fmt::Display>(read: impl FnOnce() -> Result<T, E>) -> Result<T, Fault> {
    match guarded("the message", read) {
        Ok(outcome) => outcome.map_err(damaged),
        Err(_) => Err(damaged("its lengths contradict each other")),
    }
}
