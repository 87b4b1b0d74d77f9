//! Leases are granted and given back, and what they hold goes with them.

use std::sync::Arc;

use kahn_model::{BootId, TaskIx, TaskState, Timestamp, Token, WorkerId};

use crate::history::RecordKind;
use crate::state::{
    Breaker, Flags, Gate, Lease, LeaseIx, LeasePhase, RunIx, State, Timer, Worker, WorkerIx,
};

impl State {
    pub(crate) fn worker_or_unknown(&mut self, id: &WorkerId, boot: BootId) -> WorkerIx {
        if let Some(ix) = self.worker_ix.get(id) {
            return *ix;
        }
        let at = u32::try_from(self.workers.len()).expect("invariant: below 2^32 workers");
        self.workers.push(Worker::unknown(id.clone(), boot));
        self.worker_ix.insert(id.clone(), WorkerIx(at));
        WorkerIx(at)
    }

    pub(super) fn apply_granted(
        &mut self,
        ix: RunIx,
        task: TaskIx,
        number: u32,
        token: Token,
        worker: WorkerIx,
        boot: BootId,
    ) {
        self.leave_ready(ix, task);
        let class = self.class_of(ix, task);
        let run_id = self.runs[ix.0].id();
        let lease = Lease {
            token,
            number,
            task,
            run_id,
            boot,
            granted_at: self.now,
            started_at: None,
            run: ix,
            worker,
            class,
            phase: LeasePhase::Ahead,
            is_stopping: false,
            is_recalled: false,
            resources: Arc::clone(&self.classes.get(class).resources),
        };
        let start = self.runs[ix.0].dag.profile(task).timeouts.start;
        let lease_ix = LeaseIx(self.leases.insert(lease));
        let position = self.runs[ix.0].worker_position(&self.workers[worker.index()].id);
        let run = &mut self.runs[ix.0];
        run.set_state(task, TaskState::Leased);
        let cell = run.cell_mut(task);
        cell.attempt = u16::try_from(number).unwrap_or(u16::MAX);
        cell.set_lease(lease_ix);
        run.n_held += 1;
        self.take(lease_ix);
        if let Some(timeout) = start {
            self.timers.set(self.now + timeout, Timer::Start(run_id, task, token));
        }
        self.record_at(ix, self.now, RecordKind::TaskLeased, Some(task), position, None);
    }

    pub(super) fn apply_returned(&mut self, ix: RunIx, task: TaskIx) {
        self.release(ix, task);
        self.record(ix, RecordKind::TaskReturned, Some(task), None);
        let cell = self.runs[ix.0].cell_mut(task);
        cell.attempt -= 1;
        if cell.flags.has(Flags::CALLED_OFF) {
            self.settle(ix, task, TaskState::Cancelled, RecordKind::TaskCancelled, None);
            self.finish_if_done(ix);
        } else {
            self.make_ready(ix, task);
        }
    }

    /// Enters a new lease wherever leases count.
    pub(crate) fn take(&mut self, lease_ix: LeaseIx) {
        let lease = &self.leases[lease_ix.0];
        let (token, worker, class) = (lease.token, lease.worker, lease.class);
        let namespace = self.runs[lease.run.0].namespace;
        let class = Arc::clone(self.classes.get(class));
        self.namespaces.hold(namespace, &class.resources);
        for limit in &class.concurrency {
            self.gates.take_key((namespace, limit.key.clone()));
        }
        if let Some(circuit) = &class.circuit {
            let key = (namespace, circuit.key.clone());
            let breaker = self.gates.breaker(&key);
            self.gates.set_breaker(key, Breaker { held: breaker.held + 1, ..breaker });
        }
        let worker = &mut self.workers[worker.index()];
        worker.leases.insert(lease_ix);
        worker.ahead.insert((token, lease_ix));
        let worker = self.leases[lease_ix.0].worker;
        self.pool.mark(worker);
        self.promote(worker);
    }

    /// Gives the worker's room to the leases that wait for it, the oldest first, skipping those
    /// that do not fit: the same rule by which the worker starts them.
    pub(crate) fn promote(&mut self, worker_ix: WorkerIx) {
        let worker = &mut self.workers[worker_ix.index()];
        if worker.ahead.is_empty() {
            return;
        }
        let mut room = worker.room();
        let mut placed = Vec::new();
        for (token, lease_ix) in &worker.ahead {
            let lease = &mut self.leases[lease_ix.0];
            if lease.resources.fits(&room) {
                lease.phase = LeasePhase::Placed;
                room.subtract(&lease.resources);
                worker.used.add(&lease.resources);
                placed.push((*token, *lease_ix));
            } else if room.is_none() {
                break;
            }
        }
        for entry in placed {
            worker.ahead.remove(&entry);
        }
    }

    /// Takes the lease of `task` out of everything and gives it to the caller.
    pub(super) fn release(&mut self, ix: RunIx, task: TaskIx) -> Lease {
        let lease_ix = self.runs[ix.0].cell(task).lease().expect("invariant: the task is held");
        let lease = self.leases.remove(lease_ix.0);
        let run = &mut self.runs[ix.0];
        run.n_held -= 1;
        let namespace = run.namespace;
        let is_limited = run.dag.policy().max_parallel.is_some();
        let class = Arc::clone(self.classes.get(lease.class));
        self.namespaces.release(namespace, &class.resources);
        for limit in &class.concurrency {
            let key = (namespace, limit.key.clone());
            self.gates.drop_key(&key);
            self.open_gate(&Gate::Key(key));
        }
        if let Some(circuit) = &class.circuit {
            let key = (namespace, circuit.key.clone());
            let breaker = self.gates.breaker(&key);
            self.gates.set_breaker(key.clone(), Breaker { held: breaker.held - 1, ..breaker });
            self.open_gate(&Gate::Breaker(key));
        }
        if is_limited {
            self.open_gate(&Gate::Run(ix));
        }
        let worker = &mut self.workers[lease.worker.index()];
        worker.leases.remove(&lease_ix);
        if lease.holds_resources() {
            worker.used.subtract(&lease.resources);
        } else {
            worker.ahead.remove(&(lease.token, lease_ix));
        }
        self.pool.mark(lease.worker);
        self.promote(lease.worker);
        lease
    }

    /// Computes anew which leases of a worker have room, after it came with a capacity.
    pub(crate) fn settle_room(&mut self, ix: WorkerIx) {
        let worker = &mut self.workers[ix.index()];
        worker.used = kahn_model::Resources::none();
        worker.ahead.clear();
        for lease_ix in &worker.leases {
            let lease = &mut self.leases[lease_ix.0];
            if lease.phase == LeasePhase::Started {
                worker.used.add(&lease.resources);
            } else {
                lease.phase = LeasePhase::Ahead;
                worker.ahead.insert((lease.token, *lease_ix));
            }
        }
        self.pool.mark(ix);
        self.promote(ix);
    }

    /// Marks a lease as started and makes sure that its resources count.
    pub(crate) fn note_started(&mut self, lease_ix: LeaseIx, at: Timestamp) {
        let lease = &mut self.leases[lease_ix.0];
        let worker = &mut self.workers[lease.worker.index()];
        if !lease.holds_resources() {
            worker.ahead.remove(&(lease.token, lease_ix));
            worker.used.add(&lease.resources);
            self.pool.mark(lease.worker);
        }
        lease.phase = LeasePhase::Started;
        lease.started_at = Some(at);
    }
}
