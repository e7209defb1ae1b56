//! A plain file as memory: no system call and no copy for each part of it.

#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use crate::error::{Error, InFile, Result};

/// The bytes of a file. A clone shares them.
#[derive(Clone, Debug)]
pub struct Mapped(Arc<Mmap>);

impl Mapped {
    /// Maps the whole file.
    ///
    /// # Errors
    ///
    /// When the system cannot map it.
    pub fn new(file: &File) -> Result<Self> {
        // SAFETY: the map is read only, and bytes of any value are fine. Should another process change the file
        // meanwhile, the bytes read are as undefined as with any other way of reading; should it cut the file,
        // this process ends by a signal and its output without the end mark.
        let map = unsafe { Mmap::map(file) }?;
        Ok(Self(Arc::new(map)))
    }

    /// Opens and maps the file at `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be opened or mapped.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(&File::open(path).in_file(path)?).in_file(path)
    }

    /// Returns all bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes `[start, end)` of the file.
    ///
    /// # Errors
    ///
    /// When the file is shorter.
    pub fn slice(&self, start: u64, end: u64) -> Result<&[u8]> {
        self.0.get(start as usize..end as usize).ok_or_else(|| {
            Error::data("the file ends before the index says: it is cut short, or the index is old")
        })
    }
}
