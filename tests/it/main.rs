//! What a user sees: commands, pipes, statuses, files. One binary, a module per subject.

mod door;
mod effects;
mod evaluate;
mod foreign;
mod haplotypes;
mod hits;
mod instances;
mod language;
mod layers;
mod models;
mod motifs;
mod negatives;
mod pipeline;
mod pipes;
mod readme;
mod real;
mod report;
mod safety;
mod saturation;
mod scan;
mod score;
mod shards;
mod support;
mod tomtom;
mod train;
mod verify;
