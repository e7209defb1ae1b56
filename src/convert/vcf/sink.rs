//! Where records go: plain text, or BGZF with an index beside it.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use noodles::bgzf::{self, VirtualPosition};
use noodles::core::Position;
use noodles::csi::binning_index::Indexer;
use noodles::csi::binning_index::index::header::{Builder, ReferenceSequenceNames};
use noodles::csi::binning_index::index::reference_sequence::bin::Chunk;
use noodles::csi::binning_index::index::reference_sequence::index::{BinnedIndex, LinearIndex};
use noodles::{csi, tabix};

use crate::error::{InFile, Result};
use crate::output::{Output, write_file};

/// The last base that a tabix index reaches.
const TABIX_MAX: u64 = 1 << 29;
/// Bits of the smallest bins of a CSI index.
const MIN_SHIFT: u8 = 14;

/// Where a record is, 1-based and inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed<'a> {
    /// Contig.
    pub chrom: &'a str,
    /// First base; 0 before the contig.
    pub start: i64,
    /// Last base.
    pub end: i64,
}

enum Writer {
    Plain(Output),
    Blocks(bgzf::io::Writer<Output>),
}

enum Index {
    Tabix(Indexer<LinearIndex>),
    Csi(Indexer<BinnedIndex>),
}

/// A file of records being written.
pub struct Sink {
    /// Taken away by [`Sink::finish`].
    writer: Option<Writer>,
    path: PathBuf,
    is_bcf: bool,
    index: std::result::Result<Index, String>,
    names: ReferenceSequenceNames,
}

impl Sink {
    /// Opens `path`; BGZF for BCF and for names that end with `.gz` or `.bgz`.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written.
    pub fn create(path: &Path, is_bcf: bool) -> Result<Self> {
        let output = Output::create(path)?;
        let suffix = path.extension().unwrap_or_default();
        let writer = match is_bcf || suffix == "gz" || suffix == "bgz" {
            true => Writer::Blocks(bgzf::io::Writer::new(output)),
            false => Writer::Plain(output),
        };
        let index = Err("the output is no BGZF file".into());
        Ok(Self { writer: Some(writer), path: path.to_owned(), is_bcf, index, names: <_>::default() })
    }

    /// Writes the header. Contigs are indexed in the order of their lines in BCF, of their records in text.
    ///
    /// # Errors
    ///
    /// When the disk is full.
    pub fn begin(&mut self, header: &[u8], contigs: &[(String, Option<u64>)]) -> Result<()> {
        let is_file = !self.path.exists() || self.path.is_file();
        if matches!(self.writer, Some(Writer::Blocks(_))) && is_file && self.path != Path::new("-") {
            let longest = contigs.iter().filter_map(|(_, length)| *length).max().unwrap_or(0);
            self.index = Ok(match self.is_bcf || longest > TABIX_MAX {
                true => Index::Csi(Indexer::new(MIN_SHIFT, depth(longest)).expect("at most 64 bits")),
                false => Index::Tabix(Indexer::default()),
            });
        }
        if self.is_bcf {
            for (name, _) in contigs {
                self.names.insert(name.as_str().into());
            }
        }
        self.write(&[header])
    }

    /// Writes a record, `parts` one after the other.
    ///
    /// # Errors
    ///
    /// When the disk is full.
    pub fn write_record(&mut self, placed: Placed, parts: &[&[u8]]) -> Result<()> {
        let start = self.position();
        self.write(parts)?;
        let (Some(start), Some(end)) = (start, self.position()) else { return Ok(()) };
        if let Ok(index) = &mut self.index {
            let (number, _) = self.names.insert_full(placed.chrom.into());
            if let Err(why) = add(index, number, placed, Chunk::new(start, end)) {
                self.index = Err(why);
            }
        }
        Ok(())
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<()> {
        for part in parts {
            match self.writer.as_mut().expect("it is not finished") {
                Writer::Plain(output) => output.write_all(part)?,
                Writer::Blocks(blocks) => blocks.write_all(part)?,
            }
        }
        Ok(())
    }

    fn position(&self) -> Option<VirtualPosition> {
        match &self.writer {
            Some(Writer::Blocks(blocks)) => Some(blocks.virtual_position()),
            _ => None,
        }
    }

    /// Ends the file, moves it to its name and writes the index; returns the index or why there is none, `None` where
    /// there is never one.
    ///
    /// # Errors
    ///
    /// When the disk is full.
    pub fn finish(mut self) -> Result<Option<std::result::Result<PathBuf, String>>> {
        match self.writer.take().expect("it is not finished") {
            Writer::Plain(output) => {
                output.commit()?;
                return Ok(None);
            }
            Writer::Blocks(blocks) => blocks.finish()?.commit()?,
        }
        let index = match std::mem::replace(&mut self.index, Err(String::new())) {
            Ok(index) => index,
            Err(why) => return Ok(Some(Err(why))),
        };
        let (bytes, suffix) =
            encode(index, std::mem::take(&mut self.names), self.is_bcf).in_file(&self.path)?;
        let mut name = OsString::from(&self.path);
        name.push(suffix);
        write_file(Path::new(&name), &bytes)?;
        Ok(Some(Ok(name.into())))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // A BGZF writer that is dropped writes its end mark, and what failed would look whole.
        if let Some(Writer::Blocks(blocks)) = self.writer.take() {
            drop(blocks.into_inner());
        }
    }
}

/// Returns the levels of bins that reach to `longest`, as htslib has them.
fn depth(longest: u64) -> u8 {
    (5..=15).find(|depth| longest + 256 <= 1 << (u64::from(MIN_SHIFT) + 3 * depth)).unwrap_or(15) as u8
}

fn add(index: &mut Index, number: usize, placed: Placed, chunk: Chunk) -> std::result::Result<(), String> {
    let position = |base: i64| Position::new(base.max(1) as usize).expect("at least 1");
    let context = Some((number, position(placed.start), position(placed.end.max(placed.start)), true));
    let added = match index {
        Index::Tabix(indexer) => indexer.add_record(context, chunk),
        Index::Csi(indexer) => indexer.add_record(context, chunk),
    };
    added.map_err(|_| {
        let Placed { chrom, start, .. } = placed;
        format!("the records are not sorted at {chrom}:{start} (`bcftools sort` makes them so)")
    })
}

/// Returns the bytes of an index and the suffix of its name.
fn encode(index: Index, names: ReferenceSequenceNames, is_bcf: bool) -> Result<(Vec<u8>, &'static str)> {
    let count = names.len();
    let header = Builder::vcf().set_reference_sequence_names(names).build();
    let bytes = match index {
        Index::Tabix(indexer) => {
            let mut writer = tabix::io::Writer::new(Vec::new());
            writer.write_index(&indexer.set_header(header).build(count))?;
            writer.into_inner().finish()?
        }
        Index::Csi(indexer) => {
            let indexer = if is_bcf { indexer } else { indexer.set_header(header) };
            let mut writer = csi::io::Writer::new(Vec::new());
            writer.write_index(&indexer.build(count))?;
            let bytes = writer.into_inner().finish()?;
            return Ok((bytes, ".csi"));
        }
    };
    Ok((bytes, ".tbi"))
}
