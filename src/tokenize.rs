//! Stage: rows → token ids.
