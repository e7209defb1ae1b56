//! What can go wrong, and which exit status says so.

use std::any::Any;
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::Write;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// The result of everything in nyx that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error a person can act on. The variant decides the exit status, the message names the file,
/// the record and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Bad data, a missing file, a mismatch, a model or device problem (status 1).
    #[error("{}", printable(.0))]
    Data(String),
    /// A command line that cannot be meant (status 2). It may have lines: what it quotes, the user typed.
    #[error("{}", lines(.0))]
    Usage(String),
    /// A command that this one ran failed (status 1).
    #[error("{}\n{}", printable(message), lines(log))]
    Command {
        /// Which, and how.
        message: String,
        /// The end of what it said, line by line.
        log: String,
    },
    /// The input ended before its end mark: an upstream stage failed (status 3).
    #[error(
        "the input ended before its end mark: {} did not finish ({rows} rows had arrived; they are not the whole \
         result). Look left in the pipe",
        printable(upstream)
    )]
    Truncated {
        /// The last tool in the provenance chain of the stream, or a description when none arrived.
        upstream: String,
        /// Rows that arrived whole before the end.
        rows: u64,
    },
    /// The reader of our output went away, as in `| head` (status 0).
    #[error("the reader of our output went away")]
    Closed,
    /// Another error with the place where it happened in front of it.
    #[error("{}: {source}", printable(place))]
    At {
        /// A file, a record, an offset.
        place: String,
        /// What happened there.
        source: Box<Error>,
    },
    /// The operating system refused.
    #[error("{}", printable(&.0.to_string()))]
    Io(io::Error),
}

/// Returns a text as it can be shown on a terminal: control characters, and those that turn the direction of what
/// follows, as escapes (`\u{1b}`). Names in files are other people's: they must neither move the cursor nor begin a
/// line of their own.
pub fn printable(text: &str) -> Cow<'_, str> {
    let hides = |c: char| {
        c.is_control()
            || matches!(c, '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(hides) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if hides(c) => write!(shown, "{}", c.escape_default()).expect("strings grow"),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Returns lines as they can be shown on a terminal.
fn lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether this thread runs a [`guarded`] reader, so that a panic is about the bytes it was given.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// Runs a reader of another crate on bytes that nobody vouches for, and turns its panic into an error that says
/// what it read is damaged. A last resort: what can be checked before is checked before.
///
/// # Errors
///
/// When `read` panics.
pub fn guarded<T>(what: &str, read: impl FnOnce() -> T) -> Result<T> {
    let outer = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(read));
    GUARDED.set(outer);
    outcome.map_err(|panic| {
        let why = message_of(panic.as_ref()).unwrap_or("what it says contradicts itself");
        let short: String = why.chars().take(120).collect();
        Error::data(format!("{what} is damaged: its reader gave up ({short})"))
    })
}

/// Returns what a panic says.
fn message_of(panic: &(dyn Any + Send)) -> Option<&str> {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied())
}

impl Error {
    /// Returns a data error with this message.
    pub fn data(message: impl Into<String>) -> Self {
        Self::Data(message.into())
    }

    /// Returns a usage error with this message.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Puts a place (a file, a record) in front of the message; the exit status stays.
    pub fn at(self, place: impl Into<String>) -> Self {
        match self {
            // A closed pipe and an echo of an upstream failure have no place of their own.
            Self::Closed | Self::Truncated { .. } => self,
            other => Self::At { place: place.into(), source: Box::new(other) },
        }
    }

    /// Returns the exit status of the process that ends with this error.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Data(_) | Self::Command { .. } | Self::Io(_) => 1,
            Self::Usage(_) => 2,
            Self::Truncated { .. } => 3,
            Self::At { source, .. } => source.exit_status(),
        }
    }
}

/// Names the file in an error on the way out.
pub trait InFile<T> {
    /// Puts `path` in front of the error's message.
    fn in_file(self, path: &Path) -> Result<T>;
}

impl<T, E: Into<Error>> InFile<T> for std::result::Result<T, E> {
    fn in_file(self, path: &Path) -> Result<T> {
        self.map_err(|error| error.into().at(path.display().to_string()))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Closed;
        }
        // An nyx error may travel inside an `io::Error` through other crates; it comes out itself.
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(error) => Self::Io(error),
        }
    }
}

impl From<arrow_schema::ArrowError> for Error {
    fn from(error: arrow_schema::ArrowError) -> Self {
        match error {
            arrow_schema::ArrowError::IoError(_, error) => error.into(),
            other => Self::Data(other.to_string()),
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Data(error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Data(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_does_not_change_the_exit_status() {
        assert_eq!(Error::usage("x").at("y").exit_status(), 2);
        assert_eq!(Error::data("x").at("y").at("z").to_string(), "z: y: x");
        assert_eq!(Error::Closed.at("y").exit_status(), 0);
    }

    #[test]
    fn an_own_error_survives_a_trip_through_io() {
        let error = io::Error::other(Error::Truncated { upstream: "nyx-score".into(), rows: 3 });
        assert_eq!(Error::from(error).exit_status(), 3);
        assert_eq!(Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).exit_status(), 0);
    }

    #[test]
    fn a_name_cannot_write_to_the_terminal() {
        let name = "chr\u{1b}]0;owned\u{7}\u{9b}2J\nnyx-score: 5 rows\u{202e}";
        for error in [
            Error::data(name),
            Error::data("x").at(name),
            Error::Truncated { upstream: name.into(), rows: 1 },
            Error::Io(io::Error::other(name)),
        ] {
            let shown = error.to_string();
            assert!(!shown.contains(|c: char| c.is_control() || c == '\u{202e}'), "{shown:?}");
            assert!(shown.contains("chr\\u{1b}]0;owned") && shown.contains("\\n"), "{shown}");
        }
        assert_eq!(Error::data("peak `Δ 7`").to_string(), "peak `Δ 7`");
        assert_eq!(Error::usage("two\nlines\u{1b}").to_string(), "two\nlines\\u{1b}");
    }

    #[test]
    fn a_panic_of_a_reader_is_an_error_and_the_mark_of_the_outer_one_stays() {
        let error = guarded("a.h5", || {
            let inner = guarded("b", || panic!("index {}", 7));
            assert!(is_guarded() && inner.is_err());
            panic!("out of\nbounds")
        });
        let error = error.map(|(): ()| ()).unwrap_err().to_string();
        assert_eq!(error, "a.h5 is damaged: its reader gave up (out of\\nbounds)");
        assert!(!is_guarded());
    }
}
