//! How all ways of finding motifs write them.

use std::io::IsTerminal;
use std::path::Path;

use arrow_schema::Schema;
use nyx::Result;
use nyx::cli::Common;
use nyx::discover::found::{self, Found};
use nyx::discover::rows::Scores;
use nyx::error::{Error, InFile};
use nyx::npy;

/// Writes motifs as rows. When there are files besides, nothing goes to a terminal.
pub fn stream(found: &[Found], input: &Schema, files: bool, common: &Common) -> Result<()> {
    if files && common.output == Path::new("-") && std::io::stdout().is_terminal() {
        return Ok(());
    }
    common.write(found::pipe(found, input)?, common.step())
}

/// Returns where the scores are: in an array, or in a column of the stream.
pub fn scores(schema: &Schema, column: Option<&str>, npy: Option<&Path>) -> Result<Scores> {
    match npy {
        Some(path) => npy::read_npy(path).and_then(|array| Scores::array(array).in_file(path)),
        None => Scores::of(schema, column),
    }
}

/// Checks a number that must lie above 0.
pub fn positive(flag: &str, value: usize) -> Result<()> {
    if value == 0 {
        return Err(Error::usage(format!("{flag} 0: it must be at least 1")));
    }
    Ok(())
}
