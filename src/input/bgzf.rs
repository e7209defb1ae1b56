//! BGZF that must end with its end-of-file block: a file cut between two blocks is otherwise a short but
//! valid one.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom};

use noodles::bgzf;

use crate::error::{Error, Result};

/// The empty block that ends every BGZF file (SAM specification, 4.1.2).
const END: [u8; 28] =
    [0x1F, 0x8B, 8, 4, 0, 0, 0, 0, 0, 0xFF, 6, 0, 0x42, 0x43, 2, 0, 0x1B, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Bytes at the beginning of a file that tell whether it is BGZF.
pub const HEAD: u64 = 18;

/// Who failed when standard input ends early.
pub const WRITER: &str = "the program that writes standard input";

/// Returns whether a file that begins with `head` (18 bytes or more) is BGZF.
pub fn is_bgzf(head: &[u8]) -> bool {
    head.len() >= 18 && head.starts_with(&[0x1F, 0x8B, 8, 4]) && head[10..14] == [6, 0, 0x42, 0x43]
}

/// Checks that a file ends with the end-of-file block.
///
/// # Errors
///
/// When it does not, or cannot be read.
pub fn check_end(file: &mut File) -> Result<()> {
    let mut last = [0; END.len()];
    let found = file.seek(SeekFrom::End(-(END.len() as i64))).and_then(|_| file.read_exact(&mut last));
    file.rewind()?;
    if found.is_err() || last != END { Err(truncated(false)) } else { Ok(()) }
}

fn truncated(piped: bool) -> Error {
    if piped {
        return Error::Truncated { upstream: WRITER.into(), rows: 0 };
    }
    Error::data(
        "the file does not end with a BGZF end-of-file block: it is truncated. Copy or make it again \
         (and check it with `bgzip -t`)",
    )
}

/// The text of a BGZF stream; its end without the end-of-file block is an error.
pub struct Blocks<R> {
    inner: bgzf::io::Reader<Tail<R>>,
    piped: bool,
}

impl<R: Read> Blocks<R> {
    /// Reads blocks from `reader`; `piped` says that another program writes it.
    pub fn new(reader: R, piped: bool) -> Self {
        Self { inner: bgzf::io::Reader::new(Tail { inner: reader, last: [0; END.len()] }), piped }
    }

    fn explain(&self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other(truncated(self.piped)),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                let place = self.inner.position();
                io::Error::other(Error::data(format!("damaged BGZF block at byte {place}: {error}")))
            }
            _ => error,
        }
    }
}

impl<R: Read> Read for Blocks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for Blocks<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.inner.fill_buf().map(<[u8]>::is_empty) {
            Err(error) => Err(self.explain(error)),
            Ok(true) if self.inner.get_ref().last != END => Err(io::Error::other(truncated(self.piped))),
            Ok(true) => Ok(&[]),
            Ok(false) => self.inner.fill_buf(),
        }
    }

    fn consume(&mut self, count: usize) {
        self.inner.consume(count);
    }
}

/// Passes bytes on and remembers the last ones.
struct Tail<R> {
    inner: R,
    last: [u8; END.len()],
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let kept = count.min(END.len());
        self.last.copy_within(kept.., 0);
        self.last[END.len() - kept..].copy_from_slice(&buffer[count - kept..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    pub fn compress(text: &[u8]) -> Vec<u8> {
        let mut writer = bgzf::io::Writer::new(Vec::new());
        writer.write_all(text).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn every_cut_is_an_error() {
        let text: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let whole = compress(&text);
        assert!(is_bgzf(&whole));
        let mut read = Vec::new();
        Blocks::new(&whole[..], false).read_to_end(&mut read).unwrap();
        assert_eq!(read, text);
        let cuts = (1..40).chain((40..whole.len()).step_by(997)).chain(whole.len() - 60..whole.len());
        for cut in cuts {
            let error = Blocks::new(&whole[..cut], false).read_to_end(&mut Vec::new()).unwrap_err();
            assert!(Error::from(error).to_string().contains("truncated"), "cut at {cut}");
            let error = Blocks::new(&whole[..cut], true).read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(Error::from(error).exit_status(), 3, "cut at {cut}");
        }
    }

    #[test]
    fn a_damaged_block_is_an_error() {
        let mut bytes = compress(&[b'a'; 1000]);
        bytes[22] ^= 0x55;
        assert!(Blocks::new(&bytes[..], false).read_to_end(&mut Vec::new()).is_err());
    }
}
