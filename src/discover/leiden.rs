//! Leiden clustering by modularity (Traag, Waltman and van Eck, 2019).
//!
//! `Q = Σ_c [W_c / 2m − (K_c / 2m)²]` with W_c the weight inside a cluster, both directions counted, K_c the sum of its
//! strengths and 2m that of all. Nodes move to the best neighbouring cluster until none gains; each cluster is then
//! refined into well-connected parts, and the parts become the nodes of the next round. A refining node joins the
//! part that gains most (where the paper draws one), so only the order of visits depends on the seed.

use crate::demo::random::SplitMix;

/// Gains below this are rounding.
const LEAST_GAIN: f64 = 1e-12;

/// A weighted undirected graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    starts: Vec<usize>,
    targets: Vec<u32>,
    weights: Vec<f64>,
    loops: Vec<f64>,
    strengths: Vec<f64>,
    total: f64,
}

impl Graph {
    /// Creates the graph of the neighbours of every node, each edge listed at both of its ends, and of the weight of
    /// each node's loop, which counts once in its strength. Parallel edges are added up; a loop among the neighbours is
    /// not looked at.
    pub fn new(neighbours: Vec<Vec<(u32, f64)>>, loops: Vec<f64>) -> Self {
        let mut graph = Self {
            starts: vec![0],
            targets: Vec::new(),
            weights: Vec::new(),
            strengths: loops.clone(),
            loops,
            total: 0.0,
        };
        for (node, mut row) in neighbours.into_iter().enumerate() {
            row.sort_by_key(|edge| edge.0);
            for edges in row.chunk_by(|a, b| a.0 == b.0).filter(|edges| edges[0].0 as usize != node) {
                let weight: f64 = edges.iter().map(|edge| edge.1).sum();
                graph.targets.push(edges[0].0);
                graph.weights.push(weight);
                graph.strengths[node] += weight;
            }
            graph.starts.push(graph.targets.len());
        }
        graph.total = graph.strengths.iter().sum();
        graph
    }

    /// Returns the number of nodes.
    pub fn len(&self) -> usize {
        self.loops.len()
    }

    /// Returns whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.loops.is_empty()
    }

    fn edges(&self, node: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let range = self.starts[node]..self.starts[node + 1];
        range.map(|edge| (self.targets[edge] as usize, self.weights[edge]))
    }

    /// Returns the modularity Q of a clustering, one number a node.
    pub fn modularity(&self, clusters: &[usize]) -> f64 {
        let count = clusters.iter().max().map_or(0, |last| last + 1);
        let (mut inside, mut strength) = (vec![0.0; count], vec![0.0; count]);
        for (node, &cluster) in clusters.iter().enumerate() {
            strength[cluster] += self.strengths[node];
            let own = self.edges(node).filter(|&(other, _)| clusters[other] == cluster);
            inside[cluster] += self.loops[node] + own.map(|edge| edge.1).sum::<f64>();
        }
        let part = |(inside, strength): (&f64, &f64)| inside / self.total - (strength / self.total).powi(2);
        inside.iter().zip(&strength).map(part).sum()
    }

    /// Returns the graph whose nodes are the clusters of this one, numbered from 0 without gaps.
    fn merged(&self, clusters: &[usize], count: usize) -> Self {
        let mut rows: Vec<Vec<(u32, f64)>> = vec![Vec::new(); count];
        let mut loops = vec![0.0; count];
        for (node, &cluster) in clusters.iter().enumerate() {
            loops[cluster] += self.loops[node];
            for (other, weight) in self.edges(node) {
                if clusters[other] == cluster {
                    loops[cluster] += weight;
                } else {
                    rows[cluster].push((clusters[other] as u32, weight));
                }
            }
        }
        Self::new(rows, loops)
    }
}

/// Clusters a graph `runs` times with different seeds, and returns the clustering of largest modularity: the number of
/// each node's cluster, the largest cluster first.
pub fn cluster(graph: &Graph, runs: usize, seed: u64) -> Vec<usize> {
    let mut best: Option<(f64, Vec<usize>)> = None;
    for run in 0..runs.max(1) {
        let clusters = once(graph, &mut SplitMix::new(seed.wrapping_add(run as u64)));
        let quality = graph.modularity(&clusters);
        if best.as_ref().is_none_or(|(other, _)| quality > *other) {
            best = Some((quality, clusters));
        }
    }
    by_size(best.map_or_else(Vec::new, |(_, clusters)| clusters))
}

/// Renumbers clusters by falling size, those of equal size by their first node.
fn by_size(clusters: Vec<usize>) -> Vec<usize> {
    let count = clusters.iter().max().map_or(0, |last| last + 1);
    let (mut sizes, mut firsts) = (vec![0usize; count], vec![usize::MAX; count]);
    for (node, &cluster) in clusters.iter().enumerate() {
        sizes[cluster] += 1;
        firsts[cluster] = firsts[cluster].min(node);
    }
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|&cluster| (std::cmp::Reverse(sizes[cluster]), firsts[cluster]));
    let mut new = vec![0; count];
    order.iter().enumerate().for_each(|(rank, &cluster)| new[cluster] = rank);
    clusters.into_iter().map(|cluster| new[cluster]).collect()
}

/// Runs the algorithm again from its own result until that is no better.
fn once(graph: &Graph, random: &mut SplitMix) -> Vec<usize> {
    let mut clusters: Vec<usize> = (0..graph.len()).collect();
    let mut quality = f64::NEG_INFINITY;
    loop {
        let next = improve(graph, &clusters, random);
        let reached = graph.modularity(&next);
        if reached <= quality + LEAST_GAIN {
            return clusters;
        }
        (clusters, quality) = (next, reached);
    }
}

/// One pass through all levels of aggregation.
fn improve(graph: &Graph, clusters: &[usize], random: &mut SplitMix) -> Vec<usize> {
    let mut level = graph.clone();
    let mut partition = clusters.to_vec();
    // Which node of the level each node of the graph is in.
    let mut places: Vec<usize> = (0..graph.len()).collect();
    loop {
        move_nodes(&level, &mut partition, random);
        let count = compact(&mut partition);
        let mut parts = refine(&level, &partition, random);
        let part_count = compact(&mut parts);
        if count == level.len() || part_count == level.len() {
            return places.iter().map(|&place| partition[place]).collect();
        }
        let mut next = vec![0; part_count];
        parts.iter().zip(&partition).for_each(|(&part, &cluster)| next[part] = cluster);
        places.iter_mut().for_each(|place| *place = parts[*place]);
        level = level.merged(&parts, part_count);
        partition = next;
    }
}

/// Numbers clusters from 0 without gaps and returns how many there are.
fn compact(clusters: &mut [usize]) -> usize {
    let mut new = vec![usize::MAX; clusters.iter().max().map_or(0, |last| last + 1)];
    let mut count = 0;
    for cluster in clusters {
        if new[*cluster] == usize::MAX {
            new[*cluster] = count;
            count += 1;
        }
        *cluster = new[*cluster];
    }
    count
}

/// Returns 0..n in random order.
fn shuffled(n: usize, random: &mut SplitMix) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, random.below(i + 1));
    }
    order
}

/// Weights from a node to clusters, reset at little cost.
struct Weights {
    weights: Vec<f64>,
    touched: Vec<usize>,
}

impl Weights {
    fn new(count: usize) -> Self {
        Self { weights: vec![0.0; count], touched: Vec::new() }
    }

    fn gather(&mut self, edges: impl Iterator<Item = (usize, f64)>) {
        self.touched.drain(..).for_each(|cluster| self.weights[cluster] = 0.0);
        for (cluster, weight) in edges {
            if self.weights[cluster] == 0.0 {
                self.touched.push(cluster);
            }
            self.weights[cluster] += weight;
        }
    }
}

/// Moves nodes to the neighbouring (or an empty) cluster of largest gain until no move gains.
fn move_nodes(graph: &Graph, clusters: &mut [usize], random: &mut SplitMix) {
    let count = graph.len();
    let mut strengths = vec![0.0; count];
    let mut sizes = vec![0usize; count];
    for (node, &cluster) in clusters.iter().enumerate() {
        strengths[cluster] += graph.strengths[node];
        sizes[cluster] += 1;
    }
    let mut empty: Vec<usize> = (0..count).rev().filter(|&cluster| sizes[cluster] == 0).collect();
    let mut queue: std::collections::VecDeque<usize> = shuffled(count, random).into();
    let mut waiting = vec![true; count];
    let mut weights = Weights::new(count);
    while let Some(node) = queue.pop_front() {
        waiting[node] = false;
        let old = clusters[node];
        let strength = graph.strengths[node];
        weights.gather(graph.edges(node).map(|(other, weight)| (clusters[other], weight)));
        strengths[old] -= strength;
        let gain = |cluster: usize, weight: f64| weight - strength * strengths[cluster] / graph.total;
        let mut best = (old, gain(old, weights.weights[old]));
        for &cluster in &weights.touched {
            let gain = gain(cluster, weights.weights[cluster]);
            if gain > best.1 + LEAST_GAIN {
                best = (cluster, gain);
            }
        }
        if best.1 < -LEAST_GAIN && sizes[old] > 1 {
            best = (*empty.last().expect("a cluster of two leaves one empty"), 0.0);
        }
        let new = best.0;
        strengths[new] += strength;
        if new == old {
            continue;
        }
        if sizes[new] == 0 {
            empty.pop();
        }
        sizes[old] -= 1;
        sizes[new] += 1;
        if sizes[old] == 0 {
            empty.push(old);
        }
        clusters[node] = new;
        for (other, _) in graph.edges(node) {
            if clusters[other] != new && !waiting[other] {
                waiting[other] = true;
                queue.push_back(other);
            }
        }
    }
}

/// Splits clusters into parts: from single nodes, each of which may join a part of its cluster once.
fn refine(graph: &Graph, clusters: &[usize], random: &mut SplitMix) -> Vec<usize> {
    let count = graph.len();
    let mut cluster_strengths = vec![0.0; count];
    clusters
        .iter()
        .zip(&graph.strengths)
        .for_each(|(&cluster, strength)| cluster_strengths[cluster] += strength);
    let inside = |node: usize| graph.edges(node).filter(move |&(other, _)| clusters[other] == clusters[node]);
    let mut parts: Vec<usize> = (0..count).collect();
    let mut strengths = graph.strengths.clone();
    let mut sizes = vec![1usize; count];
    // Weight from each part to the rest of its cluster.
    let mut outward: Vec<f64> = (0..count).map(|node| inside(node).map(|edge| edge.1).sum()).collect();
    let mut weights = Weights::new(count);
    for node in shuffled(count, random) {
        let rest = |strength: f64| cluster_strengths[clusters[node]] - strength;
        let connected =
            |outward: f64, strength: f64| outward + LEAST_GAIN >= strength * rest(strength) / graph.total;
        let strength = graph.strengths[node];
        if sizes[parts[node]] > 1 || !connected(outward[node], strength) {
            continue;
        }
        weights.gather(inside(node).map(|(other, weight)| (parts[other], weight)));
        let mut best: Option<(usize, f64)> = None;
        for &part in weights.touched.iter().filter(|&&part| part != parts[node]) {
            let gain = weights.weights[part] - strength * strengths[part] / graph.total;
            let better = best.is_none_or(|(_, other)| gain > other + LEAST_GAIN);
            if gain >= 0.0 && better && connected(outward[part], strengths[part]) {
                best = Some((part, gain));
            }
        }
        if let Some((part, _)) = best {
            outward[part] += outward[parts[node]] - 2.0 * weights.weights[part];
            strengths[part] += strength;
            strengths[parts[node]] -= strength;
            sizes[parts[node]] -= 1;
            sizes[part] += 1;
            parts[node] = part;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn graph(nodes: usize, edges: &[(usize, usize, f64)]) -> Graph {
        let mut rows = vec![Vec::new(); nodes];
        let mut loops = vec![0.0; nodes];
        for &(a, b, weight) in edges {
            if a == b {
                loops[a] += weight;
            } else {
                rows[a].push((b as u32, weight));
                rows[b].push((a as u32, weight));
            }
        }
        Graph::new(rows, loops)
    }

    /// Zachary's karate club (1977), nodes from 1.
    const KARATE: &str = "1 2 1 3 1 4 1 5 1 6 1 7 1 8 1 9 1 11 1 12 1 13 1 14 1 18 1 20 1 22 1 32 2 3 2 4 2 8 2 14 2 18 2 20 \
        2 22 2 31 3 4 3 8 3 9 3 10 3 14 3 28 3 29 3 33 4 8 4 13 4 14 5 7 5 11 6 7 6 11 6 17 7 17 9 31 9 33 9 34 10 34 14 34 \
        15 33 15 34 16 33 16 34 19 33 19 34 20 34 21 33 21 34 23 33 23 34 24 26 24 28 24 30 24 33 24 34 25 26 25 28 25 32 \
        26 32 27 30 27 34 28 34 29 32 29 34 30 33 30 34 31 33 31 34 32 33 32 34 33 34";

    #[test]
    fn the_karate_club_falls_into_its_best_four() {
        let numbers: Vec<usize> = KARATE.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let edges: Vec<_> = numbers.chunks(2).map(|pair| (pair[0] - 1, pair[1] - 1, 1.0)).collect();
        assert_eq!(edges.len(), 78);
        let graph = graph(34, &edges);
        let clusters = cluster(&graph, 10, 1);
        // The maximum over all clusterings (Brandes and others, 2008).
        assert!((graph.modularity(&clusters) - 0.419_790).abs() < 1e-6, "{}", graph.modularity(&clusters));
        assert_eq!(clusters.iter().max(), Some(&3));
    }

    #[test]
    fn a_weak_bridge_does_not_join_two_cliques() {
        let mut edges = vec![(0, 5, 0.1)];
        for side in [0, 5] {
            for a in 0..5 {
                edges.extend((0..a).map(|b| (side + a, side + b, 1.0)));
            }
        }
        edges.push((10, 10, 1.0));
        let clusters = cluster(&graph(11, &edges), 1, 7);
        assert_eq!(clusters, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2]);
    }

    proptest! {
        #[test]
        fn no_single_move_gains(edges in prop::collection::vec((0usize..9, 0usize..9, 0.1f64..2.0), 1..30), seed in 0u64..9) {
            let graph = graph(9, &edges);
            let clusters = cluster(&graph, 1, seed);
            let quality = graph.modularity(&clusters);
            prop_assert_eq!(&cluster(&graph, 1, seed), &clusters);
            for node in 0..9 {
                for target in 0..9 {
                    let mut moved = clusters.clone();
                    moved[node] = target;
                    prop_assert!(graph.modularity(&moved) <= quality + 1e-9);
                }
            }
        }

        #[test]
        fn merging_keeps_the_modularity(edges in prop::collection::vec((0usize..9, 0usize..9, 0.1f64..2.0), 1..30)) {
            let graph = graph(9, &edges);
            let clusters = [0, 1, 2, 0, 1, 2, 0, 1, 2];
            let merged = graph.merged(&clusters, 3);
            prop_assert!((merged.modularity(&[0, 1, 2]) - graph.modularity(&clusters)).abs() < 1e-12);
        }
    }
}
