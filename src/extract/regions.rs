//! Rows of `nyx-extract regions`.

use std::collections::HashMap;
use std::sync::Arc;

use super::windows::{self, Dropped, Window};
use crate::error::Result;
use crate::genome::Genome;
use crate::genome::bed::{Interval, IntervalSet};
use crate::pipe::Pipe;
use crate::region::{Region, Strand};

/// Which strands of an interval become rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strands {
    /// As the reference is written, whatever the interval says.
    #[default]
    Reference,
    /// The interval's own: reverse-complemented when it is `-`.
    Own,
    /// Two rows of the same region, `+` and then `-`.
    Both,
}

/// How intervals become windows.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Width of the window around the summit or midpoint; 0 keeps the interval.
    pub width: i64,
    /// Which strands to read.
    pub strands: Strands,
    /// Contig names of the intervals → those of the genome; a name without an entry stays.
    pub contig_map: HashMap<String, String>,
    /// Keep only intervals that overlap these, in names of the genome.
    pub within: Option<IntervalSet>,
    /// Drop windows that overlap these, in names of the genome.
    pub exclude: IntervalSet,
    /// How windows become rows.
    pub rows: windows::Options,
}

/// Makes a row (two, for both strands) of each interval; the `region` column is the interval's ordinal before any
/// was dropped.
pub fn regions(
    genome: Genome,
    intervals: impl Iterator<Item = Result<Interval>> + Send + 'static,
    options: Options,
    dropped: Arc<Dropped>,
) -> Pipe {
    let rows = options.rows;
    let counts = dropped.clone();
    let windows = intervals.zip(0..).flat_map(move |(interval, region)| match interval {
        Ok(interval) => windows_of(interval, region, &options, &counts),
        Err(error) => vec![Err(error)],
    });
    windows::rows(genome, windows, rows, dropped)
}

fn windows_of(interval: Interval, region: u64, options: &Options, dropped: &Dropped) -> Vec<Result<Window>> {
    let chrom = options.contig_map.get(&interval.chrom).unwrap_or(&interval.chrom);
    let (start, end) = match options.width {
        0 => (interval.start, interval.end),
        width => {
            let window = Region::around("", interval.center(), width);
            (window.start, window.end)
        }
    };
    let strands: &[Strand] = match options.strands {
        Strands::Reference => &[Strand::Unknown],
        Strands::Own => &[interval.strand],
        Strands::Both => &[Strand::Forward, Strand::Reverse],
    };
    let elsewhere = |within: &IntervalSet| !within.overlaps(chrom, interval.start, interval.end);
    let counter = if options.within.as_ref().is_some_and(elsewhere) {
        &dropped.elsewhere
    } else if options.exclude.overlaps(chrom, start, end) {
        &dropped.excluded
    } else {
        let chrom: Arc<str> = chrom.as_str().into();
        let name = interval.name;
        let window =
            |&strand| Ok(Window { region, chrom: chrom.clone(), start, end, strand, name: name.clone() });
        return strands.iter().map(window).collect();
    };
    Dropped::add(counter, strands.len() as u64);
    Vec::new()
}
