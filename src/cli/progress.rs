//! A progress bar on standard error, for eyes only.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{When, log};
use crate::provenance::Share;
use crate::schema;

/// Time between two events of progress.
const EVENT_EVERY: Duration = Duration::from_secs(1);

/// Creates a bar that is hidden unless `when` and the terminal want it.
fn bar(when: When, quiet: bool, length: Option<u64>, template: &str) -> ProgressBar {
    let shown = match when {
        // Programs read what is written there: events take the place of the bar.
        _ if log::is_json() => false,
        When::Always => true,
        When::Never => false,
        When::Auto => !quiet && std::io::stderr().is_terminal(),
    };
    let target = if shown { ProgressDrawTarget::stderr_with_hz(4) } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(length, target);
    bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
    if shown {
        bar.enable_steady_tick(Duration::from_millis(250));
    }
    bar
}

/// When an event of progress is due: about once a second, where they are wanted.
struct Beat(Option<Instant>);

impl Beat {
    fn new(when: When, quiet: bool) -> Self {
        let wanted = log::is_json() && !quiet && when != When::Never;
        Self(wanted.then(Instant::now))
    }

    fn is_due(&mut self) -> bool {
        let due = self.0.is_some_and(|last| last.elapsed() >= EVENT_EVERY);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

/// Rows done and rows per second, and of a stream that says how many regions it has the time left; drawn only where
/// somebody looks.
pub struct Progress {
    bar: ProgressBar,
    share: Option<Share>,
    rows: u64,
    began: Instant,
    beat: Beat,
}

impl Progress {
    /// Creates a bar that is hidden unless `when` and the terminal want it.
    pub fn new(when: When, quiet: bool, share: Option<Share>) -> Self {
        let (length, template) = match share {
            Some(share) => (
                Some(share.end.saturating_sub(share.first)),
                "{bar:24} {percent:>3}%  {msg}  {elapsed_precise}, {eta_precise} left",
            ),
            None => (None, "{spinner} {msg}  {elapsed_precise}"),
        };
        let bar = bar(when, quiet, length, template);
        Self { bar, share, rows: 0, began: Instant::now(), beat: Beat::new(when, quiet) }
    }

    /// Counts the rows of a batch.
    pub fn advance(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows() as u64;
        if self.beat.is_due() {
            let [done, total] = match (self.share, self.regions_done(batch)) {
                (Some(share), Some(done)) => [Some(done), Some(share.end - share.first)],
                _ => [None; 2],
            };
            let fields = [
                ("regions_done", done.into()),
                ("regions_total", total.into()),
                ("rows_per_second", self.rate().round().into()),
            ];
            log::write("progress", Some(self.rows), fields);
        }
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_message(format!("{} windows, {:.0} windows/s", HumanCount(self.rows), self.rate()));
        match self.share {
            Some(_) => self.regions_done(batch).into_iter().for_each(|done| self.bar.set_position(done)),
            None => self.bar.set_position(self.rows),
        }
    }

    fn rate(&self) -> f64 {
        self.rows as f64 / self.began.elapsed().as_secs_f64().max(1e-3)
    }

    /// Returns how many regions of the share are done; regions count, not rows: a filter may have dropped some, others
    /// have several rows.
    fn regions_done(&self, batch: &RecordBatch) -> Option<u64> {
        let regions = schema::u64s(batch, schema::REGION).ok()?;
        Some(regions.values().last()?.saturating_add(1).saturating_sub(self.share?.first))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Steps of a training with loss and throughput, drawn only where somebody looks.
pub struct TrainingProgress {
    bar: ProgressBar,
    beat: RefCell<Beat>,
}

impl TrainingProgress {
    /// Creates a bar that is hidden unless `when` and the terminal want it.
    pub fn new(when: When, quiet: bool) -> Self {
        let template = "{bar:24} {pos}/{len} steps  {msg}  {elapsed_precise} ({eta} left)";
        Self { bar: bar(when, quiet, None, template), beat: RefCell::new(Beat::new(when, quiet)) }
    }

    /// Shows a step: its number of all, its loss, and the examples of a second.
    pub fn step(&self, step: u64, total: u64, loss: f64, rate: f64) {
        if self.beat.borrow_mut().is_due() {
            let fields = [
                ("step", step.into()),
                ("steps", total.into()),
                ("loss", loss.into()),
                ("examples_per_second", rate.round().into()),
            ];
            log::write("progress", None, fields);
        }
        self.bar.set_length(total);
        self.bar.set_position(step);
        self.bar.set_message(format!("loss {loss:.4}  {rate:.0} examples/s"));
    }

    /// Does something that writes lines, which the bar makes room for.
    pub fn above(&self, write: impl FnOnce()) {
        self.bar.suspend(write);
    }
}

impl Drop for TrainingProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
