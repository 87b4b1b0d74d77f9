//! A deterministic simulator: both cores, a faulty network and store, and oracles.
//!
//! [`run`] simulates one seed: random DAGs, workers and clients, with faults for a limited time and
//! without faults afterwards, while oracles check every step. Equal seeds produce bit-identical
//! runs. The state machines are those of production, and the driver of the coordinator processes
//! its inputs in the same order as in production.
//!
//! [`simulate`] uses the same cores, without faults, to compute how long a DAG takes on given
//! workers. [`references`] provides other schedulers for comparison.

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
