//! Stage: rows → per-base contributions.
