//! Seqlets of any length: stretches all of whose parts contribute more than chance, as tangermeme's
//! `recursive_seqlets` and `modisco` find them.
//!
//! Contributions are put into equally wide bins. The sum of the bins of L positions, drawn independently from all
//! positions, has a distribution for each L; the p-value of a stretch is the chance of a sum as large. A stretch is a
//! seqlet when it and every stretch inside it that is not shorter than the shortest has a p-value below a threshold.
//! The longest are taken first, of the same length those of the smallest p-value, and none overlap.

use rayon::prelude::*;

use super::tracks::{Seqlet, Tracks};

/// How seqlets are called (tangermeme's names in parentheses).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recursion {
    /// P-values below this count (`threshold`).
    pub threshold: f64,
    /// Bases of the shortest seqlet (`min_seqlet_len`).
    pub shortest: usize,
    /// Bases of the longest (`max_seqlet_len`).
    pub longest: usize,
    /// Bases added on either side, as far as there are any (`additional_flanks`).
    pub flank: usize,
    /// Bins of contributions (`n_bins`).
    pub bins: usize,
}

impl Default for Recursion {
    fn default() -> Self {
        Self { threshold: 0.01, shortest: 4, longest: 25, flank: 0, bins: 1000 }
    }
}

/// A seqlet with the p-value of its core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Called {
    /// Where it is.
    pub seqlet: Seqlet,
    /// Chance that as many positions contribute as much. The null is made of the same contributions, motifs and all:
    /// a number to rank by, not an error rate.
    pub p_value: f64,
}

/// Calls the seqlets that contribute, then those that contribute against and overlap none of the first. Both in the order
/// of examples, then of length.
///
/// # Panics
///
/// When the shortest has no base or more than the longest, or there are fewer than two bins.
pub fn call(tracks: &Tracks, how: &Recursion) -> (Vec<Called>, Vec<Called>) {
    assert!(0 < how.shortest && how.shortest <= how.longest && how.bins > 1, "lengths and bins in order");
    let values = |sign: f32| -> Vec<Vec<f32>> {
        let value = |example: &super::tracks::Example| {
            (0..example.length()).map(|position| sign * example.contribution(position)).collect()
        };
        tracks.examples.iter().map(value).collect()
    };
    let positive = of_one_sign(&values(1.0), how);
    let mut negative = of_one_sign(&values(-1.0), how);
    let mut taken = positive.iter().map(|called| called.seqlet).collect::<Vec<_>>();
    taken.sort_by_key(Seqlet::place);
    negative.retain(|called| {
        let Seqlet { example, start, end, .. } = called.seqlet;
        // They may overlap each other by their flanks, so that all of the example's are looked at.
        let first = taken.partition_point(|other| other.example < example);
        let mut own = taken[first..].iter().take_while(|other| other.example == example);
        !own.any(|other| other.start < end && start < other.end)
    });
    (positive, negative)
}

/// Calls the seqlets of positive contributions.
fn of_one_sign(examples: &[Vec<f32>], how: &Recursion) -> Vec<Called> {
    let Some(null) = Null::new(examples, how) else { return Vec::new() };
    let called = examples.par_iter().enumerate().map(|(index, values)| in_example(index, values, &null, how));
    called.collect::<Vec<_>>().concat()
}

/// What sums of bins come of chance.
struct Null {
    least: f32,
    width: f64,
    bins: usize,
    /// For each length, from 0, the chance of at least each sum.
    tails: Vec<Vec<f64>>,
}

impl Null {
    /// Takes all contributions for draws of chance; `None` when they are all the same.
    fn new(examples: &[Vec<f32>], how: &Recursion) -> Option<Self> {
        let all = || examples.iter().flatten().copied();
        let (least, most) = (all().fold(f32::INFINITY, f32::min), all().fold(f32::NEG_INFINITY, f32::max));
        if least >= most {
            return None;
        }
        let width = f64::from(most - least) / (how.bins - 1) as f64;
        let mut null = Self { least, width, bins: how.bins, tails: vec![vec![1.0]] };
        let mut counts = vec![0u64; how.bins];
        all().for_each(|value| counts[null.bin(value)] += 1);
        let total = counts.iter().sum::<u64>() as f64;
        let once: Vec<(usize, f64)> = counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(bin, &count)| (bin, count as f64 / total))
            .collect();
        let mut chances = vec![1.0];
        for _ in 0..how.longest {
            chances = convolved(&chances, &once, how.bins);
            null.tails.push(tail(&chances));
        }
        Some(null)
    }

    fn bin(&self, value: f32) -> usize {
        let bin = (f64::from(value - self.least) / self.width).floor();
        (bin.max(0.0) as usize).min(self.bins - 1)
    }
}

/// Returns the chances of the sums of one more draw.
fn convolved(chances: &[f64], once: &[(usize, f64)], bins: usize) -> Vec<f64> {
    let mut sums = vec![0.0; chances.len() + bins - 1];
    for &(bin, chance) in once {
        for (sum, before) in sums[bin..].iter_mut().zip(chances) {
            *sum += before * chance;
        }
    }
    sums
}

/// Returns the chance of at least each sum, added up from the top, where they are small.
fn tail(chances: &[f64]) -> Vec<f64> {
    let mut tail = chances.to_vec();
    for index in (0..tail.len().saturating_sub(1)).rev() {
        tail[index] += tail[index + 1];
    }
    tail
}

/// Calls the seqlets of one example.
fn in_example(example: usize, values: &[f32], null: &Null, how: &Recursion) -> Vec<Called> {
    let mut sums = vec![0];
    sums.extend(values.iter().scan(0, |sum, &value| {
        *sum += null.bin(value);
        Some(*sum)
    }));
    let own = |start: usize, length: usize| null.tails[length][sums[start + length] - sums[start]];
    let candidates = candidates(values.len(), own, how);
    let mut taken = vec![false; values.len()];
    let mut called = Vec::new();
    for (more, of_length) in candidates.into_iter().enumerate().rev() {
        let length = how.shortest + more;
        for (_, start) in of_length {
            if taken[start..start + length].contains(&true) {
                continue;
            }
            taken[start..start + length].fill(true);
            let end = (start + length + how.flank).min(values.len());
            let p_value = own(start, length);
            let start = start.saturating_sub(how.flank);
            called.push(Called { seqlet: Seqlet { example, start, end, reverse: false }, p_value });
        }
    }
    called
}

/// Returns, for each length from the shortest on, the stretches all of whose parts are below the threshold: the largest
/// p-value of what begins where they begin, and the first base, in this order.
fn candidates(count: usize, own: impl Fn(usize, usize) -> f64, how: &Recursion) -> Vec<Vec<(f64, usize)>> {
    // By first base: the largest p-value of all that begin there, and of all that lie inside.
    let (mut beginning, mut inside) = (vec![0.0f64; count], vec![0.0f64; count + 1]);
    let mut candidates = Vec::new();
    for length in (how.shortest..=how.longest).take_while(|&length| length <= count) {
        let mut found = Vec::new();
        for (start, largest) in beginning.iter_mut().enumerate().take(count - length + 1) {
            *largest = largest.max(own(start, length));
            // The next one still has what lies inside of the length before.
            inside[start] = largest.max(inside[start + 1]);
            if inside[start] < how.threshold {
                found.push((*largest, start));
            }
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        candidates.push(found);
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::super::tracks::Example;
    use super::*;

    fn tracks(examples: &[Vec<f32>]) -> Tracks {
        let example = |(region, values): (usize, &Vec<f32>)| {
            let mut rows = values.clone();
            rows.resize(4 * values.len(), 0.0);
            Example::new(region as u64, &vec![b'A'; values.len()], &rows)
        };
        Tracks { examples: examples.iter().enumerate().map(example).collect() }
    }

    /// Contributions with blobs, as `tests/python/seqlets.py` makes them.
    fn contributions(examples: usize, length: usize) -> Vec<Vec<f32>> {
        let mut state = 11u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / 16_777_216.0
        };
        let example = |number: usize| -> Vec<f32> {
            let mut values: Vec<f32> = (0..length).map(|_| uniform() - 0.5).collect();
            for blob in 0..3 {
                let (start, size) = ((uniform() * (length - 20) as f32) as usize, 5 + 4 * blob);
                let sign = if (number + blob) % 4 == 3 { -1.0 } else { 1.0 };
                for value in &mut values[start..start + size] {
                    *value += sign * (1.0 + uniform());
                }
            }
            values
        };
        (0..examples).map(example).collect()
    }

    /// By the words of the definition: every stretch inside is looked at.
    fn naive(examples: &[Vec<f32>], how: &Recursion) -> Vec<(usize, usize, usize)> {
        let null = Null::new(examples, how).unwrap();
        let mut all = Vec::new();
        for (example, values) in examples.iter().enumerate() {
            let bins: Vec<usize> = values.iter().map(|&value| null.bin(value)).collect();
            let p =
                |start: usize, end: usize| null.tails[end - start][bins[start..end].iter().sum::<usize>()];
            let mut taken = vec![false; values.len()];
            for length in (how.shortest..=how.longest.min(values.len())).rev() {
                let fits = |start: &usize| {
                    let (start, end) = (*start, *start + length);
                    (start..end).all(|a| (a + how.shortest..=end).all(|b| p(a, b) < how.threshold))
                };
                let largest =
                    |start: usize| (how.shortest..=length).map(|l| p(start, start + l)).fold(0.0, f64::max);
                let mut starts: Vec<usize> = (0..=values.len() - length).filter(fits).collect();
                starts.sort_by(|&a, &b| largest(a).total_cmp(&largest(b)));
                for start in starts {
                    if !taken[start..start + length].contains(&true) {
                        taken[start..start + length].fill(true);
                        all.push((example, start, start + length));
                    }
                }
            }
        }
        all
    }

    #[test]
    fn seqlets_are_those_of_the_definition() {
        let examples = contributions(12, 80);
        for how in [
            Recursion { bins: 50, ..Recursion::default() },
            Recursion { bins: 30, shortest: 2, longest: 9, threshold: 0.05, ..Recursion::default() },
        ] {
            let (positive, _) = call(&tracks(&examples), &how);
            let found: Vec<_> = positive.iter().map(|called| called.seqlet.place()).collect();
            assert!(found.len() > 10, "only {}", found.len());
            assert_eq!(found, naive(&examples, &how));
        }
    }

    /// `tests/python/seqlets.py --golden` with tangermeme 1.6.0: example, start, end, sum, p-value.
    const GOLDEN: [(usize, usize, usize, f64, f64); 10] = [
        (0, 8, 15, 10.7712292, 4.896543791e-4),
        (0, 17, 21, 5.61610448, 9.765359467e-3),
        (0, 72, 81, 15.0959203, 3.017047791e-5),
        (1, 2, 7, 8.01622403, 1.818467773e-3),
        (1, 85, 94, 14.9733248, 3.376458083e-5),
        (2, 42, 53, 17.6508604, 1.034899487e-5),
        (2, 74, 80, 9.50690097, 8.475467996e-4),
        (3, 21, 35, 31.3552706, 8.327421095e-11),
        (4, 33, 49, 40.9019258, 1.157816071e-14),
        (5, 63, 72, 15.0949293, 2.995855488e-5),
    ];

    #[test]
    fn seqlets_are_those_of_tangermeme() {
        let tracks = tracks(&contributions(6, 120));
        let (mut found, _) = call(&tracks, &Recursion::default());
        found.sort_by_key(|called| called.seqlet.place());
        assert_eq!(found.len(), GOLDEN.len());
        for (called, (example, start, end, sum, p_value)) in found.iter().zip(GOLDEN) {
            assert_eq!(called.seqlet.place(), (example, start, end));
            assert!((tracks.sum(&called.seqlet, 0, end - start) - sum).abs() < 1e-6 * sum);
            assert!((called.p_value - p_value).abs() < 1e-6 * p_value, "{called:?}");
        }
    }

    #[test]
    fn flanks_end_with_the_row_and_negative_seqlets_give_way() {
        let mut values = vec![vec![0.01f32; 300]; 4];
        values[1][0..6].fill(1.0);
        values[2][100..106].fill(-1.0);
        values[3][50..56].fill(1.0);
        values[3][58..64].fill(-1.0);
        // One in a hundred contributes: four of four come of chance less often than that, three of four more often.
        let how = Recursion { flank: 3, threshold: 1e-7, ..Recursion::default() };
        let (positive, negative) = call(&tracks(&values), &how);
        let places =
            |called: &[Called]| called.iter().map(|called| called.seqlet.place()).collect::<Vec<_>>();
        assert_eq!(places(&positive), [(1, 0, 9), (3, 47, 59)]);
        assert_eq!(places(&negative), [(2, 97, 109)], "that of the last row lies on a positive one");
        assert!(
            call(&tracks(&[vec![0.5; 40]]), &how).0.is_empty(),
            "nothing stands out where all is the same"
        );
        assert!(call(&tracks(&[vec![0.5, 0.1]]), &how).0.is_empty(), "too short for any");
    }
}
