//! How alike motifs are: the statistics of Tomtom (Gupta et al. 2007; complete scores: Tanaka et al. 2011).
//!
//! Columns are compared by a [`Distance`]. The scores of a query's column with all columns of all targets are
//! shifted so that their median is 0, and scaled to whole numbers, at most 100 for one column. A target laid at
//! an offset scores the sum over the columns that overlap; columns that hang over score 0, the median. The best
//! offset counts. Its p-value is the chance that the best offset of a random target of the same width scores as
//! much, where columns are drawn from all columns of the targets and offsets and strands count as independent.
//!
//! With [`Options::complete`] off, overhanging columns do not count at all, each offset has its own p-value, and
//! the smallest is corrected for the number of offsets.
//!
//! Base order is A, C, G, T.

mod align;
mod columns;
mod levels;
mod near;
mod null;
mod score;
mod tally;
mod wide;

use super::q_value;
use super::{Matrix, meme};
pub use score::Distance;

use align::Best;
use levels::Levels;
use null::Tails;

/// Widest query: sums of its scaled scores are kept in 16 bits.
pub const WIDEST: usize = 300;

/// Most targets: with their strand they are numbered in 23 bits.
pub const MOST: usize = 1 << 22;

/// A motif as it is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Probabilities of each column.
    pub columns: Vec<[f64; 4]>,
    /// Sequences that the motif was made of.
    pub sites: f64,
}

impl Profile {
    /// Returns a motif with `pseudocount` sequences of the background added:
    /// `(p · sites + pseudocount · background) / (sites + pseudocount)`.
    pub fn new(motif: &meme::Motif, pseudocount: f64, background: [f64; 4]) -> Self {
        let (matrix, sites) = (&motif.ppm, motif.sites);
        let cell = |base: usize, position: usize| {
            (matrix.at(base, position) * sites + pseudocount * background[base]) / (sites + pseudocount)
        };
        let column = |position| std::array::from_fn(|base| cell(base, position));
        Self { columns: (0..matrix.width()).map(column).collect(), sites }
    }

    /// Returns the most probable base of each column. Of equal ones it is the first or the last, as in MEME, which
    /// keeps the best so far in 32 bits: where that rounds it down, an equal one is taken for more.
    pub fn consensus(&self) -> String {
        let best = |column: &[f64; 4]| {
            (1..4).fold(
                0,
                |best, base| {
                    if column[base] > f64::from(column[best] as f32) { base } else { best }
                },
            )
        };
        self.columns.iter().map(|column| crate::dna::BASES[best(column)] as char).collect()
    }

    /// Returns the motif of the other strand.
    pub fn reverse_complement(&self) -> Self {
        let reverse = |&[a, c, g, t]: &[f64; 4]| [t, g, c, a];
        Self { columns: self.columns.iter().rev().map(reverse).collect(), sites: self.sites }
    }

    /// Returns the probabilities as a matrix.
    pub fn matrix(&self) -> Matrix {
        Matrix::from_columns(&self.columns)
    }
}

/// How motifs are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The score of two columns.
    pub distance: Distance,
    /// Count columns that hang over as the median.
    pub complete: bool,
    /// Only offsets at which one motif lies within the other.
    pub internal: bool,
    /// Columns that must overlap, or all of a motif that is narrower.
    pub min_overlap: usize,
    /// Frequencies of A, C, G, T, which [`Distance::Allr`] compares with.
    pub background: [f64; 4],
}

impl Default for Options {
    fn default() -> Self {
        Self {
            distance: Distance::Euclidean,
            complete: true,
            internal: false,
            min_overlap: 1,
            background: [0.25; 4],
        }
    }
}

/// A target laid where it fits a query best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// Index of the target.
    pub target: usize,
    /// Whether its reverse complement is meant.
    pub reverse: bool,
    /// Position of the target at which the query begins; negative when the query begins before it.
    pub offset: i64,
    /// Columns that overlap.
    pub overlap: usize,
    /// Chance of a match as good at any offset and strand of one random target, in the precision of 32 bits.
    pub p_value: f64,
    /// Expected number of targets that match as well by chance.
    pub e_value: f64,
    /// Smallest false discovery rate at which the match counts.
    pub q_value: f64,
}

/// The motifs that queries are compared with, and their columns, each kept once.
#[derive(Clone, Debug)]
pub struct Targets {
    columns: columns::Columns,
    /// Index into `columns` of every column of every target.
    places: Vec<u32>,
    laid: Vec<Laid>,
    /// Indices into `laid` by [`Laid::rank`].
    by_rank: Vec<u32>,
    widths: Vec<usize>,
    motifs: usize,
    strands: usize,
}

/// One strand of a target.
#[derive(Clone, Copy, Debug)]
struct Laid {
    target: usize,
    reverse: bool,
    /// Where its columns begin in [`Targets::places`].
    first: usize,
    width: usize,
    /// Index of the width among all widths.
    kind: usize,
    /// Place in the order of names, forward strands first: the last resort of sorting.
    rank: usize,
}

impl Targets {
    /// Creates the targets from motifs with their names, on both strands or on the one that they have.
    ///
    /// # Panics
    ///
    /// When there are more than [`MOST`].
    pub fn new(motifs: &[(&str, Profile)], both_strands: bool) -> Self {
        assert!(motifs.len() <= MOST, "at most {MOST} targets");
        let mut index = columns::Index::default();
        let (mut places, mut laid) = (Vec::new(), Vec::new());
        let mut widths: Vec<usize> = motifs.iter().map(|(_, profile)| profile.columns.len()).collect();
        widths.sort_unstable();
        widths.dedup();
        let mut order: Vec<usize> = (0..motifs.len()).collect();
        order.sort_by_key(|&motif| motifs[motif].0);
        let mut rank = vec![0; motifs.len()];
        order.iter().enumerate().for_each(|(place, &motif)| rank[motif] = place);
        let strands = if both_strands { 2 } else { 1 };
        for (target, (_, profile)) in motifs.iter().enumerate() {
            let width = profile.columns.len();
            let kind = widths.binary_search(&width).expect("all widths are there");
            for reverse in [false, true].into_iter().take(strands) {
                let profile = if reverse { profile.reverse_complement() } else { profile.clone() };
                let rank = rank[target] + if reverse { motifs.len() } else { 0 };
                laid.push(Laid { target, reverse, first: places.len(), width, kind, rank });
                places.extend(profile.columns.iter().map(|column| index.number(column, profile.sites)));
            }
        }
        let (columns, indices) = index.finish();
        places.iter_mut().for_each(|place| *place = indices[*place as usize]);
        let mut by_rank = vec![0; laid.len()];
        laid.iter().enumerate().for_each(|(index, laid)| by_rank[laid.rank] = index as u32);
        Self { columns, places, laid, by_rank, widths, motifs: motifs.len(), strands }
    }

    /// Returns how many motifs there are.
    pub fn len(&self) -> usize {
        self.motifs
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.motifs == 0
    }

    fn columns_of(&self, laid: &Laid) -> &[u32] {
        &self.places[laid.first..laid.first + laid.width]
    }
}

/// Compares queries with the same targets, one after the other.
pub struct Comparison<'a> {
    targets: &'a Targets,
    options: Options,
    levels: Levels<'a>,
    tails: Tails,
}

impl<'a> Comparison<'a> {
    /// Creates a comparison with `targets`.
    pub fn new(targets: &'a Targets, options: Options) -> Self {
        Self { targets, options, levels: Levels::new(&targets.columns), tails: Tails::default() }
    }

    /// Compares a query with all targets: the best offset of each of them on each strand, best first.
    ///
    /// # Panics
    ///
    /// When the query has no column or more than [`WIDEST`].
    pub fn compare(&mut self, query: &Profile) -> Vec<Match> {
        self.compare_while(query, |_| true)
    }

    /// Returns the first matches of [`Comparison::compare`], as long as they are wanted.
    ///
    /// # Panics
    ///
    /// As [`Comparison::compare`].
    pub fn compare_while(&mut self, query: &Profile, wanted: impl Fn(&Match) -> bool) -> Vec<Match> {
        assert!((1..=WIDEST).contains(&query.columns.len()), "a query has 1 to {WIDEST} columns");
        let Self { targets, options, levels, tails } = self;
        if targets.is_empty() {
            return Vec::new();
        }
        levels.compute(query, options);
        let found = match options.complete {
            true => complete(levels, targets, options, tails),
            false => incomplete(levels, targets, options),
        };
        let mut keys: Vec<u64> =
            found.iter().zip(&targets.laid).map(|(found, laid)| key(found, laid)).collect();
        keys.sort_unstable();
        let p_values: Vec<f64> =
            keys.iter().map(|key| f64::from(f32::from_bits((key >> 32) as u32))).collect();
        let q_values = q_value::storey(&p_values);
        let matches = keys.iter().zip(p_values).zip(q_values).map(|((key, p_value), q_value)| {
            let index = targets.by_rank[*key as usize % (2 * MOST)] as usize;
            one_match(found[index].0, p_value, q_value, &targets.laid[index], targets.motifs)
        });
        matches.take_while(wanted).collect()
    }
}

/// Keeps the better strand of each target, of matches in the order of [`Comparison::compare`].
pub fn better_strands(matches: &[Match]) -> Vec<Match> {
    let mut seen = vec![false; matches.iter().map(|found| found.target + 1).max().unwrap_or(0)];
    matches.iter().filter(|found| !std::mem::replace(&mut seen[found.target], true)).copied().collect()
}

fn one_match(best: Best, p_value: f64, q_value: f64, laid: &Laid, motifs: usize) -> Match {
    Match {
        target: laid.target,
        reverse: laid.reverse,
        offset: best.offset,
        overlap: best.overlap,
        p_value,
        e_value: p_value * motifs as f64,
        q_value,
    }
}

/// Returns what matches are sorted by: p-value, the larger overlap, the rank of the name.
fn key((best, p_value): &(Best, f64), laid: &Laid) -> u64 {
    // MEME keeps p-values in 32 bits; so do we, for the same order of what is equal there. Numbers that are not
    // negative have the order of their bits.
    let p_value = u64::from((*p_value as f32).to_bits());
    let overlap = 511 - best.overlap as u64;
    p_value << 32 | overlap << 23 | laid.rank as u64
}

/// Returns each target's best offset and the chance of one as good.
fn complete(levels: &Levels, targets: &Targets, options: &Options, tails: &mut Tails) -> Vec<(Best, f64)> {
    let best = align::best(levels, targets, options);
    let (least, most) = best
        .iter()
        .fold((i32::MAX, i32::MIN), |(least, most), (_, score)| (least.min(*score), most.max(*score)));
    tails.compute(levels, &targets.widths, targets.strands, least..most + 1);
    let chance = |(laid, (best, score)): (&Laid, (Best, i32))| (best, tails.chance(laid.kind, score));
    targets.laid.iter().zip(best).map(chance).collect()
}

/// Returns each target's offset of the smallest p-value, corrected for the number of offsets.
fn incomplete(levels: &Levels, targets: &Targets, options: &Options) -> Vec<(Best, f64)> {
    let chances = null::of_each_offset(levels, targets);
    let mut offsets = 0;
    let corrected = |laid: &Laid| {
        let count = levels.width + laid.width - 1;
        let (best, chance) =
            align::least(&chances[offsets..offsets + count], levels.width, laid.width, options);
        offsets += count;
        let (first, last) = align::allowed(levels.width, laid.width, options);
        (best, at_least_once(chance, (last - first + 1) * targets.strands))
    };
    targets.laid.iter().map(corrected).collect()
}

/// Returns the chance that something of this chance happens at least once in `times` independent tries; as MEME has
/// it, by its bound `times · chance` where that is below a thousandth.
fn at_least_once(chance: f64, times: usize) -> f64 {
    let bound = times as f64 * chance;
    if bound < 0.001 { bound } else { -(times as f64 * (-chance).ln_1p()).exp_m1() }
}

#[cfg(test)]
mod tests;
