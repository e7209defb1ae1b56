//! Readers that go away, readers that are slow, a standard output that is closed.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use rand::Rng;

use super::lab::{Fault, JOBS, Job, Lab, command};
use super::{no_losses, random, runs};

/// Returns `count` jobs of one stage whose output can be a pipe, as stages that write there, and the name of the file
/// otherwise.
pub fn streaming(count: usize) -> impl Iterator<Item = (&'static Job, String, &'static str)> {
    let no_pipes = ["bw", "npz", "hub", "model", "html"];
    let name =
        |job: &Job| job.stages[0].rsplit_once(" -o ").and_then(|(_, after)| after.split_whitespace().next());
    let jobs: Vec<_> = JOBS
        .iter()
        .filter(|job| job.stages.len() == 1 && job.name != "run")
        .filter_map(|job| Some((job, to_stdout(job.stages[0]), name(job)?)))
        .filter(|(job, _, name)| {
            job.name != "report" && !no_pipes.iter().any(|suffix| name.ends_with(suffix))
        })
        .collect();
    // Five is no divisor of their number: all are met in some order.
    let length = jobs.len();
    assert!(length % 5 != 0, "{length}");
    (0..count).map(move |run| jobs[5 * run % length].clone())
}

/// Returns a stage that writes to standard output.
fn to_stdout(stage: &str) -> String {
    let (before, after) = stage.rsplit_once(" -o ").expect("every job has -o");
    let name = after.split_whitespace().next().expect("a name follows");
    let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
    let format = match (stage.split_whitespace().next(), suffix) {
        (_, "arrows" | "") => "",
        (Some("nyx-view"), _) if before.contains(" -O ") => "",
        (Some("nyx-view"), "html") => " -O heatmap",
        (Some("nyx-view"), "bw") => " -O bigwig",
        (Some("nyx-view"), "fa") => " -O fasta",
        (Some("nyx-view"), "csv") => " -O csv",
        (Some("nyx-view"), "json") => " -O json",
        (Some("nyx-view"), "bed") => " -O bed",
        (Some("nyx-view"), "bedgraph") => " -O bedgraph",
        (Some("nyx-view"), "vcf") => " -O vcf",
        (Some("nyx-view"), "npz") => " -O npz",
        (Some("nyx-view"), "parquet") => " -O parquet",
        (Some("nyx-view"), "arrow") => " -O arrow",
        (Some("nyx-effects"), "tsv") => " -O tsv",
        _ => "",
    };
    format!("{before}{format} -o -{}", &after[name.len()..])
}

#[test]
fn a_reader_that_goes_away_at_any_byte_ends_a_command_quietly() {
    let lab = Lab::shared();
    let mut random = random(12);
    let mut losses = Vec::new();
    let count = runs(8);
    for (job, stage, name) in streaming(count) {
        let whole = lab.reference(job).files[name].len();
        for wanted in [0, random.random_range(1..whole)] {
            let directory = lab.trial();
            let mut command = command(&stage, &Fault::default());
            command
                .current_dir(&directory)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut stdout = child.stdout.take().unwrap();
            let read = stdout.by_ref().take(wanted as u64).read_to_end(&mut Vec::new()).unwrap();
            drop(stdout);
            let output = child.wait_with_output().unwrap();
            if output.status.code() != Some(0) || !output.stderr.is_empty() || read != wanted {
                let said = String::from_utf8_lossy(&output.stderr);
                losses.push(format!("{stage} | head -c {wanted}: {read} bytes, {:?} {said}", output.status));
            }
        }
    }
    eprintln!("readers that leave: {} runs, {} losses", 2 * count, losses.len());
    no_losses("closed pipes", &losses);
}

#[test]
fn a_slow_reader_gets_the_bytes_of_the_file() {
    let lab = Lab::shared();
    let mut random = random(13);
    let mut losses = Vec::new();
    let count = runs(8);
    for (job, stage, name) in streaming(count) {
        let reference = lab.reference(job);
        let expected = &reference.files[name];
        let directory = lab.trial();
        let mut command = command(&stage, &Fault::default());
        command.current_dir(&directory).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut found = Vec::new();
        // A hundred sips, the first ones after pauses.
        let mut sips = 0u32;
        loop {
            let mut bytes = vec![0; random.random_range(1..=expected.len() / 50 + 1)];
            let count = stdout.read(&mut bytes).unwrap();
            found.extend_from_slice(&bytes[..count]);
            if count == 0 {
                break;
            }
            sips += 1;
            if sips < 20 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let status = child.wait().unwrap();
        if !status.success() || found != *expected {
            losses.push(format!("{stage}: {} bytes of {}, {status:?}", found.len(), expected.len()));
        }
    }
    eprintln!("slow readers: {count} runs, {} losses", losses.len());
    no_losses("slow readers", &losses);
}

/// Runs a stage with a standard stream closed.
fn without(lab: &Lab, stage: &str, closed: &str) -> (Option<i32>, String) {
    let directory = lab.trial();
    let mut command = command(stage, &Fault { before: closed.into(), ..Fault::default() });
    command.current_dir(&directory).stdin(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What is closed becomes /dev/null before a program begins: rows would be written there, and all would seem well.
#[test]
fn a_closed_standard_stream_is_an_error() {
    let lab = Lab::shared();
    let mut losses = Vec::new();
    let count = runs(8);
    for (_, stage, _) in streaming(count) {
        let (code, said) = without(&lab, &stage, "exec >&-");
        if code != Some(1) || said.lines().count() != 1 || !said.contains("output is closed") {
            losses.push(format!("{stage}: {code:?} {said}"));
        }
    }
    for stage in [
        "nyx-extract regions --fasta ../genome.fa --peaks - --width 200 -o out.arrows",
        "nyx-extract sequences - -o out.arrows",
        "nyx-extract variants --fasta ../genome.fa --vcf - -o out.arrows",
        "nyx-score --model ../model -o out.arrows",
        "nyx-view -o out.tsv",
    ] {
        let (code, said) = without(&lab, stage, "exec <&-");
        if code != Some(1) || said.lines().count() != 1 || !said.contains("input is closed") {
            losses.push(format!("{stage}: {code:?} {said}"));
        }
    }
    eprintln!("closed streams: {} runs, {} losses", count + 5, losses.len());
    no_losses("closed standard streams", &losses);
}
