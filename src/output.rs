//! Files that appear under their name only when they are whole.

mod temporary;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use noodles::bgzf;

use crate::error::{Error, InFile, Result};
use crate::input::standard;

pub use temporary::{ScratchFolder, Temporary, remove_unfinished, scratch_file, temporary_beside};

/// Bytes gathered before a write.
const BUFFER: usize = 1 << 20;

/// A file being written beside its final place, or a stream that has no final place (stdout, a FIFO, a
/// device). Nothing appears under the final name before [`Output::commit`].
pub struct Output {
    writer: BufWriter<Box<dyn Write + Send>>,
    pending: Option<Pending>,
}

struct Pending {
    temporary: Temporary,
    path: PathBuf,
}

impl Output {
    /// Opens `path` for writing; `-` is standard output, and so are the names that the system gives it.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written, or standard output is closed.
    pub fn create(path: &Path) -> Result<Self> {
        if path == Path::new("-") || STANDARD_OUTPUT.iter().any(|name| path == Path::new(name)) {
            if standard::output_is_closed() {
                return Err(Error::data("standard output is closed: pipe it on, or give -o FILE"));
            }
            widen_pipe(&io::stdout());
            // Line buffering of `Stdout` would flush at every newline byte of binary data.
            return Ok(Self::unnamed(Box::new(io::stdout().lock_free())));
        }
        if is_open_file(path) || fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Ok(Self::unnamed(Box::new(File::options().append(true).open(path).in_file(path)?)));
        }
        let temporary = temporary_beside(path)?;
        let writer: Box<dyn Write + Send> = Box::new(temporary.file().try_clone().in_file(path)?);
        let pending = Pending { temporary, path: path.to_owned() };
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
        match self.pending {
            Some(Pending { temporary, path }) => temporary.commit(&path),
            None => Ok(()),
        }
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

/// Text on its way to an [`Output`]: in blocks of BGZF where the name ends with `.gz` or `.bgz`, as it is otherwise.
pub struct TextOutput(Packing);

enum Packing {
    Plain(Output),
    /// Taken away by [`TextOutput::commit`].
    Blocks(Option<bgzf::io::Writer<Output>>),
}

impl TextOutput {
    /// Opens `path` as [`Output::create`] does.
    ///
    /// # Errors
    ///
    /// As [`Output::create`].
    pub fn create(path: &Path) -> Result<Self> {
        let output = Output::create(path)?;
        Ok(Self(match is_packed(path) {
            true => Packing::Blocks(Some(bgzf::io::Writer::new(output))),
            false => Packing::Plain(output),
        }))
    }

    /// Ends the text and moves the file to its name, as [`Output::commit`] does.
    ///
    /// # Errors
    ///
    /// As [`Output::commit`].
    pub fn commit(mut self) -> Result<()> {
        let whole = Packing::Blocks(None);
        match std::mem::replace(&mut self.0, whole) {
            Packing::Plain(output) => output.commit(),
            Packing::Blocks(blocks) => blocks.expect("it is not committed").finish()?.commit(),
        }
    }
}

impl Write for TextOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Packing::Plain(output) => output.write(bytes),
            Packing::Blocks(blocks) => blocks.as_mut().expect("it is not committed").write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Packing::Plain(output) => output.flush(),
            // A block is the smaller the more often it is flushed.
            Packing::Blocks(_) => Ok(()),
        }
    }
}

impl Drop for TextOutput {
    fn drop(&mut self) {
        // A BGZF writer that is dropped writes its end mark, and what failed would look whole.
        if let Packing::Blocks(blocks) = &mut self.0 {
            drop(blocks.take().map(bgzf::io::Writer::into_inner));
        }
    }
}

/// Returns whether text in a file of this name is compressed.
pub fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "gz" || suffix == "bgz")
}

/// Names of standard output.
const STANDARD_OUTPUT: [&str; 3] = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// Returns whether a path is a name that the system gives to files which processes have open. What is there may be a
/// file, but the name must not be given to another one.
pub fn is_open_file(path: &Path) -> bool {
    let names = ["/dev/stdin", "/dev/stdout", "/dev/stderr"];
    path.starts_with("/dev/fd")
        || path.starts_with("/proc")
        || names.iter().any(|name| path == Path::new(name))
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
    fn text_is_packed_by_its_name_and_has_an_end_mark_only_when_it_is_whole() {
        use std::io::Read;
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let write = |path: &Path, whole: bool| {
            let mut output = TextOutput::create(path).unwrap();
            output.write_all(b"a\tb\n").unwrap();
            output.flush().unwrap();
            if whole { output.commit().unwrap() } else { drop(output) }
        };
        write(&path("a.tsv"), true);
        write(&path("a.tsv.gz"), true);
        assert_eq!(fs::read(path("a.tsv")).unwrap(), b"a\tb\n");
        assert_eq!(crate::input::read_text(&path("a.tsv.gz")).unwrap(), "a\tb\n");
        assert!(fs::read(path("a.tsv.gz")).unwrap().starts_with(&[0x1F, 0x8B]));
        write(&path("b.tsv.gz"), false);
        assert!(!path("b.tsv.gz").exists());
        // What is no file has what was written so far, and no end mark.
        let pipe = path("pipe.gz");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || {
                let mut bytes = Vec::new();
                File::open(pipe).unwrap().read_to_end(&mut bytes).unwrap();
                bytes
            }
        });
        write(&pipe, false);
        assert_eq!(reader.join().unwrap(), b"");
    }

    /// The superuser could have replaced /dev/stdout, for all processes, by a file.
    #[test]
    fn the_names_of_open_files_are_never_given_to_others() {
        for name in ["/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev/fd/63", "/proc/self/fd/2"] {
            let error = temporary_beside(Path::new(name)).unwrap_err().to_string();
            assert!(error.starts_with(name) && error.contains("give a FILE"), "{error}");
            let pending = Output::create(Path::new(name)).ok().and_then(|output| output.pending);
            assert!(pending.is_none(), "{name}");
        }
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
