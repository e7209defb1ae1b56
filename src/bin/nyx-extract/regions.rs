//! `nyx-extract regions`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use nyx::cli::Common;
use nyx::error::{Error, Result};
use nyx::extract::regions::{self, Options, Strands};
use nyx::extract::windows::UnknownContig;
use nyx::genome::Genome;
use nyx::genome::bed::{Columns, Interval};

use crate::shard::{Again, ShardArg};
use crate::windows::{self, WindowArgs};

/// Width of windows around peaks, as Fi-NeMo's.
const WIDTH: u32 = 1000;

/// Windows around peaks, or regions as they are: a row each, in the order of the files.
///
/// narrowPeak (10 columns) is centred on its summit, BED on the interval's midpoint; an even window has its centre
/// right of the middle. The `region` column counts the lines with an interval in all files and is never renumbered,
/// whatever is dropped.
///
/// Example: nyx-extract regions --fasta hg38.fa --peaks ctcf.narrowPeak.gz --exclude blacklist.bed > rows.arrows
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    windows: WindowArgs,
    /// BED or narrowPeak, gzip or not; `-` is standard input. Without peaks, -r and -R are the regions; with peaks, they
    /// keep the peaks that overlap them
    #[arg(long, value_name = "FILE", num_args = 1..)]
    peaks: Vec<PathBuf>,
    /// Bases of a window; 0 keeps each interval as it is (default: 1000 for peaks, 0 for -r and -R)
    #[arg(long, value_name = "BASES")]
    width: Option<u32>,
    /// Read the strand that the BED file states: `-` is reverse-complemented
    #[arg(long, conflicts_with = "both_strands")]
    strand: bool,
    /// Two rows of each region: `+`, then `-`
    #[arg(long)]
    both_strands: bool,
    /// Peaks on a contig that the genome does not have: fail, or keep them without a sequence (status unknown_contig)
    #[arg(long, value_enum, value_name = "POLICY", default_value_t)]
    unknown_contig: Unknown,
    #[command(flatten)]
    shard: ShardArg,
}

#[derive(Clone, Copy, Default, PartialEq, ValueEnum)]
enum Unknown {
    #[default]
    Error,
    Status,
}

type Intervals = Box<dyn Iterator<Item = Result<Interval>> + Send>;

pub fn run(args: Args, common: &Common) -> Result<()> {
    if args.peaks.is_empty() && !args.windows.has_regions() {
        return Err(Error::usage("no regions: give --peaks FILE, -r REGION or -R FILE"));
    }
    let genome = args.windows.open_genome(common)?;
    // Before anything is read: what comes through a pipe has to be kept from its first byte on.
    let files = files(&args);
    let again = args.shard.shard.map(|_| Again::new(&files.iter().map(PathBuf::as_path).collect::<Vec<_>>()));
    let again = again.transpose()?;
    let (mut intervals, mut options) = prepare(&args, &genome, common)?;
    if let (Some(shard), Some(again)) = (args.shard.shard, again) {
        options.share = Some(regions::share(intervals, shard, &options)?);
        again.rewind()?;
        intervals = prepare(&args, &genome, common)?.0;
    }
    let (share, dropped) = (options.share, Arc::default());
    let pipe = regions::regions(genome, intervals, options, Arc::clone(&dropped));
    windows::write(pipe, share, &dropped, common)
}

/// Returns the files with the intervals that become rows.
fn files(args: &Args) -> Vec<PathBuf> {
    if args.peaks.is_empty() {
        args.windows.regions_file.iter().cloned().collect()
    } else {
        args.peaks.clone()
    }
}

/// Opens the intervals and reads everything that filters them.
fn prepare(args: &Args, genome: &Genome, common: &Common) -> Result<(Intervals, Options)> {
    let map = args.windows.contig_map()?;
    let typed = args.windows.typed_regions(genome, &map)?;
    let typed = typed.into_iter().map(|region| Interval::new(region.chrom, region.start, region.end));
    let file = args.windows.regions_file.as_deref();
    let mut options = Options {
        width: args.width.unwrap_or(if args.peaks.is_empty() { 0 } else { WIDTH }).into(),
        strands: match (args.strand, args.both_strands) {
            (_, true) => Strands::Both,
            (true, _) => Strands::Own,
            _ => Strands::Reference,
        },
        exclude: args.windows.excluded(genome, &map)?,
        rows: args.windows.row_options(common),
        ..Options::default()
    };
    if args.unknown_contig == Unknown::Status {
        options.rows.unknown = UnknownContig::Status;
    }
    let mut intervals: Intervals = Box::new(std::iter::empty());
    if args.peaks.is_empty() {
        intervals = Box::new(typed.map(Ok));
    } else if args.windows.has_regions() {
        let within =
            file.map(|file| windows::interval_set(file, genome, &map)).transpose()?.unwrap_or_default();
        options.within = Some(within.union(typed));
    }
    for path in files(args) {
        intervals = Box::new(intervals.chain(windows::open_bed(&path, Columns::All)?));
    }
    options.contig_map = map;
    Ok((intervals, options))
}
