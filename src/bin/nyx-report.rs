//! nyx-report: contributions and hits → one HTML page.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nyx::cli::{self, Common};
use nyx::error::InFile;
use nyx::report::{gather, page};
use nyx::{Result, motif, output};

/// Show motif hits and the contributions they were called on, in one HTML page that opens without a network.
///
/// Both inputs are read once, side by side, so contributions must be the stream that the hits were called on.
///
/// Example: nyx-report --contributions rows.arrows --hits hits.arrows --motifs modisco.h5 -o report.html
#[derive(Parser)]
#[command(name = "nyx-report", arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// Rows with contributions: an Arrow stream, an Arrow file or a Parquet file
    #[arg(long, value_name = "ROWS")]
    contributions: PathBuf,
    /// The hits that were called on them
    #[arg(long, value_name = "HITS")]
    hits: PathBuf,
    /// The motifs, to show beside what was found: MEME, TF-MoDISco HDF5 or CWMs as npy
    #[arg(long, value_name = "FILE")]
    motifs: Option<PathBuf>,
    /// Regions to show base by base: those with the largest coefficients
    #[arg(long, value_name = "N", default_value_t = 12)]
    top: usize,
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn run(args: Args) -> Result<()> {
    let patterns = args.motifs.as_deref().map(motif::read).transpose()?.unwrap_or_default();
    let rows = args.common.open(&args.contributions)?;
    let hits = args.common.open(&args.hits)?;
    let gathered = gather::gather(rows, hits, args.top).in_file(&args.hits)?;
    let html = page::page(&gathered, &patterns, &args.common.step());
    output::write_file(&args.common.output, html.as_bytes())?;
    let (hits, regions) = (gathered.hits, gathered.regions);
    args.common.say(&format!("{hits} hits in {regions} regions"));
    Ok(())
}

fn main() -> ExitCode {
    cli::main(run)
}
