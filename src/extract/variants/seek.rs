//! Reading only the blocks of a BGZF file that an index (`.tbi`, `.csi`) names for a selection.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use noodles::bgzf::{self, VirtualPosition};
use noodles::core::{Position, region::Interval};
use noodles::csi::binning_index::index::reference_sequence::bin::Chunk;
use noodles::csi::binning_index::merge_chunks;

use super::selection::Selection;
use crate::error::{Error, Result, guarded};
use crate::input::index;

/// An index beside a file.
pub struct Index {
    index: index::Index,
}

/// Why the index beside a file is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoIndex {
    /// There is none.
    Missing,
    /// It is older than the file.
    Stale(PathBuf),
}

impl Index {
    /// Reads the index beside `path`.
    ///
    /// # Errors
    ///
    /// When it is damaged. Without an index, or with one older than the file, the inner `Err` says so.
    pub fn beside(path: &Path) -> Result<std::result::Result<Self, NoIndex>> {
        for suffix in [".tbi", ".csi"] {
            let mut name = OsString::from(path);
            name.push(suffix);
            let name = PathBuf::from(name);
            if !name.is_file() {
                continue;
            }
            if is_older(&name, path) {
                return Ok(Err(NoIndex::Stale(name)));
            }
            return Ok(Ok(Self { index: index::read(&name)? }));
        }
        Ok(Err(NoIndex::Missing))
    }

    /// Returns the names of the contigs, when the index holds them.
    pub fn contigs(&self) -> Option<Vec<String>> {
        let header = self.index.header()?;
        Some(header.reference_sequence_names().iter().map(ToString::to_string).collect())
    }

    /// Returns the stretches of the file with the selected records (and some more), in file order.
    ///
    /// `contigs` are the contigs by number.
    pub fn chunks(&self, contigs: &[&str], selection: &Selection) -> Result<Vec<Chunk>> {
        let mut chunks = Vec::new();
        for (chrom, intervals) in selection.contigs() {
            let indexed = contigs.iter().take(self.index.reference_sequences().count());
            for (number, _) in indexed.enumerate().filter(|(_, name)| **name == chrom) {
                for &(start, end) in intervals {
                    chunks.extend(self.query(number, start, end)?);
                }
            }
        }
        Ok(merge_chunks(&chunks))
    }

    fn query(&self, number: usize, start: i64, end: i64) -> Result<Vec<Chunk>> {
        // The bins of an index reach to 2^(min_shift + 3 * depth); nothing is indexed after that.
        let reach = 1i64 << (u32::from(self.index.min_shift()) + 3 * u32::from(self.index.depth())).min(62);
        if start >= reach {
            return Ok(Vec::new());
        }
        let position = |n: i64| Position::new(n.max(1) as usize).expect("at least 1");
        let interval = if end >= reach {
            Interval::from(position(start.saturating_add(1))..)
        } else {
            Interval::from(position(start.saturating_add(1))..=position(end))
        };
        let found = guarded("the index", || self.index.query(number, interval))?;
        found.map_err(|error| Error::data(format!("index: {error}")))
    }
}

fn is_older(index: &Path, file: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    matches!((time(index), time(file)), (Ok(index), Ok(file)) if index < file)
}

/// The text of chunks of a BGZF file, one after the other.
pub struct Chunks {
    reader: bgzf::io::Reader<BufReader<File>>,
    waiting: VecDeque<Chunk>,
    until: Option<VirtualPosition>,
}

impl Chunks {
    /// Reads `chunks` of `file`.
    pub fn new(file: File, chunks: Vec<Chunk>) -> Self {
        Self { reader: bgzf::io::Reader::new(BufReader::new(file)), waiting: chunks.into(), until: None }
    }

    /// Goes to where the next bytes are; `false` when there are none.
    fn settle(&mut self) -> io::Result<bool> {
        loop {
            match self.until {
                Some(until) if self.reader.virtual_position() < until => {
                    if !self.reader.fill_buf()?.is_empty() {
                        return Ok(true);
                    }
                    // The last chunk of an index may end after the end-of-file block.
                    self.until = None;
                }
                _ => {
                    let Some(chunk) = self.waiting.pop_front() else { return Ok(false) };
                    self.reader.seek(chunk.start())?;
                    self.until = Some(chunk.end());
                }
            }
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.settle()? { self.reader.fill_buf() } else { Ok(&[]) }
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
    }
}
