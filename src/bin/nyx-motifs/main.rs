//! nyx-motifs: scores of bases → motifs.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nyx::Result;
use nyx::cli::{self, Common};

mod bases;
mod denovo;
mod enriched;
mod seqlets;
mod write;

/// Find motifs in what a model attends to or is driven by.
///
/// Without a subcommand: the procedure of DNABERT-viz and NyxBind. Regions of high score in positive sequences are
/// tested for enrichment over negative ones (hypergeometric, Benjamini-Hochberg), merged where they are similar, and
/// widened to windows.
///
/// Example: nyx-extract sequences dev.tsv | nyx-attrib --model bert/ --method attention | nyx-motifs --outdir motifs/ | nyx-view
#[derive(Parser)]
#[command(name = "nyx-motifs", args_conflicts_with_subcommands = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    enriched: enriched::EnrichedArgs,
}

#[derive(Subcommand)]
enum Command {
    Bases(bases::Args),
    Denovo(denovo::Args),
    Seqlets(seqlets::Args),
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn main() -> ExitCode {
    cli::main(|Args { common, command, enriched }| -> Result<()> {
        match command {
            None => enriched::run(&enriched, &common),
            Some(Command::Bases(args)) => bases::run(&args, &common),
            Some(Command::Denovo(args)) => denovo::run(&args, &common),
            Some(Command::Seqlets(args)) => seqlets::run(&args, &common),
        }
    })
}
