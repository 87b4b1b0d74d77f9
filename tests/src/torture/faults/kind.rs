//! The kinds of faults, and the order in which they come.

use fastrand::Rng;

use crate::servers::StoreKind;

/// What is done to which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::torture) enum Kind {
    LeaderKilled,
    LeaderErased,
    LeaderPaused,
    LeaderStopped,
    LeaderUnreachable,
    LeaderWithoutRedis,
    LeaderDiskFull,
    LeaderClock,
    StandbyKilled,
    StandbyErased,
    StandbyPaused,
    StandbyUnreachable,
    StandbyWithoutRedis,
    StandbyClocks,
    SlowNetwork,
    WorkerKilled,
    WorkerPaused,
    WorkerDiskFull,
    WorkerClock,
    RedisKilled,
    RedisPaused,
    RedisDiskFull,
    MasterKilled,
    MasterPaused,
    MasterBlocked,
    MasterHandsOver,
    MasterAndLeaderKilled,
    SlotMoved,
}

impl Kind {
    /// With any Redis.
    const USUAL: [Self; 12] = [
        Self::LeaderKilled,
        Self::LeaderErased,
        Self::LeaderPaused,
        Self::LeaderStopped,
        Self::LeaderUnreachable,
        Self::StandbyKilled,
        Self::StandbyErased,
        Self::StandbyPaused,
        Self::StandbyUnreachable,
        Self::SlowNetwork,
        Self::WorkerKilled,
        Self::WorkerPaused,
    ];
    /// With clocks that can be stepped.
    pub(in crate::torture) const CLOCKS: [Self; 3] =
        [Self::LeaderClock, Self::StandbyClocks, Self::WorkerClock];
    /// With small disks.
    pub(in crate::torture) const DISKS: [Self; 3] =
        [Self::LeaderDiskFull, Self::WorkerDiskFull, Self::RedisDiskFull];
    /// With one server.
    const SINGLE: [Self; 4] =
        [Self::LeaderWithoutRedis, Self::StandbyWithoutRedis, Self::RedisKilled, Self::RedisPaused];
    /// With servers that replace each other.
    const REPLICATED: [Self; 5] = [
        Self::MasterKilled,
        Self::MasterPaused,
        Self::MasterBlocked,
        Self::MasterHandsOver,
        Self::MasterAndLeaderKilled,
    ];

    /// Returns all kinds that apply to a store.
    pub(in crate::torture) fn all(store: StoreKind) -> Vec<Self> {
        let of_store = match store {
            StoreKind::Redis => Self::SINGLE.to_vec(),
            StoreKind::Sentinel => Self::REPLICATED.to_vec(),
            StoreKind::Cluster => [Self::REPLICATED.as_slice(), &[Self::SlotMoved]].concat(),
        };
        // A server with `appendfsync always` ends when its disk is full: it is as if it was killed.
        let is_there = |kind: &Self| *kind != Self::RedisDiskFull || store == StoreKind::Redis;
        let disks: Vec<Self> = Self::DISKS.into_iter().filter(is_there).collect();
        let mut all = [&Self::USUAL[..], &Self::CLOCKS, &disks, &of_store].concat();
        all.sort_unstable();
        all
    }

    /// Returns its name in the table.
    pub(in crate::torture) fn name(self) -> &'static str {
        match self {
            Self::LeaderKilled => "leader killed",
            Self::LeaderErased => "leader killed and erased",
            Self::LeaderPaused => "leader paused",
            Self::LeaderStopped => "leader stopped",
            Self::LeaderUnreachable => "leader unreachable",
            Self::LeaderWithoutRedis => "leader without redis",
            Self::LeaderDiskFull => "disk of the leader full",
            Self::LeaderClock => "clock of the leader stepped",
            Self::StandbyKilled => "standby killed",
            Self::StandbyErased => "standby killed and erased",
            Self::StandbyPaused => "standby paused",
            Self::StandbyUnreachable => "standby unreachable",
            Self::StandbyWithoutRedis => "standby without redis",
            Self::StandbyClocks => "clocks of standbys stepped, leader killed",
            Self::SlowNetwork => "slow network",
            Self::WorkerKilled => "worker killed",
            Self::WorkerPaused => "worker paused",
            Self::WorkerDiskFull => "disk of a worker full",
            Self::WorkerClock => "clock of a worker stepped",
            Self::RedisKilled => "redis killed",
            Self::RedisPaused => "redis paused",
            Self::RedisDiskFull => "disk of redis full",
            Self::MasterKilled => "master killed",
            Self::MasterPaused => "master paused until it was replaced",
            Self::MasterBlocked => "master blocked",
            Self::MasterHandsOver => "master replaced on request",
            Self::MasterAndLeaderKilled => "master and leader killed together",
            Self::SlotMoved => "slot moved to another master",
        }
    }
}

/// The kinds in random order, each as often as any other.
#[derive(Debug)]
pub(in crate::torture) struct Deck {
    kinds: Vec<Kind>,
    left: Vec<Kind>,
}

impl Deck {
    /// Creates a deck of at least one kind.
    pub(in crate::torture) fn of(kinds: &[Kind]) -> Self {
        Self { kinds: kinds.to_vec(), left: Vec::new() }
    }

    /// Returns the next kind. No kind comes again before all have come.
    pub(in crate::torture) fn draw(&mut self, rng: &mut Rng) -> Kind {
        if self.left.is_empty() {
            self.left.clone_from(&self.kinds);
            rng.shuffle(&mut self.left);
        }
        self.left.pop().expect("at least one kind")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_once_before_any_comes_again() {
        for store in [StoreKind::Redis, StoreKind::Sentinel, StoreKind::Cluster] {
            let (kinds, mut rng) = (Kind::all(store), Rng::with_seed(1));
            let mut deck = Deck::of(&kinds);
            for _ in 0..3 {
                let mut drawn: Vec<Kind> = kinds.iter().map(|_| deck.draw(&mut rng)).collect();
                drawn.sort_unstable();
                assert_eq!(drawn, kinds, "{store:?}");
            }
        }
    }

    #[test]
    fn the_leader_and_redis_die_together_only_if_replicas_have_everything() {
        let double = Kind::MasterAndLeaderKilled;
        assert!(!Kind::all(StoreKind::Redis).contains(&double));
        assert!(Kind::all(StoreKind::Sentinel).contains(&double));
        assert!(Kind::all(StoreKind::Cluster).contains(&double));
    }
}
