//! pyarrow, polars and DuckDB read what every stage writes, and refuse what a failed stage left.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::support::*;

/// Returns a Python that has the readers: the tests' environment, or the one in `NYX_PYTHON`.
pub fn python() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    let python = std::env::var_os("NYX_PYTHON").map_or(own, PathBuf::from);
    let usable = Command::new(&python).args(["-c", "import pyarrow, polars, duckdb, pandas"]).output();
    if usable.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!(
        "skipped: no Python with pyarrow, polars, DuckDB and pandas (scripts/install.sh test makes one)"
    );
    None
}

/// Lets the foreign readers read `files`.
fn read(python: &Path, files: &[&Path]) -> Vec<Value> {
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/read_streams.py")).args(files);
    let text = String::from_utf8(stdout_of(command, b"")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn foreign_readers_read_every_stage() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let stages = super::pipeline::every_stage(directory.path());
    let files: Vec<&Path> = stages.iter().map(|(path, _)| path.as_path()).collect();
    for (found, (path, rows)) in read(&python, &files).iter().zip(&stages) {
        for reader in ["pyarrow", "polars", "duckdb"] {
            assert_eq!(found[reader], *rows, "{reader} on {}: {found}", path.display());
        }
        assert_eq!(found["same"], true, "{found}");
        assert_eq!(found["chain"][0], "nyx-extract");
    }
}

#[test]
fn foreign_readers_refuse_what_a_failed_stage_left() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().unwrap();
    // The second peak of the file is malformed: rows were on their way when the stage failed.
    let genome = genome(directory.path(), 5000);
    let peaks = directory.path().join("peaks.bed");
    let good: String = (0..3000).map(|i| format!("chr1\t{}\t{}\n", 100 + i, 300 + i)).collect();
    std::fs::write(&peaks, format!("{good}chr1\tten\t20\n")).unwrap();
    let extract = nyx(
        "extract",
        &["regions", "--fasta", genome.to_str().unwrap(), "--peaks", peaks.to_str().unwrap(), "--width", "0"],
    );
    let output = run(extract);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("3001"), "the line is named");
    assert!(output.stdout.len() > 100_000, "rows were written before the failure");
    let path = directory.path().join("failed.arrows");
    std::fs::write(&path, &output.stdout).unwrap();
    for reader in ["pyarrow", "polars", "duckdb"] {
        let found = &read(&python, &[&path])[0];
        assert!(found[reader].as_str().is_some_and(|text| text.starts_with("error")), "{reader}: {found}");
    }
}
