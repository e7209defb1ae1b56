//! What can go wrong, and which exit status says so.

use std::io;
use std::path::Path;

/// The result of everything in nyx that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error a person can act on. The variant decides the exit status, the message names the file,
/// the record and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Bad data, a missing file, a mismatch, a model or device problem (status 1).
    #[error("{0}")]
    Data(String),
    /// A command line that cannot be meant (status 2).
    #[error("{0}")]
    Usage(String),
    /// The input ended before its end mark: an upstream stage failed (status 3).
    #[error(
        "the input ended before its end mark: {upstream} did not finish ({rows} rows had arrived; \
         they are not the whole result). Look left in the pipe"
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
    #[error("{place}: {source}")]
    At {
        /// A file, a record, an offset.
        place: String,
        /// What happened there.
        source: Box<Error>,
    },
    /// The operating system refused.
    #[error("{0}")]
    Io(io::Error),
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
            Self::Data(_) | Self::Io(_) => 1,
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
}
