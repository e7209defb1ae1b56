//! nyx-train: examples → a model directory.

mod base_caller;
mod cnn;
mod data;
mod drive;
mod fcnn;
mod finetune;
mod language;
mod options;
mod sigtfb;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nyx::Result;
use nyx::cli::{self, Common};

/// Train networks: examples in, a model directory out that nyx-score loads (`-o DIR`).
///
/// Defaults are those of the published recipes. DIR/training keeps the record: metrics as JSON lines (which W&B can
/// log), TensorBoard events, curves, and the checkpoint that --resume goes on from. The same seed gives the same
/// bits, with any number of threads, stopped and resumed or not.
///
/// Example: nyx-train cnn --architecture deepbind --data CTCFL/ -o ctcfl/ && nyx-score --model ctcfl/ rows.arrows
#[derive(Parser)]
#[command(name = "nyx-train", arg_required_else_help = true)]
struct Args {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Cnn(cnn::CnnArgs),
    BaseCaller(base_caller::BaseCallerArgs),
    #[command(name = "sigtfb")]
    SigTfb(sigtfb::SigTfbArgs),
    Fcnn(fcnn::FcnnArgs),
    Full(finetune::FullArgs),
    Lora(finetune::LoraArgs),
    BertTfbs(finetune::BertTfbsArgs),
    Contrastive(language::ContrastiveArgs),
    Mlm(language::MlmArgs),
}

impl AsRef<Common> for Args {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Cnn(command) => cnn::run(command, &args.common),
        Command::BaseCaller(command) => base_caller::run(command, &args.common),
        Command::SigTfb(command) => sigtfb::run(command, &args.common),
        Command::Fcnn(command) => fcnn::run(command, &args.common),
        Command::Full(command) => finetune::run(command, &args.common),
        Command::Lora(command) => finetune::run_lora(command, &args.common),
        Command::BertTfbs(command) => finetune::run_bert_tfbs(command, &args.common),
        Command::Contrastive(command) => language::run_contrastive(command, &args.common),
        Command::Mlm(command) => language::run_mlm(command, &args.common),
    }?;
    args.common.sign_model()
}

fn main() -> ExitCode {
    cli::lend_freed_pages();
    cli::main(run)
}
