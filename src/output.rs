//! Files that appear under their name only when they are whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use crate::error::{InFile, Result};

/// Bytes gathered before a write.
const BUFFER: usize = 1 << 20;

/// A file being written beside its final place, or a stream that has no final place (stdout, a FIFO, a
/// device). Nothing appears under the final name before [`Output::commit`].
pub struct Output {
    writer: BufWriter<Box<dyn Write + Send>>,
    pending: Option<Pending>,
}

struct Pending {
    file: File,
    temporary: TempPath,
    path: PathBuf,
}

impl Output {
    /// Opens `path` for writing; `-` is standard output.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            widen_pipe(&io::stdout());
            // Line buffering of `Stdout` would flush at every newline byte of binary data.
            return Ok(Self::unnamed(Box::new(io::stdout().lock_free())));
        }
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Ok(Self::unnamed(Box::new(File::options().write(true).open(path).in_file(path)?)));
        }
        let (file, temporary) = temporary_beside(path)?.into_parts();
        let writer: Box<dyn Write + Send> = Box::new(file.try_clone().in_file(path)?);
        let pending = Pending { file, temporary, path: path.to_owned() };
        Ok(Self { writer: BufWriter::with_capacity(BUFFER, writer), pending: Some(pending) })
    }

    fn unnamed(writer: Box<dyn Write + Send>) -> Self {
        Self { writer: BufWriter::with_capacity(BUFFER, writer), pending: None }
    }

    /// Flushes, syncs and moves the file to its name.
    ///
    /// # Errors
    ///
    /// When the disk is full or the file cannot be moved; then nothing appears.
    pub fn commit(mut self) -> Result<()> {
        self.writer.flush()?;
        if let Some(Pending { file, temporary, path }) = self.pending {
            file.sync_all().in_file(&path)?;
            temporary.persist(&path).map_err(|error| error.error).in_file(&path)?;
        }
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Creates a temporary file in the directory of `path`, with the permissions a new file would have.
pub fn temporary_beside(path: &Path) -> Result<NamedTempFile> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let prefix = format!(".{name}.");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The umask still applies, as to any file that a program creates.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory).in_file(path)
}

/// Writes a small file whole or not at all.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut output = Output::create(path)?;
    output.write_all(bytes).in_file(path)?;
    output.commit()
}

/// Asks for the largest pipe buffer a user may have (1 MiB): fewer switches between the processes.
pub(crate) fn widen_pipe(stream: &impl std::os::fd::AsFd) {
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(stream, 1 << 20);
    let _ = stream;
}

/// Standard output without the line buffer of [`io::Stdout`].
trait LockFree {
    fn lock_free(&self) -> File;
}

impl LockFree for io::Stdout {
    fn lock_free(&self) -> File {
        use std::os::fd::AsFd;
        File::from(self.as_fd().try_clone_to_owned().expect("standard output is open"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_appears_before_the_commit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.txt");
        let mut output = Output::create(&path).unwrap();
        output.write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(output);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "the temporary file stayed");
        write_file(&path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = Output::create(Path::new("/nowhere/at/all.txt")).err().unwrap();
        assert!(error.to_string().starts_with("/nowhere/at/all.txt"), "{error}");
    }

    /// A link that somebody planted under the final name is replaced, and what it leads to stays; a file that is being
    /// written has a name nobody can foresee.
    #[cfg(unix)]
    #[test]
    fn a_link_under_the_name_is_replaced_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, victim) = (directory.path().join("out.tsv"), directory.path().join("victim"));
        fs::write(&victim, b"precious").unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        write_file(&path, b"rows").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(fs::read(&path).unwrap(), b"rows");
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
        let names = [0; 2].map(|_| temporary_beside(&path).unwrap().path().to_owned());
        assert_ne!(names[0], names[1]);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_has_the_permissions_of_the_umask_from_its_first_byte() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let plain = directory.path().join("plain");
        File::create(&plain).unwrap();
        let path = directory.path().join("a.txt");
        let output = Output::create(&path).unwrap();
        let partial = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
        let partial = partial.into_iter().find(|path| path.extension().is_some_and(|e| e == "tmp")).unwrap();
        assert_eq!(mode(&partial), mode(&plain));
        output.commit().unwrap();
        assert_eq!(mode(&path), mode(&plain));
        assert_eq!(mode(&path) & 0o111, 0, "data are no programs");
    }
}
