//! Bases of a UCSC 2bit file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex};

use ::twobit::TwoBitFile;

use super::positioned::PositionedFile;
use crate::error::{Error, Result, guarded};

/// Bytes read at once: 16384 bases, several windows.
const BUFFER: usize = 1 << 12;

/// An open 2bit file. Clones share the reader: its tables of masked blocks are too large to have twice.
#[derive(Clone)]
pub(super) struct TwoBit(Arc<Mutex<TwoBitFile<PositionedFile>>>);

impl TwoBit {
    /// Opens a 2bit file; returns its contigs with their lengths, too.
    pub(super) fn open(file: Arc<File>) -> Result<(Self, Vec<(String, u64)>)> {
        let length = file.metadata()?.len();
        Tables { file: PositionedFile::new(file.clone(), 1 << 16), swapped: false, length, used: 0 }
            .check()?;
        let reader = guarded("the 2bit file", || TwoBitFile::new(PositionedFile::new(file, BUFFER)));
        let reader = reader?.map_err(damaged)?;
        let lengths = reader.chrom_sizes().into_iter().map(|length| length as u64);
        let contigs = reader.chrom_names().into_iter().zip(lengths).collect();
        Ok((Self(Arc::new(Mutex::new(reader))), contigs))
    }

    /// Appends the bases of `[start, end)`, which lies inside the contig.
    pub(super) fn append(&self, chrom: &str, start: usize, end: usize, bases: &mut Vec<u8>) -> Result<()> {
        let mut reader = self.0.lock().map_err(|_| Error::data("another thread failed on the 2bit file"))?;
        let sequence = guarded("the 2bit file", || reader.read_sequence(chrom, start..end));
        bases.extend_from_slice(sequence?.map_err(damaged)?.as_bytes());
        Ok(())
    }
}

fn damaged(error: ::twobit::Error) -> Error {
    Error::data(format!("the 2bit file is damaged or cut short: {error}"))
}

/// What the crate takes for granted: blocks are in order and inside their contig, and the tables of all contigs together
/// are no larger than the file, so that a small file cannot make it read one table for each of a million names.
struct Tables {
    file: PositionedFile,
    /// Whether numbers are big-endian.
    swapped: bool,
    /// Bytes of the file.
    length: u64,
    /// Bytes that the contigs so far take.
    used: u64,
}

impl Tables {
    fn check(mut self) -> Result<()> {
        let mut head = [0; 4];
        self.file.read_exact(&mut head).map_err(cut)?;
        self.swapped = head == [0x1A, 0x41, 0x27, 0x43];
        if self.number()? != 0 {
            return Err(Error::data(
                "a 2bit file of a version other than 0: make it with faToTwoBit without -long",
            ));
        }
        let contigs = self.number()?;
        self.number()?;
        let mut at = 16;
        for _ in 0..contigs {
            self.file.seek(SeekFrom::Start(at))?;
            let mut size = [0];
            self.file.read_exact(&mut size).map_err(cut)?;
            at += 1 + u64::from(size[0]) + 4;
            self.file.seek(SeekFrom::Current(i64::from(size[0])))?;
            let place = self.number()?;
            self.file.seek(SeekFrom::Start(place.into()))?;
            self.check_contig()?;
        }
        Ok(())
    }

    /// Checks the tables of a contig, which begin here.
    fn check_contig(&mut self) -> Result<()> {
        let bases = self.number()?;
        self.use_bytes(16 + u64::from(bases).div_ceil(4))?;
        let before = |end: u64, [start, size]: [u32; 2]| {
            let (start, end_of_it) = (u64::from(start), u64::from(start) + u64::from(size));
            (start >= end && end_of_it <= u64::from(bases)).then_some(end_of_it)
        };
        for what in ["N", "lower case"] {
            let blocks = self.blocks()?;
            if blocks.into_iter().try_fold(0, before).is_none() {
                return Err(Error::data(format!(
                    "the 2bit file is damaged: blocks of {what} are out of order"
                )));
            }
        }
        Ok(())
    }

    /// Reads a table of blocks: their starts, and then their sizes.
    fn blocks(&mut self) -> Result<Vec<[u32; 2]>> {
        let count = self.number()?;
        self.use_bytes(8 * u64::from(count))?;
        let mut bytes = vec![0; 8 * count as usize];
        self.file.read_exact(&mut bytes).map_err(cut)?;
        let (starts, sizes) = bytes.split_at(4 * count as usize);
        let (starts, sizes) = (starts.as_chunks::<4>().0, sizes.as_chunks::<4>().0);
        Ok(starts.iter().zip(sizes).map(|(start, size)| [self.value(*start), self.value(*size)]).collect())
    }

    fn use_bytes(&mut self, count: u64) -> Result<()> {
        self.used = self.used.saturating_add(count);
        if self.used > self.length {
            return Err(Error::data(
                "the 2bit file is damaged or cut short: its contigs need more bytes than it has",
            ));
        }
        Ok(())
    }

    fn number(&mut self) -> Result<u32> {
        let mut bytes = [0; 4];
        self.file.read_exact(&mut bytes).map_err(cut)?;
        Ok(self.value(bytes))
    }

    fn value(&self, bytes: [u8; 4]) -> u32 {
        if self.swapped { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }
}

fn cut(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::data("the 2bit file is damaged or cut short"),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A file of contigs that share one record of `bases` bases and `blocks` of N.
    fn file(names: usize, bases: u32, blocks: &[[u32; 2]]) -> Vec<u8> {
        let numbers = |numbers: &[u32]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_le_bytes()).collect() };
        let mut bytes = numbers(&[0x1A41_2743, 0, names as u32, 0]);
        let place = 16 + names as u32 * 7;
        for name in 0..names {
            bytes.extend([2, b'a' + (name / 26) as u8, b'a' + (name % 26) as u8]);
            bytes.extend(numbers(&[place]));
        }
        bytes.extend(numbers(&[bases, blocks.len() as u32]));
        bytes.extend(blocks.iter().flat_map(|block| numbers(&block[..1])));
        bytes.extend(blocks.iter().flat_map(|block| numbers(&block[1..])));
        bytes.extend(numbers(&[0, 0]));
        bytes.extend(vec![0b00_01_10_11; bases.div_ceil(4) as usize]);
        bytes
    }

    fn open(bytes: &[u8]) -> Result<(TwoBit, Vec<(String, u64)>)> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        TwoBit::open(Arc::new(file))
    }

    #[test]
    fn a_sound_file_is_read_in_either_byte_order() {
        let (file, contigs) = open(&file(1, 8, &[[2, 3]])).unwrap();
        assert_eq!(contigs, [("aa".to_string(), 8)]);
        let mut bases = Vec::new();
        file.append("aa", 0, 8, &mut bases).unwrap();
        assert_eq!(bases, b"TCNNNCAG");
    }

    #[test]
    fn tables_that_no_file_of_this_size_holds_are_refused() {
        let blocks: Vec<[u32; 2]> = (0..200).map(|block| [4 * block, 1]).collect();
        open(&file(1, 1000, &blocks)).unwrap();
        for bytes in [
            // Names share one table, as none in a real file do.
            file(300, 1000, &blocks),
            // More bases and more blocks than there are bytes for.
            file(1, 8, &[])[..16 + 7].iter().copied().chain([0xFF; 8]).collect(),
            file(1, 8, &[])[..16 + 7 + 4].iter().copied().chain([0xFF; 4]).collect(),
        ] {
            let message = open(&bytes).err().expect("refused").to_string();
            assert!(message.contains("2bit file is damaged"), "{message}");
        }
    }

    #[test]
    fn blocks_out_of_order_or_past_the_end_are_refused() {
        for blocks in
            [&[[4, 2], [2, 1]][..], &[[0, 3], [2, 2]], &[[7, 2]], &[[u32::MAX, 2]], &[[0, u32::MAX]]]
        {
            let message = open(&file(1, 8, blocks)).err().expect("refused").to_string();
            assert!(message.contains("out of order"), "{blocks:?} {message}");
        }
    }
}
