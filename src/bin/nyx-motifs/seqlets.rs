//! `nyx-motifs seqlets`: where contributions stand out.

use std::path::PathBuf;

use nyx::Result;
use nyx::cli::Common;
use nyx::discover::gather::{Gathered, gather};
use nyx::discover::recursive::{self, Called, Recursion};
use nyx::discover::seqlet_rows;
use nyx::discover::seqlets::{Extraction, extract};
use nyx::discover::tracks::Seqlet;
use nyx::error::Error;

use crate::write;

/// Seqlets: stretches whose contributions stand out of a null distribution
///
/// One row a seqlet, with its place and the sum of its contributions. As TF-MoDISco extracts them: of one width, at a
/// false discovery rate. With --recursive as tangermeme's recursive_seqlets: as long as all of their parts contribute more
/// than chance, and with a p-value.
///
/// Example: nyx-attrib peaks.arrows --model spi1/ --method deeplift | nyx-motifs seqlets --recursive | nyx-view -O bed
#[derive(clap::Args)]
pub struct Args {
    /// Rows with `sequence` and `contributions` or `hypothetical`: a stream, an Arrow or Parquet file; `-` is standard input
    #[arg(value_name = "INPUT", default_value = "-")]
    input: PathBuf,
    /// Central bases of a row to look at [default: all]
    #[arg(short = 'w', long, value_name = "N")]
    window: Option<usize>,
    /// Bases of a seqlet's core
    #[arg(short = 'z', long, value_name = "N", default_value_t = 20, conflicts_with = "recursive")]
    size: usize,
    /// Bases on either side of it [default: 5, with --recursive 0]
    #[arg(short = 'f', long, value_name = "N")]
    seqlet_flank_size: Option<usize>,
    /// False discovery rate
    #[arg(long, value_name = "RATE", default_value_t = 0.05, conflicts_with = "recursive")]
    fdr: f64,
    /// Seqlets of any length, all of whose parts have a p-value below --threshold
    #[arg(long)]
    recursive: bool,
    /// The p-value that all parts of a seqlet must have: a rank, not an error rate
    #[arg(long, value_name = "P", default_value_t = 0.01, requires = "recursive")]
    threshold: f64,
    /// Bases of the shortest seqlet
    #[arg(long, value_name = "N", default_value_t = 4, requires = "recursive")]
    min_length: usize,
    /// Bases of the longest
    #[arg(long, value_name = "N", default_value_t = 25, requires = "recursive")]
    max_length: usize,
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    args.check()?;
    let pipe = common.open(&args.input)?;
    let schema = pipe.schema().clone();
    let gathered = gather(pipe, args.window.unwrap_or(usize::MAX))?;
    let (positive, negative, p_values) = args.find(&gathered);
    let counts = (positive.len(), negative.len());
    let all = [positive, negative].concat();
    common.write(seqlet_rows::pipe(&gathered, &all, p_values.as_deref(), &schema)?, common.step())?;
    let rows = gathered.rows;
    common.say(&format!("{} positive and {} negative seqlets in {rows} rows", counts.0, counts.1));
    Ok(())
}

impl Args {
    fn check(&self) -> Result<()> {
        write::positive("--size", self.size)?;
        write::positive("--min-length", self.min_length)?;
        if !(self.fdr > 0.0 && self.fdr < 1.0) {
            return Err(Error::usage(format!("--fdr {}: it must lie between 0 and 1", self.fdr)));
        }
        if !(self.threshold > 0.0 && self.threshold <= 1.0) {
            let message = format!("--threshold {}: a p-value lies between 0 and 1", self.threshold);
            return Err(Error::usage(message));
        }
        if self.max_length < self.min_length {
            return Err(Error::usage(format!(
                "--max-length {}: it must be at least --min-length {}",
                self.max_length, self.min_length
            )));
        }
        Ok(())
    }

    /// Returns positive and negative seqlets, and the p-values of all where there are any.
    fn find(&self, gathered: &Gathered) -> (Vec<Seqlet>, Vec<Seqlet>, Option<Vec<f64>>) {
        if !self.recursive {
            let flank = self.seqlet_flank_size.unwrap_or(5);
            let how = Extraction { core: self.size, flank, fdr: self.fdr, ..Extraction::default() };
            let found = extract(&gathered.tracks, &how);
            return (found.positive, found.negative, None);
        }
        let how = Recursion {
            threshold: self.threshold,
            shortest: self.min_length,
            longest: self.max_length,
            flank: self.seqlet_flank_size.unwrap_or(0),
            ..Recursion::default()
        };
        let (positive, negative) = recursive::call(&gathered.tracks, &how);
        let p_values = positive.iter().chain(&negative).map(|called| called.p_value).collect();
        let places = |called: Vec<Called>| called.into_iter().map(|called| called.seqlet).collect();
        (places(positive), places(negative), Some(p_values))
    }
}
