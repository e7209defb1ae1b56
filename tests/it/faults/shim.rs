//! Faults of the operating system, by a library that is loaded before all others.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::executable;

/// The compiled `shim.c`.
pub struct Shim {
    directory: tempfile::TempDir,
}

impl Shim {
    /// Compiles the shim; `None` with a note where there is no C compiler, or its faults cannot be injected.
    pub fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faults/shim.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(directory.path().join("shim.so")).arg(source);
        if !compiler.arg("-ldl").output().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: no C compiler here that makes a shared library for Linux");
            return None;
        }
        let shim = Self { directory };
        let mut probe = Command::new(executable("nyx-view"));
        probe.arg("--version").envs(shim.fail("fsync"));
        if probe.output().unwrap().status.code() != Some(0) {
            eprintln!("skipped: system calls cannot be made to fail here (no seccomp)");
            return None;
        }
        Some(shim)
    }

    fn environment(&self, name: &str, value: &str) -> Vec<(String, PathBuf)> {
        vec![("LD_PRELOAD".into(), self.directory.path().join("shim.so")), (name.into(), value.into())]
    }

    /// Returns the environment in which `fsync` or `rename` fails.
    pub fn fail(&self, calls: &str) -> Vec<(String, PathBuf)> {
        self.environment("NYX_SHIM_FAIL", calls)
    }

    /// Returns the environment in which reads and writes pass a few bytes at once.
    pub fn short(&self) -> Vec<(String, PathBuf)> {
        self.environment("NYX_SHIM_SHORT", "1021")
    }
}
