//! `nyx-motifs seqlets`: where contributions stand out.

use std::path::PathBuf;

use nyx::Result;
use nyx::cli::Common;
use nyx::discover::gather::gather;
use nyx::discover::seqlet_rows;
use nyx::discover::seqlets::{Extraction, extract};
use nyx::error::Error;

use crate::write;

/// Seqlets: stretches whose contributions stand out of a null distribution, as TF-MoDISco extracts them
///
/// One row a seqlet, with its place and the sum of its contributions.
#[derive(clap::Args)]
pub struct Args {
    /// Rows with `sequence` and `contributions` or `hypothetical`: a stream, an Arrow or Parquet file; `-` is standard input
    #[arg(value_name = "INPUT", default_value = "-")]
    input: PathBuf,
    /// Central bases of a row to look at [default: all]
    #[arg(short = 'w', long, value_name = "N")]
    window: Option<usize>,
    /// Bases of a seqlet's core
    #[arg(short = 'z', long, value_name = "N", default_value_t = 20)]
    size: usize,
    /// Bases on either side of it
    #[arg(short = 'f', long, value_name = "N", default_value_t = 5)]
    seqlet_flank_size: usize,
    /// False discovery rate
    #[arg(long, value_name = "RATE", default_value_t = 0.05)]
    fdr: f64,
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    write::positive("--size", args.size)?;
    if !(args.fdr > 0.0 && args.fdr < 1.0) {
        return Err(Error::usage(format!("--fdr {}: it must lie between 0 and 1", args.fdr)));
    }
    let pipe = common.open(&args.input)?;
    let schema = pipe.schema().clone();
    let gathered = gather(pipe, args.window.unwrap_or(usize::MAX))?;
    let how =
        Extraction { core: args.size, flank: args.seqlet_flank_size, fdr: args.fdr, ..Extraction::default() };
    let found = extract(&gathered.tracks, &how);
    common.write(seqlet_rows::pipe(&gathered, &found, &schema)?, common.step())?;
    let (positive, negative) = (found.positive.len(), found.negative.len());
    common.say(&format!("{positive} positive and {negative} negative seqlets in {} rows", gathered.rows));
    Ok(())
}
