//! The faults.

use std::time::Duration;

use fastrand::Rng;

use crate::coordinators::{Coordinators, Part};

/// A fault with a beginning and an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Kills a part with SIGKILL and starts it again after a pause.
    Kill { part: Part, is_leader: bool, pause: Duration },
    /// Kills a coordinator, removes its data directory, and starts it again.
    KillAndErase { ix: usize, is_leader: bool },
    /// Stops the leader with SIGTERM and starts it again.
    Stop { ix: usize },
    /// Pauses a part with SIGSTOP.
    Pause { part: Part, is_leader: bool, pause: Duration },
}

impl Fault {
    pub(super) fn draw(rng: &mut Rng, cluster: &Coordinators) -> Self {
        let leader =
            (0..cluster.n_coordinators()).find(|ix| cluster.has_role(*ix, "leader")).unwrap_or(0);
        let any = rng.usize(..cluster.n_coordinators());
        let ix = if rng.bool() { leader } else { any };
        let is_leader = ix == leader;
        let worker = Part::Worker(rng.usize(..cluster.n_workers()));
        let mut pause = |from: u64, to: u64| Duration::from_millis(rng.u64(from..=to));
        let (short, long) = (pause(0, 2000), pause(500, 8000));
        match rng.u32(..20) {
            0..6 => Self::Kill { part: Part::Coordinator(ix), is_leader, pause: short },
            6..8 => Self::KillAndErase { ix, is_leader },
            8..11 => Self::Stop { ix: leader },
            11..14 => Self::Pause { part: Part::Coordinator(ix), is_leader, pause: long },
            14..16 => Self::Kill { part: worker, is_leader: false, pause: short },
            16..17 => Self::Pause { part: worker, is_leader: false, pause: long },
            17..19 => Self::Kill { part: Part::Redis, is_leader: false, pause: short / 2 },
            _ => Self::Pause { part: Part::Redis, is_leader: false, pause: long / 2 },
        }
    }

    /// Returns the name of its kind, for the table.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Kill { part: Part::Redis, .. } => "redis killed",
            Self::Kill { part: Part::Worker(_), .. } => "worker killed",
            Self::Kill { is_leader: true, .. } => "leader killed",
            Self::Kill { .. } => "standby killed",
            Self::KillAndErase { is_leader: true, .. } => "leader killed and erased",
            Self::KillAndErase { .. } => "standby killed and erased",
            Self::Stop { .. } => "leader stopped",
            Self::Pause { part: Part::Redis, .. } => "redis paused",
            Self::Pause { part: Part::Worker(_), .. } => "worker paused",
            Self::Pause { is_leader: true, .. } => "leader paused",
            Self::Pause { .. } => "standby paused",
        }
    }

    /// Returns the worker whose attempts may be repeated because of this fault.
    pub(super) fn hits_worker(&self) -> Option<usize> {
        match self {
            Self::Kill { part: Part::Worker(ix), .. }
            | Self::Pause { part: Part::Worker(ix), .. } => Some(*ix),
            _ => None,
        }
    }

    /// Returns how long the fault lasts.
    pub(super) fn span(&self) -> Duration {
        match self {
            Self::Kill { pause, .. } | Self::Pause { pause, .. } => *pause,
            Self::KillAndErase { .. } | Self::Stop { .. } => Duration::ZERO,
        }
    }

    /// Begins the fault.
    pub(super) fn begin(&self, cluster: &mut Coordinators) -> anyhow::Result<()> {
        match *self {
            Self::Kill { part, .. } => cluster.kill9(part),
            Self::KillAndErase { ix, .. } => {
                cluster.kill9(Part::Coordinator(ix))?;
                cluster.remove_data(ix)
            }
            Self::Stop { ix } => cluster.signal(Part::Coordinator(ix), "TERM"),
            Self::Pause { part, .. } => cluster.signal(part, "STOP"),
        }
    }

    /// Returns whether the fault can be ended.
    pub(super) fn may_end(&self, cluster: &mut Coordinators) -> bool {
        match *self {
            Self::Stop { ix } => !cluster.is_running(Part::Coordinator(ix)),
            Self::Kill { .. } | Self::KillAndErase { .. } | Self::Pause { .. } => true,
        }
    }

    /// Ends the fault.
    pub(super) fn end(&self, cluster: &mut Coordinators) -> anyhow::Result<()> {
        match *self {
            Self::Kill { part, .. } => cluster.restart(part),
            Self::KillAndErase { ix, .. } => cluster.restart(Part::Coordinator(ix)),
            Self::Stop { ix } => cluster.restart(Part::Coordinator(ix)),
            Self::Pause { part, .. } => cluster.signal(part, "CONT"),
        }
    }
}
