//! Gapped k-mers of seqlets: a coarse similarity that needs no alignment.
//!
//! A gapped k-mer is k of the most important positions of a seqlet with the bases there and the distances between
//! them. A seqlet is the vector of the mean contributions of its gapped k-mers, of which the largest stay.

use std::cmp::Ordering;

use rayon::prelude::*;

use super::tracks::{Position, Seqlet, Tracks};

/// How gapped k-mers are made; TF-MoDISco's numbers.
const TOP_POSITIONS: usize = 20;
const SHORTEST: usize = 4;
const LONGEST: usize = 6;
const SPAN: usize = 15;
const KEPT: usize = 500;

/// A sparse vector of unit length: gapped k-mers in ascending order, and their values.
pub type Sparse = Vec<(u64, f32)>;

/// A position that gapped k-mers are made of.
#[derive(Clone, Copy)]
struct Letter {
    at: usize,
    base: u64,
    value: f64,
}

/// The beginning of gapped k-mers from one position: last letter, sum of contributions, code.
type Begun = Vec<(usize, f64, u64)>;

/// Returns the vector of a seqlet; contributions count with `sign`.
pub fn vector(tracks: &Tracks, seqlet: &Seqlet, sign: f64) -> Sparse {
    let letters = letters(tracks.positions(seqlet), sign);
    let mut kmers = enumerate(&letters);
    sum_equal(&mut kmers);
    if kmers.len() > KEPT {
        let larger = |a: &(u64, f64), b: &(u64, f64)| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0));
        kmers.select_nth_unstable_by(KEPT - 1, larger);
        kmers.truncate(KEPT);
        kmers.sort_unstable_by_key(|&(code, _)| code);
    }
    let norm = kmers.iter().map(|(_, value)| value * value).sum::<f64>().sqrt();
    let unit = |(code, value)| (norm > 0.0 && value != 0.0).then_some((code, (value / norm) as f32));
    kmers.into_iter().filter_map(unit).collect()
}

/// Returns the most important positions, in order.
fn letters(positions: impl Iterator<Item = Position>, sign: f64) -> Vec<Letter> {
    let letter = |(at, position): (usize, Position)| Letter {
        at,
        base: position.base.unwrap_or(0) as u64,
        value: sign * f64::from(position.contribution()),
    };
    let mut letters: Vec<Letter> = positions.enumerate().map(letter).collect();
    letters.sort_by(|a, b| b.value.total_cmp(&a.value));
    letters.truncate(TOP_POSITIONS);
    letters.sort_by_key(|letter| letter.at);
    letters
}

/// Returns all gapped k-mers with their mean contributions, each as often as it occurs. A code is a number in base 5
/// whose digits are the bases (1 to 4) at their distances from the first position, 0 in gaps.
fn enumerate(letters: &[Letter]) -> Vec<(u64, f64)> {
    let mut kmers = Vec::new();
    for (first, start) in letters.iter().enumerate() {
        let mut begun: Begun = vec![(first, start.value, start.base + 1)];
        for k in 2..=LONGEST {
            begun = longer(letters, first, &begun);
            if k >= SHORTEST {
                kmers.extend(begun.iter().map(|&(_, sum, code)| (code, sum / k as f64)));
            }
        }
    }
    kmers
}

/// Adds every later letter within reach to every beginning.
fn longer(letters: &[Letter], first: usize, begun: &Begun) -> Begun {
    let mut next = Begun::new();
    for &(last, sum, code) in begun {
        for (index, letter) in letters.iter().enumerate().skip(last + 1) {
            let distance = letter.at - letters[first].at;
            if distance >= SPAN {
                break;
            }
            next.push((index, sum + letter.value, code + (letter.base + 1) * 5u64.pow(distance as u32)));
        }
    }
    next
}

/// Sorts by code and adds up the values of equal ones.
fn sum_equal(kmers: &mut Vec<(u64, f64)>) {
    kmers.sort_by_key(|&(code, _)| code);
    kmers.dedup_by(|later, first| {
        let equal = later.0 == first.0;
        if equal {
            first.1 += later.1;
        }
        equal
    });
}

/// For each of `forward`, the `count` vectors of largest cosine to it, on the strand that is nearer, largest first,
/// then by index: index and cosine. `reverse` holds the vectors of the other strands.
pub fn nearest(forward: &[Sparse], reverse: &[Sparse], count: usize) -> Vec<Vec<(u32, f64)>> {
    let (forward_postings, reverse_postings) = (Postings::new(forward), Postings::new(reverse));
    let row = |vector: &Sparse| {
        let mut cosines = forward_postings.products(vector);
        for (cosine, other) in cosines.iter_mut().zip(reverse_postings.products(vector)) {
            *cosine = cosine.max(other);
        }
        largest(&cosines, count)
    };
    forward.par_iter().map(row).collect()
}

/// Returns the indices and values of the `count` largest, largest first, of equal ones the first.
pub fn largest(values: &[f64], count: usize) -> Vec<(u32, f64)> {
    let order =
        |a: &u32, b: &u32| -> Ordering { values[*b as usize].total_cmp(&values[*a as usize]).then(a.cmp(b)) };
    let mut indices: Vec<u32> = (0..values.len() as u32).collect();
    if count < indices.len() {
        indices.select_nth_unstable_by(count, order);
        indices.truncate(count);
    }
    indices.sort_unstable_by(order);
    indices.into_iter().map(|index| (index, values[index as usize])).collect()
}

/// The vectors that hold each code, with their values.
struct Postings {
    codes: Vec<u64>,
    starts: Vec<usize>,
    entries: Vec<(u32, f32)>,
    vectors: usize,
}

impl Postings {
    fn new(vectors: &[Sparse]) -> Self {
        let mut all: Vec<(u64, u32, f32)> = Vec::new();
        for (index, vector) in vectors.iter().enumerate() {
            all.extend(vector.iter().map(|&(code, value)| (code, index as u32, value)));
        }
        all.par_sort_unstable_by_key(|&(code, index, _)| (code, index));
        let (mut codes, mut starts) = (Vec::new(), Vec::new());
        for (place, &(code, ..)) in all.iter().enumerate() {
            if codes.last() != Some(&code) {
                codes.push(code);
                starts.push(place);
            }
        }
        starts.push(all.len());
        let entries = all.into_iter().map(|(_, index, value)| (index, value)).collect();
        Self { codes, starts, entries, vectors: vectors.len() }
    }

    /// Returns the inner products of a vector with all.
    fn products(&self, vector: &Sparse) -> Vec<f64> {
        let mut products = vec![0.0; self.vectors];
        for &(code, value) in vector {
            let Ok(place) = self.codes.binary_search(&code) else { continue };
            for &(index, other) in &self.entries[self.starts[place]..self.starts[place + 1]] {
                products[index as usize] += f64::from(value) * f64::from(other);
            }
        }
        products
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tracks::Example;
    use super::*;

    fn tracks(sequence: &[u8], values: &[f32]) -> Tracks {
        let mut hypothetical = vec![0.0; 4 * sequence.len()];
        for (i, &base) in sequence.iter().enumerate() {
            let row = b"ACGT".iter().position(|&other| other == base).unwrap();
            hypothetical[row * sequence.len() + i] = values[i];
        }
        Tracks { examples: vec![Example::new(0, sequence, &hypothetical)] }
    }

    /// All subsets of four to six letters that span less than fifteen positions.
    fn naive(letters: &[Letter]) -> Vec<(u64, f64)> {
        let mut kmers = Vec::new();
        for set in 0u32..1 << letters.len() {
            let chosen: Vec<&Letter> =
                (0..letters.len()).filter(|i| set >> i & 1 == 1).map(|i| &letters[i]).collect();
            let k = chosen.len();
            if !(4..=6).contains(&k) || chosen[k - 1].at - chosen[0].at >= 15 {
                continue;
            }
            let code = chosen.iter().map(|l| (l.base + 1) * 5u64.pow((l.at - chosen[0].at) as u32)).sum();
            kmers.push((code, chosen.iter().map(|l| l.value).sum::<f64>() / k as f64));
        }
        kmers
    }

    proptest! {
        #[test]
        fn all_subsets_are_enumerated(
            sequence in prop::collection::vec(prop::sample::select(&b"ACGT"[..]), 10..11),
            steps in prop::collection::vec(1usize..4, 10),
        ) {
            let mut at = 0;
            let letters: Vec<Letter> = sequence.iter().zip(&steps).enumerate().map(|(i, (&base, step))| {
                at += step;
                Letter { at, base: u64::from(base >> 1 & 3), value: i as f64 }
            }).collect();
            let (mut ours, mut all) = (enumerate(&letters), naive(&letters));
            sum_equal(&mut ours);
            sum_equal(&mut all);
            prop_assert_eq!(ours.len(), all.len());
            for (a, b) in ours.iter().zip(&all) {
                prop_assert!(a.0 == b.0 && (a.1 - b.1).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn a_shifted_motif_is_near_and_another_is_not() {
        let place = |motif: &[u8], at: usize| {
            let mut sequence = vec![b'A'; 30];
            let mut values = vec![0.001; 30];
            sequence[at..at + motif.len()].copy_from_slice(motif);
            values[at..at + motif.len()].fill(1.0);
            let tracks = tracks(&sequence, &values);
            let seqlet = Seqlet { example: 0, start: 0, end: 30, reverse: false };
            (vector(&tracks, &seqlet, 1.0), vector(&tracks, &seqlet.flipped(), 1.0))
        };
        let placed =
            [place(b"GATAAGGC", 5), place(b"GATAAGGC", 11), place(b"GCCTTATC", 8), place(b"CGTGCGTC", 8)];
        let (forward, reverse): (Vec<_>, Vec<_>) = placed.into_iter().unzip();
        let near = nearest(&forward, &reverse, 4);
        assert_eq!(near[0][0].0, 0);
        let cosine = |other: u32| near[0].iter().find(|entry| entry.0 == other).map(|entry| entry.1);
        assert!(cosine(1).unwrap() > 0.3 && cosine(2).unwrap() > 0.3, "{near:?}");
        assert!(cosine(3).unwrap() < 0.1, "{near:?}");
        let fewer = nearest(&forward, &reverse, 3);
        assert_eq!(fewer[0], near[0][..3]);
    }
}
