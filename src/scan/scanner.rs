//! Levels of a motif at every place of a sequence.
//!
//! Columns are taken five at a time: a table has the level of each word of five bases, so a place costs as many
//! look-ups as the motif has fives, on each strand.

use super::{Options, Site};
use crate::dna::base_index;
use crate::motif::pwm::Pwm;

/// Bases of a word.
const WORD: usize = 5;
const WORDS: usize = 1 << (2 * WORD);
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

/// How many places have a p-value up to a threshold.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// Places from threshold i to i + 1, of [`STEPS`] thresholds; the last beyond all.
    counts: [u64; STEPS + 1],
}

impl Default for Places {
    fn default() -> Self {
        Self { counts: [0; STEPS + 1] }
    }
}

impl Places {
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
    }

    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the share of places with a p-value from `step`/200 on.
    pub fn from(&self, step: usize) -> f64 {
        self.counts[step..].iter().sum::<u64>() as f64 / self.total() as f64
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
    /// Lowest level of a hit.
    threshold: u32,
    /// Tables by strand.
    strands: Vec<Vec<[u16; WORDS]>>,
    /// By level, the number of thresholds up to its p-value.
    steps: Vec<u8>,
}

impl Scanner {
    pub fn new(pwm: &Pwm, options: Options) -> Self {
        let mut strands = vec![tables(pwm)];
        if !options.one_strand {
            strands.push(tables(&pwm.reverse_complement()));
        }
        let step = |level| {
            let p_value = pwm.p_value(level);
            (1..=STEPS).take_while(|&step| p_value >= step as f64 / (2 * STEPS) as f64).count() as u8
        };
        Self {
            width: pwm.width(),
            threshold: pwm.threshold(options.p_value).unwrap_or(u32::MAX),
            strands,
            steps: (0..=pwm.highest()).map(step).collect(),
        }
    }

    /// Adds the hits in a sequence, made by `site` from position, strand and level, and counts all places.
    pub fn scan(&self, sequence: &Sequence, found: &mut Found, site: impl Fn(usize, bool, u32) -> Site) {
        for &(start, end) in sequence.runs.iter().filter(|(start, end)| end - start >= self.width) {
            for (strand, tables) in self.strands.iter().enumerate() {
                for position in start..=end - self.width {
                    let words = sequence.words[position..].iter().step_by(WORD);
                    let level: u32 = tables
                        .iter()
                        .zip(words)
                        .map(|(table, &word)| u32::from(table[usize::from(word)]))
                        .sum();
                    found.places.counts[usize::from(self.steps[level as usize])] += 1;
                    if level >= self.threshold {
                        found.sites.push(site(position, strand == 1, level));
                    }
                }
            }
        }
    }
}

/// Returns a table for every five columns: the level of each word, of which the first base is in the lowest bits.
fn tables(pwm: &Pwm) -> Vec<[u16; WORDS]> {
    let table = |columns: &[[u16; 4]]| {
        // Fewer columns than five: the bases after them weigh nothing.
        std::array::from_fn(|word| {
            columns.iter().enumerate().map(|(index, column)| column[word >> (2 * index) & 3]).sum()
        })
    };
    pwm.levels().chunks(WORD).map(table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::motif::compare::Profile;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn levels_are_sums_over_columns(
            sequence in "[ACGTN]{0,60}",
            columns in prop::collection::vec(prop::array::uniform4(0.01f64..1.0), 1..14),
            p_value in 0.0f64..1.0,
        ) {
            let columns: Vec<[f64; 4]> =
                columns.iter().map(|column| column.map(|w| w / column.iter().sum::<f64>())).collect();
            let pwm = Pwm::new(&Profile { columns, sites: 20.0 }, [0.25; 4]);
            let mut found = Found::default();
            let site = |position, reverse, level| Site { row: 0, position, motif: 0, reverse, level };
            let options = Options { p_value, one_strand: false };
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
        }
    }
}
