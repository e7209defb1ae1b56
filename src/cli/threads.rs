//! The threads that compute: as many as the user said, and no others.

use crate::error::{Error, Result};

/// candle's number of threads, read when its first large element-wise operation starts them.
const CANDLE: &str = "CANDLE_NUM_THREADS";

/// Starts `count` threads, or as many as there are cores. Called before anything else runs.
///
/// # Errors
///
/// When they cannot be started.
pub fn start(count: Option<u16>) -> Result<()> {
    leave_candle_alone();
    let Some(count) = count else { return Ok(()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count.into()).build_global();
    pool.map_err(|error| Error::data(format!("cannot start {count} threads: {error}")))
}

/// Keeps candle from threads of its own: they know nothing of `--threads`, and wait in loops that take the cores
/// from others (where those are busy, a step of training took up to five times as long).
fn leave_candle_alone() {
    if std::env::var_os(CANDLE).is_none() {
        #[allow(unsafe_code)]
        // SAFETY: this is the only thread yet, so none reads the environment meanwhile.
        unsafe {
            std::env::set_var(CANDLE, "1");
        }
    }
}
