//! Training: examples in, weights out. `models.md` C.
//!
//! [`run`] is the loop and knows neither networks nor files; a [`run::Task`] says what a batch is and what it
//! loses. The same seed gives the same bits with any number of threads, and a training that goes on from a
//! [`checkpoint`] gives the bits of one that was never stopped. Examples are held in memory, for every epoch sees
//! them in another order.

pub mod adapter;
pub mod callers;
pub mod cells;
pub mod checkpoint;
pub mod curves;
pub mod embeddings;
pub mod examples;
pub mod language;
pub mod measures;
pub mod network;
pub mod optimizer;
pub mod record;
pub mod run;
pub mod schedule;
pub mod tensorboard;

pub use examples::Examples;
pub use run::{Evaluation, Measures, Plan, Step, Task, Training, Warmup, Watch};
pub use schedule::Schedule;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
