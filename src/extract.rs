//! Stage: genome, intervals, variants and files of contributions → rows.

pub mod contribs;
pub mod regions;
pub mod sequences;
pub mod shard;
pub mod tiles;
pub mod variants;
pub mod windows;
