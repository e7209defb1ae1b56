//! What all commands share: their common flags, how they open and write streams, and how they end.

mod attribution;
mod documents;
mod models;
mod outputs;
mod progress;
mod stats;
mod threads;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use arrow_array::Array;
use clap::{Parser, ValueEnum};

use crate::device::DeviceChoice;
use crate::error::{Error, Result, is_guarded, printable};
use crate::input;
use crate::kernel::Instructions;
use crate::output::Output;
use crate::pipe::{Pipe, ipc};
use crate::provenance::{self, Step};
use crate::schema;

pub use attribution::{ATTRIB_ROWS, AttribArgs, Plain};
pub use documents::{completions, manual, requested as documents_requested};
pub use models::ModelArgs;
pub use outputs::OutputArgs;
pub use progress::{Progress, TrainingProgress};
pub use stats::STATS_DIRECTORY;

/// When to draw a progress bar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// When standard error is a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where `--help` lists the flags of every command, after those of its own.
const HEADING: &str = "Options of every command";

/// Flags of every command.
#[derive(clap::Args, Clone, Debug)]
pub struct Common {
    /// Where to write; `-` is standard output. A file appears under its name only when it is whole
    #[arg(short, long, value_name = "FILE", default_value = "-", global = true, help_heading = HEADING)]
    pub output: PathBuf,
    /// Threads for computing (default: all cores). Results do not depend on it
    #[arg(short = '@', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), global = true, help_heading = HEADING)]
    pub threads: Option<u16>,
    /// Rows in a batch. Results do not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), global = true, help_heading = HEADING)]
    pub batch_size: Option<u32>,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 0, global = true, help_heading = HEADING)]
    pub seed: u64,
    /// Draw a progress bar on standard error
    #[arg(long, value_enum, value_name = "WHEN", default_value_t, global = true, help_heading = HEADING)]
    pub progress: When,
    /// Say nothing but errors
    #[arg(short, long, global = true, help_heading = HEADING)]
    pub quiet: bool,
    /// Say how long it took, too
    #[arg(short, long, global = true, help_heading = HEADING)]
    pub verbose: bool,
    /// Leave the command line out of the stream's provenance, for byte-identical results
    #[arg(long, global = true, help_heading = HEADING)]
    pub no_pg: bool,
    /// Write rows, statuses, seconds and memory to this file at the end, whatever the end is; MultiQC shows those whose
    /// names end with _mqc.json
    #[arg(long, value_name = "FILE.json", global = true, help_heading = HEADING)]
    pub stats: Option<PathBuf>,
    /// What passed so far.
    #[arg(skip)]
    passed: Passed,
}

/// The rows that a process has counted, shared by all who have its flags.
type Passed = std::sync::Arc<std::sync::Mutex<Option<std::sync::Arc<std::sync::Mutex<Tally>>>>>;

/// The device flag of commands that compute on one.
#[derive(clap::Args, Clone, Debug)]
pub struct DeviceArg {
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub device: DeviceChoice,
}

impl Common {
    /// Returns the same flags for what should say nothing.
    pub fn quietly(&self) -> Self {
        Self { quiet: true, ..self.clone() }
    }

    /// Returns the rows of a batch, `default` unless the user said otherwise.
    pub fn batch_rows(&self, default: usize) -> usize {
        self.batch_size.map_or(default, |rows| rows as usize)
    }

    /// Opens the input of a stage (see [`input::open_pipe`]), decoded ahead on a thread of its own.
    pub fn open(&self, path: &Path) -> Result<Pipe> {
        Ok(input::open_pipe(path)?.ahead(2))
    }

    /// Starts the record of this process for the provenance chain.
    pub fn step(&self) -> Step {
        let mut arguments = std::env::args();
        let program = arguments.next().unwrap_or_default();
        let tool =
            Path::new(&program).file_name().map_or("nyx".into(), |name| name.to_string_lossy().into_owned());
        let command = if self.no_pg {
            String::new()
        } else {
            std::iter::once(tool.clone())
                .chain(arguments.map(|word| shell_quote(&word)))
                .collect::<Vec<_>>()
                .join(" ")
        };
        Step { tool, version: env!("CARGO_PKG_VERSION").into(), command, ..Step::default() }
    }

    /// Writes a pipe as an Arrow stream with `step` added to its chain, and says what was written.
    ///
    /// # Errors
    ///
    /// The pipe's own, a terminal as output, a disk that is full.
    pub fn write(&self, pipe: Pipe, step: Step) -> Result<()> {
        if self.output == Path::new("-") && std::io::stdout().is_terminal() {
            return Err(Error::usage(
                "a binary stream does not belong on a terminal: pipe it on, `-o FILE` it, or `| nyx-view` it",
            ));
        }
        let began = Instant::now();
        let metadata = provenance::append(&pipe.schema().metadata, step)?;
        let target = pipe.schema().as_ref().clone().with_metadata(metadata);
        let pipe = pipe.with_schema(target.into());
        let (pipe, tally) = self.count(pipe);
        let mut output = Output::create(&self.output)?;
        ipc::write(pipe.ahead(2), &mut output)?;
        output.commit()?;
        let tally = tally.lock().expect("the counting thread did not panic");
        self.say(&tally.to_string());
        if self.verbose || std::io::stderr().is_terminal() {
            let seconds = began.elapsed().as_secs_f64();
            self.say(&format!("{seconds:.1} s, {:.0} windows/s", tally.rows() as f64 / seconds));
        }
        Ok(())
    }

    /// Counts the rows and the statuses of a pipe as they pass, with a progress bar.
    pub fn count(&self, pipe: Pipe) -> (Pipe, std::sync::Arc<std::sync::Mutex<Tally>>) {
        let tally = std::sync::Arc::new(std::sync::Mutex::new(Tally::default()));
        let counter = tally.clone();
        *self.passed.lock().expect("no thread panics with it") = Some(tally.clone());
        let schema = pipe.schema().clone();
        // Without a share, or with one that cannot be read, the bar has no end; that is no reason to fail.
        let share = provenance::share(&schema.metadata).ok().flatten();
        let mut progress = Progress::new(self.progress, self.quiet, share);
        let counted = pipe.map(schema, move |batch| {
            progress.advance(&batch);
            counter.lock().expect("no other thread counts").add(&batch);
            Ok(batch)
        });
        (counted, tally)
    }

    /// Says one line on standard error, unless quiet.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            let tool = self.step().tool;
            // Nobody may be listening; that is no reason to fail.
            let _ = writeln!(std::io::stderr(), "{tool}: {}", printable(line));
        }
    }
}

/// Rows that passed, by status.
#[derive(Debug, Default)]
pub struct Tally {
    rows: u64,
    statuses: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, batch: &arrow_array::RecordBatch) {
        self.rows += batch.num_rows() as u64;
        let Ok(statuses) = schema::strings(batch, schema::STATUS) else { return };
        for row in 0..statuses.len() {
            let status = statuses.value(row);
            match self.statuses.get_mut(status) {
                Some(count) => *count += 1,
                None => _ = self.statuses.insert(status.to_string(), 1),
            }
        }
    }

    /// Returns how many rows passed.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns how many rows had a status other than `ok`.
    pub fn not_ok(&self) -> u64 {
        self.statuses.iter().filter(|(status, _)| *status != "ok").map(|(_, count)| count).sum()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} rows", self.rows)?;
        let others: Vec<_> = self.statuses.iter().filter(|(status, _)| *status != "ok").collect();
        for (index, (status, count)) in others.iter().enumerate() {
            write!(f, "{} {count} {status}", if index == 0 { "," } else { ";" })?;
        }
        Ok(())
    }
}

/// Runs a command: parses its arguments, sets up threads, turns an error into a line and a status.
pub fn main<A: Parser + AsRef<Common>>(run: impl FnOnce(A) -> Result<()>) -> ExitCode {
    let name = A::command().get_name().to_string();
    if let Some(version) = version_request(&name) {
        let _ = writeln!(std::io::stdout(), "{version}");
        return ExitCode::SUCCESS;
    }
    if let Some(outcome) = documents::requested(A::command) {
        return finish(&name, outcome);
    }
    quiet_decoding_panics();
    let arguments = A::parse();
    if let Err(error) = Instructions::chosen() {
        return finish(&name, Err(error));
    }
    let (common, began) = (arguments.as_ref().clone(), Instant::now());
    if let Err(error) = threads::start(common.threads) {
        return finish(&name, Err(error));
    }
    let outcome = run(arguments);
    let written = stats::write(&common, began, &outcome);
    finish(&name, outcome.and(written))
}

/// Keeps panics about damaged input, which become errors, from printing a backtrace besides.
fn quiet_decoding_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !is_guarded() {
            default(panic);
        }
    }));
}

/// Turns the outcome of a command into its exit status, with a line on standard error for an error.
pub fn finish(name: &str, outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) | Err(Error::Closed) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{name}: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}

/// Returns the answer to `--version` and `--version --json`.
pub fn version_request(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip(1);
    if !matches!(arguments.next()?.as_str(), "--version" | "-V") {
        return None;
    }
    let version = env!("CARGO_PKG_VERSION");
    Some(match arguments.next().as_deref() {
        Some("--json") => serde_json::json!({
            "tool": name,
            "version": version,
            "stream": provenance::STREAM_VERSION,
            "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        })
        .to_string(),
        _ => format!("{name} {version}"),
    })
}

/// Quotes a word for a POSIX shell when it needs it.
pub fn shell_quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_quote("a.fa"), "a.fa");
        assert_eq!(shell_quote("a b"), "'a b'");
        assert_eq!(shell_quote("it's"), r"'it'\''s'");
        assert_eq!(shell_quote(""), "''");
    }

    #[test]
    fn a_tally_names_what_is_not_ok() {
        let mut tally = Tally { rows: 5, ..Tally::default() };
        tally.statuses = [("ok", 2), ("all_n", 1), ("too_long", 2)].map(|(k, v)| (k.to_string(), v)).into();
        assert_eq!(tally.to_string(), "5 rows, 1 all_n; 2 too_long");
        assert_eq!(tally.not_ok(), 3);
    }
}
