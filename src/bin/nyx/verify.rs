//! `nyx verify` and `nyx replay`: whether files are whole, and how they were made.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use nyx::error::{InFile, printable};
use nyx::output::Output;
use nyx::verify::{self, Checked};
use nyx::{Error, Result, cli, provenance};
use serde_json::json;

/// Check that files are whole: end mark or footer, checksums, numbers of rows, history, digests.
///
/// Reads each file to its end and says what was compared, and what its format cannot tell. Arrow streams and files,
/// Parquet, bigWig, bigBed, BED and other tables (compressed or not), VCF, BCF, npz, npy, HDF5, safetensors,
/// checkpoints and model directories, HTML pages, JSON, FASTA, MEME; of another directory every file in it. A file that
/// is cut, damaged or poisoned is named with the remedy, and the exit status is not 0.
///
/// Example: nyx verify scan.arrows hits/ report.html && nyx-extract … | nyx-score … | nyx verify -
#[derive(clap::Args)]
pub struct Args {
    /// Files and directories; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Write an object of JSON for each file
    #[arg(long)]
    json: bool,
    /// Name only what is not whole
    #[arg(short, long)]
    quiet: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let mut files = Vec::new();
    for path in &args.files {
        list(path, &mut files)?;
    }
    cli::quiet_guarded_panics();
    let (mut failed, mut first) = (0, None);
    for path in &files {
        let outcome = verify::file(path);
        if outcome.is_err() || !args.quiet {
            let text = if args.json { object(path, &outcome) } else { shown(&lines(path, &outcome)) };
            std::io::stdout().write_all(text.as_bytes())?;
        }
        if let Err(error) = outcome {
            failed += 1;
            first.get_or_insert(error);
        }
    }
    match first {
        None => Ok(()),
        // Standard input ended early: the failure is that of another.
        Some(error @ Error::Truncated { .. }) => Err(error),
        Some(_) if files.len() == 1 => Err(Error::data("the file is not whole")),
        Some(_) => Err(Error::data(format!("{failed} of {} files are not whole", files.len()))),
    }
}

/// Adds a file, a model directory, or the files of another directory in the order of their names.
fn list(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        files.push(path.into());
        return Ok(());
    }
    if ["config.json", "modules.json"].iter().any(|name| path.join(name).is_file()) {
        files.push(path.into());
    }
    let entries = std::fs::read_dir(path).in_file(path)?;
    let mut found = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>().in_file(path)?;
    found.sort();
    found.retain(|path| !path.to_string_lossy().ends_with(".nyx.json"));
    found.iter().try_for_each(|path| list(path, files))
}

/// Returns lines as a terminal can show them.
fn shown(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", printable(line))).collect()
}

fn lines(path: &Path, outcome: &Result<Checked>) -> String {
    let name = path.display();
    match outcome {
        Ok(Checked { format, rows, held, unknown }) => {
            let rows = rows.map_or(String::new(), |rows| format!(", {rows} rows"));
            let held: String = held.iter().map(|what| format!("  + {what}\n")).collect();
            let unknown: String =
                unknown.iter().map(|what| format!("  ? not told by the format: {what}\n")).collect();
            format!("{name}: whole ({format}{rows})\n{held}{unknown}")
        }
        Err(error) => {
            let error = error.to_string();
            let error = error.strip_prefix(&format!("{name}: ")).unwrap_or(&error);
            format!("{name}: FAILED: {error}\n")
        }
    }
}

fn object(path: &Path, outcome: &Result<Checked>) -> String {
    let value = match outcome {
        Ok(Checked { format, rows, held, unknown }) => json!({
            "file": path, "whole": true, "format": format, "rows": rows, "held": held, "unknown": unknown,
        }),
        Err(error) => json!({ "file": path, "whole": false, "error": error.to_string() }),
    };
    format!("{value}\n")
}

/// Print the commands that made a file, in order and quoted for a shell.
///
/// They are in what nyx writes unless it was told --no-pg: in the metadata of Arrow and Parquet, in comments of tables,
/// BED and bedGraph, in the header of VCF and BCF, in the comment of an npz, an attribute of HDF5, an element of a page, in
/// nyx.json of a model directory, and beside a bigWig or bigBed in FILE.nyx.json. A file that is cut can be read, too.
/// Paths mean what they meant where the commands were typed.
///
/// Example: nyx replay hits.bed > again.sh && bash -o pipefail again.sh
#[derive(clap::Args)]
pub struct ReplayArgs {
    /// The file or model directory; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where to write; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
}

pub fn replay(args: &ReplayArgs) -> Result<()> {
    let script = provenance::script(&verify::history(&args.file)?).in_file(&args.file)?;
    // A terminal obeys what a file may hold.
    let seen = args.output == Path::new("-") && std::io::stdout().is_terminal();
    let mut output = Output::create(&args.output)?;
    output.write_all(if seen { shown(&script) } else { script }.as_bytes())?;
    output.commit()
}
