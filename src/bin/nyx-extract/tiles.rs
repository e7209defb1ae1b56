//! `nyx-extract tiles`.

use std::collections::HashMap;
use std::sync::Arc;

use clap::ValueEnum;
use nyx::cli::Common;
use nyx::error::{Error, Result};
use nyx::extract::shard::Shard;
use nyx::extract::tiles::{self, Options};
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
    let regions = regions(&args.windows, &genome, &map)?;
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
    let share = tiles::share(&regions, &options);
    let pipe = tiles::tiles(genome, regions, options, Arc::clone(&dropped));
    windows::write(pipe, Some(share), &dropped, common)
}

/// Returns the regions to scan, cut at the ends of their contigs: those asked for, or every contig.
fn regions(args: &WindowArgs, genome: &Genome, map: &HashMap<String, String>) -> Result<Vec<Region>> {
    if !args.has_regions() {
        let whole =
            |(chrom, length): &(String, u64)| Region { chrom: chrom.clone(), start: 0, end: *length as i64 };
        return Ok(genome.record().contigs.iter().map(whole).collect());
    }
    let mut regions = args.typed_regions(genome, map)?;
    if let Some(path) = &args.regions_file {
        for interval in windows::open_bed(path, Columns::Three)? {
            let interval = interval?;
            let chrom = map.get(&interval.chrom).cloned().unwrap_or(interval.chrom);
            regions.push(Region { chrom, start: interval.start, end: interval.end });
        }
    }
    for region in &mut regions {
        let length =
            genome.contig_length(&region.chrom).ok_or_else(|| genome.unknown_contig(&region.chrom))?;
        if region.start > length as i64 {
            return Err(Error::data(format!("region {region} begins past the {length} bases of its contig")));
        }
        region.end = region.end.min(length as i64);
    }
    Ok(regions)
}
