//! Inputs that nobody vouches for: the corpora of the fuzz targets (`fuzz/`, docs/reliability.md), the seeds they grew
//! from, and those seeds damaged, replayed with little memory.

#[path = "../../fuzz/formats.rs"]
pub mod formats;
mod seeds;

use std::path::{Path, PathBuf};
use std::process::Command;

use formats::FORMATS;

pub use seeds::{pickle_of_a_tensor, torch_legacy, torch_zip};

/// KiB of address space of a process that replays: an allocation by what a file says of itself ends it.
const ADDRESS_SPACE: u64 = 6 << 20;
/// Says to a test that it is the process with little memory.
const INSIDE: &str = "NYX_REPLAY";

/// Runs the test `name` of this module again, alone in a process with little memory, and `inside` there.
fn with_little_memory(name: &str, inside: impl Fn()) {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -v {ADDRESS_SPACE}; exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("corpus::{name}"), "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let lines: Vec<&str> = said.lines().collect();
    let end = lines[lines.len().saturating_sub(60)..].join("\n");
    assert!(output.status.success() && said.contains("1 passed"), "{}\n{end}", output.status);
}

/// Returns the inputs of a format in `tests/corpus`.
fn corpus(format: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(format);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Inputs that were neither read nor refused.
#[derive(Default)]
struct Failures(Vec<String>);

impl Failures {
    /// Reads an input, and says which before, so that an end without a word names it.
    fn check(&mut self, format: &str, what: &str, bytes: &[u8]) {
        println!("{format} {what}");
        let outcome = std::panic::catch_unwind(|| formats::check(format, bytes));
        if outcome.is_err() {
            self.0.push(format!("{format} {what}"));
        }
    }

    fn none(&self) {
        assert!(
            self.0.is_empty(),
            "{} inputs, the first of them:\n{}",
            self.0.len(),
            self.0[..self.0.len().min(20)].join("\n")
        );
    }
}

#[test]
fn every_input_of_the_corpora_is_read_or_refused() {
    with_little_memory("every_input_of_the_corpora_is_read_or_refused", || {
        let (mut count, mut failures) = (0, Failures::default());
        for (format, _) in FORMATS {
            for path in corpus(format) {
                failures.check(format, &path.display().to_string(), &std::fs::read(&path).unwrap());
                count += 1;
            }
        }
        failures.none();
        assert!(count > 0, "tests/corpus is not there");
    });
}

#[test]
fn every_seed_is_read() {
    let mut wrong = Vec::new();
    for (format, read) in FORMATS {
        for (number, seed) in seeds::of(format).iter().enumerate() {
            // The encoder of this one is itself.
            let is_circle = *format == "config" && number == 3;
            let outcome = read(seed);
            if outcome.is_ok() == is_circle {
                wrong.push(format!("{format} {number}: {outcome:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every byte of a small seed, some of a larger one: lost with all that follow, inverted, and the largest there is.
#[test]
fn every_damage_of_a_seed_is_read_or_refused() {
    const DAMAGES: usize = 40;
    with_little_memory("every_damage_of_a_seed_is_read_or_refused", || {
        let mut failures = Failures::default();
        for (format, _) in FORMATS {
            for (number, seed) in seeds::of(format).iter().enumerate() {
                let step = seed.len().div_ceil(DAMAGES).max(1);
                for at in (0..seed.len()).step_by(step) {
                    failures.check(format, &format!("seed {number} cut at {at}"), &seed[..at]);
                    for damage in [!seed[at], 0xFF, seed[at] ^ 1] {
                        let mut bytes = seed.clone();
                        bytes[at] = damage;
                        failures.check(format, &format!("seed {number} with {damage} at {at}"), &bytes);
                    }
                }
            }
        }
        failures.none();
    });
}

#[test]
#[ignore = "makes the files that scripts/fuzz.sh begins with"]
fn write_seeds() {
    seeds::write(Path::new(&std::env::var_os("NYX_SEEDS").expect("NYX_SEEDS names a directory")));
}
