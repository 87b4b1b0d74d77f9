//! Executors for processes on the worker's host: `run`, `exec`, and Python functions.
//!
//! They share scratch directories, resource limits, and the tracking of process trees that ensures
//! that no process outlives its attempt.

mod limits;
mod process;
mod python;
mod scratch;
mod trees;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use limits::{CpuLimit, LimitMode, LimitSettings, LimitStatement, Limits};
pub use process::ProcessExecutor;
pub use python::{PythonExecutor, PythonSettings};

/// Settings for running processes.
#[derive(Clone, Debug)]
pub struct ProcessSettings {
    /// The parent of the scratch directories of attempts. Must not be shared with another worker.
    pub scratch_dir: PathBuf,
    /// The worker's environment variables that tasks inherit, from
    /// [`allowed_environment`](kahn_executor::allowed_environment).
    pub env: Vec<(OsString, OsString)>,
    /// The delay between SIGTERM and SIGKILL for tasks that do not set one.
    pub grace: Duration,
    /// The resource limits of attempts.
    pub limits: Arc<Limits>,
}

/// An error while opening an executor.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another worker uses the scratch directory.
    #[error("scratch directory {path} is in use by another worker")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The scratch directory cannot be created or emptied.
    #[error("cannot prepare scratch directory {path}: {source}")]
    Scratch {
        /// The directory.
        path: PathBuf,
        /// The OS error.
        source: io::Error,
    },
    /// The threads that start and supervise processes cannot be created.
    #[error("cannot start threads: {source}")]
    Threads {
        /// The OS error.
        source: io::Error,
    },
    /// The worker cannot become the reaper of orphaned processes.
    #[error("cannot adopt orphaned processes: {source}")]
    Adopt {
        /// The OS error.
        source: io::Error,
    },
}
