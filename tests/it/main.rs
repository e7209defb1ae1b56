//! What a user sees: commands, pipes, statuses, files. One binary, a module per subject.

mod door;
mod foreign;
mod hits;
mod instances;
mod language;
mod layers;
mod models;
mod pipeline;
mod pipes;
mod readme;
mod real;
mod report;
mod score;
mod shards;
mod support;
