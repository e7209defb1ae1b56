//! `nyx man` and `nyx completions`: documents of all executables of this release.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use clap::CommandFactory;
use clap_complete::Shell;
use nyx::{Error, Result, cli};

use super::siblings;

/// Write the man pages of all commands into a directory.
///
/// Example: nyx man /usr/local/share/man/man1 && man nyx-extract-tiles
#[derive(clap::Args)]
pub struct ManArgs {
    /// The directory; made if missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Print what a shell needs to complete all commands.
///
/// Example: nyx completions bash > /etc/bash_completion.d/nyx
#[derive(clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Returns `nyx` as its documents show it, with the commands of the other executables.
pub fn front_door() -> clap::Command {
    let mut command = super::Args::command();
    let own: Vec<String> = command.get_subcommands().map(|one| one.get_name().to_string()).collect();
    for name in own {
        command = command.mut_subcommand(name, |one| one.hide(false));
    }
    command.subcommands(siblings::TOOLS.iter().map(|(tool, about)| {
        clap::Command::new(tool.trim_start_matches("nyx-")).about(format!("{about} (see {tool})"))
    }))
}

/// Asks every executable for its pages.
pub fn man(args: &ManArgs) -> Result<()> {
    ask_all(&cli::manual(&std::path::absolute(&args.directory)?))
}

/// Asks every executable for its completions.
pub fn completions(args: &CompletionsArgs) -> Result<()> {
    ask_all(&cli::completions(args.shell))
}

fn ask_all(words: &[OsString; 2]) -> Result<()> {
    let own = std::env::current_exe()?;
    let others = siblings::TOOLS.iter().map(|(tool, _)| siblings::find(tool).ok_or(*tool));
    for program in std::iter::once(Ok(own)).chain(others) {
        let program =
            program.map_err(|tool| Error::data(format!("{tool} is neither beside nyx nor on the path")))?;
        let status = Command::new(&program).args(words).status()?;
        if !status.success() {
            return Err(Error::data(format!("{} failed ({status})", program.display())));
        }
    }
    Ok(())
}
