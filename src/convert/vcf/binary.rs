//! Fields in the records of BCF2. A record's shared part gets values at its end and another count of them; all else,
//! genotypes included, passes byte by byte (VCF specification, 6.3).

use std::io::{self, BufRead, Read};

use super::fields::{Fields, Value};
use super::header;
use super::sink::{Placed, Sink};
use super::sites::{Alternate, Record, Site, Sites, by_alternate};
use super::text;
use crate::error::{Error, Result};

/// A float32 that is missing.
const MISSING: u32 = 0x7F80_0001;

/// Adds the fields of `sites` to a BCF; returns how many records there are and how many of them have rows.
///
/// # Errors
///
/// When the file is cut or damaged, naming the record, or the rows fail.
pub fn annotate(
    mut reader: Box<dyn BufRead>,
    sites: &mut Sites,
    extra: &[String],
    sink: &mut Sink,
) -> Result<(u64, u64)> {
    let mut head = [0; 9];
    reader.read_exact(&mut head).map_err(cut)?;
    if head[3] != 2 {
        let message = format!("BCF version {}: only 2 is read (`bcftools view -Ob` converts)", head[3]);
        return Err(Error::data(message));
    }
    let text = read_bytes(&mut reader, u32_at(&head, 5))?;
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    let edited = header::edit(text, sites.fields(), extra)?;
    let length = edited.text.len() as u32 + 1;
    sink.begin(&[&head[..5], &length.to_le_bytes(), &edited.text, &[0]].concat(), &edited.contigs)?;
    let (mut records, mut annotated) = (0, 0);
    while !reader.fill_buf()?.is_empty() {
        records += 1;
        let place = |error: Error| error.at(format!("record {records}"));
        let mut lengths = [0; 8];
        reader.read_exact(&mut lengths).map_err(cut).map_err(place)?;
        let shared = read_bytes(&mut reader, u32_at(&lengths, 0)).map_err(place)?;
        let samples = read_bytes(&mut reader, u32_at(&lengths, 4)).map_err(place)?;
        let (has_rows, shared, placed) = edit_record(&shared, &edited, sites).map_err(place)?;
        let length = (shared.len() as u32).to_le_bytes();
        sink.write_record(placed, &[&length, &lengths[4..], &shared, &samples])?;
        annotated += u64::from(has_rows);
    }
    Ok((records, annotated))
}

fn cut(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::data("the BCF is cut"),
        _ => error.into(),
    }
}

/// Reads `length` bytes. Memory grows with the bytes that do come, not with the length that a damaged file states.
fn read_bytes(reader: &mut impl BufRead, length: u32) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(u64::from(length)).read_to_end(&mut bytes)?;
    if bytes.len() < length as usize {
        return Err(cut(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Returns whether a record has rows, its shared part with their values, and where it is.
fn edit_record<'a>(
    shared: &[u8],
    header: &'a header::Edited,
    sites: &mut Sites,
) -> Result<(bool, Vec<u8>, Placed<'a>)> {
    let mut cursor = Cursor { bytes: shared, at: 24 };
    if shared.len() < 24 {
        return Err(damaged());
    }
    let number = |at: usize| u32_at(shared, at) as i32;
    let (contig, position, length) = (number(0), i64::from(number(4)) + 1, i64::from(number(8)));
    let chrom = usize::try_from(contig).ok().and_then(|contig| header.contigs.get(contig));
    let chrom = &chrom.ok_or_else(|| Error::data(format!("CHROM is number {contig}, not in the header")))?.0;
    let (infos, alleles) = (u32_at(shared, 16) & 0xFFFF, u32_at(shared, 16) >> 16);
    cursor.value()?;
    let alleles = (0..alleles).map(|_| cursor.text()).collect::<Result<Vec<_>>>()?;
    let (reference, alternates) = alleles.split_first().ok_or_else(damaged)?;
    let record = Record { chrom, position, reference, alternates: alternates.to_vec() };
    cursor.value()?;
    let (kept, kept_count) = cursor.others(infos, &header.numbers)?;
    let site = sites.take_of(&record)?;
    let (values, count) = encode(site.as_ref(), alternates.len(), sites.fields(), &header.numbers);
    let count = kept_count + count;
    if count > 0xFFFF {
        return Err(Error::data("more INFO fields than a BCF record can hold"));
    }
    let mut edited = [&shared[..cursor.filter_end(shared, alleles.len())?], &kept, &values].concat();
    edited[16..18].copy_from_slice(&(count as u16).to_le_bytes());
    let placed = Placed { chrom, start: position, end: position + length.max(1) - 1 };
    Ok((site.is_some(), edited, placed))
}

fn damaged() -> Error {
    Error::data("the BCF record is damaged")
}

/// Reads typed values.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Reads the descriptor of a value: its kind, and how many there are. Their number, where it follows as a value,
    /// is one number, or a file could nest descriptors as deep as it has bytes.
    fn descriptor(&mut self) -> Result<(u8, usize)> {
        let byte = self.byte()?;
        let count = match byte >> 4 {
            15 => match self.byte()? {
                kind @ 0x11..=0x13 => {
                    let size = 1 << ((kind & 15) - 1);
                    let count = self.bytes.get(self.at..self.at + size).ok_or_else(damaged)?;
                    self.at += size;
                    usize::try_from(integer(count)?).map_err(|_| damaged())?
                }
                _ => return Err(damaged()),
            },
            count => usize::from(count),
        };
        Ok((byte & 15, count))
    }

    fn byte(&mut self) -> Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or_else(damaged)?;
        self.at += 1;
        Ok(byte)
    }

    /// Reads a value and returns its bytes.
    fn value(&mut self) -> Result<&'a [u8]> {
        let (kind, count) = self.descriptor()?;
        let size = match kind {
            0 => 0,
            1 | 7 => 1,
            2 => 2,
            3 | 5 => 4,
            _ => return Err(damaged()),
        };
        let end = count.checked_mul(size).and_then(|bytes| self.at.checked_add(bytes)).ok_or_else(damaged)?;
        let bytes = self.bytes.get(self.at..end).ok_or_else(damaged)?;
        self.at = end;
        Ok(bytes)
    }

    fn integer(&mut self) -> Result<i64> {
        integer(self.value()?)
    }

    fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.value()?).map_err(|_| damaged())
    }

    /// Reads `count` INFO fields and returns those whose names are not `own`, and how many they are.
    fn others(&mut self, count: u32, own: &[usize]) -> Result<(Vec<u8>, usize)> {
        let (mut kept, mut kept_count) = (Vec::new(), 0);
        for _ in 0..count {
            let start = self.at;
            let key = self.integer()?;
            self.value()?;
            if !own.iter().any(|&own| own as i64 == key) {
                kept.extend_from_slice(&self.bytes[start..self.at]);
                kept_count += 1;
            }
        }
        Ok((kept, kept_count))
    }

    /// Returns where FILTER ends in a shared part with so many alleles.
    fn filter_end(&self, shared: &[u8], alleles: usize) -> Result<usize> {
        let mut cursor = Cursor { bytes: shared, at: 24 };
        for _ in 0..alleles + 2 {
            cursor.value()?;
        }
        Ok(cursor.at)
    }
}

fn integer(bytes: &[u8]) -> Result<i64> {
    match *bytes {
        [a] => Ok(i64::from(a as i8)),
        [a, b] => Ok(i64::from(i16::from_le_bytes([a, b]))),
        [a, b, c, d] => Ok(i64::from(i32::from_le_bytes([a, b, c, d]))),
        _ => Err(damaged()),
    }
}

/// Returns the fields of a record, and how many they are.
fn encode(site: Option<&Site>, alternates: usize, fields: &Fields, numbers: &[usize]) -> (Vec<u8>, usize) {
    let alternates = by_alternate(site, alternates);
    let mut bytes = Vec::new();
    push_integer(&mut bytes, numbers[0]);
    push_text(&mut bytes, &text::statuses(&alternates).join(","));
    let mut count = 1;
    for (place, number) in numbers[1..].iter().enumerate() {
        let value =
            |alternate: &Option<&Alternate>| alternate.map_or(Value::Missing, |a| a.values[place].clone());
        let values: Vec<Value> = alternates.iter().map(value).collect();
        if values.iter().all(|value| *value == Value::Missing) {
            continue;
        }
        push_integer(&mut bytes, *number);
        match fields.infos[place].kind {
            super::fields::Kind::Float => push_floats(&mut bytes, &values),
            super::fields::Kind::Text => {
                let text =
                    |value: &Value| if let Value::Text(text) = value { text.clone() } else { ".".into() };
                push_text(&mut bytes, &values.iter().map(text).collect::<Vec<_>>().join(","));
            }
        }
        count += 1;
    }
    (bytes, count)
}

fn push_descriptor(bytes: &mut Vec<u8>, kind: u8, count: usize) {
    if count < 15 {
        bytes.push((count as u8) << 4 | kind);
    } else {
        bytes.push(15 << 4 | kind);
        push_integer(bytes, count);
    }
}

/// Writes an integer in the fewest bytes; the smallest values of each size mean something else.
fn push_integer(bytes: &mut Vec<u8>, value: usize) {
    if let Ok(value) = i8::try_from(value) {
        bytes.extend([1 << 4 | 1, value as u8]);
    } else if let Ok(value) = i16::try_from(value) {
        bytes.push(1 << 4 | 2);
        bytes.extend(value.to_le_bytes());
    } else {
        bytes.push(1 << 4 | 3);
        bytes.extend((value as i32).to_le_bytes());
    }
}

pub fn push_text(bytes: &mut Vec<u8>, text: &str) {
    push_descriptor(bytes, 7, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

fn push_floats(bytes: &mut Vec<u8>, values: &[Value]) {
    push_descriptor(bytes, 5, values.len());
    for value in values {
        let bits = if let Value::Float(number) = value { number.to_bits() } else { MISSING };
        bytes.extend(bits.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// See `extract::variants::bcf_genotypes`.
    #[test]
    fn lengths_of_lengths_do_not_nest() {
        let read = |bytes: &[u8]| Cursor { bytes, at: 0 }.value().map(<[u8]>::len);
        assert!(read(&vec![0xF1; 1 << 20]).is_err());
        assert_eq!(read(&[&[0xF7, 0x11, 20][..], &[b'a'; 20]].concat()).unwrap(), 20);
        assert!(read(&[0xF7, 0x13, 0xFF, 0xFF, 0xFF, 0x7F]).is_err());
    }
}
