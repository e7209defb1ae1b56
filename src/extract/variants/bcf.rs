//! BCF2: the first columns of each record; the genotypes are passed over unless samples are chosen.
//!
//! The five columns are decoded here, because the decoder of noodles (0.94) calls itself for every length that
//! follows as a value: a record of such lengths in a row ends the process for want of stack.

use std::io::{self, BufRead, Read};

use super::bcf_genotypes::{self, Layout, descriptor, take};
use super::genotypes::Samples;
use super::record::{Place, Record};
use crate::error::{Error, Result};

/// What the records of a BCF need of its header.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// The contigs in the order of their numbers.
    pub contigs: Vec<String>,
    /// Where the genotypes are.
    pub genotypes: Layout,
}

/// Records of a BCF, uncompressed.
pub struct Bcf<R> {
    reader: R,
    header: Header,
    bytes: Vec<u8>,
    /// The FORMAT fields of the record, when samples are chosen.
    fields: Vec<u8>,
    records: u64,
}

impl<R: BufRead> Bcf<R> {
    /// Reads the header from `reader`, to read genotypes of `samples`.
    ///
    /// # Errors
    ///
    /// When it is cut or of another version than 2, or does not have the samples.
    pub fn new(mut reader: R, samples: &Samples) -> Result<Self> {
        let text = read_header(&mut reader).map_err(|error| truncated(error, "the BCF header"))?;
        let columns = text.lines().find(|line| line.starts_with("#CHROM")).unwrap_or_default();
        let found: Vec<_> = columns.split('\t').skip(9).collect();
        let genotypes = Layout { key: bcf_genotypes::genotype_key(&text), chosen: samples.choose(&found)? };
        Ok(Self::inside(reader, Header { contigs: contig_names(&text)?, genotypes }))
    }

    /// Reads records from somewhere inside a BCF that has this header.
    pub fn inside(reader: R, header: Header) -> Self {
        Self { reader, header, bytes: Vec::new(), fields: Vec::new(), records: 0 }
    }

    /// Returns what the header says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    fn read(&mut self) -> Result<Option<Record>> {
        // noodles takes a record of length 0 for the end; only the end of the data is the end.
        if self.reader.fill_buf()?.is_empty() {
            return Ok(None);
        }
        self.records += 1;
        self.read_site().map(Some).map_err(|error| error.at(Place::Record(self.records).to_string()))
    }

    fn read_site(&mut self) -> Result<Record> {
        let cut = |error| truncated(error, "the record");
        let mut lengths = [0; 8];
        self.reader.read_exact(&mut lengths).map_err(cut)?;
        let (site, samples) = lengths.split_at(4);
        let length = |bytes: &[u8]| u64::from(u32::from_le_bytes(bytes.try_into().expect("four bytes")));
        self.bytes.clear();
        // Memory grows with the bytes that do come, not with the length that a damaged record states.
        let read = self.reader.by_ref().take(length(site)).read_to_end(&mut self.bytes).map_err(cut)?;
        let mut fields = self.reader.by_ref().take(length(samples));
        self.fields.clear();
        let passed = match self.header.genotypes.chosen.names.is_empty() {
            true => io::copy(&mut fields, &mut io::sink()).map_err(cut)?,
            false => fields.read_to_end(&mut self.fields).map_err(cut)? as u64,
        };
        if read as u64 != length(site) || passed != length(samples) {
            return Err(cut(io::ErrorKind::UnexpectedEof.into()));
        }
        self.convert()
    }

    /// Makes a record of its bytes: CHROM, POS, the length on the contig, QUAL, two counts, two counts (4 bytes each
    /// but for the counts), ID, and the alleles (VCF specification, 6.3.1).
    fn convert(&self) -> Result<Record> {
        let contig = self.number(0)?;
        let name = usize::try_from(contig).ok().and_then(|contig| self.header.contigs.get(contig));
        let chrom = name.filter(|name| !name.is_empty());
        let chrom = chrom.ok_or_else(|| damaged(format!("CHROM is number {contig}, not in the header")))?;
        let position = i64::from(self.number(4)?) + 1;
        let count = self.number(16)? as u32 >> 16;
        let mut rest = self.bytes.get(24..).unwrap_or_default();
        let id = Some(typed_text(&mut rest, "ID")?).filter(|id| !id.is_empty() && id != ".");
        let names = std::iter::once("REF").chain(std::iter::repeat("ALT"));
        let alleles: Vec<String> =
            names.take(count as usize).map(|name| typed_text(&mut rest, name)).collect::<Result<_>>()?;
        if alleles.is_empty() {
            return Err(damaged("it has no REF"));
        }
        let place = Place::Record(self.records);
        let mut record =
            Record { chrom: chrom.clone(), position, id, alleles, ..Record::at(place) }.checked()?;
        if !self.header.genotypes.chosen.names.is_empty() {
            self.add_genotypes(&mut record)?;
        }
        Ok(record)
    }

    /// Returns the number at a byte of the record.
    fn number(&self, at: usize) -> Result<i32> {
        let bytes = self.bytes.get(at..at + 4).ok_or_else(|| damaged("the record is too short"))?;
        Ok(i32::from_le_bytes(bytes.try_into().expect("four bytes")))
    }

    /// Adds the genotypes, and the end that the record states.
    fn add_genotypes(&self, record: &mut Record) -> Result<()> {
        record.end = Some(record.position - 1 + i64::from(self.number(8)?));
        let fields = self.number(20)? as u32 >> 24;
        record.genotypes = self.header.genotypes.read(&self.fields, fields as usize)?;
        record.genotypes.check(record.alleles.len())
    }
}

impl<R: BufRead> Iterator for Bcf<R> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// Reads `BCF`, the version, the length of the VCF header, and that header.
fn read_header(reader: &mut impl BufRead) -> io::Result<String> {
    let mut head = [0; 9];
    reader.read_exact(&mut head)?;
    let [b'B', b'C', b'F', major, minor, length @ ..] = head else {
        return Err(io::Error::other(Error::data("not a BCF")));
    };
    if major != 2 {
        return Err(io::Error::other(Error::data(format!(
            "BCF version {major}.{minor}: only 2 is read (`bcftools view -Ob` converts)"
        ))));
    }
    let length = u64::from(u32::from_le_bytes(length));
    let mut text = Vec::new();
    if reader.take(length).read_to_end(&mut text)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // The text ends with a NUL.
    Ok(String::from_utf8_lossy(text.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned())
}

/// Returns the contigs of a header by number: `IDX` where it is stated, the order of the lines otherwise.
fn contig_names(header: &str) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for line in header.lines().filter_map(|line| line.strip_prefix("##contig=<")) {
        let fields = split_unquoted(line.trim_end().trim_end_matches('>'));
        let value = |key: &str| fields.iter().find_map(|field| field.strip_prefix(key));
        let Some(name) = value("ID=") else { continue };
        let index = match value("IDX=") {
            Some(index) => index.parse().map_err(|_| damaged(format!("contig {name} has IDX={index}")))?,
            None => names.len(),
        };
        // A number far past the lines of the header would only cost memory.
        if index > header.len() {
            return Err(damaged(format!("contig {name} has IDX={index}")));
        }
        if names.len() <= index {
            names.resize(index + 1, String::new());
        }
        names[index] = name.to_owned();
    }
    Ok(names)
}

/// Splits at commas that are not inside double quotes.
pub(super) fn split_unquoted(text: &str) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .collect()
}

/// Takes a text; one that is missing is empty.
fn typed_text(bytes: &mut &[u8], name: &str) -> Result<String> {
    let (kind, length) = descriptor(bytes)?;
    match kind {
        7 => {}
        0 => return Ok(String::new()),
        _ => return Err(damaged(format!("{name} is not text"))),
    }
    String::from_utf8(take(bytes, length)?.to_vec()).map_err(|_| damaged(format!("{name} is not text")))
}

fn damaged(why: impl std::fmt::Display) -> Error {
    Error::data(format!("damaged BCF: {why}. Check it with `bcftools view`"))
}

fn truncated(error: io::Error, what: &str) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            Error::data(format!("the file ends inside {what}: it is truncated. Copy or make it again"))
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contigs_are_numbered_by_idx_or_by_line() {
        let names = |header| contig_names(header).unwrap();
        assert_eq!(names("##x\n##contig=<ID=a,length=5>\n##contig=<ID=b>\n"), ["a", "b"]);
        assert_eq!(names("##contig=<ID=a,note=\"x,ID=y\",IDX=1>\n##contig=<ID=b,IDX=0>\n"), ["b", "a"]);
        assert!(contig_names("##contig=<ID=a,IDX=4000000000>").is_err());
    }
}
