//! Faults, injected: processes killed, disks full, pipes closed, memory short, inputs damaged.
//!
//! One invariant for all: a command ends with a status other than 0, or what it leaves is complete and correct. A file
//! under its final name is never a part of one; nothing hangs, nothing panics. `NYX_FAULT_RUNS=1000` makes the random
//! part of every test as long as that (docs/reliability.md has the commands and what a long run said).

use rand::SeedableRng;
use rand::rngs::StdRng;

mod damage;
mod disk;
mod formats;
mod kills;
mod lab;
mod memory;
mod pipes;
mod shim;
mod signals;

/// Returns how many random runs to make: as many as `NYX_FAULT_RUNS` says, `default` without it.
fn runs(default: usize) -> usize {
    std::env::var("NYX_FAULT_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Returns the random numbers of a test: always the same ones, others with each `NYX_FAULT_SEED`.
fn random(test: u64) -> StdRng {
    let seed = std::env::var("NYX_FAULT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0u64);
    StdRng::seed_from_u64(1000 * seed + test)
}

/// Fails with all that was lost, if anything was.
fn no_losses(what: &str, losses: &[String]) {
    assert!(losses.is_empty(), "{what}: {} losses\n{}", losses.len(), losses.join("\n"));
}
