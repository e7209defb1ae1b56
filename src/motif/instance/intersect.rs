//! Hits that several lists have in common.

use std::collections::HashMap;
use std::hash::Hash;

use super::Instance;
use crate::region::Strand;

/// When two hits are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sameness {
    /// Compare whole motifs only: neither trimmed spans nor regions.
    pub relaxed: bool,
    /// As Fi-NeMo 0.41, take all regions without coordinates for one contig.
    pub compat: bool,
}

/// What must agree.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    place: Option<u32>,
    whole: (i64, i64),
    motif: u32,
    strand: Strand,
    exact: Option<((i64, i64), u64, Option<u32>)>,
}

impl Sameness {
    fn key(self, hit: &Instance) -> Key {
        Key {
            place: if self.compat { hit.chrom } else { Some(hit.place) },
            whole: (hit.start_untrimmed, hit.end_untrimmed),
            motif: hit.motif,
            strand: hit.strand,
            exact: (!self.relaxed).then_some(((hit.start, hit.end), hit.region, hit.peak)),
        }
    }
}

/// Joins lists of hits that share a vocabulary; returns tuples of rows, one of each list, that are the same
/// hit.
///
/// They are in order of the first list, then of the second and so on. A hit that a list has more than once is
/// joined each time.
pub fn intersect(lists: &[&[Instance]], sameness: Sameness) -> Vec<Vec<usize>> {
    let Some((first, rest)) = lists.split_first() else { return Vec::new() };
    let rows_by_key: Vec<_> = rest.iter().map(|list| group(list, |hit| sameness.key(hit))).collect();
    let mut tuples = Vec::new();
    for (row, hit) in first.iter().enumerate() {
        let key = sameness.key(hit);
        let mut found = vec![vec![row]];
        for rows in &rows_by_key {
            let rows = rows.get(&key).map_or(&[][..], Vec::as_slice);
            found = found.iter().flat_map(|tuple| rows.iter().map(|&row| with(tuple, row))).collect();
        }
        tuples.extend(found);
    }
    tuples
}

fn with(tuple: &[usize], row: usize) -> Vec<usize> {
    tuple.iter().copied().chain([row]).collect()
}

/// Returns the rows of each key.
fn group<K: Eq + Hash>(hits: &[Instance], key: impl Fn(&Instance) -> K) -> HashMap<K, Vec<usize>> {
    let mut rows: HashMap<K, Vec<usize>> = HashMap::new();
    for (row, hit) in hits.iter().enumerate() {
        rows.entry(key(hit)).or_default().push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::testing::instance;
    use super::*;

    #[test]
    fn strictness_sees_the_trim_and_the_region() {
        let a = [instance(0, 10, 20, 0.9)];
        let mut b = [instance(0, 10, 20, 0.1), instance(0, 10, 20, 0.2), instance(0, 10, 20, 0.3)];
        b[1].start = 11;
        b[2].region = 7;
        let strict = Sameness::default();
        assert_eq!(intersect(&[&a, &b], strict), [[0, 0]]);
        let relaxed = Sameness { relaxed: true, ..strict };
        assert_eq!(intersect(&[&a, &b], relaxed), [[0, 0], [0, 1], [0, 2]]);
        assert_eq!(intersect(&[&a, &b, &b], relaxed).len(), 9);
        b.iter_mut().for_each(|hit| hit.strand = Strand::Reverse);
        assert!(intersect(&[&a, &b], relaxed).is_empty());
    }

    #[test]
    fn regions_without_coordinates_stay_apart_unless_compat() {
        let mut a = [instance(0, 10, 20, 0.9)];
        let mut b = [instance(1, 10, 20, 0.9)];
        (a[0].chrom, b[0].chrom, b[0].region) = (None, None, 1);
        let relaxed = Sameness { relaxed: true, compat: false };
        assert!(intersect(&[&a, &b], relaxed).is_empty());
        assert_eq!(intersect(&[&a, &b], Sameness { compat: true, ..relaxed }).len(), 1);
    }
}
