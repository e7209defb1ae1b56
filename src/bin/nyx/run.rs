//! `nyx run`: a pipeline shard by shard, so that a killed run loses the shards it was at and nothing else.

use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nyx::error::InFile;
use nyx::extract::shard::Shard;
use nyx::{Error, Result, cli, input, output};
use serde::{Deserialize, Serialize};

use super::sharded::{self, Pipeline};
use super::siblings;

/// Run a pipeline in shards and join them; what a killed run has done is kept.
///
/// The pipeline is one word, written as for a shell; it begins with nyx-extract, to which `--shard i/n` is added (or put
/// `{shard}` where it belongs), and ends with a stream on standard output. Shards are kept in FILE.shards with a manifest;
/// the same command again goes on where it was killed, and the file that comes out is the same, byte for byte. At the
/// end the shards are joined by nyx-merge, which proves that none is missing, and removed.
///
/// Example: nyx run --shards 64 -o scan.arrows 'nyx-extract tiles --fasta hg38.fa | nyx-score --model ctcf/'
#[derive(clap::Args)]
pub struct Args {
    /// The pipeline
    #[arg(value_name = "PIPELINE")]
    pipeline: String,
    /// The file of all shards together
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How many shards
    #[arg(short = 'n', long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=99999))]
    shards: u64,
    /// Shards that run at once
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Directory of the shards, their logs and the manifest (default: FILE.shards)
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Keep the shards after they are joined
    #[arg(long)]
    keep: bool,
    /// Leave the command lines out of the provenance of the joined file
    #[arg(long)]
    no_pg: bool,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

/// What the shards of a directory are shards of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Manifest {
    nyx: String,
    pipeline: String,
    shards: u64,
}

/// The directory of a run, locked against a second run.
struct Workshop {
    directory: PathBuf,
    _lock: File,
}

pub fn run(args: &Args) -> Result<()> {
    let pipeline = Pipeline::new(&args.pipeline)?;
    let default = || {
        let mut name = args.output.clone().into_os_string();
        name.push(".shards");
        name.into()
    };
    let manifest = Manifest {
        nyx: env!("CARGO_PKG_VERSION").into(),
        pipeline: pipeline.text().into(),
        shards: args.shards,
    };
    let workshop = Workshop::open(args.directory.clone().unwrap_or_else(default), &manifest)?;
    let shards = (1..=args.shards).filter_map(|part| Shard::new(part, args.shards));
    let (done, open): (Vec<_>, Vec<_>) = shards.partition(|shard| workshop.file(*shard).exists());
    if !done.is_empty() {
        say(args, &format!("{} of {} shards are done already", done.len(), args.shards));
    }
    run_all(args, &pipeline, &workshop, &open)?;
    join(args, &workshop)?;
    if !args.keep {
        fs::remove_dir_all(&workshop.directory).in_file(&workshop.directory)?;
    }
    Ok(())
}

impl Workshop {
    /// Opens the directory of a run, which must be of the same pipeline and number of shards.
    fn open(directory: PathBuf, manifest: &Manifest) -> Result<Self> {
        fs::create_dir_all(&directory).in_file(&directory)?;
        let path = directory.join("lock");
        let lock = File::options().create(true).append(true).open(&path).in_file(&path)?;
        if lock.try_lock().is_err() {
            return Err(Error::data("another `nyx run` works here").at(directory.display().to_string()));
        }
        let path = directory.join("manifest.json");
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                output::write_file(
                    &path,
                    format!("{}\n", serde_json::to_string_pretty(manifest)?).as_bytes(),
                )?;
            }
            text => check(&serde_json::from_str(&text.in_file(&path)?)?, manifest)
                .map_err(|error| error.at(path.display().to_string()))?,
        }
        let workshop = Self { directory, _lock: lock };
        workshop.sweep()?;
        Ok(workshop)
    }

    /// Removes what killed runs have left unfinished.
    fn sweep(&self) -> Result<()> {
        for entry in fs::read_dir(&self.directory).in_file(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') && name.ends_with(".tmp") {
                fs::remove_file(entry.path()).in_file(&entry.path())?;
            }
        }
        Ok(())
    }

    fn file(&self, shard: Shard) -> PathBuf {
        self.directory.join(format!("{:05}.arrows", shard.part()))
    }

    fn log(&self, shard: Shard) -> PathBuf {
        self.directory.join(format!("{:05}.log", shard.part()))
    }
}

/// Refuses shards of another pipeline.
fn check(found: &Manifest, wanted: &Manifest) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    let difference = if found.pipeline != wanted.pipeline {
        format!("of another pipeline, `{}`", found.pipeline)
    } else if found.shards != wanted.shards {
        format!("{} in number, not {}", found.shards, wanted.shards)
    } else {
        format!("made by nyx {}", found.nyx)
    };
    Err(Error::data(format!(
        "the shards here are {difference}: remove the directory, or name another with --directory"
    )))
}

/// Runs the shards that are not done yet, some at once; after a failure no other begins.
fn run_all(args: &Args, pipeline: &Pipeline, workshop: &Workshop, open: &[Shard]) -> Result<()> {
    let (queue, rows, began) = (Mutex::new(open.iter()), AtomicU64::new(0), Instant::now());
    let (failed, failure, finished) = (AtomicBool::new(false), Mutex::new(None), AtomicU64::new(0));
    let work = || {
        while !failed.load(Relaxed) {
            let Some(&shard) = queue.lock().expect("no thread panics with it").next() else { return };
            match run_one(pipeline, workshop, shard) {
                Ok(of_shard) => {
                    let rows = rows.fetch_add(of_shard, Relaxed) + of_shard;
                    let finished = finished.fetch_add(1, Relaxed) + 1;
                    say(args, &progress(shard, finished, open.len() as u64, rows, began.elapsed()));
                }
                Err(error) => {
                    failed.store(true, Relaxed);
                    failure.lock().expect("no thread panics with it").get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, work) {
                failed.store(true, Relaxed);
                let error = Error::data(format!("cannot start a thread: {error}"));
                failure.lock().expect("no thread panics with it").get_or_insert(error);
            }
        }
    });
    match failure.into_inner().expect("no thread panics with it") {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Runs one shard; its file appears when it is whole. Returns its rows.
fn run_one(pipeline: &Pipeline, workshop: &Workshop, shard: Shard) -> Result<u64> {
    let (path, log) = (workshop.file(shard), workshop.log(shard));
    let temporary = output::temporary_beside(&path)?;
    let to_log = File::create(&log).in_file(&log)?;
    let code = pipeline.of(shard);
    let to_file = temporary.file().try_clone().in_file(&path)?;
    let mut command = sharded::shell(&code, Stdio::from(to_file), Stdio::from(to_log))?;
    let status = command.status().map_err(|error| Error::from(error).at("bash"))?;
    if !status.success() {
        let message = format!("shard {}/{} failed ({status})", shard.part(), shard.parts());
        let error = Error::Command { message, log: sharded::end_of(&log) };
        return Err(error.at(log.display().to_string()));
    }
    // A shell can hide a failure; a stream cannot.
    let rows = count(temporary.path())
        .map_err(|error| error.at(format!("shard {}/{}", shard.part(), shard.parts())))?;
    temporary.commit(&path)?;
    Ok(rows)
}

/// Reads a stream to its end mark and returns how many rows it has.
fn count(path: &Path) -> Result<u64> {
    input::open_pipe(path)?.into_parts().1.map(|batch| Ok(batch?.num_rows() as u64)).sum()
}

fn progress(shard: Shard, finished: u64, open: u64, rows: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let left = seconds / finished as f64 * (open - finished) as f64;
    format!(
        "shard {}/{} done: {finished} of {open}, {rows} rows, {:.0} rows/s, {} left",
        shard.part(),
        shard.parts(),
        rows as f64 / seconds.max(1e-3),
        time(left)
    )
}

/// Returns seconds as hours, minutes and seconds.
pub fn time(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn join(args: &Args, workshop: &Workshop) -> Result<()> {
    let shards = (1..=args.shards).filter_map(|part| Shard::new(part, args.shards));
    let missing = || Error::data("nyx-merge is neither beside nyx nor on the path");
    let mut command = std::process::Command::new(siblings::find("nyx-merge").ok_or_else(missing)?);
    command.arg("-o").arg(&args.output).args(shards.map(|shard| workshop.file(shard)));
    command.args(args.no_pg.then_some("--no-pg")).args(args.quiet.then_some("-q"));
    let status = command.envs(cli::log::environment()).status()?;
    match status.success() {
        true => Ok(()),
        false => Err(Error::data(format!(
            "nyx-merge failed ({status}); the shards are in {}",
            workshop.directory.display()
        ))),
    }
}

fn say(args: &Args, line: &str) {
    if args.quiet {
        return;
    }
    if cli::log::is_json() || !std::io::stderr().is_terminal() {
        return cli::log::say("nyx run", line, None);
    }
    // On a terminal the last line is replaced, so that thousands of shards do not scroll away what was before.
    let _ = write!(std::io::stderr(), "nyx run: {line}\x1b[K\r");
}
