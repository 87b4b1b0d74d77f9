//! One worker, as its streams show it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kahn_model::{ActionKind, Admission, BootId, Labels, Resources, Timestamp, WorkerId};

use super::lease::LeaseIx;
use crate::event::SessionId;

/// Position of a worker in the state. Workers are never removed from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerIx(pub(crate) u32);

impl WorkerIx {
    pub(crate) fn index(self) -> usize {
        usize::try_from(self.0).expect("invariant: usize holds u32")
    }
}

/// Whether and how a worker is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkerStatus {
    /// Its stream is open and it was heard from.
    Attached,
    /// It was not heard from for a while, or its stream ended; it may come back.
    Suspect,
    /// It was not heard from for the whole of its leases, or has left.
    Lost,
}

impl WorkerStatus {
    /// Whether it counts as part of the cluster.
    #[must_use]
    pub fn is_present(self) -> bool {
        self != Self::Lost
    }

    /// The word for it in JSON and on the terminal; stable.
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
    /// Who it is.
    pub id: WorkerId,
    /// Which start of it.
    pub boot: BootId,
    /// Whether it is there.
    pub status: WorkerStatus,
    /// Whether it is to get no new leases.
    pub is_cordoned: bool,
    /// Whether it finishes what it holds and goes.
    pub is_draining: bool,
    /// All it has; nothing while it is known from the log only.
    pub capacity: Resources,
    /// What it says of itself.
    pub labels: Labels,
    /// What it can carry out.
    pub executors: BTreeSet<ActionKind>,
    /// Most leases that it holds at one time.
    pub leases_max: u32,
    /// How much of its capacity it accepts, as it said last; all when it says nothing. Its age is
    /// that of the moment when it was said.
    pub admission: Admission,
    /// Since when it accepts less than all.
    pub throttled_since: Option<Timestamp>,
    /// When it was last heard from.
    pub heard_at: Timestamp,
    pub(crate) session: Option<SessionId>,
    /// The latest on which it attached, open or not.
    pub(crate) latest_session: SessionId,
    /// What its placed and started leases take.
    pub(crate) used: Resources,
    pub(crate) leases: BTreeSet<LeaseIx>,
    /// Leases granted ahead of its room, oldest first by token.
    pub(crate) ahead: BTreeSet<(kahn_model::Token, LeaseIx)>,
    /// Whether all leases ahead are known to ask for the same.
    pub(crate) is_ahead_uniform: bool,
    /// How long its attempts take, as a moving average; `None` before the first.
    pub(crate) pace: Option<Duration>,
    pub(crate) has_silence_timer: bool,
    pub(crate) shape: Arc<Shape>,
}

/// What decides whether a worker can ever run a task. Many workers have the same.
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

    /// Whether it may get new leases.
    #[must_use]
    pub fn takes_leases(&self) -> bool {
        self.status == WorkerStatus::Attached && !self.is_cordoned && !self.is_draining
    }

    /// Whether it may hold one more lease.
    #[must_use]
    pub fn has_lease_room(&self) -> bool {
        usize::try_from(self.leases_max).is_ok_and(|max| self.n_leases() < max)
    }

    /// What it has left, of what it accepts.
    #[must_use]
    pub fn room(&self) -> Resources {
        self.admission.share.room(&self.capacity, &self.used)
    }

    /// Takes note of what it accepts, which it said now.
    pub(crate) fn note_admission(&mut self, now: Timestamp, admission: Admission) {
        self.admission = admission;
        let since = Timestamp(now.0.saturating_sub(micros(admission.age)));
        self.throttled_since = (!admission.share.is_all()).then_some(since);
    }

    /// What its attempts hold.
    #[must_use]
    pub fn used(&self) -> &Resources {
        &self.used
    }

    /// How many leases it holds.
    #[must_use]
    pub fn n_leases(&self) -> usize {
        self.leases.len()
    }

    /// How many of its leases wait for room.
    #[must_use]
    pub fn n_ahead(&self) -> usize {
        self.ahead.len()
    }

    /// How much of what it has is not open to new attempts that want some of it: in use, or not
    /// accepted. One that holds nothing may still be given something, but rather the others are.
    pub(crate) fn taken(&self, open: &Resources) -> Resources {
        let mut taken = self.capacity.clone();
        if self.admission.share.is_all() {
            taken.subtract(open);
        } else {
            taken.subtract(&open.min(&self.admission.share.of(&self.capacity)));
        }
        taken
    }

    /// Learns from one more attempt: an eighth of the average is new.
    pub(crate) fn learn_pace(&mut self, elapsed: Duration) {
        self.pace = Some(match self.pace {
            None => elapsed,
            Some(pace) => pace / 8 * 7 + elapsed / 8,
        });
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
