//! Which room may know which: the directions of data flow, as a table and its check.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// For each top-level module, the modules it must not name.
const FORBIDDEN: &[(&[&str], &[&str])] = &[
    // The words know nothing.
    (&["error", "dna", "region"], &["pipe", "schema", "cli", "genome", "model", "extract", "score", "hits"]),
    // The numbers: arrays in, arrays out.
    (
        &["kernel"],
        &["pipe", "schema", "cli", "genome", "extract", "score", "attrib", "hits", "convert", "input"],
    ),
    (
        &["model", "motif", "tokenizer"],
        &["pipe", "schema", "cli", "genome", "extract", "score", "attrib", "hits"],
    ),
    // The wire knows no mathematics.
    (
        &["pipe", "provenance", "schema"],
        &["cli", "genome", "model", "kernel", "extract", "score", "hits", "convert"],
    ),
    // The edges know no model.
    (&["genome", "convert"], &["cli", "model", "kernel", "score", "attrib", "hits", "effects"]),
    // No stage uses another stage; what two share moves down. (Scoring may attribute in the same pass.)
    (&["extract"], &["cli", "model", "kernel", "score", "attrib", "hits", "tokenize"]),
    (&["tokenize"], &["cli", "genome", "extract", "score", "attrib", "hits"]),
    (&["score"], &["cli", "genome", "extract", "hits", "tokenize"]),
    (&["attrib"], &["cli", "genome", "extract", "hits", "tokenize", "score"]),
    (
        &["effects"],
        &["cli", "genome", "extract", "score", "attrib", "hits", "tokenize", "model", "kernel", "convert"],
    ),
    (&["hits"], &["cli", "genome", "extract", "score", "attrib", "tokenize", "model", "scan", "discover"]),
    (&["evaluate"], &["cli", "genome", "extract", "score", "attrib", "tokenize", "model", "hits", "kernel"]),
    (&["scan"], &["cli", "genome", "extract", "score", "attrib", "tokenize", "model", "hits"]),
    (&["discover"], &["cli", "genome", "extract", "score", "attrib", "hits", "tokenize", "model"]),
    (&["train"], &["cli", "genome", "extract", "score", "attrib", "tokenize", "hits", "convert"]),
    // Checking reads what others write, and makes nothing.
    (&["verify"], &["cli", "extract", "score", "attrib", "hits", "train", "tokenize", "effects", "scan"]),
    // A search knows points and values, not what is trained.
    (
        &["tune"],
        &[
            "pipe", "schema", "cli", "genome", "model", "kernel", "extract", "score", "hits", "train",
            "metrics", "input", "output",
        ],
    ),
    // Measures are numbers of numbers.
    (
        &["metrics"],
        &["pipe", "schema", "cli", "genome", "model", "kernel", "extract", "score", "hits", "train"],
    ),
];

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Files that are compiled for tests only: `mod name;` under `#[cfg(test)]` in the file above them.
fn test_files(files: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in files {
        let own = path.with_extension("");
        let folder = if path.ends_with("lib.rs") { path.parent().unwrap() } else { own.as_path() };
        let text = fs::read_to_string(path).unwrap();
        for (mark, line) in text.lines().zip(text.lines().skip(1)) {
            let name = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ").strip_prefix("mod ");
            let name = name.and_then(|rest| rest.strip_suffix(';')).filter(|_| mark == "#[cfg(test)]");
            found.extend(name.map(|name| folder.join(format!("{name}.rs"))));
        }
    }
    found
}

/// The code of every top-level module of the library, its tests left out.
fn modules() -> BTreeMap<String, Vec<(PathBuf, String)>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = BTreeMap::<String, Vec<_>>::new();
    let files = sources(&source);
    let tests = test_files(&files);
    for path in files.iter().filter(|path| !tests.contains(path)) {
        let relative = path.strip_prefix(&source).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_string();
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_string();
        modules.entry(module).or_default().push((relative.to_owned(), code));
    }
    modules
}

#[test]
fn data_flows_one_way() {
    let modules = modules();
    let mut faults = Vec::new();
    for (owners, forbidden) in FORBIDDEN {
        for owner in *owners {
            for (path, code) in &modules[*owner] {
                for name in *forbidden {
                    if code.contains(&format!("crate::{name}::"))
                        || code.contains(&format!("use crate::{name};"))
                    {
                        faults.push(format!("src/{}: {owner} must not use {name}", path.display()));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_library_neither_prints_nor_exits_nor_parses_arguments() {
    let mut faults = Vec::new();
    for (module, files) in modules() {
        if matches!(module.as_str(), "bin" | "cli") {
            continue;
        }
        for (path, code) in files {
            for word in [
                "println!",
                "eprintln!",
                "process::exit",
                "std::env::args",
                "clap::",
                "todo!(",
                "unimplemented!(",
            ] {
                if code.contains(word) {
                    faults.push(format!("src/{}: {word}", path.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn only_one_file_knows_the_async_runtime() {
    for (_, files) in modules() {
        for (path, code) in files {
            let allowed = path.ends_with("convert/bigwig.rs");
            assert!(allowed || !code.contains("tokio::"), "src/{}: tokio", path.display());
        }
    }
}
