//! No end without its mark, whatever happens to the processes of a pipe.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::support::*;

/// A tiles command over `genome`, as many rows as its length allows.
fn tiles(genome: &Path) -> Command {
    nyx("extract", &["tiles", "--fasta", genome.to_str().unwrap(), "--width", "200", "--stride", "1", "-q"])
}

/// A stage that passes rows on.
fn pass_through() -> Command {
    nyx("merge", &["-q", "-"])
}

#[test]
fn a_stream_cut_anywhere_ends_the_next_stage_with_status_3() {
    let directory = tempfile::tempdir().unwrap();
    let whole = stdout_of(tiles(&genome(directory.path(), 300)), b"");
    for cut in (0..whole.len()).step_by(whole.len() / 60).chain([whole.len() - 8, whole.len() - 1]) {
        let output = run_with(pass_through(), &whole[..cut]);
        assert_eq!(output.status.code(), Some(3), "cut at {cut} of {}", whole.len());
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains("end mark"), "{message}");
    }
    assert!(run_with(pass_through(), &whole).status.success());
}

#[test]
fn the_upstream_tool_is_named_when_it_did_not_finish() {
    let directory = tempfile::tempdir().unwrap();
    let whole = stdout_of(tiles(&genome(directory.path(), 3000)), b"");
    let output = run_with(pass_through(), &whole[..whole.len() - 8]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("nyx-extract did not finish (2801 rows"), "{message}");
}

#[test]
fn concatenated_streams_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let whole = stdout_of(tiles(&genome(directory.path(), 300)), b"");
    let output = run_with(pass_through(), &[whole.clone(), whole].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nyx-merge"));
}

#[test]
fn a_killed_stage_never_leaves_a_result_that_looks_whole() {
    let directory = tempfile::tempdir().unwrap();
    let genome = genome(directory.path(), 60_000);
    let expected = stdout_of(tiles(&genome), b"").len();
    let mut interrupted = 0;
    for trial in 0..60 {
        let target = directory.path().join(format!("out.{trial}.arrows"));
        let mut last = pass_through();
        last.args(["-o", target.to_str().unwrap()]);
        let mut children = pipeline(vec![tiles(&genome), pass_through(), last]);
        // Early, late and in the middle, the first or the second stage.
        std::thread::sleep(Duration::from_micros(2500 * trial));
        let _ = children[trial as usize % 2].kill();
        let statuses: Vec<_> = children.iter_mut().map(|child| child.wait().unwrap()).collect();
        if statuses[2].success() {
            // The kill came too late: then the result must be whole.
            let size = std::fs::metadata(&target).unwrap().len() as usize;
            assert!(size >= expected, "a short result of {size} bytes passed for whole");
        } else {
            interrupted += 1;
            assert_eq!(statuses[2].code(), Some(3), "{statuses:?}");
            assert!(!target.exists(), "a file appeared although its stage failed");
        }
    }
    assert!(interrupted > 5, "the kills came too late to test anything");
}

#[test]
fn a_reader_that_goes_away_ends_the_stage_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = tiles(&genome(directory.path(), 60_000))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_full_disk_is_an_error() {
    if !Path::new("/dev/full").exists() {
        eprintln!("skipped: no /dev/full here");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = tiles(&genome(directory.path(), 60_000));
    command.args(["-o", "/dev/full"]);
    let output = run(command);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left"));
}

#[test]
fn bytes_that_are_no_stream_say_where_to_begin() {
    let output = run_with(pass_through(), b">chr1\nACGT\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("begin with nyx-extract"));
    assert_eq!(run_with(pass_through(), b"").status.code(), Some(3), "nothing at all is an upstream failure");
}

#[test]
fn every_command_states_its_version_in_one_line() {
    for name in [
        "extract",
        "tokenize",
        "score",
        "attrib",
        "hits",
        "collapse",
        "intersect",
        "view",
        "merge",
        "model",
        "report",
    ] {
        let text = String::from_utf8(stdout_of(nyx(name, &["--version"]), b"")).unwrap();
        assert_eq!(text, format!("nyx-{name} {}\n", env!("CARGO_PKG_VERSION")));
        let json = stdout_of(nyx(name, &["--version", "--json"]), b"");
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    }
}
