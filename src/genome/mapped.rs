//! A plain file as memory: no system call and no copy for each window.

#![allow(unsafe_code)]

use std::fs::File;
use std::sync::Arc;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// The bytes of a file. A clone shares them.
#[derive(Clone)]
pub(super) struct Mapped(Arc<Mmap>);

impl Mapped {
    /// Maps the whole file.
    pub(super) fn new(file: &File) -> Result<Self> {
        // SAFETY: the map is read only, and bytes of any value are fine. Should another process change the file
        // meanwhile, the bases read are as undefined as with any other way of reading; should it cut the file,
        // this process ends by a signal and its output without the end mark.
        let map = unsafe { Mmap::map(file) }?;
        Ok(Self(Arc::new(map)))
    }

    /// Returns the bytes `[start, end)` of the file.
    pub(super) fn slice(&self, start: u64, end: u64) -> Result<&[u8]> {
        self.0.get(start as usize..end as usize).ok_or_else(|| {
            Error::data("the file ends before the index says: it is cut short, or the index is old")
        })
    }
}
