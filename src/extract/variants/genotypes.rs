//! Genotypes: which allele each haplotype of a sample carries.

use crate::error::{Error, Result};

/// Haplotypes of a sample: the first two alleles of its genotypes.
pub const PLOIDY: usize = 2;

/// What a haplotype carries at a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// An allele, 0 for the reference.
    Allele(u16),
    /// Not known: `.`, or no genotype at all.
    Missing,
    /// The genotype has fewer alleles: the sample has no such haplotype here.
    Absent,
}

/// The genotypes of the chosen samples at a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Genotypes {
    /// Those of haplotype 1 and 2 of each sample, in the order of the samples.
    pub calls: Vec<Call>,
    /// The samples (from 0, ascending) with two alleles that are not phased.
    pub unphased: Vec<usize>,
    /// How many genotypes have more than two alleles.
    pub polyploid: u64,
}

impl Genotypes {
    /// Creates genotypes of `samples` samples, all of them missing.
    pub fn missing(samples: usize) -> Self {
        Self { calls: vec![Call::Missing; samples * PLOIDY], ..Self::default() }
    }

    /// Sets those of a sample: its alleles as written, and whether their order tells the haplotypes.
    pub fn set(&mut self, sample: usize, alleles: &[Call], phased: bool) {
        let own = &mut self.calls[sample * PLOIDY..(sample + 1) * PLOIDY];
        own.fill(Call::Absent);
        own.iter_mut().zip(alleles).for_each(|(call, allele)| *call = *allele);
        if alleles == [Call::Missing] {
            // A lone `.` says nothing about how many haplotypes there are.
            own.fill(Call::Missing);
        }
        let differ = own[1] != Call::Absent && own[0] != own[1];
        if differ && !phased {
            let place = self.unphased.partition_point(|&other| other < sample);
            self.unphased.insert(place, sample);
        }
        self.polyploid += u64::from(alleles.len() > PLOIDY);
    }

    /// Exchanges the reference with allele `k` in all calls.
    pub fn swap(&mut self, k: usize) {
        let k = k as u16;
        for call in &mut self.calls {
            *call = match *call {
                Call::Allele(0) => Call::Allele(k),
                Call::Allele(allele) if allele == k => Call::Allele(0),
                other => other,
            };
        }
    }

    /// Refuses alleles that a record with `count` alleles does not have.
    pub fn check(&self, count: usize) -> Result<()> {
        let beyond = |call: &&Call| matches!(call, Call::Allele(allele) if usize::from(*allele) >= count);
        match self.calls.iter().find(beyond) {
            Some(Call::Allele(allele)) => Err(Error::data(format!(
                "a genotype names allele {allele}, but the record has {} alternate alleles",
                count - 1
            ))),
            _ => Ok(()),
        }
    }
}

/// Parses a genotype as VCF writes it (`0|1`, `./.`, `1`, `|0|1`) into `alleles`; returns whether it is phased.
///
/// # Errors
///
/// When it is no genotype.
pub fn parse(text: &[u8], alleles: &mut Vec<Call>) -> Result<bool> {
    alleles.clear();
    let body = text.strip_prefix(b"|").or(text.strip_prefix(b"/")).unwrap_or(text);
    for allele in body.split(|byte| matches!(byte, b'|' | b'/')) {
        let number = || std::str::from_utf8(allele).ok()?.parse().ok();
        alleles.push(match allele {
            b"." => Call::Missing,
            _ => Call::Allele(number().ok_or_else(|| not_a_genotype(text))?),
        });
    }
    Ok(!body.contains(&b'/'))
}

fn not_a_genotype(text: &[u8]) -> Error {
    let shown: Vec<u8> = text.iter().copied().take(20).collect();
    Error::data(format!("`{}` is no genotype", shown.escape_ascii()))
}

/// Which samples of a file are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Samples {
    /// None: genotypes are not read.
    #[default]
    None,
    /// All of them.
    All,
    /// These, in this order.
    Named(Vec<String>),
}

/// The samples that were chosen from those of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Their names, in the order of the genotypes.
    pub names: Vec<String>,
    /// For each sample of the file its place in the genotypes.
    pub places: Vec<Option<usize>>,
}

impl Samples {
    /// Chooses from the samples of a file.
    ///
    /// # Errors
    ///
    /// When a named one is not among them, or the file has none.
    pub fn choose(&self, found: &[&str]) -> Result<Chosen> {
        let names: Vec<String> = match self {
            Self::None => return Ok(Chosen { names: Vec::new(), places: vec![None; found.len()] }),
            Self::All => found.iter().map(ToString::to_string).collect(),
            Self::Named(names) => names.clone(),
        };
        if found.is_empty() {
            return Err(Error::data("the file has no genotypes: haplotypes need a VCF or BCF with samples"));
        }
        let mut places = vec![None; found.len()];
        let mut kept = Vec::with_capacity(names.len());
        for name in names {
            let Some(column) = found.iter().position(|other| *other == name) else {
                return Err(no_sample(&name, found));
            };
            // A sample that is named twice is one sample.
            if places[column].is_none() {
                places[column] = Some(kept.len());
                kept.push(name);
            }
        }
        Ok(Chosen { names: kept, places })
    }
}

fn no_sample(name: &str, found: &[&str]) -> Error {
    let some: Vec<_> = found.iter().take(6).copied().collect();
    let more = if found.len() > some.len() { ", …" } else { "" };
    Error::usage(format!(
        "--samples: the file has no sample `{name}`; it has {} ({}{more})",
        found.len(),
        some.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Call::{Absent, Allele, Missing};

    fn read(text: &str) -> (Vec<Call>, bool) {
        let mut alleles = Vec::new();
        let phased = parse(text.as_bytes(), &mut alleles).unwrap();
        (alleles, phased)
    }

    #[test]
    fn genotypes_are_read_as_written() {
        assert_eq!(read("0|12"), (vec![Allele(0), Allele(12)], true));
        assert_eq!(read("1/0"), (vec![Allele(1), Allele(0)], false));
        assert_eq!(read("./."), (vec![Missing, Missing], false));
        assert_eq!(read("1"), (vec![Allele(1)], true));
        assert_eq!(read("|0|1"), (vec![Allele(0), Allele(1)], true));
        assert_eq!(read("0|1|2").0.len(), 3);
        for bad in ["", "x", "0|", "0|-1", "99999999"] {
            assert!(parse(bad.as_bytes(), &mut Vec::new()).is_err(), "{bad}");
        }
    }

    #[test]
    fn haplotypes_that_are_not_there_are_absent_and_only_a_difference_needs_a_phase() {
        let mut genotypes = Genotypes::missing(3);
        genotypes.set(2, &[Allele(1), Allele(0)], false);
        genotypes.set(0, &[Allele(1)], true);
        genotypes.set(1, &[Missing], true);
        assert_eq!(genotypes.calls[2..4], [Missing, Missing]);
        genotypes.set(1, &[Allele(2), Allele(2), Allele(0)], false);
        assert_eq!(genotypes.calls, [Allele(1), Absent, Allele(2), Allele(2), Allele(1), Allele(0)]);
        assert_eq!((genotypes.unphased.as_slice(), genotypes.polyploid), (&[2][..], 1));
        assert!(genotypes.check(3).is_ok() && genotypes.check(2).is_err());
        genotypes.swap(1);
        assert_eq!(genotypes.calls[4..], [Allele(0), Allele(1)]);
    }

    #[test]
    fn samples_are_found_by_name_in_the_order_asked() {
        let named = |names: &[&str]| Samples::Named(names.iter().map(ToString::to_string).collect());
        let chosen = named(&["c", "a", "c"]).choose(&["a", "b", "c"]).unwrap();
        assert_eq!(
            (chosen.names, chosen.places),
            (vec!["c".into(), "a".into()], vec![Some(1), None, Some(0)])
        );
        assert_eq!(Samples::All.choose(&["a", "b"]).unwrap().names, ["a", "b"]);
        assert_eq!(named(&["x"]).choose(&["a"]).unwrap_err().exit_status(), 2);
        assert!(Samples::All.choose(&[]).is_err() && Samples::None.choose(&[]).is_ok());
    }
}
