//! Stage: genome, intervals, variants and files of contributions → rows.

pub mod contribs;
pub mod merge_peaks;
pub mod negatives;
pub mod regions;
pub mod sequences;
pub mod tiles;
pub mod variants;
pub mod windows;
