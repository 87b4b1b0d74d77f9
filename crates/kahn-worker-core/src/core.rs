//! The worker's state machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kahn_model::{CauseKind, Failure, OnDisconnect, Resources, Share, Timestamp, Token, Usage};

use crate::command::Command;
use crate::event::{Event, HeldAttempt, Inventory, Lease, Report, ReportKind, StopReason};
use crate::outbound::Outbound;
use crate::pressure::{PressureLimits, Sample, Throttle};
use crate::queue::Queue;

/// The settings of a worker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The total resources of running attempts.
    pub capacity: Resources,
    /// Time between two heartbeats.
    pub heartbeat_period: Duration,
    /// Safety margin before the end of the lease, for attempts with [`OnDisconnect::Stop`]. They
    /// are stopped this long before the coordinator may lease them to another worker. Covers the
    /// clock drift between the two hosts.
    pub fence_margin: Duration,
    /// The limits beyond which the worker accepts less than its capacity.
    pub pressure: PressureLimits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            capacity: Resources::none(),
            heartbeat_period: Duration::from_secs(1),
            fence_margin: Duration::from_secs(2),
            pressure: PressureLimits::default(),
        }
    }
}

#[derive(Debug)]
struct Held<P> {
    lease: Lease<P>,
    phase: Phase,
    is_stopping: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waits for free resources.
    Queued,
    /// Passed to its executor.
    Starting,
    /// Running.
    Started,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    /// Open, but the inventory is not confirmed yet.
    Greeting,
    Up,
}

/// The worker's state machine.
///
/// The driver passes each event to [`WorkerCore::handle`], and [`Event::DeadlineReached`] at
/// [`WorkerCore::next_deadline`]. It takes reports with [`WorkerCore::take_reports`] whenever the
/// stream has room.
#[derive(Debug)]
pub struct WorkerCore<P> {
    settings: Settings,
    used: Resources,
    held: BTreeMap<Token, Held<P>>,
    queue: Queue,
    /// Attempts to stop if the coordinator is unreachable, without those already stopping.
    fenced: BTreeSet<Token>,
    unacknowledged: BTreeMap<Token, Report>,
    outbound: Outbound,
    link: Link,
    is_draining: bool,
    throttle: Throttle,
    /// The share last sent to the coordinator.
    told_share: Share,
    lease_ttl: Duration,
    /// When the last heartbeat or inventory that the coordinator acknowledged was sent.
    contact_at: Timestamp,
    /// When the inventory of the current stream was sent.
    greeted_at: Timestamp,
    heartbeats: BTreeMap<u64, Timestamp>,
    next_heartbeat: u64,
    heartbeat_due: Timestamp,
    commands: Vec<Command<P>>,
}

impl<P: Clone> WorkerCore<P> {
    /// Creates a worker without leases, with the unacknowledged reports of a previous process.
    #[must_use]
    pub fn new(settings: Settings, left_behind: Vec<Report>) -> Self {
        let throttle = Throttle::new(settings.pressure);
        Self {
            settings,
            used: Resources::none(),
            held: BTreeMap::new(),
            queue: Queue::default(),
            fenced: BTreeSet::new(),
            unacknowledged: left_behind.into_iter().map(|r| (r.token, r)).collect(),
            outbound: Outbound::default(),
            link: Link::Down,
            is_draining: false,
            throttle,
            told_share: Share::ALL,
            lease_ttl: Duration::from_secs(15),
            contact_at: Timestamp::ZERO,
            greeted_at: Timestamp::ZERO,
            heartbeats: BTreeMap::new(),
            next_heartbeat: 0,
            heartbeat_due: Timestamp::ZERO,
            commands: Vec::new(),
        }
    }

    /// Takes back a lease that a previous process held, and whose attempt goes on. Returns whether the
    /// attempt is to be continued: not if a report of its end is left.
    ///
    /// Must be called before the first event.
    pub fn resume(&mut self, lease: Lease<P>) -> bool {
        let token = lease.token;
        if self.held.contains_key(&token) || self.unacknowledged.contains_key(&token) {
            return false;
        }
        self.used.add(&lease.resources);
        self.held.insert(token, Held { lease, phase: Phase::Starting, is_stopping: false });
        true
    }

    /// Handles an event at `now`, on the worker's own clock, and returns the resulting commands.
    pub fn handle(&mut self, now: Timestamp, event: Event<P>) -> Vec<Command<P>> {
        match event {
            Event::Connected => self.on_connected(now),
            Event::Disconnected => self.on_disconnected(),
            Event::Welcomed { lease_ttl } => self.on_welcomed(now, lease_ttl),
            Event::HeartbeatAcknowledged { number } => self.on_heartbeat_acknowledged(number),
            Event::Leased(lease) => self.on_leased(lease),
            Event::StopRequested { token, reason } => self.on_stop_requested(token, reason),
            Event::RecallRequested { token } => self.on_recall_requested(token),
            Event::Acknowledged { token } => self.on_acknowledged(token),
            Event::DrainRequested => self.on_drain_requested(),
            Event::AttemptStarted { token } => self.on_started(token),
            Event::AttemptFinished { token, outcome, usage, is_output_late } => {
                self.on_finished(token, ReportKind::Finished { outcome, usage, is_output_late });
            }
            Event::Measured(sample) => self.on_measured(now, sample),
            Event::DeadlineReached => self.on_deadline(now),
        }
        self.outbound.wait_from(now);
        std::mem::take(&mut self.commands)
    }

    /// Takes up to `max` reports to send. Returns none until the inventory is confirmed.
    pub fn take_reports(&mut self, max: usize) -> Vec<Report> {
        if self.link == Link::Up { self.outbound.take(max) } else { Vec::new() }
    }

    /// Returns whether [`WorkerCore::take_reports`] would return any reports.
    #[must_use]
    pub fn has_reports(&self) -> bool {
        self.link == Link::Up && !self.outbound.is_empty()
    }

    /// Returns when to take the waiting reports, or `None` without any. The time can be in the
    /// past. Reports are delayed a little while the worker has many queued leases, to batch them.
    #[must_use]
    pub fn reports_due(&self) -> Option<Timestamp> {
        self.outbound.due(self.queue.len()).filter(|_| self.link == Link::Up)
    }

    /// Returns when to pass [`Event::DeadlineReached`] next, or `None` if there is no deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let heartbeat = (self.link == Link::Up).then_some(self.heartbeat_due);
        let fence = (!self.fenced.is_empty()).then(|| self.fence_at());
        [heartbeat, fence].into_iter().flatten().min()
    }

    /// Returns the number of leases held.
    #[must_use]
    pub fn n_held(&self) -> usize {
        self.held.len()
    }

    /// Returns the resources in use by attempts.
    #[must_use]
    pub fn used(&self) -> &Resources {
        &self.used
    }

    /// Returns the share of its capacity that the worker accepts.
    #[must_use]
    pub fn share(&self) -> Share {
        self.throttle.share()
    }

    /// Returns the number of unacknowledged final reports.
    #[must_use]
    pub fn n_unacknowledged(&self) -> usize {
        self.unacknowledged.len()
    }

    /// Iterates over the held leases, with whether each was passed to its executor.
    pub fn held(&self) -> impl Iterator<Item = (&Lease<P>, bool)> {
        self.held.values().map(|held| (&held.lease, held.phase != Phase::Queued))
    }

    fn on_connected(&mut self, now: Timestamp) {
        self.link = Link::Greeting;
        self.greeted_at = now;
        self.outbound.clear();
        let held = self.held.values().map(|held| HeldAttempt {
            attempt: held.lease.attempt,
            token: held.lease.token,
            is_started: held.phase == Phase::Started,
        });
        let inventory = Inventory {
            held: held.collect(),
            unacknowledged: self.unacknowledged.values().cloned().collect(),
            is_draining: self.is_draining,
            admission: self.throttle.admission(now),
        };
        self.told_share = self.share();
        self.commands.push(Command::SendInventory(inventory));
    }

    fn on_disconnected(&mut self) {
        self.link = Link::Down;
        self.heartbeats.clear();
    }

    fn on_welcomed(&mut self, now: Timestamp, lease_ttl: Duration) {
        self.link = Link::Up;
        self.lease_ttl = lease_ttl;
        // The welcome may be late, so the time at which the confirmed inventory was sent counts.
        self.contact_at = self.contact_at.max(self.greeted_at);
        self.heartbeat_due = now + self.settings.heartbeat_period;
        if self.is_draining {
            self.commands.push(Command::SendDraining);
        }
        self.announce_share(now);
        self.leave_if_done();
    }

    /// Announces the accepted share if it differs from the one last announced.
    fn announce_share(&mut self, now: Timestamp) {
        if self.link == Link::Up && self.told_share != self.share() {
            self.told_share = self.share();
            self.commands.push(Command::SendAdmission(self.throttle.admission(now)));
        }
    }

    fn on_measured(&mut self, now: Timestamp, sample: Sample) {
        let n_running = self.held.len() - self.queue.len();
        if self.throttle.take(now, sample, n_running) {
            self.announce_share(now);
            self.start_queued();
        }
    }

    fn on_heartbeat_acknowledged(&mut self, number: u64) {
        if let Some(sent_at) = self.heartbeats.remove(&number) {
            self.contact_at = self.contact_at.max(sent_at);
            self.heartbeats.retain(|older, _| *older > number);
        }
    }

    fn on_leased(&mut self, lease: Lease<P>) {
        let token = lease.token;
        if self.held.contains_key(&token) || self.unacknowledged.contains_key(&token) {
            return;
        }
        if self.is_draining {
            self.outbound.push(Report {
                attempt: lease.attempt,
                token,
                kind: ReportKind::Returned,
            });
            return;
        }
        if lease.on_disconnect == OnDisconnect::Stop {
            self.fenced.insert(token);
        }
        let resources = Arc::clone(&lease.resources);
        self.held.insert(token, Held { lease, phase: Phase::Queued, is_stopping: false });
        if resources.is_none() {
            // It fits in any case, even if other leases are waiting.
            self.start(token);
        } else {
            self.queue.insert(&resources, token);
            self.start_queued();
        }
    }

    fn start(&mut self, token: Token) {
        let held = self.held.get_mut(&token).expect("invariant: what starts is held");
        held.phase = Phase::Starting;
        self.used.add(&held.lease.resources);
        self.commands.push(Command::Start(held.lease.clone()));
    }

    /// Starts all queued leases that fit, oldest first, skipping those that do not.
    fn start_queued(&mut self) {
        let share = self.share();
        while let Some(token) =
            self.queue.take_first_that_fits(&share.room(&self.settings.capacity, &self.used))
        {
            self.start(token);
        }
    }

    fn on_started(&mut self, token: Token) {
        let Some(held) = self.held.get_mut(&token) else { return };
        if held.phase == Phase::Starting {
            held.phase = Phase::Started;
            let attempt = held.lease.attempt;
            self.outbound.push(Report { attempt, token, kind: ReportKind::Started });
        }
    }

    fn on_finished(&mut self, token: Token, kind: ReportKind) {
        let Some(held) = self.held.remove(&token) else { return };
        self.fenced.remove(&token);
        match held.phase {
            Phase::Queued => drop(self.queue.remove(&held.lease.resources, token)),
            Phase::Starting | Phase::Started => self.used.subtract(&held.lease.resources),
        }
        self.queue_report(Report { attempt: held.lease.attempt, token, kind });
        self.start_queued();
        self.leave_if_done();
    }

    /// Queues a final report and stores it until it is acknowledged.
    fn queue_report(&mut self, report: Report) {
        self.unacknowledged.insert(report.token, report.clone());
        self.commands.push(Command::Keep(report.clone()));
        self.outbound.push(report);
    }

    fn on_stop_requested(&mut self, token: Token, reason: StopReason) {
        let Some(held) = self.held.get_mut(&token) else { return };
        if held.phase != Phase::Queued {
            if !held.is_stopping {
                held.is_stopping = true;
                self.fenced.remove(&token);
                self.commands.push(Command::Stop { token, reason });
            }
            return;
        }
        let cause = match reason {
            // The coordinator knows which timeout it exceeded. A new coordinator does not, and must
            // not take it for cancelled.
            StopReason::TimedOut => return self.on_recall_requested(token),
            // Preempted attempts are tried again: here the worker is the reason, not the caller.
            StopReason::CutOff | StopReason::Leaving => CauseKind::Preempted,
            StopReason::Cancelled | StopReason::Superseded => CauseKind::Cancelled,
        };
        let outcome = Err(Failure::of(cause));
        let (usage, is_output_late) = (Usage::default(), false);
        self.on_finished(token, ReportKind::Finished { outcome, usage, is_output_late });
    }

    fn on_recall_requested(&mut self, token: Token) {
        let Some(held) = self.held.get(&token) else { return };
        if !self.queue.remove(&held.lease.resources, token) {
            return;
        }
        let attempt = held.lease.attempt;
        self.held.remove(&token);
        self.fenced.remove(&token);
        self.outbound.push(Report { attempt, token, kind: ReportKind::Returned });
        self.leave_if_done();
    }

    fn on_acknowledged(&mut self, token: Token) {
        if self.unacknowledged.remove(&token).is_some() {
            self.commands.push(Command::Forget { token });
        }
        self.leave_if_done();
    }

    fn on_drain_requested(&mut self) {
        if self.is_draining {
            return;
        }
        self.is_draining = true;
        if self.link == Link::Up {
            self.commands.push(Command::SendDraining);
        }
        for token in self.queue.tokens() {
            self.on_recall_requested(token);
        }
        self.leave_if_done();
    }

    fn leave_if_done(&mut self) {
        if self.is_draining && self.held.is_empty() && self.unacknowledged.is_empty() {
            self.commands.push(Command::Leave);
        }
    }

    /// Returns when the attempts that must not outlive their leases have to be stopped.
    fn fence_at(&self) -> Timestamp {
        self.contact_at + self.lease_ttl.saturating_sub(self.settings.fence_margin)
    }

    fn on_deadline(&mut self, now: Timestamp) {
        if self.link == Link::Up && now >= self.heartbeat_due {
            self.next_heartbeat += 1;
            self.heartbeats.insert(self.next_heartbeat, now);
            self.heartbeat_due = now + self.settings.heartbeat_period;
            self.commands.push(Command::SendHeartbeat { number: self.next_heartbeat });
        }
        if now >= self.fence_at() {
            self.fence();
        }
    }

    /// Stops all attempts that must not run once another worker may have their lease.
    fn fence(&mut self) {
        for token in std::mem::take(&mut self.fenced) {
            self.on_stop_requested(token, StopReason::CutOff);
        }
    }
}

#[cfg(test)]
mod tests;
