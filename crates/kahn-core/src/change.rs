//! Durable facts: what was decided. They alone alter the state.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kahn_model::{
    BootId, Dag, Failure, Namespace, Outputs, Partition, RunId, TaskIx, Token, Usage, Value, Work,
    WorkerId,
};

/// A DAG with all that a run of it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The id of the run to be.
    pub run: RunId,
    /// Whose it is.
    pub namespace: Namespace,
    /// What to run.
    pub dag: Arc<Dag>,
    /// The values of its parameters.
    pub params: BTreeMap<Box<str>, Value>,
    /// A digest of everything that was asked for: equal for a repeated submit.
    pub digest: [u8; 16],
    /// Caller's own marks, to find the run by.
    pub labels: BTreeMap<Box<str>, Box<str>>,
}

/// What follows a finished attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The task has ended, as the outcome says.
    End,
    /// Another attempt, after this wait.
    Retry {
        /// The wait.
        after: Duration,
    },
    /// The task is cancelled: it was called off before the attempt ended.
    Cancel,
}

/// What came of evaluating a task's condition and texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may run, with this work in place of the DAG's where that held expressions.
    Run(Option<Arc<Work>>),
    /// Its condition is false.
    Skip,
    /// It could not be evaluated.
    Fail(Failure),
}

/// A durable fact. Applying all changes of a log in order gives the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A run was taken on.
    RunSubmitted(Arc<Submission>),
    /// A task's condition and texts were evaluated.
    TaskEvaluated {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskIx,
        /// What came of it.
        verdict: Verdict,
    },
    /// A dependency alone has held its dependent back for as long as it may.
    DependencyExpired {
        /// The run.
        run: RunId,
        /// The task that waited.
        dependent: TaskIx,
        /// What it waited for.
        dependency: TaskIx,
    },
    /// A worker got the right to carry out an attempt.
    LeaseGranted {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskIx,
        /// Which attempt, from 1.
        number: u32,
        /// The token of the lease.
        token: Token,
        /// Who got it.
        worker: WorkerId,
        /// Which start of it.
        boot: BootId,
    },
    /// An attempt that never started was given back; its number is granted again.
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
    /// An attempt ended, and this was accepted as its outcome.
    AttemptFinished {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskIx,
        /// What it gave, or why it failed.
        outcome: Result<Outputs, Failure>,
        /// What it used.
        usage: Usage,
        /// What follows.
        then: Then,
    },
    /// The wait of a task before its next attempt is over.
    BackoffEnded {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskIx,
    },
    /// A task ended without an attempt that could have said so.
    TaskFailed {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskIx,
        /// Why.
        failure: Failure,
    },
    /// A worker that held attempts of the run is gone; what became of each follows.
    WorkerLost {
        /// The run.
        run: RunId,
        /// The worker.
        worker: WorkerId,
    },
    /// A run was called off.
    RunCancelled {
        /// The run.
        run: RunId,
        /// Why.
        failure: Failure,
    },
    /// Nothing new of a run starts.
    RunPaused {
        /// The run.
        run: RunId,
    },
    /// A paused run goes on.
    RunResumed {
        /// The run.
        run: RunId,
    },
    /// Tasks of a finished run are to be done again.
    RunRetried {
        /// The run.
        run: RunId,
        /// The tasks, in ascending order.
        tasks: Vec<TaskIx>,
    },
    /// A finished run is forgotten.
    RunRemoved {
        /// The run.
        run: RunId,
    },
    /// A worker is to get no new leases, or is to get leases again.
    WorkerCordoned {
        /// The worker.
        worker: WorkerId,
        /// Whether it is to get none.
        is_cordoned: bool,
    },
}

impl Change {
    /// The run that it is about; `None` for a change of the cluster.
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
            | Self::RunRemoved { run } => *run,
            Self::WorkerCordoned { .. } => return None,
        })
    }

    /// The partition whose log holds it: that of its run, and [`Partition::CLUSTER`] for changes of
    /// the cluster.
    #[must_use]
    pub fn partition(&self, partitions: u16) -> Partition {
        self.run().map_or(Partition::CLUSTER, |run| run.partition(partitions))
    }
}

impl fmt::Display for Change {
    /// One line for the log; ids and causes, no contents.
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
            Self::WorkerCordoned { worker, is_cordoned: true } => {
                write!(f, "worker {worker} cordoned")
            }
            Self::WorkerCordoned { worker, is_cordoned: false } => {
                write!(f, "worker {worker} uncordoned")
            }
        }
    }
}
