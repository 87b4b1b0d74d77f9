//! Resource limits of attempts.
//!
//! Enforced by control groups if the worker may use them, otherwise by rlimits of each process, or
//! not at all if configured so.

mod guard;
mod statement;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kahn_executor::failure::worker_fault;
use kahn_model::{Failure, Resource, Resources, WorkerId};
use serde::{Deserialize, Serialize};

pub(crate) use guard::{LimitGuard, ReusableGroup};
use kahn_platform::{Cgroups, Controller, Group, GroupLimits, Membership, Share};
pub use statement::LimitStatement;

/// The default limit of processes and threads of an attempt.
const PIDS_MAX: u32 = 4096;
/// The lowest limit of processes and threads. A shell script needs about this many.
const PIDS_MIN: u32 = 8;
/// The CPU weight, in thousandths of a CPU, of an attempt that requests no CPU.
const WEIGHT_UNASKED: u64 = 100;
/// A group is not reused if its memory exceeds this fraction of the attempt's memory request: page
/// cache left by an earlier attempt would be charged to the next one.
const RESIDUE_PART: u64 = 16;
/// The maximum number of empty groups kept for reuse.
const POOL_MAX: usize = 256;

/// The mechanism that enforces resource requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitMode {
    /// Control groups where available, otherwise rlimits.
    #[default]
    Auto,
    /// Rlimits of each process.
    Rlimit,
    /// No enforcement.
    Off,
}

/// How a CPU request is enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CpuLimit {
    /// As a weight: it takes effect only when CPUs are contended, and idle CPUs may be used freely.
    #[default]
    Weight,
    /// As a quota: an upper bound, even if CPUs are idle.
    Quota,
}

/// Settings for enforcing resource requests.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// The mechanism.
    pub mode: LimitMode,
    /// How a CPU request is enforced.
    pub cpu: CpuLimit,
    /// The maximum number of processes and threads of one attempt, at least 8. The default is 4096.
    pub pids: Option<u32>,
}

/// Enforces the resource limits of all attempts of a worker. Dropping it removes its control groups
/// and kills all processes in them.
#[derive(Debug)]
pub struct Limits {
    settings: LimitSettings,
    cgroups: Option<Cgroups>,
    statement: LimitStatement,
    /// Empty groups for reuse.
    pool: Mutex<Vec<Group>>,
}

impl Limits {
    /// Returns limits that enforce nothing.
    #[must_use]
    pub fn none() -> Arc<Self> {
        let settings = LimitSettings { mode: LimitMode::Off, ..LimitSettings::default() };
        Self::without_groups(settings)
    }

    /// Creates the limits of a worker with `capacity` whose attempts may use `memory` bytes in
    /// total.
    ///
    /// `record` is a file that lists the worker's control groups. The groups that an earlier start
    /// with the same data directory listed there are removed, and their processes are killed.
    #[must_use]
    pub fn open(
        settings: LimitSettings,
        worker: &WorkerId,
        capacity: &Resources,
        memory: Option<u64>,
        record: &Path,
    ) -> Arc<Self> {
        clear_recorded(record);
        if settings.mode != LimitMode::Auto {
            return Self::without_groups(settings);
        }
        let cpu_milli = capacity.get(&Resource::Cpu);
        let (cgroups, refused) = Cgroups::open(worker.as_str(), memory, cpu_milli);
        let dirs: Vec<_> =
            cgroups.dirs().into_iter().map(|dir| dir.display().to_string()).collect();
        if let Err(error) = fs::write(record, dirs.join("\n")) {
            tracing::warn!(%error, "control groups cannot be recorded for the next start");
        }
        let versions = Controller::ALL.map(|controller| {
            let why = || refused.iter().find(|(refused, _)| *refused == controller);
            let why = || why().map_or_else(String::new, |(_, why)| why.clone());
            (controller, cgroups.version(controller).ok_or_else(why))
        });
        let statement = LimitStatement::new(settings, versions);
        let has_groups = !cgroups.dirs().is_empty();
        let cgroups = has_groups.then_some(cgroups);
        Arc::new(Self { settings, cgroups, statement, pool: Mutex::default() })
    }

    fn without_groups(settings: LimitSettings) -> Arc<Self> {
        let why = || "not chosen".to_owned();
        let versions = Controller::ALL.map(|controller| (controller, Err(why())));
        let statement = LimitStatement::new(settings, versions);
        Arc::new(Self { settings, cgroups: None, statement, pool: Mutex::default() })
    }

    /// Returns a human-readable description of how limits are enforced.
    #[must_use]
    pub fn statement(&self) -> &LimitStatement {
        &self.statement
    }

    /// Starts to enforce the limits of an attempt with these resources.
    ///
    /// `reusable_group` is the group of the calling thread's previous attempt. If it is reused, the
    /// thread's membership is returned.
    pub(crate) fn take(
        self: &Arc<Self>,
        resources: &Resources,
        reusable_group: Option<ReusableGroup>,
    ) -> Result<(LimitGuard, Option<Membership>), Failure> {
        let wanted = self.wanted(resources);
        if let Some(ReusableGroup { membership, mut group }) = reusable_group {
            if fits(&mut group, wanted) {
                let guard = LimitGuard::new(Arc::clone(self), Some(group), wanted, false);
                return Ok((guard, Some(membership)));
            }
            // The order matters: a group cannot be removed while the thread is a member.
            drop(membership);
            drop(group);
        }
        Ok((self.take_for(wanted, false)?, None))
    }

    /// Like [`Limits::take`], for an interpreter whose limits change with each call.
    pub(crate) fn take_changeable(self: &Arc<Self>) -> Result<LimitGuard, Failure> {
        self.take_for(self.wanted(&Resources::none()), true)
    }

    fn take_for(
        self: &Arc<Self>,
        wanted: GroupLimits,
        is_changeable: bool,
    ) -> Result<LimitGuard, Failure> {
        let group = self.cgroups.as_ref().map(|cgroups| self.group(cgroups, wanted)).transpose();
        let group = group
            .map_err(|error| worker_fault(&format!("worker has no control group: {error}")))?;
        Ok(LimitGuard::new(Arc::clone(self), group, wanted, is_changeable))
    }

    fn wanted(&self, resources: &Resources) -> GroupLimits {
        let cpu = resources.get(&Resource::Cpu);
        GroupLimits {
            memory: Some(resources.get(&Resource::Memory)).filter(|bytes| *bytes > 0),
            pids: self.settings.pids.unwrap_or(PIDS_MAX).max(PIDS_MIN).into(),
            share: match (self.settings.cpu, cpu) {
                (_, 0) => Share::Weight(WEIGHT_UNASKED),
                (CpuLimit::Weight, milli) => Share::Weight(milli),
                (CpuLimit::Quota, milli) => Share::Quota(milli),
            },
        }
    }

    fn group(&self, cgroups: &Cgroups, wanted: GroupLimits) -> std::io::Result<Group> {
        let pooled = self.pool().pop();
        if let Some(mut group) = pooled
            && fits(&mut group, wanted)
        {
            return Ok(group);
        }
        let mut group = cgroups.make()?;
        group.set_limits(wanted)?;
        Ok(group)
    }

    fn put_back(&self, group: Group) {
        let mut pool = self.pool();
        if pool.len() < POOL_MAX {
            pool.push(group);
        }
    }

    fn pool(&self) -> MutexGuard<'_, Vec<Group>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Applies limits to an existing group. Returns whether the group can be used with them.
fn fits(group: &mut Group, wanted: GroupLimits) -> bool {
    let is_clean = wanted.memory.is_none_or(|memory| group.memory() < memory / RESIDUE_PART);
    is_clean && group.set_limits(wanted).is_ok()
}

/// Removes the control groups recorded by an earlier start and kills their processes, unless that
/// worker is still running.
fn clear_recorded(record: &Path) {
    let dirs = fs::read_to_string(record).unwrap_or_default();
    let n_killed = kahn_platform::clear_stale(dirs.lines().map(PathBuf::from));
    if n_killed > 0 {
        tracing::warn!(n_killed, "killed processes in control groups that an earlier boot left");
    }
}
