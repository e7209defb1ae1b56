//! Stage: genome, intervals, variants and files of contributions → rows.

mod batched;
pub mod contribs;
pub mod merge_peaks;
pub mod mutate;
mod mutation;
pub mod negatives;
pub mod regions;
pub mod sequences;
pub mod shard;
pub mod split;
pub mod tiles;
pub mod variants;
pub mod windows;
