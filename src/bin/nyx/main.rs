//! nyx: the front door of the commands.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use nyx::cli;
use nyx::{Error, Result};

mod demo;
mod doctor;
mod documents;
mod pipeline;
mod plan;
mod run;
mod sharded;
mod siblings;
mod verify;

/// Regulatory genomics as Unix filters: `nyx extract …` runs `nyx-extract …`.
///
/// Example: nyx extract regions --fasta hg38.fa --peaks p.narrowPeak | nyx score --model ctcf/ | nyx view
#[derive(Parser)]
#[command(name = "nyx", version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Args {
    /// Write an object of JSON a line on standard error, for programs; the commands that are started do the same
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    // Hidden here because the list after the help names all commands, those of other executables too.
    #[command(hide = true)]
    Demo(demo::Args),
    #[command(hide = true)]
    Doctor(doctor::Args),
    #[command(hide = true)]
    Run(run::Args),
    #[command(hide = true)]
    Plan(plan::Args),
    #[command(hide = true)]
    Verify(verify::Args),
    #[command(hide = true)]
    Replay(verify::ReplayArgs),
    #[command(hide = true)]
    Man(documents::ManArgs),
    #[command(hide = true)]
    Completions(documents::CompletionsArgs),
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

fn main() -> ExitCode {
    if let Some(version) = cli::version_request("nyx") {
        let _ = writeln!(std::io::stdout(), "{version}");
        return ExitCode::SUCCESS;
    }
    if let Some(outcome) = cli::documents_requested(documents::front_door) {
        return cli::finish("nyx", outcome);
    }
    let parsed = Args::command().after_help(siblings::list()).try_get_matches();
    let args = match parsed.and_then(|matches| Args::from_arg_matches(&matches)) {
        Ok(args) => args,
        Err(error) => return cli::refuse("nyx", error),
    };
    cli::listen_for_signals();
    let tells = cli::log::is_json() && !matches!(args.command, Command::Other(_));
    if tells {
        cli::log::write("start", None, [("version", env!("CARGO_PKG_VERSION").into())]);
    }
    let began = Instant::now();
    let outcome = run(args);
    let status = match &outcome {
        Ok(()) => 0,
        Err(error) => error.exit_status(),
    };
    let code = cli::finish("nyx", outcome);
    if tells {
        let fields = [("seconds", began.elapsed().as_secs_f64().into()), ("exit_status", status.into())];
        cli::log::write("finish", None, fields);
    }
    code
}

fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Demo(args) => demo::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Replay(args) => verify::replay(&args),
        Command::Man(args) => documents::man(&args),
        Command::Completions(args) => documents::completions(&args),
        Command::Other(words) => {
            let (name, arguments) = words.split_first().expect("a command has a name");
            let name = name.to_string_lossy();
            let Some(program) = siblings::find(&format!("nyx-{name}")) else {
                return Err(Error::usage(format!("no command `{name}`\n\n{}", siblings::list())));
            };
            Err(siblings::replace_process(&program, arguments))
        }
    }
}
