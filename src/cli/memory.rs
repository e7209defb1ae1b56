//! What becomes of memory that is given back.

/// The option of mimalloc that says whether pages that are purged go back to the system at once (1, its default), or are
/// left to it for the taking (0): `mi_option_purge_decommits` in mimalloc.h.
#[cfg(not(fuzzing))]
const PURGE_DECOMMITS: libmimalloc_sys::mi_option_t = 5;

/// Leaves freed pages to the system for the taking, instead of giving them back and getting them again, filled with zeros,
/// a moment later. Graphs of training come and go as a whole at each step: it is an eighth of the time of one. For
/// commands that run such graphs, before anything else.
pub fn lend_freed_pages() {
    #[cfg(not(fuzzing))]
    #[allow(unsafe_code)]
    // SAFETY: this is the only thread yet, so none reads the options meanwhile.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DECOMMITS, 0);
    }
}

#[cfg(all(test, not(fuzzing)))]
mod tests {
    use std::process::Command;

    use super::*;

    /// What mimalloc calls the option in the environment.
    const VARIABLE: &str = "MIMALLOC_PURGE_DECOMMITS";

    #[allow(unsafe_code)]
    fn option() -> std::ffi::c_long {
        // SAFETY: the options are read when the process starts; nothing in the tests changes them.
        unsafe { libmimalloc_sys::mi_option_get(PURGE_DECOMMITS) }
    }

    #[test]
    fn the_number_is_that_of_the_option_that_the_environment_calls_by_name() {
        if std::env::var_os(VARIABLE).is_some() {
            return assert_eq!(option(), 0);
        }
        assert_eq!(option(), 1);
        let mut again = Command::new(std::env::current_exe().unwrap());
        let name = "cli::memory::tests::the_number_is_that_of_the_option_that_the_environment_calls_by_name";
        let output = again.args(["--exact", name]).env(VARIABLE, "0").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}
