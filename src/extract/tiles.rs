//! Rows of `nyx-extract tiles`.
