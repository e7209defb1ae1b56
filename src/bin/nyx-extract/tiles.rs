//! `nyx-extract tiles`.

use std::sync::Arc;

use clap::ValueEnum;
use nyx::cli::Common;
use nyx::error::Result;
use nyx::extract::tiles::{self, Options, Shard};
use nyx::genome::Genome;
use nyx::genome::bed::Columns;
use nyx::region::Region;

use crate::windows::{self, WindowArgs};

/// Windows at even steps over the genome or parts of it.
///
/// The first window of a contig (or region) begins at its start. The `region` column is the window's ordinal in the
/// whole scan, so shards fit together: the rows of shards 1/n to n/n, one after the other, are those of the whole.
///
/// Example: nyx-extract tiles --fasta hg38.fa --width 201 --stride 50 -r chr20 --n-policy drop > rows.arrows
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    windows: WindowArgs,
    /// Bases of a window
    #[arg(long, value_name = "BASES", default_value_t = 201, value_parser = clap::value_parser!(u32).range(1..))]
    width: u32,
    /// Bases from the start of a window to that of the next
    #[arg(long, value_name = "BASES", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    stride: u32,
    /// Bases after the last whole window of a contig or region: one more window, which takes what follows the region and N
    /// past the contig; or drop them
    #[arg(long, value_enum, value_name = "POLICY", default_value_t)]
    tail: Tail,
    /// Only the i-th of n parts of the scan, equal in windows
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    shard: Shard,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum Tail {
    Drop,
    #[default]
    Pad,
}

pub fn run(args: Args, common: &Common) -> Result<()> {
    let genome = args.windows.open_genome(common)?;
    let map = args.windows.contig_map()?;
    let mut regions = args.windows.typed_regions(&genome, &map)?;
    if let Some(path) = &args.windows.regions_file {
        for interval in windows::open_bed(path, Columns::Three)? {
            let interval = interval?;
            let chrom = map.get(&interval.chrom).cloned().unwrap_or(interval.chrom);
            regions.push(Region { chrom, start: interval.start, end: interval.end });
        }
    }
    if !args.windows.has_regions() {
        let whole =
            |(chrom, length): &(String, u64)| Region { chrom: chrom.clone(), start: 0, end: *length as i64 };
        regions = genome.record().contigs.iter().map(whole).collect();
    }
    clip(&mut regions, &genome)?;
    let options = Options {
        width: args.width.into(),
        stride: args.stride.into(),
        tail: match args.tail {
            Tail::Drop => tiles::Tail::Drop,
            Tail::Pad => tiles::Tail::Pad,
        },
        shard: args.shard,
        exclude: args.windows.excluded(&genome, &map)?,
        rows: args.windows.row_options(common),
    };
    let dropped = Arc::default();
    let pipe = tiles::tiles(genome, regions, options, Arc::clone(&dropped));
    windows::write(pipe, &dropped, common)
}

/// Cuts regions at the ends of their contigs.
fn clip(regions: &mut [Region], genome: &Genome) -> Result<()> {
    for region in regions {
        let length =
            genome.contig_length(&region.chrom).ok_or_else(|| genome.unknown_contig(&region.chrom))?;
        region.end = region.end.min(length as i64);
    }
    Ok(())
}
