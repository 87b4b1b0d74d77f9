//! The whole state, and questions to it. Only `apply` and the volatile handlers alter it.

mod classes;
mod gates;
mod lease;
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
pub use worker::{Worker, WorkerIx, WorkerStatus};

pub(crate) use classes::{Class, ClassIx, Classes};
pub(crate) use gates::{Gate, GateKey, Gates};
pub(crate) use lease::LeasePhase;
pub(crate) use ready::{LaneIx, Rank, Ready};
pub(crate) use run::{Flags, Overruns};
pub(crate) use slab::Slab;
pub(crate) use timers::{Timer, Timers};

use crate::event::SessionId;
use crate::schedule::Pool;
use crate::settings::Settings;

/// What applying changes asks of the live core; of no interest to recovery, which asks the whole
/// state instead.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Tasks that wait for their condition and texts to be evaluated.
    pub evaluate: Vec<(RunId, TaskIx)>,
    /// Attempts that are to be stopped, unless their leases have ended in the same step.
    pub stop: Vec<(RunId, TaskIx, Token)>,
    /// Runs with new history, in the order in which they got it.
    pub touched: Vec<RunId>,
}

impl Effects {
    pub(crate) fn touch(&mut self, run: RunId) {
        if self.touched.last() != Some(&run) {
            self.touched.push(run);
        }
    }
}

/// The whole state of a coordinator.
///
/// Runs, their tasks and their leases follow from the log alone. Workers are known from their
/// streams. Everything else here (ready tasks, use of resources, keys and breakers, timers) is
/// derived from these and kept only to be quick; the audit computes it again and compares.
#[derive(Debug)]
pub struct State {
    pub(crate) settings: Settings,
    pub(crate) runs: Slab<Run>,
    pub(crate) run_ix: BTreeMap<RunId, RunIx>,
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
    pub(crate) pool: Pool,
    /// The latest time of any event or change.
    pub(crate) now: Timestamp,
}

impl State {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            runs: Slab::default(),
            run_ix: BTreeMap::new(),
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
            pool: Pool::default(),
            now: Timestamp::ZERO,
        }
    }

    /// What the operator chose.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The time of the latest event.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The partition that holds `run`.
    #[must_use]
    pub fn partition_of(&self, run: RunId) -> Partition {
        run.partition(self.settings.partitions)
    }

    /// The run with this id.
    #[must_use]
    pub fn run(&self, id: RunId) -> Option<&Run> {
        self.runs.get(self.run_ix.get(&id)?.0)
    }

    /// All runs, in the order of their ids (which, for version 7 ids, is that of their age).
    pub fn runs(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.run_ix.values().map(|ix| &self.runs[ix.0])
    }

    /// Runs with ids below `before`, the youngest first.
    pub fn runs_before(&self, before: Option<RunId>) -> impl Iterator<Item = &Run> {
        let range = match before {
            Some(id) => self.run_ix.range(..id),
            None => self.run_ix.range(..),
        };
        range.rev().map(|(_, ix)| &self.runs[ix.0])
    }

    /// The runs whose ids lie between `first` and `last`, both included, in order of their ids.
    pub fn runs_between(&self, first: RunId, last: RunId) -> impl Iterator<Item = &Run> {
        self.run_ix.range(first..=last).map(|(_, ix)| &self.runs[ix.0])
    }

    /// How many runs are known.
    #[must_use]
    pub fn n_runs(&self) -> usize {
        self.run_ix.len()
    }

    /// All workers ever attached to this coordinator, in the order in which they came.
    #[must_use]
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// The worker with this id.
    #[must_use]
    pub fn worker(&self, id: &WorkerId) -> Option<&Worker> {
        self.worker_ix.get(id).map(|ix| &self.workers[ix.index()])
    }

    /// The lease under which `task` is held, if it is.
    #[must_use]
    pub fn lease_of(&self, run: &Run, task: TaskIx) -> Option<&Lease> {
        run.cell(task).lease().map(|ix| &self.leases[ix.0])
    }

    /// The worker that holds a lease.
    #[must_use]
    pub fn holder_of(&self, lease: &Lease) -> &Worker {
        &self.workers[lease.worker.index()]
    }

    /// How many leases are in force.
    #[must_use]
    pub fn n_leases(&self) -> usize {
        self.leases.len()
    }

    /// How many tasks may be leased now, were there room.
    #[must_use]
    pub fn n_ready(&self) -> usize {
        self.ready.len()
    }

    /// Breakers that are not closed or have failures to remember: namespace, key, breaker.
    pub fn breakers(&self) -> impl Iterator<Item = (&Namespace, &str, &Breaker)> {
        self.gates
            .breakers()
            .map(|((ns, key), breaker)| (self.namespaces.get(*ns), key.as_str(), breaker))
    }

    /// The lease with this token, if it is in force.
    pub(crate) fn find_lease(&self, run: RunId, task: TaskIx, token: Token) -> Option<LeaseIx> {
        let run = self.run(run)?;
        if !run.dag.contains(task) {
            return None;
        }
        let ix = run.cell(task).lease()?;
        (self.leases[ix.0].token == token).then_some(ix)
    }

    /// What all workers that may be given work have together.
    pub(crate) fn total_capacity(&self) -> Resources {
        let mut total = Resources::none();
        for worker in self.workers.iter().filter(|w| w.status.is_present()) {
            total.add(&worker.capacity);
        }
        total
    }
}

/// Position of a namespace in [`Namespaces`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NamespaceIx(pub u32);

impl NamespaceIx {
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).expect("invariant: usize holds u32")
    }
}

/// The namespaces seen, with what their leases hold.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    known: Vec<Namespace>,
    by_name: BTreeMap<Namespace, NamespaceIx>,
    held: Vec<Holding>,
}

/// What the leases of a namespace hold.
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
