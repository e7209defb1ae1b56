//! Disks that are full, files that may not grow, syncs and renames that fail.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rand::Rng;

use super::lab::{Fault, JOBS, Job, Lab, command};
use super::pipes::streaming;
use super::shim::Shim;
use super::{no_losses, random, runs};
use crate::support::run;

/// Bytes of a block, as the shell counts the size of files.
const BLOCK: usize = 512;

/// Returns the fault of a stage whose files cannot grow beyond so many blocks: a write fails, as on a full disk.
fn no_more_than(job: &Job, blocks: usize) -> Fault {
    let before = format!("trap '' XFSZ; ulimit -f {blocks}");
    Fault { stage: job.stages.len() - 1, before, ..Fault::default() }
}

#[test]
fn what_does_not_fit_is_an_error_and_no_file() {
    let lab = Lab::shared();
    let mut random = random(10);
    let mut losses = Vec::new();
    let count = runs(JOBS.len());
    for run in 0..count {
        let job = &JOBS[run % JOBS.len()];
        let largest = lab.reference(job).files.values().map(Vec::len).max().expect("a job has files");
        // The first round fills the disk at the last block of the largest file, where an error is easily missed.
        let blocks = match run < JOBS.len() {
            true => (largest - 1) / BLOCK,
            false => random.random_range(0..=(largest - 1) / BLOCK),
        };
        let (outcome, lost) = lab.endure(job, &no_more_than(job, blocks));
        losses.extend(lost);
        if outcome.last() == Some(0) {
            losses
                .push(format!("{}: status 0 although {largest} bytes do not fit {blocks} blocks", job.name));
        }
    }
    eprintln!("files that may not grow: {count} runs, {} losses", losses.len());
    no_losses("disk full", &losses);
}

/// A small file system in memory, gone when dropped.
struct Disk(PathBuf);

impl Disk {
    /// Mounts a disk of so many bytes at `path`; `None` where that is not allowed.
    fn mount(path: &Path, bytes: usize) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"]).arg(path);
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then(|| Self(path.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn a_small_disk_is_full_in_earnest() {
    let lab = Lab::shared();
    let mut losses = Vec::new();
    let mut full = 0;
    let count = runs(8);
    // Every fifth, so that all of them are met in some order.
    for run in 0..count {
        let job = &JOBS[run * 5 % JOBS.len()];
        let reference = lab.reference(job);
        let largest = reference.files.values().map(Vec::len).max().expect("a job has files");
        let directory = lab.trial();
        // A page at least, and less than the largest file.
        let Some(disk) = Disk::mount(&directory, (largest / 2).max(4096)) else {
            eprintln!("skipped: no file system can be mounted here");
            return;
        };
        let outcome = lab.run(job.stages, &directory, &Fault::default());
        losses.extend(lab.losses(job, &reference, &directory, &outcome));
        full += usize::from(outcome.last() != Some(0));
        drop(disk);
    }
    eprintln!("small disks: {count} runs, {full} of them full, {} losses", losses.len());
    no_losses("small disk", &losses);
    assert!(full > 0, "no disk was full");
}

#[test]
fn standard_output_that_is_full_is_an_error() {
    if !Path::new("/dev/full").exists() {
        eprintln!("skipped: no /dev/full here");
        return;
    }
    let lab = Lab::shared();
    let mut losses = Vec::new();
    let count = runs(8);
    for stage in streaming(count).map(|(_, stage, _)| stage) {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let directory = lab.trial();
        let mut command = command(&stage, &Fault::default());
        command.current_dir(&directory).stdin(Stdio::null()).stdout(full).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.code() != Some(1) || said.lines().count() != 1 {
            losses.push(format!("{stage}: {:?} {said}", output.status));
        }
    }
    eprintln!("standard output on /dev/full: {count} runs, {} losses", losses.len());
    no_losses("/dev/full", &losses);
}

#[test]
fn a_sync_or_a_rename_that_fails_is_an_error_and_no_file() {
    let Some(shim) = Shim::new() else { return };
    let lab = Lab::shared();
    let mut losses = Vec::new();
    let count = runs(12);
    for run in 0..count {
        let job = &JOBS[run * 7 % JOBS.len()];
        let calls = if run % 2 == 0 { "fsync" } else { "rename" };
        let fault = Fault { stage: job.stages.len() - 1, environment: shim.fail(calls), ..Fault::default() };
        let (outcome, lost) = lab.endure(job, &fault);
        losses.extend(lost);
        if outcome.last() == Some(0) {
            losses.push(format!("{}: status 0 although {calls} failed", job.name));
        }
    }
    eprintln!("fsync and rename that fail: {count} runs, {} losses", losses.len());
    no_losses("fsync and rename", &losses);
}

#[test]
fn short_reads_and_writes_change_nothing() {
    let Some(shim) = Shim::new() else { return };
    let lab = Lab::shared();
    let mut losses = Vec::new();
    let count = runs(10);
    for run in 0..count {
        let job = &JOBS[run * 11 % JOBS.len()];
        let stage = run % job.stages.len();
        let (outcome, lost) =
            lab.endure(job, &Fault { stage, environment: shim.short(), ..Fault::default() });
        losses.extend(lost);
        if outcome.last() != Some(0) {
            losses.push(format!("{}: {outcome:?}", job.name));
        }
    }
    eprintln!("short reads and writes: {count} runs, {} losses", losses.len());
    no_losses("short reads and writes", &losses);
}

#[test]
fn a_directory_that_is_not_there_is_an_error_before_anything_is_read() {
    let lab = Lab::shared();
    for job in JOBS.iter().filter(|job| job.name.starts_with("extract") || job.name.starts_with("effects")) {
        let stage = job.stages.last().unwrap().replace("-o out", "-o nowhere/out");
        let directory = lab.trial();
        let mut command = command(&stage, &Fault::default());
        command.current_dir(&directory);
        let output = run(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_ne!(output.status.code(), Some(0), "{stage}");
        assert!(!said.contains("panicked") && said.lines().count() == 1, "{stage}: {said}");
    }
}
