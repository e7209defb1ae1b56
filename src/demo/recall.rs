//! How well hits agree with what was planted.

use super::genome::Instance;

/// Bases by which a hit may lie beside the planted instance; hits are trimmed to a motif's strong part.
const SLACK: usize = 3;

/// Agreement of the hits of one motif with the planted instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// The motif's name.
    pub motif: String,
    /// Planted instances.
    pub planted: usize,
    /// Planted instances that a hit found.
    pub found: usize,
    /// Hits.
    pub hits: usize,
    /// Hits that lie on a planted instance of their motif and strand.
    pub right: usize,
}

impl Agreement {
    /// Returns the share of the planted instances that was found; 1 when none was planted.
    pub fn recall(&self) -> f64 {
        if self.planted == 0 { 1.0 } else { self.found as f64 / self.planted as f64 }
    }

    /// Returns the share of the hits that is right; 1 when there are no hits.
    pub fn precision(&self) -> f64 {
        if self.hits == 0 { 1.0 } else { self.right as f64 / self.hits as f64 }
    }
}

/// Compares hits with planted instances, one line per name in `motifs`.
///
/// A hit is right when an instance of its motif and strand holds it, give or take a few bases.
pub fn compare(motifs: &[String], planted: &[Instance], hits: &[Instance]) -> Vec<Agreement> {
    let agreement = |motif: &String| {
        let planted: Vec<_> = planted.iter().filter(|instance| instance.motif == *motif).collect();
        let hits: Vec<_> = hits.iter().filter(|hit| hit.motif == *motif).collect();
        Agreement {
            motif: motif.clone(),
            planted: planted.len(),
            found: planted.iter().filter(|instance| hits.iter().any(|hit| holds(instance, hit))).count(),
            hits: hits.len(),
            right: hits.iter().filter(|hit| planted.iter().any(|instance| holds(instance, hit))).count(),
        }
    };
    motifs.iter().map(agreement).collect()
}

/// Returns the sums over all motifs, under the name `all`.
pub fn total(agreements: &[Agreement]) -> Agreement {
    let mut all = Agreement { motif: "all".into(), ..Agreement::default() };
    for one in agreements {
        all.planted += one.planted;
        all.found += one.found;
        all.hits += one.hits;
        all.right += one.right;
    }
    all
}

fn holds(instance: &Instance, hit: &Instance) -> bool {
    instance.chrom == hit.chrom
        && instance.strand == hit.strand
        && instance.start <= hit.start + SLACK
        && hit.end <= instance.end + SLACK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::Strand;

    fn instance(start: usize, motif: &str, strand: Strand) -> Instance {
        Instance { chrom: "c".into(), start, end: start + 10, motif: motif.into(), strand }
    }

    #[test]
    fn a_hit_on_the_other_strand_or_of_another_motif_is_wrong() {
        let planted = [instance(100, "A", Strand::Forward), instance(200, "A", Strand::Forward)];
        let hits = [
            instance(102, "A", Strand::Forward),
            instance(200, "A", Strand::Reverse),
            instance(200, "B", Strand::Forward),
            instance(300, "A", Strand::Forward),
        ];
        let agreements = compare(&["A".into(), "B".into()], &planted, &hits);
        let a = Agreement { motif: "A".into(), planted: 2, found: 1, hits: 3, right: 1 };
        let b = Agreement { motif: "B".into(), planted: 0, found: 0, hits: 1, right: 0 };
        assert_eq!(agreements, [a, b]);
        let all = total(&agreements);
        assert_eq!((all.planted, all.found, all.hits, all.right), (2, 1, 4, 1));
        assert_eq!((all.recall(), all.precision()), (0.5, 0.25));
    }
}
