//! A progress bar on standard error, for eyes only.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::When;

/// Rows done and rows per second, drawn only where somebody looks.
pub struct Progress(ProgressBar);

impl Progress {
    /// Creates a bar that is hidden unless `when` and the terminal want it.
    pub fn new(when: When, quiet: bool) -> Self {
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
        let style = ProgressStyle::with_template("{spinner} {human_pos} rows  {per_sec}  {elapsed_precise}");
        bar.set_style(style.expect("the template is valid"));
        if shown {
            bar.enable_steady_tick(Duration::from_millis(250));
        }
        Self(bar)
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
