//! VCF and BCF: the columns of alternate alleles as INFO fields.
//!
//! [`annotate`] adds fields to the records of a file, whose every other byte stays: the header gets lines for the
//! fields, a record gets its fields at the end of INFO (fields of the same name are replaced), BCF stays BCF and text
//! stays text. [`write_sites`] makes a VCF of the rows alone.
//!
//! Every field has a value for each ALT (`Number=A`), `.` where there is none. `NYX_STATUS` says why: it is the row's
//! status, or `not_scored` where there is no row for an allele.

mod binary;
mod fields;
mod header;
mod sink;
mod sites;
mod text;

use std::collections::HashMap;
use std::io::{BufRead, Cursor, Read, Write};
use std::path::Path;

use crate::error::{Error, InFile, Result};
use crate::input::{self, bgzf};
use crate::pipe::Pipe;
use crate::provenance;
use fields::Fields;
use sink::Sink;
use sites::Sites;

/// The status of an allele without a row.
pub const NOT_SCORED: &str = "not_scored";

/// Bytes that tell one format from another.
const HEAD: u64 = 64;

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Records.
    pub records: u64,
    /// Records that had rows.
    pub annotated: u64,
    /// The index that was written, or why there is none, if the format has one.
    pub index: Option<std::result::Result<std::path::PathBuf, String>>,
}

/// How records are annotated.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Names of contigs in the file, and in the rows where they differ.
    pub contig_map: HashMap<String, String>,
    /// Whether the chain of stages goes into the header.
    pub provenance: bool,
}

/// Adds the columns of `pipe` to the records of the VCF or BCF at `input`, and writes them to `output`: BGZF with an
/// index beside it when the name ends with `.gz` or it is BCF. Rows are those of the records, or of some of them, in
/// their order.
///
/// # Errors
///
/// When the file is no VCF or BCF, or cut; when a row is of no record; when the pipe fails. Then nothing appears.
pub fn annotate(pipe: Pipe, input: &Path, options: &Options, output: &Path) -> Result<Written> {
    let piped = input == Path::new("-");
    let (head, reader) = peek(input::open_raw(input)?).in_file(input)?;
    let (head, reader) = match bgzf::is_bgzf(&head) {
        true => boxed(peek(bgzf::Blocks::new(reader, piped)).in_file(input)?),
        false => boxed(peek(input::decompress(Box::new(reader), piped).in_file(input)?).in_file(input)?),
    };
    let fields = Fields::new(pipe.schema())?;
    let lines = if options.provenance { provenance_lines(&pipe)? } else { Vec::new() };
    let mut sites = Sites::new(pipe, fields, options.contig_map.clone())?;
    let is_bcf = head.starts_with(b"BCF");
    check_kinds(is_bcf, &head, output).in_file(input)?;
    let mut sink = Sink::create(output, is_bcf)?;
    let written = match is_bcf {
        true => binary::annotate(reader, &mut sites, &lines, &mut sink),
        false => text::annotate(reader, &mut sites, &lines, &mut sink),
    };
    let (records, annotated) = written.in_file(input)?;
    sites.check_end().in_file(input)?;
    Ok(Written { records, annotated, index: sink.finish()? })
}

/// Writes a VCF without samples of the rows of `pipe`, a record for every variant.
///
/// # Errors
///
/// When the rows are no alleles with coordinates, or the pipe fails.
pub fn write_sites(pipe: Pipe, with_provenance: bool, output: &mut impl Write) -> Result<()> {
    let fields = Fields::new(pipe.schema())?;
    let lines = if with_provenance { provenance_lines(&pipe)? } else { Vec::new() };
    output.write_all(&header::of_sites(pipe.schema(), &fields, &lines)?)?;
    let mut sites = Sites::new(pipe, fields, HashMap::new())?;
    while let Some(site) = sites.take()? {
        output.write_all(text::record_of(&site, sites.fields()).as_bytes())?;
    }
    Ok(output.flush()?)
}

/// Returns the chain of stages as header lines.
fn provenance_lines(pipe: &Pipe) -> Result<Vec<String>> {
    let chain = provenance::chain(&pipe.schema().metadata)?;
    let line = |step| Ok(format!("##nyx.pg={}", serde_json::to_string(&step)?));
    chain.into_iter().map(line).collect()
}

fn check_kinds(is_bcf: bool, head: &[u8], output: &Path) -> Result<()> {
    let name = output.to_string_lossy();
    if is_bcf && (name.ends_with(".vcf") || name.ends_with(".vcf.gz")) {
        return Err(Error::usage(
            "BCF stays BCF: write FILE.bcf, and turn it into text with `bcftools view`",
        ));
    }
    if !is_bcf && name.ends_with(".bcf") {
        return Err(Error::usage(
            "VCF text stays text: write FILE.vcf.gz, and turn it into BCF with `bcftools view -Ob`",
        ));
    }
    if !is_bcf && !head.starts_with(b"##fileformat=VCF") {
        return Err(Error::data("neither VCF nor BCF: fields are added to the records of such a file"));
    }
    Ok(())
}

/// Returns the first bytes of `reader` and a reader that still has them.
fn peek<R: BufRead>(mut reader: R) -> Result<(Vec<u8>, impl BufRead + use<R>)> {
    let mut head = Vec::new();
    reader.by_ref().take(HEAD).read_to_end(&mut head)?;
    Ok((head.clone(), Cursor::new(head).chain(reader)))
}

fn boxed((head, reader): (Vec<u8>, impl BufRead + 'static)) -> (Vec<u8>, Box<dyn BufRead>) {
    (head, Box::new(reader))
}

#[cfg(test)]
mod tests;
