//! Ids of runs, tasks, attempts and workers, and the token of a lease.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::name::{InvalidName, Name};

/// The id of a run, that is of one execution of a DAG; a UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(uuid::Uuid);

impl RunId {
    /// The nil id, which no run has.
    pub const NIL: Self = Self(uuid::Uuid::nil());

    /// Creates a run id from a UUID.
    #[must_use]
    pub const fn new(id: uuid::Uuid) -> Self {
        Self(id)
    }

    /// Returns the 16 bytes of the UUID, as used on the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Creates an id from 16 bytes; `None` for any other length.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        uuid::Uuid::from_slice(bytes).ok().map(Self)
    }

    /// Returns the partition of this run, out of `partitions`.
    ///
    /// # Panics
    ///
    /// Panics if `partitions` is zero.
    #[must_use]
    pub fn partition(&self, partitions: u16) -> Partition {
        assert!(partitions > 0, "a cluster has at least one partition");
        let mixed = mix(self.0.as_u128());
        Partition(u16::try_from(mixed % u64::from(partitions)).expect("invariant: below a u16"))
    }

    /// Returns a number derived from the id, for seeding reproducible randomness.
    #[must_use]
    pub fn seed(&self) -> u64 {
        mix(self.0.as_u128())
    }
}

/// Hashes an id to 64 bits with the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(id: u128) -> u64 {
    let (high, low) = ((id >> 64) & u128::from(u64::MAX), id & u128::from(u64::MAX));
    let folded = high ^ low.rotate_left(32);
    let mut z = u64::try_from(folded & u128::from(u64::MAX)).expect("invariant: masked");
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        uuid::Uuid::try_parse(text).map(Self)
    }
}

/// The position of a task in its DAG.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskIx(pub u32);

impl TaskIx {
    /// Returns the position as a slice index.
    #[must_use]
    pub fn index(self) -> usize {
        usize::try_from(self.0).expect("invariant: usize holds 32 bits")
    }

    /// Returns the task at `index`.
    ///
    /// # Panics
    ///
    /// Panics if `index` exceeds [`u32::MAX`], which is far above [`crate::limits::TASKS_MAX`].
    #[must_use]
    pub fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("invariant: a DAG has fewer than 2^32 tasks"))
    }
}

impl fmt::Debug for TaskIx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

/// An attempt to run a task of a run. Attempts of a task are numbered from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// The run.
    pub run: RunId,
    /// The task in the run's DAG.
    pub task: TaskIx,
    /// The number of the attempt, from 1.
    pub number: u32,
}

/// The fencing token of a lease. It grows with every lease, so that stale holders are recognized.
///
/// `epoch` counts the terms of the partition and `serial` the leases within a term. The nonce
/// distinguishes two terms even if a lossy failover makes the store forget an epoch and issue it
/// twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The term of the coordinator that granted the lease.
    pub epoch: u64,
    /// The number of the lease within the term, from 1.
    pub serial: u64,
    /// A random number drawn by the coordinator at the start of its term.
    pub nonce: u64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.serial)
    }
}

/// The name of a worker; stable across restarts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(Arc<Name>);

impl WorkerId {
    /// Creates a worker id from a name.
    #[must_use]
    pub fn new(name: Name) -> Self {
        Self(Arc::new(name))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for WorkerId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Name::new(text).map(Self::new)
    }
}

/// A random number drawn at the start of a worker process; distinguishes a reconnect from a
/// restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub u64);

/// A namespace of runs: the unit of fair sharing and quotas.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Arc<Name>);

impl Namespace {
    /// Creates a namespace from a name.
    #[must_use]
    pub fn new(name: Name) -> Self {
        Self(Arc::new(name))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new(Name::new("default").expect("invariant: a valid name"))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Namespace {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Name::new(text).map(Self::new)
    }
}

/// One of the logs across which a cluster distributes its runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u16);

impl Partition {
    /// The partition whose log also holds changes that belong to no run, such as cordoned workers.
    pub const CLUSTER: Self = Self(0);
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{:03}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_spread_evenly_over_partitions() {
        let mut counts = [0u32; 16];
        for n in 0..16_000u128 {
            let run = RunId::new(uuid::Uuid::from_u128(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            counts[usize::from(run.partition(16).0)] += 1;
        }
        assert!(counts.iter().all(|&n| (800..1200).contains(&n)), "{counts:?}");
    }

    #[test]
    fn run_id_reads_back_what_it_prints() {
        let run = RunId::new(uuid::Uuid::from_u128(7));
        assert_eq!(run.to_string().parse::<RunId>().unwrap(), run);
        assert_eq!(RunId::from_slice(run.as_bytes()), Some(run));
        assert_eq!(RunId::from_slice(&[0; 15]), None);
    }
}
