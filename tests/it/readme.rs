//! The recipes of the README and of docs/recipes run as they stand.

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

/// Returns a directory with the data that recipes run on.
fn demo_data() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut data = Command::new(executable("nyx"));
    data.args(["demo", "--data-only", "--outdir"]).arg(directory.path());
    stdout_of(data, b"");
    directory
}

/// Returns a program that finds our commands first, in `directory`.
fn program(name: impl AsRef<std::ffi::OsStr>, directory: &Path) -> Command {
    let commands = executable("nyx").parent().unwrap().to_owned();
    let path = format!("{}:{}", commands.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(name);
    command.current_dir(directory).env("PATH", path);
    command
}

/// The pieces of code of a page that run: their language and text. Other languages (console, text) are shown only.
fn pieces(page: &str) -> Vec<(&str, &str)> {
    let fenced = page.split("\n```").skip(1).step_by(2);
    let piece = fenced.filter_map(|piece| piece.split_once('\n'));
    piece.filter(|(language, _)| ["sh", "python"].contains(language)).collect()
}

/// The files that a page says it makes: `<!-- makes: a b -->`.
fn makes(page: &str) -> Vec<&str> {
    let list = page.split("<!-- makes:").nth(1).and_then(|rest| rest.split("-->").next());
    list.unwrap_or_default().split_whitespace().collect()
}

/// The pieces of a page; those of one language in a row are one script, so that variables last.
fn scripts(page: &str) -> Vec<(&str, String)> {
    let mut scripts: Vec<(&str, String)> = Vec::new();
    for (language, text) in pieces(page) {
        match scripts.last_mut().filter(|(before, _)| *before == language) {
            Some((_, script)) => script.extend(["\n", text]),
            None => scripts.push((language, text.to_string())),
        }
    }
    scripts
}

/// Runs a page from top to bottom in a directory of its own.
fn run_page(path: &Path, python: Option<&Path>) {
    let page = std::fs::read_to_string(path).unwrap();
    let directory = demo_data();
    for (language, text) in &scripts(&page) {
        let mut command = match (*language, python) {
            ("sh", _) => program("bash", directory.path()),
            (_, Some(python)) => program(python, directory.path()),
            (_, None) => continue,
        };
        let flags: &[&str] = if *language == "sh" { &["-euo", "pipefail", "-c"] } else { &["-c"] };
        command.args(flags).arg(text);
        let output = run(command);
        assert!(
            output.status.success(),
            "{}:\n{text}\n{}",
            path.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    for made in makes(&page) {
        assert!(
            directory.path().join(made).metadata().is_ok_and(|file| file.len() > 0),
            "{}: {made}",
            path.display()
        );
    }
}

#[test]
fn the_pages_of_recipes_run() {
    let python = super::foreign::python();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes");
    let mut pages: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    assert!(!pages.is_empty());
    for page in pages {
        run_page(&page, python.as_deref());
    }
}

#[test]
fn code_is_told_from_what_is_only_shown() {
    let page = "<!-- makes: a b.c -->\n```sh\nx\ny\n```\ntext\n```text\nz\n```\n\n```python\np\n```\n";
    assert_eq!(pieces(page), [("sh", "x\ny"), ("python", "p")]);
    assert_eq!(makes(page), ["a", "b.c"]);
}

#[test]
fn the_recipes_run() {
    let directory = demo_data();
    let mut shell = program("bash", directory.path());
    shell.args(["-euo", "pipefail", "-c", &code("Recipes")]);
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
