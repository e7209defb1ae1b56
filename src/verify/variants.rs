//! VCF and BCF, and their indexes.

use std::ffi::OsString;
use std::io::{self, BufRead, Read};
use std::path::Path;

use noodles::core::{Position, region::Interval};
use noodles::csi::BinningIndex;

use super::text::Lines;
use super::{Checked, broken};
use crate::error::{Error, Result};
use crate::input::{self, bgzf, index};
use crate::provenance::Step;

/// Names of fields that nyx adds begin so.
const OWN: &str = "NYX";
/// Columns of a VCF without samples.
const COLUMNS: usize = 8;

/// Checks VCF text: its header, the columns of every record, a value of ours for every ALT, its index.
pub fn text(path: &Path) -> Result<Checked> {
    let mut lines = Lines::open(path)?;
    let (mut header, mut records) = (Header::default(), 0);
    while let Some(line) = lines.next()? {
        if line.starts_with('#') {
            header.add(line)?;
            continue;
        }
        header.check(line).map_err(|error| error.at(format!("line {}", lines.number)))?;
        records += 1;
    }
    if header.columns == 0 {
        return Err(broken("cut: there is no line #CHROM"));
    }
    let checked = lines.checked("VCF").with_rows(records);
    let checked = checked.holds("columns of every record, and a value of each field of nyx for every ALT");
    let checked = checked.made_by(&header.steps)?;
    let checked = indexed(path, records, checked)?;
    Ok(match lines.packing {
        Some(_) => checked,
        None => checked
            .cannot_tell("whether it was cut between two lines: VCF text has no end mark, FILE.vcf.gz has"),
    })
}

/// What a header says.
#[derive(Debug, Default)]
struct Header {
    columns: usize,
    /// Our fields that have a value for every ALT.
    fields: Vec<String>,
    steps: Vec<Step>,
}

impl Header {
    fn add(&mut self, line: &str) -> Result<()> {
        if let Some(step) = line.strip_prefix("##nyx.pg=") {
            self.steps
                .push(serde_json::from_str(step).map_err(|_| broken("a line ##nyx.pg cannot be read"))?);
        } else if let Some(field) = line.strip_prefix("##INFO=<ID=") {
            let name = field.split(',').next().unwrap_or_default();
            if name.starts_with(OWN) && field.contains(",Number=A,") {
                self.fields.push(name.into());
            }
        } else if line.starts_with("#CHROM") {
            self.columns = line.split('\t').count();
        }
        Ok(())
    }

    fn check(&self, line: &str) -> Result<()> {
        let fields: Vec<&str> = line.split('\t').collect();
        if fields.len() != self.columns || fields.len() < COLUMNS {
            return Err(broken(format!("{} columns, the line #CHROM has {}", fields.len(), self.columns)));
        }
        if fields[1].parse::<u64>().is_err() {
            return Err(broken(format!("`{}` is no position", fields[1])));
        }
        let alternates = if fields[4] == "." { 0 } else { fields[4].split(',').count() };
        for field in fields[7].split(';').filter(|_| alternates > 0) {
            let (name, values) = field.split_once('=').unwrap_or((field, ""));
            let found = values.split(',').count();
            if self.fields.iter().any(|own| own == name) && found != alternates {
                return Err(broken(format!("{found} values of {name} for {alternates} alternate alleles")));
            }
        }
        Ok(())
    }
}

/// Checks a BCF: its blocks and end mark, its header, the lengths of all records, its index.
pub fn binary(path: &Path) -> Result<Checked> {
    let mut reader = open(path)?;
    let header = header(&mut reader)?;
    let mut records = 0;
    while !reader.fill_buf()?.is_empty() {
        records += 1;
        let place = |_| broken(format!("cut or damaged within record {records}"));
        let mut lengths = [0; 8];
        reader.read_exact(&mut lengths).map_err(place)?;
        let length = |bytes: &[u8]| u64::from(u32::from_le_bytes(bytes.try_into().expect("four bytes")));
        let (site, samples) = (length(&lengths[..4]), length(&lengths[4..]));
        let passed = io::copy(&mut reader.by_ref().take(site + samples), &mut io::sink())?;
        if passed != site + samples || site < 24 {
            return Err(broken(format!("cut or damaged within record {records}")));
        }
    }
    let checked = Checked::of("BCF").with_rows(records);
    let checked = checked.holds("checksums and end mark of BGZF, the lengths of all records");
    let checked = checked.made_by(&steps_in(&header)?)?;
    indexed(path, records, checked)
}

/// Reads the stages in the header of a BCF.
pub fn binary_chain(path: &Path) -> Result<Vec<Step>> {
    steps_in(&header(&mut open(path)?)?)
}

fn steps_in(text: &str) -> Result<Vec<Step>> {
    let mut header = Header::default();
    text.lines().try_for_each(|line| header.add(line))?;
    Ok(header.steps)
}

fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    let mut raw = input::open_raw(path)?;
    Ok(if bgzf::is_bgzf(raw.fill_buf()?) { Box::new(bgzf::Blocks::new(raw, false)) } else { raw })
}

fn header(reader: &mut impl BufRead) -> Result<String> {
    let cut = |error: io::Error| match error.downcast::<Error>() {
        Ok(error) => error,
        Err(_) => broken("cut or damaged within the header"),
    };
    let mut head = [0; 9];
    reader.read_exact(&mut head).map_err(cut)?;
    let length = u32::from_le_bytes(head[5..].try_into().expect("four bytes"));
    let mut text = Vec::new();
    let read = reader.take(length.into()).read_to_end(&mut text).map_err(cut)?;
    if read as u64 != u64::from(length) {
        return Err(broken("cut within the header"));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Compares the number of records with that of the index, if one lies beside the file.
fn indexed(path: &Path, records: u64, checked: Checked) -> Result<Checked> {
    let beside = |suffix: &str| {
        let mut name = OsString::from(path);
        name.push(suffix);
        std::path::PathBuf::from(name)
    };
    let Some(name) = [beside(".tbi"), beside(".csi")].into_iter().find(|name| name.is_file()) else {
        return Ok(checked);
    };
    let stated = count(&*index::read(&name)?);
    let name = name.display();
    match stated {
        Some(stated) if stated != records => {
            Err(broken(format!("{records} records, and its index {name} has {stated}")))
        }
        Some(_) => Ok(checked.holds(format!("number of records as in {name}"))),
        None => Ok(checked.cannot_tell(format!("whether {name} is of this file: it counts no records"))),
    }
}

/// Checks an index: its end mark, its counts, and that the file beside it, if it is there, has the places it names.
pub fn index(path: &Path) -> Result<Checked> {
    // Blocks are read to the end mark.
    io::copy(&mut input::open_text(path)?, &mut io::sink())?;
    let index = index::read(path)?;
    let kind =
        if path.extension().is_some_and(|suffix| suffix == "tbi") { "index (tabix)" } else { "index (CSI)" };
    let mut checked = Checked::of(kind).holds("checksums and end mark of BGZF, counts");
    if let Some(records) = count(&*index) {
        checked = checked.with_rows(records);
    }
    let data = path.with_extension("");
    let Ok(size) = data.metadata().map(|metadata| metadata.len()) else {
        return Ok(checked.cannot_tell("whether it is of a file: none lies beside it"));
    };
    let name = data.display();
    if places(&*index)?.any(|place| place >= size) {
        return Err(broken(format!(
            "it names places behind the end of {name}, which is another file or cut"
        )));
    }
    Ok(checked.holds(format!("places within {name}")))
}

/// Returns where the blocks end that an index names.
fn places(index: &dyn BinningIndex) -> Result<impl Iterator<Item = u64>> {
    let mut places = Vec::new();
    for number in 0..index.reference_sequences().count() {
        let chunks = index.query(number, Interval::from(Position::MIN..));
        let chunks = chunks.map_err(|error| broken(format!("damaged: {error}")))?;
        // The end of a chunk at the first byte of a block may be the end of the file.
        places.extend(chunks.iter().map(|chunk| match chunk.end().uncompressed() {
            0 => chunk.end().compressed().saturating_sub(1),
            _ => chunk.end().compressed(),
        }));
    }
    Ok(places.into_iter())
}

/// Adds up the records that an index counts, where it does.
fn count(index: &dyn BinningIndex) -> Option<u64> {
    let contigs = index.reference_sequences();
    let counts = contigs.filter_map(|contig| contig.metadata().map(|counts| counts.mapped_record_count()));
    let counts: Vec<u64> = counts.collect();
    if counts.is_empty() { None } else { Some(counts.iter().sum()) }
}
