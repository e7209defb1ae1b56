//! A progress bar on standard error, for eyes only.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::When;
use crate::provenance::Share;
use crate::schema;

/// Creates a bar that is hidden unless `when` and the terminal want it.
fn bar(when: When, quiet: bool, length: Option<u64>, template: &str) -> ProgressBar {
    let shown = match when {
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

/// Rows done and rows per second, and of a stream that says how many regions it has the time left; drawn only where
/// somebody looks.
pub struct Progress {
    bar: ProgressBar,
    share: Option<Share>,
    rows: u64,
    began: Instant,
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
        Self { bar, share, rows: 0, began: Instant::now() }
    }

    /// Counts the rows of a batch.
    pub fn advance(&mut self, batch: &RecordBatch) {
        if self.bar.is_hidden() {
            return;
        }
        self.rows += batch.num_rows() as u64;
        let rate = self.rows as f64 / self.began.elapsed().as_secs_f64().max(1e-3);
        self.bar.set_message(format!("{} windows, {rate:.0} windows/s", HumanCount(self.rows)));
        match (self.share, schema::u64s(batch, schema::REGION)) {
            // Regions count, not rows: a filter may have dropped some, others have several rows.
            (Some(share), Ok(regions)) => {
                if let Some(last) = regions.values().last() {
                    self.bar.set_position(last.saturating_add(1).saturating_sub(share.first));
                }
            }
            _ => self.bar.set_position(self.rows),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Steps of a training with loss and throughput, drawn only where somebody looks.
pub struct TrainingProgress(ProgressBar);

impl TrainingProgress {
    /// Creates a bar that is hidden unless `when` and the terminal want it.
    pub fn new(when: When, quiet: bool) -> Self {
        Self(bar(when, quiet, None, "{bar:24} {pos}/{len} steps  {msg}  {elapsed_precise} ({eta} left)"))
    }

    /// Shows a step: its number of all, its loss, and the examples of a second.
    pub fn step(&self, step: u64, total: u64, loss: f64, rate: f64) {
        self.0.set_length(total);
        self.0.set_position(step);
        self.0.set_message(format!("loss {loss:.4}  {rate:.0} examples/s"));
    }

    /// Does something that writes lines, which the bar makes room for.
    pub fn above(&self, write: impl FnOnce()) {
        self.0.suspend(write);
    }
}

impl Drop for TrainingProgress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
