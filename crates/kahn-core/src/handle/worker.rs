//! Handles workers that attach, send heartbeats, fall silent and leave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kahn_model::{Admission, Cause, CauseKind, Failure, RunId, Usage, WorkerId};

use crate::change::Change;
use crate::command::{Command, StopReason};
use crate::core::Core;
use crate::event::{Attachment, Held, SessionId};
use crate::refusal::Refusal;
use crate::state::{Flags, LeaseIx, LeasePhase, Shape, Timer, WorkerIx, WorkerStatus};

impl Core {
    pub(crate) fn on_worker_attached(&mut self, attachment: Attachment) {
        let Attachment { session, worker, boot, held, unacknowledged, .. } = &attachment;
        let (session, boot) = (*session, *boot);
        let ix = self.state.worker_or_unknown(worker, boot);
        if self.state.sessions.get(&session).is_some_and(|other| *other != ix) {
            self.on_worker_detached(session);
        }
        let known = &mut self.state.workers[ix.index()];
        if session < known.latest_session {
            // The stream was opened before the current one, so its contents are outdated.
            self.command(Command::Disconnect { session });
            return;
        }
        if let Some(current) = known.session.take().filter(|current| *current != session) {
            self.state.sessions.remove(&current);
            self.command(Command::Disconnect { session: current });
        }
        self.state.sessions.insert(session, ix);
        let (held, unacknowledged) = (held.clone(), unacknowledged.clone());
        self.admit(ix, attachment);
        self.command(Command::Welcome { session });
        if self.state.workers[ix.index()].is_draining {
            self.command(Command::Drain { session });
        }
        for report in unacknowledged {
            self.take_report(session, ix, report);
        }
        self.reconcile(ix, session, &held);
        self.state.recompute_lease_room(ix);
    }

    fn admit(&mut self, ix: WorkerIx, attachment: Attachment) {
        let now = self.state.now;
        let worker = &mut self.state.workers[ix.index()];
        // A restart ends a drain; a reconnect does not.
        worker.is_draining &= worker.boot == attachment.boot;
        worker.boot = attachment.boot;
        worker.session = Some(attachment.session);
        worker.latest_session = attachment.session;
        worker.status = WorkerStatus::Attached;
        worker.leases_max = attachment.leases_max.max(1);
        worker.heard_at = now;
        worker.executors = attachment.executors.into_iter().collect();
        worker.capacity = attachment.capacity;
        worker.labels = attachment.labels;
        worker.note_admission(now, attachment.admission);
        worker.shape = Arc::new(Shape {
            capacity: worker.capacity.clone(),
            labels: worker.labels.clone(),
            executors: worker.executors.clone(),
        });
        self.state.pool.total = None;
        let worker = &self.state.workers[ix.index()];
        if let Some(pool) = self.state.known_pools.iter_mut().find(|pool| pool.has(worker)) {
            pool.learn(worker);
        }
        self.watch_silence(ix);
    }

    /// Reconciles the leases that a worker reports with those that it should hold.
    fn reconcile(&mut self, ix: WorkerIx, session: SessionId, held: &[Held]) {
        let boot = self.state.workers[ix.index()].boot;
        let mut theirs = BTreeMap::new();
        for item in held {
            let known = self.state.find_lease(item.attempt.run, item.attempt.task, item.token);
            match known.filter(|lease| self.state.leases[lease.0].worker == ix) {
                Some(lease) => {
                    theirs.insert(lease, item.is_started);
                }
                None => self.command(Command::Stop {
                    session,
                    attempt: item.attempt,
                    token: item.token,
                    reason: StopReason::Superseded,
                }),
            }
        }
        for lease_ix in self.leases_in_order(ix) {
            match theirs.get(&lease_ix) {
                Some(is_started) => self.adopt(lease_ix, *is_started),
                None => self.miss(lease_ix, boot),
            }
        }
    }

    /// Returns the leases of a worker in the order in which they were granted. Unlike the order of
    /// their indexes, it does not depend on how the state was recovered.
    fn leases_in_order(&self, ix: WorkerIx) -> Vec<LeaseIx> {
        let worker = &self.state.workers[ix.index()];
        let mut leases: Vec<LeaseIx> = worker.leases.iter().copied().collect();
        leases.sort_unstable_by_key(|lease| self.state.leases[lease.0].token);
        leases
    }

    /// Continues an attempt that the worker still holds.
    fn adopt(&mut self, lease_ix: LeaseIx, is_started: bool) {
        let lease = &mut self.state.leases[lease_ix.0];
        // Requests sent on an earlier stream may not have arrived.
        lease.is_recalled = false;
        let was_timed_out = std::mem::take(&mut lease.is_stopping);
        let (run, task, phase) = (lease.run_id, lease.task, lease.phase);
        if is_started && phase != LeasePhase::Started {
            self.emit(Change::AttemptStarted { run, task });
        }
        let is_cancelled =
            self.state.run(run).is_some_and(|r| r.cell(task).flags.has(Flags::CANCELLED));
        if is_cancelled {
            self.stop(lease_ix, StopReason::Cancelled);
        } else if was_timed_out {
            self.stop(lease_ix, StopReason::TimedOut);
        }
    }

    /// Handles a lease that the worker does not hold. If the same boot never reported a start, the
    /// lease never arrived, since workers keep reports until they are acknowledged.
    fn miss(&mut self, lease_ix: LeaseIx, boot: kahn_model::BootId) {
        let lease = &self.state.leases[lease_ix.0];
        if lease.boot == boot && lease.phase != LeasePhase::Started {
            self.end_unstarted(lease_ix);
        } else {
            let worker = &self.state.workers[lease.worker.index()].id;
            let message = format!("{worker} came back without it");
            let failure = Failure::new(Cause::of(CauseKind::WorkerLost), &message);
            self.finish(lease_ix, Err(failure), Usage::default());
        }
    }

    pub(crate) fn on_worker_detached(&mut self, session: SessionId) {
        let Some(ix) = self.state.sessions.remove(&session) else { return };
        let worker = &mut self.state.workers[ix.index()];
        worker.session = None;
        worker.status = WorkerStatus::Suspect;
        self.state.pool.mark(ix);
        let worker = &mut self.state.workers[ix.index()];
        if worker.is_draining && worker.leases.is_empty() {
            worker.status = WorkerStatus::Lost;
            self.state.pool.total = None;
        }
        self.watch_silence(ix);
    }

    pub(crate) fn on_heartbeat(&mut self, session: SessionId) -> Result<(), Refusal> {
        self.mark_alive(session).map(|_| ())
    }

    pub(crate) fn on_drain_started(&mut self, session: SessionId) -> Result<(), Refusal> {
        let ix = self.mark_alive(session)?;
        self.state.workers[ix.index()].is_draining = true;
        self.state.pool.mark(ix);
        Ok(())
    }

    pub(crate) fn on_admission_changed(
        &mut self,
        session: SessionId,
        admission: Admission,
    ) -> Result<(), Refusal> {
        let ix = self.mark_alive(session)?;
        let now = self.state.now;
        self.state.workers[ix.index()].note_admission(now, admission);
        self.state.recompute_lease_room(ix);
        Ok(())
    }

    pub(crate) fn on_cordon_requested(
        &mut self,
        worker: &WorkerId,
        is_cordoned: bool,
    ) -> Result<(), Refusal> {
        let ix = self.worker_or_refuse(worker)?;
        if self.state.workers[ix.index()].is_cordoned != is_cordoned {
            self.emit(Change::WorkerCordoned { worker: worker.clone(), is_cordoned });
        }
        Ok(())
    }

    pub(crate) fn on_drain_requested(&mut self, worker: &WorkerId) -> Result<(), Refusal> {
        let ix = self.worker_or_refuse(worker)?;
        let entry = &mut self.state.workers[ix.index()];
        entry.is_draining = true;
        self.state.pool.mark(ix);
        let entry = &self.state.workers[ix.index()];
        if let Some(session) = entry.session {
            self.command(Command::Drain { session });
        }
        Ok(())
    }

    fn worker_or_refuse(&self, id: &WorkerId) -> Result<WorkerIx, Refusal> {
        self.state.worker_ix.get(id).copied().ok_or_else(|| Refusal::UnknownWorker(id.clone()))
    }

    /// Records that a worker is alive.
    pub(crate) fn mark_alive(&mut self, session: SessionId) -> Result<WorkerIx, Refusal> {
        let ix = *self.state.sessions.get(&session).ok_or(Refusal::StaleSession)?;
        let now = self.state.now;
        let worker = &mut self.state.workers[ix.index()];
        worker.heard_at = now;
        if worker.status != WorkerStatus::Attached {
            worker.status = WorkerStatus::Attached;
            self.state.pool.mark(ix);
        }
        Ok(ix)
    }

    /// Starts the timer that detects silence. There is one timer per worker, and it renews itself.
    pub(crate) fn watch_silence(&mut self, ix: WorkerIx) {
        let worker = &mut self.state.workers[ix.index()];
        if worker.has_silence_timer {
            return;
        }
        worker.has_silence_timer = true;
        let at = worker.heard_at + self.state.settings.suspect_after;
        self.state.timers.set(at, Timer::Silence(ix));
    }

    /// Checks whether a worker has been silent for too long.
    pub(crate) fn on_silence(&mut self, ix: WorkerIx) {
        let (now, settings) = (self.state.now, &self.state.settings);
        let (suspect_after, lease_ttl) = (settings.suspect_after, settings.lease_ttl);
        let worker = &mut self.state.workers[ix.index()];
        worker.has_silence_timer = false;
        let silence = now.since(worker.heard_at);
        if worker.status == WorkerStatus::Lost && worker.leases.is_empty() {
            return;
        }
        if silence >= lease_ttl {
            self.mark_lost(ix);
            return;
        }
        let next = if silence >= suspect_after {
            worker.status = WorkerStatus::Suspect;
            self.state.pool.mark(ix);
            worker.heard_at + lease_ttl
        } else {
            worker.heard_at + suspect_after
        };
        self.state.workers[ix.index()].has_silence_timer = true;
        self.state.timers.set(next, Timer::Silence(ix));
    }

    /// Marks a worker as lost and ends all its leases.
    fn mark_lost(&mut self, ix: WorkerIx) {
        let worker = &mut self.state.workers[ix.index()];
        worker.status = WorkerStatus::Lost;
        self.state.pool.total = None;
        self.state.pool.mark(ix);
        let worker = &mut self.state.workers[ix.index()];
        let id = worker.id.clone();
        if let Some(session) = worker.session.take() {
            self.state.sessions.remove(&session);
            self.command(Command::Disconnect { session });
        }
        let leases = self.leases_in_order(ix);
        let runs: BTreeSet<RunId> =
            leases.iter().map(|lease| self.state.leases[lease.0].run_id).collect();
        for run in runs {
            self.emit(Change::WorkerLost { run, worker: id.clone() });
        }
        let message = format!("nothing was heard of {id} for {:?}", self.state.settings.lease_ttl);
        let failure = Failure::new(Cause::of(CauseKind::WorkerLost), &message);
        for lease in leases {
            self.finish(lease, Err(failure.clone()), Usage::default());
        }
    }
}
