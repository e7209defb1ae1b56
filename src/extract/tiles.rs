//! Rows of `nyx-extract tiles`: a scan of the genome.

use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use super::windows::{self, Dropped, NPolicy, Window};
use crate::error::{Error, Result};
use crate::genome::Genome;
use crate::genome::bed::IntervalSet;
use crate::pipe::Pipe;
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

/// A part of the scan: the `part`-th of `parts`, counted from 1.
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
        if part == 0 || part > parts { Err(bad()) } else { Ok(Self { part, parts }) }
    }
}

impl Shard {
    /// Returns this shard's share of `count` things; the shares are contiguous and differ by one at most.
    pub fn share(self, count: u64) -> Range<u64> {
        let bound = |part: u64| (u128::from(count) * u128::from(part) / u128::from(self.parts)) as u64;
        bound(self.part - 1)..bound(self.part)
    }
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
        let total = regions.iter().map(|region| options.count(region.end - region.start)).sum();
        let share = options.shard.share(total);
        let regions = regions.into_iter();
        Self {
            genome,
            regions,
            options,
            dropped,
            share,
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
