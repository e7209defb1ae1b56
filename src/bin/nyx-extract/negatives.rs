//! `nyx-extract negatives`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::ValueEnum;
use nyx::cli::Common;
use nyx::error::{Error, Result};
use nyx::extract::negatives::{self, Kind, Options, Unmatched};
use nyx::extract::shard::rows_of;
use nyx::genome::Genome;
use nyx::genome::bed::{Columns, IntervalSet};
use nyx::pipe::Pipe;
use nyx::provenance::{Share, Step};

use crate::shard::{self, ShardArg};
use crate::windows;

/// Rows in a batch unless the user says otherwise.
const BATCH: usize = 1024;

/// Make negatives for rows: windows of the genome with the same G and C, windows anywhere, or shuffles.
///
/// gc: a window on the same contig, as long, with as many G and C in whole percent, without N, that no positive touches
/// (NyxBind's recipe). intervals: a window anywhere on the same contig (`bedtools shuffle -chrom`, DNABERT-Enhancer's).
/// dinucleotide, mononucleotide: the same bases in another order. Negatives keep `region`, strand and name of their
/// positive and have the label 0.
///
/// Example: nyx-extract regions --fasta hg38.fa --peaks p.narrowPeak --width 101 | nyx-extract negatives --kind gc --fasta hg38.fa --with-positives > set.arrows
#[derive(clap::Args)]
pub struct Args {
    /// Positives: an Arrow stream, an Arrow file or a Parquet file; `-` is standard input
    #[arg(default_value = "-")]
    input: PathBuf,
    /// What negatives are
    #[arg(long, value_enum, value_name = "KIND")]
    kind: KindArg,
    /// Genome of the windows: FASTA (plain or BGZF) or 2bit
    #[arg(long, value_name = "FILE")]
    fasta: Option<PathBuf>,
    /// Windows must not touch the intervals of this BED file (a blacklist)
    #[arg(long, value_name = "FILE", requires = "fasta")]
    exclude: Option<PathBuf>,
    /// Negatives of each positive
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Write the positives, too, with the label 1, each before its negatives
    #[arg(long)]
    with_positives: bool,
    /// Leave positives out for which not all negatives were found
    #[arg(long, requires = "fasta")]
    only_matched: bool,
    /// Windows that are drawn for a negative before its positive is left without
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,
    #[command(flatten)]
    shard: ShardArg,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum KindArg {
    Gc,
    Intervals,
    Dinucleotide,
    Mononucleotide,
}

pub fn run(args: Args, common: &Common) -> Result<()> {
    let kind = match args.kind {
        KindArg::Gc => Kind::GcMatched,
        KindArg::Intervals => Kind::Intervals,
        KindArg::Dinucleotide => Kind::Dinucleotide,
        KindArg::Mononucleotide => Kind::Mononucleotide,
    };
    let windows = matches!(kind, Kind::GcMatched | Kind::Intervals);
    if windows != args.fasta.is_some() {
        return Err(Error::usage(match windows {
            true => "--kind gc and intervals need --fasta: their negatives are windows of it",
            false => "--fasta: shuffles need no genome",
        }));
    }
    let genome = args.fasta.as_deref().map(Genome::open).transpose()?;
    let exclude = match &args.exclude {
        Some(path) => windows::open_bed(path, Columns::Three)?.collect::<Result<IntervalSet>>()?,
        None => IntervalSet::default(),
    };
    let options = Options {
        kind,
        count: args.count as usize,
        with_positives: args.with_positives,
        only_matched: args.only_matched,
        exclude,
        tries: args.tries as usize,
        seed: common.seed,
        batch_rows: common.batch_rows(BATCH),
    };
    let unmatched = Arc::new(Unmatched::default());
    // A positive may be left without negatives.
    let share = shard::of_rows(args.shard.shard, &args.input)?.map(|share| Share { sparse: true, ..share });
    let part = |pipe: Pipe, here: bool| match share {
        Some(share) if here => rows_of(pipe, share),
        _ => pipe,
    };
    // A window of the genome serves once: each depends on all positives, a shuffle on its own alone.
    let rows = part(common.open(&args.input)?, !windows);
    let pipe = part(negatives::negatives(rows, genome, options, unmatched.clone())?, windows);
    common.write(pipe, Step { share, seed: Some(common.seed), ..common.step() })?;
    let (missing, skipped) =
        (unmatched.missing.load(Ordering::Relaxed), unmatched.skipped.load(Ordering::Relaxed));
    if missing > 0 {
        common.say(&format!("{missing} negatives are missing: no window was found for them (--tries)"));
    }
    if skipped > 0 {
        common.say(&format!("{skipped} rows have no negatives: no sequence, no coordinates, or N"));
    }
    Ok(())
}
