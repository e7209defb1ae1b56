//! From seqlets to patterns: the procedure of TF-MoDISco (Shrikumar and others, 2018) as tfmodisco-lite 2.5 runs it.
//!
//! Two rounds of: nearest neighbours by gapped k-mers, their continuous Jaccard similarities, a graph that adapts to
//! density, Leiden clustering, and the seqlets of each cluster laid one over another. Then patterns are split by a
//! clustering without shifts, merged where they are alike, and kept where they have enough seqlets and information.

use std::collections::HashSet;

use super::affinity::{consistent, density_adapted, keep, neighbours, within};
use super::align::{Measure, merge_in};
use super::collapse::{Context, collapse};
use super::found::Found;
use super::jaccard::Profile;
use super::leiden;
use super::pattern::Pattern;
use super::seqlets::{Extraction, extract};
use super::tracks::{Seqlet, Tracks};

/// Neighbours of a seqlet, besides itself.
const NEIGHBOURS: usize = 500;
/// Least rank correlation of coarse and fine similarities.
const CONSISTENCY: f64 = 0.15;
/// Perplexities of the graph of seqlets and of that within a pattern.
const PERPLEXITY: f64 = 10.0;
const PERPLEXITY_WITHIN: f64 = 50.0;
/// Positions over which a pattern must have some information, and how many bits.
const INFORMED: usize = 6;
const LEAST_BITS: f64 = 0.6;

/// How patterns are found (the letters of `modisco motifs` in parentheses).
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How seqlets are extracted (`-z`, `-f`).
    pub extraction: Extraction,
    /// Largest number of seqlets of either sign (`-n`).
    pub max_seqlets: usize,
    /// A sign with no more seqlets than this has no patterns.
    pub min_seqlets: usize,
    /// Seqlets that a pattern must have.
    pub min_support: usize,
    /// Clusterings with different seeds, of which the best counts (`-l`).
    pub runs: usize,
    /// Positions that patterns are cut to (`-t`).
    pub trim: usize,
    /// Positions added on either side of them (`-g`).
    pub flank: usize,
    /// Positions added on either side at the end (`-j`).
    pub final_flank: usize,
    /// Least share of a seqlet that lies on what it is compared with.
    pub min_overlap: f64,
    /// Seqlets of a pattern that stand for all of them when patterns are compared.
    pub sample: usize,
    /// Where random orders begin.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            extraction: Extraction::default(),
            max_seqlets: 20_000,
            min_seqlets: 100,
            min_support: 20,
            runs: 2,
            trim: 30,
            flank: 10,
            final_flank: 0,
            min_overlap: 0.7,
            sample: 1000,
            seed: 0,
        }
    }
}

/// A pattern with the parts that it falls into, those of most seqlets first.
#[derive(Clone, Debug, PartialEq)]
pub struct Discovered {
    /// The pattern.
    pub pattern: Pattern,
    /// Its parts, aligned as it is.
    pub parts: Vec<Pattern>,
}

/// Patterns by the sign of their contributions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patterns {
    /// Those that contribute, those of most seqlets first; `None` where there were too few seqlets.
    pub positive: Option<Vec<Discovered>>,
    /// Those that contribute against.
    pub negative: Option<Vec<Discovered>>,
    /// How many seqlets of either sign were extracted.
    pub seqlets: (usize, usize),
}

impl Patterns {
    /// Returns the patterns as motifs, called `pos_patterns.pattern_0` and so on.
    pub fn found(&self) -> Vec<Found> {
        let groups = [("pos_patterns", &self.positive), ("neg_patterns", &self.negative)];
        let group = |(group, found): (&str, &Option<Vec<Discovered>>)| {
            let found = found.iter().flatten().enumerate();
            found
                .map(|(index, Discovered { pattern, .. })| motif(format!("{group}.pattern_{index}"), pattern))
                .collect()
        };
        groups.into_iter().flat_map(|pair| -> Vec<Found> { group(pair) }).collect()
    }
}

fn motif(name: String, pattern: &Pattern) -> Found {
    Found {
        name,
        counts: pattern.counts(),
        sites: pattern.seqlets().len() as u64,
        significance: None,
        contributions: Some((pattern.contributions(), pattern.hypothetical())),
    }
}

/// Finds the patterns in the contributions of all examples.
pub fn discover(tracks: &Tracks, settings: &Settings) -> Patterns {
    let mut found = extract(tracks, &settings.extraction);
    let seqlets = (found.positive.len(), found.negative.len());
    let run = |seqlets: &mut Vec<Seqlet>, sign: f64| {
        seqlets.truncate(settings.max_seqlets);
        (seqlets.len() > settings.min_seqlets).then(|| patterns(tracks, seqlets, sign, settings))
    };
    let positive = run(&mut found.positive, 1.0);
    Patterns { positive, negative: run(&mut found.negative, -1.0), seqlets }
}

/// Finds the patterns of seqlets whose contributions have one sign.
fn patterns(tracks: &Tracks, seqlets: &[Seqlet], sign: f64, settings: &Settings) -> Vec<Discovered> {
    let context = Context { tracks, settings, background: background(tracks, seqlets) };
    let seqlets = by_importance(tracks, seqlets);
    let first = cluster_round(context, seqlets, sign, true);
    let mut places = HashSet::new();
    let again =
        first.iter().flat_map(Pattern::seqlets).copied().filter(|seqlet| places.insert(seqlet.place()));
    let second = cluster_round(context, again.collect(), sign, false);
    let mut merged = collapse(context, second.iter().flat_map(|pattern| split(context, pattern)).collect());
    merged.sort_by_key(|pattern| std::cmp::Reverse(pattern.seqlets().len()));
    merged.retain(|pattern| is_informed(pattern, settings, context.background));
    let flank = settings.final_flank as i64;
    let grown = merged.iter().filter_map(|pattern| pattern.grown(tracks, flank, flank));
    grown.map(|pattern| Discovered { parts: parts(context, &pattern), pattern }).collect()
}

/// Returns how frequent the bases are in the seqlets.
fn background(tracks: &Tracks, seqlets: &[Seqlet]) -> [f64; 4] {
    let mut counts = [0.0; 4];
    for position in seqlets.iter().flat_map(|seqlet| tracks.positions(seqlet)) {
        position.base.into_iter().for_each(|base| counts[base] += 1.0);
    }
    let total: f64 = counts.iter().sum::<f64>().max(1.0);
    counts.map(|count| count / total)
}

/// Returns seqlets by falling sum of absolute contributions.
fn by_importance(tracks: &Tracks, seqlets: &[Seqlet]) -> Vec<Seqlet> {
    let mut keyed: Vec<(f64, Seqlet)> =
        seqlets.iter().map(|seqlet| (tracks.importance(seqlet), *seqlet)).collect();
    keyed.sort_by(|a, b| b.0.total_cmp(&a.0));
    keyed.into_iter().map(|(_, seqlet)| seqlet).collect()
}

/// Clusters seqlets and lays those of each cluster over each other. With `filter` seqlets go whose coarse and fine
/// similarities disagree.
fn cluster_round(context: Context, mut seqlets: Vec<Seqlet>, sign: f64, filter: bool) -> Vec<Pattern> {
    let Context { tracks, settings, .. } = context;
    if seqlets.is_empty() {
        return Vec::new();
    }
    let mut near = neighbours(tracks, &seqlets, sign, NEIGHBOURS + 1, settings.min_overlap);
    if filter {
        let kept = consistent(&near, CONSISTENCY);
        near = keep(near, &kept);
        let mut kept = kept.into_iter();
        seqlets.retain(|_| kept.next().unwrap_or(false));
    }
    let clusters = leiden::cluster(&density_adapted(&near, PERPLEXITY), settings.runs, settings.seed);
    let of_sign = |pattern: &Pattern| pattern.contributions().values().iter().sum::<f64>() * sign > 0.0;
    let members = members(&clusters, &seqlets);
    members.iter().filter_map(|seqlets| aggregate(context, seqlets)).filter(of_sign).collect()
}

/// Returns the seqlets of each cluster.
fn members(clusters: &[usize], seqlets: &[Seqlet]) -> Vec<Vec<Seqlet>> {
    let mut members = vec![Vec::new(); clusters.iter().max().map_or(0, |last| last + 1)];
    clusters.iter().zip(seqlets).for_each(|(&cluster, seqlet)| members[cluster].push(*seqlet));
    members
}

/// Lays seqlets over each other, the most important first, and cuts the pattern to its core.
fn aggregate(context: Context, seqlets: &[Seqlet]) -> Option<Pattern> {
    let Context { tracks, settings, background } = context;
    let sorted = by_importance(tracks, seqlets);
    let (first, rest) = sorted.split_first()?;
    let pattern = Pattern::new(tracks, [*first]);
    let pattern = merge_in(tracks, &pattern, rest, Measure::Jaccard, settings.min_overlap);
    pattern.polished(tracks, settings.trim, settings.flank, background)
}

/// Returns the parts of a pattern that remain different after merging; itself where it is small.
fn split(context: Context, pattern: &Pattern) -> Vec<Pattern> {
    let least = context.settings.min_support.max(PERPLEXITY_WITHIN as usize);
    if pattern.seqlets().len() <= least {
        return vec![pattern.clone()];
    }
    collapse(context, parts(context, pattern))
}

/// Clusters the seqlets of a pattern as they lie, those of most seqlets first.
fn parts(context: Context, pattern: &Pattern) -> Vec<Pattern> {
    let Context { tracks, settings, .. } = context;
    let profiles: Vec<Profile> = pattern.seqlets().iter().map(|seqlet| Profile::of(tracks, seqlet)).collect();
    let clusters = leiden::cluster(&within(&profiles, PERPLEXITY_WITHIN), settings.runs, settings.seed);
    members(&clusters, pattern.seqlets()).into_iter().map(|seqlets| Pattern::new(tracks, seqlets)).collect()
}

/// Returns whether a pattern has enough seqlets, and enough information in some stretch.
fn is_informed(pattern: &Pattern, settings: &Settings, background: [f64; 4]) -> bool {
    let bits = pattern.information(background);
    let width = INFORMED.min(bits.len());
    let most = bits.windows(width).map(|window| window.iter().sum::<f64>()).fold(0.0, f64::max);
    pattern.seqlets().len() >= settings.min_support && most >= LEAST_BITS
}

#[cfg(test)]
mod tests {
    use super::super::align::correlate;
    use super::super::tracks::Example;
    use super::*;
    use crate::demo::random::SplitMix;
    use crate::motif::Matrix;

    const MOTIFS: [&str; 3] = ["AGATAAGGTC", "TGACGTCATC", "CCACTTCCTC"];

    /// Random sequences with one of the motifs each on either strand, which contribute (the last one against), in noise.
    fn planted(count: usize) -> Tracks {
        let mut random = SplitMix::new(3);
        let length = 240;
        let example = |region: usize| {
            let mut sequence: Vec<u8> = (0..length).map(|_| b"ACGT"[random.below(4)]).collect();
            let mut values: Vec<f32> =
                (0..4 * length).map(|_| 0.02 * (random.uniform() as f32 - 0.5)).collect();
            let motif = region % 3;
            let mut bases = MOTIFS[motif].as_bytes().to_vec();
            if random.below(2) == 1 {
                crate::dna::reverse_complement(&mut bases);
            }
            let at = 40 + random.below(150);
            let sign = if motif == 2 { -1.0 } else { 1.0 };
            for (i, &base) in bases.iter().enumerate() {
                sequence[at + i] = base;
                let own = b"ACGT".iter().position(|&other| other == base).unwrap();
                for row in 0..4 {
                    let effect = if row == own { 0.5 } else { -0.2 };
                    values[row * length + at + i] = sign * effect * (0.8 + 0.4 * random.uniform() as f32);
                }
            }
            Example::new(region as u64, &sequence, &values)
        };
        Tracks { examples: (0..count).map(example).collect() }
    }

    /// The contributions of a motif as they were planted.
    fn cwm(motif: &str, sign: f64) -> Matrix {
        let column = |base: u8| b"ACGT".map(|other| if other == base { 0.5 * sign } else { 0.0 });
        Matrix::from_columns(&motif.bytes().map(column).collect::<Vec<_>>())
    }

    #[test]
    fn planted_motifs_are_found_by_their_sign() {
        let tracks = planted(300);
        let found =
            discover(&tracks, &Settings { trim: 12, flank: 3, min_seqlets: 50, ..Settings::default() });
        let (positive, negative) = (found.positive.as_ref().unwrap(), found.negative.as_ref().unwrap());
        let similarity = |discovered: &Discovered, motif: &Matrix| {
            correlate(&discovered.pattern.contributions(), motif, 0.7).similarity
        };
        for (motif, sign, patterns) in [(0, 1.0, positive), (1, 1.0, positive), (2, -1.0, negative)] {
            let motif = cwm(MOTIFS[motif], sign);
            let alike: Vec<&Discovered> =
                patterns.iter().filter(|found| similarity(found, &motif) > 0.95).collect();
            let seqlets: usize = alike.iter().map(|found| found.pattern.seqlets().len()).sum();
            // A hundred of each were planted.
            assert!((90..=100).contains(&seqlets), "{seqlets} seqlets in {} patterns", alike.len());
            assert_eq!(alike.len(), 1);
        }
        assert_eq!((positive.len(), negative.len()), (2, 1));
        let names: Vec<String> = found.found().into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["pos_patterns.pattern_0", "pos_patterns.pattern_1", "neg_patterns.pattern_0"]);
        let parts = &positive[0].parts;
        let in_parts: usize = parts.iter().map(|part| part.seqlets().len()).sum();
        assert_eq!(in_parts, positive[0].pattern.seqlets().len());
    }

    #[test]
    fn nothing_is_found_in_noise_that_is_too_little() {
        let noise = Example::new(0, b"ACGTACGTACGTACGTACGTACGTACGTACGTACGT", &[0.0; 144]);
        let found = discover(&Tracks { examples: vec![noise] }, &Settings::default());
        assert_eq!((found.positive, found.negative), (None, None));
        assert_eq!(discover(&Tracks::default(), &Settings::default()).seqlets, (0, 0));
    }
}
