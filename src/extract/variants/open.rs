//! Opening a file of variants: what it is shows in its bytes, where to read in its index.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use super::bcf::Bcf;
use super::genotypes::Samples;
use super::record::Record;
use super::seek::{Chunks, Index, NoIndex};
use super::selection::Selection;
use super::tsv::{Schema, Tsv};
use super::vcf::Vcf;
use crate::error::{Error, InFile, Result};
use crate::input;
use crate::input::bgzf::{self, Blocks};

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
    /// Its name in messages.
    pub name: String,
    /// What a user should know about how it is read.
    pub notes: Vec<String>,
    /// The samples whose genotypes the records have.
    pub samples: Vec<String>,
}

/// Records and the samples whose genotypes they have.
type WithSamples = (Records, Vec<String>);

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
    open_with(path, format, selection, contig_map, &Samples::None)
}

/// Opens variants as [`open`] does, with the genotypes of `samples`.
///
/// # Errors
///
/// As [`open`], and when the file does not have the samples.
pub fn open_with(
    path: &Path,
    format: Format,
    selection: &Selection,
    contig_map: &ContigMap,
    samples: &Samples,
) -> Result<Variants> {
    let piped = path == Path::new("-");
    let place = if piped { PathBuf::from("standard input") } else { path.to_owned() };
    let mut notes = Vec::new();
    let raw = input::open_raw(path)?;
    let opened = match open_indexed(path, selection, contig_map, samples, &mut notes).in_file(&place)? {
        Some(opened) => opened,
        None => open_whole(raw, piped, format, samples).in_file(&place)?,
    };
    let (records, samples) = opened;
    let name = place.display().to_string();
    let records = Box::new(Located { records, place, count: 0, failed: false });
    Ok(Variants { records, name, notes, samples })
}

/// Ends at the first error. Puts the file into it, and into the error of a cut pipe how many records had arrived.
struct Located {
    records: Records,
    place: PathBuf,
    count: u64,
    failed: bool,
}

impl Iterator for Located {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let record = self.records.next()?;
        self.failed = record.is_err();
        Some(match record {
            Err(Error::Truncated { upstream, .. }) => Err(Error::Truncated { upstream, rows: self.count }),
            record => {
                self.count += 1;
                record.in_file(&self.place)
            }
        })
    }
}

fn open_whole(
    raw: Box<dyn BufRead + Send>,
    piped: bool,
    format: Format,
    samples: &Samples,
) -> Result<WithSamples> {
    let (head, raw) = peek(raw)?;
    if head.is_empty() {
        return Err(match piped {
            true => Error::Truncated { upstream: bgzf::WRITER.into(), rows: 0 },
            false => Error::data("the file is empty: even a VCF without records has a header"),
        });
    }
    if bgzf::is_bgzf(&head) {
        let (head, text) = peek(Blocks::new(raw, piped))?;
        return records(&head, text, format, samples);
    }
    let (head, text) = peek(input::decompress(Box::new(raw), piped)?)?;
    records(&head, text, format, samples)
}

fn records(
    head: &[u8],
    reader: impl BufRead + Send + 'static,
    format: Format,
    samples: &Samples,
) -> Result<WithSamples> {
    if head.starts_with(b"BCF") {
        let bcf = Bcf::new(reader, samples)?;
        let names = bcf.header().genotypes.chosen.names.clone();
        return Ok((Box::new(bcf), names));
    }
    if head.contains(&0) {
        return Err(Error::data("not a file of variants: it is neither VCF, BCF nor text"));
    }
    let schema = match format {
        Format::Table(schema) if !is_vcf(head) => Some(Some(schema)),
        Format::Auto if !is_vcf(head) => Some(None),
        _ => None,
    };
    let Some(schema) = schema else {
        let vcf = Vcf::with_samples(reader, samples)?;
        let names = vcf.samples().to_vec();
        return Ok((Box::new(vcf), names));
    };
    if *samples != Samples::None {
        return Err(Error::usage("a table of variants has no genotypes: haplotypes need a VCF or BCF"));
    }
    Ok((Box::new(Tsv::new(reader, schema)?), Vec::new()))
}

fn is_vcf(head: &[u8]) -> bool {
    head.starts_with(b"##fileformat=VCF")
}

/// Opens a BGZF file through its index; `None` when all of it has to be read.
fn open_indexed(
    path: &Path,
    selection: &Selection,
    contig_map: &ContigMap,
    samples: &Samples,
    notes: &mut Vec<String>,
) -> Result<Option<WithSamples>> {
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
        let header = Bcf::new(text, samples)?.header().clone();
        let chunks = index.chunks(&in_genome(&header.contigs, contig_map), selection)?;
        let names = header.genotypes.chosen.names.clone();
        return Ok(Some((Box::new(Bcf::inside(Chunks::new(file, chunks), header)), names)));
    }
    let (true, Some(contigs)) = (is_vcf(&head), index.contigs()) else { return Ok(None) };
    let mut vcf = Vcf::with_samples(text, samples)?;
    if *samples == Samples::None {
        vcf.read_columns()?;
    }
    let (columns, chosen) = vcf.into_header();
    let names = chosen.names.clone();
    let chunks = index.chunks(&in_genome(&contigs, contig_map), selection)?;
    Ok(Some((Box::new(Vcf::inside(Chunks::new(file, chunks), columns, chosen)), names)))
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
