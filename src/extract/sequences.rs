//! Rows of `nyx-extract sequences`.
