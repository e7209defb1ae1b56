//! Levels of a motif at every place of a sequence.
//!
//! Columns are taken five at a time: a table has the level of each word of five bases, so a place costs as many
//! look-ups as the motif has fives, on each strand.

use std::ops::Range;

use super::{Options, Site};
use crate::dna::base_index;
use crate::motif::pwm::Pwm;

/// Bases of a word.
const WORD: usize = 5;
const WORDS: usize = 1 << (2 * WORD);
/// Places that are looked at together.
const LANES: usize = 16;
/// Thresholds at which places are counted by p-value: 1/200, 2/200, … 100/200.
const STEPS: usize = 100;

/// A sequence as words.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    /// The word that begins at each base; beyond the end, and for anything but bases, with A.
    words: Vec<u16>,
    /// Stretches without anything but bases, half-open.
    runs: Vec<(usize, usize)>,
}

impl Sequence {
    /// Encodes upper-case `ACGTN`.
    pub fn new(bases: &[u8]) -> Self {
        let mut words = vec![0u16; bases.len() + WORD];
        for (position, &base) in bases.iter().enumerate().rev() {
            let code = base_index(base).unwrap_or(0) as u16;
            words[position] = ((words[position + 1] << 2) | code) & (WORDS as u16 - 1);
        }
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (position, _) in bases.iter().enumerate().filter(|(_, base)| base_index(**base).is_some()) {
            match runs.last_mut().filter(|(_, end)| *end == position) {
                Some((_, end)) => *end += 1,
                None => runs.push((position, position + 1)),
            }
        }
        Self { words, runs }
    }
}

/// How many places there are, and how many have a p-value up to a threshold where that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Places {
    total: u64,
    /// Places from threshold i to i + 1, of [`STEPS`] thresholds; the last beyond all.
    counts: [u64; STEPS + 1],
}

impl Default for Places {
    fn default() -> Self {
        Self { total: 0, counts: [0; STEPS + 1] }
    }
}

impl Places {
    pub fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// Returns the share of places with a p-value from `step`/200 on; of places that were counted by p-value.
    pub fn from(&self, step: usize) -> f64 {
        self.counts[step..].iter().sum::<u64>() as f64 / self.total as f64
    }
}

/// What a scan found.
#[derive(Default)]
pub(super) struct Found {
    pub sites: Vec<Site>,
    pub places: Places,
}

/// One motif on one or two strands.
pub(super) struct Scanner {
    width: usize,
    strands: Vec<Tables>,
    /// By level, the number of thresholds up to its p-value; nothing where places are not counted by it.
    steps: Vec<u8>,
}

impl Scanner {
    pub fn new(pwm: &Pwm, options: Options) -> Self {
        let threshold = pwm.threshold(options.p_value).unwrap_or(u32::MAX);
        let mut strands = vec![Tables::new(pwm, threshold)];
        if !options.one_strand {
            strands.push(Tables::new(&pwm.reverse_complement(), threshold));
        }
        let step = |level| {
            let p_value = pwm.p_value(level);
            (1..=STEPS).take_while(|&step| p_value >= step as f64 / (2 * STEPS) as f64).count() as u8
        };
        let steps = if options.null_share { (0..=pwm.highest()).map(step).collect() } else { Vec::new() };
        Self { width: pwm.width(), strands, steps }
    }

    /// Adds the hits in a sequence, made by `site` from position, strand and level, and counts all places.
    pub fn scan(&self, sequence: &Sequence, found: &mut Found, site: impl Fn(usize, bool, u32) -> Site) {
        let Found { sites, places } = found;
        for &(start, end) in sequence.runs.iter().filter(|(start, end)| end - start >= self.width) {
            let words = &sequence.words[start..end];
            let count = words.len() - self.width + 1;
            for (strand, tables) in self.strands.iter().enumerate() {
                let hit = |place: usize, level| sites.push(site(start + place, strand == 1, level));
                places.total += count as u64;
                match self.steps.is_empty() {
                    true => tables.promising(words, count, hit),
                    false => tables.all(words, count, hit, |levels| {
                        count_steps(&self.steps, levels, &mut places.counts)
                    }),
                }
            }
        }
    }
}

/// Counts the steps of levels.
fn count_steps(steps: &[u8], levels: &[u32], counts: &mut [u64; STEPS + 1]) {
    // Most places are beyond all thresholds: counters side by side, so that not every one waits for the last.
    let mut parts = [[0u32; STEPS + 1]; 4];
    for levels in levels.chunks(parts.len()) {
        for (part, &level) in parts.iter_mut().zip(levels) {
            part[usize::from(steps[level as usize])] += 1;
        }
    }
    for part in parts {
        counts.iter_mut().zip(part).for_each(|(sum, count)| *sum += u64::from(count));
    }
}

/// The columns of a motif on one strand, five at a time.
struct Tables {
    /// Each with its first column, those that tell most first: the level of each word, of which the first base is in
    /// the lowest bits.
    tables: Vec<(usize, [u16; WORDS])>,
    /// Lowest level of a hit.
    threshold: u32,
    /// Lowest sum of the first two tables that a hit can have.
    bound: u32,
}

impl Tables {
    fn new(pwm: &Pwm, threshold: u32) -> Self {
        let table = |(index, columns): (usize, &[[u16; 4]])| {
            // Fewer columns than five: the bases after them weigh nothing.
            let level = |word: usize| {
                columns.iter().enumerate().map(|(index, column)| column[word >> (2 * index) & 3]).sum()
            };
            (index * WORD, std::array::from_fn(level))
        };
        let mut tables: Vec<(usize, [u16; WORDS])> =
            pwm.levels().chunks(WORD).enumerate().map(table).collect();
        if tables.len() == 1 {
            tables.push((0, [0; WORDS]));
        }
        let most = |table: &[u16; WORDS]| u32::from(table.iter().copied().max().unwrap_or(0));
        let sum = |table: &[u16; WORDS]| table.iter().map(|&level| u32::from(level)).sum::<u32>();
        // How far the mean lies below the largest.
        tables.sort_by_key(|(_, table)| sum(table) as i64 - i64::from(most(table)) * WORDS as i64);
        let others: u32 = tables[2..].iter().map(|(_, table)| most(table)).sum();
        Self { tables, threshold, bound: threshold.saturating_sub(others) }
    }

    /// Returns the level at a place.
    fn level(&self, words: &[u16], place: usize) -> u32 {
        let of = |(first, table): &(usize, [u16; WORDS])| u32::from(table[usize::from(words[place + first])]);
        self.tables.iter().map(of).sum()
    }

    /// Finds the hits at the first `count` places. Two tables tell of most that they hold none.
    fn promising(&self, words: &[u16], count: usize, mut hit: impl FnMut(usize, u32)) {
        let [(first, table), (second, other)] = &self.tables[..2] else {
            unreachable!("there are two tables")
        };
        let blocks = words[*first..].chunks_exact(LANES).zip(words[*second..].chunks_exact(LANES));
        for (block, (words_of_first, words_of_second)) in blocks.take(count / LANES).enumerate() {
            let mut any = false;
            for (&word, &other_word) in words_of_first.iter().zip(words_of_second) {
                let sum = table[usize::from(word) % WORDS] + other[usize::from(other_word) % WORDS];
                any |= u32::from(sum) >= self.bound;
            }
            if any {
                self.hits(words, block * LANES..(block + 1) * LANES, &mut hit);
            }
        }
        self.hits(words, count / LANES * LANES..count, &mut hit);
    }

    fn hits(&self, words: &[u16], places: Range<usize>, hit: &mut impl FnMut(usize, u32)) {
        for place in places {
            let level = self.level(words, place);
            if level >= self.threshold {
                hit(place, level);
            }
        }
    }

    /// Finds the hits at the first `count` places and passes on the levels of all, some at a time.
    fn all(
        &self,
        words: &[u16],
        count: usize,
        mut hit: impl FnMut(usize, u32),
        mut levels_are: impl FnMut(&[u32]),
    ) {
        let mut levels = [0u32; 1024];
        for start in (0..count).step_by(levels.len()) {
            let levels = &mut levels[..(count - start).min(1024)];
            levels.fill(0);
            for (first, table) in &self.tables {
                for (level, &word) in levels.iter_mut().zip(&words[start + first..]) {
                    *level += u32::from(table[usize::from(word) % WORDS]);
                }
            }
            levels_are(levels);
            for (place, &level) in levels.iter().enumerate() {
                if level >= self.threshold {
                    hit(start + place, level);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::motif::compare::Profile;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn levels_are_sums_over_columns(
            sequence in "[ACGT]{0,90}N{0,2}[ACGTN]{0,40}",
            columns in prop::collection::vec(prop::array::uniform4(0.01f64..1.0), 1..23),
            p_value in 0.0f64..1.0,
            null_share: bool,
        ) {
            let columns: Vec<[f64; 4]> =
                columns.iter().map(|column| column.map(|w| w / column.iter().sum::<f64>())).collect();
            let pwm = Pwm::new(&Profile { columns, sites: 20.0 }, [0.25; 4]);
            let mut found = Found::default();
            let site = |position, reverse, level| Site { row: 0, position, motif: 0, reverse, level };
            let options = Options { p_value, one_strand: false, null_share };
            Scanner::new(&pwm, options).scan(&Sequence::new(sequence.as_bytes()), &mut found, site);
            let (mut expected, mut places) = (Vec::new(), 0);
            for position in 0..(sequence.len() + 1).saturating_sub(pwm.width()) {
                let mut window = sequence.as_bytes()[position..position + pwm.width()].to_vec();
                for reverse in [false, true] {
                    let bases: Option<Vec<usize>> = window.iter().map(|&base| base_index(base)).collect();
                    if let Some(bases) = bases {
                        places += 1;
                        let level = bases.iter().zip(pwm.levels()).map(|(&base, column)| u32::from(column[base])).sum();
                        if pwm.p_value(level) <= p_value {
                            expected.push(site(position, reverse, level));
                        }
                    }
                    crate::dna::reverse_complement(&mut window);
                }
            }
            found.sites.sort_by_key(|site| (site.position, site.reverse));
            prop_assert_eq!(found.sites, expected);
            prop_assert_eq!(found.places.total(), places);
            prop_assert_eq!(found.places.counts.iter().sum::<u64>(), if null_share { places } else { 0 });
        }
    }
}
