//! Choosing columns of a pipe by name.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::pipe::Pipe;

/// Keeps the columns `keep`, in that order (all when it is empty), without the columns `drop`.
///
/// # Errors
///
/// A name that the stream does not have.
pub fn select(pipe: Pipe, keep: &[String], drop: &[String]) -> Result<Pipe> {
    if keep.is_empty() && drop.is_empty() {
        return Ok(pipe);
    }
    let schema = pipe.schema().clone();
    let index = |name: &String| {
        schema.index_of(name).map_err(|_| {
            let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            Error::usage(format!("the stream has no column `{name}` (it has {})", names.join(", ")))
        })
    };
    let kept: Vec<usize> = match keep {
        [] => (0..schema.fields().len()).collect(),
        names => names.iter().map(index).collect::<Result<_>>()?,
    };
    let dropped: Vec<usize> = drop.iter().map(index).collect::<Result<_>>()?;
    let chosen: Vec<usize> = kept.into_iter().filter(|column| !dropped.contains(column)).collect();
    let target = Arc::new(schema.project(&chosen)?);
    Ok(pipe.map(target, move |batch| Ok(batch.project(&chosen)?)))
}
