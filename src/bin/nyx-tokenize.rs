//! nyx-tokenize: rows → token ids.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use nyx::Result;
use nyx::cli::{self, Common};
use nyx::provenance::Step;
use nyx::tokenize::{self, Tokenization};
use nyx::tokenizer::Tokenizer;

/// Add token ids, and the bases each token covers, to every row.
///
/// Tokens are never padded, and cut only with `--max-length`; how many rows were cut is said at the end.
///
/// Example: nyx-extract regions --fasta hg38.fa --peaks p.narrowPeak | nyx-tokenize --tokenizer kmer:6 | nyx-view
#[derive(Parser)]
#[command(name = "nyx-tokenize", arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// kmer:3 to kmer:6 (DNABERT), nt or nt-v1 (Nucleotide Transformer), onehot, a tokenizer.json, a
    /// vocab.txt, or a model directory
    #[arg(long, value_name = "TOKENIZER")]
    tokenizer: String,
    /// Cut to this many tokens, specials included
    #[arg(long, value_name = "N")]
    max_length: Option<NonZeroU32>,
    /// Leave out the last k-mer of every sequence, as DNABERT's own data scripts do
    #[arg(long)]
    drop_last: bool,
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
    let mut tokenizer = Tokenizer::open(&args.tokenizer)?;
    if args.drop_last {
        tokenizer = tokenizer.drop_last()?;
    }
    let name = format!("{} {}", tokenizer.digest(), tokenizer.name());
    let max_length = args.max_length.map(|tokens| tokens.get() as usize);
    let tokenization = Arc::new(Tokenization::new(tokenizer, max_length)?);
    let rows = args.common.open(&args.input)?.rebatch(args.common.batch_rows(1024));
    let pipe = tokenize::tokenize(rows, tokenization.clone())?;
    args.common.write(pipe, Step { tokenizer: Some(name), ..args.common.step() })?;
    if let (count @ 1.., Some(max_length)) = (tokenization.truncated(), max_length) {
        args.common.say(&format!("{count} rows were cut to {max_length} tokens"));
    }
    Ok(())
}

fn main() -> ExitCode {
    cli::main(run)
}
