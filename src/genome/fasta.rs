//! Bases of a FASTA file, plain or BGZF, by its index.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use noodles::bgzf::gzi;

use super::bgzf::{self, Blocks, Surveyor};
use super::faidx::{self, Contig};
use super::positioned::PositionedFile;
use crate::error::{Error, InFile, Result};
use crate::input::Mapped;
use crate::output;

/// Bytes before the bases of a contig among which its header is looked for.
const HEADER: u64 = 1 << 12;
/// Bytes behind the bases of a contig among which the next header is looked for.
const BEHIND: u64 = 1 << 8;

/// An open FASTA file. A clone has a cache of its own.
#[derive(Clone)]
pub(super) struct Fasta {
    contigs: Arc<[Contig]>,
    /// The contigs that were found where the index has them.
    found: Arc<[AtomicBool]>,
    bytes: Bytes,
    path: Arc<Path>,
}

#[derive(Clone)]
enum Bytes {
    Plain(Mapped),
    Bgzf(Blocks),
}

impl Fasta {
    /// Opens a FASTA file with its index, which is made when it is missing or old.
    pub(super) fn open(path: &Path, file: Arc<File>, bgzf: bool, warnings: &mut Vec<String>) -> Result<Self> {
        let index = Index::of(path, &file, bgzf, warnings)?;
        let bytes = Bytes::open(&file, index.blocks.as_ref()).in_file(path)?;
        let found = index.contigs.iter().map(|_| AtomicBool::new(false)).collect();
        Ok(Self { contigs: index.contigs.into(), found, bytes, path: path.into() })
    }

    /// Returns the names and lengths of the contigs in the order of the file.
    pub(super) fn lengths(&self) -> Vec<(String, u64)> {
        self.contigs.iter().map(|contig| (contig.name.clone(), contig.length)).collect()
    }

    /// Returns whether the file is BGZF.
    pub(super) fn is_compressed(&self) -> bool {
        matches!(self.bytes, Bytes::Bgzf(_))
    }

    /// Appends the bases of `[start, end)`, which lies inside the contig and is not empty, as they are written.
    pub(super) fn append(&mut self, ordinal: usize, start: u64, end: u64, bases: &mut Vec<u8>) -> Result<()> {
        let contig = &self.contigs[ordinal];
        if !self.found[ordinal].load(Relaxed) {
            if !self.bytes.has(contig).in_file(&self.path)? {
                return Err(foreign_index().at(contig.name.clone())).in_file(&self.path);
            }
            self.found[ordinal].store(true, Relaxed);
        }
        let (first, last) = (contig.offset_of(start), contig.offset_of(end - 1) + 1);
        let raw = self.bytes.slice(first, last).in_file(&self.path)?;
        let filled = bases.len();
        append_lines(raw, (start % contig.line_bases) as usize, contig, bases);
        // A minimum, unlike a search that may stop early, is made vector code.
        if bases[filled..].iter().fold(u8::MAX, |least, &byte| least.min(byte)) <= b' ' {
            let place = format!("{}:{}-{end}", contig.name, start + 1);
            return Err(foreign_index().at(place)).in_file(&self.path);
        }
        Ok(())
    }
}

impl Bytes {
    fn open(file: &Arc<File>, blocks: Option<&gzi::Index>) -> Result<Self> {
        Ok(match blocks {
            Some(blocks) => Self::Bgzf(Blocks::new(file.clone(), bgzf::block_table(blocks))),
            None => Self::Plain(Mapped::new(file)?),
        })
    }

    /// Returns the (inflated) bytes `[start, end)`.
    fn slice(&mut self, start: u64, end: u64) -> Result<&[u8]> {
        match self {
            Self::Plain(plain) => plain.slice(start, end),
            Self::Bgzf(blocks) => blocks.slice(start, end),
        }
    }

    /// Returns some bytes from `start` on, none behind the end of the file.
    fn behind(&mut self, start: u64) -> Result<&[u8]> {
        let end = start.saturating_add(BEHIND);
        match self {
            Self::Plain(plain) => {
                let size = plain.bytes().len() as u64;
                plain.slice(start.min(size), end.min(size))
            }
            Self::Bgzf(blocks) => blocks.part(start, end),
        }
    }

    /// Returns whether a contig, which is not empty, stands where the index has it: behind a header with its name, and
    /// before the next header or the end of the file.
    fn has(&mut self, contig: &Contig) -> Result<bool> {
        let first = contig.offset.saturating_sub(HEADER);
        let before = self.slice(first, contig.offset)?;
        let Some(text) = before.strip_suffix(b"\n") else { return Ok(false) };
        let line = match text.iter().rposition(|&byte| byte == b'\n') {
            Some(end) => &text[end + 1..],
            None if first == 0 => text,
            // A header that is longer; its beginning is out of sight.
            None => b">",
        };
        let is_header = line == b">" || name(line) == Some(contig.name.as_bytes());
        let behind = self.behind(contig.end())?;
        let ends_line = behind.first().is_none_or(u8::is_ascii_whitespace);
        let next = behind.iter().find(|byte| !byte.is_ascii_whitespace());
        Ok(is_header && ends_line && next.is_none_or(|&byte| byte == b'>'))
    }
}

/// Returns the name of a contig in its header line.
fn name(line: &[u8]) -> Option<&[u8]> {
    let words = line.strip_prefix(b">")?.split(u8::is_ascii_whitespace);
    Some(words.into_iter().find(|word| !word.is_empty()).unwrap_or_default())
}

/// Appends `raw`, which begins at `column` of a line, without the line ends.
fn append_lines(mut raw: &[u8], column: usize, contig: &Contig, bases: &mut Vec<u8>) {
    let gap = (contig.line_width - contig.line_bases) as usize;
    let mut left = contig.line_bases as usize - column;
    while !raw.is_empty() {
        let (line, rest) = raw.split_at(left.min(raw.len()));
        bases.extend_from_slice(line);
        raw = rest.get(gap..).unwrap_or_default();
        left = contig.line_bases as usize;
    }
}

fn foreign_index() -> Error {
    Error::data("the index does not fit the file: delete its .fai (and .gzi), a new one will be made")
}

/// What is known of a FASTA file before its bases are read.
#[derive(PartialEq)]
struct Index {
    contigs: Vec<Contig>,
    /// Of BGZF only.
    blocks: Option<gzi::Index>,
}

impl Index {
    /// Returns the index beside the file, or makes it and writes it there.
    fn of(path: &Path, file: &Arc<File>, bgzf: bool, warnings: &mut Vec<String>) -> Result<Self> {
        let truncated = bgzf && !bgzf::has_end_mark(file).in_file(path)?;
        let found = Self::read(path, bgzf);
        if truncated && found.is_some() {
            warnings
                .push(format!("{}: the BGZF end mark is missing; the file may be cut short", path.display()));
        }
        let old = is_older(path, bgzf);
        if let (Some(index), false) = (found.as_ref(), old) {
            if index.fits(file)? {
                return Ok(found.expect("it was just looked at"));
            }
            warnings.push(format!("{}: its index belongs to another file; made anew", path.display()));
        }
        if truncated {
            return Err(Error::data("the BGZF end mark is missing: the file is cut short, fetch it again"))
                .in_file(path);
        }
        let index = Self::build(file.clone(), bgzf, warnings).in_file(path)?;
        match found {
            Some(found) if old && found == index => warnings.push(format!(
                "{}: its index is older than the file, but agrees; `touch` the index to skip this check",
                path.display()
            )),
            Some(_) if old => {
                warnings.push(format!(
                    "{}: its index was older than the file and wrong; made anew",
                    path.display()
                ));
                index.write(path, warnings);
            }
            _ => index.write(path, warnings),
        }
        Ok(index)
    }

    /// Reads the index beside the file; `None` when there is none or it is not one.
    fn read(path: &Path, bgzf: bool) -> Option<Self> {
        let contigs = faidx::parse(&fs::read_to_string(fai_path(path)).ok()?)?;
        let blocks = if bgzf { Some(gzi::fs::read(gzi_path(path)).ok()?) } else { None };
        Some(Self { contigs, blocks })
    }

    /// Returns whether the file is long enough, the blocks are in order, and no contig follows the last one.
    fn fits(&self, file: &Arc<File>) -> Result<bool> {
        let size = file.metadata()?.len();
        let sound = match &self.blocks {
            None => self.contigs.iter().all(|contig| contig.end() <= size),
            Some(blocks) => {
                let blocks = blocks.as_ref();
                blocks.is_sorted()
                    && blocks.is_sorted_by_key(|block| block.1)
                    && blocks.iter().all(|block| block.0 < size)
            }
        };
        // What cannot be read by this index may be read by a new one.
        Ok(sound && self.reaches_the_end(file).unwrap_or(false))
    }

    /// Returns whether nothing follows the last contig but one whose name occurs before. An index that was cut leaves
    /// out contigs of the file.
    fn reaches_the_end(&self, file: &Arc<File>) -> Result<bool> {
        let end = self.contigs.iter().map(Contig::end).max().unwrap_or(0);
        let mut bytes = Bytes::open(file, self.blocks.as_ref())?;
        let behind = bytes.behind(end)?.trim_ascii_start();
        let line = behind.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let known = |name: &[u8]| self.contigs.iter().any(|contig| contig.name.as_bytes() == name);
        Ok(behind.is_empty() || name(line).is_some_and(known))
    }

    fn build(file: Arc<File>, bgzf: bool, warnings: &mut Vec<String>) -> Result<Self> {
        let (contigs, blocks, found) = if bgzf {
            let mut surveyor = Surveyor::new(file);
            let (contigs, found) = faidx::build(&mut surveyor)?;
            (contigs, Some(surveyor.into_index()), found)
        } else {
            let (contigs, found) = faidx::build(PositionedFile::new(file, 1 << 18))?;
            (contigs, None, found)
        };
        warnings.extend(found);
        Ok(Self { contigs, blocks })
    }

    /// Writes the index beside the file; where that is not possible, it stays in memory.
    fn write(&self, path: &Path, warnings: &mut Vec<String>) {
        if let Err(error) = self.try_write(path) {
            warnings.push(format!("the index is kept in memory, because it cannot be written: {error}"));
        }
    }

    /// Writes the index beside the file, each part whole or not at all.
    fn try_write(&self, path: &Path) -> Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // The superuser could write into a folder that nobody is to write into.
        if fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().readonly()) {
            return Err(Error::data("the folder is read-only")).in_file(folder);
        }
        output::write_file(&fai_path(path), faidx::format(&self.contigs).as_bytes())?;
        if let Some(blocks) = &self.blocks {
            let mut bytes = Vec::new();
            gzi::io::Writer::new(&mut bytes).write_index(blocks)?;
            output::write_file(&gzi_path(path), &bytes)?;
        }
        Ok(())
    }
}

/// Returns whether an index beside the file is older than the file.
fn is_older(path: &Path, bgzf: bool) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let older = |index: PathBuf| matches!((changed(&index), changed(path)), (Some(a), Some(b)) if a < b);
    older(fai_path(path)) || (bgzf && older(gzi_path(path)))
}

fn fai_path(path: &Path) -> PathBuf {
    path.with_added_extension("fai")
}

fn gzi_path(path: &Path) -> PathBuf {
    path.with_added_extension("gzi")
}
