//! The error for reference alleles that are not what the genome has: the first offenders and a remedy.

use super::site::Site;
use crate::error::Error;

/// Offenders that are listed.
pub const LISTED: usize = 5;

/// Reference alleles that do not agree with the genome.
#[derive(Debug, Default)]
pub struct Mismatches {
    listed: Vec<String>,
    after: usize,
    before: usize,
    swappable: usize,
}

impl Mismatches {
    /// Adds an offender.
    pub fn add(&mut self, site: &Site) {
        let record = &site.record;
        let reference = &record.alleles[0];
        self.listed.push(format!(
            "{}: {}:{} REF {}, genome {}",
            record.place,
            record.chrom,
            record.position,
            shorten(reference),
            shorten(&String::from_utf8_lossy(site.genome_bases()))
        ));
        self.after += usize::from(site.agrees(reference, 1));
        self.before += usize::from(site.agrees(reference, -1));
        self.swappable += usize::from(site.agreeing_alternate().is_some());
    }

    /// Returns whether as many are known as are listed.
    pub fn is_full(&self) -> bool {
        self.listed.len() >= LISTED
    }

    /// Returns the error that lists them.
    pub fn error(&self, genome: &str) -> Error {
        let all = self.listed.len();
        let hint = if all > 1 && self.after == all {
            "all agree one base further on, so the positions look 0-based where 1-based ones are expected"
        } else if all > 1 && self.before == all {
            "all agree one base before, so the positions look 1-based where 0-based ones are expected"
        } else if self.swappable == all {
            "the alternate allele agrees with the genome, so REF and ALT look exchanged: \
             `--ref-mismatch swap` takes them the other way round"
        } else {
            "is it another assembly, or are the positions 0-based? `--ref-mismatch status` goes on and \
             marks such rows"
        };
        Error::data(format!(
            "the reference allele is not what {genome} has there ({}{}); {hint}",
            self.listed.join("; "),
            if self.is_full() { "; …" } else { "" }
        ))
    }
}

/// Returns an allele as shown to people: its first bases and its length when it is long.
fn shorten(allele: &str) -> String {
    if allele.len() <= 20 {
        return format!("`{allele}`");
    }
    let head: String = allele.chars().take(12).collect();
    format!("`{head}…` ({} bases)", allele.len())
}
