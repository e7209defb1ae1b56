//! A pipeline as one types it, and one shard of it.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use nyx::extract::shard::Shard;
use nyx::{Error, Result, cli};
use regex::Regex;

use super::siblings;

/// What stands in a pipeline for `i/n`.
const PLACE: &str = "{shard}";

/// Where `--shard` belongs in a pipeline that does not say so.
static EXTRACT: LazyLock<Regex> = LazyLock::new(|| {
    let pattern =
        r"nyx[- ]extract\s+(regions|tiles|variants|sequences|contribs|mutate|negatives|merge-peaks)\b";
    Regex::new(pattern).expect("the pattern is valid")
});

/// A shell pipeline whose first command takes a shard and whose last writes a stream to standard output.
#[derive(Clone, Debug)]
pub struct Pipeline(String);

impl Pipeline {
    /// Reads a pipeline; `--shard {shard}` is added to its nyx-extract when it has no `{shard}`.
    ///
    /// # Errors
    ///
    /// Neither `{shard}` nor a nyx-extract.
    pub fn new(text: &str) -> Result<Self> {
        if text.contains(PLACE) {
            return Ok(Self(text.trim().into()));
        }
        match EXTRACT.find(text) {
            Some(found) => {
                let (before, after) = text.split_at(found.end());
                Ok(Self(format!("{before} --shard {PLACE}{after}").trim().into()))
            }
            None => Err(Error::usage(
                "the pipeline has no nyx-extract and no {shard}: write it as for a shell, with `--shard {shard}`",
            )),
        }
    }

    /// Returns the pipeline as it was read.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Returns the pipeline of a shard, as a shell runs it.
    pub fn of(&self, shard: Shard) -> String {
        self.0.replace(PLACE, &format!("{}/{}", shard.part(), shard.parts()))
    }

    /// Returns the command that makes the rows of a shard, without what follows it.
    pub fn first_of(&self, shard: Shard) -> String {
        let text = self.of(shard);
        let mut quote = None;
        let end = text.char_indices().find(|&(_, letter)| match quote {
            Some(open) if letter == open => {
                quote = None;
                false
            }
            Some(_) => false,
            None if letter == '\'' || letter == '"' => {
                quote = Some(letter);
                false
            }
            None => letter == '|',
        });
        text[..end.map_or(text.len(), |(index, _)| index)].into()
    }
}

/// Returns a command that runs shell code in which every failure of a stage counts; the commands of this release come
/// first on its path, and a pipeline reads nothing from this process.
pub fn shell(code: &str, stdout: Stdio, stderr: Stdio) -> Result<Command> {
    let mut command = Command::new("bash");
    command.args(["-o", "pipefail", "-c", code]).env("PATH", path()?).envs(cli::log::environment());
    command.stdin(Stdio::null());
    command.stdout(stdout).stderr(stderr);
    Ok(command)
}

fn path() -> Result<OsString> {
    let own = siblings::own_directory();
    let rest = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(own.into_iter().chain(std::env::split_paths(&rest)))
        .map_err(|error| Error::data(format!("the directory of nyx cannot be on a path: {error}")))
}

/// Returns the end of a log, to be shown after a failure.
pub fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_goes_where_the_pipeline_says_or_into_its_extract() {
        let shard = Shard::new(2, 7).unwrap();
        let of = |text: &str| Pipeline::new(text).unwrap().of(shard);
        assert_eq!(
            of("nyx-extract tiles --fasta g.fa | nyx-score"),
            "nyx-extract tiles --shard 2/7 --fasta g.fa | nyx-score"
        );
        assert_eq!(of("nyx  extract; nyx extract regions"), "nyx  extract; nyx extract regions --shard 2/7");
        assert_eq!(of("cat {shard}.x"), "cat 2/7.x");
        assert_eq!(Pipeline::new("nyx-score x").unwrap_err().exit_status(), 2);
    }

    #[test]
    fn the_first_command_ends_at_a_bar_outside_of_quotes() {
        let shard = Shard::new(1, 2).unwrap();
        let first = Pipeline::new("a 'x|y' \"|\" {shard} | b | c").unwrap().first_of(shard);
        assert_eq!(first, "a 'x|y' \"|\" 1/2 ");
    }
}
