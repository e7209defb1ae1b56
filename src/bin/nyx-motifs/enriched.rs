//! `nyx-motifs`: enriched regions of high score.

use std::path::PathBuf;

use clap::ValueEnum;
use nyx::Result;
use nyx::cli::Common;
use nyx::discover::enriched::{Enriched, Options, find};
use nyx::discover::files;
use nyx::discover::found::Found;
use nyx::error::Error;
use nyx::schema::{self, LABEL};

use crate::write;

#[derive(clap::Args)]
pub struct EnrichedArgs {
    /// Rows with `sequence`, `label` and scores of every base: a stream, an Arrow or Parquet file; `-` is standard input
    #[arg(value_name = "INPUT", default_value = "-")]
    input: PathBuf,
    /// The column of scores [default: attention, contributions or base_scores, the first that is there]
    #[arg(long, value_name = "COLUMN", conflicts_with = "npy")]
    scores: Option<String>,
    /// Scores from a NumPy file (rows, bases) instead, in the order of the rows: DNABERT-viz's and NyxBind's atten.npy
    #[arg(long, value_name = "FILE")]
    npy: Option<PathBuf>,
    /// Negative sequences from this stream; then all rows of INPUT are positive, with or without labels
    #[arg(long, value_name = "FILE")]
    negatives: Option<PathBuf>,
    /// Which label says that a row is positive, from 0
    #[arg(long, value_name = "CLASS", default_value_t = 0)]
    class: usize,
    /// Bases of a motif
    #[arg(long, value_name = "N", default_value_t = 24)]
    window: usize,
    /// Bases that a region must have
    #[arg(long, value_name = "N", default_value_t = 5)]
    min_len: usize,
    /// Corrected p-value below which a region is enriched
    #[arg(long, value_name = "P", default_value_t = 0.005)]
    pval: f64,
    /// Windows that a motif must have
    #[arg(long, value_name = "N", default_value_t = 3)]
    min_n: usize,
    /// How many motifs to keep, those with most windows [default: all]
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Write windows, JASPAR, MEME and logos into this directory, too
    #[arg(long, value_name = "DIR")]
    outdir: Option<PathBuf>,
    /// Do what upstream does wrong: --compat for all of it, or --compat=WHAT,…
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "all", value_delimiter = ',')]
    compat: Vec<Compat>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compat {
    /// All of the following
    All,
    /// Windows that touch the last base of their sequence are lost
    LastWindow,
    /// MEME motifs lack their first position, and have 20 sites
    DropFirstColumn,
}

impl EnrichedArgs {
    fn options(&self) -> Result<Options> {
        write::positive("--window", self.window)?;
        write::positive("--min-len", self.min_len)?;
        if !(self.pval > 0.0 && self.pval <= 1.0) {
            return Err(Error::usage(format!("--pval {}: it must lie between 0 and 1", self.pval)));
        }
        Ok(Options {
            class: self.class,
            window: self.window,
            min_length: self.min_len,
            cutoff: self.pval,
            min_windows: self.min_n,
            top: self.top_k,
            lose_last: self.compat(Compat::LastWindow),
        })
    }

    fn compat(&self, what: Compat) -> bool {
        self.compat.iter().any(|&asked| asked == what || asked == Compat::All)
    }
}

pub fn run(args: &EnrichedArgs, common: &Common) -> Result<()> {
    let options = args.options()?;
    let pipe = common.open(&args.input)?;
    let schema = pipe.schema().clone();
    schema::require(&schema, schema::SEQUENCE, &arrow_schema::DataType::Utf8)?;
    if args.negatives.is_none() && !schema::has(&schema, LABEL) {
        return Err(Error::data(
            "the rows have no labels, so nothing is negative: extract a labelled set, or give --negatives FILE",
        ));
    }
    let scores = write::scores(&schema, args.scores.as_deref(), args.npy.as_deref())?;
    let negatives = args.negatives.as_ref().map(|path| common.open(path)).transpose()?;
    let (motifs, summary) = find(pipe, negatives, &scores, &options)?;
    let found: Vec<Found> = motifs.iter().map(Enriched::found).collect();
    if let Some(directory) = &args.outdir {
        for (motif, found) in motifs.iter().zip(&found) {
            files::write_windows(directory, found, &motif.sequences)?;
        }
        if !found.is_empty() {
            files::write_meme(&directory.join("motifs.meme"), &found, args.compat(Compat::DropFirstColumn))?;
        }
    }
    write::stream(&found, &schema, args.outdir.is_some(), common)?;
    common.say(&format!("{summary}; {} motifs", found.len()));
    Ok(())
}
