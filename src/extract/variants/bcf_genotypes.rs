//! The genotypes in the second half of a BCF record (VCF specification, 6.3.3): for each FORMAT field its key,
//! a type, and the values of all samples. A genotype value is `(allele + 1) << 1`, plus 1 when it is phased
//! with the one before.

use super::genotypes::{Call, Chosen, Genotypes};
use crate::error::{Error, Result};

/// Where the genotypes of a BCF are, and which of them are wanted.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Number of GT in the header's dictionary of strings; `None` when it is not there.
    pub key: Option<usize>,
    /// The samples that are wanted.
    pub chosen: Chosen,
}

impl Layout {
    /// Reads the genotypes of a record from its `fields` FORMAT fields.
    ///
    /// # Errors
    ///
    /// When the bytes are not what they say.
    pub fn read(&self, mut bytes: &[u8], fields: usize) -> Result<Genotypes> {
        let samples = self.chosen.places.len();
        let mut genotypes = Genotypes::missing(self.chosen.names.len());
        for _ in 0..fields {
            let (kind, _) = descriptor(&mut bytes)?;
            let key = number(&mut bytes, kind)?;
            let (kind, length) = descriptor(&mut bytes)?;
            let size = size_of(kind)?.checked_mul(length).ok_or_else(cut)?;
            let values = take(&mut bytes, samples.checked_mul(size).ok_or_else(cut)?)?;
            if Some(key as usize) == self.key && key >= 0 && size > 0 {
                self.read_values(values, kind, length, &mut genotypes)?;
                break;
            }
        }
        Ok(genotypes)
    }

    fn read_values(&self, values: &[u8], kind: u8, length: usize, genotypes: &mut Genotypes) -> Result<()> {
        // No longer than the bytes that were taken.
        let mut alleles = Vec::with_capacity(length.min(values.len()));
        let size = size_of(kind)? * length;
        for (mut own, place) in values.chunks(size).zip(&self.chosen.places) {
            let Some(place) = *place else { continue };
            alleles.clear();
            let mut phased = true;
            for index in 0..length {
                let value = number(&mut own, kind)?;
                if value == end_of_vector(kind) {
                    break;
                }
                phased &= index == 0 || value & 1 == 1;
                alleles.push(match value >> 1 {
                    0 => Call::Missing,
                    allele => Call::Allele(u16::try_from(allele - 1).map_err(|_| cut())?),
                });
            }
            genotypes.set(place, &alleles, phased);
        }
        Ok(())
    }
}

/// Returns the number of GT in the dictionary of strings of a header: `IDX` where it is stated, otherwise the
/// order in which FILTER, INFO and FORMAT lines name something first, after PASS.
pub fn genotype_key(header: &str) -> Option<usize> {
    let mut names = vec!["PASS"];
    for line in header.lines() {
        let kinds = ["##FILTER=<", "##INFO=<", "##FORMAT=<"];
        let Some(fields) = kinds.iter().find_map(|kind| line.strip_prefix(kind)) else { continue };
        let fields = super::bcf::split_unquoted(fields.trim_end().trim_end_matches('>'));
        let value = |key: &str| fields.iter().find_map(|field| field.strip_prefix(key));
        let Some(name) = value("ID=") else { continue };
        if let Some(index) = value("IDX=") {
            if name == "GT" && line.starts_with("##FORMAT") {
                return index.parse().ok();
            }
        } else if !names.contains(&name) {
            names.push(name);
        }
    }
    names.iter().position(|name| *name == "GT")
}

/// Reads a type and the number of values that have it.
///
/// A number above 14 follows as a value of its own. That value is one number: were its type to say that its number
/// follows, too, a file could nest descriptors as deep as it has bytes.
pub(super) fn descriptor(bytes: &mut &[u8]) -> Result<(u8, usize)> {
    let byte = take(bytes, 1)?[0];
    let (kind, mut length) = (byte & 0x0F, usize::from(byte >> 4));
    if length == 15 {
        let kind = take(bytes, 1)?[0];
        if kind >> 4 != 1 {
            return Err(Error::data("damaged BCF: a length is no number. Check it with `bcftools view`"));
        }
        length = usize::try_from(number(bytes, kind & 0x0F)?).map_err(|_| cut())?;
    }
    Ok((kind, length))
}

/// Reads a whole number.
fn number(bytes: &mut &[u8], kind: u8) -> Result<i64> {
    let value = take(bytes, size_of(kind)?)?;
    match *value {
        [a] => Ok(i64::from(a as i8)),
        [a, b] => Ok(i64::from(i16::from_le_bytes([a, b]))),
        [a, b, c, d] => Ok(i64::from(i32::from_le_bytes([a, b, c, d]))),
        _ => Err(cut()),
    }
}

/// Returns what fills a vector up to the length of the longest.
fn end_of_vector(kind: u8) -> i64 {
    match kind {
        1 => i64::from(i8::MIN) + 1,
        2 => i64::from(i16::MIN) + 1,
        _ => i64::from(i32::MIN) + 1,
    }
}

fn size_of(kind: u8) -> Result<usize> {
    match kind {
        0 => Ok(0),
        1 | 7 => Ok(1),
        2 => Ok(2),
        3 | 5 => Ok(4),
        _ => Err(Error::data(format!("damaged BCF: a FORMAT field has the unknown type {kind}"))),
    }
}

pub(super) fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or_else(cut)?;
    *bytes = rest;
    Ok(taken)
}

fn cut() -> Error {
    Error::data("damaged BCF: a field is not as long as it says. Check it with `bcftools view`")
}

#[cfg(test)]
mod tests {
    use super::super::genotypes::Samples;
    use super::*;
    use Call::{Absent, Allele, Missing};

    /// A length whose length is a length, and so on: each took a frame of the stack, and a megabyte of them the process.
    #[test]
    fn lengths_of_lengths_do_not_nest() {
        for byte in [0xF1, 0xF7, 0xFF] {
            assert!(descriptor(&mut &vec![byte; 1 << 20][..]).is_err());
        }
        assert_eq!(descriptor(&mut &[0xF7, 0x11, 20][..]).unwrap(), (7, 20));
        assert_eq!(descriptor(&mut &[0xF1, 0x12, 0, 1][..]).unwrap(), (1, 256));
        assert!(descriptor(&mut &[0xF1, 0x11, 0xFF][..]).is_err(), "a negative length");
    }

    #[test]
    fn the_key_of_genotypes_is_stated_or_counted() {
        let lines = "##INFO=<ID=DP,Number=1>\n##FILTER=<ID=q10,Description=\"a,ID=GT\">\n##FORMAT=<ID=DP>\n";
        assert_eq!(genotype_key(&format!("{lines}##FORMAT=<ID=GT,Number=1>\n")), Some(3));
        assert_eq!(genotype_key(&format!("{lines}##FORMAT=<ID=GT,Number=1,IDX=9>\n")), Some(9));
        assert_eq!(genotype_key(lines), None);
    }

    #[test]
    fn genotypes_are_found_behind_other_fields_and_end_where_a_vector_ends() {
        let layout = Layout { key: Some(4), chosen: Samples::All.choose(&["a", "b", "c"]).unwrap() };
        // DP (key 2): a 16-bit number for each sample; GT (key 4): two 8-bit numbers for each.
        let bytes = [
            0x11, 2, 0x12, 9, 0, 9, 0, 9, 0, //
            0x11, 4, 0x21, 2, 5, 4, 0x81, 0, 4,
        ];
        let genotypes = layout.read(&bytes, 2).unwrap();
        assert_eq!(genotypes.calls, [Allele(0), Allele(1), Allele(1), Absent, Missing, Allele(1)]);
        assert_eq!(genotypes.unphased, [2]);
        for cut in 0..bytes.len() {
            assert!(layout.read(&bytes[..cut], 2).is_err(), "cut at {cut}");
        }
        assert_eq!(layout.read(&bytes[..9], 1).unwrap(), Genotypes::missing(3));
    }
}
