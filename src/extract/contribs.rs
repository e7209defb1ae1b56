//! Rows of `nyx-extract contribs`.
