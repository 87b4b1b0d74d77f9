//! Grants and releases leases, and accounts for the resources they hold.

use std::sync::Arc;
use std::time::Duration;

use kahn_model::{BootId, TaskIx, TaskState, Timestamp, Token, WorkerId};

use super::attempt::micros;
use crate::history::RecordKind;
use crate::state::{
    Breaker, Flags, Gate, Lease, LeaseIx, LeasePhase, RunIx, State, Timer, Worker, WorkerIx,
};
use crate::timing::Timing;

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

    /// Cordons or uncordons a worker.
    pub(crate) fn set_cordoned(&mut self, worker: &WorkerId, is_cordoned: bool) {
        // The mark of an unknown worker is kept until it attaches.
        let ix = self.worker_or_unknown(worker, BootId(0));
        self.workers[ix.index()].is_cordoned = is_cordoned;
        self.pool.mark(ix);
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
        let age = self.runs[ix.0].cell(task).age();
        let ready_at = self.leave_ready(ix, task);
        let namespace = self.runs[ix.0].namespace;
        self.timings.push(Timing::Leased { namespace, wait: self.now.since(ready_at) });
        let class = self.class_of(ix, task);
        let run_id = self.runs[ix.0].id();
        let lease = Lease {
            token,
            number,
            task,
            run_id,
            boot,
            ready_at,
            granted_at: self.now,
            started_at: None,
            run: ix,
            worker,
            class,
            phase: LeasePhase::Ahead,
            due: None,
            is_stopping: false,
            exceeded: None,
            is_recalled: false,
            age,
            resources: Arc::clone(&self.classes.get(class).resources),
        };
        let lease_ix = LeaseIx(self.leases.insert(lease));
        let position = self.runs[ix.0].worker_position(&self.workers[worker.index()].id);
        let run = &mut self.runs[ix.0];
        run.set_state(task, TaskState::Leased);
        let cell = run.cell_mut(task);
        cell.attempt = u16::try_from(number).unwrap_or(u16::MAX);
        cell.set_lease(lease_ix);
        run.n_held += 1;
        self.take(lease_ix);
        self.record_at(ix, self.now, RecordKind::TaskLeased, Some(task), position, None);
    }

    pub(super) fn apply_returned(&mut self, ix: RunIx, task: TaskIx) {
        self.release(ix, task);
        self.record(ix, RecordKind::TaskReturned, Some(task), None);
        let cell = self.runs[ix.0].cell_mut(task);
        cell.attempt -= 1;
        if cell.flags.has(Flags::CANCELLED) {
            self.cancel_task(ix, task);
            self.finish_if_done(ix);
        } else {
            self.make_ready(ix, task);
        }
    }

    /// Adds a new lease to all counters and indexes.
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
        self.workers[worker.index()].leases.insert(lease_ix);
        self.place_or_queue(worker, lease_ix, token);
        self.pool.mark(worker);
    }

    /// Places a new lease on its worker if there is room, or queues it. Leases that are queued
    /// already have no claim to this room, since they did not fit.
    fn place_or_queue(&mut self, worker: WorkerIx, lease_ix: LeaseIx, token: Token) {
        let worker = &mut self.workers[worker.index()];
        let resources = Arc::clone(&self.leases[lease_ix.0].resources);
        if resources.fits(&worker.room()) {
            worker.used.add(&resources);
            self.leases[lease_ix.0].phase = LeasePhase::Placed;
            self.watch_over(lease_ix);
            return;
        }
        let head = worker.ahead.first().map(|(_, head)| &self.leases[head.0].resources);
        worker.is_ahead_uniform =
            head.is_none_or(|head| worker.is_ahead_uniform && *head == resources);
        worker.ahead.insert((token, lease_ix));
    }

    /// Places queued leases of a worker, oldest first, skipping those that do not fit. The worker
    /// starts them by the same rule.
    pub(crate) fn place_queued(&mut self, worker_ix: WorkerIx) {
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
                worker.used.add(&lease.resources);
                room = worker.admission.share.room(&worker.capacity, &worker.used);
                placed.push((*token, *lease_ix));
            } else if worker.is_ahead_uniform {
                break;
            }
        }
        for entry in &placed {
            worker.ahead.remove(entry);
        }
        for (_, lease_ix) in placed {
            if self.leases[lease_ix.0].due.is_none() {
                self.watch_over(lease_ix);
            }
        }
    }

    /// Removes the lease of `task` from the state and returns it.
    pub(super) fn release(&mut self, ix: RunIx, task: TaskIx) -> Lease {
        let lease_ix = self.runs[ix.0].cell(task).lease().expect("invariant: the task is held");
        self.stop_lease_timers(lease_ix);
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
        self.place_queued(lease.worker);
        lease
    }

    /// Restarts the timer of a lease: the start timeout, or the run timeout once it has started. No
    /// timer runs while the lease waits for room, because the attempt is not responsible for that.
    ///
    /// The worker enforces the run timeout itself; this timer is a fallback.
    pub(crate) fn watch_over(&mut self, lease_ix: LeaseIx) {
        self.stop_lease_timers(lease_ix);
        let lease = &self.leases[lease_ix.0];
        let run = &self.runs[lease.run.0];
        let profile = run.dag.profile(lease.task);
        let span = match lease.phase {
            LeasePhase::Ahead => None,
            LeasePhase::Placed => profile.timeouts.start,
            LeasePhase::Started => profile.timeouts.run.map(|timeout| {
                let overruns = run.overruns.get(&lease.task).map_or(0, |overruns| overruns.time);
                let grown = profile.retry.timeout.apply(micros(timeout), overruns);
                let slack = profile.timeouts.grace.unwrap_or_default() + self.settings.lease_ttl;
                Duration::from_micros(grown).saturating_add(slack)
            }),
        };
        let Some(span) = span else { return };
        let due = self.now + span;
        self.timers.set(due, lease.timer());
        self.leases[lease_ix.0].due = Some(due);
    }

    fn stop_lease_timers(&mut self, lease_ix: LeaseIx) {
        let lease = &mut self.leases[lease_ix.0];
        if let Some(due) = lease.due.take() {
            // The phase may have changed since the timer was set.
            let (run, task, token) = (lease.run_id, lease.task, lease.token);
            self.timers.remove(due, Timer::Start(run, task, token));
            self.timers.remove(due, Timer::Run(run, task, token));
        }
    }

    /// Recomputes which leases of a worker have room, after its capacity or its accepted share
    /// changed. The timers of leases that must wait for room are stopped.
    pub(crate) fn recompute_lease_room(&mut self, ix: WorkerIx) {
        let worker = &mut self.workers[ix.index()];
        worker.used = kahn_model::Resources::none();
        worker.ahead.clear();
        worker.is_ahead_uniform = false;
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
        self.place_queued(ix);
        let waiting: Vec<_> =
            self.workers[ix.index()].ahead.iter().map(|(_, lease)| *lease).collect();
        for lease_ix in waiting {
            self.stop_lease_timers(lease_ix);
        }
    }

    /// Marks a lease as started. Its resources are counted even if they exceed the room; leases
    /// that have not started then lose theirs.
    pub(crate) fn note_started(&mut self, lease_ix: LeaseIx, at: Timestamp) {
        let lease = &mut self.leases[lease_ix.0];
        let was_placed = lease.holds_resources();
        lease.phase = LeasePhase::Started;
        lease.started_at = Some(at);
        if !was_placed {
            let worker = lease.worker;
            self.recompute_lease_room(worker);
        }
    }
}
