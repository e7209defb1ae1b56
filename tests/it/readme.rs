//! The README's recipes run as they stand.

use std::path::Path;
use std::process::Command;

use super::support::*;

/// Returns the shell code under a heading of the README.
fn code(heading: &str) -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let section = readme.split(&format!("\n## {heading}\n")).nth(1).expect("the README has the heading");
    let code = section.split("```sh\n").nth(1).expect("the section has shell code");
    code.split("```").next().unwrap().to_string()
}

#[test]
fn the_recipes_run() {
    let directory = tempfile::tempdir().unwrap();
    let mut data = Command::new(executable("nyx"));
    data.args(["demo", "--data-only", "--outdir"]).arg(directory.path());
    stdout_of(data, b"");
    let commands = executable("nyx").parent().unwrap().to_owned();
    let path = format!("{}:{}", commands.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &code("Recipes")]).current_dir(directory.path()).env("PATH", path);
    stdout_of(shell, b"");
    for made in [
        "matrix.tsv",
        "saturation.html",
        "scan.bw",
        "scan.arrows",
        "c.parquet",
        "regions.npz",
        "h.arrows",
        "finemo-like/hits.tsv",
    ] {
        assert!(directory.path().join(made).metadata().unwrap().len() > 0, "{made}");
    }
    let whole = ["extract", "tiles", "--fasta", "genome.fa", "--width", "200", "--stride", "50", "--no-pg"];
    let mut whole_scan = nyx(whole[0], &whole[1..]);
    whole_scan.current_dir(directory.path());
    let unsharded = stdout_of(
        nyx("view", &["-O", "tsv", "--no-pg", "--columns", "region,chrom,start,end"]),
        &stdout_of(whole_scan, b""),
    );
    let mut merged =
        nyx("view", &["-O", "tsv", "--no-pg", "--columns", "region,chrom,start,end", "scan.arrows"]);
    merged.current_dir(directory.path());
    assert!(stdout_of(merged, b"") == unsharded, "the shards together are the scan");
}
