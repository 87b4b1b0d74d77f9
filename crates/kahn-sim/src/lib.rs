//! A deterministic simulator: both cores, a faulty network and store, and oracles.
//!
//! [`run`] plays one seed: random DAGs, workers and clients, everything going wrong for a while
//! and then nothing any more, with oracles that watch every step. Equal seeds give equal runs, to
//! the last bit. The state machines are those of production; the driver around the coordinator's
//! is the one order of things that production has too.
//!
//! [`simulate`] asks the same cores, in a world where nothing goes wrong, how long a DAG would
//! take on given workers; [`references`] are other schedulers to compare the answer with.

mod digest;
mod driver;
mod mutation;
mod oracle;
mod queue;
mod report;
mod schedules;
mod store;
mod what_if;
mod workload;
mod world;

pub use mutation::Mutation;
pub use report::{Report, Violation};
pub use schedules::{Reference, best_of_references, references};
pub use what_if::{Placement, Simulation, Waits, WhatIf, WorkerShape, gantt, simulate};
pub use world::{Options, run};
