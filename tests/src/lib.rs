//! Helpers to start, kill and observe real Kahn processes.
//!
//! A test owns a [`Cluster`]: a Redis server, a coordinator and workers. Each is a real process
//! with its own directory and is killed when the test ends. Configuration is passed in the
//! environment, as in a container.

mod binary;
mod certs;
mod clocks;
mod cluster;
mod coordinators;
mod engine;
mod history;
mod http;
pub mod kubernetes;
mod never_done_server;
pub mod operator;
mod port;
mod pressure;
mod process;
mod redis;
mod replicated;
mod servers;
mod small_disk;
mod survivors;
pub mod torture;
mod wait;
mod wire;
mod work;

pub use binary::{Answer, example_worker_path, kahn, kahn_path};
pub use certs::Certs;
pub use cluster::{Cluster, ClusterOptions, Store, WorkerOptions};
pub use coordinators::{Cable, Coordinators, Part, Programs};
pub use engine::{Engine, IMAGE, warn_no_engine};
pub use history::{History, RunEvent, dependencies};
pub use http::metric;
pub use never_done_server::NeverDoneServer;
pub use port::free_port;
pub use pressure::cpu_pressure;
pub use process::Process;
pub use redis::RedisServer;
pub use servers::StoreKind;
pub use survivors::{CANARY, live_processes};
pub use wait::{wait_for, wait_until};
pub use wire::{Condition, Wire};
pub use work::Work;

use std::path::PathBuf;

/// Returns the path of a file under `examples/` of the project.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    project().join("examples").join(name)
}

/// A Montage of 619 tasks in WfFormat, the same for every test.
#[must_use]
pub fn montage() -> String {
    kahn_spec::testing::Family::Montage.document(30, 1)
}

/// Returns the root of the repository.
///
/// # Panics
///
/// Panics if this crate was moved.
#[must_use]
pub fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the project").into()
}
