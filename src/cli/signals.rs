//! Signals that end a process: what it has not finished goes first.

#![allow(unsafe_code)]

use std::sync::mpsc;
use std::thread::Builder;

use libc::c_int;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::output;

/// What Ctrl-C, `kill` and a terminal that closes send, and what clusters send before a job is out of time.
const ENDING: [c_int; 6] = [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU];

/// Bytes of stack of a thread that removes files.
const STACK: usize = 1 << 17;

/// Begins to listen for signals that end the process, on a thread of its own: files that are not finished are removed, and
/// then the process ends as the signal would have ended it. Without room for a thread, signals leave the files there.
pub fn listen() {
    let (sender, receiver) = mpsc::channel::<Signals>();
    let wait = move || {
        let Ok(mut signals) = receiver.recv() else { return };
        if let Some(signal) = signals.forever().next() {
            output::remove_unfinished();
            // Ends the process in any case.
            let _ = emulate_default_handler(signal);
        }
    };
    if Builder::new().name("signals".into()).stack_size(STACK).spawn(wait).is_ok()
        && let Ok(signals) = Signals::new(ENDING.into_iter().filter(|signal| !is_ignored(*signal)))
    {
        let _ = sender.send(signals);
    }
}

/// Returns whether the process was started deaf to a signal (`nohup`, `trap ''`), which it stays.
fn is_ignored(signal: c_int) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call changes nothing and writes the present one to the place it is given, for which
    // zeros are valid, too.
    let action = unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}
