//! Helpers to start, kill and observe real Kahn processes.
//!
//! A test owns a [`Cluster`]: a Redis server, a coordinator and workers, each a real process in a
//! directory of its own, killed when the test ends. Configuration goes through the environment,
//! as it would in a container.

mod binary;
mod cluster;
mod engine;
mod history;
mod http;
mod port;
mod process;
mod redis;
mod survivors;
mod unhelpful;
mod wait;

pub use binary::{Answer, example_worker_path, kahn, kahn_path};
pub use cluster::{Cluster, ClusterOptions, Store, WorkerOptions};
pub use engine::{Engine, IMAGE, complain_of_no_engine};
pub use history::{Happening, History, dependencies};
pub use http::metric;
pub use port::free_port;
pub use process::Process;
pub use redis::RedisServer;
pub use survivors::{CANARY, living};
pub use unhelpful::Unhelpful;
pub use wait::{wait_for, wait_until};

use std::path::PathBuf;

/// A file under `examples/` of the project.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    project().join("examples").join(name)
}

/// The recorded workflows, if they are on this machine: the folder that `KAHN_WORKFLOWS` names, or
/// `../shared/workflows` beside the project.
#[must_use]
pub fn workflows() -> Option<PathBuf> {
    let named = std::env::var_os("KAHN_WORKFLOWS").map(PathBuf::from);
    named.or_else(|| Some(project().parent()?.join("shared/workflows"))).filter(|dir| dir.is_dir())
}

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the project").into()
}
