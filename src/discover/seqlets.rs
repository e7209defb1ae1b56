//! Seqlets: where contributions stand out of the noise.

use rayon::prelude::*;

use super::thresholds::{Thresholds, thresholds};
use super::tracks::{Example, Seqlet, Tracks};

/// Window sums that thresholds are estimated from; of more of them every k-th is taken.
const SUMS: usize = 1_000_000;

/// How seqlets are extracted (TF-MoDISco's names in parentheses).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extraction {
    /// Bases of a core (`sliding_window_size`).
    pub core: usize,
    /// Bases on either side of it (`flank_size`).
    pub flank: usize,
    /// False discovery rate of cores (`target_seqlet_fdr`).
    pub fdr: f64,
    /// Least share of windows that pass (`min_passing_windows_frac`).
    pub least: f64,
    /// Largest share of windows that pass (`max_passing_windows_frac`).
    pub most: f64,
    /// Quantile of the absolute sums that decides about a sign at the least (`weak_threshold_for_counting_sign`).
    pub weak: f64,
}

impl Default for Extraction {
    fn default() -> Self {
        Self { core: 20, flank: 5, fdr: 0.05, least: 0.03, most: 0.2, weak: 0.8 }
    }
}

/// Seqlets by the sign of their contributions, in the order of examples and then of importance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seqlets {
    /// Those whose core contributes.
    pub positive: Vec<Seqlet>,
    /// Those whose core contributes against.
    pub negative: Vec<Seqlet>,
}

/// Extracts the seqlets of all examples.
pub fn extract(tracks: &Tracks, how: &Extraction) -> Seqlets {
    let sums: Vec<Vec<f64>> =
        tracks.examples.par_iter().map(|example| window_sums(example, how.core)).collect();
    let total: usize = sums.iter().map(Vec::len).sum();
    let step = total.div_ceil(SUMS).max(1);
    let sample: Vec<f64> = sums.iter().flatten().step_by(step).copied().collect();
    if sample.is_empty() {
        return Seqlets::default();
    }
    let found = thresholds(&sample, how.fdr, how.least, how.most);
    let decided = sign_threshold(sums.iter().flatten().copied(), found, how.weak);
    let peaks = sums.par_iter().map(|sums| peaks(sums, found, how));
    let seqlets: Vec<Vec<usize>> = peaks.collect();
    let mut split = Seqlets::default();
    for (example, starts) in seqlets.iter().enumerate() {
        for &start in starts {
            let (start, end) = (start - how.flank, start + how.core + how.flank);
            let seqlet = Seqlet { example, start, end, reverse: false };
            let sum = tracks.sum(&seqlet, how.flank, how.flank + how.core);
            if sum > decided {
                split.positive.push(seqlet);
            } else if sum < -decided {
                split.negative.push(seqlet);
            }
        }
    }
    split
}

/// Returns the sums of the contributions of all windows of `width` bases.
fn window_sums(example: &Example, width: usize) -> Vec<f64> {
    if example.length() < width {
        return Vec::new();
    }
    let values = (0..example.length()).map(|i| f64::from(example.contribution(i)));
    let mut total = 0.0;
    let mut prefix = vec![0.0];
    prefix.extend(values.map(|value| {
        total += value;
        total
    }));
    (width..prefix.len()).map(|end| prefix[end] - prefix[end - width]).collect()
}

/// Returns the absolute sum above which a core counts as one of its sign.
fn sign_threshold(sums: impl Iterator<Item = f64>, found: Thresholds, weak: f64) -> f64 {
    let mut sizes: Vec<f64> = sums.map(f64::abs).collect();
    sizes.sort_unstable_by(f64::total_cmp);
    let share =
        |threshold: f64| sizes.partition_point(|&size| size < threshold.abs()) as f64 / sizes.len() as f64;
    let share = (share(found.positive).min(share(found.negative)) - 1e-4).min(weak).max(0.0);
    sizes[((share * sizes.len() as f64) as usize).min(sizes.len() - 1)]
}

/// Returns the first bases of cores: the largest passing window, then the largest away from it, and so on.
fn peaks(sums: &[f64], found: Thresholds, how: &Extraction) -> Vec<usize> {
    let count = sums.len();
    let passes = |index: usize, sum: f64| {
        (sum >= found.positive || sum <= found.negative) && index >= how.flank && index + how.flank < count
    };
    let mut candidates: Vec<usize> = (0..count).filter(|&index| passes(index, sums[index])).collect();
    candidates.sort_by(|&a, &b| sums[b].abs().total_cmp(&sums[a].abs()).then(a.cmp(&b)));
    let reach = how.core / 2 + how.flank;
    let mut taken = vec![false; count];
    let mut starts = Vec::new();
    for index in candidates {
        if !taken[index] {
            starts.push(index);
            taken[index.saturating_sub(reach)..(index + reach + 1).min(count)].fill(true);
        }
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_window_is_taken_and_its_neighbours_are_not() {
        let how = Extraction { core: 4, flank: 2, ..Extraction::default() };
        let found = Thresholds { positive: 1.0, negative: -1.0 };
        let mut sums = vec![0.0; 30];
        sums[10] = 5.0;
        sums[12] = 4.0;
        sums[14] = 3.0;
        sums[15] = -2.0;
        sums[1] = 9.0;
        sums[28] = 9.0;
        assert_eq!(peaks(&sums, found, &how), [10, 15], "the rest are too near or have no room for flanks");
    }

    #[test]
    fn blobs_in_noise_become_seqlets_of_their_sign() {
        let length = 400;
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / 16_777_216.0 - 0.5
        };
        let mut examples = Vec::new();
        for region in 0..50 {
            let mut values = vec![0.0; 4 * length];
            values[..length].iter_mut().for_each(|value| *value = 0.02 * uniform());
            let sign = if region % 5 == 0 { -1.0 } else { 1.0 };
            values[190..200].fill(sign);
            examples.push(Example::new(region, &vec![b'A'; length], &values));
        }
        let seqlets = extract(&Tracks { examples }, &Extraction { core: 10, ..Extraction::default() });
        let at_blob = |seqlets: &[Seqlet]| seqlets.iter().filter(|s| (183..=187).contains(&s.start)).count();
        assert_eq!(at_blob(&seqlets.positive), 40);
        assert_eq!(at_blob(&seqlets.negative), 10);
        assert!(seqlets.positive.iter().chain(&seqlets.negative).all(|seqlet| seqlet.width() == 20));
    }
}
