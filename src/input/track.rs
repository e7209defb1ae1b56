//! The lengths that a bigWig or bigBed file states (UCSC's layout), which the crate that reads it allocates as they stand.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};

/// The first byte of files whose numbers begin with their lowest byte, and of others.
const LITTLE: [u8; 2] = [0x26, 0xEB];
const BIG: [u8; 2] = [0x88, 0x87];
/// Bytes that a block or a name may have: many times what any program writes.
const BLOCK_MAX: u64 = 64 << 20;
const NAME_MAX: u64 = 1 << 16;
/// Levels that a tree may have: programs give a node hundreds of children.
const LEVELS_MAX: usize = 32;

/// Checks the lengths in the header of an open file, in its table of contigs and in its index of blocks; what is of
/// another format is left to its reader.
///
/// # Errors
///
/// A length that no file has, a place behind the end of this one, a tree that leads back to itself.
pub fn check_lengths(file: &File) -> Result<()> {
    let length = file.metadata()?.len();
    let mut first = [0];
    let little = match file.read_exact_at(&mut first, 0) {
        Ok(()) if LITTLE.contains(&first[0]) => true,
        Ok(()) if BIG.contains(&first[0]) => false,
        _ => return Ok(()),
    };
    Lengths { file, length, little }.check()
}

struct Lengths<'a> {
    file: &'a File,
    length: u64,
    /// Whether numbers begin with their lowest byte.
    little: bool,
}

/// What the items of a tree lead to.
struct Tree {
    /// Bytes of an item of a leaf, and of another node.
    sizes: [usize; 2],
    /// Where in an item of a node the place of the child is.
    child: usize,
}

impl Lengths<'_> {
    fn check(&self) -> Result<()> {
        let header = self.bytes(0, 64)?;
        let [contigs, index] = [self.number(&header[8..16]), self.number(&header[24..32])];
        let table = self.bytes(contigs, 32)?;
        let [name, count] = [self.number(&table[8..12]), self.number(&table[16..24])];
        let too_many = count.checked_mul(name + 8).is_none_or(|bytes| bytes > self.length);
        if self.number(&header[52..56]) > BLOCK_MAX || name > NAME_MAX || too_many {
            return Err(Error::data("damaged: its header states lengths that no file has"));
        }
        let item = name as usize + 8;
        let names = Tree { sizes: [item; 2], child: name as usize };
        self.walk(contigs.saturating_add(32), &names, |_| Ok(()))?;
        // Nodes begin behind the header of the index.
        let blocks = Tree { sizes: [32, 24], child: 16 };
        self.walk(index.saturating_add(48), &blocks, |item| self.check_block(item))
    }

    /// Goes through a tree and hands the items of its leaves on.
    fn walk(&self, root: u64, tree: &Tree, leaf: impl Fn(&[u8]) -> Result<()>) -> Result<()> {
        let (mut nodes, mut seen) = (vec![(root, 1)], 0);
        while let Some((node, level)) = nodes.pop() {
            seen += 1;
            if seen > self.length / 4 || level > LEVELS_MAX {
                return Err(Error::data("damaged: its index leads back to itself"));
            }
            let head = self.bytes(node, 4)?;
            let (is_leaf, count) = (head[0] == 1, self.number(&head[2..4]) as usize);
            let size = tree.sizes[usize::from(!is_leaf)];
            let items = self.bytes(node.saturating_add(4), count * size)?;
            for item in items.chunks_exact(size) {
                match is_leaf {
                    true => leaf(item)?,
                    false => nodes.push((self.number(&item[tree.child..tree.child + 8]), level + 1)),
                }
            }
        }
        Ok(())
    }

    /// Checks that the block of an item lies in the file.
    fn check_block(&self, item: &[u8]) -> Result<()> {
        let (offset, size) = (self.number(&item[16..24]), self.number(&item[24..32]));
        if size > BLOCK_MAX || offset.saturating_add(size) > self.length {
            let message = format!("cut or damaged: a block of {size} bytes at {offset} is not in it");
            return Err(Error::data(message));
        }
        Ok(())
    }

    /// Reads `size` bytes, if the file has so many.
    fn bytes(&self, offset: u64, size: usize) -> Result<Vec<u8>> {
        if offset.saturating_add(size as u64) > self.length {
            let message = format!("cut or damaged: its header leads to byte {offset}, behind its end");
            return Err(Error::data(message));
        }
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn number(&self, bytes: &[u8]) -> u64 {
        let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        match self.little {
            true => bytes.iter().rev().fold(0, fold),
            false => bytes.iter().fold(0, fold),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::bigwig;
    use crate::convert::track::Interval;
    use crate::provenance::Genome;

    /// Where the numbers are that are allocated, or followed.
    #[test]
    fn lengths_that_no_file_has_are_refused_wherever_they_stand() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.bw");
        let value = |n: u64| Interval { chrom: "chrB".into(), start: 7 * n, end: 7 * n + 3, value: n as f32 };
        let genome = Genome::new("g.fa", vec![("chrB".into(), 100_000), ("chrA".into(), 90)]);
        bigwig::write((0..3000).map(|n| Ok(value(n))), &genome, &path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let check = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            check_lengths(&File::open(&path).unwrap()).map_err(|error| error.to_string())
        };
        check(&whole).unwrap();
        check(b"no track").unwrap();
        let place = |at: usize| u64::from_le_bytes(whole[at..at + 8].try_into().unwrap()) as usize;
        let (contigs, index) = (place(8), place(24));
        let huge = |at: usize, size: usize| {
            let mut bytes = whole.clone();
            bytes[at..at + size].fill(0x7F);
            check(&bytes).expect_err(&format!("byte {at}"))
        };
        for (at, size) in [(52, 4), (contigs + 8, 4), (contigs + 16, 8)] {
            assert!(huge(at, size).contains("lengths that no file has"), "byte {at}");
        }
        for (at, size) in [(8, 8), (24, 8), (contigs + 34, 2), (index + 50, 2)] {
            assert!(huge(at, size).contains("behind its end"), "byte {at}");
        }
        let (is_leaf, item) = (whole[index + 48] == 1, index + 52);
        let message = huge(item + 16, 8);
        assert!(message.contains(if is_leaf { "is not in it" } else { "behind its end" }), "{message}");
        // A table of contigs that is its own child.
        let mut bytes = whole.clone();
        let name = u32::from_le_bytes(whole[contigs + 8..contigs + 12].try_into().unwrap()) as usize;
        bytes[contigs + 32] = 0;
        bytes[contigs + 34..contigs + 36].copy_from_slice(&1u16.to_le_bytes());
        let child = contigs + 36 + name;
        bytes[child..child + 8].copy_from_slice(&(contigs as u64 + 32).to_le_bytes());
        assert!(check(&bytes).unwrap_err().contains("back to itself"));
    }
}
