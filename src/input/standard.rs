//! Whether standard input and output were open when the process began, and who reads the input.
//!
//! Rust's runtime opens /dev/null in place of a standard stream that is closed, before `main`: what is written there
//! would be lost without a word, and nothing would be read as a file without rows. So a look is taken before.

#![cfg_attr(target_os = "linux", allow(unsafe_code))]

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// By the number of the descriptor.
static CLOSED: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];

/// Run by the system when it has loaded the program.
#[cfg(target_os = "linux")]
#[used]
// SAFETY: functions in this section are called once, without arguments that one has to take, on the only thread there
// is. `look` uses nothing that Rust's runtime has to set up first.
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

#[cfg(target_os = "linux")]
extern "C" fn look() {
    for (descriptor, closed) in (0..).zip(&CLOSED) {
        // SAFETY: the call asks for the flags of a descriptor and changes nothing; one that is not open is an error.
        let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
        closed.store(flags == -1, Relaxed);
    }
}

/// Returns whether there is no standard input.
pub fn input_is_closed() -> bool {
    CLOSED[0].load(Relaxed)
}

/// Whether somebody reads standard input.
static BEGUN: AtomicBool = AtomicBool::new(false);

/// Says that standard input is read now; returns whether nobody has read it before. Two readers of it (`--peaks -
/// --exclude -`) would get a part each, the second mostly nothing.
pub fn begin_input() -> bool {
    !BEGUN.swap(true, Relaxed)
}

/// Says that standard input stands where it began, so that it can be read once more.
pub fn rewound_input() {
    BEGUN.store(false, Relaxed);
}

/// Returns whether there is no standard output.
pub fn output_is_closed() -> bool {
    CLOSED[1].load(Relaxed)
}
