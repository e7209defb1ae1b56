//! Parts of an input that fit together: which regions each takes, and the rows of those.

use std::ops::Range;
use std::str::FromStr;

use arrow_array::Array;

use crate::error::{Error, Result};
use crate::pipe::Pipe;
use crate::provenance::Share;
use crate::schema;

/// A part of an input: the `part`-th of `parts`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    part: u64,
    parts: u64,
}

impl Default for Shard {
    fn default() -> Self {
        Self { part: 1, parts: 1 }
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::usage(format!("`{text}` is no shard: write 2/8 for the second of eight"));
        let (part, parts) = text.split_once('/').ok_or_else(bad)?;
        let (part, parts) = (part.parse().map_err(|_| bad())?, parts.parse().map_err(|_| bad())?);
        Self::new(part, parts).ok_or_else(bad)
    }
}

impl Shard {
    /// Creates the `part`-th of `parts`; `None` unless there is such a part.
    pub fn new(part: u64, parts: u64) -> Option<Self> {
        (1..=parts).contains(&part).then_some(Self { part, parts })
    }

    /// Returns which part it is, counted from 1.
    pub fn part(self) -> u64 {
        self.part
    }

    /// Returns how many parts there are.
    pub fn parts(self) -> u64 {
        self.parts
    }

    /// Returns this shard's share of `count` things; the shares are contiguous and differ by one at most.
    pub fn share(self, count: u64) -> Range<u64> {
        let bound = |part| portion(count, part, self.parts);
        bound(self.part - 1)..bound(self.part)
    }
}

/// Returns `part` of `parts` of an amount, rounded down.
fn portion(amount: u64, part: u64, parts: u64) -> u64 {
    (u128::from(amount) * u128::from(part) / u128::from(parts)) as u64
}

/// Places a census remembers at most; more regions than these are cut at every second, fourth, … region.
const PLACES: usize = 1 << 16;

/// How many bases the regions of an input have, in bounded memory.
///
/// Shares made of it are contiguous, depend on nothing but the input, and have as many bases each as whole regions
/// allow; of inputs with more than 65,536 regions, as whole runs of up to `regions` / 32,768 regions allow.
#[derive(Clone, Debug)]
pub struct Census {
    /// Regions at which a share may begin, with the weight of all before.
    places: Vec<(u64, u64)>,
    /// How many regions lie between two places.
    every: u64,
    /// Regions that had a row.
    seen: u64,
    /// One past the last region.
    total: u64,
    weight: u64,
}

impl Default for Census {
    fn default() -> Self {
        Self { places: Vec::new(), every: 1, seen: 0, total: 0, weight: 0 }
    }
}

impl Census {
    /// Counts a row of `bases` bases of `region`; regions come in order.
    pub fn add(&mut self, region: u64, bases: u64) {
        if region >= self.total {
            if self.seen.is_multiple_of(self.every) {
                self.places.push((region, self.weight));
            }
            self.seen += 1;
            self.total = region + 1;
            self.thin();
        }
        // A row without bases is work, too.
        self.weight += bases + 1;
    }

    fn thin(&mut self) {
        if self.places.len() > PLACES {
            let mut index = 0;
            self.places.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.every *= 2;
        }
    }

    /// Counts all rows of a pipe.
    ///
    /// # Errors
    ///
    /// The pipe's own.
    pub fn of(pipe: Pipe) -> Result<Self> {
        let mut census = Self::default();
        for batch in pipe.into_parts().1 {
            let batch = batch?;
            let regions = schema::u64s(&batch, schema::REGION)?;
            let sequences = schema::strings(&batch, schema::SEQUENCE)?;
            for row in 0..batch.num_rows() {
                let bases = if sequences.is_null(row) { 0 } else { sequences.value(row).len() };
                census.add(regions.value(row), bases as u64);
            }
        }
        Ok(census)
    }

    /// Returns the regions that a shard takes.
    pub fn share(&self, shard: Shard) -> Share {
        let Shard { part, parts } = shard;
        let (first, end) = (self.bound(part - 1, parts), self.bound(part, parts));
        Share { part, parts, first, end, total: self.total, sparse: self.seen < self.total }
    }

    /// Returns the region that the first `part` of `parts` end before.
    fn bound(&self, part: u64, parts: u64) -> u64 {
        match part {
            0 => 0,
            part if part == parts => self.total,
            part => {
                let target = portion(self.weight, part, parts);
                let place = self.places.partition_point(|&(_, before)| before < target);
                self.places.get(place).map_or(self.total, |&(region, _)| region)
            }
        }
    }
}

/// Keeps the rows of a share and stops after them; the rows before are made and passed over.
pub fn rows_of(pipe: Pipe, share: Share) -> Pipe {
    let (schema, mut batches) = pipe.into_parts();
    let mut done = share.first >= share.end;
    let kept = std::iter::from_fn(move || {
        while !done {
            let batch = match batches.next()? {
                Ok(batch) => batch,
                failed => {
                    done = true;
                    return Some(failed);
                }
            };
            let range = match schema::u64s(&batch, schema::REGION) {
                Ok(regions) => {
                    let before = |region: u64| regions.values().partition_point(|&one| one < region);
                    before(share.first)..before(share.end)
                }
                Err(error) => {
                    done = true;
                    return Some(Err(error));
                }
            };
            done = range.end < batch.num_rows();
            if !range.is_empty() {
                return Some(Ok(batch.slice(range.start, range.len())));
            }
        }
        None
    });
    Pipe::new(schema, kept)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sequences::{Options, sequences};
    use super::*;

    fn rows(text: &str, batch_rows: usize) -> Pipe {
        let text = Box::new(std::io::Cursor::new(text.to_string()));
        sequences(text, "s.fa", Options { batch_rows, ..Options::default() }).unwrap()
    }

    fn regions(pipe: Pipe) -> Vec<u64> {
        let batches = pipe.into_parts().1;
        batches
            .flat_map(|batch| schema::u64s(&batch.unwrap(), schema::REGION).unwrap().values().to_vec())
            .collect()
    }

    #[test]
    fn a_shard_is_counted_from_one() {
        assert_eq!("2/3".parse::<Shard>().unwrap(), Shard { part: 2, parts: 3 });
        for bad in ["0/3", "4/3", "1", "a/2", "1/0"] {
            assert_eq!(bad.parse::<Shard>().unwrap_err().exit_status(), 2, "{bad}");
        }
    }

    #[test]
    fn many_regions_are_remembered_by_few_places() {
        let mut census = Census::default();
        (0..300_000).for_each(|region| census.add(region, 9));
        assert!(census.places.len() <= PLACES);
        let shares: Vec<_> = (1..=7).map(|part| census.share(Shard { part, parts: 7 })).collect();
        assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].first));
        let sizes = shares.iter().map(|share| share.end - share.first);
        assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 8);
    }

    proptest! {
        #[test]
        fn shares_differ_by_one_at_most(count in 0u64..1000, parts in 1u64..40) {
            let sizes: Vec<_> = (1..=parts).map(|part| {
                let share = Shard { part, parts }.share(count);
                share.end - share.start
            }).collect();
            prop_assert_eq!(sizes.iter().sum::<u64>(), count);
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }

        #[test]
        fn shares_are_the_whole_and_none_is_heavier_than_a_fair_one_and_a_region(
            lengths in prop::collection::vec(1usize..60, 0..40), parts in 1u64..9, batch in 1usize..9,
        ) {
            let text: String = lengths.iter().map(|&length| format!(">x\n{}\n", "A".repeat(length))).collect();
            let text = format!("{text}>last\nA\n");
            let census = Census::of(rows(&text, batch)).unwrap();
            let weight = |region: u64| lengths.get(region as usize).copied().unwrap_or(1) as u64 + 1;
            let total: u64 = (0..=lengths.len() as u64).map(weight).sum();
            let mut joined = Vec::new();
            for part in 1..=parts {
                let share = census.share(Shard { part, parts });
                prop_assert_eq!((share.total, share.sparse), (lengths.len() as u64 + 1, false));
                let kept = regions(rows_of(rows(&text, batch), share));
                prop_assert_eq!(&kept, &(share.first..share.end).collect::<Vec<_>>());
                prop_assert!(kept.iter().map(|&region| weight(region)).sum::<u64>() <= total / parts + 1 + 61);
                joined.extend(kept);
            }
            prop_assert_eq!(joined, (0..=lengths.len() as u64).collect::<Vec<_>>());
        }
    }
}
