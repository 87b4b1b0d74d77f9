//! The auditor: recomputes incrementally maintained values from leases and tasks, and reports
//! differences. Any difference is a bug.

use std::collections::{BTreeMap, BTreeSet};

use kahn_model::{Resources, TaskState};

use crate::core::Core;
use crate::state::{
    GateKey, Holding, LeasePhase, NamespaceIx, Run, RunIx, State, Worker, WorkerIx,
};

impl Core {
    /// Returns all inconsistencies in the state; empty if it is consistent.
    #[must_use]
    pub fn audit(&self) -> Vec<String> {
        let mut findings = Vec::new();
        self.state.audit_runs(&mut findings);
        self.state.audit_archived(&mut findings);
        self.state.audit_leases(&mut findings);
        self.state.audit_ready(&mut findings);
        self.state.audit_workers(&mut findings);
        self.audit_parked(&mut findings);
        findings
    }

    /// A lane may be parked only while a gate holds it back that will unpark it when it opens.
    fn audit_parked(&self, findings: &mut Vec<String>) {
        let is_due = self.next_deadline().is_some_and(|due| due <= self.state.now);
        for (ix, lane) in self.state.ready.lanes() {
            let is_out_of_sight = lane.parked_at().is_some() && lane.head().is_some();
            if is_out_of_sight && self.gate_of(ix).is_none() && !is_due {
                let run = self.state.runs[lane.run.0].id();
                findings.push(format!("run {run}: tasks are held back by {:?}", lane.parked_at()));
            }
        }
    }

    /// Corrects the use of resources and keys, and returns the number of findings of
    /// [`Core::audit`]. A number other than zero indicates a bug.
    pub fn repair(&mut self) -> usize {
        let n_findings = self.audit().len();
        if n_findings > 0 {
            let (held, keys) = self.state.expected_use();
            self.state.namespaces.replace(held);
            self.state.gates.replace_keys(keys);
            for at in 0..self.state.workers.len() {
                let ix = u32::try_from(at).expect("invariant: below 2^32 workers");
                self.state.recompute_lease_room(WorkerIx(ix));
            }
        }
        n_findings
    }
}

impl State {
    fn audit_runs(&self, findings: &mut Vec<String>) {
        for run in self.runs() {
            let mut counts = [0; TaskState::ALL.len()];
            for task in run.dag.tasks() {
                counts[usize::from(run.cell(task).state.number())] += 1;
            }
            if counts != run.counts {
                findings.push(format!(
                    "run {}: counts {:?}, found {counts:?}",
                    run.id(),
                    run.counts
                ));
            }
            let n_held = run.count(TaskState::Leased) + run.count(TaskState::Running);
            if n_held != run.n_held {
                findings.push(format!("run {}: {} held, found {n_held}", run.id(), run.n_held));
            }
            if run.state.is_terminal() && n_held > 0 {
                findings.push(format!("run {} has ended and holds {n_held} leases", run.id()));
            }
        }
    }

    fn audit_archived(&self, findings: &mut Vec<String>) {
        for archived in self.archived_runs() {
            let id = archived.run;
            if self.run(id).is_some() {
                findings.push(format!("run {id} is archived and still in memory"));
            }
            if !archived.state.is_terminal() {
                findings.push(format!("run {id} is archived and {}", archived.state));
            }
        }
    }

    fn audit_leases(&self, findings: &mut Vec<String>) {
        let mut tokens = BTreeSet::new();
        for (at, lease) in self.leases.iter() {
            let cell = self.runs[lease.run.0].cell(lease.task);
            if cell.lease().map(|ix| ix.0) != Some(at) {
                findings.push(format!("{:?} has a lease that it does not know", lease.attempt()));
            }
            if !tokens.insert(lease.token) {
                findings.push(format!("token {} is in force twice", lease.token));
            }
        }
        let (held, keys) = self.expected_use();
        for (namespace, expected) in &held {
            if self.namespaces.held(*namespace) != expected {
                findings
                    .push(format!("namespace {}: use differs", self.namespaces.get(*namespace)));
            }
        }
        if keys != *self.gates.keys() {
            findings.push(format!("keys {:?}, found {keys:?}", self.gates.keys()));
        }
    }

    /// Computes the use of namespaces and keys from the leases in force.
    fn expected_use(&self) -> (BTreeMap<NamespaceIx, Holding>, BTreeMap<GateKey, u32>) {
        let mut held: BTreeMap<NamespaceIx, Holding> = BTreeMap::new();
        let mut keys = BTreeMap::new();
        for namespace in self.namespaces.all() {
            held.insert(namespace, Holding::default());
        }
        for (_, lease) in self.leases.iter() {
            let namespace = self.runs[lease.run.0].namespace;
            let class = self.classes.get(lease.class);
            let entry = held.entry(namespace).or_default();
            entry.resources.add(&class.resources);
            entry.n_leases += 1;
            for limit in &class.concurrency {
                *keys.entry((namespace, limit.key.clone())).or_default() += 1;
            }
        }
        (held, keys)
    }

    fn audit_ready(&self, findings: &mut Vec<String>) {
        let mut listed: BTreeMap<RunIx, BTreeSet<kahn_model::TaskIx>> = BTreeMap::new();
        for (_, lane) in self.ready.lanes() {
            listed.entry(lane.run).or_default().extend(lane.tasks());
        }
        for (ix, run) in self.run_ix.values().map(|ix| (*ix, &self.runs[ix.0])) {
            let is_ready = |task: &kahn_model::TaskIx| run.cell(*task).state == TaskState::Ready;
            let expected: BTreeSet<_> = run.dag.tasks().filter(is_ready).collect();
            if listed.remove(&ix).unwrap_or_default() != expected {
                findings.push(format!("run {}: the ready set differs", run.id()));
            }
            findings.extend(pending_findings(run));
        }
        if !listed.values().all(BTreeSet::is_empty) {
            findings.push("the ready set holds tasks of unknown runs".to_owned());
        }
    }

    fn audit_workers(&self, findings: &mut Vec<String>) {
        for worker in &self.workers {
            let (mut used, mut started) = (Resources::none(), Resources::none());
            let mut n_ahead = 0;
            for lease in worker.leases.iter().map(|ix| &self.leases[ix.0]) {
                if lease.holds_resources() {
                    used.add(&lease.resources);
                } else {
                    n_ahead += 1;
                }
                if lease.phase == LeasePhase::Started {
                    started.add(&lease.resources);
                }
            }
            if used != worker.used || n_ahead != worker.ahead.len() {
                findings.push(format!("worker {}: use {}, found {used}", worker.id, worker.used));
            }
            // A worker may start leases even without room for them.
            let may_exceed = worker.capacity.is_none() || !started.fits(&worker.capacity);
            if !may_exceed && !used.fits(&worker.capacity) {
                findings.push(format!("worker {} is given more than it has: {used}", worker.id));
            }
            if self.is_overfilled(worker) {
                findings.push(format!("worker {} is given more than it accepts", worker.id));
            }
        }
    }
}

impl State {
    /// Returns whether placed leases that have not started exceed what the worker accepts. Started
    /// leases may exceed a share that was reduced later, and a single lease may always exceed it.
    fn is_overfilled(&self, worker: &Worker) -> bool {
        let accepted = worker.admission.share.of(&worker.capacity);
        worker.used().iter().any(|(resource, used)| {
            let holders = || {
                let leases = worker.leases.iter().map(|ix| &self.leases[ix.0]);
                leases.filter(|l| l.holds_resources() && l.resources.get(&resource) > 0)
            };
            let is_waited_for = holders().any(|lease| lease.phase == LeasePhase::Placed);
            used > accepted.get(&resource) && is_waited_for && holders().count() > 1
        })
    }
}

fn pending_findings(run: &Run) -> Option<String> {
    let differs = |task: &kahn_model::TaskIx| {
        let cell = run.cell(*task);
        cell.state == TaskState::Pending && cell.pending != crate::apply::open_edges(run, *task)
    };
    let task = run.dag.tasks().find(differs)?;
    let (found, kept) = (crate::apply::open_edges(run, task), run.cell(task).pending);
    Some(format!("run {}: {task:?} waits for {kept}, found {found}", run.id()))
}
