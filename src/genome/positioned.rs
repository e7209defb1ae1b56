//! A file read at positions, shared by readers that do not move each other.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A buffered reader with a position of its own. A seek inside the buffer keeps what was read.
pub(super) struct PositionedFile {
    file: Arc<File>,
    /// Bytes read at once.
    capacity: usize,
    buffer: Vec<u8>,
    /// Offset in the file of the buffer's first byte.
    buffer_start: u64,
    position: u64,
}

impl PositionedFile {
    /// Creates a reader at the start of the file that reads `capacity` bytes at once.
    pub(super) fn new(file: Arc<File>, capacity: usize) -> Self {
        Self { file, capacity, buffer: Vec::new(), buffer_start: 0, position: 0 }
    }

    fn buffered(&self) -> &[u8] {
        let skip = self.position.checked_sub(self.buffer_start).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.buffer.get(skip..)).unwrap_or_default()
    }
}

impl BufRead for PositionedFile {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.buffered().is_empty() {
            self.buffer.resize(self.capacity, 0);
            self.buffer_start = self.position;
            let count = read_some_at(&self.file, &mut self.buffer, self.position);
            self.buffer.truncate(*count.as_ref().unwrap_or(&0));
            count?;
        }
        Ok(self.buffered())
    }

    fn consume(&mut self, count: usize) {
        self.position += count as u64;
    }
}

impl Read for PositionedFile {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(target)?;
        self.consume(count);
        Ok(count)
    }
}

impl Seek for PositionedFile {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        let position = match target {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(change) => self.position.checked_add_signed(change),
            SeekFrom::End(change) => self.file.metadata()?.len().checked_add_signed(change),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

fn read_some_at(file: &File, target: &mut [u8], position: u64) -> io::Result<usize> {
    loop {
        match file.read_at(target, position) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn two_readers_of_a_file_do_not_move_each_other() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let file = Arc::new(file);
        let mut readers = [PositionedFile::new(file.clone(), 4), PositionedFile::new(file, 64)];
        let mut byte = [0];
        readers[0].seek(SeekFrom::Start(7)).unwrap();
        readers[1].read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"0");
        readers[0].read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"7");
        readers[0].seek(SeekFrom::Current(-8)).unwrap();
        readers[0].read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"0");
        assert_eq!(readers[0].seek(SeekFrom::End(0)).unwrap(), 10);
        assert_eq!(readers[0].read(&mut byte).unwrap(), 0);
    }
}
