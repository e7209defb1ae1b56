//! nyx-tune: searches of every kind over small trainings, killed and gone on with.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{nyx, run, stdout_of};

/// Writes train, dev and test of sequences of which those that hold TGACTCAT are positive.
fn data(directory: &Path) {
    let mut state = 3u64;
    let mut draw = |end: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 33) as usize) % end
    };
    for (name, count) in [("train", 128), ("dev", 64), ("test", 32)] {
        let mut text = String::from("sequence,label\n");
        for row in 0..count {
            let mut bases: Vec<u8> = (0..30).map(|_| b"ACGT"[draw(4)]).collect();
            if row % 2 == 0 {
                let place = draw(22);
                bases[place..place + 8].copy_from_slice(b"TGACTCAT");
            }
            text += &format!("{},{}\n", String::from_utf8(bases).unwrap(), (row + 1) % 2);
        }
        fs::write(directory.join(format!("{name}.csv")), text).unwrap();
    }
}

fn tune(data: &Path, output: &str, flags: &[&str], train: &[&str]) -> Command {
    let mut command = nyx("tune", flags);
    command.args(["-o", output, "--seed", "5", "--", "cnn", "--architecture", "deepbind", "--data", "."]);
    command.args(train).current_dir(data);
    command
}

/// The table without the seconds.
fn trials(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path.join("trials.tsv")).unwrap();
    let cells = |line: &str| line.split('\t').map(str::to_string).collect::<Vec<_>>();
    let mut rows: Vec<Vec<String>> = text.lines().map(cells).collect();
    rows.iter_mut().for_each(|row| _ = row.remove(6));
    rows
}

const SPACE: [&str; 6] =
    ["-p", "learning-rate=log:1e-4..1e-1", "-p", "train-batch=32,64", "--objective", "roc_auc"];
const SHORT: [&str; 4] = ["--epochs", "1", "--eval-every", "2"];

#[test]
fn a_search_that_goes_on_is_the_search_that_was_not_stopped() {
    let directory = tempfile::tempdir().unwrap();
    data(directory.path());
    let path = |name: &str| directory.path().join(name);
    let bayes =
        |trials: &'static str| [&["--search", "bayes", "--trials", trials, "-q"], &SPACE[..]].concat();
    stdout_of(tune(directory.path(), "whole", &bayes("7"), &SHORT), b"");
    stdout_of(tune(directory.path(), "parts", &bayes("3"), &SHORT), b"");
    assert_eq!(trials(&path("parts")).len(), 4, "a header and three trials");
    // A trial whose training was killed in its middle has a checkpoint and no result.
    fs::remove_file(path("parts/trials/0002.json")).unwrap();
    stdout_of(tune(directory.path(), "parts", &bayes("7"), &SHORT), b"");
    let (whole, parts) = (trials(&path("whole")), trials(&path("parts")));
    assert_eq!(whole, parts);
    assert_eq!(whole.len(), 8);
    let read = |name: &str| fs::read(path(name)).unwrap();
    let best: Value = serde_json::from_slice(&read("whole/best.json")).unwrap();
    let values: Vec<f64> = whole[1..].iter().map(|row| row[4].parse().unwrap()).collect();
    assert_eq!(best["roc_auc"].as_f64().unwrap(), values.iter().copied().fold(0.0, f64::max));
    assert_eq!(read("whole/best/model.safetensors"), read("parts/best/model.safetensors"));
    let svg = String::from_utf8(read("whole/search.svg")).unwrap();
    assert_eq!(svg.matches("<circle").count(), 3 * 7);
    let refused = run(tune(directory.path(), "parts", &[&bayes("7")[..], &["--jobs", "2"]].concat(), &SHORT));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("another method"), "{said}");
}

#[test]
fn trials_at_once_are_those_one_by_one_and_hyperband_goes_on_with_the_best() {
    let directory = tempfile::tempdir().unwrap();
    data(directory.path());
    let path = |name: &str| directory.path().join(name);
    let random = |jobs: &'static str| [&["--trials", "4", "-q", "--jobs", jobs], &SPACE[..]].concat();
    stdout_of(tune(directory.path(), "one", &random("1"), &SHORT), b"");
    stdout_of(tune(directory.path(), "two", &random("2"), &SHORT), b"");
    assert_eq!(trials(&path("one")), trials(&path("two")));
    let flags = [
        "--search",
        "hyperband",
        "--max-epochs",
        "3",
        "-q",
        "--keep",
        "best",
        "-p",
        "learning-rate=log:1e-4..1e-1",
    ];
    stdout_of(tune(directory.path(), "climbed", &flags, &["--train-batch", "64"]), b"");
    let rows = trials(&path("climbed"));
    let epochs: Vec<&str> = rows[1..].iter().map(|row| row[2].as_str()).collect();
    // Three begin with one epoch, the best of them has three; two more have three from the beginning.
    assert_eq!(epochs.iter().filter(|epochs| **epochs == "1").count(), 3);
    assert_eq!(epochs.iter().filter(|epochs| **epochs == "3").count(), 3);
    let best_of_first = rows[1..]
        .iter()
        .filter(|row| row[2] == "1")
        .min_by(|a, b| a[4].parse::<f64>().unwrap().total_cmp(&b[4].parse().unwrap()))
        .unwrap();
    let climbed = rows.iter().find(|row| row[0] == best_of_first[0] && row[2] == "3").unwrap();
    assert_eq!(climbed[5], "12", "3 epochs of 256 examples (both strands) in batches of 64");
    let models = |entry: &fs::DirEntry| entry.path().join("model.safetensors").exists();
    let kept = fs::read_dir(path("climbed/trials")).unwrap().filter(|entry| models(entry.as_ref().unwrap()));
    assert_eq!(kept.count(), 1);
    // The same as that trial on its own: stopped at a rung and gone on with, or not.
    let mut alone =
        nyx("train", &["cnn", "--architecture", "deepbind", "--data", ".", "--train-batch", "64"]);
    alone.args([
        "--epochs",
        "3",
        "--eval-every",
        "0",
        "--best-by",
        "loss",
        "--seed",
        "5",
        "-q",
        "-o",
        "alone",
    ]);
    let best: Value = serde_json::from_slice(&fs::read(path("climbed/best.json")).unwrap()).unwrap();
    alone.args(["--learning-rate", best["parameters"]["learning-rate"].as_str().unwrap()]);
    stdout_of(
        {
            alone.current_dir(directory.path());
            alone
        },
        b"",
    );
    let weights = |name: &str| fs::read(path(name)).unwrap();
    assert_eq!(weights("climbed/best/model.safetensors"), weights("alone/model.safetensors"));
}

#[test]
fn a_killed_search_leaves_nothing_that_the_next_one_trips_over() {
    let directory = tempfile::tempdir().unwrap();
    data(directory.path());
    let flags = [&["--trials", "3", "-q"], &SPACE[..]].concat();
    let long = ["--epochs", "6", "--eval-every", "5"];
    stdout_of(tune(directory.path(), "whole", &flags, &long), b"");
    let mut command = tune(directory.path(), "killed", &flags, &long);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let first = directory.path().join("killed/trials/0000");
    while !first.exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    stdout_of(command, b"");
    let path = |name: &str| directory.path().join(name);
    let numbers = |rows: Vec<Vec<String>>| {
        rows.into_iter().map(|row| [row[..5].to_vec(), row[6..].to_vec()]).collect::<Vec<_>>()
    };
    assert_eq!(numbers(trials(&path("whole"))), numbers(trials(&path("killed"))));
}

#[test]
fn what_cannot_be_searched_is_said_before_anything_is_trained() {
    let directory = tempfile::tempdir().unwrap();
    data(directory.path());
    let refused = |flags: &[&str], train: &[&str]| {
        let output = run(tune(directory.path(), "none", flags, train));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = refused(&["--search", "grid", "-p", "learning-rate=log:1e-4..1e-1"], &[]);
    assert!(code == Some(2) && text.contains("--param learning-rate"), "{text}");
    let (code, text) = refused(&["-p", "epochs=1,2"], &["--epochs", "3"]);
    assert!(code == Some(2) && text.contains("after --"), "{text}");
    let (code, text) = refused(&["-p", "learning-rate=often"], &[]);
    assert!(code == Some(2) && text.contains("learning-rate"), "{text}");
    let (code, text) = refused(&["--objective", "beauty", "-p", "train-batch=32,64"], &["--epochs", "1"]);
    assert!(code == Some(2) && text.contains("roc_auc"), "{text}");
    assert!(!text.contains("remove the directory"), "no trial has a result yet: {text}");
    let dry = nyx("tune", &["--preset", "dnabert-enhancer", "--dry-run", "--", "full", "--model", "x"]);
    let table = String::from_utf8(stdout_of(dry, b"")).unwrap();
    assert_eq!(table.lines().count(), 81);
    let mut settings: Vec<&str> =
        table.lines().skip(1).map(|line| line.split_once('\t').unwrap().1).collect();
    settings.sort_unstable();
    settings.dedup();
    assert_eq!(settings.len(), 80);
}
