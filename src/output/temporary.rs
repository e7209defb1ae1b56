//! Files and folders that are not finished: gone when they are dropped, and when a signal ends the process.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::{NamedTempFile, TempDir};

use super::is_open_file;
use crate::error::{Error, InFile, Result};

/// What is there and not finished.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes all files and folders that are not finished, and lets no thread make or finish another: the process is
/// about to be ended by a signal.
pub fn remove_unfinished() {
    let unfinished = unfinished();
    for path in unfinished.iter() {
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
    }
    // Held for ever.
    std::mem::forget(unfinished);
}

/// A path in the list of what is not finished.
#[derive(Debug)]
struct Listed(PathBuf);

impl Drop for Listed {
    fn drop(&mut self) {
        unfinished().remove(&self.0);
    }
}

/// Makes something and lists it, while nothing can be removed.
fn listed<T>(
    make: impl FnOnce() -> std::io::Result<T>,
    path: impl Fn(&T) -> &Path,
) -> std::io::Result<(T, Listed)> {
    let mut unfinished = unfinished();
    let made = make()?;
    unfinished.insert(path(&made).to_owned());
    let listed = Listed(path(&made).to_owned());
    Ok((made, listed))
}

/// A file under a name that nobody can foresee.
#[derive(Debug)]
pub struct Temporary {
    // In this order: it is in the list for as long as it is there.
    file: NamedTempFile,
    _listed: Listed,
}

impl Temporary {
    fn new(make: impl FnOnce() -> std::io::Result<NamedTempFile>) -> std::io::Result<Self> {
        let (file, _listed) = listed(make, NamedTempFile::path)?;
        Ok(Self { file, _listed })
    }

    /// Returns the file, open for reading and writing.
    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Returns where it is, for those who write by name.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Syncs the file and moves it to its name.
    ///
    /// # Errors
    ///
    /// When the disk is full or the file cannot be moved; then nothing appears.
    pub fn commit(self, path: &Path) -> Result<()> {
        let Self { _listed, file } = self;
        file.as_file().sync_all().in_file(path)?;
        // What a signal has removed meanwhile is not to be missed: then this waits for the end.
        let _unfinished = unfinished();
        file.persist(path).map_err(|error| error.error).in_file(path)?;
        Ok(())
    }
}

/// Creates a temporary file in the directory of `path`, with the permissions a new file would have.
///
/// # Errors
///
/// When the directory cannot be written, or `path` is no name of a file of its own, as `/dev/stdout`.
pub fn temporary_beside(path: &Path) -> Result<Temporary> {
    if is_open_file(path) {
        return Err(Error::usage("it is written back and forth under its own name: give a FILE"))
            .in_file(path);
    }
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
    Temporary::new(|| builder.tempfile_in(directory)).in_file(path)
}

/// Creates a temporary file (in TMPDIR) that only its user can read.
///
/// # Errors
///
/// When the directory of temporary files cannot be written.
pub fn scratch_file() -> Result<Temporary> {
    Temporary::new(NamedTempFile::new).map_err(no_room)
}

fn no_room(error: std::io::Error) -> Error {
    Error::from(error).at("a temporary file (TMPDIR)")
}

/// A folder of temporary files.
#[derive(Debug)]
pub struct ScratchFolder {
    folder: TempDir,
    _listed: Listed,
}

impl ScratchFolder {
    /// Creates a folder (in TMPDIR) that only its user can read.
    ///
    /// # Errors
    ///
    /// When the directory of temporary files cannot be written.
    pub fn new() -> Result<Self> {
        let (folder, _listed) = listed(TempDir::new, TempDir::path).map_err(no_room)?;
        Ok(Self { folder, _listed })
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Removing everything would take the files of the tests beside this one: tests/it/faults does it to processes.
    #[test]
    fn what_is_not_finished_is_listed_for_as_long_as_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.txt");
        let is_listed = |path: &Path| unfinished().contains(path);
        let dropped = temporary_beside(&path).unwrap();
        let committed = temporary_beside(&path).unwrap();
        let folder = ScratchFolder::new().unwrap();
        let places = [dropped.path(), committed.path(), folder.path()].map(Path::to_owned);
        places.iter().for_each(|path| assert!(path.exists() && is_listed(path), "{path:?}"));
        drop(dropped);
        committed.commit(&path).unwrap();
        drop(folder);
        places.iter().for_each(|path| assert!(!path.exists() && !is_listed(path), "{path:?}"));
        let failed = temporary_beside(&path).unwrap();
        let place = failed.path().to_owned();
        assert!(failed.commit(directory.path()).is_err(), "a file does not replace a folder");
        assert!(!place.exists() && !is_listed(&place));
        assert!(!is_listed(&path));
    }
}
