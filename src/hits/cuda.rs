//! The active-set solver on a GPU.
#[cfg(test)]
mod host;
mod layout;
