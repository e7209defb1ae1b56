//! Real processes joined by real pipes, as a shell joins them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nyx::cli::{self, shell_quote};
use nyx::{Error, Result};

use super::siblings;

/// A command of a pipeline.
pub struct Stage {
    program: String,
    arguments: Vec<String>,
}

impl Stage {
    /// Creates a command from its words, the program first.
    pub fn new(words: &[&str]) -> Self {
        let (program, arguments) = words.split_first().expect("a command has a program");
        Self {
            program: program.to_string(),
            arguments: arguments.iter().map(|word| word.to_string()).collect(),
        }
    }

    fn command(&self) -> Result<Command> {
        let missing = || Error::data(format!("{} is neither beside nyx nor on the path", self.program));
        // The children run in another directory: a path of ours that is relative would mean something else there.
        let program: PathBuf = std::path::absolute(siblings::find(&self.program).ok_or_else(missing)?)?;
        let mut command = Command::new(program);
        command.args(&self.arguments).envs(cli::log::environment());
        Ok(command)
    }
}

/// Returns the pipeline as one types it.
pub fn shown(stages: &[Stage]) -> String {
    let words = |stage: &Stage| {
        std::iter::once(&stage.program)
            .chain(&stage.arguments)
            .map(|word| shell_quote(word))
            .collect::<Vec<_>>()
            .join(" ")
    };
    stages.iter().map(words).collect::<Vec<_>>().join(" |\n    ")
}

/// Runs the stages at once in `directory`, each reading what the one before writes, and waits for all.
///
/// # Errors
///
/// When a stage cannot start or fails: the one that failed first in its own right, not an echo of it.
pub fn run(stages: &[Stage], directory: &Path) -> Result<()> {
    let mut children: Vec<Child> = Vec::new();
    let started = start(stages, directory, &mut children);
    if started.is_err() {
        // Those that run wait for a reader or writer that will never come.
        for child in &mut children {
            let _ = child.kill();
        }
    }
    // All are waited for, whatever the first says: none is left behind.
    let statuses: Vec<_> = children.iter_mut().map(Child::wait).collect();
    started?;
    let statuses = statuses.into_iter().collect::<std::io::Result<Vec<ExitStatus>>>()?;
    match culprit(&statuses) {
        None => Ok(()),
        Some(index) => Err(Error::data(format!(
            "{} failed ({}): its message is above",
            stages[index].program, statuses[index]
        ))),
    }
}

fn start(stages: &[Stage], directory: &Path, children: &mut Vec<Child>) -> Result<()> {
    for (index, stage) in stages.iter().enumerate() {
        let stdin = match children.last_mut().and_then(|previous| previous.stdout.take()) {
            Some(upstream) => Stdio::from(upstream),
            None => Stdio::null(),
        };
        let last = index + 1 == stages.len();
        let stdout = if last { Stdio::inherit() } else { Stdio::piped() };
        let mut command = stage.command()?;
        let child = command.current_dir(directory).stdin(stdin).stdout(stdout).spawn();
        children.push(child.map_err(|error| Error::from(error).at(stage.program.clone()))?);
    }
    Ok(())
}

/// Returns the stage to blame: the first with a status of its own (1 or 2), else one that a signal ended or
/// that says its input was cut (3).
fn culprit(statuses: &[ExitStatus]) -> Option<usize> {
    let own = |status: &ExitStatus| matches!(status.code(), Some(code) if code != 0 && code != 3);
    let failed = |status: &ExitStatus| !status.success();
    statuses.iter().position(own).or_else(|| statuses.iter().position(failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(words: &[&str]) -> Stage {
        Stage::new(words)
    }

    #[test]
    fn a_pipeline_moves_bytes_from_stage_to_stage() {
        let directory = tempfile::tempdir().unwrap();
        let stages = [stage(&["printf", "a b"]), stage(&["tr", "a-z", "A-Z"]), stage(&["tee", "out.txt"])];
        assert_eq!(shown(&stages), "printf 'a b' |\n    tr a-z A-Z |\n    tee out.txt");
        run(&stages, directory.path()).unwrap();
        assert_eq!(std::fs::read_to_string(directory.path().join("out.txt")).unwrap(), "A B");
    }

    #[test]
    fn a_failing_stage_is_named_and_not_its_echo() {
        let stages = [stage(&["sh", "-c", "exit 1"]), stage(&["sh", "-c", "cat; exit 3"])];
        let error = run(&stages, Path::new(".")).unwrap_err().to_string();
        assert!(error.starts_with("sh failed (exit status: 1)"), "{error}");
    }

    #[test]
    fn an_endless_stage_ends_when_its_reader_fails() {
        let error = run(&[stage(&["yes"]), stage(&["sh", "-c", "exit 2"])], Path::new(".")).unwrap_err();
        assert!(error.to_string().contains("exit status: 2"), "{error}");
    }

    #[test]
    fn a_stage_that_is_not_there_ends_those_that_wait_for_it() {
        let error = run(&[stage(&["yes"]), stage(&["nyx-nothing"])], Path::new(".")).unwrap_err();
        assert!(error.to_string().contains("nyx-nothing"), "{error}");
    }
}
