//! Inputs that are damaged or cut, at every byte of small files of every format.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use super::formats::{self, Format, May};
use super::lab::{Fault, Lab, command};
use super::{no_losses, random, runs};

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Cut(usize),
    Flip(usize, u8),
    Set(usize, u8),
}

impl Damage {
    fn of(self, bytes: &[u8]) -> Vec<u8> {
        let mut damaged = bytes.to_vec();
        match self {
            Self::Cut(length) => damaged.truncate(length),
            Self::Flip(at, bit) => damaged[at] ^= 1 << bit,
            Self::Set(at, byte) => damaged[at] = byte,
        }
        damaged
    }
}

/// Returns what is done to a file of `length` bytes: at every byte it is cut, has one bit turned, and has one byte
/// that means something to most formats. A file longer than `most` is damaged at so many bytes only.
fn damages(length: usize, most: usize, random: &mut StdRng) -> Vec<Damage> {
    let step = length.div_ceil(most).max(1);
    let first = random.random_range(0..step.min(length));
    let at_one = |at| {
        let byte = [0, 0xFF, 0x7F, b'9', b'-', b'\n', b'\t', b'.'][random.random_range(0..8)];
        [Damage::Cut(at), Damage::Flip(at, random.random_range(0..8)), Damage::Set(at, byte)]
    };
    (first..length).step_by(step).flat_map(at_one).collect()
}

/// Bytes of a file that the long run damages at every byte; a larger one it damages at so many.
const EVERY_BYTE: usize = 2500;

/// Ends the process when the cases do not go on: a hang inside a reader cannot be ended otherwise.
struct Watchdog {
    cases: Arc<AtomicUsize>,
    done: Arc<AtomicBool>,
}

impl Watchdog {
    fn new() -> Self {
        let watchdog = Self { cases: Arc::default(), done: Arc::default() };
        let (cases, done) = (watchdog.cases.clone(), watchdog.done.clone());
        std::thread::spawn(move || {
            let (mut seen, mut still) = (0, 0);
            while !done.load(Relaxed) {
                std::thread::sleep(Duration::from_secs(1));
                let now = cases.load(Relaxed);
                still = if now == seen { still + 1 } else { 0 };
                seen = now;
                if still > 120 {
                    eprintln!("a reader hangs at case {now} of the damaged files");
                    std::process::abort();
                }
            }
        });
        watchdog
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.done.store(true, Relaxed);
    }
}

/// A format in a directory of its own.
struct Bench<'a> {
    format: &'a Format,
    directory: tempfile::TempDir,
}

impl<'a> Bench<'a> {
    fn new(format: &'a Format) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in &format.beside {
            fs::write(directory.path().join(name), bytes).unwrap();
        }
        Self { format, directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(self.format.file)
    }

    /// Lays down the file anew, as it is after the damage.
    fn write(&self, bytes: &[u8]) {
        for name in self.format.made {
            fs::remove_file(self.directory.path().join(name)).ok();
        }
        fs::write(self.path(), (self.format.wrap)(bytes)).unwrap();
    }

    /// Runs a command here.
    fn run(&self, stage: &str) -> Output {
        let mut command = command(stage, &Fault::default());
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        command.output().expect("the executable starts")
    }

    /// Reads; `Err` of the inner result is an error of the library, of the outer one a panic.
    fn read(&self) -> Result<Result<String, String>, String> {
        let path: &Path = &self.path();
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.format.read)(path)));
        match outcome {
            Ok(outcome) => Ok(outcome.map_err(|error| error.to_string())),
            Err(panic) => Err(panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
                .unwrap_or_default()),
        }
    }

    /// Says what is wrong with reading the file after a damage, if anything is.
    fn loss(&self, damage: Damage, whole: &str) -> Option<String> {
        self.write(&damage.of(&self.format.bytes));
        let may = match damage {
            // Nothing is a text without lines, whatever it was to be compressed with.
            Damage::Cut(0) if self.format.name.starts_with("BED") => May::Change,
            Damage::Cut(_) => self.format.cut,
            _ => self.format.flip,
        };
        match self.read() {
            Err(panic) => Some(format!("panics: {panic}")),
            Ok(Ok(found)) if may == May::Fail && found != whole => {
                Some(format!("gives other content: {found:.200}"))
            }
            Ok(Err(message)) if message.trim().is_empty() => Some("fails without a word".into()),
            Ok(Err(message)) if message.trim().contains('\n') => {
                Some(format!("an error of several lines: {message}"))
            }
            Ok(_) => None,
        }
    }
}

#[test]
fn every_reader_takes_damage_at_every_byte_for_an_error_or_for_other_content() {
    let lab = Lab::shared();
    let watchdog = Watchdog::new();
    let mut random = random(14);
    let mut losses = Vec::new();
    let mut counts = BTreeMap::new();
    // The ordinary run damages files at a hundred bytes, the long one at every byte of all but the largest.
    let most = if runs(0) > 0 { EVERY_BYTE } else { 100 };
    for format in formats::all(&lab) {
        let bench = Bench::new(&format);
        bench.write(&format.bytes);
        let whole = bench.read().expect("a whole file gives no panic").unwrap_or_else(|message| {
            panic!("{}: a whole file is no error: {message}", format.name);
        });
        let damages = damages(format.bytes.len(), most, &mut random);
        counts.insert(format.name, (format.bytes.len(), damages.len()));
        for damage in damages {
            watchdog.cases.fetch_add(1, Relaxed);
            losses
                .extend(bench.loss(damage, &whole).map(|loss| format!("{} {damage:?} {loss}", format.name)));
        }
    }
    let total: usize = counts.values().map(|(_, cases)| cases).sum();
    for (name, (bytes, cases)) in &counts {
        eprintln!("{name}: {bytes} bytes, {cases} cases");
    }
    eprintln!("damaged inputs: {} formats, {total} cases, {} losses", counts.len(), losses.len());
    no_losses("damaged inputs", &losses);
}

#[test]
fn commands_say_in_one_line_what_is_wrong_with_a_damaged_input() {
    let lab = Lab::shared();
    let mut random = random(15);
    let mut losses = Vec::new();
    let mut failed = 0;
    let formats = formats::all(&lab);
    let with_command: Vec<&Format> = formats.iter().filter(|format| format.command.is_some()).collect();
    let count = runs(with_command.len());
    for run in 0..count {
        let format = with_command[run % with_command.len()];
        let bench = Bench::new(format);
        let damages = damages(format.bytes.len(), usize::MAX, &mut random);
        // The ordinary run cuts each, the long one does everything.
        let damage = match run < with_command.len() {
            true => Damage::Cut(random.random_range(0..format.bytes.len())),
            false => damages[random.random_range(0..damages.len())],
        };
        let stage = format!("{} -o out", format.command.expect("chosen by it"));
        if run < with_command.len() {
            bench.write(&format.bytes);
            let output = bench.run(&stage);
            assert!(output.status.success(), "{stage} on a whole file: {output:?}");
            fs::remove_file(bench.directory.path().join("out")).unwrap();
        }
        bench.write(&damage.of(&format.bytes));
        let output = bench.run(&stage);
        let said = String::from_utf8_lossy(&output.stderr);
        let place = format!("{} {damage:?} {stage}: {:?} {said}", format.name, output.status);
        let out = bench.directory.path().join("out");
        match output.status.code() {
            Some(0) if !out.exists() => losses.push(format!("no file: {place}")),
            Some(0) => {}
            Some(1..=3) if said.lines().count() == 1 && said.starts_with("nyx-") && !out.exists() => {
                failed += 1
            }
            _ => losses.push(place),
        }
    }
    eprintln!("commands on damaged inputs: {count} runs, {failed} failed, {} losses", losses.len());
    no_losses("commands on damaged inputs", &losses);
}
