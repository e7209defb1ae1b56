//! Merging patterns that are the same motif.
//!
//! Two patterns are alike when their mean contributions correlate and when the seqlets of one are as similar to those of
//! the other as among themselves ("contamination", 2 (1 − AUROC) of telling the two kinds of pairs apart).

use std::collections::{BTreeSet, HashMap};

use rayon::prelude::*;

use super::align::{Measure, correlate, merge_in};
use super::jaccard::Profile;
use super::modisco::Settings;
use super::pattern::Pattern;
use super::tracks::{Seqlet, Tracks};
use crate::demo::random::SplitMix;

/// Pairs of contamination and similarity; both at least these: merge.
const MERGE: [(f64, f64); 3] = [(0.8, 0.8), (0.5, 0.85), (0.2, 0.9)];
/// Both at most one of these, between any two that would come together: do not.
const KEEP_APART: [(f64, f64); 4] = [(0.4, 0.75), (0.2, 0.8), (0.1, 0.85), (0.0, 0.9)];

/// What merging needs besides the patterns.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The examples.
    pub tracks: &'a Tracks,
    /// Overlaps and widths.
    pub settings: &'a Settings,
    /// Frequencies of the bases in the seqlets.
    pub background: [f64; 4],
}

/// A pattern with the number that it is known by: what was computed of a pair stays right while both live.
#[derive(Clone)]
struct Numbered {
    number: usize,
    pattern: Pattern,
}

/// Merges patterns until none are alike, those of most seqlets first.
pub fn collapse(context: Context, patterns: Vec<Pattern>) -> Vec<Pattern> {
    let mut numbers = 0..;
    let mut next = || numbers.next().expect("there is always another number");
    let mut patterns: Vec<Numbered> =
        patterns.into_iter().map(|pattern| Numbered { number: next(), pattern }).collect();
    let mut known = Known { context, similarities: HashMap::new(), contaminations: HashMap::new() };
    loop {
        let pairs = pairs_to_merge(&mut known, &patterns);
        let before: Vec<usize> = patterns.iter().map(|pattern| pattern.number).collect();
        for (i, j) in pairs {
            merge_pair(context, &mut patterns, i, j, &mut next);
        }
        if patterns.iter().map(|pattern| pattern.number).eq(before) {
            return patterns.into_iter().map(|numbered| numbered.pattern).collect();
        }
        patterns.sort_by_key(|numbered| std::cmp::Reverse(numbered.pattern.seqlets().len()));
        let mut seen = BTreeSet::new();
        patterns.retain(|numbered| seen.insert(numbered.number));
    }
}

/// Returns the pairs of indices that are alike, the most similar first, as long as all that would come together may.
fn pairs_to_merge(known: &mut Known, patterns: &[Numbered]) -> Vec<(usize, usize)> {
    known.measure(patterns);
    let mut pairs: Vec<(usize, usize, f64)> = Vec::new();
    for i in 0..patterns.len() {
        pairs.extend((i + 1..patterns.len()).map(|j| (i, j, known.similarity(&patterns[i], &patterns[j]))));
    }
    pairs.sort_by(|a, b| b.2.total_cmp(&a.2));
    let mut partners: Vec<BTreeSet<usize>> =
        (0..patterns.len()).map(|index| BTreeSet::from([index])).collect();
    let mut merging = Vec::new();
    for (i, j, similarity) in pairs {
        if !known.alike(&patterns[i], &patterns[j], similarity) {
            continue;
        }
        let together: BTreeSet<usize> = partners[i].union(&partners[j]).copied().collect();
        let pairs = together.iter().flat_map(|&a| together.range(a + 1..).map(move |&b| (a, b)));
        if pairs.into_iter().any(|(a, b)| known.apart(&patterns[a], &patterns[b])) {
            continue;
        }
        merging.push((i, j));
        for &index in &together {
            partners[index].clone_from(&together);
        }
    }
    merging
}

/// Merges the smaller of two patterns into the larger one, and puts the result in all places of either.
fn merge_pair(
    context: Context,
    patterns: &mut [Numbered],
    i: usize,
    j: usize,
    next: &mut impl FnMut() -> usize,
) {
    let (first, second) = (&patterns[i], &patterns[j]);
    if first.number == second.number {
        return;
    }
    let smaller_first = first.pattern.seqlets().len() < second.pattern.seqlets().len();
    let (parent, child) = if smaller_first { (second, first) } else { (first, second) };
    let Context { tracks, settings, background } = context;
    let seqlets = child.pattern.seqlets();
    let merged = merge_in(tracks, &parent.pattern, seqlets, Measure::Correlation, settings.min_overlap);
    let Some(pattern) = merged.polished(tracks, settings.trim, settings.flank, background) else { return };
    let old = [parent.number, child.number];
    let merged = Numbered { number: next(), pattern };
    for place in patterns.iter_mut().filter(|place| old.contains(&place.number)) {
        *place = merged.clone();
    }
}

/// What is known of pairs of patterns, by their numbers.
struct Known<'a> {
    context: Context<'a>,
    similarities: HashMap<(usize, usize), f64>,
    contaminations: HashMap<(usize, usize), f64>,
}

impl Known<'_> {
    /// Computes the similarities of all pairs that are not known.
    fn measure(&mut self, patterns: &[Numbered]) {
        let matrices: Vec<_> = patterns.iter().map(|numbered| numbered.pattern.contributions()).collect();
        let pairs = (0..patterns.len()).flat_map(|i| (0..patterns.len()).map(move |j| (i, j)));
        let key = |i: usize, j: usize| (patterns[i].number, patterns[j].number);
        let missing: Vec<(usize, usize)> =
            pairs.filter(|&(i, j)| i != j && !self.similarities.contains_key(&key(i, j))).collect();
        let min_overlap = self.context.settings.min_overlap;
        let similarity = |&(i, j): &(usize, usize)| {
            (key(i, j), correlate(&matrices[i], &matrices[j], min_overlap).similarity)
        };
        self.similarities.extend(missing.par_iter().map(similarity).collect::<Vec<_>>());
    }

    /// Returns the similarity of two patterns, the mean of laying either on the other.
    fn similarity(&self, a: &Numbered, b: &Numbered) -> f64 {
        let one = |a: &Numbered, b: &Numbered| self.similarities[&(a.number, b.number)];
        0.5 * (one(a, b) + one(b, a))
    }

    fn contamination(&mut self, a: &Numbered, b: &Numbered) -> f64 {
        let context = self.context;
        let compute = || contamination(context, &a.pattern, &b.pattern);
        *self.contaminations.entry((a.number, b.number)).or_insert_with(compute)
    }

    /// Returns whether two patterns are to be merged.
    fn alike(&mut self, a: &Numbered, b: &Numbered, similarity: f64) -> bool {
        // Contamination costs much, and below the least similarity it does not matter.
        if MERGE.iter().all(|&(_, least)| similarity < least) {
            return false;
        }
        let contamination = self.contamination(a, b).min(self.contamination(b, a));
        MERGE.iter().any(|&(least, alike)| contamination >= least && similarity >= alike)
    }

    /// Returns whether two patterns must not come together.
    fn apart(&mut self, a: &Numbered, b: &Numbered) -> bool {
        let similarity = self.similarity(a, b);
        if KEEP_APART.iter().all(|&(_, most)| similarity > most) {
            return false;
        }
        let contamination = 0.5 * (self.contamination(a, b) + self.contamination(b, a));
        KEEP_APART.iter().any(|&(most, alike)| contamination <= most && similarity <= alike)
    }
}

/// Returns how badly pairs between the seqlets of two patterns are told from pairs within the first.
fn contamination(context: Context, pattern: &Pattern, other: &Pattern) -> f64 {
    let Context { tracks, settings, .. } = context;
    let alignment = correlate(&pattern.contributions(), &other.contributions(), settings.min_overlap);
    let onto = |seqlet: Seqlet| {
        let seqlet = if alignment.reverse { seqlet.flipped() } else { seqlet };
        let right = pattern.width() as i64 - seqlet.width() as i64 - alignment.offset;
        seqlet.grown(alignment.offset, right, tracks.length(&seqlet))
    };
    let profile = |seqlet: Seqlet| Profile::of(tracks, &seqlet);
    let own: Vec<Profile> = sample(pattern.seqlets(), settings.sample).into_iter().map(profile).collect();
    let others: Vec<Profile> =
        sample(other.seqlets(), settings.sample).into_iter().filter_map(onto).map(profile).collect();
    if others.is_empty() {
        return 1.0;
    }
    let auroc = auroc(&similarities(&own, &own), &similarities(&own, &others));
    2.0 * (1.0 - auroc.max(0.5))
}

/// Returns `count` of the seqlets, drawn without replacement and in their order; all where there are no more.
fn sample(seqlets: &[Seqlet], count: usize) -> Vec<Seqlet> {
    let mut random = SplitMix::new(seqlets.len() as u64);
    let mut wanted = count;
    let mut taken = Vec::new();
    for (index, seqlet) in seqlets.iter().enumerate() {
        let left = seqlets.len() - index;
        if wanted >= left || random.below(left) < wanted {
            taken.push(*seqlet);
            wanted -= 1;
        }
        if wanted == 0 {
            break;
        }
    }
    taken
}

/// Returns the similarities of all pairs, sorted.
fn similarities(a: &[Profile], b: &[Profile]) -> Vec<f32> {
    let row = |a: &Profile| b.iter().map(|b| a.similarity(b, 0)).collect::<Vec<f32>>();
    let mut all: Vec<f32> = a.par_iter().flat_map_iter(row).collect();
    all.par_sort_unstable_by(f32::total_cmp);
    all
}

/// Returns the probability that one of `positive` is larger than one of `negative`, half where they are equal; both
/// sorted.
fn auroc(positive: &[f32], negative: &[f32]) -> f64 {
    let (mut below, mut up_to) = (0, 0);
    let mut twice = 0u64;
    for value in positive {
        while below < negative.len() && negative[below] < *value {
            below += 1;
        }
        while up_to < negative.len() && negative[up_to] <= *value {
            up_to += 1;
        }
        twice += (below + up_to) as u64;
    }
    twice as f64 / (2.0 * positive.len() as f64 * negative.len() as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_auroc_counts_pairs(
            positive in prop::collection::vec((0u8..6).prop_map(f32::from), 1..12),
            negative in prop::collection::vec((0u8..6).prop_map(f32::from), 1..12),
        ) {
            let pairs = || positive.iter().flat_map(|p| negative.iter().map(move |n| (p, n)));
            let won = pairs().filter(|(p, n)| p > n).count() as f64 + 0.5 * pairs().filter(|(p, n)| p == n).count() as f64;
            let sorted = |mut values: Vec<f32>| {
                values.sort_by(f32::total_cmp);
                values
            };
            let expected = won / pairs().count() as f64;
            prop_assert!((auroc(&sorted(positive.clone()), &sorted(negative.clone())) - expected).abs() < 1e-12);
        }

        #[test]
        fn a_sample_is_of_its_size_in_order_and_the_same_each_time(count in 0usize..40, wanted in 1usize..30) {
            let seqlet = |start| Seqlet { example: 0, start, end: start + 1, reverse: false };
            let all: Vec<Seqlet> = (0..count).map(seqlet).collect();
            let taken = sample(&all, wanted);
            prop_assert_eq!(taken.len(), wanted.min(count));
            prop_assert!(taken.windows(2).all(|pair| pair[0].start < pair[1].start));
            prop_assert_eq!(&sample(&all, wanted), &taken);
        }
    }
}
