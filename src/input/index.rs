//! Indexes of BGZF files (`.tbi`, `.csi`), whose counts are compared with their bytes before they are read.
//!
//! The crate that reads an index makes room for as many bins as a count says, which a few bytes can set to two
//! thousand million.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use noodles::csi::BinningIndex;
use noodles::{csi, tabix};

use crate::error::{Error, InFile, Result, guarded};

/// Bytes that an index may have, uncompressed: that of a billion variants has fewer.
const INDEX_MAX: u64 = 1 << 30;

/// An index of either kind.
pub type Index = Box<dyn BinningIndex>;

/// Reads an index, known by its bytes.
///
/// # Errors
///
/// When it is no index, cut or damaged.
pub fn read(path: &Path) -> Result<Index> {
    read_checked(path).in_file(path)
}

fn read_checked(path: &Path) -> Result<Index> {
    let damaged =
        |why: &dyn Display| Error::data(format!("damaged index: {why}. Remove it or make it again"));
    let mut bytes = Vec::new();
    let text = flate2::read::MultiGzDecoder::new(BufReader::new(File::open(path)?));
    text.take(INDEX_MAX).read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
    check(&bytes).ok_or_else(|| damaged(&"its counts are not those of its bytes"))?;
    let index: io::Result<Index> = guarded("the index", || match bytes.starts_with(b"TBI") {
        true => tabix::fs::read(path).map(|index| Box::new(index) as _),
        false => csi::fs::read(path).map(|index| Box::new(index) as _),
    })?;
    index.map_err(|error| damaged(&error))
}

/// Walks over an uncompressed index; `None` when a count is more than the bytes that are left can hold.
fn check(bytes: &[u8]) -> Option<()> {
    let mut rest = Bytes(bytes);
    let is_csi = match rest.take(4)? {
        b"CSI\x01" => true,
        b"TBI\x01" => false,
        _ => return None,
    };
    let references = if is_csi {
        rest.take(8)?;
        let auxiliary = rest.count(1)?;
        let mut auxiliary = Bytes(rest.take(auxiliary)?);
        if !auxiliary.0.is_empty() {
            // The crate goes on where the names end, whatever the length of it all was.
            auxiliary.take(24)?;
            let names = auxiliary.count(1)?;
            check_names(auxiliary.take(names)?)?;
            auxiliary.0.is_empty().then_some(())?;
        }
        rest.count(4)?
    } else {
        let references = rest.count(4)?;
        rest.take(24)?;
        let names = rest.count(1)?;
        check_names(rest.take(names)?)?;
        references
    };
    // CSI keeps an offset in each bin, tabix a table of them after all bins.
    let bin = if is_csi { 12 } else { 4 };
    for _ in 0..references {
        for _ in 0..rest.count(bin + 4)? {
            rest.take(bin)?;
            let chunks = rest.count(16)?;
            rest.take(16 * chunks)?;
        }
        if !is_csi {
            let intervals = rest.count(8)?;
            rest.take(8 * intervals)?;
        }
    }
    Some(())
}

/// Names end with a zero each.
fn check_names(names: &[u8]) -> Option<()> {
    names.last().is_none_or(|&last| last == 0).then_some(())
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// Reads a count of things of `size` bytes or more, for which there are bytes.
    fn count(&mut self, size: usize) -> Option<usize> {
        let count = i32::from_le_bytes(self.take(4)?.try_into().expect("four bytes"));
        usize::try_from(count).ok().filter(|count| *count <= self.0.len() / size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csi(bins: i32, chunks: i32) -> Vec<u8> {
        let mut bytes = b"CSI\x01".to_vec();
        for number in [14i32, 5, 0, 1, bins] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend([0; 12]);
        bytes.extend(chunks.to_le_bytes());
        bytes.extend([0; 16]);
        bytes
    }

    /// What followed the names was read as the count of contigs, and the next bytes as that of bins.
    #[test]
    fn bytes_after_the_names_are_refused() {
        let with = |auxiliary: &[u8]| {
            let whole = csi(1, 1);
            let length = (auxiliary.len() as i32).to_le_bytes();
            [&whole[..12], &length, auxiliary, &whole[16..]].concat()
        };
        let names = [&[0; 24][..], &2i32.to_le_bytes(), b"a\0"].concat();
        assert_eq!(check(&with(&names)), Some(()));
        assert_eq!(check(&with(&[&names[..], &[1, 0, 0, 0]].concat())), None);
        assert_eq!(check(&with(&[&names[..29], b"b"].concat())), None);
    }

    #[test]
    fn counts_without_bytes_are_refused() {
        assert_eq!(check(&csi(1, 1)), Some(()));
        for bytes in
            [csi(i32::MAX, 1), csi(2, 1), csi(1, i32::MAX), csi(1, -1), csi(-1, 0), b"BAI\x01".to_vec()]
        {
            assert_eq!(check(&bytes), None);
        }
        for cut in 0..csi(1, 1).len() {
            assert_eq!(check(&csi(1, 1)[..cut]), None);
        }
    }
}
