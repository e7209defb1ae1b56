//! nyx-extract split: from a genome to folders that nyx-train reads, by the published recipes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::{genome, nyx, run_with, stdout_of};

/// Positives of a genome of two contigs, 50 on each, each with a negative.
fn labelled(directory: &Path) -> Vec<u8> {
    let fasta = genome(directory, 20_000);
    let text = fs::read_to_string(&fasta).unwrap();
    let other: String =
        text.lines().skip(1).map(|line| format!("{}\n", line.chars().rev().collect::<String>())).collect();
    fs::write(&fasta, format!("{text}>chr2\n{other}")).unwrap();
    let peaks = directory.join("p.bed");
    let line = |i: usize| format!("chr{}\t{}\t{}\n", 1 + i % 2, 100 + 190 * i, 200 + 190 * i);
    fs::write(&peaks, (0..100).map(line).collect::<String>()).unwrap();
    let (fasta, peaks) = (fasta.to_str().unwrap(), peaks.to_str().unwrap());
    let arguments = ["regions", "--fasta", fasta, "--peaks", peaks, "--width", "60", "-q"];
    let rows = stdout_of(nyx("extract", &arguments), b"");
    let arguments = ["negatives", "--kind", "dinucleotide", "--with-positives", "-q"];
    stdout_of(nyx("extract", &arguments), &rows)
}

fn split(rows: &[u8], folder: &Path, arguments: &[&str]) {
    let arguments = [&["split", "-q", "-o", folder.to_str().unwrap()], arguments].concat();
    stdout_of(nyx("extract", &arguments), rows);
}

/// Sequence and label of the lines of a table.
fn read(path: impl AsRef<Path>) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap();
    let cells = |line: &str| {
        let (sequence, label) = line.rsplit_once([',', '\t']).unwrap();
        (sequence.to_string(), label.to_string())
    };
    text.lines().skip(1).map(cells).collect()
}

#[test]
fn sets_are_a_partition_with_the_parts_of_every_label_and_train_reads_them() {
    let directory = tempfile::tempdir().unwrap();
    let rows = labelled(directory.path());
    let [a, b, c] = ["a", "b", "c"].map(|name| directory.path().join(name));
    split(&rows, &a, &["--seed", "42"]);
    split(&rows, &b, &["--seed", "42", "--batch-size", "7", "-@", "1"]);
    let mut all = BTreeSet::new();
    for (name, expected) in [("train.csv", 80), ("dev.csv", 10), ("test.csv", 10)] {
        let rows = read(a.join(name));
        assert_eq!(rows, read(b.join(name)), "the seed decides");
        for label in ["0", "1"] {
            assert_eq!(rows.iter().filter(|row| row.1 == label).count(), expected, "{name} {label}");
        }
        all.extend(rows);
    }
    assert_eq!(all.len(), 200, "no row is in two sets");
    // A positive and its shuffle stay together.
    split(&rows, &c, &["--by", "region", "--format", "tsv", "--parts", "3:1"]);
    let composition = |rows: &[(String, String)], label: &str| -> BTreeSet<Vec<u8>> {
        let of = rows.iter().filter(|row| row.1 == label).map(|row| {
            let mut bases = row.0.clone().into_bytes();
            bases.sort_unstable();
            bases
        });
        of.collect()
    };
    let dev = read(c.join("dev.tsv"));
    assert!(!dev.is_empty() && !c.join("test.tsv").exists());
    assert_eq!(composition(&dev, "1"), composition(&dev, "0"));
    let output = run_with(nyx("extract", &["split", "-o", c.to_str().unwrap()]), &rows);
    assert_eq!(output.status.code(), Some(1), "another format beside it");
    let mut train = nyx("train", &["cnn", "--architecture", "deepbind", "--epochs", "1", "-q"]);
    train.arg("--data").arg(&a).arg("-o").arg(directory.path().join("model"));
    stdout_of(train, b"");
}

#[test]
fn the_shards_of_a_split_are_the_split() {
    let directory = tempfile::tempdir().unwrap();
    let rows = labelled(directory.path());
    let folder = |name: &str| directory.path().join(name);
    let common = ["--no-pg", "--format", "arrows", "--seed", "3"];
    split(&rows, &folder("whole"), &common);
    for part in ["1", "2", "3"] {
        split(&rows, &folder(part), &[&common[..], &["--shard", &format!("{part}/3")]].concat());
    }
    let view = |rows: &[u8]| stdout_of(nyx("view", &["-q", "--no-pg"]), rows);
    for (set, count) in [("train", 160), ("dev", 20), ("test", 20)] {
        let file = |name: &str| folder(name).join(format!("{set}.arrows")).to_str().unwrap().to_string();
        let merge = |parts: &[&str]| {
            let mut merge = nyx("merge", &["--no-pg", "-q"]);
            merge.args(parts.iter().map(|part| file(part)));
            run_with(merge, b"")
        };
        let merged = merge(&["3", "1", "2"]);
        assert!(merged.status.success(), "{}", String::from_utf8_lossy(&merged.stderr));
        let whole = view(&fs::read(file("whole")).unwrap());
        assert_eq!(whole.iter().filter(|byte| **byte == b'\n').count(), count + 1, "{set}");
        assert!(view(&merged.stdout) == whole, "{set}");
        let short = merge(&["1", "2"]);
        let message = String::from_utf8_lossy(&short.stderr).into_owned();
        assert!(message.contains("1 of 3 shards missing: 3/3"), "{set}: {message}");
    }
    // The first of a hundred shards is a region of chr1: it has no row of dev, and another shard may have some.
    let arguments = ["--dev-contigs", "chr2", "--format", "tsv", "--shard", "1/100"];
    split(&rows, &folder("first"), &arguments);
    let lines = |set: &str| fs::read_to_string(folder("first").join(set)).unwrap().lines().count();
    assert_eq!(
        (lines("train.tsv"), lines("dev.tsv"), folder("first").join("test.tsv").exists()),
        (3, 1, false)
    );
}

#[test]
fn the_recipes_of_dnabert_enhancer_and_nyxbind() {
    let directory = tempfile::tempdir().unwrap();
    let rows = labelled(directory.path());
    // Another contig for one half of the regions, through a table of intervals as a user would have them.
    let folder = directory.path().join("enhancer");
    split(
        &rows,
        &folder,
        &["--parts", "80:20", "--format", "tsv", "--kmer", "6", "--min-length", "60", "--no-n"],
    );
    let train = fs::read_to_string(folder.join("train.tsv")).unwrap();
    let words: Vec<&str> = train.lines().nth(1).unwrap().split('\t').next().unwrap().split(' ').collect();
    assert!(train.starts_with("sequence\tlabel\n") && words.len() == 55 && words[0][1..] == words[1][..5]);
    let read_back =
        stdout_of(nyx("extract", &["sequences", folder.join("train.tsv").to_str().unwrap(), "-q"]), b"");
    let text = String::from_utf8(stdout_of(nyx("view", &["--columns", "sequence", "-O", "tsv"]), &read_back));
    assert_eq!(text.unwrap().lines().filter(|line| line.len() == 60).count(), 160);
    // A contig that is held out for both sets is tossed for: a positive and its shuffle together.
    let held = directory.path().join("held");
    split(&rows, &held, &["--dev-contigs", "chr1", "--test-contigs", "chr1"]);
    let sizes = ["train.csv", "dev.csv", "test.csv"].map(|name| read(held.join(name)).len());
    assert!(sizes[0] == 100 && sizes[1] + sizes[2] == 100 && (20..80).contains(&sizes[1]), "{sizes:?}");
    let none = directory.path().join("none");
    let arguments = ["split", "-o", none.to_str().unwrap(), "--dev-contigs", "chr1,chr2"];
    let output = run_with(nyx("extract", &arguments), &rows);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("train on"), "{said}");
    assert_eq!(fs::read_dir(&none).unwrap().count(), 0, "nothing that looks whole");
    // Positives that have no negative of their own are left out with --only-matched.
    let fasta = directory.path().join("genome.fa");
    let arguments = [
        "negatives",
        "--kind",
        "gc",
        "--fasta",
        fasta.to_str().unwrap(),
        "--count",
        "2000",
        "--tries",
        "1",
        "-q",
        "--with-positives",
    ];
    let lines = |more: &[&str]| {
        let rows = stdout_of(nyx("extract", &[&arguments[..], more].concat()), &rows);
        let text = stdout_of(nyx("view", &["--columns", "region", "-O", "csv"]), &rows);
        text.iter().filter(|byte| **byte == b'\n').count() - 1
    };
    assert!(lines(&[]) > 100 && lines(&["--only-matched"]) == 0);
}
