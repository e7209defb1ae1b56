//! Man pages and shell completions of every executable, made from what parses its arguments.
//!
//! Only an executable knows its own flags: `nyx man` and `nyx completions` ask each of them by words that no user
//! types.

use std::io::Write;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

use crate::error::{Error, InFile, Result};

/// The first argument that asks an executable for its man pages in a directory, the second.
const MANUAL: &str = "--nyx-manual";
/// The first argument that asks an executable for its completions in a shell, the second.
const COMPLETIONS: &str = "--nyx-completions";

/// Returns the words that ask an executable for its man pages in `directory`.
pub fn manual(directory: &Path) -> [std::ffi::OsString; 2] {
    [MANUAL.into(), directory.into()]
}

/// Returns the words that ask an executable for its completions in a shell.
pub fn completions(shell: Shell) -> [std::ffi::OsString; 2] {
    [COMPLETIONS.into(), shell.to_string().into()]
}

/// Does what the arguments of this process ask for; `None` when they ask for neither.
pub fn requested(command: impl FnOnce() -> Command) -> Option<Result<()>> {
    let mut arguments = std::env::args().skip(1);
    let write: fn(Command, &str) -> Result<()> = match arguments.next()?.as_str() {
        MANUAL => write_manual,
        COMPLETIONS => write_completions,
        _ => return None,
    };
    Some(write(command().version(env!("CARGO_PKG_VERSION")), &arguments.next().unwrap_or_default()))
}

fn write_manual(command: Command, directory: &str) -> Result<()> {
    let directory = Path::new(directory);
    std::fs::create_dir_all(directory).in_file(directory)?;
    clap_mangen::generate_to(command, directory).in_file(directory)
}

fn write_completions(mut command: Command, shell: &str) -> Result<()> {
    let shell: Shell = shell.parse().map_err(|_| Error::usage(format!("no shell `{shell}`")))?;
    let name = command.get_name().to_string();
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut text);
    Ok(std::io::stdout().write_all(&text)?)
}
