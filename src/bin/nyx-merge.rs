//! nyx-merge: shards → one stream.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nyx::cli::{self, Common};
use nyx::pipe::merge;
use nyx::{Result, input};

/// Join the shards of one run, in the order given, into the stream that one process would have made.
///
/// Shards must agree in columns, genome and models; regions that overlap, go backwards or are missing are an
/// error. Example: nyx-merge shard1.arrows shard2.arrows -o all.arrows
#[derive(Parser)]
#[command(name = "nyx-merge", arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// The shards: streams, Arrow files or Parquet files; `-` is standard input
    #[arg(required = true, value_name = "SHARD")]
    shards: Vec<PathBuf>,
    /// Join even where regions are missing between shards
    #[arg(long)]
    allow_gaps: bool,
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn main() -> ExitCode {
    cli::main(run)
}

fn run(Args { common, shards, allow_gaps }: Args) -> Result<()> {
    let open = |path: PathBuf| Ok((path.clone(), input::open_pipe(&path)?));
    let shards = shards.into_iter().map(open).collect::<Result<Vec<_>>>()?;
    common.write(merge::merge(shards, allow_gaps)?, common.step())
}
