//! The complete state and queries on it. Only `apply` and the handlers of volatile state modify it.

mod archived;
mod classes;
mod gates;
mod lease;
mod pools;
mod ready;
mod run;
mod slab;
mod timers;
mod worker;

use std::collections::BTreeMap;

use kahn_model::{Namespace, Partition, Resources, RunId, TaskIx, Timestamp, Token, WorkerId};

pub use gates::Breaker;
pub use lease::{Lease, LeaseIx};
pub use run::{Cell, Counts, Run, RunIx};
pub use worker::{Shape, Worker, WorkerIx, WorkerStatus};

pub(crate) use classes::{Class, ClassIx, Classes, secret_of};
pub(crate) use gates::{Gate, GateKey, Gates};
pub(crate) use lease::LeasePhase;
pub(crate) use pools::{KnownPool, WORKER};
pub(crate) use ready::{Lane, LaneIx, Rank, Ready};
pub(crate) use run::{Flags, Overruns};
pub(crate) use slab::Slab;
pub(crate) use timers::{Timer, Timers};

use crate::event::SessionId;
use crate::schedule::Pool;
use crate::settings::Settings;
use crate::summary::ArchivedRun;
use crate::timing::Timing;

/// Requests of applied changes to the live core. Recovery ignores them and inspects the complete
/// state instead.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Tasks whose condition and templates must be evaluated.
    pub evaluate: Vec<(RunId, TaskIx)>,
    /// Attempts to stop, unless their leases have ended in the same step.
    pub stop: Vec<(RunId, TaskIx, Token)>,
    /// Runs with new records, in the order in which they got them.
    pub touched: Vec<RunId>,
}

impl Effects {
    pub(crate) fn touch(&mut self, run: RunId) {
        if self.touched.last() != Some(&run) {
            self.touched.push(run);
        }
    }
}

/// The complete state of a coordinator.
///
/// Runs, their tasks and their leases are determined by the log. Of an archived run only the summary
/// is left. Workers are known from their
/// streams. Everything else, such as ready tasks, resource use, keys, breakers and timers, is
/// derived from these and kept for speed; the audit recomputes and compares it.
#[derive(Debug)]
pub struct State {
    pub(crate) settings: Settings,
    pub(crate) runs: Slab<Run>,
    pub(crate) run_ix: BTreeMap<RunId, RunIx>,
    pub(crate) archived: BTreeMap<RunId, ArchivedRun>,
    /// The total size of the archived runs.
    pub(crate) archived_bytes: u64,
    pub(crate) leases: Slab<Lease>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) worker_ix: BTreeMap<WorkerId, WorkerIx>,
    pub(crate) sessions: BTreeMap<SessionId, WorkerIx>,
    pub(crate) namespaces: Namespaces,
    pub(crate) classes: Classes,
    pub(crate) ready: Ready,
    pub(crate) gates: Gates,
    pub(crate) timers: Timers,
    pub(crate) effects: Effects,
    /// The timings of the current step.
    pub(crate) timings: Vec<Timing>,
    pub(crate) pool: Pool,
    /// The configured pools of workers.
    pub(crate) known_pools: Vec<KnownPool>,
    /// The latest time of any event or change.
    pub(crate) now: Timestamp,
}

impl State {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            known_pools: settings.pools.iter().cloned().map(KnownPool::new).collect(),
            settings,
            runs: Slab::default(),
            run_ix: BTreeMap::new(),
            archived: BTreeMap::new(),
            archived_bytes: 0,
            leases: Slab::default(),
            workers: Vec::new(),
            worker_ix: BTreeMap::new(),
            sessions: BTreeMap::new(),
            namespaces: Namespaces::default(),
            classes: Classes::default(),
            ready: Ready::default(),
            gates: Gates::default(),
            timers: Timers::default(),
            effects: Effects::default(),
            timings: Vec::new(),
            pool: Pool::default(),
            now: Timestamp::ZERO,
        }
    }

    /// Returns the operator's settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the time of the latest event.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Returns the partition of `run`.
    #[must_use]
    pub fn partition_of(&self, run: RunId) -> Partition {
        run.partition(self.settings.partitions)
    }

    /// Returns the run with this id, unless it is archived.
    #[must_use]
    pub fn run(&self, id: RunId) -> Option<&Run> {
        self.runs.get(self.run_ix.get(&id)?.0)
    }

    /// Returns all runs that are not archived, ordered by id; for version 7 UUIDs this is the order of creation.
    pub fn runs(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.run_ix.values().map(|ix| &self.runs[ix.0])
    }

    /// Returns the runs with ids below `before` that are not archived, newest first.
    pub fn runs_before(&self, before: Option<RunId>) -> impl Iterator<Item = &Run> {
        let range = match before {
            Some(id) => self.run_ix.range(..id),
            None => self.run_ix.range(..),
        };
        range.rev().map(|(_, ix)| &self.runs[ix.0])
    }

    /// Returns the runs with ids from `first` to `last` inclusive that are not archived, ordered by
    /// id.
    pub fn runs_between(&self, first: RunId, last: RunId) -> impl Iterator<Item = &Run> {
        self.run_ix.range(first..=last).map(|(_, ix)| &self.runs[ix.0])
    }

    /// Returns the number of runs that are not archived.
    #[must_use]
    pub fn n_runs(&self) -> usize {
        self.run_ix.len()
    }

    /// Returns all workers that ever attached to this coordinator, in the order of their
    /// attachment.
    #[must_use]
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// Returns the worker with this id.
    #[must_use]
    pub fn worker(&self, id: &WorkerId) -> Option<&Worker> {
        self.worker_ix.get(id).map(|ix| &self.workers[ix.index()])
    }

    /// Returns the lease of `task`, if a worker holds one.
    #[must_use]
    pub fn lease_of(&self, run: &Run, task: TaskIx) -> Option<&Lease> {
        run.cell(task).lease().map(|ix| &self.leases[ix.0])
    }

    /// Returns the worker that holds a lease.
    #[must_use]
    pub fn holder_of(&self, lease: &Lease) -> &Worker {
        &self.workers[lease.worker.index()]
    }

    /// Returns the number of leases in force.
    #[must_use]
    pub fn n_leases(&self) -> usize {
        self.leases.len()
    }

    /// Returns the number of tasks in the ready set.
    #[must_use]
    pub fn n_ready(&self) -> usize {
        self.ready.len()
    }

    /// Returns the name of a namespace.
    #[must_use]
    pub fn namespace(&self, ix: NamespaceIx) -> &Namespace {
        self.namespaces.get(ix)
    }

    /// Returns all breakers that are not closed or have recorded failures, with namespace and key.
    pub fn breakers(&self) -> impl Iterator<Item = (&Namespace, &str, &Breaker)> {
        self.gates
            .breakers()
            .map(|((ns, key), breaker)| (self.namespaces.get(*ns), key.as_str(), breaker))
    }

    /// Returns the lease with this token, if it is in force.
    pub(crate) fn find_lease(&self, run: RunId, task: TaskIx, token: Token) -> Option<LeaseIx> {
        let run = self.run(run)?;
        if !run.dag.contains(task) {
            return None;
        }
        let ix = run.cell(task).lease()?;
        (self.leases[ix.0].token == token).then_some(ix)
    }

    /// Returns the total capacity of all present workers.
    pub(crate) fn total_capacity(&self) -> Resources {
        let mut total = Resources::none();
        for worker in self.workers.iter().filter(|w| w.status.is_present()) {
            total.add(&worker.capacity);
        }
        total
    }
}

/// Index of a namespace in the state. A namespace keeps it for as long as the core exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamespaceIx(pub(crate) u32);

impl NamespaceIx {
    /// Returns the index as a number from 0, in the order in which namespaces became known.
    #[must_use]
    pub fn index(self) -> usize {
        usize::try_from(self.0).expect("invariant: usize holds u32")
    }
}

/// All known namespaces, with the resources that their leases hold.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    known: Vec<Namespace>,
    by_name: BTreeMap<Namespace, NamespaceIx>,
    held: Vec<Holding>,
}

/// The resources that the leases of a namespace hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    pub resources: Resources,
    pub n_leases: u64,
}

impl Namespaces {
    pub(crate) fn intern(&mut self, namespace: &Namespace) -> NamespaceIx {
        if let Some(ix) = self.by_name.get(namespace) {
            return *ix;
        }
        let ix = NamespaceIx(u32::try_from(self.known.len()).expect("invariant: few namespaces"));
        self.known.push(namespace.clone());
        self.by_name.insert(namespace.clone(), ix);
        self.held.push(Holding::default());
        ix
    }

    pub(crate) fn get(&self, ix: NamespaceIx) -> &Namespace {
        &self.known[ix.index()]
    }

    pub(crate) fn held(&self, ix: NamespaceIx) -> &Holding {
        &self.held[ix.index()]
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = NamespaceIx> + use<> {
        (0..u32::try_from(self.known.len()).expect("invariant: few namespaces")).map(NamespaceIx)
    }

    pub(crate) fn replace(&mut self, held: BTreeMap<NamespaceIx, Holding>) {
        for (ix, holding) in held {
            self.held[ix.index()] = holding;
        }
    }

    pub(crate) fn hold(&mut self, ix: NamespaceIx, resources: &Resources) {
        let held = &mut self.held[ix.index()];
        held.resources.add(resources);
        held.n_leases += 1;
    }

    pub(crate) fn release(&mut self, ix: NamespaceIx, resources: &Resources) {
        let held = &mut self.held[ix.index()];
        held.resources.subtract(resources);
        held.n_leases -= 1;
    }
}
