//! A run: the state of its tasks and its history.

use std::collections::BTreeMap;
use std::sync::Arc;

use kahn_model::{
    Failure, Outputs, RunId, RunState, TaskIx, TaskState, Timestamp, Value, Work, WorkerId,
};

use super::NamespaceIx;
use super::classes::ClassIx;
use super::lease::LeaseIx;
use super::ready::LaneIx;
use crate::change::Submission;
use crate::history::{Messages, Record, Spent};

/// Index of a run in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunIx(pub(crate) u32);

/// Flags of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(pub u8);

impl Flags {
    /// A dependency was met.
    pub(crate) const MET: u8 = 1;
    /// A dependency failed.
    pub(crate) const FAILED: u8 = 1 << 1;
    /// A dependency was skipped.
    pub(crate) const SKIPPED: u8 = 1 << 2;
    /// The condition and the templates were evaluated, or there are none.
    pub(crate) const EVALUATED: u8 = 1 << 3;
    /// The evaluation was requested.
    pub(crate) const EVALUATING: u8 = 1 << 4;
    /// One of its attempts has started.
    pub(crate) const STARTED: u8 = 1 << 5;
    /// The task was cancelled while a worker held it.
    pub(crate) const CANCELLED: u8 = 1 << 6;

    pub(crate) fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    pub(crate) fn set(&mut self, bits: u8) {
        self.0 |= bits;
    }
}

/// The state of one task in a run. Kept small, since there can be millions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// The state of the task.
    pub state: TaskState,
    pub(crate) flags: Flags,
    /// The number of the latest attempt; zero before the first.
    pub attempt: u16,
    /// Attempts that count against the task's retries.
    pub(crate) tries: u16,
    /// Attempts that were lost together with their workers.
    pub(crate) crashes: u8,
    /// Number of unresolved dependencies.
    pub(crate) pending: u32,
    /// The lease while held; the age while ready.
    slot: u32,
}

impl Cell {
    pub(crate) fn lease(&self) -> Option<LeaseIx> {
        self.state.is_held().then_some(LeaseIx(self.slot))
    }

    pub(crate) fn set_lease(&mut self, lease: LeaseIx) {
        self.slot = lease.0;
    }

    /// Creates the cell of a task that was not yet considered.
    pub(crate) fn pending(n_dependencies: u32, attempt: u16) -> Self {
        Self { pending: n_dependencies, attempt, ..Self::default() }
    }

    /// Restores a cell from a snapshot. The caller sets its lease or its age.
    pub(crate) fn restored(cell: &crate::snapshot::CellSnapshot, flags: Flags) -> Self {
        Self {
            state: cell.state,
            flags,
            attempt: cell.attempt,
            tries: cell.tries,
            crashes: cell.crashes,
            pending: cell.pending,
            slot: 0,
        }
    }

    pub(crate) fn age(&self) -> u32 {
        self.slot
    }

    pub(crate) fn set_age(&mut self, age: u32) {
        self.slot = age;
    }
}

/// Number of tasks per state, indexed by [`TaskState::number`].
pub type Counts = [u32; TaskState::ALL.len()];

/// One execution of one DAG.
#[derive(Debug)]
pub struct Run {
    /// What was submitted.
    pub submission: Arc<Submission>,
    /// The DAG of the submission, for direct access.
    pub dag: Arc<kahn_model::Dag>,
    /// The state of the run.
    pub state: RunState,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why it was cancelled, if it was.
    pub cancelled: Option<Failure>,
    /// Whether its failure policy has cancelled the tasks that do not handle failures.
    pub is_halted: bool,
    /// Number of tasks that failed for good since it was submitted or last retried.
    pub n_failures: u32,
    /// Number of leases in force.
    pub n_held: u32,
    /// Number of tasks per state.
    pub counts: Counts,
    /// Everything that happened in the run, in order.
    pub history: Vec<Record>,
    /// Resources used by attempts, ordered by record index.
    pub spent: Vec<Spent>,
    /// Messages of failed attempts, including earlier ones.
    pub messages: Messages,
    /// The workers that appear in the history.
    pub workers: Vec<WorkerId>,
    /// When it was submitted or last retried.
    pub(crate) begun_at: Timestamp,
    pub(crate) namespace: NamespaceIx,
    pub(crate) cells: Vec<Cell>,
    pub(crate) b_levels: Vec<u64>,
    pub(crate) outputs: BTreeMap<TaskIx, Arc<Outputs>>,
    pub(crate) failures: BTreeMap<TaskIx, Failure>,
    pub(crate) rendered: BTreeMap<TaskIx, Arc<Work>>,
    pub(crate) backoffs: BTreeMap<TaskIx, Timestamp>,
    /// Numbers of earlier attempts that ran out of memory or exceeded the run timeout.
    pub(crate) overruns: BTreeMap<TaskIx, Overruns>,
    /// Dependencies whose timeout has expired: (dependent, dependency).
    pub(crate) expired: std::collections::BTreeSet<(TaskIx, TaskIx)>,
    /// The time since which a task waits for nothing but timed dependencies.
    pub(crate) waiting_since: BTreeMap<TaskIx, Timestamp>,
    /// Whether any dependency requires only the start of a task.
    pub(crate) has_started_dependents: bool,
    /// Class of each (profile, action kind) in use.
    pub(crate) classes: BTreeMap<(u32, kahn_model::ActionKind), ClassIx>,
    pub(crate) lanes: BTreeMap<ClassIx, LaneIx>,
    /// Index of each worker in `workers`.
    pub(crate) worker_positions: BTreeMap<WorkerId, u16>,
}

/// Numbers of attempts of a task that exceeded their limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overruns {
    /// Attempts that ran out of memory.
    pub memory: u32,
    /// Attempts that exceeded the run timeout.
    pub time: u32,
}

impl Run {
    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.submission.run
    }

    /// Returns the state of `task`.
    #[must_use]
    pub fn cell(&self, task: TaskIx) -> &Cell {
        &self.cells[task.index()]
    }

    /// Returns the values of the parameters.
    #[must_use]
    pub fn params(&self) -> &BTreeMap<Box<str>, Value> {
        &self.submission.params
    }

    /// Returns the outputs of `task`.
    #[must_use]
    pub fn outputs(&self, task: TaskIx) -> Option<&Arc<Outputs>> {
        self.outputs.get(&task)
    }

    /// Returns why the latest attempt of `task` failed, or why the task was skipped or cancelled,
    /// if there are details beyond its state.
    #[must_use]
    pub fn failure(&self, task: TaskIx) -> Option<&Failure> {
        self.failures.get(&task)
    }

    /// Returns the resources used by the attempt whose end is the record with this index.
    #[must_use]
    pub fn spent_at(&self, record: usize) -> Option<&Spent> {
        let record = u32::try_from(record).ok()?;
        let at = self.spent.binary_search_by_key(&record, |spent| spent.record).ok()?;
        self.spent.get(at)
    }

    /// Returns the message of the failed attempt whose end is the record at this index, if kept.
    #[must_use]
    pub fn message_at(&self, record: usize) -> Option<&str> {
        self.messages.get(u32::try_from(record).ok()?)
    }

    /// Returns when the backoff of a task ends.
    #[must_use]
    pub fn backoff_ends(&self, task: TaskIx) -> Option<Timestamp> {
        self.backoffs.get(&task).copied()
    }

    /// Returns the work of `task`, rendered if it contains expressions.
    #[must_use]
    pub fn work(&self, task: TaskIx) -> &Arc<Work> {
        self.rendered.get(&task).unwrap_or_else(|| self.dag.work(task))
    }

    /// Returns the weight of the heaviest path from `task` to an exit of the DAG, in microseconds.
    #[must_use]
    pub fn b_level(&self, task: TaskIx) -> u64 {
        self.b_levels[task.index()]
    }

    /// Returns the number of tasks in `state`.
    #[must_use]
    pub fn count(&self, state: TaskState) -> u32 {
        self.counts[usize::from(state.number())]
    }

    /// Returns the number of tasks that have ended.
    #[must_use]
    pub fn n_terminal(&self) -> u32 {
        TaskState::ALL.into_iter().filter(|s| s.is_terminal()).map(|s| self.count(s)).sum()
    }

    pub(crate) fn cell_mut(&mut self, task: TaskIx) -> &mut Cell {
        &mut self.cells[task.index()]
    }

    /// Sets the state of a task and updates the counts.
    pub(crate) fn set_state(&mut self, task: TaskIx, state: TaskState) {
        let cell = &mut self.cells[task.index()];
        self.counts[usize::from(cell.state.number())] -= 1;
        self.counts[usize::from(state.number())] += 1;
        cell.state = state;
    }

    /// Returns the index of `worker` in `workers` plus one, adding it if necessary.
    pub(crate) fn worker_position(&mut self, worker: &WorkerId) -> u16 {
        if let Some(position) = self.worker_positions.get(worker) {
            return *position;
        }
        self.workers.push(worker.clone());
        let position = u16::try_from(self.workers.len()).unwrap_or(u16::MAX);
        self.worker_positions.insert(worker.clone(), position);
        position
    }
}
