//! What a process has done so far: its rows, and where its time went.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use arrow_array::{Array, RecordBatch};

use crate::pipe::Pipe;
use crate::schema;

/// A count of nanoseconds that several threads add to.
type Nanoseconds = Arc<AtomicU64>;

/// Clocks of a process. Reading, computing and writing go on at the same time, so their seconds may be more than those
/// of the clock on the wall.
#[derive(Debug)]
pub struct Meter {
    began: Instant,
    /// Reading and decoding the input, or waiting for who writes it.
    read: Nanoseconds,
    /// Waiting for the input in the threads that compute.
    waited: Nanoseconds,
    /// Making the batches that are written, with the wait for the input.
    made: Nanoseconds,
    /// Waiting for batches in the thread that writes.
    idle: Nanoseconds,
    reads: AtomicBool,
    passing: Mutex<Option<Passing>>,
    inputs: Mutex<Vec<String>>,
    /// Sequences that went through a model.
    passes: OnceLock<u64>,
}

/// What was true when the first row could pass.
#[derive(Clone, Debug)]
struct Passing {
    tally: Arc<Mutex<Tally>>,
    seconds: f64,
    waited: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            read: Nanoseconds::default(),
            waited: Nanoseconds::default(),
            made: Nanoseconds::default(),
            idle: Nanoseconds::default(),
            reads: AtomicBool::default(),
            passing: Mutex::default(),
            inputs: Mutex::default(),
            passes: OnceLock::new(),
        }
    }
}

/// Where the time of a process went, in seconds; none where it cannot be told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seconds {
    /// From the start.
    pub all: f64,
    /// Reading and decoding rows, or waiting for the stage that writes them.
    pub read: Option<f64>,
    /// What is left of making rows when reading is taken off. Of stages that begin a stream it has the reading in it.
    pub compute: Option<f64>,
    /// Encoding and writing rows, or waiting for who reads them.
    pub write: Option<f64>,
}

impl Meter {
    /// Remembers a file that rows are read from.
    pub fn reads(&self, file: &str) {
        self.inputs.lock().expect("no thread panics with it").push(file.into());
    }

    /// Returns the first file that rows were read from.
    pub fn input(&self) -> Option<String> {
        self.inputs.lock().expect("no thread panics with it").first().cloned()
    }

    /// Remembers how many sequences went through a model.
    pub fn set_passes(&self, passes: u64) {
        let _ = self.passes.set(passes);
    }

    /// Returns how many sequences went through a model, where one was told of.
    pub fn passes(&self) -> Option<u64> {
        self.passes.get().copied()
    }

    /// Reads a pipe ahead on a thread of its own and takes its time.
    pub fn reading(&self, pipe: Pipe) -> Pipe {
        self.reads.store(true, Relaxed);
        pipe.timed(self.read.clone()).ahead(2).timed(self.waited.clone())
    }

    /// Takes the time of making rows, whose numbers go into `tally`.
    pub fn making(&self, pipe: Pipe, tally: Arc<Mutex<Tally>>) -> Pipe {
        let passing =
            Passing { tally, seconds: self.began.elapsed().as_secs_f64(), waited: self.waited.load(Relaxed) };
        *self.passing.lock().expect("no thread panics with it") = Some(passing);
        pipe.timed(self.made.clone())
    }

    /// Takes the time that the writer waits for rows.
    pub fn writing(&self, pipe: Pipe) -> Pipe {
        pipe.timed(self.idle.clone())
    }

    /// Returns the rows that passed, if any can.
    pub fn tally(&self) -> Option<Tally> {
        let passing = self.passing.lock().expect("no thread panics with it").clone()?;
        let tally = passing.tally.lock().expect("the counting thread did not panic");
        Some(tally.clone())
    }

    /// Returns where the time went so far.
    pub fn seconds(&self) -> Seconds {
        let all = self.began.elapsed().as_secs_f64();
        let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
        let read = self.reads.load(Relaxed).then(|| seconds(self.read.load(Relaxed)));
        let passing = self.passing.lock().expect("no thread panics with it").clone();
        let Some(Passing { seconds: before, waited, .. }) = passing else {
            return Seconds { all, read, ..Seconds::default() };
        };
        let within = self.waited.load(Relaxed).saturating_sub(waited);
        let making = seconds(self.made.load(Relaxed).saturating_sub(within));
        let compute = (before - seconds(waited)).max(0.0) + making;
        let write = (all - before - seconds(self.idle.load(Relaxed))).max(0.0);
        Seconds { all, read, compute: Some(compute), write: Some(write) }
    }
}

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let parts = [("read", self.read), ("compute", self.compute), ("write", self.write)];
        let parts = parts.iter().filter_map(|(name, seconds)| Some(format!("{name} {:.1} s", (*seconds)?)));
        f.write_str(&parts.collect::<Vec<_>>().join(", "))
    }
}

/// Returns the largest resident memory of this process in bytes, where the system tells.
pub fn peak_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

/// Rows that passed, by status.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    rows: u64,
    statuses: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts the rows of a batch.
    pub(super) fn add(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows() as u64;
        let Ok(statuses) = schema::strings(batch, schema::STATUS) else { return };
        for row in 0..statuses.len() {
            let status = statuses.value(row);
            match self.statuses.get_mut(status) {
                Some(count) => *count += 1,
                None => _ = self.statuses.insert(status.to_string(), 1),
            }
        }
    }

    /// Returns how many rows passed.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns how many rows had a status other than `ok`.
    pub fn not_ok(&self) -> u64 {
        self.statuses.iter().filter(|(status, _)| *status != "ok").map(|(_, count)| count).sum()
    }

    /// Returns how many rows had which status.
    pub fn statuses(&self) -> &BTreeMap<String, u64> {
        &self.statuses
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} rows", self.rows)?;
        let others: Vec<_> = self.statuses.iter().filter(|(status, _)| *status != "ok").collect();
        for (index, (status, count)) in others.iter().enumerate() {
            write!(f, "{} {count} {status}", if index == 0 { "," } else { ";" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow_schema::Schema;

    use super::*;

    #[test]
    fn a_tally_names_what_is_not_ok() {
        let mut tally = Tally { rows: 5, ..Tally::default() };
        tally.statuses = [("ok", 2), ("all_n", 1), ("too_long", 2)].map(|(k, v)| (k.to_string(), v)).into();
        assert_eq!(tally.to_string(), "5 rows, 1 all_n; 2 too_long");
        assert_eq!(tally.not_ok(), 3);
    }

    #[test]
    fn the_time_of_a_slow_part_is_that_parts() {
        let slow = |pipe: Pipe, milliseconds: u64| {
            let schema = pipe.schema().clone();
            pipe.map(schema, move |batch| {
                std::thread::sleep(Duration::from_millis(milliseconds));
                Ok(batch)
            })
        };
        let pipe = |batches: usize| {
            let schema = Arc::new(Schema::empty());
            let batch = RecordBatch::new_empty(schema.clone());
            Pipe::new(schema, std::iter::repeat_n(batch, batches).map(Ok))
        };
        // A reader that is slower than all else is waited for, by those that compute and by those that write.
        let meter = Meter::default();
        let read = meter.reading(slow(pipe(4), 20));
        let made = meter.writing(meter.making(slow(read, 1), Arc::default()).ahead(2));
        assert_eq!(made.into_parts().1.count(), 4);
        let Seconds { all, read, compute, write } = meter.seconds();
        assert!(read.unwrap() >= 0.08 && all >= 0.08, "{read:?} of {all}");
        assert!(compute.unwrap() >= 0.004 && compute.unwrap() < read.unwrap(), "{compute:?}");
        assert!(write.unwrap() < read.unwrap(), "{write:?}");
        // And what begins a stream has read nothing.
        let meter = Meter::default();
        let made = meter.writing(meter.making(slow(pipe(2), 10), Arc::default()));
        assert_eq!(made.into_parts().1.count(), 2);
        let seconds = meter.seconds();
        assert!(seconds.read.is_none() && seconds.compute.unwrap() >= 0.02, "{seconds:?}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_the_memory() {
        assert!(peak_bytes().unwrap() > 1 << 20);
    }
}
