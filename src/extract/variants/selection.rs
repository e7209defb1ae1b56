//! Which records are asked for: regions of contigs.

use std::collections::HashMap;

use crate::region::Region;

/// Regions, merged by contig; without any, all of the genome.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    regions: Option<HashMap<String, Vec<(i64, i64)>>>,
}

impl Selection {
    /// Creates a selection of `regions`; an empty list selects nothing, `None` everything.
    ///
    /// A region from the first base without an end is the whole contig, its telomeres included.
    pub fn new(regions: Option<&[Region]>) -> Self {
        let regions = regions.map(|regions| {
            let mut contigs: HashMap<String, Vec<(i64, i64)>> = HashMap::new();
            for Region { chrom, start, end } in regions {
                let whole = *start == 0 && *end == i64::MAX;
                let start = if whole { i64::MIN } else { *start };
                contigs.entry(chrom.clone()).or_default().push((start, *end));
            }
            contigs.values_mut().for_each(merge);
            contigs
        });
        Self { regions }
    }

    /// Returns whether everything is selected.
    pub fn is_everything(&self) -> bool {
        self.regions.is_none()
    }

    /// Returns whether a region overlaps `[start, end)` of a contig.
    pub fn overlaps(&self, chrom: &str, start: i64, end: i64) -> bool {
        let Some(contigs) = &self.regions else { return true };
        let Some(regions) = contigs.get(chrom) else { return false };
        let next = regions.partition_point(|&(_, last)| last <= start);
        regions.get(next).is_some_and(|&(first, _)| first < end)
    }

    /// Returns a selection of these regions and of `bases` bases on either side of each.
    pub fn widened(&self, bases: i64) -> Self {
        let mut wide = self.clone();
        for regions in wide.regions.iter_mut().flat_map(HashMap::values_mut) {
            for (start, end) in regions.iter_mut() {
                *start = start.saturating_sub(bases);
                *end = end.saturating_add(bases);
            }
            merge(regions);
        }
        wide
    }

    /// Returns whether one region holds all of `[start, end)` of a contig.
    pub fn holds(&self, chrom: &str, start: i64, end: i64) -> bool {
        let Some(contigs) = &self.regions else { return true };
        let regions = contigs.get(chrom).map(Vec::as_slice).unwrap_or_default();
        regions.iter().any(|&(first, last)| first <= start && end <= last)
    }

    /// Returns the selected intervals by contig.
    pub fn contigs(&self) -> impl Iterator<Item = (&str, &[(i64, i64)])> {
        let contigs = self.regions.iter().flatten();
        contigs.map(|(chrom, regions)| (chrom.as_str(), regions.as_slice()))
    }
}

/// Sorts intervals and joins those that touch.
fn merge(regions: &mut Vec<(i64, i64)>) {
    regions.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::with_capacity(regions.len());
    for &(start, end) in regions.iter() {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    *regions = merged;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn widened_regions_join_and_hold_what_lies_in_one_of_them() {
        let region = |start, end| Region { chrom: "c".into(), start, end };
        let wide = Selection::new(Some(&[region(10, 20), region(30, 40), region(90, 95)])).widened(5);
        assert!(wide.holds("c", 5, 45) && wide.holds("c", 85, 100));
        assert!(!wide.holds("c", 4, 20) && !wide.holds("c", 40, 90) && !wide.holds("d", 5, 6));
        assert!(Selection::new(None).widened(5).holds("d", 1, 2));
    }

    proptest! {
        #[test]
        fn an_interval_is_selected_when_it_overlaps_any_region(
            regions in prop::collection::vec((0i64..60, 1i64..20), 0..6),
            start in -3i64..70,
            length in 1i64..15,
        ) {
            let end = start + length;
            let naive = regions.iter().any(|&(first, size)| first < end && start < first + size);
            let regions: Vec<_> = regions
                .iter()
                .map(|&(start, size)| Region { chrom: "c".into(), start, end: start + size })
                .collect();
            let selection = Selection::new(Some(&regions));
            prop_assert_eq!(selection.overlaps("c", start, end), naive);
            prop_assert!(!selection.overlaps("d", start, end));
            prop_assert!(Selection::new(None).overlaps("d", start, end));
        }
    }

    #[test]
    fn a_whole_contig_has_its_telomeres() {
        let selection = Selection::new(Some(&["c".parse().unwrap()]));
        assert!(selection.overlaps("c", -1, 0));
    }
}
