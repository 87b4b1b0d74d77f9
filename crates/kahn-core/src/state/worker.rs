//! A worker, as known from its streams.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kahn_model::{ActionKind, Admission, BootId, Labels, Resources, Timestamp, WorkerId};

use super::lease::LeaseIx;
use crate::event::SessionId;

/// Index of a worker in the state. Workers are never removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerIx(pub(crate) u32);

impl WorkerIx {
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).expect("invariant: usize holds u32")
    }
}

/// Whether a worker is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkerStatus {
    /// Its stream is open and its heartbeats arrive.
    Attached,
    /// It has been silent for a while, or its stream ended; it may come back.
    Suspect,
    /// It has been silent for longer than the lease duration, or has left.
    Lost,
}

impl WorkerStatus {
    /// Returns whether it counts as part of the cluster.
    #[must_use]
    pub fn is_present(self) -> bool {
        self != Self::Lost
    }

    /// Returns the stable name used in JSON and on the terminal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Suspect => "suspect",
            Self::Lost => "lost",
        }
    }
}

/// One worker.
#[derive(Debug)]
pub struct Worker {
    /// The worker's id.
    pub id: WorkerId,
    /// Its boot id.
    pub boot: BootId,
    /// Whether it is present.
    pub status: WorkerStatus,
    /// Whether it gets no new leases.
    pub is_cordoned: bool,
    /// Whether it finishes the leases it holds and then leaves.
    pub is_draining: bool,
    /// Total capacity; empty if the worker is known only from the log.
    pub capacity: Resources,
    /// Its labels.
    pub labels: Labels,
    /// The kinds of action that it can execute.
    pub executors: BTreeSet<ActionKind>,
    /// Maximum number of leases that it holds at a time.
    pub leases_max: u32,
    /// The share of its capacity that it accepts, as last reported; all of it by default. The age
    /// is relative to the time of the report.
    pub admission: Admission,
    /// Time since which it accepts less than its full capacity.
    pub throttled_since: Option<Timestamp>,
    /// When the last message from it arrived.
    pub heard_at: Timestamp,
    pub(crate) session: Option<SessionId>,
    /// The latest session with which it attached, open or closed.
    pub(crate) latest_session: SessionId,
    /// Resources held by its placed and started leases.
    pub(crate) used: Resources,
    pub(crate) leases: BTreeSet<LeaseIx>,
    /// Leases that wait for room, oldest first by token.
    pub(crate) ahead: BTreeSet<(kahn_model::Token, LeaseIx)>,
    /// Whether all waiting leases are known to have the same requirements.
    pub(crate) is_ahead_uniform: bool,
    /// Moving average of the duration of its attempts; `None` before the first one.
    pub(crate) pace: Option<Duration>,
    pub(crate) has_silence_timer: bool,
    pub(crate) shape: Arc<Shape>,
}

/// The properties that decide whether a worker can ever run a task. Many workers share a shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// What its tasks may use together.
    pub capacity: Resources,
    /// What it says of itself, for tasks to select it by.
    pub labels: Labels,
    /// The kinds of actions that it carries out.
    pub executors: BTreeSet<ActionKind>,
}

impl Worker {
    pub(crate) fn unknown(id: WorkerId, boot: BootId) -> Self {
        Self {
            id,
            boot,
            status: WorkerStatus::Lost,
            is_cordoned: false,
            is_draining: false,
            capacity: Resources::none(),
            labels: Labels::new(),
            executors: BTreeSet::new(),
            leases_max: 0,
            admission: Admission::default(),
            throttled_since: None,
            heard_at: Timestamp::ZERO,
            session: None,
            latest_session: SessionId::default(),
            used: Resources::none(),
            leases: BTreeSet::new(),
            ahead: BTreeSet::new(),
            is_ahead_uniform: false,
            pace: None,
            has_silence_timer: false,
            shape: Arc::default(),
        }
    }

    /// Returns whether it may get new leases.
    #[must_use]
    pub fn takes_leases(&self) -> bool {
        self.status == WorkerStatus::Attached && !self.is_cordoned && !self.is_draining
    }

    /// Returns whether it may hold one more lease.
    #[must_use]
    pub fn has_lease_room(&self) -> bool {
        usize::try_from(self.leases_max).is_ok_and(|max| self.n_leases() < max)
    }

    /// Returns the remaining part of the capacity that it accepts.
    #[must_use]
    pub fn room(&self) -> Resources {
        self.admission.share.room(&self.capacity, &self.used)
    }

    /// Records the admission that it reported at `now`.
    pub(crate) fn note_admission(&mut self, now: Timestamp, admission: Admission) {
        self.admission = admission;
        let since = Timestamp(now.0.saturating_sub(micros(admission.age)));
        self.throttled_since = (!admission.share.is_all()).then_some(since);
    }

    /// Returns the resources that its attempts hold.
    #[must_use]
    pub fn used(&self) -> &Resources {
        &self.used
    }

    /// Returns the number of leases it holds.
    #[must_use]
    pub fn n_leases(&self) -> usize {
        self.leases.len()
    }

    /// Returns the number of its leases that wait for room.
    #[must_use]
    pub fn n_ahead(&self) -> usize {
        self.ahead.len()
    }

    /// Returns the part of its capacity that is not available to new attempts, because it is in use
    /// or not accepted. An idle worker may still get an attempt, but workers with less taken are
    /// preferred.
    pub(crate) fn taken(&self, open: &Resources) -> Resources {
        let mut taken = self.capacity.clone();
        if self.admission.share.is_all() {
            taken.subtract(open);
        } else {
            taken.subtract(&open.min(&self.admission.share.of(&self.capacity)));
        }
        taken
    }

    /// Updates the pace with one more attempt; its weight is one eighth.
    pub(crate) fn update_pace(&mut self, elapsed: Duration) {
        self.pace = Some(match self.pace {
            None => elapsed,
            Some(pace) => pace / 8 * 7 + elapsed / 8,
        });
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
