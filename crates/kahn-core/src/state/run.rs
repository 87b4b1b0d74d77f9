//! One run: where each of its tasks stands and what happened so far.

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
use crate::history::{Messages, Record, RecordKind, Spent};

/// Position of a run in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunIx(pub(crate) u32);

/// Bits of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(pub u8);

impl Flags {
    /// A dependency was met.
    pub(crate) const MET: u8 = 1;
    /// A dependency failed.
    pub(crate) const FAILED: u8 = 1 << 1;
    /// A dependency was skipped.
    pub(crate) const SKIPPED: u8 = 1 << 2;
    /// Its condition and texts were evaluated, or need not be.
    pub(crate) const EVALUATED: u8 = 1 << 3;
    /// Its evaluation was asked for.
    pub(crate) const EVALUATING: u8 = 1 << 4;
    /// One of its attempts has started.
    pub(crate) const STARTED: u8 = 1 << 5;
    /// It was called off while a worker held it.
    pub(crate) const CALLED_OFF: u8 = 1 << 6;

    pub(crate) fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    pub(crate) fn set(&mut self, bits: u8) {
        self.0 |= bits;
    }
}

/// Where one task of a run stands. There may be a million of these, so it is small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Its state.
    pub state: TaskState,
    pub(crate) flags: Flags,
    /// The number of the latest attempt; zero before the first.
    pub attempt: u16,
    /// Attempts that count against the task's own retries.
    pub(crate) tries: u16,
    /// Attempts that were lost with their workers.
    pub(crate) crashes: u8,
    /// Dependencies that are not resolved.
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

    /// A task that has not been looked at, with this many dependencies.
    pub(crate) fn pending(n_dependencies: u32, attempt: u16) -> Self {
        Self { pending: n_dependencies, attempt, ..Self::default() }
    }

    /// A cell as it was; its lease or its age is entered by whoever restores those.
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

/// How many tasks are in each state, by [`TaskState::number`].
pub type Counts = [u32; TaskState::ALL.len()];

/// One execution of one DAG.
#[derive(Debug)]
pub struct Run {
    /// What was submitted.
    pub submission: Arc<Submission>,
    /// The DAG of the submission, close at hand.
    pub dag: Arc<kahn_model::Dag>,
    /// Where it stands.
    pub state: RunState,
    /// When it was taken on.
    pub submitted_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why it is or was being called off.
    pub cancelled: Option<Failure>,
    /// Whether its failure policy has called off all that does not handle failures.
    pub is_halted: bool,
    /// Tasks that failed for good since it was submitted or last retried.
    pub n_failures: u32,
    /// Leases in force.
    pub n_held: u32,
    /// How many tasks are in each state.
    pub counts: Counts,
    /// What happened, in order.
    pub history: Vec<Record>,
    /// What attempts used, by ascending positions in the history.
    pub spent: Vec<Spent>,
    /// What failed attempts said, earlier attempts included.
    pub messages: Messages,
    /// The workers that the history names.
    pub workers: Vec<WorkerId>,
    pub(crate) namespace: NamespaceIx,
    pub(crate) cells: Vec<Cell>,
    pub(crate) b_levels: Vec<u64>,
    pub(crate) outputs: BTreeMap<TaskIx, Arc<Outputs>>,
    pub(crate) failures: BTreeMap<TaskIx, Failure>,
    pub(crate) rendered: BTreeMap<TaskIx, Arc<Work>>,
    pub(crate) backoffs: BTreeMap<TaskIx, Timestamp>,
    /// Earlier attempts that ran out of memory and out of time.
    pub(crate) overruns: BTreeMap<TaskIx, Overruns>,
    /// Dependencies that no longer hold their dependents back: (dependent, dependency).
    pub(crate) expired: std::collections::BTreeSet<(TaskIx, TaskIx)>,
    /// Since when a task waits for its timed dependencies alone.
    pub(crate) waiting_since: BTreeMap<TaskIx, Timestamp>,
    /// Whether some dependency counts from the start of a task.
    pub(crate) has_started_dependents: bool,
    /// Class of each (profile, kind of action) in use.
    pub(crate) classes: BTreeMap<(u32, kahn_model::ActionKind), ClassIx>,
    pub(crate) lanes: BTreeMap<ClassIx, LaneIx>,
    /// Position of each worker in `workers`.
    pub(crate) worker_positions: BTreeMap<WorkerId, u16>,
}

/// Attempts of a task that outgrew what they were given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overruns {
    /// Attempts that ran out of memory.
    pub memory: u32,
    /// Attempts that ran into the run timeout.
    pub time: u32,
}

impl Run {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.submission.run
    }

    /// Where `task` stands.
    #[must_use]
    pub fn cell(&self, task: TaskIx) -> &Cell {
        &self.cells[task.index()]
    }

    /// When it was taken on or, if that was later, tried again.
    pub(crate) fn begun_at(&self) -> Timestamp {
        let begins = |record: &&Record| {
            matches!(record.kind, RecordKind::RunRetried | RecordKind::RunSubmitted)
        };
        self.history.iter().rev().find(begins).map_or(self.submitted_at, |record| record.at)
    }

    /// The value of each parameter.
    #[must_use]
    pub fn params(&self) -> &BTreeMap<Box<str>, Value> {
        &self.submission.params
    }

    /// What `task` gave.
    #[must_use]
    pub fn outputs(&self, task: TaskIx) -> Option<&Arc<Outputs>> {
        self.outputs.get(&task)
    }

    /// Why the latest attempt of `task` failed, or why the task was skipped or cancelled, where
    /// there is more to say than its state.
    #[must_use]
    pub fn failure(&self, task: TaskIx) -> Option<&Failure> {
        self.failures.get(&task)
    }

    /// What the attempt used whose end is the record at this position of the history.
    #[must_use]
    pub fn spent_at(&self, record: usize) -> Option<&Spent> {
        let record = u32::try_from(record).ok()?;
        let at = self.spent.binary_search_by_key(&record, |spent| spent.record).ok()?;
        self.spent.get(at)
    }

    /// What the attempt said whose end is the record at this position of the history, if it
    /// failed and that is kept.
    #[must_use]
    pub fn message_at(&self, record: usize) -> Option<&str> {
        self.messages.get(u32::try_from(record).ok()?)
    }

    /// When a task that backs off may be tried again.
    #[must_use]
    pub fn backoff_ends(&self, task: TaskIx) -> Option<Timestamp> {
        self.backoffs.get(&task).copied()
    }

    /// What a worker would be told to do for `task`.
    #[must_use]
    pub fn work(&self, task: TaskIx) -> &Arc<Work> {
        self.rendered.get(&task).unwrap_or_else(|| self.dag.work(task))
    }

    /// The weight of the heaviest path from `task` to an end of the DAG, in microseconds.
    #[must_use]
    pub fn b_level(&self, task: TaskIx) -> u64 {
        self.b_levels[task.index()]
    }

    /// How many tasks are in `state`.
    #[must_use]
    pub fn count(&self, state: TaskState) -> u32 {
        self.counts[usize::from(state.number())]
    }

    /// How many tasks have ended.
    #[must_use]
    pub fn n_terminal(&self) -> u32 {
        TaskState::ALL.into_iter().filter(|s| s.is_terminal()).map(|s| self.count(s)).sum()
    }

    pub(crate) fn cell_mut(&mut self, task: TaskIx) -> &mut Cell {
        &mut self.cells[task.index()]
    }

    /// Moves a task to another state and keeps the counts.
    pub(crate) fn set_state(&mut self, task: TaskIx, state: TaskState) {
        let cell = &mut self.cells[task.index()];
        self.counts[usize::from(cell.state.number())] -= 1;
        self.counts[usize::from(state.number())] += 1;
        cell.state = state;
    }

    /// Position of `worker` in the history, plus one.
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
