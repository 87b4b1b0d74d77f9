//! Invariants, checked using only the log and the DAGs.

use std::collections::{BTreeMap, BTreeSet};

use kahn_core::testing::World;
use kahn_core::{Change, RecordKind, Run};
use kahn_model::{
    DependencyKind, DependencyRef, RunId, TaskIx, TaskState, Timestamp, Token, Trigger, When,
};

type Task = (RunId, TaskIx);

/// The history seen so far.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    tokens: BTreeSet<Token>,
    leased: BTreeSet<Task>,
    /// How often each run was retried.
    retries: BTreeMap<RunId, usize>,
    /// With which of these retries a task was last reset.
    reset: BTreeMap<Task, usize>,
    ended: BTreeMap<Task, TaskState>,
    cancelled: BTreeSet<RunId>,
    expired: BTreeSet<(RunId, TaskIx, TaskIx)>,
}

impl Oracle {
    /// Checks the changes of one act and the resulting state.
    pub(crate) fn check(&mut self, world: &World, changes: &[(Timestamp, Change)]) {
        for (_, change) in changes {
            self.follow(change);
        }
        for (_, change) in changes {
            self.check_start(world, change);
        }
        self.check_outcomes(world);
    }

    fn follow(&mut self, change: &Change) {
        let Some(run) = change.run() else { return };
        match change {
            Change::LeaseGranted { task, token, .. } => {
                assert!(self.tokens.insert(*token), "token {token} was used before");
                assert!(self.leased.insert((run, *task)), "{task:?} of {run} is leased twice");
                assert!(!self.cancelled.contains(&run), "{run} was cancelled, but {change}");
            }
            Change::LeaseReturned { task, .. } | Change::AttemptFinished { task, .. } => {
                assert!(self.leased.remove(&(run, *task)), "not leased, but {change}");
            }
            Change::RunRetried { tasks, .. } => {
                self.cancelled.remove(&run);
                let retries = self.retries.entry(run).or_default();
                *retries += 1;
                for task in tasks {
                    self.ended.remove(&(run, *task));
                    self.reset.insert((run, *task), *retries);
                    self.expired.retain(|(of, dependent, _)| (*of, *dependent) != (run, *task));
                }
            }
            Change::RunCancelled { .. } => {
                self.cancelled.insert(run);
            }
            Change::DependencyExpired { dependent, dependency, .. } => {
                self.expired.insert((run, *dependent, *dependency));
            }
            Change::RunRemoved { .. } => {
                self.ended.retain(|(of, _), _| *of != run);
                self.retries.remove(&run);
                self.reset.retain(|(of, _), _| *of != run);
            }
            _ => {}
        }
    }

    /// Checks that an attempt starts only once its dependencies permit it. Their states are read
    /// after the act; since ended tasks keep their state, the check is still valid.
    fn check_start(&self, world: &World, change: &Change) {
        let Change::LeaseGranted { run, task, .. } = change else { return };
        let Some(known) = world.core.state().run(*run) else { return };
        let edges: Vec<Seen> = known
            .dag
            .dependencies(*task)
            .map(|edge| {
                let has_started = self.has_started(known, edge.task);
                let is_expired = self.expired.contains(&(*run, *task, edge.task));
                Seen { edge, state: known.cell(edge.task).state, has_started, is_expired }
            })
            .collect();
        let trigger = known.dag.trigger(*task);
        assert!(may_start(trigger, &edges), "{change}, trigger {trigger:?}, after {edges:?}");
    }

    /// Returns whether a task has started since it was last reset by a retry.
    fn has_started(&self, run: &Run, task: TaskIx) -> bool {
        let reset = self.reset.get(&(run.id(), task)).copied().unwrap_or(0);
        let mut n_retries = 0;
        run.history.iter().any(|record| {
            n_retries += usize::from(record.kind == RecordKind::RunRetried);
            let is_start = record.kind == RecordKind::TaskStarted && record.task() == Some(task);
            is_start && n_retries >= reset
        })
    }

    fn check_outcomes(&mut self, world: &World) {
        for run in world.core.state().runs() {
            for task in run.dag.tasks() {
                let state = run.cell(task).state;
                match self.ended.get(&(run.id(), task)) {
                    Some(before) => assert_eq!(*before, state, "{task:?} of {} again", run.id()),
                    None if state.is_terminal() => {
                        self.ended.insert((run.id(), task), state);
                    }
                    None => {}
                }
            }
        }
    }
}

/// A dependency and the state of its task.
#[derive(Debug)]
struct Seen {
    edge: DependencyRef,
    state: TaskState,
    has_started: bool,
    is_expired: bool,
}

impl Seen {
    /// Returns whether the dependency is resolved.
    fn is_over(&self) -> bool {
        let is_start_enough =
            self.edge.when == When::Started && self.edge.kind != DependencyKind::Soft;
        self.state.is_terminal() || self.is_expired || (is_start_enough && self.has_started)
    }

    fn is_met(&self) -> bool {
        match self.edge.when {
            When::Succeeded => self.state == TaskState::Succeeded,
            When::Completed => self.state.is_terminal(),
            When::Failed => self.state == TaskState::Failed,
            When::Started => self.has_started,
            When::Ready => false,
        }
    }

    fn is_required(&self) -> bool {
        self.edge.kind == DependencyKind::Required
    }
}

fn may_start(trigger: Trigger, edges: &[Seen]) -> bool {
    let all_over = edges.iter().all(Seen::is_over);
    let required = || edges.iter().filter(|seen| seen.is_required());
    let counted = || edges.iter().filter(|seen| seen.edge.kind != DependencyKind::Soft);
    match trigger {
        Trigger::AllSucceeded => all_over && required().all(Seen::is_met),
        Trigger::AllDone => all_over,
        Trigger::AnySucceeded => {
            counted().any(Seen::is_met) || (all_over && required().next().is_none())
        }
        Trigger::AnyFailed => {
            required().any(|seen| seen.is_expired || (seen.is_over() && !seen.is_met()))
                || edges.is_empty()
        }
        Trigger::NoneFailed => {
            let is_fault = |seen: &&Seen| {
                !seen.is_met()
                    && (seen.is_expired
                        || matches!(seen.state, TaskState::Failed | TaskState::Cancelled)
                        || (seen.state == TaskState::Succeeded && seen.edge.when != When::Failed))
            };
            all_over && !required().any(|seen| is_fault(&seen) && seen.edge.when != When::Failed)
        }
    }
}
