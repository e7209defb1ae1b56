//! How hits compare with the seqlets that motifs were made of.

use std::collections::{HashMap, HashSet};

use crate::motif::instance::Instance;
use crate::region::Strand;

/// What makes two instances the same for recall: place, first untrimmed base, motif and strand.
pub type Key = (u32, i64, u32, Strand);

/// Returns the key of an instance.
pub fn key(instance: &Instance) -> Key {
    (instance.place, instance.start_untrimmed, instance.motif, instance.strand)
}

/// Instances of which each key is kept once, the first.
#[derive(Clone, Debug, Default)]
pub struct Unique {
    keys: HashSet<Key>,
    instances: Vec<Instance>,
}

impl Unique {
    /// Adds an instance unless its key is there; returns whether it was new.
    pub fn add(&mut self, instance: &Instance) -> bool {
        let new = self.keys.insert(key(instance));
        if new {
            self.instances.push(*instance);
        }
        new
    }

    /// Returns whether the instance's key is there.
    pub fn has(&self, instance: &Instance) -> bool {
        self.keys.contains(&key(instance))
    }

    /// Returns the instances in the order they were added.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }
}

/// Numbers of one motif.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Distinct hits.
    pub hits: u64,
    /// Distinct hits inside the windows that TF-MoDISco looked at.
    pub restricted: u64,
    /// Distinct seqlets.
    pub seqlets: u64,
    /// Hits of `restricted` that are seqlets.
    pub overlaps: u64,
    /// Seqlets that no hit is.
    pub seqlets_only: u64,
    /// Hits of `restricted` that are no seqlet.
    pub restricted_only: u64,
}

impl Counts {
    /// Returns the share of seqlets that were found; 0 without seqlets.
    pub fn recall(&self) -> f64 {
        if self.seqlets == 0 { 0.0 } else { self.overlaps as f64 / self.seqlets as f64 }
    }
}

/// Counts for each of `motifs` motifs.
pub fn count(motifs: usize, hits: &Unique, restricted: &Unique, seqlets: &Unique) -> Vec<Counts> {
    let mut counts = vec![Counts::default(); motifs];
    for hit in hits.instances() {
        counts[hit.motif as usize].hits += 1;
    }
    for hit in restricted.instances() {
        let counts = &mut counts[hit.motif as usize];
        counts.restricted += 1;
        let both = u64::from(seqlets.has(hit));
        counts.overlaps += both;
        counts.restricted_only += 1 - both;
    }
    for seqlet in seqlets.instances() {
        let counts = &mut counts[seqlet.motif as usize];
        counts.seqlets += 1;
        counts.seqlets_only += u64::from(!hits.has(seqlet));
    }
    counts
}

/// Returns for each motif of seqlets and each motif of hits how many seqlets of the one have a hit of the
/// other on them: at least half of the shorter trimmed span is shared, on either strand. `[motif][motif]`.
pub fn confusion(motifs: usize, hits: &Unique, seqlets: &Unique) -> Vec<Vec<u64>> {
    let mut by_place: HashMap<u32, Vec<&Instance>> = HashMap::new();
    for hit in hits.instances() {
        by_place.entry(hit.place).or_default().push(hit);
    }
    by_place.values_mut().for_each(|hits| hits.sort_by_key(|hit| hit.start));
    let longest = hits.instances().iter().map(|hit| hit.end - hit.start).max().unwrap_or(0);
    let mut counts = vec![vec![0; motifs]; motifs];
    for seqlet in seqlets.instances() {
        let hits = by_place.get(&seqlet.place).map_or(&[][..], Vec::as_slice);
        let first = hits.partition_point(|hit| hit.start < seqlet.start - longest);
        let near = hits[first..].iter().take_while(|hit| hit.start < seqlet.end);
        let found: HashSet<u32> = near.filter(|hit| covers(hit, seqlet)).map(|hit| hit.motif).collect();
        for motif in found {
            counts[seqlet.motif as usize][motif as usize] += 1;
        }
    }
    counts
}

fn covers(a: &Instance, b: &Instance) -> bool {
    let shared = a.end.min(b.end) - a.start.max(b.start);
    2 * shared >= (a.end - a.start).min(b.end - b.start).max(1)
}

/// Returns Fi-NeMo 0.41's counts: pairs of a seqlet and a hit whose untrimmed spans begin in the same bin of
/// `width` bases and end in the same bin.
pub fn finemo_confusion(motifs: usize, width: i64, hits: &Unique, seqlets: &Unique) -> Vec<Vec<u64>> {
    let bins = |instance: &Instance| {
        let bin = |position: i64| position.div_euclid(width.max(1));
        (instance.place, bin(instance.start_untrimmed), bin(instance.end_untrimmed))
    };
    let mut by_bins: HashMap<_, Vec<u32>> = HashMap::new();
    for hit in hits.instances() {
        by_bins.entry(bins(hit)).or_default().push(hit.motif);
    }
    let mut counts = vec![vec![0; motifs]; motifs];
    for seqlet in seqlets.instances() {
        for &motif in by_bins.get(&bins(seqlet)).map_or(&[][..], Vec::as_slice) {
            counts[seqlet.motif as usize][motif as usize] += 1;
        }
    }
    counts
}

/// Returns in how many regions each two motifs occur together, `[motif][motif]`; a region is a list of motifs
/// and their numbers of hits.
pub fn cooccurrence(motifs: usize, regions: &[(u64, Vec<(u32, u64)>)]) -> Vec<Vec<u64>> {
    let mut counts = vec![vec![0; motifs]; motifs];
    for (_, present) in regions {
        for &(a, _) in present {
            for &(b, _) in present {
                counts[a as usize][b as usize] += 1;
            }
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(start: i64, motif: u32, strand: Strand) -> Instance {
        Instance {
            chrom: None,
            place: 0,
            start: start + 2,
            end: start + 8,
            start_untrimmed: start,
            end_untrimmed: start + 10,
            motif,
            strand,
            region: 0,
            peak: None,
            coefficient: 1.0,
            coefficient_global: 1.0,
            similarity: 1.0,
            importance: 1.0,
        }
    }

    fn unique(instances: &[Instance]) -> Unique {
        let mut unique = Unique::default();
        instances.iter().for_each(|instance| _ = unique.add(instance));
        unique
    }

    #[test]
    fn recall_wants_the_same_base_motif_and_strand() {
        let seqlets = unique(&[5, 20, 40, 40].map(|start| instance(start, 0, Strand::Forward)));
        let hits = unique(&[
            instance(5, 0, Strand::Forward),
            instance(21, 0, Strand::Forward),
            instance(40, 0, Strand::Reverse),
            instance(40, 1, Strand::Forward),
        ]);
        let counts = count(2, &hits, &hits, &seqlets);
        let first =
            Counts { hits: 3, restricted: 3, seqlets: 3, overlaps: 1, seqlets_only: 2, restricted_only: 2 };
        assert_eq!(counts[0], first);
        assert_eq!(counts[1].recall(), 0.0);
        // One base beside and the other strand are still on the seqlet.
        assert_eq!(confusion(2, &hits, &seqlets), [[3, 1], [0, 0]]);
    }

    #[test]
    fn a_seqlet_counts_once_and_bins_have_edges() {
        let seqlets = unique(&[instance(9, 0, Strand::Forward)]);
        let hits = unique(&[9, 10, 8].map(|start| instance(start, 0, Strand::Forward)));
        assert_eq!(confusion(1, &hits, &seqlets), [[1]]);
        assert_eq!(finemo_confusion(1, 10, &hits, &seqlets), [[2]]);
    }

    #[test]
    fn motifs_occur_together_in_regions() {
        let regions = [(0, vec![(0, 2), (1, 1)]), (1, vec![(1, 1)]), (2, vec![])];
        assert_eq!(cooccurrence(2, &regions), [[1, 1], [1, 2]]);
    }
}
