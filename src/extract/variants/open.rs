//! Opening a file of variants: what it is shows in its bytes, where to read in its index.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use super::bcf::Bcf;
use super::bgzf::{self, Blocks};
use super::record::Record;
use super::seek::{Chunks, Index, NoIndex};
use super::selection::Selection;
use super::tsv::{Schema, Tsv};
use super::vcf::Vcf;
use crate::error::{Error, InFile, Result};
use crate::input;

/// Records in file order; an error is the last item.
pub type Records = Box<dyn Iterator<Item = Result<Record>> + Send>;

/// The genome's names of contigs that the file of variants calls otherwise.
pub type ContigMap = HashMap<String, String>;

/// What the file is taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// VCF and BCF by their bytes, a table otherwise.
    #[default]
    Auto,
    /// VCF text, even without its first line.
    Vcf,
    /// A table with these columns (BCF and VCF are still known by their bytes).
    Table(Schema),
}

/// An open file of variants.
pub struct Variants {
    /// Its records; with an index perhaps only those near the selected regions.
    pub records: Records,
    /// What a user should know about how it is read.
    pub notes: Vec<String>,
}

/// Bytes that tell one format from another.
const HEAD: u64 = 64;

/// Opens variants at `path`; `-` is standard input.
///
/// A BGZF file with an index (`.tbi` or `.csi` beside it) is read only where `selection` may have
/// records (its contigs are named in the genome's way, which `contig_map` gives for the names of the file);
/// without one all of it is read. What is outside the selection has to be left out by the
/// caller either way.
///
/// # Errors
///
/// When the file cannot be read, is truncated or damaged, or is none of the formats. Errors name the file.
pub fn open(path: &Path, format: Format, selection: &Selection, contig_map: &ContigMap) -> Result<Variants> {
    let place = if path == Path::new("-") { PathBuf::from("standard input") } else { path.to_owned() };
    let mut notes = Vec::new();
    let records = match open_indexed(path, selection, contig_map, &mut notes).in_file(&place)? {
        Some(records) => records,
        None => open_whole(path, format).in_file(&place)?,
    };
    Ok(Variants { records: Box::new(Located { records, place, count: 0 }), notes })
}

/// Puts the file into errors, and into the error of a cut pipe how many records had arrived.
struct Located {
    records: Records,
    place: PathBuf,
    count: u64,
}

impl Iterator for Located {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.records.next()? {
            Ok(record) => {
                self.count += 1;
                Some(Ok(record))
            }
            Err(Error::Truncated { upstream, .. }) => {
                Some(Err(Error::Truncated { upstream, rows: self.count }))
            }
            error => Some(error.in_file(&self.place)),
        }
    }
}

fn open_whole(path: &Path, format: Format) -> Result<Records> {
    let piped = path == Path::new("-");
    let (head, raw) = peek(input::open_raw(path)?)?;
    if bgzf::is_bgzf(&head) {
        let (head, text) = peek(Blocks::new(raw, piped))?;
        return records(&head, text, format);
    }
    let (head, text) = peek(input::decompress(Box::new(raw))?)?;
    records(&head, text, format)
}

fn records(head: &[u8], reader: impl BufRead + Send + 'static, format: Format) -> Result<Records> {
    if head.starts_with(b"BCF") {
        return Ok(Box::new(Bcf::new(reader)?));
    }
    if head.contains(&0) {
        return Err(Error::data("not a file of variants: it is neither VCF, BCF nor text"));
    }
    Ok(match format {
        Format::Table(schema) if !is_vcf(head) => Box::new(Tsv::new(reader, Some(schema))?),
        Format::Auto if !is_vcf(head) => Box::new(Tsv::new(reader, None)?),
        _ => Box::new(Vcf::new(reader)),
    })
}

fn is_vcf(head: &[u8]) -> bool {
    head.starts_with(b"##fileformat=VCF")
}

/// Opens a BGZF file through its index; `None` when all of it has to be read.
fn open_indexed(
    path: &Path,
    selection: &Selection,
    contig_map: &ContigMap,
    notes: &mut Vec<String>,
) -> Result<Option<Records>> {
    if selection.is_everything() {
        return Ok(None);
    }
    let Ok(mut file) = regular_file(path) else {
        notes.push("a pipe has no index: all of it is read".into());
        return Ok(None);
    };
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head)?;
    if !bgzf::is_bgzf(&head) {
        notes.push("not BGZF, so there is no index: all of the file is read".into());
        return Ok(None);
    }
    bgzf::check_end(&mut file)?;
    let index = match Index::beside(path)? {
        Ok(index) => index,
        Err(why) => {
            notes.push(why.note());
            return Ok(None);
        }
    };
    let (head, text) = peek(Blocks::new(BufReader::new(File::open(path)?), false))?;
    if head.starts_with(b"BCF") {
        let contigs = Bcf::new(text)?.contigs().to_vec();
        let chunks = index.chunks(&in_genome(&contigs, contig_map), selection)?;
        return Ok(Some(Box::new(Bcf::inside(Chunks::new(file, chunks), contigs))));
    }
    let (true, Some(contigs)) = (is_vcf(&head), index.contigs()) else { return Ok(None) };
    let columns = Vcf::new(text).read_columns()?;
    let chunks = index.chunks(&in_genome(&contigs, contig_map), selection)?;
    Ok(Some(Box::new(Vcf::inside(Chunks::new(file, chunks), columns))))
}

/// Returns the genome's names of contigs.
fn in_genome<'a>(contigs: &'a [String], contig_map: &'a ContigMap) -> Vec<&'a str> {
    contigs.iter().map(|name| contig_map.get(name).unwrap_or(name).as_str()).collect()
}

fn regular_file(path: &Path) -> Result<File> {
    if path == Path::new("-") || !path.metadata()?.is_file() {
        return Err(Error::data("not a file"));
    }
    Ok(File::open(path)?)
}

impl NoIndex {
    fn note(&self) -> String {
        match self {
            Self::Missing => "no index (.tbi, .csi) beside it: all of the file is read".into(),
            Self::Stale(index) => {
                format!("{} is older than the file and not used: all of the file is read", index.display())
            }
        }
    }
}

/// Returns the first bytes of `reader` and a reader that still has them, however small its reads are.
fn peek<R: BufRead>(mut reader: R) -> Result<(Vec<u8>, impl BufRead + use<R>)> {
    let mut head = Vec::new();
    reader.by_ref().take(HEAD).read_to_end(&mut head)?;
    Ok((head.clone(), Cursor::new(head).chain(reader)))
}
