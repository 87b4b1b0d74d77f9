//! Snapshots: a copy of the durable part of the state, to be stored and restored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kahn_model::{
    BootId, Failure, Name, Namespace, Outputs, Partition, RunState, TaskIx, TaskState, Timestamp,
    Token, When, Work, WorkerId,
};

use crate::change::Submission;
use crate::history::{Messages, Record, RecordKind, Spent};
use crate::state::{Breaker, Cell, Flags, Lease, LeaseIx, LeasePhase, Overruns, Run, RunIx, State};
use crate::summary::ArchivedRun;

/// The state of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellSnapshot {
    /// Its state.
    pub state: TaskState,
    /// Flags about its dependencies and attempts; the bits are stable.
    pub flags: u8,
    /// The number of the latest attempt.
    pub attempt: u16,
    /// Attempts that count against the task's retries.
    pub tries: u16,
    /// Attempts that were lost together with their workers.
    pub crashes: u8,
    /// Number of unresolved dependencies.
    pub pending: u32,
    /// Its age in the ready set; zero unless it is ready.
    pub age: u32,
}

/// A lease in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSnapshot {
    /// The task.
    pub task: TaskIx,
    /// The token.
    pub token: Token,
    /// The worker that holds it.
    pub worker: WorkerId,
    /// The boot id of the worker.
    pub boot: BootId,
    /// When it was granted.
    pub granted_at: Timestamp,
    /// When its attempt started.
    pub started_at: Option<Timestamp>,
}

/// The durable part of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSnapshot {
    /// What was submitted.
    pub submission: Arc<Submission>,
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
    /// Number of tasks that failed for good.
    pub n_failures: u32,
    /// The state of each task.
    pub cells: Vec<CellSnapshot>,
    /// Everything that happened in the run, in order.
    pub history: Vec<Record>,
    /// Resources used by attempts, ordered by record index.
    pub spent: Vec<Spent>,
    /// Messages of failed attempts, including earlier ones.
    pub messages: Messages,
    /// The workers that appear in the history.
    pub workers: Vec<WorkerId>,
    /// The outputs of tasks.
    pub outputs: BTreeMap<TaskIx, Arc<Outputs>>,
    /// The failures of tasks.
    pub failures: BTreeMap<TaskIx, Failure>,
    /// Rendered work, by task.
    pub rendered: BTreeMap<TaskIx, Arc<Work>>,
    /// When the backoff of each task ends.
    pub backoffs: BTreeMap<TaskIx, Timestamp>,
    /// Numbers of attempts that ran out of memory and that exceeded the run timeout, by task.
    pub overruns: BTreeMap<TaskIx, (u32, u32)>,
    /// Dependencies whose timeout has expired: (dependent, dependency).
    pub expired: BTreeSet<(TaskIx, TaskIx)>,
    /// The time since which tasks wait for nothing but timed dependencies.
    pub waiting_since: BTreeMap<TaskIx, Timestamp>,
    /// The leases in force.
    pub leases: Vec<LeaseSnapshot>,
}

/// The durable part of the state of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The latest time in the partition.
    pub at: Timestamp,
    /// The runs of the partition that are not archived.
    pub runs: Vec<RunSnapshot>,
    /// The archived runs of the partition, ordered by id.
    pub archived: Vec<ArchivedRun>,
    /// Breakers with recorded failures: consecutive failures, and the time until which it is open.
    pub breakers: Vec<(Namespace, Name, u32, Option<Timestamp>)>,
    /// Cordoned workers, ordered by name; only in [`Partition::CLUSTER`].
    pub cordoned: Vec<WorkerId>,
}

impl State {
    /// Returns a snapshot of one partition.
    ///
    /// All partitions share the breakers, so each snapshot contains all of them.
    #[must_use]
    pub fn snapshot(&self, partition: Partition) -> Snapshot {
        let runs = self
            .runs()
            .filter(|run| self.partition_of(run.id()) == partition)
            .map(|run| self.snapshot_run(run))
            .collect();
        let archived =
            self.archived_runs().filter(|run| self.partition_of(run.run) == partition).cloned();
        let archived = archived.collect();
        let mut breakers: Vec<_> = self
            .gates
            .breakers()
            .filter(|(_, breaker)| breaker.failures > 0 || breaker.open_until.is_some())
            .map(|((namespace, key), breaker)| {
                let namespace = self.namespaces.get(*namespace).clone();
                (namespace, key.clone(), breaker.failures, breaker.open_until)
            })
            .collect();
        breakers.sort_unstable();
        let cordoned = match partition {
            Partition::CLUSTER => self.cordoned_workers(),
            _ => Vec::new(),
        };
        Snapshot { at: self.now, runs, archived, breakers, cordoned }
    }

    fn cordoned_workers(&self) -> Vec<WorkerId> {
        let cordoned = self.workers.iter().filter(|worker| worker.is_cordoned);
        let mut ids: Vec<_> = cordoned.map(|worker| worker.id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    /// Returns a snapshot of one run.
    #[must_use]
    pub fn snapshot_run(&self, run: &Run) -> RunSnapshot {
        let leases = run
            .dag
            .tasks()
            .filter_map(|task| self.lease_of(run, task))
            .map(|lease| LeaseSnapshot {
                task: lease.task,
                token: lease.token,
                worker: self.workers[lease.worker.index()].id.clone(),
                boot: lease.boot,
                granted_at: lease.granted_at,
                started_at: lease.started_at,
            })
            .collect();
        let overruns = run.overruns.iter().map(|(task, o)| (*task, (o.memory, o.time))).collect();
        RunSnapshot {
            submission: Arc::clone(&run.submission),
            state: run.state,
            submitted_at: run.submitted_at,
            finished_at: run.finished_at,
            cancelled: run.cancelled.clone(),
            is_halted: run.is_halted,
            n_failures: run.n_failures,
            cells: run.cells.iter().map(cell_snapshot).collect(),
            history: run.history.clone(),
            spent: run.spent.clone(),
            messages: run.messages.clone(),
            workers: run.workers.clone(),
            outputs: run.outputs.clone(),
            failures: run.failures.clone(),
            rendered: run.rendered.clone(),
            backoffs: run.backoffs.clone(),
            overruns,
            expired: run.expired.clone(),
            waiting_since: run.waiting_since.clone(),
            leases,
        }
    }

    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        // The snapshot of every partition contains all breakers; the latest one is used.
        let is_latest = snapshot.at >= self.now;
        self.now = self.now.max(snapshot.at);
        for worker in &snapshot.cordoned {
            self.set_cordoned(worker, true);
        }
        for (namespace, key, failures, open_until) in snapshot.breakers {
            let key = (self.namespaces.intern(&namespace), key);
            let known = self.gates.breaker(&key);
            if is_latest || known == (Breaker { held: known.held, ..Breaker::default() }) {
                self.gates.set_breaker(key, Breaker { failures, open_until, ..known });
            }
        }
        for run in snapshot.archived {
            self.insert_archived(run);
        }
        for run in snapshot.runs {
            self.restore_run(run);
        }
    }

    pub(crate) fn restore_run(&mut self, snapshot: RunSnapshot) {
        let ready = ready_tasks(&snapshot.cells);
        let ready_at = ready_times(&snapshot);
        let leases = snapshot.leases.clone();
        let id = snapshot.submission.run;
        let namespace = self.namespaces.intern(&snapshot.submission.namespace);
        let ix = RunIx(self.runs.insert(rebuild(snapshot, namespace)));
        self.run_ix.insert(id, ix);
        for (age, task) in ready {
            self.ready.has_aged(age);
            let since = ready_at.get(&task).copied().unwrap_or(self.now);
            self.enter_ready(ix, task, age, since);
        }
        for lease in leases {
            let since = ready_at.get(&lease.task).copied().unwrap_or(lease.granted_at);
            self.restore_lease(ix, &lease, since);
        }
    }

    fn restore_lease(&mut self, ix: RunIx, snapshot: &LeaseSnapshot, ready_at: Timestamp) {
        let worker = self.worker_or_unknown(&snapshot.worker, snapshot.boot);
        let class = self.class_of(ix, snapshot.task);
        let run = &self.runs[ix.0];
        let lease = Lease {
            token: snapshot.token,
            number: u32::from(run.cell(snapshot.task).attempt),
            task: snapshot.task,
            run_id: run.id(),
            boot: snapshot.boot,
            ready_at,
            granted_at: snapshot.granted_at,
            started_at: None,
            run: ix,
            worker,
            class,
            phase: LeasePhase::Ahead,
            due: None,
            is_stopping: false,
            exceeded: None,
            is_recalled: false,
            age: 0,
            resources: Arc::clone(&self.classes.get(class).resources),
        };
        let lease_ix = LeaseIx(self.leases.insert(lease));
        let run = &mut self.runs[ix.0];
        run.cell_mut(snapshot.task).set_lease(lease_ix);
        run.n_held += 1;
        self.take(lease_ix);
        if let Some(at) = snapshot.started_at {
            self.note_started(lease_ix, at);
        }
    }
}

fn cell_snapshot(cell: &Cell) -> CellSnapshot {
    CellSnapshot {
        state: cell.state,
        flags: cell.flags.0,
        attempt: cell.attempt,
        tries: cell.tries,
        crashes: cell.crashes,
        pending: cell.pending,
        age: if cell.state == TaskState::Ready { cell.age() } else { 0 },
    }
}

/// Returns the ready tasks with their ages, which are global and not per run.
fn ready_tasks(cells: &[CellSnapshot]) -> Vec<(u32, TaskIx)> {
    cells
        .iter()
        .enumerate()
        .filter(|(_, cell)| cell.state == TaskState::Ready)
        .map(|(at, cell)| (cell.age, TaskIx::from_index(at)))
        .collect()
}

/// Returns since when the ready and the held tasks of a run were ready, according to its history.
fn ready_times(snapshot: &RunSnapshot) -> BTreeMap<TaskIx, Timestamp> {
    let is_wanted = |task: TaskIx| {
        let state = snapshot.cells[task.index()].state;
        state == TaskState::Ready || state.is_held()
    };
    let readied = snapshot.history.iter().filter(|record| record.kind == RecordKind::TaskReady);
    let times = readied.filter_map(|record| Some((record.task()?, record.at)));
    times.filter(|(task, _)| is_wanted(*task)).collect()
}

/// Returns when a run was submitted or last retried.
fn begun_at(snapshot: &RunSnapshot) -> Timestamp {
    let retried = snapshot.history.iter().rfind(|record| record.kind == RecordKind::RunRetried);
    retried.map_or(snapshot.submitted_at, |record| record.at)
}

fn rebuild(snapshot: RunSnapshot, namespace: crate::state::NamespaceIx) -> Run {
    let begun_at = begun_at(&snapshot);
    let dag = Arc::clone(&snapshot.submission.dag);
    let mut counts = [0; TaskState::ALL.len()];
    let cells = snapshot
        .cells
        .iter()
        .map(|cell| {
            counts[usize::from(cell.state.number())] += 1;
            Cell::restored(cell, Flags(cell.flags))
        })
        .collect();
    let overruns = snapshot
        .overruns
        .into_iter()
        .map(|(task, (memory, time))| (task, Overruns { memory, time }))
        .collect();
    let worker_positions = (1..).zip(&snapshot.workers).map(|(at, id)| (id.clone(), at)).collect();
    Run {
        begun_at,
        state: snapshot.state,
        submitted_at: snapshot.submitted_at,
        finished_at: snapshot.finished_at,
        cancelled: snapshot.cancelled,
        is_halted: snapshot.is_halted,
        n_failures: snapshot.n_failures,
        n_held: 0,
        counts,
        history: snapshot.history,
        spent: snapshot.spent,
        messages: snapshot.messages,
        worker_positions,
        workers: snapshot.workers,
        namespace,
        cells,
        b_levels: crate::apply::b_levels(&dag),
        outputs: snapshot.outputs,
        failures: snapshot.failures,
        rendered: snapshot.rendered,
        backoffs: snapshot.backoffs,
        overruns,
        expired: snapshot.expired,
        waiting_since: snapshot.waiting_since,
        has_started_dependents: dag.has_dependency_when(When::Started),
        classes: BTreeMap::new(),
        lanes: BTreeMap::new(),
        submission: snapshot.submission,
        dag,
    }
}
