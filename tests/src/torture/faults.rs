//! The faults.

use std::time::Duration;

use fastrand::Rng;

use crate::coordinators::{Cable, Coordinators, Part};
use crate::wire::Condition;

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
    /// Makes connections slow, silent or cut.
    Network { cable: Cable, condition: Condition, is_leader: bool, span: Duration },
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
        match rng.u32(..26) {
            0..6 => Self::Kill { part: Part::Coordinator(ix), is_leader, pause: short },
            6..8 => Self::KillAndErase { ix, is_leader },
            8..11 => Self::Stop { ix: leader },
            11..14 => Self::Pause { part: Part::Coordinator(ix), is_leader, pause: long },
            14..16 => Self::Kill { part: worker, is_leader: false, pause: short },
            16..17 => Self::Pause { part: worker, is_leader: false, pause: long },
            17..19 => Self::Kill { part: Part::Redis, is_leader: false, pause: short / 2 },
            19 => Self::Pause { part: Part::Redis, is_leader: false, pause: long / 2 },
            _ => Self::draw_network(rng, ix, is_leader, long),
        }
    }

    fn draw_network(rng: &mut Rng, ix: usize, is_leader: bool, span: Duration) -> Self {
        let cable = if rng.bool() { Cable::Front(ix) } else { Cable::Store(ix) };
        let condition = match rng.u32(..3) {
            0 => Condition::Slow(Duration::from_millis(rng.u64(5..=100))),
            1 => Condition::Silent,
            _ => Condition::Cut,
        };
        Self::Network { cable, condition, is_leader, span }
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
            Self::Network { condition: Condition::Slow(_), .. } => "slow network",
            Self::Network { cable: Cable::Store(_), is_leader: true, .. } => "leader without redis",
            Self::Network { cable: Cable::Store(_), .. } => "standby without redis",
            Self::Network { is_leader: true, .. } => "leader unreachable",
            Self::Network { .. } => "standby unreachable",
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
            Self::Kill { pause: span, .. }
            | Self::Pause { pause: span, .. }
            | Self::Network { span, .. } => *span,
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
            Self::Network { cable, condition, .. } => {
                cluster.set_condition(cable, condition);
                Ok(())
            }
        }
    }

    /// Returns whether the fault can be ended.
    pub(super) fn may_end(&self, cluster: &mut Coordinators) -> bool {
        match *self {
            Self::Stop { ix } => !cluster.is_running(Part::Coordinator(ix)),
            Self::Kill { .. }
            | Self::KillAndErase { .. }
            | Self::Pause { .. }
            | Self::Network { .. } => true,
        }
    }

    /// Ends the fault.
    pub(super) fn end(&self, cluster: &mut Coordinators) -> anyhow::Result<()> {
        match *self {
            Self::Kill { part, .. } => cluster.restart(part),
            Self::KillAndErase { ix, .. } => cluster.restart(Part::Coordinator(ix)),
            Self::Stop { ix } => cluster.restart(Part::Coordinator(ix)),
            Self::Pause { part, .. } => cluster.signal(part, "CONT"),
            Self::Network { cable, .. } => {
                cluster.set_condition(cable, Condition::Open);
                Ok(())
            }
        }
    }
}
