//! Motif instances (hits) as numbers, and what is done with lists of them.

pub mod collapse;
pub mod intersect;

use std::collections::HashMap;
use std::hash::Hash;

use crate::region::Strand;

/// A hit. Coordinates are 0-based and half-open; without a contig they count from the start of the region.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instance {
    /// Contig, an index into [`Vocabulary::chroms`]; `None` when coordinates are unknown.
    pub chrom: Option<u32>,
    /// What its coordinates count along, an index into [`Vocabulary::places`].
    pub place: u32,
    /// First base, trimmed.
    pub start: i64,
    /// One past the last base, trimmed.
    pub end: i64,
    /// First base of the whole motif.
    pub start_untrimmed: i64,
    /// One past the last base of the whole motif.
    pub end_untrimmed: i64,
    /// Index into [`Vocabulary::motifs`].
    pub motif: u32,
    /// The strand on which the motif reads.
    pub strand: Strand,
    /// Ordinal of the region that it lies in.
    pub region: u64,
    /// Name of that region, an index into [`Vocabulary::peaks`].
    pub peak: Option<u32>,
    /// Coefficient in the scaled region.
    pub coefficient: f32,
    /// Coefficient that can be compared between regions.
    pub coefficient_global: f32,
    /// Cosine of CWM and contributions.
    pub similarity: f32,
    /// Sum of absolute contributions in the trimmed window.
    pub importance: f32,
}

/// What coordinates of a hit count along. Hits of different places do not overlap whatever their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A contig, an index into [`Vocabulary::chroms`].
    Contig(u32),
    /// A region without coordinates.
    Region(u64),
    /// An allele of a variant: its row, the allele's number and the haplotype's.
    Allele(u64, u16, u32),
}

/// Distinct values in order of first appearance, each with a number.
#[derive(Clone, Debug)]
pub struct Distinct<T> {
    values: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self { values: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Distinct<T> {
    /// Returns the number of `value`, a new one if it is new.
    pub fn number<Q>(&mut self, value: &Q) -> u32
    where
        Q: ?Sized + Eq + Hash + ToOwned<Owned = T>,
        T: std::borrow::Borrow<Q>,
    {
        if let Some(&number) = self.numbers.get(value) {
            return number;
        }
        let number = self.values.len() as u32;
        self.values.push(value.to_owned());
        self.numbers.insert(value.to_owned(), number);
        number
    }

    /// Returns the number of `value` if it has one.
    pub fn find<Q>(&self, value: &Q) -> Option<u32>
    where
        Q: ?Sized + Eq + Hash,
        T: std::borrow::Borrow<Q>,
    {
        self.numbers.get(value).copied()
    }

    /// Returns the values by their numbers.
    pub fn values(&self) -> &[T] {
        &self.values
    }
}

/// The names that numbers in [`Instance`]s stand for. Lists that are compared share one.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    /// Contigs.
    pub chroms: Distinct<String>,
    /// Places.
    pub places: Distinct<Place>,
    /// Motifs.
    pub motifs: Distinct<String>,
    /// Names of regions.
    pub peaks: Distinct<String>,
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Returns a hit on `place` with the span `start..end`.
    pub fn instance(place: u32, start: i64, end: i64, similarity: f32) -> Instance {
        Instance {
            chrom: Some(place),
            place,
            start,
            end,
            start_untrimmed: start - 2,
            end_untrimmed: end + 2,
            motif: 0,
            strand: Strand::Forward,
            region: 0,
            peak: None,
            coefficient: 1.0,
            coefficient_global: 1.0,
            similarity,
            importance: 1.0,
        }
    }
}
