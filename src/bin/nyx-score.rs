//! nyx-score: rows → predictions.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nyx::attrib::{self, Completeness, Method};
use nyx::cli::{self, AttribArgs, Common, ModelArgs, OutputArgs, Plain};
use nyx::score::reuse::{KEPT_FLOATS, Reuse};
use nyx::{Error, Result, score};

/// Add the predictions of a model to every row: logits, probabilities, scores per base, profiles.
///
/// A row that the model cannot read (no sequence, longer or shorter than its window) stays, with nulls and
/// its status. Several models make an ensemble. Language models also give embeddings, likelihoods and
/// attentions; one without a classifier gives nothing else. A model of pairs reads `sequence` and `sequence_2`.
/// Rows with the same sequence (REF windows, haplotypes) go through the model once; the answers used last are kept
/// in 64 MiB, and the summary says how many rows shared a pass.
///
/// Example: nyx-extract regions --fasta hg38.fa --peaks p.narrowPeak | nyx-score --model ctcf/ | nyx-view
#[derive(Parser)]
#[command(name = "nyx-score", arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    models: ModelArgs,
    #[command(flatten)]
    outputs: OutputArgs,
    /// Add contributions in the same pass: ism, saliency, gradxinput, ig, deeplift, attention or rollout (see nyx-attrib)
    #[arg(long = "attrib", value_name = "METHOD")]
    method: Option<Method>,
    #[command(flatten)]
    attrib: AttribArgs,
    /// Read every row, even one whose sequence was read before. Results are the same. Without this, answers are kept (64 MiB)
    /// as long as at least one in a hundred of the first 10,000 rows came again
    #[arg(long)]
    no_reuse: bool,
    /// Columns that later stages do not need, by comma
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    drop: Vec<String>,
    /// The rows: an Arrow stream, an Arrow file or a Parquet file; `-` is standard input
    #[arg(default_value = "-")]
    input: PathBuf,
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn run(args: Args) -> Result<()> {
    let windows = args.outputs.windows()?;
    if windows.is_some() && args.method.is_some() {
        return Err(Error::usage("--attrib explains rows that fit the model: leave --long windows out"));
    }
    let models = args.models.load_for(args.outputs.wanted(), windows)?;
    models.warnings().iter().for_each(|warning| args.common.say(&format!("warning: {warning}")));
    let strict = args.models.strict;
    // Attribution takes thousands of passes for a row: small batches let the first rows leave early.
    let rows = if args.method.is_some() { cli::ATTRIB_ROWS } else { args.models.rows() };
    let rows = args.common.open(&args.input)?.rebatch(args.common.batch_rows(rows));
    let reuse = Reuse::new(if args.no_reuse { 0 } else { KEPT_FLOATS });
    let (mut pipe, counts) = score::score_with(rows, models.clone(), strict, reuse)?;
    let completeness = Completeness::default();
    if let Some(method) = args.method {
        let plain = Plain { strict, seed: args.common.seed, layers: &args.outputs.layers };
        let options = args.attrib.options(method, &models, plain)?;
        pipe = completeness.watch(attrib::attrib(pipe, models.clone(), options)?);
    }
    let pipe = score::drop_columns(pipe, &args.drop)?;
    args.common.write(pipe, args.models.step(&args.common, &models))?;
    args.attrib.say(&args.common, &completeness);
    let (rows, passes) = counts.get();
    args.common.count_passes(passes);
    if 0 < passes && passes < rows {
        let ratio = rows as f64 / passes as f64;
        args.common
            .say(&format!("{passes} distinct sequences read for {rows} rows ({ratio:.2} rows a pass)"));
    }
    Ok(())
}

fn main() -> ExitCode {
    cli::main(run)
}
