//! Shards of every input, their merge, runs that are killed, and what the front door says of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::support::*;

/// Returns a directory with the demo's data.
fn demo() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(executable("nyx"));
    command.args(["demo", "--data-only", "--outdir"]).arg(directory.path());
    stdout_of(command, b"");
    directory
}

fn inside(directory: &Path, mut command: Command) -> Command {
    command.current_dir(directory);
    command
}

fn front_door(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = inside(directory, Command::new(executable("nyx")));
    command.args(arguments);
    command
}

/// Runs `nyx-extract WORDS` in three shards, merges them out of order, and compares with the whole, bytes and all.
fn shards_are_the_whole(directory: &Path, words: &[&str], input: &[u8]) {
    let extract = |more: &[&str]| {
        let words = [words, &["--no-pg", "-q"], more].concat();
        stdout_of(inside(directory, nyx("extract", &words)), input)
    };
    let merge = |files: &[&str]| {
        stdout_of(inside(directory, nyx("merge", &[&["--no-pg", "-q"], files].concat())), b"")
    };
    fs::write(directory.join("whole"), extract(&[])).unwrap();
    let mut sizes = Vec::new();
    for part in ["1", "2", "3"] {
        let stream = extract(&["--shard", &format!("{part}/3")]);
        sizes.push(stream.len());
        fs::write(directory.join(part), stream).unwrap();
    }
    assert!(
        sizes.iter().all(|size| 2 * size > sizes[0]),
        "{words:?}: shards of about one size, not {sizes:?}"
    );
    let rows = |file: &str| {
        let view = nyx("view", &["-q", "--no-pg", file]);
        stdout_of(inside(directory, view), b"")
    };
    fs::write(directory.join("merged"), merge(&["3", "1", "2"])).unwrap();
    assert!(rows("merged") == rows("whole"), "{words:?}: the shards are not the whole");
    let short = run(inside(directory, nyx("merge", &["-q", "1", "2"])));
    let message = String::from_utf8_lossy(&short.stderr).into_owned();
    assert_eq!(short.status.code(), Some(1), "{words:?}");
    assert!(message.contains("1 of 3 shards missing: 3/3"), "{words:?}: {message}");
}

#[test]
fn the_shards_of_every_input_are_the_whole_from_files_and_from_pipes() {
    let demo = demo();
    let directory = demo.path();
    let read = |name: &str| fs::read(directory.join(name)).unwrap();
    let genome = ["--fasta", "genome.fa"];
    shards_are_the_whole(
        directory,
        &[&["tiles", "--width", "200", "--stride", "300"], &genome[..]].concat(),
        b"",
    );
    let peaks = ["regions", "--width", "0", "--both-strands", "--peaks"];
    shards_are_the_whole(directory, &[&peaks[..], &["peaks.narrowPeak"], &genome].concat(), b"");
    shards_are_the_whole(directory, &[&peaks[..], &["-"], &genome].concat(), &read("peaks.narrowPeak"));
    let table: String = (1..300).map(|n| format!("demo1\t{}\tN\tG,AT\n", 100 * n)).collect();
    let variants = ["variants", "--ref-mismatch", "status", "--vcf", "-"];
    let table = format!("chrom\tpos\tref\talt\n{table}");
    shards_are_the_whole(directory, &[&variants[..], &genome].concat(), table.as_bytes());
    let sequences: String = (1..200).map(|n| format!(">{n}\n{}\n", "ACGT".repeat(1 + n % 40))).collect();
    shards_are_the_whole(directory, &["sequences"], sequences.as_bytes());
    let regions = [&["regions", "--peaks", "peaks.narrowPeak", "--width", "200"], &genome[..]].concat();
    let rows = stdout_of(inside(directory, nyx("extract", &regions)), b"");
    let attributed =
        stdout_of(inside(directory, nyx("attrib", &["--model", "model", "--method", "gradxinput"])), &rows);
    stdout_of(inside(directory, nyx("view", &["-O", "npz", "-o", "regions.npz"])), &attributed);
    shards_are_the_whole(directory, &["contribs", "--regions", "regions.npz"], b"");
    fs::write(directory.join("cells.tsv"), "A\tpeaks.narrowPeak\nB\ttruth.bed\n").unwrap();
    shards_are_the_whole(directory, &[&["merge-peaks", "cells.tsv"], &genome[..]].concat(), b"");
}

#[test]
fn the_shards_of_rows_made_of_rows_are_the_whole() {
    let demo = demo();
    let directory = demo.path();
    let regions =
        ["regions", "--fasta", "genome.fa", "--peaks", "peaks.narrowPeak", "--width", "100", "-r", "demo1"];
    let rows = stdout_of(inside(directory, nyx("extract", &regions)), b"");
    fs::write(directory.join("rows.arrows"), &rows).unwrap();
    shards_are_the_whole(directory, &["mutate", "--span", "4", "--deletions", "rows.arrows"], b"");
    shards_are_the_whole(directory, &["mutate", "--span", "2"], &rows);
    // Mutations of a file are those of the sequence's number in the whole.
    let count = stdout_of(nyx("view", &["--no-pg", "--no-header", "--columns", "region"]), &rows);
    let count = count.split(|&byte| byte == b'\n').count() - 1;
    let mutations: String =
        (0..count).map(|index| format!("{index}\t{}\t{}\tAC\n", index % 90, index % 90 + 1)).collect();
    fs::write(directory.join("mutations.txt"), mutations).unwrap();
    shards_are_the_whole(directory, &["mutate", "--mutations", "mutations.txt", "rows.arrows"], b"");
    for kind in ["gc", "intervals", "dinucleotide"] {
        let fasta: &[&str] = if kind == "dinucleotide" { &[] } else { &["--fasta", "genome.fa"] };
        let words = [&["negatives", "--kind", kind, "--with-positives", "rows.arrows"], fasta].concat();
        shards_are_the_whole(directory, &words, b"");
    }
    // Parts of parts would not be parts of the whole.
    let part =
        stdout_of(inside(directory, nyx("extract", &[&regions[..], &["--shard", "1/2"]].concat())), b"");
    let again = run_with(nyx("extract", &["mutate", "--shard", "1/2"]), &part);
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("shard 1/2 already"));
}

#[test]
fn shards_of_two_layouts_are_not_joined() {
    let demo = demo();
    let directory = demo.path();
    for (part, width) in [("1/2", "200"), ("2/2", "201")] {
        let words = [
            "tiles",
            "--fasta",
            "genome.fa",
            "--stride",
            "1000",
            "--width",
            width,
            "--shard",
            part,
            "-o",
            &part[..1],
        ];
        stdout_of(inside(directory, nyx("extract", &words)), b"");
    }
    let output = run(inside(directory, nyx("merge", &["1", "2"])));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("--width 201") && message.contains("not"), "{message}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn shards_of_two_genomes_or_two_models_and_shards_that_overlap_are_not_joined() {
    let demo = demo();
    let directory = demo.path();
    let genome = fs::read_to_string(directory.join("genome.fa")).unwrap();
    fs::write(directory.join("other.fa"), genome.replacen(">demo1", ">renamed", 1)).unwrap();
    let config = fs::read_to_string(directory.join("model/config.json")).unwrap();
    fs::create_dir(directory.join("other")).unwrap();
    fs::write(directory.join("other/config.json"), config).unwrap();
    // Another model: the same network with a bit of its last weight turned.
    let mut weights = fs::read(directory.join("model/model.safetensors")).unwrap();
    *weights.last_mut().unwrap() ^= 1;
    fs::write(directory.join("other/model.safetensors"), weights).unwrap();
    let shard = |name: &str, fasta: &str, model: &str, part: &str| {
        let words = [
            "tiles", "-q", "--no-pg", "--fasta", fasta, "--width", "200", "--stride", "2000", "--shard", part,
        ];
        let rows = stdout_of(inside(directory, nyx("extract", &words)), b"");
        let words = ["--model", model, "-q", "--no-pg", "-o", name];
        stdout_of(inside(directory, nyx("score", &words)), &rows);
    };
    shard("1", "genome.fa", "model", "1/2");
    shard("2", "genome.fa", "model", "2/2");
    shard("of-other-genome", "other.fa", "model", "2/2");
    shard("of-other-model", "genome.fa", "other", "2/2");
    shard("of-three", "genome.fa", "model", "2/3");
    assert!(run(inside(directory, nyx("merge", &["-q", "-o", "whole", "1", "2"]))).status.success());
    for (second, why) in [
        ("of-other-genome", "differs from 1 in genome"),
        ("of-other-model", "of column `logits`"),
        ("of-three", "of two scans"),
        ("1", "are both shard 1/2"),
    ] {
        let refused = run(inside(directory, nyx("merge", &["-q", "-o", "joined", "1", second])));
        let message = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && message.contains(why), "{second}: {message}");
        assert!(!directory.join("joined").exists(), "{second}");
    }
}

/// Kills a process and all that it has started with SIGKILL; it leads a group of its own.
fn kill_all(mut leader: std::process::Child) {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("kill -9 -- -{}", leader.id())]);
    stdout_of(shell, b"");
    leader.wait().unwrap();
}

#[test]
fn a_run_that_was_killed_has_lost_one_shard_and_gives_the_same_bytes() {
    use std::os::unix::process::CommandExt;
    let demo = demo();
    let directory = demo.path();
    // The third shard says that it runs, and then waits for ever.
    let pipeline = "{ test {shard} != 3/5 || test -e go || { touch running; sleep 1000; }; } && nyx-extract tiles \
                    --fasta genome.fa --width 200 --stride 500 --shard {shard} | nyx-score --model model";
    let words =
        |output: &'static str| ["run", "--shards", "5", "--no-pg", "-q", "--keep", "-o", output, pipeline];
    let mut command = front_door(directory, &words("killed.arrows"));
    let mut running = command.process_group(0).spawn().unwrap();
    while !directory.join("running").exists() {
        assert!(running.try_wait().unwrap().is_none(), "it ended before its third shard");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    kill_all(running);
    let shard = |output: &str, part: u32| directory.join(format!("{output}.shards/0000{part}.arrows"));
    let written = |part| fs::metadata(shard("killed.arrows", part)).ok().map(|file| file.modified().unwrap());
    let before: Vec<_> = (1..=5).map(written).collect();
    assert!(before[..2].iter().all(Option::is_some) && before[2..].iter().all(Option::is_none), "{before:?}");
    assert!(!directory.join("killed.arrows").exists());
    fs::write(directory.join("go"), "").unwrap();
    stdout_of(front_door(directory, &words("killed.arrows")), b"");
    assert_eq!((1..=2).map(written).collect::<Vec<_>>(), before[..2], "what was done is not done again");
    stdout_of(front_door(directory, &words("never-killed.arrows")), b"");
    let read = |name: &str| fs::read(directory.join(name)).unwrap();
    assert!(read("killed.arrows") == read("never-killed.arrows"));
}

#[test]
fn a_run_that_failed_goes_on_and_gives_the_same_bytes() {
    let demo = demo();
    let directory = demo.path();
    // The third shard fails until the file `go` is there.
    let pipeline = "test {shard} != 3/4 -o -e go && nyx-extract tiles --fasta genome.fa --width 200 --stride 500 \
                    --shard {shard} | nyx-score --model model";
    let run_it = |output: &str, pipeline: &str| {
        let words = ["run", "--shards", "4", "--no-pg", "-o", output, pipeline];
        run(front_door(directory, &words))
    };
    let failed = run_it("a.arrows", pipeline);
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("shard 3/4"), "the shard is named");
    assert!(!directory.join("a.arrows").exists());
    let modified = |part: &str| {
        fs::metadata(directory.join(format!("a.arrows.shards/0000{part}.arrows")))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = [modified("1"), modified("2")];
    let other = run_it("a.arrows", "nyx-extract tiles --fasta genome.fa");
    assert!(String::from_utf8_lossy(&other.stderr).contains("another pipeline"), "no mixture");
    fs::write(directory.join("go"), "").unwrap();
    let third = directory.join("a.arrows.shards/00003.arrows");
    assert!(!third.exists());
    // What a killed run leaves unfinished is swept away.
    fs::write(directory.join("a.arrows.shards/.00003.arrows.x.tmp"), "half").unwrap();
    let words = ["run", "--shards", "4", "--no-pg", "--keep", "-o", "a.arrows", pipeline];
    stdout_of(front_door(directory, &words), b"");
    assert_eq!([modified("1"), modified("2")], before, "what was done is not done again");
    assert!(!directory.join("a.arrows.shards/.00003.arrows.x.tmp").exists());
    assert!(run_it("b.arrows", pipeline).status.success());
    assert!(!directory.join("b.arrows.shards").exists(), "the shards are gone when they are joined");
    assert!(fs::read(directory.join("a.arrows")).unwrap() == fs::read(directory.join("b.arrows")).unwrap());
}

#[test]
fn the_plan_knows_how_large_a_scan_will_be() {
    let demo = demo();
    let directory = demo.path();
    let scan = "nyx-extract tiles --fasta genome.fa --width 200 --stride 40 -r demo1:1-30000 | nyx-score --model model";
    let plan = stdout_of(front_door(directory, &["plan", "--json", "--windows", "60", scan]), b"");
    let plan: Value = serde_json::from_slice(&plan).unwrap();
    let path =
        format!("{}:{}", executable("nyx").parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut real = inside(directory, Command::new("bash"));
    real.args(["-c", scan]).env("PATH", path);
    let stream = stdout_of(real, b"");
    let rows = stdout_of(nyx("view", &["-q", "--no-pg", "--no-header", "--columns", "region"]), &stream);
    assert_eq!(plan["windows"].as_u64(), Some(rows.split(|&byte| byte == b'\n').count() as u64 - 1));
    let bytes = plan["bytes"].as_f64().unwrap();
    assert!((bytes / stream.len() as f64 - 1.0).abs() < 0.15, "{bytes} predicted, {} real", stream.len());
    assert!(plan["seconds"].as_f64().unwrap() > 0.0 && plan["peak_mib"].as_f64().unwrap() > 1.0);
}

#[test]
fn statistics_are_left_by_those_that_end_well_and_those_that_do_not() {
    let demo = demo();
    let directory = demo.path();
    let words =
        ["tiles", "--fasta", "genome.fa", "--stride", "1000", "--stats", "good_mqc.json", "-o", "rows"];
    stdout_of(inside(directory, nyx("extract", &words)), b"");
    let read =
        |name: &str| -> Value { serde_json::from_slice(&fs::read(directory.join(name)).unwrap()).unwrap() };
    let good = &read("good_mqc.json")["data"]["good nyx-extract"];
    assert_eq!((good["rows"].as_u64(), good["exit_status"].as_u64()), (Some(400), Some(0)));
    let output = run(inside(
        directory,
        nyx("attrib", &["--model", "nowhere", "--method", "ism", "--stats", "bad_mqc.json", "rows"]),
    ));
    assert_eq!(output.status.code(), Some(1));
    let bad = read("bad_mqc.json");
    assert_eq!(bad["data"]["bad nyx-attrib"]["exit_status"].as_u64(), Some(1));
    assert!(bad["error"].as_str().unwrap().contains("nowhere"));
}

#[test]
fn pages_and_completions_cover_every_executable() {
    let directory = tempfile::tempdir().unwrap();
    stdout_of(front_door(directory.path(), &["man", "man1"]), b"");
    let completions = stdout_of(front_door(directory.path(), &["completions", "bash"]), b"");
    let completions = String::from_utf8(completions).unwrap();
    let sources = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin")).unwrap();
    for source in sources {
        let name = source.unwrap().path().file_stem().unwrap().to_str().unwrap().to_string();
        let page = fs::read_to_string(directory.path().join(format!("man1/{name}.1"))).unwrap();
        assert!(page.contains(".SH NAME") && page.contains("\\-\\-help"), "{name}");
        let line = |line: &str| line.trim().starts_with("complete -F") && line.ends_with(&format!(" {name}"));
        assert!(completions.lines().any(line), "{name}");
    }
    assert!(directory.path().join("man1/nyx-extract-tiles.1").exists());
}

#[test]
fn a_hub_names_its_data() {
    let demo = demo();
    let directory = demo.path();
    let words = ["tiles", "--fasta", "genome.fa", "--width", "200", "--stride", "500"];
    let rows = stdout_of(inside(directory, nyx("extract", &words)), b"");
    let scored = stdout_of(inside(directory, nyx("score", &["--model", "model"])), &rows);
    let view = |more: &[&str]| inside(directory, nyx("view", &[&["-O", "hub", "-o", "hub"], more].concat()));
    stdout_of(view(&["--value", "probs", "--genome", "hg38"]), &scored);
    let text = fs::read_to_string(directory.join("hub/hub.txt")).unwrap();
    assert!(text.contains("\ngenome hg38\n") && text.contains("\nbigDataUrl probs.bw\n"), "{text}");
    let label =
        text.lines().find(|line| line.starts_with("longLabel probs: model (")).expect("it names the model");
    assert!(label.len() <= "longLabel ".len() + 80, "{label}");
    let track = fs::read(directory.join("hub/probs.bw")).unwrap();
    assert_eq!(track[..4], 0x888F_FC26_u32.to_le_bytes());
    assert_eq!(run_with(inside(directory, nyx("view", &["-O", "hub"])), &scored).status.code(), Some(2));
}

/// Runs a scan through `nyx run`, Snakemake and Slurm, killed on the way, where those are installed.
#[test]
fn workflows_that_are_killed_give_one_digest() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if !root.join("target/workflows/bin/snakemake").exists() {
        eprintln!("skipped: no Snakemake (scripts/workflows/install.sh slurm installs it)");
        return;
    }
    let path =
        format!("{}:{}", executable("nyx").parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut check = Command::new(root.join("scripts/workflows/check.sh"));
    check.arg("short").env("PATH", path);
    let table = String::from_utf8(stdout_of(check, b"")).unwrap();
    // Where Slurm is not installed the script says so in its table.
    eprint!("{table}");
    for way in ["run", "snakemake", "rules", "wrappers"] {
        assert!(table.contains(&format!("\n{way} ")), "{table}");
    }
}
