//! `nyx-extract sequences`.

use std::path::{Path, PathBuf};

use nyx::Result;
use nyx::cli::Common;
use nyx::extract::sequences::{self, Options};
use nyx::extract::windows::BATCH_ROWS;
use nyx::input;
use nyx::provenance::Step;

use crate::shard::{self, ShardArg};

/// Sequences that need no genome: a row of each record of a file.
///
/// FASTA, or CSV or TSV with a header that has a column `sequence` and perhaps `label` (a number, or several by `,` or
/// `;`) and `name`; gzip or not. Pairs of sequences come from the columns `sequence1` and `sequence2`, or from a table
/// of sequence, sequence and label without a header; the second goes into the column `sequence_2`. Sequences written as overlapping k-mers (DNABERT) are joined. Letters other than ACGT
/// become N. FASTA headers that end with `;label=1` (DNABERT-Enhancer's) are labelled. An empty sequence, a ragged row or a label that is no number is an error that names the line.
///
/// Example: nyx-extract sequences test.csv.gz | nyx-score --model model/ | nyx-eval
#[derive(clap::Args)]
pub struct Args {
    /// FASTA, CSV or TSV; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    input: PathBuf,
    /// Column with the sequences
    #[arg(long, value_name = "NAME", default_value = "sequence")]
    sequence_column: String,
    /// Column with the second sequences, of pairs (default: `sequence2`, in a table with `sequence1`)
    #[arg(long, value_name = "NAME")]
    second_column: Option<String>,
    /// Column with the labels
    #[arg(long, value_name = "NAME", default_value = "label")]
    label_column: String,
    /// Take coordinates from FASTA headers as bedtools writes them: chr1:99-200, 0-based and half-open
    #[arg(long)]
    coordinates: bool,
    #[command(flatten)]
    shard: ShardArg,
}

pub fn run(args: Args, common: &Common) -> Result<()> {
    let place = match args.input.as_path() {
        path if path == Path::new("-") => "standard input".to_string(),
        path => path.display().to_string(),
    };
    let options = Options {
        sequence_column: args.sequence_column,
        second_column: args.second_column,
        label_column: args.label_column,
        coordinates: args.coordinates,
        batch_rows: common.batch_rows(BATCH_ROWS),
    };
    let open = || sequences::sequences(input::open_text(&args.input)?, &place, options.clone());
    let (pipe, share) = shard::rows(args.shard.shard, &[&args.input], open)?;
    common.write(pipe, Step { share, ..common.step() })
}
