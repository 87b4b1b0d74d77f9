//! Changes: durable facts about decisions. Durable state is altered only by applying them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kahn_model::{
    BootId, Dag, Failure, Namespace, Outputs, Partition, RunId, TaskIx, Token, Usage, Value, Work,
    WorkerId,
};

use crate::snapshot::RunSnapshot;
use crate::summary::ArchiveRef;

/// A DAG with everything needed to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The id of the new run.
    pub run: RunId,
    /// The namespace of the run.
    pub namespace: Namespace,
    /// The DAG to run.
    pub dag: Arc<Dag>,
    /// The values of its parameters.
    pub params: BTreeMap<Box<str>, Value>,
    /// A digest of the whole request; equal for a repeated submission.
    pub digest: [u8; 16],
    /// Labels set by the client, for finding the run.
    pub labels: BTreeMap<Box<str>, Box<str>>,
}

/// What happens after an attempt has finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The task ends with the attempt's outcome.
    End,
    /// The task is retried after a delay.
    Retry {
        /// The delay.
        after: Duration,
    },
    /// The task is cancelled, because it was cancelled before the attempt ended.
    Cancel,
}

/// The result of evaluating the condition and the templates of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The task may run; the work replaces the one in the DAG if that contains expressions.
    Run(Option<Arc<Work>>),
    /// The condition is false.
    Skip,
    /// The evaluation failed.
    Fail(Failure),
}

/// A durable fact. Applying all changes of a log in order reproduces the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A run was submitted.
    RunSubmitted(Arc<Submission>),
    /// The condition and the templates of a task were evaluated.
    TaskEvaluated {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskIx,
        /// The result.
        verdict: Verdict,
    },
    /// The timeout of a dependency expired while the dependent waited for nothing else.
    DependencyExpired {
        /// The run.
        run: RunId,
        /// The task that waited.
        dependent: TaskIx,
        /// The dependency.
        dependency: TaskIx,
    },
    /// A lease for an attempt was granted to a worker.
    LeaseGranted {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskIx,
        /// The number of the attempt, from 1.
        number: u32,
        /// The token of the lease.
        token: Token,
        /// The worker.
        worker: WorkerId,
        /// The worker's boot id.
        boot: BootId,
    },
    /// An attempt that never started was returned; its number is used again.
    LeaseReturned {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskIx,
    },
    /// An attempt started.
    AttemptStarted {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskIx,
    },
    /// An attempt ended, and its outcome was accepted.
    AttemptFinished {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskIx,
        /// The outputs, or why it failed.
        outcome: Result<Outputs, Failure>,
        /// The resources it used.
        usage: Usage,
        /// What happens next.
        then: Then,
    },
    /// The delay before a task's next attempt is over.
    BackoffEnded {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskIx,
    },
    /// A task failed without a report from an attempt.
    TaskFailed {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskIx,
        /// The reason.
        failure: Failure,
    },
    /// A worker that held attempts of the run was lost; a change for each of these attempts
    /// follows.
    WorkerLost {
        /// The run.
        run: RunId,
        /// The worker.
        worker: WorkerId,
    },
    /// A run was cancelled.
    RunCancelled {
        /// The run.
        run: RunId,
        /// The reason.
        failure: Failure,
    },
    /// A run was paused: nothing new in it starts.
    RunPaused {
        /// The run.
        run: RunId,
    },
    /// A paused run was resumed.
    RunResumed {
        /// The run.
        run: RunId,
    },
    /// Tasks of a finished run are retried.
    RunRetried {
        /// The run.
        run: RunId,
        /// The tasks, in ascending order.
        tasks: Vec<TaskIx>,
    },
    /// A finished run was removed.
    RunRemoved {
        /// The run.
        run: RunId,
    },
    /// Everything about a finished run is stored elsewhere, and only its summary remains.
    RunArchived {
        /// The run.
        run: RunId,
        /// The document with the run.
        archive: ArchiveRef,
    },
    /// An archived run was brought back as it was.
    RunRestored(Arc<RunSnapshot>),
    /// A worker was cordoned or uncordoned.
    WorkerCordoned {
        /// The worker.
        worker: WorkerId,
        /// Whether it was cordoned.
        is_cordoned: bool,
    },
}

impl Change {
    /// Returns the run that the change belongs to, or `None` for a change of the cluster.
    #[must_use]
    pub fn run(&self) -> Option<RunId> {
        Some(match self {
            Self::RunSubmitted(submission) => submission.run,
            Self::TaskEvaluated { run, .. }
            | Self::DependencyExpired { run, .. }
            | Self::LeaseGranted { run, .. }
            | Self::LeaseReturned { run, .. }
            | Self::AttemptStarted { run, .. }
            | Self::AttemptFinished { run, .. }
            | Self::BackoffEnded { run, .. }
            | Self::TaskFailed { run, .. }
            | Self::WorkerLost { run, .. }
            | Self::RunCancelled { run, .. }
            | Self::RunPaused { run }
            | Self::RunResumed { run }
            | Self::RunRetried { run, .. }
            | Self::RunRemoved { run }
            | Self::RunArchived { run, .. } => *run,
            Self::RunRestored(snapshot) => snapshot.submission.run,
            Self::WorkerCordoned { .. } => return None,
        })
    }

    /// Returns the partition whose log contains the change: the partition of its run, or
    /// [`Partition::CLUSTER`] for changes of the cluster.
    #[must_use]
    pub fn partition(&self, partitions: u16) -> Partition {
        self.run().map_or(Partition::CLUSTER, |run| run.partition(partitions))
    }
}

impl fmt::Display for Change {
    /// Formats the change as one line for the log, with ids and causes but without contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(run) = self.run() {
            write!(f, "run {run} ")?;
        }
        match self {
            Self::RunSubmitted(s) => write!(f, "submitted with {} tasks", s.dag.n_tasks()),
            Self::TaskEvaluated { task, verdict: Verdict::Run(_), .. } => {
                write!(f, "{task:?} evaluated")
            }
            Self::TaskEvaluated { task, verdict: Verdict::Skip, .. } => {
                write!(f, "{task:?} not wanted")
            }
            Self::TaskEvaluated { task, verdict: Verdict::Fail(why), .. } => {
                write!(f, "{task:?} not evaluated: {}", why.cause)
            }
            Self::DependencyExpired { dependent, dependency, .. } => {
                write!(f, "{dependent:?} no longer waits for {dependency:?}")
            }
            Self::LeaseGranted { task, number, token, worker, .. } => {
                write!(f, "{task:?} attempt {number} leased to {worker} as {token}")
            }
            Self::LeaseReturned { task, .. } => write!(f, "{task:?} given back"),
            Self::AttemptStarted { task, .. } => write!(f, "{task:?} started"),
            Self::AttemptFinished { task, outcome, then, .. } => match outcome {
                Ok(_) => write!(f, "{task:?} succeeded, then {then:?}"),
                Err(failure) => write!(f, "{task:?} failed: {}, then {then:?}", failure.cause),
            },
            Self::BackoffEnded { task, .. } => write!(f, "{task:?} backed off for long enough"),
            Self::TaskFailed { task, failure, .. } => write!(f, "{task:?} failed: {failure}"),
            Self::WorkerLost { worker, .. } => write!(f, "lost worker {worker}"),
            Self::RunCancelled { failure, .. } => write!(f, "cancelled: {failure}"),
            Self::RunPaused { .. } => f.write_str("paused"),
            Self::RunResumed { .. } => f.write_str("resumed"),
            Self::RunRetried { tasks, .. } => write!(f, "retried with {} tasks", tasks.len()),
            Self::RunRemoved { .. } => f.write_str("removed"),
            Self::RunArchived { archive, .. } => write!(f, "archived with {} bytes", archive.bytes),
            Self::RunRestored(_) => f.write_str("restored"),
            Self::WorkerCordoned { worker, is_cordoned: true } => {
                write!(f, "worker {worker} cordoned")
            }
            Self::WorkerCordoned { worker, is_cordoned: false } => {
                write!(f, "worker {worker} uncordoned")
            }
        }
    }
}
