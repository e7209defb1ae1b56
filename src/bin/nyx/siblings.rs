//! The other executables of this release: where they are, and how `nyx` becomes one of them.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nyx::{Error, cli};

/// The executables of a release, with a line about each.
pub const TOOLS: [(&str, &str); 18] = [
    ("nyx-extract", "genome and regions, tiles, variants or files of contributions → rows"),
    ("nyx-tokenize", "rows → token ids"),
    ("nyx-score", "rows → predictions, and contributions in the same pass"),
    ("nyx-attrib", "rows → contributions of every base"),
    ("nyx-effects", "scored alleles → what every alternate does"),
    ("nyx-hits", "contributions and motifs → motif instances"),
    ("nyx-scan", "rows → where position weight matrices score high (FIMO)"),
    ("nyx-eval", "predictions and labels → metrics, plots, comparisons"),
    ("nyx-tomtom", "motifs → the known motifs that they look like (Tomtom)"),
    ("nyx-motifs", "scores or contributions of bases → motifs"),
    ("nyx-collapse", "hits → hits that say which of those that overlap is the best"),
    ("nyx-intersect", "lists of hits → the hits they have in common"),
    ("nyx-report", "contributions and hits → one HTML page"),
    ("nyx-view", "stream → text or files (BED, bigWig, TSV, Parquet, …)"),
    ("nyx-merge", "shards → one stream"),
    ("nyx-model", "checkpoints of other programs → model directories"),
    ("nyx-train", "examples → model directories and adapters"),
    ("nyx-tune", "many trainings → the best hyper-parameters and their model"),
];

/// Returns the list of commands as help shows it.
pub fn list() -> String {
    let line = |(tool, about): &(&str, &str)| format!("  {:<10} {about}\n", tool.trim_start_matches("nyx-"));
    let tools: String = TOOLS.iter().map(line).collect();
    let own = "  run        A pipeline shard by shard: what a killed run has done is kept\n  plan       Time, memory and size of a scan, from a thousand windows of it\n  verify     Whether files are whole: end mark or footer, checksums, rows, history\n  replay     The commands that made a file\n  man        Man pages of all commands\n  completions  What a shell needs to complete all commands\n  demo       The whole pipeline on data this program makes itself\n  doctor     What the commands will run on, and whether they are all here";
    format!("Commands of this release (`nyx COMMAND --help` says more):\n{tools}{own}")
}

/// Finds an executable beside this one, then on the path.
pub fn find(name: &str) -> Option<PathBuf> {
    // Only a plain name: `nyx ../x` must not run something outside.
    if name.contains('/') {
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    own_directory()
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|program| is_executable(program))
}

/// Returns the directory of this executable.
pub fn own_directory() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.to_owned())
}

/// Becomes `program`; returns only when that fails.
pub fn replace_process(program: &Path, arguments: &[OsString]) -> Error {
    let name = program.file_name().expect("a program has a name");
    let error = Command::new(program).arg0(name).args(arguments).envs(cli::log::environment()).exec();
    Error::from(error).at(program.display().to_string())
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
