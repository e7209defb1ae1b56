//! nyx-merge: shards → one stream.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nyx::cli::{self, Common};
use nyx::pipe::merge;
use nyx::{Result, input};

/// Rows of a batch unless the user says otherwise.
const BATCH_ROWS: usize = 1024;

/// Join the shards of one run into the stream that one process would have made.
///
/// Shards made with --shard may come in any order and prove that they are complete: a missing part, the last too,
/// one that is there twice, one of another input or layout is an error. Others are joined in the order given. All must
/// agree in columns, genome and models; regions that overlap, go backwards or are missing are an error. With --no-pg in
/// all commands the bytes do not depend on the number of shards.
///
/// Example: nyx-merge shards/*.arrows -o all.arrows
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
    common.write(merge::merge(shards, allow_gaps, common.batch_rows(BATCH_ROWS))?, common.step())
}
