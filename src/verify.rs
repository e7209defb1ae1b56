//! Whether a file that nyx wrote is whole, and how it was made.
//!
//! [`file`] reads a file to its end and compares what it finds with everything that the format itself says: end mark or
//! footer, checksums, numbers of rows, provenance. What a format cannot tell is said, too ([`Checked::unknown`]).
//! [`history`] reads the commands that made it. Formats are known by their bytes.

use std::fmt::Display;
use std::io::{BufRead, Read};
use std::path::Path;

use crate::convert::sidecar;
use crate::error::{Error, InFile, Result, guarded};
use crate::input;
use crate::output::{Temporary, scratch_file};
use crate::provenance::Step;

mod arrays;
mod history;
mod page;
mod rows;
mod text;
mod track;
mod variants;
mod weights;

pub use history::history;

/// What to do about a file that is not whole.
const REMEDY: &str = "make it again (`nyx replay FILE` prints how) or copy it again";

/// Bytes that tell one format from another.
const HEAD: u64 = 512;

/// Suffixes of formats without a header: what has no row has no byte.
const EMPTY: [&str; 13] =
    ["bed", "tsv", "txt", "csv", "bedgraph", "bdg", "bg", "json", "jsonl", "ndjson", "fa", "fasta", "fna"];

/// What was found in a file that is whole, as far as its format can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The format.
    pub format: String,
    /// Rows, records, intervals: what the format counts.
    pub rows: Option<u64>,
    /// What was compared and held.
    pub held: Vec<String>,
    /// What the format cannot tell.
    pub unknown: Vec<String>,
}

impl Checked {
    fn of(format: impl Into<String>) -> Self {
        Self { format: format.into(), ..Self::default() }
    }

    fn holds(mut self, what: impl Into<String>) -> Self {
        self.held.push(what.into());
        self
    }

    fn cannot_tell(mut self, what: impl Into<String>) -> Self {
        self.unknown.push(what.into());
        self
    }

    /// Adds who made the file; stages have to follow each other.
    fn made_by(self, steps: &[Step]) -> Result<Self> {
        match history::describe(steps)? {
            Some(words) => Ok(self.holds(words)),
            None => Ok(self.cannot_tell("how it was made: there is no command in it")),
        }
    }

    fn with_rows(mut self, rows: u64) -> Self {
        self.rows = Some(rows);
        self
    }
}

/// The formats, known by their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Stream,
    ArrowFile,
    Parquet,
    BigWig,
    BigBed,
    Npz,
    Npy,
    Hdf5,
    Safetensors,
    Torch,
    Bcf,
    Vcf,
    Index,
    Page,
    Json,
    Meme,
    Fasta,
    Table,
    Model,
}

/// Checks the file, or the model directory, at `path`; `-` is standard input.
///
/// # Errors
///
/// When the file is cut, damaged or poisoned, or contradicts itself; the message says what to do.
pub fn file(path: &Path) -> Result<Checked> {
    if path == Path::new("-") {
        return match stdin()? {
            Stdin::Stream(reader) => rows::stream(reader, true),
            Stdin::Other(file) => nameless(file.path(), check(file.path(), kind(file.path())?)),
        };
    }
    let checked = check(path, kind(path)?).map_err(|error| name(error, path))?;
    if path.is_file() { beside(path, checked) } else { Ok(checked) }
}

fn check(path: &Path, kind: Kind) -> Result<Checked> {
    // Readers of other crates take some damaged bytes for a mistake of their own.
    guarded(&path.display().to_string(), || check_kind(path, kind))?
}

fn check_kind(path: &Path, kind: Kind) -> Result<Checked> {
    match kind {
        Kind::Stream => rows::stream(input::open_raw(path)?, false),
        Kind::ArrowFile => rows::file(path, "Arrow file"),
        Kind::Parquet => rows::parquet(path),
        Kind::BigWig => track::big_wig(path),
        Kind::BigBed => track::big_bed(path),
        Kind::Npz => arrays::npz(path),
        Kind::Npy => arrays::npy(path),
        Kind::Hdf5 => arrays::hdf5(path),
        Kind::Safetensors | Kind::Torch => weights::file(path),
        Kind::Model => weights::model(path),
        Kind::Bcf => variants::binary(path),
        Kind::Vcf => variants::text(path),
        Kind::Index => variants::index(path),
        Kind::Page => page::page(path),
        Kind::Json => text::json(path),
        Kind::Meme => text::meme(path),
        Kind::Fasta => text::fasta(path),
        Kind::Table => text::table(path),
    }
}

/// What standard input is: a stream is read as it comes, anything else from a temporary file.
enum Stdin {
    Stream(Box<dyn BufRead + Send>),
    Other(Temporary),
}

fn stdin() -> Result<Stdin> {
    let mut reader = input::open_raw(Path::new("-"))?;
    let head = reader.fill_buf()?;
    if head.is_empty() || head.starts_with(&[0xFF; 4]) {
        return Ok(Stdin::Stream(reader));
    }
    let file = scratch_file()?;
    let place = |error: std::io::Error| Error::from(error).at("a temporary file (TMPDIR)");
    std::io::copy(&mut reader, &mut file.file()).map_err(place)?;
    Ok(Stdin::Other(file))
}

/// Calls the temporary file of standard input by its right name.
fn nameless<T>(path: &Path, outcome: Result<T>) -> Result<T> {
    let name = path.display().to_string();
    outcome.map_err(|error| Error::data(error.to_string().replace(&name, "standard input")))
}

/// Puts the file in front of an error that does not name it yet.
fn name(error: Error, path: &Path) -> Error {
    let path = path.display().to_string();
    if error.to_string().contains(&path) { error } else { error.at(path) }
}

/// Returns an error about a file that is cut or damaged, with the remedy.
fn broken(what: impl Display) -> Error {
    Error::data(format!("{what}: {REMEDY}"))
}

/// Compares a file with what lies beside it, if anything does.
fn beside(path: &Path, checked: Checked) -> Result<Checked> {
    let Some(found) = sidecar::read(path)? else { return Ok(checked) };
    let (bytes, digest) = sidecar::digest_of(path)?;
    let name = sidecar::path_of(path).display().to_string();
    if found[sidecar::BYTES_KEY].as_u64() != Some(bytes)
        || found[sidecar::DIGEST_KEY].as_str() != Some(&digest)
    {
        let message = format!("it is not the file that {name} was written for (size or SHA-256)");
        return Err(broken(message)).in_file(path);
    }
    let steps = history::steps_of(&found[crate::provenance::CHAIN_KEY])?;
    checked.holds(format!("size and SHA-256 as in {name}")).made_by(&steps)
}

/// Returns the format of a file.
fn kind(path: &Path) -> Result<Kind> {
    if path.is_dir() {
        return Ok(Kind::Model);
    }
    let head = head_of(input::open_raw(path)?).in_file(path)?;
    let packed = head.starts_with(&[0x1F, 0x8B]) || head.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]);
    let head = match packed {
        // A file that is cut within its first bytes has no format; reading it whole says so.
        true => head_of(input::open_text(path)?).unwrap_or_default(),
        false => head,
    };
    let suffix = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    kind_of(&head, packed, &suffix).in_file(path)
}

fn head_of(reader: Box<dyn BufRead + Send>) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    reader.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

fn kind_of(head: &[u8], packed: bool, suffix: &str) -> Result<Kind> {
    let four = |bytes: [u8; 4]| {
        head.starts_with(&bytes) || head.starts_with(&[bytes[3], bytes[2], bytes[1], bytes[0]])
    };
    let is_text = std::str::from_utf8(&head[..head.len().min(3)]).is_ok() && !head.contains(&0);
    Ok(match head {
        // A table without a row may have no byte at all; a stream always has.
        [] if packed || EMPTY.contains(&suffix) => Kind::Table,
        [] => Kind::Stream,
        _ if head.starts_with(&[0xFF; 4]) => Kind::Stream,
        _ if head.starts_with(b"ARROW1") => Kind::ArrowFile,
        _ if head.starts_with(b"PAR1") => Kind::Parquet,
        _ if four([0x88, 0x8F, 0xFC, 0x26]) => Kind::BigWig,
        _ if four([0x87, 0x89, 0xF2, 0xEB]) => Kind::BigBed,
        _ if head.starts_with(b"PK") && ["pth", "pt", "bin"].contains(&suffix) => Kind::Torch,
        _ if head.starts_with(b"PK") => Kind::Npz,
        _ if head.starts_with(b"\x93NUMPY") => Kind::Npy,
        _ if head.starts_with(b"\x89HDF") => Kind::Hdf5,
        _ if head.starts_with(b"BCF") => Kind::Bcf,
        _ if packed && (head.starts_with(b"TBI\x01") || head.starts_with(b"CSI\x01")) => Kind::Index,
        // The length of the header, eight bytes, then a JSON object.
        _ if head.get(8) == Some(&b'{') && head.get(7) == Some(&0) => Kind::Safetensors,
        _ if head.starts_with(b"##fileformat=VCF") => Kind::Vcf,
        _ if head.len() >= 9 && head[..9].eq_ignore_ascii_case(b"<!DOCTYPE") => Kind::Page,
        _ if head.starts_with(b"MEME version") => Kind::Meme,
        _ if head.starts_with(b"{") || head.starts_with(b"[") => Kind::Json,
        _ if head.starts_with(b">") => Kind::Fasta,
        _ if is_text => Kind::Table,
        _ => {
            return Err(Error::data(
                "its first bytes are those of no format that nyx writes: damaged, or of another program",
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_their_bytes() {
        let known = |bytes: &[u8]| kind_of(bytes, false, "x").unwrap();
        assert_eq!(known(&[0xFF, 0xFF, 0xFF, 0xFF, 8, 0]), Kind::Stream);
        assert_eq!(known(&0x888F_FC26_u32.to_le_bytes()), Kind::BigWig);
        assert_eq!(known(&0x8789_F2EB_u32.to_be_bytes()), Kind::BigBed);
        assert_eq!(known(b"\x40\0\0\0\0\0\0\0{\"a\""), Kind::Safetensors);
        assert_eq!(known(b"##fileformat=VCFv4.3\n"), Kind::Vcf);
        assert_eq!(known(b"## nyx.stream=1\n"), Kind::Table);
        assert_eq!(known(b"<!doctype html>"), Kind::Page);
        assert_eq!(known(b""), Kind::Stream);
        for suffix in ["bed", "json", "jsonl", "fa"] {
            assert_eq!(kind_of(b"", false, suffix).unwrap(), Kind::Table, "{suffix}");
        }
        assert_eq!(kind_of(b"TBI\x01\0", true, "tbi").unwrap(), Kind::Index);
        assert!(kind_of(&[1, 0, 2, 0, 9], false, "bed").is_err());
    }

    #[test]
    fn a_file_that_changed_is_not_the_one_beside_which_the_digest_lies() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.txt");
        std::fs::write(&path, "a\tb\n").unwrap();
        sidecar::write(&path, &arrow_schema::Schema::empty()).unwrap();
        assert!(file(&path).unwrap().held.iter().any(|what| what.contains("SHA-256")));
        std::fs::write(&path, "a\tc\n").unwrap();
        let error = file(&path).unwrap_err().to_string();
        assert!(error.contains("a.txt.nyx.json") && error.contains("nyx replay"), "{error}");
    }
}
