//! Peaks of many cell types → windows of one width, each with the cell types that have it, as Basset merges them.

use std::collections::{BTreeMap, BTreeSet};

use crate::region::Strand;

/// A window and who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// First base.
    pub start: i64,
    /// One past the last base.
    pub end: i64,
    /// Indices of the sets that have a peak here.
    pub sets: BTreeSet<usize>,
}

impl Merged {
    fn around(middle: i64, width: i64, length: i64, sets: BTreeSet<usize>) -> Self {
        let start = (middle - width / 2).max(0);
        // A window past the contig's end moves back.
        let start = if start + width > length { length - width } else { start };
        Self { start, end: start + width, sets }
    }

    fn middle(&self) -> i64 {
        self.start + (self.end - self.start) / 2
    }

    /// Merges with the next window, at the mean of their middles, each weighing one more than its sets.
    fn with(&self, next: &Self, width: i64, length: i64) -> Self {
        let weights = [self, next].map(|window| 1 + window.sets.len() as i64);
        let sum = self.middle() * weights[0] + next.middle() * weights[1];
        let middle = (0.5 + sum as f64 / (weights[0] + weights[1]) as f64) as i64;
        Self::around(middle, width, length, self.sets.union(&next.sets).copied().collect())
    }
}

/// First base, one past the last, and the set.
type Peak = (i64, i64, usize);

/// Peaks by contig and strand: their spans and sets.
#[derive(Clone, Debug, Default)]
pub struct Peaks {
    by_contig: BTreeMap<(String, bool), Vec<Peak>>,
}

impl Peaks {
    /// Adds a peak of set number `set`; what has no strand counts as forward.
    pub fn add(&mut self, chrom: &str, start: i64, end: i64, strand: Strand, set: usize) {
        let key = (chrom.to_string(), strand == Strand::Reverse);
        self.by_contig.entry(key).or_default().push((start, end, set));
    }

    /// Returns contigs (by name, forward strand first) with their merged windows in order of their starts.
    ///
    /// A peak becomes `width` bases around its middle. Windows are taken as one cluster while the next begins more than
    /// `overlap` bases before the cluster's end; in it the two neighbours that share most are merged until none share
    /// `overlap` bases. `length` tells the length of a contig; a contig shorter than `width` has no windows.
    pub fn merge(
        self,
        width: i64,
        overlap: i64,
        length: impl Fn(&str) -> Option<i64>,
    ) -> Vec<(String, Strand, Vec<Merged>)> {
        let mut merged = Vec::new();
        for ((chrom, reverse), peaks) in self.by_contig {
            let Some(length) = length(&chrom).filter(|&length| length >= width) else { continue };
            let window = |&(start, end, set): &Peak| {
                Merged::around(start + (end - start) / 2, width, length, BTreeSet::from([set]))
            };
            let mut windows: Vec<Merged> = peaks.iter().map(window).collect();
            windows.sort_by_key(|window| (window.start, window.sets.first().copied()));
            let strand = if reverse { Strand::Reverse } else { Strand::Forward };
            merged.push((chrom, strand, clusters(windows, width, overlap, length)));
        }
        merged
    }
}

fn clusters(windows: Vec<Merged>, width: i64, overlap: i64, length: i64) -> Vec<Merged> {
    let mut merged = Vec::new();
    let mut open: Vec<Merged> = Vec::new();
    for window in windows {
        let end = open.iter().map(|window| window.end).max();
        if end.is_some_and(|end| window.start >= end - overlap) {
            merged.extend(cluster(std::mem::take(&mut open), width, overlap, length));
        }
        open.push(window);
    }
    merged.extend(cluster(open, width, overlap, length));
    merged
}

fn cluster(mut windows: Vec<Merged>, width: i64, overlap: i64, length: i64) -> Vec<Merged> {
    loop {
        let shared = |first: usize| windows[first].end - windows[first + 1].start;
        // Of equal overlaps the first is merged.
        let most = (1..windows.len().saturating_sub(1))
            .fold(0, |most, next| if shared(next) > shared(most) { next } else { most });
        if windows.len() < 2 || shared(most) < overlap {
            return windows;
        }
        windows[most] = windows[most].with(&windows[most + 1], width, length);
        windows.remove(most + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn merge(peaks: &[(i64, i64, usize)]) -> Vec<(i64, i64, Vec<usize>)> {
        let mut all = Peaks::default();
        peaks.iter().for_each(|&(start, end, set)| all.add("chr1", start, end, Strand::Unknown, set));
        let merged = all.merge(101, 30, |_| Some(10_000));
        assert_eq!(merged.len(), 1);
        let row = |window: &Merged| (window.start, window.end, window.sets.iter().copied().collect());
        merged[0].2.iter().map(row).collect()
    }

    #[test]
    fn windows_that_share_enough_become_one_at_their_weighted_middle() {
        // Middles 1000 and 1040 share 61 bases: one window around 1020.
        assert_eq!(merge(&[(990, 1010, 0), (1030, 1050, 1)]), [(970, 1071, vec![0, 1])]);
        // Three of them: 1000 and 1040 first, then 1020 with weight 3 and 1070 with weight 2, int(0.5 + 1040) = 1040.
        assert_eq!(merge(&[(990, 1010, 0), (1030, 1050, 1), (1060, 1080, 2)]).len(), 1);
        // 29 bases are too few.
        assert_eq!(merge(&[(990, 1010, 0), (1062, 1082, 1)]).len(), 2);
    }

    #[test]
    fn windows_at_the_ends_of_a_contig_stay_whole() {
        assert_eq!(merge(&[(0, 10, 0)]), [(0, 101, vec![0])]);
        assert_eq!(merge(&[(9_990, 10_000, 3)]), [(9_899, 10_000, vec![3])]);
    }

    proptest! {
        #[test]
        fn no_set_is_lost_and_no_two_windows_share_enough_to_merge(
            peaks in prop::collection::vec((0i64..9_000, 1i64..400, 0usize..4), 1..60),
        ) {
            let peaks: Vec<_> = peaks.into_iter().map(|(start, width, set)| (start, start + width, set)).collect();
            let merged = merge(&peaks);
            let sets = |all: &mut dyn Iterator<Item = usize>| all.collect::<BTreeSet<usize>>();
            prop_assert_eq!(
                sets(&mut merged.iter().flat_map(|window| window.2.clone())),
                sets(&mut peaks.iter().map(|peak| peak.2))
            );
            prop_assert!(merged.iter().all(|window| window.1 - window.0 == 101));
            prop_assert!(merged.len() <= peaks.len());
        }
    }
}
