//! Which seqlets are alike: nearest neighbours, their similarities, and a graph that adapts to density.

use rayon::prelude::*;

use super::gapped::{largest, nearest, vector};
use super::jaccard::Profile;
use super::leiden::Graph;
use super::tracks::{Seqlet, Tracks};

/// Below this a similarity counts as this.
const LEAST: f64 = 1e-7;
/// How near to the wanted perplexity is near enough (in nats), and after how many halvings it has to do.
const ENTROPY_TOLERANCE: f64 = 1e-5;
const HALVINGS: usize = 100;

/// The neighbours of a seqlet: index, coarse and fine similarity, by falling coarse similarity.
pub type Neighbours = Vec<(u32, f64, f64)>;

/// Finds the `count` nearest neighbours of every seqlet by gapped k-mers, itself among them, and their best continuous
/// Jaccard similarities over offsets with at least the share `min_overlap` in common, on either strand.
pub fn neighbours(
    tracks: &Tracks,
    seqlets: &[Seqlet],
    sign: f64,
    count: usize,
    min_overlap: f64,
) -> Vec<Neighbours> {
    let vectors = |flip: bool| -> Vec<_> {
        let turned = |seqlet: &Seqlet| if flip { seqlet.flipped() } else { *seqlet };
        seqlets.par_iter().map(|seqlet| vector(tracks, &turned(seqlet), sign)).collect()
    };
    let coarse = nearest(&vectors(false), &vectors(true), count);
    let forward: Vec<Profile> = seqlets.par_iter().map(|seqlet| Profile::of(tracks, seqlet)).collect();
    let reverse: Vec<Profile> = forward.par_iter().map(Profile::flipped).collect();
    let row = |(index, near): (usize, Vec<(u32, f64)>)| -> Neighbours {
        let fine = |other: u32| {
            let strands = [&forward[other as usize], &reverse[other as usize]];
            let best = strands.map(|profile| best_similarity(&forward[index], profile, min_overlap));
            f64::from(best[0].max(best[1]))
        };
        near.into_iter().map(|(other, cosine)| (other, cosine, fine(other))).collect()
    };
    coarse.into_par_iter().enumerate().map(row).collect()
}

fn best_similarity(profile: &Profile, other: &Profile, min_overlap: f64) -> f32 {
    let reach = (other.width() as f64 * (1.0 - min_overlap)) as i64;
    let last = profile.width() as i64 - other.width() as i64 + reach;
    (-reach..=last).map(|offset| profile.similarity(other, offset)).fold(f32::MIN, f32::max)
}

/// Returns which seqlets agree with themselves: the rank correlation (Spearman) of the coarse and the fine similarities
/// to their neighbours is above `threshold`.
pub fn consistent(neighbours: &[Neighbours], threshold: f64) -> Vec<bool> {
    let correlation = |row: &Neighbours| {
        let (coarse, fine): (Vec<f64>, Vec<f64>) =
            row.iter().filter(|entry| entry.2 != 0.0).map(|&(_, coarse, fine)| (coarse, fine)).unzip();
        pearson(&ranks(&coarse), &ranks(&fine))
    };
    neighbours.par_iter().map(|row| correlation(row) > threshold).collect()
}

/// Keeps the rows of `kept` seqlets and the neighbours among them, renumbered.
pub fn keep(neighbours: Vec<Neighbours>, kept: &[bool]) -> Vec<Neighbours> {
    let mut next = 0;
    let new: Vec<u32> = kept
        .iter()
        .map(|&kept| {
            next += u32::from(kept);
            next - u32::from(kept)
        })
        .collect();
    let rows = neighbours.into_iter().zip(kept).filter(|(_, kept)| **kept);
    let renumber = |row: Neighbours| {
        let inside = row.into_iter().filter(|entry| kept[entry.0 as usize]);
        inside.map(|(index, coarse, fine)| (new[index as usize], coarse, fine)).collect()
    };
    rows.map(|(row, _)| renumber(row)).collect()
}

/// Returns ranks, equal values sharing the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let mean = first as f64 + (group.len() - 1) as f64 / 2.0;
        group.iter().for_each(|&index| ranks[index] = mean);
        first += group.len();
    }
    ranks
}

/// Returns the correlation; NaN where one side is constant.
fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let pairs = || a.iter().zip(b).map(|(a, b)| (a - mean_a, b - mean_b));
    let covariance: f64 = pairs().map(|(a, b)| a * b).sum();
    let variances =
        pairs().map(|(a, b)| (a * a, b * b)).fold((0.0, 0.0), |sum, v| (sum.0 + v.0, sum.1 + v.1));
    covariance / (variances.0 * variances.1).sqrt()
}

/// Returns a distance for a similarity s: `ln(2/s − 1)`, at least 0.
fn distance(similarity: f64) -> f64 {
    (2.0 / similarity.max(LEAST) - 1.0).ln().max(0.0)
}

/// Returns the graph of seqlets: with d the mean of the distances of a pair either way and β found for `perplexity`,
/// `w_ij = √(p_ij p_ji)`, `p_ij = exp(−d / β_i) / z_i`, `z_i = 1 + Σ_j exp(−d / β_i)`, and `w_ii = 1 / z_i`.
///
/// β is found on `exp(−β d)` and used as `exp(−d / β)`, as TF-MoDISco has it.
pub fn density_adapted(neighbours: &[Neighbours], perplexity: f64) -> Graph {
    let rows = symmetric_distances(neighbours);
    let rate = |row: &Vec<(u32, f64)>| {
        let distances: Vec<f64> = row.iter().map(|&(_, distance)| distance).collect();
        let rate = rate_for(perplexity, &distances, 1.0);
        (rate, 1.0 + distances.iter().map(|distance| (-distance / rate).exp()).sum::<f64>())
    };
    let rates: Vec<(f64, f64)> = rows.par_iter().map(rate).collect();
    let near = |index: usize, distance: f64| (-distance / rates[index].0).exp() / rates[index].1;
    let weighted = |(i, row): (usize, &Vec<(u32, f64)>)| -> Vec<(u32, f64)> {
        let weight =
            |&(j, distance): &(u32, f64)| (j, (near(i, distance) * near(j as usize, distance)).sqrt());
        row.iter().map(weight).collect()
    };
    let edges: Vec<_> = rows.par_iter().enumerate().map(weighted).collect();
    Graph::new(edges, rates.iter().map(|rate| 1.0 / rate.1).collect())
}

/// Returns for every seqlet the distances to those that are its neighbours or that it is a neighbour of, in order of
/// index. A distance of 0 is that of a seqlet to itself or a twin, and is left out.
fn symmetric_distances(neighbours: &[Neighbours]) -> Vec<Vec<(u32, f64)>> {
    let mut rows: Vec<Vec<(u32, f64)>> = vec![Vec::new(); neighbours.len()];
    for (i, row) in neighbours.iter().enumerate() {
        for &(j, _, similarity) in row {
            let distance = distance(similarity);
            if distance > 0.0 && j as usize != i {
                rows[i].push((j, distance));
                rows[j as usize].push((i as u32, distance));
            }
        }
    }
    let mean = |mut row: Vec<(u32, f64)>| {
        row.sort_by_key(|entry| entry.0);
        let groups = row.chunk_by(|a, b| a.0 == b.0);
        groups
            .map(|group| (group[0].0, group.iter().map(|entry| entry.1).sum::<f64>() / group.len() as f64))
            .collect()
    };
    rows.into_par_iter().map(mean).collect()
}

/// Returns the β at which the entropy of `p_j ∝ exp(−β d_j)` is the logarithm of the perplexity; `own` is the weight
/// that the point itself has in the sum.
fn rate_for(perplexity: f64, distances: &[f64], own: f64) -> f64 {
    let (mut low, mut high, mut rate) = (f64::NEG_INFINITY, f64::INFINITY, 1.0f64);
    for _ in 0..HALVINGS {
        let weights = distances.iter().map(|distance| (-distance * rate).exp());
        let (sum, moment) = weights
            .zip(distances)
            .fold((own, 0.0), |(sum, moment), (weight, distance)| (sum + weight, moment + weight * distance));
        let excess = sum.max(LEAST).ln() + rate * moment / sum.max(LEAST) - perplexity.ln();
        if excess.abs() <= ENTROPY_TOLERANCE {
            break;
        }
        if excess > 0.0 {
            low = rate;
            rate = if high.is_finite() { (rate + high) / 2.0 } else { 2.0 * rate };
        } else {
            high = rate;
            rate = if low.is_finite() { (rate + low) / 2.0 } else { rate / 2.0 };
        }
    }
    rate
}

/// Returns the graph within one pattern: the `3 · perplexity + 1` nearest of each by the similarities without shifts,
/// their t-SNE probabilities (van der Maaten and Hinton, 2008), and both directions added.
pub fn within(profiles: &[Profile], perplexity: f64) -> Graph {
    let count = ((3.0 * perplexity + 2.0) as usize).min(profiles.len());
    let row = |profile: &Profile| -> Vec<(u32, f64)> {
        let similarities: Vec<f64> =
            profiles.iter().map(|other| f64::from(profile.similarity(other, 0))).collect();
        let near = largest(&similarities, count);
        let distances: Vec<f64> = near.iter().skip(1).map(|&(_, similarity)| distance(similarity)).collect();
        let rate = rate_for(perplexity, &distances, 0.0);
        let weights: Vec<f64> = distances.iter().map(|distance| (-distance * rate).exp()).collect();
        let sum = weights.iter().sum::<f64>().max(1e-8);
        near.iter().skip(1).zip(weights).map(|(&(index, _), weight)| (index, weight / sum)).collect()
    };
    let rows: Vec<Vec<(u32, f64)>> = profiles.par_iter().map(row).collect();
    let mut edges: Vec<Vec<(u32, f64)>> = vec![Vec::new(); rows.len()];
    let mut loops = vec![0.0; rows.len()];
    for (i, row) in rows.iter().enumerate() {
        for &(j, weight) in row {
            if j as usize == i {
                loops[i] += 2.0 * weight;
            } else {
                edges[i].push((j, weight));
                edges[j as usize].push((i as u32, weight));
            }
        }
    }
    Graph::new(edges, loops)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_a_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [2.5, 0.0, 2.5, 1.0]);
        assert!((pearson(&ranks(&[1.0, 5.0, 9.0]), &ranks(&[0.1, 0.2, 70.0])) - 1.0).abs() < 1e-12);
        assert!(pearson(&[1.0, 1.0], &[0.0, 1.0]).is_nan());
    }

    #[test]
    fn rows_that_go_take_their_columns_along() {
        let rows = vec![
            vec![(0, 1.0, 1.0), (1, 0.5, 0.4), (2, 0.3, 0.2)],
            vec![(1, 1.0, 1.0)],
            vec![(2, 1.0, 1.0), (0, 0.3, 0.2)],
        ];
        let kept = keep(rows, &[true, false, true]);
        assert_eq!(kept, [vec![(0, 1.0, 1.0), (1, 0.3, 0.2)], vec![(1, 1.0, 1.0), (0, 0.3, 0.2)]]);
    }

    #[test]
    fn the_rate_gives_the_perplexity() {
        let distances: Vec<f64> = (0..60).map(|i| 0.1 + f64::from(i) * 0.07).collect();
        for own in [0.0, 1.0] {
            let rate = rate_for(10.0, &distances, own);
            let mut weights: Vec<f64> = distances.iter().map(|distance| (-distance * rate).exp()).collect();
            weights.push(own);
            let sum: f64 = weights.iter().sum();
            let shares = weights.iter().map(|weight| weight / sum).filter(|&share| share > 0.0);
            let entropy: f64 = -shares.map(|share| share * share.ln()).sum::<f64>();
            assert!((entropy.exp() - 10.0).abs() < 1e-3, "{}", entropy.exp());
        }
    }

    #[test]
    fn distances_are_the_mean_of_both_directions() {
        let one_way = vec![vec![(0, 1.0, 1.0), (1, 0.9, 0.5)], vec![(1, 1.0, 1.0)]];
        assert_eq!(symmetric_distances(&one_way), [vec![(1, 3f64.ln())], vec![(0, 3f64.ln())]]);
        let both = vec![vec![(1, 0.9, 0.5)], vec![(0, 0.9, 1.0 / 3.0)]];
        assert_eq!(
            symmetric_distances(&both)[0].len(),
            1,
            "the twin distance of the other side is averaged in"
        );
        assert!((symmetric_distances(&both)[0][0].1 - (3f64.ln() + 5f64.ln()) / 2.0).abs() < 1e-12);
    }
}
