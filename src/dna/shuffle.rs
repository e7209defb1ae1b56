//! Exact dinucleotide shuffles: what a sequence is compared with when nothing but its composition shall stay.
//!
//! A sequence is a walk over letters, its dinucleotides are the edges. Every other walk over the same edges with the
//! same ends is a shuffle (Altschul and Erickson 1985): draw the last edge out of each letter until those of all
//! letters lead to the end, shuffle the edges before them, walk.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use super::base_index;

/// Returns `count` shuffles of an upper-case sequence. Each has all its dinucleotides as often, the same first and
/// last base, and its `N` in place: what lies between `N`s is shuffled by itself.
///
/// They depend on the sequence, the seed and their number, on nothing else.
pub fn dinucleotide_shuffles(sequence: &[u8], count: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    hasher.update(sequence);
    let mut random = StdRng::from_seed(hasher.finalize().into());
    (0..count).map(|_| shuffled(sequence, &mut random)).collect()
}

/// Returns `count` shuffles of an upper-case sequence that keep how often each base occurs, and every `N` in place.
///
/// They depend on the sequence, the seed and their number, on nothing else.
pub fn mononucleotide_shuffles(sequence: &[u8], count: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut hasher = Sha256::new();
    hasher.update(b"mononucleotide");
    hasher.update(seed.to_le_bytes());
    hasher.update(sequence);
    let mut random = StdRng::from_seed(hasher.finalize().into());
    let shuffle = |random: &mut StdRng| {
        let known = |base: &&u8| base_index(**base).is_some();
        let mut bases: Vec<u8> = sequence.iter().filter(known).copied().collect();
        bases.shuffle(random);
        let mut bases = bases.into_iter();
        let place =
            |&base: &u8| if base_index(base).is_some() { bases.next().expect("as many") } else { base };
        sequence.iter().map(place).collect()
    };
    (0..count).map(|_| shuffle(&mut random)).collect()
}

fn shuffled(sequence: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut shuffled = sequence.to_vec();
    for run in shuffled.chunk_by_mut(|&a, &b| base_index(a).is_some() && base_index(b).is_some()) {
        if base_index(run[0]).is_some() {
            shuffle_run(run, random);
        }
    }
    shuffled
}

/// Shuffles a sequence of nothing but bases.
fn shuffle_run(run: &mut [u8], random: &mut StdRng) {
    let index = |base: u8| base_index(base).expect("a base");
    let mut edges: [Vec<u8>; 4] = Default::default();
    for pair in run.windows(2) {
        edges[index(pair[0])].push(pair[1]);
    }
    let end = index(run[run.len() - 1]);
    loop {
        for (letter, edges) in edges.iter_mut().enumerate() {
            if letter != end && !edges.is_empty() {
                let (chosen, last) = (random.random_range(0..edges.len()), edges.len() - 1);
                edges.swap(chosen, last);
            }
        }
        if (0..4).all(|letter| reaches(&edges, letter, end)) {
            break;
        }
    }
    for (letter, edges) in edges.iter_mut().enumerate() {
        // All leave the last letter in any order; from the others, the last edge stays the last.
        let free = if letter == end { edges.len() } else { edges.len().saturating_sub(1) };
        edges[..free].shuffle(random);
    }
    let mut next = edges.map(Vec::into_iter);
    let mut letter = index(run[0]);
    for base in &mut run[1..] {
        *base = next[letter].next().expect("a walk over all edges ends at its last letter");
        letter = index(*base);
    }
}

/// Returns whether the last edges lead from a letter to the end; a letter without edges need not.
fn reaches(edges: &[Vec<u8>; 4], letter: usize, end: usize) -> bool {
    let mut at = letter;
    for _ in 0..4 {
        match edges[at].last() {
            _ if at == end => return true,
            None => return at == letter,
            Some(&base) => at = base_index(base).expect("a base"),
        }
    }
    at == end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn dinucleotides(sequence: &[u8]) -> BTreeMap<&[u8], usize> {
        let mut counts = BTreeMap::new();
        sequence.windows(2).for_each(|pair| *counts.entry(pair).or_insert(0) += 1);
        counts
    }

    proptest! {
        #[test]
        fn all_dinucleotides_both_ends_and_every_n_stay(sequence in "[ACGT]{1,80}|[ACGTN]{1,80}|[AC]{1,20}", seed: u64) {
            for shuffle in dinucleotide_shuffles(sequence.as_bytes(), 3, seed) {
                prop_assert_eq!(dinucleotides(&shuffle), dinucleotides(sequence.as_bytes()));
                prop_assert_eq!(shuffle.first(), sequence.as_bytes().first());
                prop_assert_eq!(shuffle.last(), sequence.as_bytes().last());
                for (shuffled, base) in shuffle.iter().zip(sequence.bytes()) {
                    prop_assert_eq!(*shuffled == b'N', base == b'N');
                }
            }
        }
    }

    #[test]
    fn single_bases_are_kept_and_every_n_stays() {
        let sequence = b"ACGTNNACCCGTTTGANCA";
        for shuffle in mononucleotide_shuffles(sequence, 5, 3) {
            for base in *b"ACGTN" {
                let count = |bases: &[u8]| bases.iter().filter(|&&other| other == base).count();
                assert_eq!(count(&shuffle), count(sequence));
            }
            assert!(shuffle.iter().zip(sequence).all(|(a, b)| (*a == b'N') == (*b == b'N')));
        }
        assert_ne!(mononucleotide_shuffles(sequence, 1, 3), mononucleotide_shuffles(sequence, 1, 4));
    }

    #[test]
    fn every_walk_is_as_likely_as_every_other() {
        // All walks over these edges, by trying every order of the bases between the ends.
        let sequence = b"AACAGACCA";
        let mut walks = BTreeMap::new();
        for shuffle in dinucleotide_shuffles(sequence, 20_000, 7) {
            *walks.entry(shuffle).or_insert(0) += 1;
        }
        let mut expected = std::collections::BTreeSet::new();
        for code in 0..4usize.pow(7) {
            let middle = (0..7).map(|place| super::super::BASES[code / 4usize.pow(place) % 4]);
            let walk: Vec<u8> = [b'A'].into_iter().chain(middle).chain([b'A']).collect();
            if dinucleotides(&walk) == dinucleotides(sequence) {
                expected.insert(walk);
            }
        }
        assert_eq!(walks.keys().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
        let mean = 20_000.0 / expected.len() as f64;
        for (walk, count) in walks {
            // Six standard deviations.
            assert!((f64::from(count) - mean).abs() < 6.0 * mean.sqrt(), "{walk:?}: {count} of {mean}");
        }
    }

    #[test]
    fn another_seed_or_base_gives_another_shuffle_and_the_same_the_same() {
        let sequence = b"ACGTTGCAACGGTACCATGCATGCCGTA";
        let shuffles = dinucleotide_shuffles(sequence, 2, 1);
        assert_eq!(shuffles, dinucleotide_shuffles(sequence, 2, 1));
        assert_eq!(shuffles[..1], dinucleotide_shuffles(sequence, 1, 1));
        assert_ne!(shuffles[0], shuffles[1]);
        assert_ne!(shuffles, dinucleotide_shuffles(sequence, 2, 2));
        assert!(dinucleotide_shuffles(b"", 1, 0)[0].is_empty());
    }
}
