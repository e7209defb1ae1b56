//! `nyx-motifs bases`: the motif of a model that predicts every base.

use std::path::PathBuf;

use nyx::Result;
use nyx::cli::Common;
use nyx::discover::base_calls::BaseCalls;
use nyx::discover::found::Found;
use nyx::discover::{called, files, windows};
use nyx::error::Error;
use nyx::schema;

use crate::write;

/// The motif of a model that predicts every base (BertSNR, DeepSNR, D-AEDNet): one window a row
///
/// A window is positive when enough of its bases are; the motif lies in the middle of the first run of positive
/// windows.
#[derive(clap::Args)]
pub struct Args {
    /// Rows with `sequence` and `base_scores`: a stream, an Arrow or Parquet file; `-` is standard input
    #[arg(value_name = "INPUT", default_value = "-")]
    input: PathBuf,
    /// The column of scores
    #[arg(long, value_name = "COLUMN", default_value = schema::BASE_SCORES)]
    scores: String,
    /// Scores from a NumPy file (rows, bases) instead, in the order of the rows
    #[arg(long, value_name = "FILE")]
    npy: Option<PathBuf>,
    /// A base is positive when its score is above this
    #[arg(long, value_name = "SCORE", default_value_t = 0.5)]
    threshold: f32,
    /// Bases of a window
    #[arg(long, value_name = "N", default_value_t = 11)]
    window: usize,
    /// Share of a window's bases that must be positive
    #[arg(long, value_name = "SHARE", default_value_t = 0.8)]
    share: f64,
    /// Use only the first N windows [default: all; the published script stops at 10000]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Name of the motif
    #[arg(long, value_name = "NAME", default_value = "motif")]
    name: String,
    /// Write windows, JASPAR, MEME and a logo into this directory, too
    #[arg(long, value_name = "DIR")]
    outdir: Option<PathBuf>,
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    write::positive("--window", args.window)?;
    if !(args.share > 0.0 && args.share <= 1.0) {
        return Err(Error::usage(format!("--share {}: it must lie between 0 and 1", args.share)));
    }
    if args.name.is_empty() || args.name.contains(|c: char| c == '/' || c.is_whitespace()) {
        return Err(Error::usage("--name must be a word without a slash: files are called by it"));
    }
    let pipe = common.open(&args.input)?;
    let input = pipe.schema().clone();
    let scores = write::scores(&input, Some(&args.scores), args.npy.as_deref())?;
    let calls = BaseCalls { threshold: args.threshold, width: args.window, share: args.share };
    let called = called::call(pipe, &scores, calls, args.limit.unwrap_or(usize::MAX))?;
    let sites = called.sequences.len() as u64;
    let counts = windows::counts(called.sequences.iter().map(String::as_bytes), args.window);
    let motif = Found { name: args.name.clone(), counts, sites, significance: None, contributions: None };
    let found = if sites > 0 { vec![motif] } else { Vec::new() };
    if let (Some(directory), [motif]) = (&args.outdir, &found[..]) {
        files::write_windows(directory, motif, &called.sequences)?;
        files::write_meme(&directory.join("motifs.meme"), &found, false)?;
    }
    write::stream(&found, &input, args.outdir.is_some(), common)?;
    common.say(&format!("{sites} windows in {} rows", called.rows));
    Ok(())
}
