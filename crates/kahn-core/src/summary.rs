//! Summaries: the part of a run that lists show, and all that is kept in memory of an archived run.

use std::collections::BTreeMap;

use kahn_model::{Failure, Name, Namespace, RunId, RunState, TaskState, Timestamp};

use crate::snapshot::RunSnapshot;
use crate::state::{Counts, Run};

/// Identifies the document with everything about an archived run, which is stored elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveRef {
    /// Its size in bytes.
    pub bytes: u64,
    /// The first half of its SHA-256.
    pub digest: [u8; 16],
}

/// The part of a run that lists show. It is the same before and after the run is archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSummary<'a> {
    /// The id of the run.
    pub run: RunId,
    /// Its namespace.
    pub namespace: &'a Namespace,
    /// The name of its DAG.
    pub dag: &'a Name,
    /// Labels set by the client.
    pub labels: &'a BTreeMap<Box<str>, Box<str>>,
    /// The digest of the request that submitted it.
    pub digest: [u8; 16],
    /// Its state.
    pub state: RunState,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why it was cancelled, if it was.
    pub cancelled: Option<&'a Failure>,
    /// Number of tasks per state.
    pub counts: Counts,
    /// Number of records in its history.
    pub n_records: usize,
}

impl RunSummary<'_> {
    /// Returns the number of tasks in `state`.
    #[must_use]
    pub fn count(&self, state: TaskState) -> u32 {
        self.counts[usize::from(state.number())]
    }
}

/// An archived run: its summary, and where the rest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedRun {
    /// The id of the run.
    pub run: RunId,
    /// Its namespace.
    pub namespace: Namespace,
    /// The name of its DAG.
    pub dag: Name,
    /// Labels set by the client.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// The digest of the request that submitted it, which recognizes a repeated one.
    pub digest: [u8; 16],
    /// Its state.
    pub state: RunState,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why it was cancelled, if it was.
    pub cancelled: Option<Failure>,
    /// Number of tasks per state.
    pub counts: Counts,
    /// Number of records in its history.
    pub n_records: usize,
    /// The document with everything else.
    pub archive: ArchiveRef,
}

impl ArchivedRun {
    /// Returns the archived form of a run of this summary.
    #[must_use]
    pub fn new(summary: &RunSummary<'_>, archive: ArchiveRef) -> Self {
        Self {
            run: summary.run,
            namespace: summary.namespace.clone(),
            dag: summary.dag.clone(),
            labels: summary.labels.clone(),
            digest: summary.digest,
            state: summary.state,
            submitted_at: summary.submitted_at,
            finished_at: summary.finished_at,
            cancelled: summary.cancelled.cloned(),
            counts: summary.counts,
            n_records: summary.n_records,
            archive,
        }
    }

    /// Returns the summary.
    #[must_use]
    pub fn summary(&self) -> RunSummary<'_> {
        RunSummary {
            run: self.run,
            namespace: &self.namespace,
            dag: &self.dag,
            labels: &self.labels,
            digest: self.digest,
            state: self.state,
            submitted_at: self.submitted_at,
            finished_at: self.finished_at,
            cancelled: self.cancelled.as_ref(),
            counts: self.counts,
            n_records: self.n_records,
        }
    }
}

impl Run {
    /// Returns the summary.
    #[must_use]
    pub fn summary(&self) -> RunSummary<'_> {
        RunSummary {
            run: self.id(),
            namespace: &self.submission.namespace,
            dag: self.dag.name(),
            labels: &self.submission.labels,
            digest: self.submission.digest,
            state: self.state,
            submitted_at: self.submitted_at,
            finished_at: self.finished_at,
            cancelled: self.cancelled.as_ref(),
            counts: self.counts,
            n_records: self.history.len(),
        }
    }
}

impl RunSnapshot {
    /// Returns the summary of the run.
    #[must_use]
    pub fn summary(&self) -> RunSummary<'_> {
        let mut counts = [0; TaskState::ALL.len()];
        for cell in &self.cells {
            counts[usize::from(cell.state.number())] += 1;
        }
        RunSummary {
            run: self.submission.run,
            namespace: &self.submission.namespace,
            dag: self.submission.dag.name(),
            labels: &self.submission.labels,
            digest: self.submission.digest,
            state: self.state,
            submitted_at: self.submitted_at,
            finished_at: self.finished_at,
            cancelled: self.cancelled.as_ref(),
            counts,
            n_records: self.history.len(),
        }
    }
}
