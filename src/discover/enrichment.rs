//! Enriched keys: substrings of high-score regions that positive sequences hold more often than negative ones.

use std::collections::HashMap;
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use rayon::prelude::*;

use super::hypergeometric::{LogFactorials, benjamini_hochberg};
use crate::error::{Error, Result};

/// Sequences counted by one task.
const CHUNK: usize = 1024;

/// Where a key lies: half-open, in bases of one positive sequence. Merged keys may reach over its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Index among the positive sequences.
    pub sequence: usize,
    /// First base.
    pub start: i64,
    /// One past the last base.
    pub end: i64,
}

/// A substring that high-score regions consist of.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// The bases.
    pub bases: Vec<u8>,
    /// Where a region is this substring, in order of appearance.
    pub instances: Vec<Instance>,
    /// P(X ≥ x) for x positive sequences holding it among all n that do; no reverse complements.
    pub p_value: f64,
    /// The p-value corrected for all keys by Benjamini and Hochberg.
    pub q_value: f64,
}

/// The different keys so far, in order of first appearance.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    keys: Vec<Key>,
    places: HashMap<Vec<u8>, usize>,
}

impl Keys {
    /// Adds the regions of positive sequence number `sequence`.
    pub fn add(&mut self, sequence: usize, bases: &[u8], regions: &[Range<usize>]) {
        for region in regions {
            let bases = &bases[region.clone()];
            let place = match self.places.get(bases) {
                Some(&place) => place,
                None => {
                    self.places.insert(bases.to_vec(), self.keys.len());
                    self.keys.push(Key {
                        bases: bases.to_vec(),
                        instances: Vec::new(),
                        p_value: 1.0,
                        q_value: 1.0,
                    });
                    self.keys.len() - 1
                }
            };
            let (start, end) = (region.start as i64, region.end as i64);
            self.keys[place].instances.push(Instance { sequence, start, end });
        }
    }

    /// Returns how many different keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns all keys with their p-values.
    ///
    /// # Errors
    ///
    /// When the keys are too many or too long for one automaton.
    pub fn test(self, positives: &[&[u8]], negatives: &[&[u8]]) -> Result<Vec<Key>> {
        let mut keys = self.keys;
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(keys.iter().map(|key| &key.bases))
            .map_err(|error| Error::data(format!("{} regions are too many to count: {error}", keys.len())))?;
        let (with, without) = (holding(&automaton, positives), holding(&automaton, negatives));
        let total = positives.len() + negatives.len();
        let table = LogFactorials::new(total);
        for ((key, &x), &others) in keys.iter_mut().zip(&with).zip(&without) {
            key.p_value = table.upper_tail(x, total, positives.len(), x + others);
        }
        let p_values: Vec<f64> = keys.iter().map(|key| key.p_value).collect();
        for (key, q_value) in keys.iter_mut().zip(benjamini_hochberg(&p_values)) {
            key.q_value = q_value;
        }
        Ok(keys)
    }
}

/// Returns for every key how many of the sequences hold it anywhere.
fn holding(automaton: &AhoCorasick, sequences: &[&[u8]]) -> Vec<usize> {
    let count = automaton.patterns_len();
    let chunk = |sequences: &[&[u8]]| {
        let mut counts = vec![0usize; count];
        let mut last = vec![usize::MAX; count];
        for (index, sequence) in sequences.iter().enumerate() {
            for found in automaton.find_overlapping_iter(sequence) {
                let key = found.pattern().as_usize();
                counts[key] += usize::from(last[key] != index);
                last[key] = index;
            }
        }
        counts
    };
    let add = |mut a: Vec<usize>, b: Vec<usize>| {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        a
    };
    sequences.par_chunks(CHUNK).map(chunk).reduce(|| vec![0; count], add)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sequences() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(prop::sample::select(&b"AC"[..]), 4..10), 1..6)
    }

    proptest! {
        #[test]
        fn keys_are_counted_once_a_sequence(positives in sequences(), negatives in sequences()) {
            let mut keys = Keys::default();
            for (index, bases) in positives.iter().enumerate() {
                keys.add(index, bases, &[0..2, 1..4]);
            }
            let p: Vec<&[u8]> = positives.iter().map(Vec::as_slice).collect();
            let n: Vec<&[u8]> = negatives.iter().map(Vec::as_slice).collect();
            let holds = |set: &[&[u8]], key: &[u8]| {
                set.iter().filter(|bases| bases.windows(key.len()).any(|window| window == key)).count()
            };
            for key in keys.test(&p, &n).unwrap() {
                let (x, others) = (holds(&p, &key.bases), holds(&n, &key.bases));
                let table = LogFactorials::new(p.len() + n.len());
                prop_assert_eq!(key.p_value, table.upper_tail(x, p.len() + n.len(), p.len(), x + others));
                let bases = |at: &Instance| &positives[at.sequence][at.start as usize..at.end as usize];
                let same = key.instances.iter().all(|at| bases(at) == key.bases);
                prop_assert!(same);
            }
        }
    }
}
