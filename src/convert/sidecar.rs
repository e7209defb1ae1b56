//! Provenance of files whose format has no place for it (bigWig, bigBed): `FILE.nyx.json` beside the file.
//!
//! It also has the size and the SHA-256 of the file, so that `nyx verify` can tell whether it is the file that was
//! written.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use arrow_schema::Schema;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::header;
use crate::error::{Error, InFile, Result};
use crate::output::write_file;
use crate::provenance::{CHAIN_KEY, Step, extend, hexadecimal};

/// Key of the digest of the file.
pub const DIGEST_KEY: &str = "sha256";
/// Key of its size.
pub const BYTES_KEY: &str = "bytes";

/// Name of the file in a model directory that tells how the model was made.
pub const IN_DIRECTORY: &str = "nyx.json";

/// Writes how the model in `directory` was made.
///
/// # Errors
///
/// When the directory cannot be written.
pub fn write_in_directory(directory: &Path, step: &Step) -> Result<()> {
    let object = serde_json::json!({ CHAIN_KEY: extend(Vec::new(), step.clone()) });
    write_file(&directory.join(IN_DIRECTORY), format!("{object:#}\n").as_bytes())
}

/// Returns the name of the file beside `path`.
pub fn path_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".nyx.json");
    name.into()
}

/// Removes what an earlier file of this name has left: it must not speak for another.
///
/// # Errors
///
/// When it is there and cannot be removed.
pub fn clear(path: &Path) -> Result<()> {
    let beside = path_of(path);
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).in_file(&beside),
        _ => Ok(()),
    }
}

/// Writes the file beside `path`, which is there and was made of rows of `schema`.
///
/// # Errors
///
/// When `path` cannot be read, or the file beside it not be written.
pub fn write(path: &Path, schema: &Schema) -> Result<()> {
    let (bytes, digest) = digest_of(path)?;
    let mut object = header::embedded(schema);
    object.insert(BYTES_KEY.into(), bytes.into());
    object.insert(DIGEST_KEY.into(), digest.into());
    write_file(&path_of(path), format!("{:#}\n", Value::Object(object)).as_bytes())
}

/// Reads the file beside `path`; `None` when there is none.
///
/// # Errors
///
/// When it is damaged.
pub fn read(path: &Path) -> Result<Option<Value>> {
    let beside = path_of(path);
    match std::fs::read_to_string(&beside) {
        Ok(text) => serde_json::from_str(&text).map_err(Error::from).in_file(&beside).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).in_file(&beside),
    }
}

/// Returns the size of a file and its SHA-256 in hexadecimal.
///
/// # Errors
///
/// When it cannot be read.
pub fn digest_of(path: &Path) -> Result<(u64, String)> {
    let mut file = File::open(path).in_file(path)?;
    let (mut hasher, mut buffer, mut bytes) = (Sha256::new(), vec![0; 1 << 18], 0);
    loop {
        match file.read(&mut buffer).in_file(path)? {
            0 => return Ok((bytes, hexadecimal(&hasher.finalize()))),
            count => {
                hasher.update(&buffer[..count]);
                bytes += count as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::sample;

    #[test]
    fn what_lies_beside_a_file_tells_its_digest_and_its_history() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.bw");
        assert_eq!(read(&path).unwrap(), None);
        std::fs::write(&path, "abc").unwrap();
        write(&path, sample::pipe().schema()).unwrap();
        let found = read(&path).unwrap().unwrap();
        // The test vector of the standard.
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((found[BYTES_KEY].as_u64(), found[DIGEST_KEY].as_str()), (Some(3), Some(digest)));
        assert_eq!(found["nyx.pg"][0]["tool"], "nyx-extract");
        clear(&path).unwrap();
        clear(&path).unwrap();
        assert!(!path_of(&path).exists() && path.exists());
    }
}
