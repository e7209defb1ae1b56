//! Which of overlapping hits to keep.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use super::Instance;

/// Returns for each hit whether it is primary: the most similar of those it overlaps, after weaker rivals
/// have fallen to stronger ones (greedy non-maximum suppression).
///
/// Hits of x and y bases overlap when they lie in one place and share at least `fraction`·(x+y)/2 bases, and
/// at least one. Of equally similar hits the one with the larger coefficient wins, then the first by start,
/// end, motif, strand and row; so the outcome does not depend on the order of the rows unless two agree in
/// all of these.
pub fn greedy(hits: &[Instance], fraction: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..hits.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b, rows) = (&hits[a], &hits[b], a.cmp(&b));
        let rank = |hit: &Instance| (hit.start, hit.end, hit.motif, hit.strand.as_str());
        (b.similarity.total_cmp(&a.similarity))
            .then(b.coefficient.total_cmp(&a.coefficient))
            .then_with(|| rank(a).cmp(&rank(b)))
            .then(rows)
    });
    let mut kept: HashMap<u32, Kept> = HashMap::new();
    let mut primary = vec![false; hits.len()];
    for row in order {
        let place = kept.entry(hits[row].place).or_default();
        if !place.overlaps(&hits[row], fraction) {
            place.keep(&hits[row]);
            primary[row] = true;
        }
    }
    primary
}

/// The spans that are kept in one place.
#[derive(Default)]
struct Kept {
    /// Ends by start.
    spans: BTreeMap<i64, Vec<i64>>,
    longest: i64,
}

impl Kept {
    fn overlaps(&self, hit: &Instance, fraction: f64) -> bool {
        let near = self.spans.range(hit.start - self.longest..hit.end);
        near.flat_map(|(&start, ends)| ends.iter().map(move |&end| (start, end)))
            .any(|span| overlap((hit.start, hit.end), span, fraction))
    }

    fn keep(&mut self, hit: &Instance) {
        self.spans.entry(hit.start).or_default().push(hit.end);
        self.longest = self.longest.max(hit.end - hit.start);
    }
}

fn overlap(a: (i64, i64), b: (i64, i64), fraction: f64) -> bool {
    let shared = a.1.min(b.1) - a.0.max(b.0);
    let mean = ((a.1 - a.0) + (b.1 - b.0)) as f64 / 2.0;
    // What is exactly the fraction overlaps, though 0.2 is a little more than a fifth in binary.
    shared > 0 && shared as f64 >= fraction * mean * (1.0 - 4.0 * f64::EPSILON)
}

/// Returns what Fi-NeMo 0.41 calls primary, which is the *least* similar of overlapping hits.
///
/// Its sweep goes in row order over spans shortened by d = ⌊`fraction`·length⌋, in half bases: a = 2·start +
/// d to b = 2·end − d. A new hit meets all before it whose b is not below its a; the more similar of the two
/// falls, the older one when they are equal. Contigs count in order of first appearance, and all regions
/// without one are one contig.
pub fn finemo(hits: &[Instance], fraction: f64) -> Vec<bool> {
    let mut chroms: HashMap<Option<u32>, usize> = HashMap::new();
    let mut open: BinaryHeap<Reverse<(usize, i64, usize)>> = BinaryHeap::new();
    let mut primary = vec![true; hits.len()];
    for (row, hit) in hits.iter().enumerate() {
        let next = chroms.len();
        let chrom = *chroms.entry(hit.chrom).or_insert(next);
        let margin = ((hit.end - hit.start) as f64 * fraction) as i64;
        let (from, to) = (2 * hit.start + margin, 2 * hit.end - margin);
        while open.peek().is_some_and(|Reverse((other, to, _))| (*other, *to) < (chrom, from)) {
            open.pop();
        }
        for Reverse((.., other)) in &open {
            let falls = if hit.similarity > hits[*other].similarity { row } else { *other };
            primary[falls] = false;
        }
        open.push(Reverse((chrom, to, row)));
    }
    primary
}

#[cfg(test)]
mod tests {
    use super::super::testing::instance;
    use super::*;
    use proptest::prelude::*;

    /// The definition: walk down the ranking, keep what overlaps nothing kept.
    fn naive(hits: &[Instance], fraction: f64) -> Vec<bool> {
        let mut order: Vec<usize> = (0..hits.len()).collect();
        order.sort_by(|&a, &b| {
            (hits[b].similarity.total_cmp(&hits[a].similarity))
                .then(hits[a].start.cmp(&hits[b].start))
                .then(hits[a].end.cmp(&hits[b].end))
                .then(a.cmp(&b))
        });
        let mut kept: Vec<usize> = Vec::new();
        for row in order {
            let shares = |&other: &usize| {
                let (a, b) = (&hits[row], &hits[other]);
                let bases = (a.start..a.end).filter(|base| (b.start..b.end).contains(base)).count();
                let lengths = (a.end - a.start + b.end - b.start) as f64;
                a.place == b.place && bases > 0 && 2.0 * bases as f64 >= fraction * lengths - 1e-9
            };
            if !kept.iter().any(shares) {
                kept.push(row);
            }
        }
        (0..hits.len()).map(|row| kept.contains(&row)).collect()
    }

    #[test]
    fn the_ends_of_a_chain_survive_when_the_middle_falls() {
        // A beats B, B would beat C, A and C do not touch.
        let hits = [instance(0, 0, 10, 0.9), instance(0, 6, 16, 0.8), instance(0, 12, 22, 0.7)];
        assert_eq!(greedy(&hits, 0.2), [true, false, true]);
    }

    #[test]
    fn exactly_the_fraction_is_an_overlap() {
        let hits = [instance(0, 0, 10, 0.9), instance(0, 8, 18, 0.8), instance(0, 17, 27, 0.7)];
        assert_eq!(greedy(&hits, 0.2), [true, false, true]);
        assert_eq!(greedy(&hits, 0.1), [true, false, true]);
        assert_eq!(greedy(&hits[1..], 0.2), [true, true]);
    }

    #[test]
    fn regions_without_coordinates_do_not_meet() {
        let mut hits = [instance(0, 0, 10, 0.9), instance(1, 0, 10, 0.8)];
        hits.iter_mut().for_each(|hit| hit.chrom = None);
        assert_eq!(greedy(&hits, 0.2), [true, true]);
        assert_eq!(finemo(&hits, 0.2), [false, true]);
    }

    proptest! {
        #[test]
        fn greedy_is_its_definition(
            spans in prop::collection::vec((0u32..2, 0i64..60, 1i64..15, 0u8..6), 0..40),
            tenths in 0u8..=10,
        ) {
            let hit = |&(place, start, length, rank): &(u32, i64, i64, u8)| {
                instance(place, start, start + length, f32::from(rank) / 8.0)
            };
            let hits: Vec<Instance> = spans.iter().map(hit).collect();
            let fraction = f64::from(tenths) / 10.0;
            prop_assert_eq!(greedy(&hits, fraction), naive(&hits, fraction));
        }
    }
}
