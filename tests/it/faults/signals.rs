//! Stages ended by the signals of Ctrl-C, `kill` and a terminal that closes: nothing is left behind, and whoever waits
//! for them sees the signal.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use rand::Rng;

use super::lab::{Fault, JOBS, Lab, command, files, hearing, send};
use super::{no_losses, random, runs};
use crate::support::{nyx, run_with};

const SIGNALS: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// Commands that write while they read, with the input that they get but for its last bytes.
const WRITING: [(&str, &str); 16] = [
    ("nyx-extract sequences - -o out.arrows", "data/train.csv"),
    ("nyx-merge - -o out.arrows", "scored.arrows"),
    ("nyx-tokenize --tokenizer kmer:6 - -o out.arrows", "contributions.arrows"),
    ("nyx-score --model ../model - -o out.arrows", "contributions.arrows"),
    ("nyx-hits --motifs ../motifs.meme --outdir finemo -o out.arrows -", "contributions.arrows"),
    ("nyx-scan --motifs ../motifs.meme --tsv fimo.tsv -o out.arrows -", "contributions.arrows"),
    ("nyx-effects --vcf ../few.vcf -o out.vcf -", "alleles.arrows"),
    ("nyx-effects --vcf ../few.vcf -o out.vcf.gz -", "alleles.arrows"),
    ("nyx-effects --vcf ../few.bcf -o out.bcf -", "alleles.arrows"),
    ("nyx-view -o out.tsv -", "contributions.arrows"),
    ("nyx-view -o out.tsv.gz -", "contributions.arrows"),
    ("nyx-view -o out.json -", "contributions.arrows"),
    ("nyx-view -o out.fa -", "contributions.arrows"),
    ("nyx-view -o out.bed -", "hits.arrows"),
    ("nyx-view -o out.parquet -", "contributions.arrows"),
    ("nyx-view -o out.arrow -", "contributions.arrows"),
];

/// Starts a stage and gives it `bytes`, after which it waits for more.
fn begin(stage: &str, directory: &std::path::Path, bytes: &[u8]) -> (Child, ChildStdin) {
    let mut command = command(stage, &Fault::default());
    command.current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = hearing(&mut command).spawn().expect("the executable starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(bytes).expect("it reads");
    (child, stdin)
}

/// Waits until something is true of a process that runs, or the process has ended.
fn wait_until(child: &mut Child, is_so: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !is_so() {
        if child.try_wait().expect("it can be waited for").is_some() || began.elapsed().as_secs() > 60 {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

#[test]
fn what_a_signal_ends_in_the_middle_of_a_file_leaves_nothing() {
    let lab = Lab::shared();
    let mut losses = Vec::new();
    for (index, (stage, input)) in WRITING.iter().enumerate() {
        let directory = lab.trial();
        let bytes = std::fs::read(lab.path(input)).unwrap();
        let (mut child, stdin) = begin(stage, &directory, &bytes[..bytes.len() - 8]);
        let begun = wait_until(&mut child, || !files(&directory).is_empty());
        let signal = SIGNALS[index % SIGNALS.len()];
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        let left: Vec<_> = files(&directory).into_keys().collect();
        if !begun || !left.is_empty() || output.status.signal() != Some(signal) || !output.stderr.is_empty() {
            losses.push(format!("{stage}, signal {signal}: begun {begun}, left {left:?}, {output:?}"));
        }
    }
    eprintln!("signals while a file is written: {} runs, {} losses", WRITING.len(), losses.len());
    no_losses("ended by a signal", &losses);
}

#[test]
fn a_signal_at_a_random_moment_leaves_whole_files_or_none() {
    let lab = Lab::shared();
    let mut random = random(16);
    let mut losses = Vec::new();
    let mut ended = 0;
    let count = runs(JOBS.len() / 2);
    for run in 0..count {
        // Every third, so that all of them are met in some order.
        let job = &JOBS[run * 3 % JOBS.len()];
        let stage = random.random_range(0..job.stages.len());
        let moment = lab.reference(job).took.mul_f64(random.random_range(0.0..1.0));
        let signal = SIGNALS[random.random_range(0..SIGNALS.len())];
        let fault = Fault { stage, kill: Some(moment), signal: Some(signal), ..Fault::default() };
        let (outcome, lost) = lab.endure(job, &fault);
        losses.extend(lost);
        match (outcome.codes[stage], outcome.signals[stage]) {
            (None, Some(by)) if by == signal => ended += 1,
            // It was too late, or the stage left of it, or none of it was to be read.
            (Some(0 | 3), None) => {}
            _ => losses.push(format!("{} with {fault:?}: {outcome:?}", job.name)),
        }
        if stage + 1 < job.stages.len() && !matches!(outcome.last(), Some(0 | 3)) {
            losses.push(format!("{}: the last stage does not look left: {outcome:?}", job.name));
        }
    }
    eprintln!("signals: {count} runs, {ended} ended by them, {} losses", losses.len());
    no_losses("signals", &losses);
    assert!(ended * 4 > count, "the signals came too late to test anything: {ended} of {count}");
}

/// What such a stage has written so far is taken for whole by nobody.
#[test]
fn what_a_signal_ends_in_a_pipe_has_no_end_mark() {
    let lab = Lab::shared();
    let bytes = std::fs::read(lab.path("scored.arrows")).unwrap();
    for signal in SIGNALS {
        let mut command = nyx("merge", &["-q", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = hearing(&mut command).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut stdout, &mut bytes).unwrap();
            bytes
        });
        stdin.write_all(&bytes[..bytes.len() - 8]).unwrap();
        send(&child, signal);
        assert_eq!(child.wait().unwrap().signal(), Some(signal));
        let found = run_with(nyx("view", &["-q", "-"]), &reader.join().unwrap());
        assert_eq!(found.status.code(), Some(3), "{found:?}");
    }
}

/// `nohup` would be of no use otherwise.
#[test]
fn a_signal_that_was_ignored_before_is_ignored() {
    let lab = Lab::shared();
    let bytes = std::fs::read(lab.path("scored.arrows")).unwrap();
    let directory = lab.trial();
    let mut command =
        command("nyx-merge - -o out.arrows", &Fault { before: "trap '' HUP INT".into(), ..Fault::default() });
    command.current_dir(&directory).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = hearing(&mut command).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (most, end) = bytes.split_at(bytes.len() - 8);
    stdin.write_all(most).unwrap();
    assert!(wait_until(&mut child, || !files(&directory).is_empty()));
    [libc::SIGHUP, libc::SIGINT].iter().for_each(|signal| send(&child, *signal));
    stdin.write_all(end).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert!(directory.join("out.arrows").exists());
}
