//! What a user sees: commands, pipes, statuses, files. One binary, a module per subject.

mod layers;
mod pipes;
mod support;
