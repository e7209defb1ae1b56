//! A progress bar on standard error, for eyes only.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::When;

/// Creates a bar that is hidden unless `when` and the terminal want it.
fn bar(when: When, quiet: bool, template: &str) -> ProgressBar {
    let shown = match when {
        When::Always => true,
        When::Never => false,
        When::Auto => !quiet && std::io::stderr().is_terminal(),
    };
    let bar = ProgressBar::new_spinner();
    bar.set_draw_target(if shown {
        ProgressDrawTarget::stderr_with_hz(4)
    } else {
        ProgressDrawTarget::hidden()
    });
    bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
    if shown {
        bar.enable_steady_tick(Duration::from_millis(250));
    }
    bar
}

/// Rows done and rows per second, drawn only where somebody looks.
pub struct Progress(ProgressBar);

impl Progress {
    /// Creates a bar that is hidden unless `when` and the terminal want it.
    pub fn new(when: When, quiet: bool) -> Self {
        Self(bar(when, quiet, "{spinner} {human_pos} rows  {per_sec}  {elapsed_precise}"))
    }

    /// Counts `rows` more.
    pub fn advance(&self, rows: usize) {
        self.0.inc(rows as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Steps of a training with loss and throughput, drawn only where somebody looks.
pub struct TrainingProgress(ProgressBar);

impl TrainingProgress {
    /// Creates a bar that is hidden unless `when` and the terminal want it.
    pub fn new(when: When, quiet: bool) -> Self {
        Self(bar(when, quiet, "{bar:24} {pos}/{len} steps  {msg}  {elapsed_precise} ({eta} left)"))
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
