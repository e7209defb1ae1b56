//! Rows of `nyx-extract tiles`: a scan of the genome.

use std::ops::Range;
use std::sync::Arc;

use super::shard::Shard;
use super::windows::{self, Dropped, NPolicy, Window};
use crate::error::Result;
use crate::genome::Genome;
use crate::genome::bed::IntervalSet;
use crate::pipe::Pipe;
use crate::provenance::Share;
use crate::region::{Region, Strand};

/// Bases looked at together to pass over runs of `N`.
const PROBE: i64 = 1 << 16;

/// What becomes of the bases after the last whole window of a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    /// They are lost.
    Drop,
    /// One more step is made while bases are left: its window reaches past the region's end, with the genome's own
    /// bases there and `N` past the contig's end.
    #[default]
    Pad,
}

/// How a scan is laid out.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bases of a window, at least 1.
    pub width: i64,
    /// Bases from a window's start to that of the next, at least 1.
    pub stride: i64,
    /// What becomes of the tail.
    pub tail: Tail,
    /// Which part of the windows.
    pub shard: Shard,
    /// Drop windows that overlap these.
    pub exclude: IntervalSet,
    /// How windows become rows.
    pub rows: windows::Options,
}

impl Options {
    /// Returns how many windows a region of `length` bases has.
    fn count(&self, length: i64) -> u64 {
        let (length, width, stride) = (length.max(0) as u64, self.width as u64, self.stride as u64);
        match self.tail {
            Tail::Drop if length < width => 0,
            Tail::Drop => (length - width) / stride + 1,
            // With gaps between windows the end may lie in one: no window starts past the end.
            Tail::Pad => (1 + length.saturating_sub(width).div_ceil(stride)).min(length.div_ceil(stride)),
        }
    }
}

/// Returns what a scan of `regions` takes of all their windows.
pub fn share(regions: &[Region], options: &Options) -> Share {
    let total = regions.iter().map(|region| options.count(region.end - region.start)).sum();
    let Range { start: first, end } = options.shard.share(total);
    let (part, parts) = (options.shard.part(), options.shard.parts());
    let sparse = options.rows.n_policy == NPolicy::Drop || options.exclude.contigs().next().is_some();
    Share { part, parts, first, end, total, sparse }
}

/// Makes a row of each window of the scan over `regions`, which lie inside their contigs. The `region` column is the
/// window's ordinal in the scan of all shards.
pub fn tiles(genome: Genome, regions: Vec<Region>, options: Options, dropped: Arc<Dropped>) -> Pipe {
    let rows = options.rows;
    let windows = Tiles::new(genome.clone(), regions, options, dropped.clone());
    windows::rows(genome, windows, rows, dropped)
}

struct Tiles {
    genome: Genome,
    regions: std::vec::IntoIter<Region>,
    options: Options,
    dropped: Arc<Dropped>,
    /// Ordinals still to come.
    share: Range<u64>,
    /// Ordinal of the first window of the next region.
    following: u64,
    current: Option<Scan>,
    /// Bases before this were looked at.
    probed: i64,
    bases: Vec<u8>,
}

/// A region under scan.
struct Scan {
    chrom: Arc<str>,
    start: i64,
    ordinals: Range<u64>,
}

impl Tiles {
    fn new(genome: Genome, regions: Vec<Region>, options: Options, dropped: Arc<Dropped>) -> Self {
        let Share { first, end, .. } = share(&regions, &options);
        let regions = regions.into_iter();
        Self {
            genome,
            regions,
            options,
            dropped,
            share: first..end,
            following: 0,
            current: None,
            probed: 0,
            bases: Vec::new(),
        }
    }

    /// Returns the region of the next window, passing over regions of other shards.
    fn scan(&mut self) -> Option<&Scan> {
        while self.current.as_ref().is_none_or(|scan| scan.ordinals.end <= self.share.start) {
            let region = self.regions.next()?;
            let count = self.options.count(region.end - region.start);
            let ordinals = self.following..self.following + count;
            self.following = ordinals.end;
            self.probed = region.start;
            self.current = Some(Scan { chrom: region.chrom.as_str().into(), start: region.start, ordinals });
        }
        self.current.as_ref()
    }

    /// Returns the next window before any is dropped.
    fn step(&mut self) -> Option<Window> {
        if self.share.is_empty() {
            return None;
        }
        let (region, width, stride) = (self.share.start, self.options.width, self.options.stride);
        let scan = self.scan()?;
        let start = scan.start + (region - scan.ordinals.start) as i64 * stride;
        let chrom = scan.chrom.clone();
        self.share.start += 1;
        Some(Window { region, chrom, start, end: start + width, strand: Strand::Unknown, name: None })
    }

    /// Returns whether a window begins with `N`, as far as is known without reading the bases twice.
    fn begins_with_n(&mut self, window: &Window) -> Result<bool> {
        if window.start >= self.probed {
            self.genome.fetch(&window.chrom, window.start, window.start + PROBE, &mut self.bases)?;
            let run = self.bases.iter().position(|&base| base != b'N').unwrap_or(self.bases.len());
            self.bases.truncate(run);
            self.probed = window.start + PROBE;
        }
        let run_end = self.probed - PROBE + self.bases.len() as i64;
        Ok(window.start < run_end)
    }

    fn next_window(&mut self) -> Result<Option<Window>> {
        while let Some(window) = self.step() {
            if self.options.exclude.overlaps(&window.chrom, window.start, window.end) {
                Dropped::add(&self.dropped.excluded, 1);
            } else if self.options.rows.n_policy == NPolicy::Drop && self.begins_with_n(&window)? {
                Dropped::add(&self.dropped.with_n, 1);
            } else {
                return Ok(Some(window));
            }
        }
        Ok(None)
    }
}

impl Iterator for Tiles {
    type Item = Result<Window>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_window().transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::windows::tests::{genome, read};
    use super::*;
    use crate::genome::bed::Interval;

    fn options(width: i64, stride: i64) -> Options {
        Options {
            width,
            stride,
            tail: Tail::default(),
            shard: Shard::default(),
            exclude: IntervalSet::default(),
            rows: windows::Options::default(),
        }
    }

    fn region(chrom: &str, start: i64, end: i64) -> Region {
        Region { chrom: chrom.into(), start, end }
    }

    #[test]
    fn the_tail_reads_on_past_its_region_and_is_padded_past_the_contig() {
        let genome = genome(&[("a", "ACGTTGCAAC")]);
        let run = |regions: Vec<Region>, tail| {
            read(tiles(genome.clone(), regions, Options { tail, ..options(4, 3) }, Arc::default())).unwrap()
        };
        assert_eq!(
            run(vec![region("a", 0, 10)], Tail::Pad),
            ["0 a:0-4. ACGT ok", "1 a:3-7. TTGC ok", "2 a:6-10. CAAC ok"]
        );
        assert_eq!(run(vec![region("a", 1, 6)], Tail::Pad), ["0 a:1-5. CGTT ok", "1 a:4-8. TGCA ok"]);
        assert_eq!(run(vec![region("a", 1, 6)], Tail::Drop), ["0 a:1-5. CGTT ok"]);
        assert_eq!(run(vec![region("a", 8, 10)], Tail::Pad), ["0 a:8-12. ACNN off_contig"]);
        assert_eq!(run(vec![region("a", 8, 10)], Tail::Drop), [""; 0]);
    }

    proptest! {
        #[test]
        fn no_base_is_lost_and_no_window_begins_past_the_end(
            length in 0i64..60, width in 1i64..12, stride in 1i64..12,
        ) {
            let starts = |tail| {
                let count = Options { tail, ..options(width, stride) }.count(length);
                (0..count as i64).map(|step| step * stride).collect::<Vec<_>>()
            };
            let whole: Vec<i64> = (0..length).step_by(stride as usize).filter(|s| s + width <= length).collect();
            prop_assert_eq!(starts(Tail::Drop), whole);
            let padded = starts(Tail::Pad);
            prop_assert!(padded.iter().all(|&start| start < length));
            let covered = |base: i64| padded.iter().any(|&start| start <= base && base < start + width);
            // Bases between windows further apart than wide belong to none.
            prop_assert!((0..length).all(|base| covered(base) || base % stride >= width));
            // The last window is needed.
            prop_assert!(padded.iter().rev().skip(1).all(|&start| start + width < length));
        }

        #[test]
        fn shards_one_after_the_other_are_the_whole(
            lengths in prop::collection::vec(0usize..40, 1..4),
            width in 1i64..9, stride in 1i64..9, parts in 1u64..7, drop in any::<bool>(),
        ) {
            let names = ["a", "b", "c"];
            let bases: Vec<String> = lengths.iter().map(|&n| "ACGNNT".repeat(8)[..n].to_string()).collect();
            let contigs: Vec<_> = names.into_iter().zip(bases.iter().map(String::as_str)).collect();
            let genome = genome(&contigs);
            let regions: Vec<_> = contigs.iter().map(|(name, bases)| region(name, 0, bases.len() as i64)).collect();
            let run = |part, parts| {
                let mut options = options(width, stride);
                options.shard = Shard::new(part, parts).unwrap();
                options.exclude = [Interval::new("a", 3, 5)].into_iter().collect();
                if drop {
                    options.rows.n_policy = NPolicy::Drop;
                }
                read(tiles(genome.clone(), regions.clone(), options, Arc::default())).unwrap()
            };
            let joined: Vec<_> = (1..=parts).flat_map(|part| run(part, parts)).collect();
            prop_assert_eq!(joined, run(1, 1));
        }
    }

    #[test]
    fn a_long_run_of_n_is_passed_over_and_counted() {
        let bases = format!("{}ACGTACGT{}ACGT", "N".repeat(200_000), "n".repeat(150_000));
        let genome = genome(&[("a", &bases)]);
        let length = bases.len() as i64;
        let run = |n_policy, dropped: &Arc<Dropped>| {
            let mut options = options(4, 2);
            options.rows.n_policy = n_policy;
            read(tiles(genome.clone(), vec![region("a", 0, length)], options, dropped.clone())).unwrap()
        };
        let (kept, dropped) = (Arc::default(), Arc::default());
        let all = run(NPolicy::Keep, &kept);
        let expected: Vec<_> =
            all.iter().filter(|row| !row[row.find(' ').unwrap()..].contains('N')).cloned().collect();
        assert_eq!(run(NPolicy::Drop, &dropped), expected);
        assert_eq!(expected.len(), 4);
        assert_eq!(dropped.to_string(), format!("{0} rows dropped: {0} with N", all.len() - 4));
    }
}
