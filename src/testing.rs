//! What the tests of several modules need.

use std::path::{Path, PathBuf};

/// Returns a path of the reference data beside the project, or `None`, and says that the test is skipped.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name);
    if !path.exists() {
        eprintln!("skipped: ../shared/{name} is not there");
        return None;
    }
    Some(path)
}
