//! `nyx` itself: which command runs, `nyx doctor`, `nyx demo`.

use std::process::Command;

use super::support::*;

fn front_door(arguments: &[&str]) -> Command {
    let mut command = Command::new(executable("nyx"));
    command.args(arguments);
    command
}

#[test]
fn an_unknown_command_is_a_usage_error_with_the_list() {
    let output = run(front_door(&["unknown"]));
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("`unknown`") && message.contains("extract"), "{message}");
    assert_eq!(run(front_door(&["../nyx-extract"])).status.code(), Some(2));
}

#[test]
fn a_command_keeps_its_arguments_and_its_status() {
    let direct = run(nyx("extract", &["regions", "--no-such-flag"]));
    let through = run(front_door(&["extract", "regions", "--no-such-flag"]));
    assert_eq!(through.status.code(), Some(2));
    assert_eq!(
        (through.status, through.stdout, through.stderr),
        (direct.status, direct.stdout, direct.stderr)
    );
}

#[test]
fn the_demo_finds_what_was_planted() {
    let directory = tempfile::tempdir().unwrap();
    let outdir = directory.path().join("out dir");
    let output = stdout_of(front_door(&["demo", "--outdir", outdir.to_str().unwrap()]), b"");
    let text = String::from_utf8(output).unwrap();
    // What it prints must agree with the files: as many hits as there are lines of BED.
    let bed = std::fs::read_to_string(outdir.join("hits.bed")).unwrap();
    let hits = bed.lines().filter(|line| line.starts_with("demo")).count();
    let all: Vec<&str> =
        text.lines().find(|line| line.starts_with("all ")).unwrap().split_whitespace().collect();
    assert_eq!(all[4], hits.to_string(), "{text}");
    let html = std::fs::read_to_string(outdir.join("report.html")).unwrap();
    assert!(!html.contains("http") && html.contains("GATA") && html.ends_with("</html>\n"));
    for file in ["contributions.bw", "hits/hits.tsv", "truth.bed"] {
        assert!(outdir.join(file).metadata().unwrap().len() > 1000, "{file}");
    }
}

#[test]
fn a_failing_stage_fails_the_demo() {
    let directory = tempfile::tempdir().unwrap();
    // The pipeline cannot write its hits where a directory has that name.
    std::fs::create_dir(directory.path().join("hits.arrows")).unwrap();
    let output = run(front_door(&["demo", "--outdir", directory.path().to_str().unwrap()]));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nyx-hits failed"));
}
