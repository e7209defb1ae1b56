//! `nyx-motifs denovo`: motifs from contributions alone.

use std::path::PathBuf;

use nyx::Result;
use nyx::cli::Common;
use nyx::discover::gather::{Gathered, gather};
use nyx::discover::modisco::{Patterns, Settings, discover};
use nyx::discover::seqlets::Extraction;
use nyx::discover::{files, hdf5};
use nyx::error::Error;
use nyx::provenance::{self, CHAIN_KEY};

use crate::write;

/// Motifs from contributions alone, by TF-MoDISco's procedure
///
/// Seqlets are stretches whose contributions stand out; those that are alike are laid over each other to patterns.
/// Flags have the letters and defaults of `modisco motifs` (tfmodisco-lite) where nothing else is said. The HDF5 file is
/// read by nyx-hits --motifs, Fi-NeMo and `modisco report`.
///
/// Example: nyx-attrib peaks.arrows --model spi1/ --method ism | nyx-motifs denovo --h5 modisco.h5 --outdir motifs/ | nyx-view
#[derive(clap::Args)]
pub struct Args {
    /// Rows with `sequence` and `hypothetical` or `contributions`: a stream, an Arrow or Parquet file; `-` is standard input
    #[arg(value_name = "INPUT", default_value = "-")]
    input: PathBuf,
    /// Write the patterns and their seqlets into this HDF5 file, in tfmodisco-lite's layout
    #[arg(long, value_name = "FILE")]
    h5: Option<PathBuf>,
    /// Write MEME and logos into this directory
    #[arg(long, value_name = "DIR")]
    outdir: Option<PathBuf>,
    /// Largest number of seqlets with contributions of either sign; the first rows count [default there: none]
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20_000)]
    max_seqlets: usize,
    /// Central bases of a row to look at; rows with fewer are looked at as they are
    #[arg(short = 'w', long, value_name = "N", default_value_t = 400)]
    window: usize,
    /// Bases of a seqlet's core
    #[arg(short = 'z', long, value_name = "N", default_value_t = 20)]
    size: usize,
    /// Bases on either side of it
    #[arg(short = 'f', long, value_name = "N", default_value_t = 5)]
    seqlet_flank_size: usize,
    /// Positions that patterns are cut to
    #[arg(short = 't', long, value_name = "N", default_value_t = 30)]
    trim_size: usize,
    /// Positions added on either side of them
    #[arg(short = 'g', long, value_name = "N", default_value_t = 10)]
    initial_flank_to_add: usize,
    /// Positions added on either side at the end
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0)]
    final_flank_to_add: usize,
    /// Clusterings with different seeds, of which the best counts
    #[arg(short = 'l', long, value_name = "N", default_value_t = 2)]
    n_leiden: usize,
    /// False discovery rate of seqlets
    #[arg(long, value_name = "RATE", default_value_t = 0.05)]
    fdr: f64,
    /// Seqlets that a pattern must have
    #[arg(long, value_name = "N", default_value_t = 20)]
    min_n: usize,
}

impl Args {
    fn settings(&self, common: &Common) -> Result<Settings> {
        write::positive("--size", self.size)?;
        write::positive("--trim-size", self.trim_size)?;
        write::positive("--window", self.window)?;
        write::positive("--min-n", self.min_n)?;
        if !(self.fdr > 0.0 && self.fdr < 1.0) {
            return Err(Error::usage(format!("--fdr {}: it must lie between 0 and 1", self.fdr)));
        }
        let extraction = Extraction {
            core: self.size,
            flank: self.seqlet_flank_size,
            fdr: self.fdr,
            ..Extraction::default()
        };
        Ok(Settings {
            extraction,
            max_seqlets: self.max_seqlets,
            min_support: self.min_n,
            runs: self.n_leiden,
            trim: self.trim_size,
            flank: self.initial_flank_to_add,
            final_flank: self.final_flank_to_add,
            seed: common.seed,
            ..Settings::default()
        })
    }
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    common.check_outputs(&[("--h5", args.h5.as_deref())])?;
    let settings = args.settings(common)?;
    let pipe = common.open(&args.input)?;
    let schema = pipe.schema().clone();
    let gathered = gather(pipe, args.window)?;
    let patterns = discover(&gathered.tracks, &settings);
    let found = patterns.found();
    if let Some(path) = &args.h5 {
        let longest = gathered.tracks.examples.iter().map(|example| example.length()).max().unwrap_or(0);
        let metadata = provenance::append(&schema.metadata, common.step())?;
        let chain = metadata.get(CHAIN_KEY).filter(|_| !common.no_pg).map(String::as_str);
        hdf5::write(path, &gathered.tracks, &patterns, longest, chain)?;
    }
    if let Some(directory) = &args.outdir {
        for motif in &found {
            files::write_logos(directory, motif)?;
        }
        if !found.is_empty() {
            files::write_meme(&directory.join("motifs.meme"), &found, false)?;
        }
    }
    write::stream(&found, &schema, args.h5.is_some() || args.outdir.is_some(), common)?;
    common.say(&summary(&gathered, &patterns, found.len(), settings.min_seqlets));
    Ok(())
}

fn summary(gathered: &Gathered, patterns: &Patterns, found: usize, least: usize) -> String {
    let Gathered { rows, missing, nonfinite, .. } = gathered;
    let mut text = format!("{rows} rows");
    for (count, why) in [(missing, "without contributions"), (nonfinite, "nonfinite")] {
        if *count > 0 {
            text += &format!(", {count} {why}");
        }
    }
    let (positive, negative) = patterns.seqlets;
    text += &format!("; {positive} positive and {negative} negative seqlets; {found} patterns");
    if patterns.positive.is_none() && patterns.negative.is_none() {
        text += &format!(": a sign needs more than {least} seqlets");
    }
    text
}
