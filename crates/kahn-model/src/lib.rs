//! The data model shared by all crates: the DAG, ids, policies, states and levels.
//!
//! This crate does no IO, does not read the clock and has no wire format. Nothing here is specific
//! to the coordinator or to a worker.

mod ids;
mod name;
mod run_ref;
mod time;

mod admission;
mod labels;
mod resources;

mod action;
mod cause;
mod exception;
mod policy;
mod profile;
mod report;
mod state;

mod dag;
pub mod duration;
mod levels;

pub mod limits;

pub use action::{
    Action, ActionKind, Body, Container, FunctionCall, HttpRequest, Mount, Pod, PodOptions,
    PodVolume, Polling, Port, PullPolicy, PythonCall, SecretTarget, SecretUse, Shell, StatusRange,
    TaintEffect, Text, TextRole, Toleration, VolumeSource, Work,
};
pub use admission::{Admission, Pressure, PressureKind, Share};
pub use cause::{Cause, CauseKind, CauseSet, Failure, UnknownCause};
pub use dag::{
    Condition, Dag, DagBuilder, DagError, DependencyKind, DependencyRef, NewTask, Trigger, When,
};
pub use exception::{ExceptionPattern, InvalidExceptionPattern};
pub use ids::{AttemptId, BootId, Namespace, Partition, RunId, TaskIx, Token, WorkerId};
pub use labels::{LabelRule, Labels, POOL_LABEL, Selector};
pub use levels::{Levels, critical_path, levels};
pub use name::{InvalidName, Name};
pub use policy::{FailurePolicy, RunPolicy};
pub use profile::{
    Backoff, BackoffKind, Circuit, ConcurrencyKey, Multiplier, OnDisconnect, Profile, RetryPolicy,
    Timeouts,
};
pub use report::{Outputs, Usage, Value};
pub use resources::{InvalidResources, Resource, Resources};
pub use run_ref::{ParseRunRefError, RunIdPrefix, RunRef};
pub use state::{RunState, TaskState};
pub use time::Timestamp;
pub use uuid::Uuid;
