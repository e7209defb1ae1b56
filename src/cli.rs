//! What all commands share: their common flags, how they open and write streams, and how they end.

mod attribution;
mod documents;
pub mod log;
mod memory;
mod meter;
mod models;
mod outputs;
mod progress;
mod signals;
mod stats;
mod threads;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clap::error::ErrorKind;
use clap::{Parser, ValueEnum};

use crate::convert::sidecar;
use crate::device::DeviceChoice;
use crate::error::{Error, Result, is_guarded};
use crate::input;
use crate::kernel::Instructions;
use crate::output::Output;
use crate::pipe::{Pipe, ipc};
use crate::provenance::{self, Step};

pub use crate::provenance::quote as shell_quote;
pub use attribution::{ATTRIB_ROWS, AttribArgs, Plain};
pub use documents::{completions, manual, requested as documents_requested};
pub use memory::lend_freed_pages;
pub use meter::{Meter, Seconds, Tally};
pub use models::ModelArgs;
pub use outputs::OutputArgs;
pub use progress::{Progress, TrainingProgress};
pub use signals::listen as listen_for_signals;
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
    /// Write an object of JSON a line on standard error, for programs: start, progress, message, warning, error,
    /// finish (NYX_LOG=json in the environment does so for all commands)
    #[arg(long, global = true, help_heading = HEADING)]
    pub log_json: bool,
    /// What was done so far, shared by all who have these flags.
    #[arg(skip)]
    meter: Arc<Meter>,
}

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
        self.reads(path);
        Ok(self.meter.reading(input::open_pipe(path)?))
    }

    /// Remembers for the provenance where rows are read from.
    pub fn reads(&self, path: &Path) {
        if path != Path::new("-") {
            self.meter.reads(&path.to_string_lossy());
        }
    }

    /// Starts the record of this process for the provenance chain; its input is what was opened by now.
    pub fn step(&self) -> Step {
        if self.no_pg {
            return Step { command: String::new(), ..own_step() };
        }
        let output = (self.output != Path::new("-")).then(|| self.output.to_string_lossy().into_owned());
        Step { input: self.meter.input(), output, ..own_step() }
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
        check_stream_name(&self.output)?;
        let metadata = provenance::append(&pipe.schema().metadata, step)?;
        let target = pipe.schema().as_ref().clone().with_metadata(metadata);
        let pipe = pipe.with_schema(target.into());
        let pipe = self.counted(pipe).ahead(2);
        let mut output = Output::create(&self.output)?;
        ipc::write(self.meter.writing(pipe), &mut output)?;
        output.commit()?;
        self.summarize();
        Ok(())
    }

    /// Refuses two outputs of one command, by their flags, under one name: the later would take the place of the other.
    ///
    /// # Errors
    ///
    /// When two of `others`, `--output` and `--stats` are the same.
    pub fn check_outputs(&self, others: &[(&str, Option<&Path>)]) -> Result<()> {
        let own = [("--output", Some(self.output.as_path())), ("--stats", self.stats.as_deref())];
        let mut seen: Vec<(&str, &Path)> = Vec::new();
        let named = own.iter().chain(others).filter_map(|(flag, path)| path.map(|path| (*flag, path)));
        for (flag, path) in named {
            let path = path.strip_prefix("./").unwrap_or(path);
            if let Some((other, _)) = seen.iter().find(|(_, seen)| *seen == path) {
                let name = if path == Path::new("-") {
                    "standard output".into()
                } else {
                    path.display().to_string()
                };
                return Err(Error::usage(format!("{other} and {flag} are both {name}: give each its own")));
            }
            seen.push((flag, path));
        }
        Ok(())
    }

    /// Counts the rows and the statuses of a pipe as they pass, with a progress bar.
    pub fn count(&self, pipe: Pipe) -> Pipe {
        let pipe = self.counted(pipe);
        self.meter.writing(pipe)
    }

    fn counted(&self, pipe: Pipe) -> Pipe {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let counter = tally.clone();
        let schema = pipe.schema().clone();
        // Without a share, or with one that cannot be read, the bar has no end; that is no reason to fail.
        let share = provenance::share(&schema.metadata).ok().flatten();
        let mut progress = Progress::new(self.progress, self.quiet, share);
        let counted = pipe.map(schema, move |batch| {
            progress.advance(&batch);
            counter.lock().expect("no other thread counts").add(&batch);
            Ok(batch)
        });
        self.meter.making(counted, tally)
    }

    /// Writes into the directory of a new model how it was made, for `nyx replay`.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written.
    pub fn sign_model(&self) -> Result<()> {
        let configs = ["config.json", "modules.json", "adapter_config.json"];
        // What was stopped before its end is no model yet.
        if self.no_pg || !configs.iter().any(|name| self.output.join(name).is_file()) {
            return Ok(());
        }
        sidecar::write_in_directory(&self.output, &self.step())
    }

    /// Says how many rows passed; with `--verbose` and on a terminal how long that took, and how much memory.
    pub fn summarize(&self) {
        let tally = self.meter.tally().unwrap_or_default();
        self.say(&tally.to_string());
        if !log::is_json() && (self.verbose || std::io::stderr().is_terminal()) {
            let seconds = self.meter.seconds();
            let rate = tally.rows() as f64 / seconds.all.max(1e-3);
            let peak = meter::peak_bytes()
                .map_or(String::new(), |bytes| format!("; {:.0} MiB at most", bytes as f64 / 1048576.0));
            self.say(&format!("{:.1} s, {rate:.0} windows/s; {seconds}{peak}", seconds.all));
        }
    }

    /// Puts how many sequences a model read into the statistics.
    pub fn count_passes(&self, passes: u64) {
        self.meter.set_passes(passes);
    }

    /// Says one line on standard error, unless quiet.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            log::say(&own_step().tool, line, self.rows());
        }
    }

    /// Returns the rows that passed so far, where rows pass.
    fn rows(&self) -> Option<u64> {
        self.meter.tally().map(|tally| tally.rows())
    }
}

/// What a stream would not be, whatever its name says.
const OTHER_FORMATS: [&str; 24] = [
    "tsv",
    "csv",
    "txt",
    "bed",
    "narrowpeak",
    "bedgraph",
    "vcf",
    "bcf",
    "json",
    "jsonl",
    "npz",
    "npy",
    "parquet",
    "bw",
    "fa",
    "fasta",
    "fna",
    "2bit",
    "html",
    "h5",
    "meme",
    "safetensors",
    "pth",
    "gz",
];

/// Refuses a name of another format for a stream.
fn check_stream_name(path: &Path) -> Result<()> {
    let suffix = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if !OTHER_FORMATS.contains(&suffix.as_str()) {
        return Ok(());
    }
    let name = path.display();
    Err(Error::usage(format!(
        "{name}: what is written is an Arrow stream, not .{suffix}: name it FILE.arrows, or pipe it on (`| nyx-view -o {name}`)"
    )))
}

/// Returns the record of this process as its arguments tell it.
fn own_step() -> Step {
    let mut arguments = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = arguments.next().unwrap_or_default();
    let tool =
        Path::new(&program).file_name().map_or("nyx".into(), |name| name.to_string_lossy().into_owned());
    let words = std::iter::once(tool.clone()).chain(arguments.map(|word| shell_quote(&word)));
    let command = words.collect::<Vec<_>>().join(" ");
    Step { tool, version: env!("CARGO_PKG_VERSION").into(), command, ..Step::default() }
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
    quiet_guarded_panics();
    let arguments = match A::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&name, error),
    };
    if let Err(error) = Instructions::chosen() {
        return finish(&name, Err(error));
    }
    let common = arguments.as_ref().clone();
    if let Err(error) = common.check_outputs(&[]).and_then(|()| threads::start(common.threads)) {
        return finish(&name, Err(error));
    }
    signals::listen();
    let tells = log::is_json() && !common.quiet;
    if tells {
        log::write("start", None, [("version", env!("CARGO_PKG_VERSION").into())]);
    }
    let outcome = run(arguments);
    let written = stats::write(&common, &outcome);
    let mut took = stats::row(&common, &outcome);
    let code = finish(&name, outcome.and(written));
    if tells {
        took.extend(common.meter.tally().map(|tally| ("statuses".to_string(), stats::statuses(&tally))));
        log::write("finish", common.rows(), took);
    }
    code
}

/// Ends a process whose arguments cannot be meant, or that only ask for help.
pub fn refuse(name: &str, error: clap::Error) -> ExitCode {
    let help = matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if help || !log::is_json() {
        error.exit();
    }
    finish(name, Err(Error::usage(error.to_string().trim())))
}

/// Keeps panics about damaged input, which become errors, from printing a backtrace besides.
pub fn quiet_guarded_panics() {
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
            let status = error.exit_status();
            if log::is_json() {
                log::write(
                    "error",
                    None,
                    [("message", error.to_string().into()), ("exit_status", status.into())],
                );
            } else {
                let _ = writeln!(std::io::stderr(), "{name}: {error}");
            }
            ExitCode::from(status)
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
