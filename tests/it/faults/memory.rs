//! Memory that is capped.

use rand::Rng;

use super::lab::{Fault, JOBS, Lab};
use super::{no_losses, random, runs};

#[test]
fn what_has_too_little_memory_fails_without_a_panic_and_leaves_no_part() {
    let lab = Lab::shared();
    let mut random = random(11);
    let mut losses = Vec::new();
    let (mut failed, count) = (0, runs(20));
    for run in 0..count {
        let job = &JOBS[run * 3 % JOBS.len()];
        let stage = random.random_range(0..job.stages.len());
        // Of address space, in kilobytes, evenly over orders of magnitude: 16 MB are too few for any command.
        let kilobytes = (1024.0 * 16.0 * 2f64.powf(random.random_range(0.0..4.0))) as u64;
        let before = format!("ulimit -v {kilobytes}");
        let (outcome, lost) = lab.endure(job, &Fault { stage, before, ..Fault::default() });
        losses.extend(lost);
        failed += usize::from(outcome.last() != Some(0));
    }
    eprintln!("memory caps: {count} runs, {failed} failed, {} losses", losses.len());
    no_losses("memory", &losses);
}
