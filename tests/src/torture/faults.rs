//! The faults.

mod kind;

use std::time::Duration;

use fastrand::Rng;

use crate::coordinators::{Cable, Coordinators, Part};
use crate::replicated::Failover;
use crate::wire::Condition;

pub(super) use kind::{Deck, Kind};

/// The number of partitions of a cluster.
const N_PARTITIONS: u16 = 16;

/// A fault with a beginning and an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    kind: Kind,
    action: Action,
    span: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    /// Kills a part with SIGKILL and starts it again.
    Kill(Part),
    /// Kills a coordinator, removes its data, and starts it again.
    KillAndErase(usize),
    /// Stops a coordinator with SIGTERM and starts it again.
    Stop(usize),
    /// Pauses a part with SIGSTOP.
    Pause(Part),
    /// Makes connections slow, silent or cut.
    Network(Cable, Condition),
    /// Fills the disk of a part.
    FillDisk(Part),
    /// Steps the wall clock of parts by these milliseconds, and kills a coordinator if there is one.
    StepClocks(Vec<(Part, i64)>, Option<usize>),
    /// Replaces the master of a partition, and kills a coordinator at the same time if there is one.
    Failover(Failover, u16, Option<usize>),
}

impl Fault {
    /// Chooses the parts that are hit, and for how long.
    pub(super) fn draw(kind: Kind, rng: &mut Rng, cluster: &Coordinators) -> Self {
        let n = cluster.n_coordinators();
        let leader = (0..n).find(|ix| cluster.has_role(*ix, "leader")).unwrap_or(0);
        let standby = (leader + rng.usize(1..n)) % n;
        let worker = Part::Worker(rng.usize(..cluster.n_workers()));
        let partition = rng.u16(..N_PARTITIONS);
        let of = |ix| Part::Coordinator(ix);
        let failover = |how| Action::Failover(how, partition, None);
        let action = match kind {
            Kind::LeaderKilled => Action::Kill(of(leader)),
            Kind::StandbyKilled => Action::Kill(of(standby)),
            Kind::LeaderErased => Action::KillAndErase(leader),
            Kind::StandbyErased => Action::KillAndErase(standby),
            Kind::LeaderStopped => Action::Stop(leader),
            Kind::LeaderPaused => Action::Pause(of(leader)),
            Kind::StandbyPaused => Action::Pause(of(standby)),
            Kind::WorkerKilled => Action::Kill(worker),
            Kind::WorkerPaused => Action::Pause(worker),
            Kind::RedisKilled => Action::Kill(Part::Redis),
            Kind::RedisPaused => Action::Pause(Part::Redis),
            Kind::SlowNetwork => {
                let delay = Duration::from_millis(rng.u64(5..=100));
                Action::Network(Cable::Front(rng.usize(..n)), Condition::Slow(delay))
            }
            Kind::LeaderUnreachable => Action::Network(Cable::Front(leader), dead(rng)),
            Kind::StandbyUnreachable => Action::Network(Cable::Front(standby), dead(rng)),
            Kind::LeaderWithoutRedis => Action::Network(Cable::Store(leader), dead(rng)),
            Kind::StandbyWithoutRedis => Action::Network(Cable::Store(standby), dead(rng)),
            Kind::WorkerDiskFull => Action::FillDisk(worker),
            Kind::LeaderDiskFull => Action::FillDisk(of(leader)),
            Kind::RedisDiskFull => Action::FillDisk(Part::Redis),
            Kind::LeaderClock => Action::StepClocks(vec![(of(leader), step(rng))], None),
            Kind::WorkerClock => Action::StepClocks(vec![(worker, step(rng))], None),
            Kind::StandbyClocks => {
                let others = (0..n).filter(|ix| *ix != leader);
                let steps = others.map(|ix| (of(ix), step(rng))).collect();
                Action::StepClocks(steps, Some(leader))
            }
            Kind::MasterKilled => failover(Failover::Kill),
            Kind::MasterPaused => failover(Failover::Pause),
            Kind::MasterHandsOver => failover(Failover::HandOver),
            Kind::MasterBlocked => failover(Failover::Block),
            Kind::SlotMoved => failover(Failover::MoveSlot),
            Kind::MasterAndLeaderKilled => {
                Action::Failover(Failover::Kill, partition, Some(leader))
            }
        };
        Self { kind, span: span(&action, rng), action }
    }

    /// Returns its kind.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the name of its kind, for the table.
    pub(super) fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// Returns the worker whose attempts may be repeated because of this fault.
    pub(super) fn hits_worker(&self) -> Option<usize> {
        match self.action {
            Action::Kill(Part::Worker(ix))
            | Action::Pause(Part::Worker(ix))
            | Action::FillDisk(Part::Worker(ix)) => Some(ix),
            Action::Kill(_)
            | Action::KillAndErase(_)
            | Action::Stop(_)
            | Action::Pause(_)
            | Action::Network(..)
            | Action::FillDisk(_)
            | Action::StepClocks(..)
            | Action::Failover(..) => None,
        }
    }

    /// Returns how long the fault lasts at least.
    pub(super) fn span(&self) -> Duration {
        self.span
    }

    /// Begins the fault.
    pub(super) fn begin(&self, cluster: &mut Coordinators) -> anyhow::Result<()> {
        match &self.action {
            Action::Kill(part) => cluster.kill9(*part),
            Action::KillAndErase(ix) => {
                cluster.kill9(Part::Coordinator(*ix))?;
                cluster.remove_data(*ix)
            }
            Action::Stop(ix) => cluster.signal(Part::Coordinator(*ix), "TERM"),
            Action::Pause(part) => cluster.signal(*part, "STOP"),
            Action::Network(cable, condition) => {
                cluster.set_condition(*cable, *condition);
                Ok(())
            }
            Action::FillDisk(part) => cluster.fill_disk(*part),
            Action::StepClocks(steps, killed) => {
                for (part, ahead_ms) in steps {
                    cluster.step_clock(*part, *ahead_ms)?;
                }
                killed.map_or(Ok(()), |ix| cluster.kill9(Part::Coordinator(ix)))
            }
            Action::Failover(how, partition, killed) => {
                if let Some(ix) = killed {
                    cluster.kill9(Part::Coordinator(*ix))?;
                }
                cluster.begin_failover(*how, *partition)
            }
        }
    }

    /// Returns whether the fault can be ended.
    pub(super) fn may_end(&self, cluster: &mut Coordinators) -> bool {
        match self.action {
            Action::Stop(ix) => !cluster.is_running(Part::Coordinator(ix)),
            Action::Kill(_)
            | Action::KillAndErase(_)
            | Action::Pause(_)
            | Action::Network(..)
            | Action::FillDisk(_)
            | Action::StepClocks(..)
            | Action::Failover(..) => true,
        }
    }

    /// Ends the fault. Blocks until a master was replaced.
    pub(super) fn end(&self, cluster: &mut Coordinators) -> anyhow::Result<()> {
        match &self.action {
            Action::Kill(part) => cluster.restart(*part),
            Action::KillAndErase(ix) | Action::Stop(ix) => cluster.restart(Part::Coordinator(*ix)),
            Action::Pause(part) => cluster.signal(*part, "CONT"),
            Action::Network(cable, _) => {
                cluster.set_condition(*cable, Condition::Open);
                Ok(())
            }
            Action::FillDisk(part) => cluster.free_disk(*part),
            Action::StepClocks(steps, killed) => {
                for (part, _) in steps {
                    cluster.step_clock(*part, 0)?;
                }
                killed.map_or(Ok(()), |ix| cluster.restart(Part::Coordinator(ix)))
            }
            Action::Failover(_, _, killed) => {
                cluster.end_failover()?;
                killed.map_or(Ok(()), |ix| cluster.restart(Part::Coordinator(ix)))
            }
        }
    }
}

/// Returns how long an action lasts.
fn span(action: &Action, rng: &mut Rng) -> Duration {
    let (from, to) = match action {
        // The end is a condition.
        Action::KillAndErase(_) | Action::Stop(_) | Action::Failover(..) => (0, 0),
        Action::Kill(Part::Redis) => (0, 1_000),
        Action::Kill(_) => (0, 2_000),
        Action::Pause(Part::Redis) | Action::FillDisk(_) => (500, 4_000),
        Action::Pause(_) | Action::Network(..) => (500, 8_000),
        // Longer than the lease of a leader.
        Action::StepClocks(..) => (2_500, 5_000),
    };
    Duration::from_millis(rng.u64(from..=to))
}

fn dead(rng: &mut Rng) -> Condition {
    if rng.bool() { Condition::Silent } else { Condition::Cut }
}

/// Returns a step between a second and an hour, forwards or backwards, in milliseconds. Each order
/// of magnitude is equally likely.
fn step(rng: &mut Rng) -> i64 {
    let magnitude = [1_000, 10_000, 60_000, 600_000][rng.usize(..4)];
    let ahead = rng.i64(magnitude..=6 * magnitude);
    if rng.bool() { ahead } else { -ahead }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_stepped_by_a_second_to_an_hour_in_both_directions() {
        let mut rng = Rng::with_seed(1);
        let steps: Vec<i64> = (0..1_000).map(|_| step(&mut rng)).collect();
        assert!(steps.iter().all(|step| (1_000..=3_600_000).contains(&step.abs())));
        assert!(steps.iter().any(|step| *step < -600_000));
        assert!(steps.iter().any(|step| 600_000 < *step));
    }
}
