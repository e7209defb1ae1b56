//! nyx-extract: genome, intervals, variants and files of contributions → rows.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nyx::Result;
use nyx::cli::{self, Common};

mod contribs;
mod merge_peaks;
mod mutate;
mod negatives;
mod regions;
mod sequences;
mod shard;
mod split;
mod tiles;
mod variants;
mod windows;

/// Turn a genome and intervals, tiles or variants into rows, one sequence each.
///
/// Example: nyx-extract regions --fasta hg38.fa --peaks p.narrowPeak | nyx-score --model ctcf/ | nyx-view
#[derive(Parser)]
#[command(name = "nyx-extract", arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Regions(regions::Args),
    Tiles(tiles::Args),
    Variants(variants::Args),
    Sequences(sequences::Args),
    Contribs(contribs::Args),
    Mutate(mutate::Args),
    Negatives(negatives::Args),
    MergePeaks(merge_peaks::Args),
    Split(split::Args),
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn main() -> ExitCode {
    cli::main(|Args { common, command }| -> Result<()> {
        match command {
            Command::Regions(args) => regions::run(args, &common),
            Command::Tiles(args) => tiles::run(args, &common),
            Command::Variants(args) => variants::run(args, &common),
            Command::Sequences(args) => sequences::run(args, &common),
            Command::Contribs(args) => contribs::run(args, &common),
            Command::Mutate(args) => mutate::run(args, &common),
            Command::Negatives(args) => negatives::run(args, &common),
            Command::MergePeaks(args) => merge_peaks::run(args, &common),
            Command::Split(args) => split::run(args, &common),
        }
    })
}
