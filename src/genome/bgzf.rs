//! BGZF at uncompressed offsets: the table of blocks (`.gzi`) and a cache of inflated blocks.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use noodles::bgzf::io::Reader;
use noodles::bgzf::{VirtualPosition, gzi};

use super::positioned::PositionedFile;
use crate::error::{Error, Result};

/// Compressed bytes read at once: a block of soft-masked bases, more or less.
const BUFFER: usize = 1 << 15;

/// Inflated blocks (64 KiB at most) that a reader keeps: 16 MiB, more than a yeast genome.
const SLOTS: usize = 256;

/// The empty block that ends every whole BGZF file.
const END_MARK: [u8; 28] = [
    0x1F, 0x8B, 0x08, 0x04, 0, 0, 0, 0, 0, 0xFF, 0x06, 0, 0x42, 0x43, 0x02, 0, 0x1B, 0, 0x03, 0, 0, 0, 0, 0,
    0, 0, 0, 0,
];

/// Returns whether gzip bytes are BGZF: their first extra field is `BC`.
pub(super) fn is_bgzf(head: &[u8]) -> bool {
    head.get(3).is_some_and(|flags| flags & 4 != 0) && head.get(12..14) == Some(b"BC")
}

/// Returns whether the file ends as a whole BGZF file does.
pub(super) fn has_end_mark(file: &File) -> io::Result<bool> {
    let mut tail = [0; END_MARK.len()];
    let Some(start) = file.metadata()?.len().checked_sub(tail.len() as u64) else { return Ok(false) };
    file.read_exact_at(&mut tail, start)?;
    Ok(tail == END_MARK)
}

/// Offsets of the blocks, compressed and uncompressed; shared by all readers of a file.
pub(super) type BlockTable = Arc<[(u64, u64)]>;

/// Makes a table of blocks from an index, which leaves out the first block.
pub(super) fn block_table(index: &gzi::Index) -> BlockTable {
    std::iter::once((0, 0)).chain(index.as_ref().iter().copied()).collect()
}

/// Inflated bytes of a BGZF file by their offset.
pub(super) struct Blocks {
    file: Arc<File>,
    reader: Reader<PositionedFile>,
    table: BlockTable,
    /// Block `b` is kept in slot `b % SLOTS`.
    slots: Vec<Slot>,
    joined: Vec<u8>,
}

#[derive(Clone, Default)]
struct Slot {
    block: Option<usize>,
    bytes: Vec<u8>,
}

impl Clone for Blocks {
    fn clone(&self) -> Self {
        Self::new(self.file.clone(), self.table.clone())
    }
}

impl Blocks {
    pub(super) fn new(file: Arc<File>, table: BlockTable) -> Self {
        let reader = Reader::new(PositionedFile::new(file.clone(), BUFFER));
        Self { file, reader, table, slots: vec![Slot::default(); SLOTS], joined: Vec::new() }
    }

    /// Returns the inflated bytes `[start, end)`.
    ///
    /// # Errors
    ///
    /// When the file ends before or a block is damaged.
    pub(super) fn slice(&mut self, start: u64, end: u64) -> Result<&[u8]> {
        let bytes = self.part(start, end)?;
        if (bytes.len() as u64) < end - start {
            return Err(Error::data(
                "the file ends before the index says: it is cut short, or the index is not its own",
            ));
        }
        Ok(bytes)
    }

    /// Returns the inflated bytes `[start, end)`, or fewer where the file ends before.
    ///
    /// # Errors
    ///
    /// When a block is damaged, or not as long as the table says.
    pub(super) fn part(&mut self, start: u64, end: u64) -> Result<&[u8]> {
        let mut block = self.table.partition_point(|&(_, offset)| offset <= start).saturating_sub(1);
        let block_start = self.table[block].1;
        let (first, last) = ((start - block_start) as usize, (end - block_start) as usize);
        if last <= self.inflated(block)?.len() {
            return Ok(&self.slots[block % SLOTS].bytes[first..last]);
        }
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        let mut skip = first;
        let width = (end - start) as usize;
        while joined.len() < width && block < self.table.len() {
            let bytes = self.inflated(block)?;
            let rest = bytes.get(skip..).unwrap_or_default();
            joined.extend_from_slice(&rest[..rest.len().min(width - joined.len())]);
            skip = 0;
            block += 1;
        }
        self.joined = joined;
        Ok(&self.joined)
    }

    /// Returns the bytes of a block, from the cache or the file.
    fn inflated(&mut self, block: usize) -> Result<&[u8]> {
        let slot = &mut self.slots[block % SLOTS];
        if slot.block != Some(block) {
            slot.block = None;
            slot.bytes.clear();
            let (offset, first) = self.table[block];
            let length = self.table.get(block + 1).map(|&(_, next)| next.saturating_sub(first));
            let damaged = |error: io::Error| {
                Error::data(format!(
                    "BGZF block at byte {offset}: {error}; the file is damaged or its .gzi is not its own"
                ))
            };
            let position =
                VirtualPosition::new(offset, 0).ok_or_else(|| damaged(io::ErrorKind::InvalidData.into()))?;
            // The reader passes over a block without bytes.
            if length != Some(0) {
                self.reader.seek(position).map_err(damaged)?;
                slot.bytes.extend_from_slice(self.reader.fill_buf().map_err(damaged)?);
            }
            if length.is_some_and(|length| slot.bytes.len() as u64 != length) {
                return Err(damaged(io::Error::other("it is not as long as the index says")));
            }
            slot.block = Some(block);
        }
        Ok(&slot.bytes)
    }
}

/// Reads a BGZF file from its start and notes where its blocks begin.
pub(super) struct Surveyor {
    reader: Reader<PositionedFile>,
    blocks: Vec<(u64, u64)>,
    offset: u64,
}

impl Surveyor {
    pub(super) fn new(file: Arc<File>) -> Self {
        Self { reader: Reader::new(PositionedFile::new(file, BUFFER)), blocks: Vec::new(), offset: 0 }
    }

    /// Returns the index of the blocks read so far.
    pub(super) fn into_index(self) -> gzi::Index {
        self.blocks.into()
    }
}

impl BufRead for Surveyor {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let empty = self.reader.fill_buf()?.is_empty();
        let position = self.reader.virtual_position();
        let block = position.compressed();
        let known = self.blocks.last().map_or(0, |&(last, _)| last);
        if !empty && position.uncompressed() == 0 && block > known {
            self.blocks.push((block, self.offset));
        }
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.offset += count as u64;
        self.reader.consume(count);
    }
}

impl Read for Surveyor {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(target)?;
        self.consume(count);
        Ok(count)
    }
}
