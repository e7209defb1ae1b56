//! Safetensors files: a header that says where each tensor lies, and the tensors.

use safetensors::tensor::{Dtype as Kind, SafeTensors};

use super::Tensors;
use super::stored::{Dtype, Stored};
use crate::error::{Error, Result};
use crate::input::Mapped;

/// Reads the header of a safetensors file.
///
/// # Errors
///
/// When it is damaged, or does not describe this file to its last byte.
pub fn read(file: &Mapped) -> Result<Tensors> {
    let (header, metadata) = SafeTensors::read_metadata(file.bytes())
        .map_err(|error| Error::data(format!("not a safetensors file: {error}")))?;
    let mut tensors = Tensors::default();
    for (name, info) in metadata.tensors() {
        let Some(dtype) = dtype(info.dtype) else {
            tensors.others.insert(name, info.dtype.to_string());
            continue;
        };
        // The offsets count from the end of the header, before which are eight bytes with its length.
        let (start, end) = info.data_offsets;
        let stored = Stored::plain(file, 8 + header + start..8 + header + end, dtype, info.shape.clone());
        tensors.insert(&name, stored.map_err(|error| error.at(format!("tensor `{name}`")))?);
    }
    Ok(tensors)
}

fn dtype(kind: Kind) -> Option<Dtype> {
    match kind {
        Kind::F16 => Some(Dtype::F16),
        Kind::BF16 => Some(Dtype::Bf16),
        Kind::F32 => Some(Dtype::F32),
        Kind::F64 => Some(Dtype::F64),
        _ => None,
    }
}
