//! Executors for processes on the worker's host: `run`, `exec`, and Python functions.
//!
//! Both kinds share what keeps a process within its attempt: scratch directories, limits, and the
//! process trees that ensure nothing outlives its attempt.

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

/// How processes are run.
#[derive(Clone, Debug)]
pub struct ProcessSettings {
    /// The directory under which attempts get their scratch directories. No other worker may
    /// use it.
    pub scratch_dir: PathBuf,
    /// The variables of the worker that tasks see, from
    /// [`allowed_environment`](kahn_executor::allowed_environment).
    pub env: Vec<(OsString, OsString)>,
    /// Between SIGTERM and SIGKILL, for tasks that do not say.
    pub grace: Duration,
    /// What attempts are held to.
    pub limits: Arc<Limits>,
}

/// Why a [`ProcessExecutor`] cannot work.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another worker uses the scratch directory.
    #[error("scratch directory {path} is in use by another worker")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The scratch directory cannot be made or emptied.
    #[error("cannot prepare scratch directory {path}: {source}")]
    Scratch {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system does not let the worker start the threads that look after processes.
    #[error("cannot start threads: {source}")]
    Threads {
        /// What the system says.
        source: io::Error,
    },
    /// The system does not let the worker adopt orphans.
    #[error("cannot adopt orphaned processes: {source}")]
    Adopt {
        /// What the system says.
        source: io::Error,
    },
}
