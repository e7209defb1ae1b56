//! BCF2: the site of each record, decoded by noodles; the genotypes are passed over.

use std::io::{self, BufRead, Read};

use noodles::bcf;
use noodles::vcf::variant::record::AlternateBases as _;

use super::record::{Place, Record};
use crate::error::{Error, Result};

/// Records of a BCF, uncompressed.
pub struct Bcf<R> {
    reader: R,
    contigs: Vec<String>,
    bytes: Vec<u8>,
    record: bcf::Record,
    records: u64,
}

impl<R: BufRead> Bcf<R> {
    /// Reads the header from `reader`.
    ///
    /// # Errors
    ///
    /// When it is cut or of another version than 2.
    pub fn new(mut reader: R) -> Result<Self> {
        let text = read_header(&mut reader).map_err(|error| truncated(error, "the BCF header"))?;
        let contigs = contig_names(&text)?;
        Ok(Self { reader, contigs, bytes: Vec::new(), record: bcf::Record::default(), records: 0 })
    }

    /// Reads records from somewhere inside a BCF that has these contigs.
    pub fn inside(reader: R, contigs: Vec<String>) -> Self {
        Self { reader, contigs, bytes: Vec::new(), record: bcf::Record::default(), records: 0 }
    }

    /// Returns the names of the contigs in the order of their numbers.
    pub fn contigs(&self) -> &[String] {
        &self.contigs
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
        self.bytes.extend_from_slice(site);
        self.bytes.extend_from_slice(&[0; 4]); // No samples for noodles to hold.
        // Memory grows with the bytes that do come, not with the length that a damaged record states.
        let read = self.reader.by_ref().take(length(site)).read_to_end(&mut self.bytes).map_err(cut)?;
        let passed =
            io::copy(&mut self.reader.by_ref().take(length(samples)), &mut io::sink()).map_err(cut)?;
        if read as u64 != length(site) || passed != length(samples) {
            return Err(cut(io::ErrorKind::UnexpectedEof.into()));
        }
        let found = bcf::io::Reader::from(&self.bytes[..]).read_record(&mut self.record);
        match found {
            Ok(0) => Err(damaged("it has no bytes")),
            Ok(_) => self.convert(),
            Err(error) => Err(damaged(error)),
        }
    }

    fn convert(&self) -> Result<Record> {
        let contig = self.record.reference_sequence_id().map_err(damaged)?;
        let chrom = self.contigs.get(contig).filter(|name| !name.is_empty());
        let chrom = chrom.ok_or_else(|| damaged(format!("CHROM is number {contig}, not in the header")))?;
        let position = match self.record.variant_start().transpose().map_err(damaged)? {
            Some(position) => position.get() as i64,
            None => 0,
        };
        let mut alleles = vec![text(self.record.reference_bases().as_ref(), "REF")?];
        for alternate in self.record.alternate_bases().iter() {
            alleles.push(alternate.map_err(damaged)?.to_owned());
        }
        let id = text(self.record.ids().as_ref(), "ID")?;
        let id = Some(id).filter(|id| !id.is_empty() && id != ".");
        Record { place: Place::Record(self.records), chrom: chrom.clone(), position, id, alleles }.checked()
    }
}

impl<R: BufRead> Iterator for Bcf<R> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

fn read_header(reader: &mut impl BufRead) -> io::Result<String> {
    let mut reader = bcf::io::Reader::from(reader);
    let mut header = reader.header_reader();
    header.read_magic_number()?;
    let (major, minor) = header.read_format_version()?;
    if major != 2 {
        return Err(io::Error::other(Error::data(format!(
            "BCF version {major}.{minor}: only 2 is read (`bcftools view -Ob` converts)"
        ))));
    }
    let mut text = Vec::new();
    let mut raw = header.raw_vcf_header_reader()?;
    raw.read_to_end(&mut text)?;
    raw.discard_to_end()?;
    Ok(String::from_utf8_lossy(&text).into_owned())
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
fn split_unquoted(text: &str) -> Vec<&str> {
    let mut quoted = false;
    text.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .collect()
}

fn text(bytes: &[u8], name: &str) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| damaged(format!("{name} is not text")))
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
