//! Stages killed (-9) at random moments.

use std::collections::BTreeMap;

use rand::Rng;

use super::lab::{Fault, JOBS, Lab};
use super::{no_losses, random, runs};

/// How the runs of a job ended.
#[derive(Default)]
struct Tally {
    interrupted: usize,
    whole: usize,
}

#[test]
fn what_is_killed_leaves_whole_files_or_none_and_can_be_run_again() {
    let lab = Lab::shared();
    let mut random = random(9);
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut losses = Vec::new();
    let count = runs(JOBS.len());
    for run in 0..count {
        let job = &JOBS[run % JOBS.len()];
        let stage = random.random_range(0..job.stages.len());
        let moment = lab.reference(job).took.mul_f64(random.random_range(0.0..1.0));
        let (outcome, lost) = lab.endure(job, &Fault { stage, kill: Some(moment), ..Fault::default() });
        losses.extend(lost);
        if stage + 1 < job.stages.len() && !matches!(outcome.last(), Some(0 | 3)) {
            losses.push(format!("{}: the last stage does not look left: {outcome:?}", job.name));
        }
        let tally = tallies.entry(job.name).or_default();
        match outcome.last() {
            Some(0) => tally.whole += 1,
            _ => tally.interrupted += 1,
        }
    }
    let interrupted: usize = tallies.values().map(|tally| tally.interrupted).sum();
    for (name, Tally { interrupted, whole }) in &tallies {
        eprintln!("{name}: {interrupted} interrupted, {whole} whole");
    }
    eprintln!("kills: {count} runs, {interrupted} interrupted, {} losses", losses.len());
    no_losses("killed", &losses);
    assert!(interrupted * 4 > count, "the kills came too late to test anything: {interrupted} of {count}");
}
