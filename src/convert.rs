//! Sinks: streams into files of other formats.
