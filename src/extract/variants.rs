//! Rows of `nyx-extract variants`.
