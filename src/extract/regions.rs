//! Rows of `nyx-extract regions`.
