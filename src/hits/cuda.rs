//! The active-set solver on a GPU.
mod layout;
#[cfg(test)]
mod host;
