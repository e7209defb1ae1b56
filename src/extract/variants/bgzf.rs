//! BGZF that must end with its end-of-file block.

pub use crate::input::bgzf::{Blocks, WRITER, check_end, is_bgzf};
