//! A deterministic simulator: both cores, a faulty network and store, and oracles.
//!
//! [`run`] plays one seed: random DAGs, workers and clients, everything going wrong for a while
//! and then nothing any more, with oracles that watch every step. Equal seeds give equal runs, to
//! the last bit. The state machines are those of production; the driver around the coordinator's
//! is the one order of things that production has too.

mod digest;
mod driver;
mod mutation;
mod oracle;
mod queue;
mod report;
mod store;
mod workload;
mod world;

pub use mutation::Mutation;
pub use report::{Report, Violation};
pub use world::{Options, run};
