//! What an attempt is held to, and by what: control groups where the worker may use them, limits
//! of single processes where not, nothing where that was chosen.

mod guard;
mod statement;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kahn_model::{Failure, Resource, Resources, WorkerId};
use serde::{Deserialize, Serialize};

pub(crate) use guard::{LimitGuard, ReusableGroup};
use kahn_platform::{Cgroups, Controller, Group, Held, Membership, Share};
pub use statement::LimitStatement;

/// Processes and threads that an attempt may have, unless the operator says otherwise.
const PIDS_MAX: u32 = 4096;
/// With fewer, a shell script does not get anywhere.
const PIDS_MIN: u32 = 8;
/// What an attempt weighs that asks for no processor, in thousandths.
const WEIGHT_UNASKED: u64 = 100;
/// A group that still holds more than this part of an attempt's memory does not serve it: files
/// that an earlier attempt left in memory would count.
const RESIDUE_PART: u64 = 16;
/// Groups that wait for the next attempt.
const POOL_MAX: usize = 256;

/// By what attempts are held to what they asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitMode {
    /// Control groups where they can be used, else limits of single processes.
    #[default]
    Auto,
    /// Limits of single processes.
    Rlimit,
    /// Nothing.
    Off,
}

/// What a request for processors means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CpuLimit {
    /// A share: it counts where processors are short, and idle ones are anybody's.
    #[default]
    Weight,
    /// A limit: no more than that, even where processors are idle.
    Quota,
}

/// How attempts are held to what they asked for.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// By what.
    pub mode: LimitMode,
    /// What a request for processors means.
    pub cpu: CpuLimit,
    /// Most processes and threads of one attempt, 8 at least; 4096 when not given.
    pub pids: Option<u32>,
}

/// What holds the attempts of one worker. When it is dropped, its control groups are removed,
/// with all that is in them.
#[derive(Debug)]
pub struct Limits {
    settings: LimitSettings,
    cgroups: Option<Cgroups>,
    statement: LimitStatement,
    /// Groups with nothing in them.
    pool: Mutex<Vec<Group>>,
}

impl Limits {
    /// No limits.
    #[must_use]
    pub fn none() -> Arc<Self> {
        let settings = LimitSettings { mode: LimitMode::Off, ..LimitSettings::default() };
        Self::without_groups(settings)
    }

    /// The limits of a worker with `capacity`, which is held to `memory` bytes in all. `record` is
    /// a file that remembers its control groups, so that the next start in the same data
    /// directory finds them: what an earlier boot left is killed and removed.
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
            tracing::warn!(%error, "control groups will not be found by the next start");
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

    /// What holds attempts to what, in words.
    #[must_use]
    pub fn statement(&self) -> &LimitStatement {
        &self.statement
    }

    /// What an attempt with these resources is held to, from now on. The calling thread may be in
    /// a group from an attempt before, and hears where it is.
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
            // In this order: a group in which the thread still is cannot be removed.
            drop(membership);
            drop(group);
        }
        Ok((self.take_for(wanted, false)?, None))
    }

    /// As [`Limits::take`], for an interpreter whose calls will be held to other amounts.
    pub(crate) fn take_changeable(self: &Arc<Self>) -> Result<LimitGuard, Failure> {
        self.take_for(self.wanted(&Resources::none()), true)
    }

    fn take_for(
        self: &Arc<Self>,
        wanted: Held,
        is_changeable: bool,
    ) -> Result<LimitGuard, Failure> {
        let group = self.cgroups.as_ref().map(|cgroups| self.group(cgroups, wanted)).transpose();
        let group = group.map_err(|error| {
            crate::process::gave_up(&format!("worker has no control group: {error}"))
        })?;
        Ok(LimitGuard::new(Arc::clone(self), group, wanted, is_changeable))
    }

    fn wanted(&self, resources: &Resources) -> Held {
        let cpu = resources.get(&Resource::Cpu);
        Held {
            memory: Some(resources.get(&Resource::Memory)).filter(|bytes| *bytes > 0),
            pids: self.settings.pids.unwrap_or(PIDS_MAX).max(PIDS_MIN).into(),
            share: match (self.settings.cpu, cpu) {
                (_, 0) => Share::Weight(WEIGHT_UNASKED),
                (CpuLimit::Weight, milli) => Share::Weight(milli),
                (CpuLimit::Quota, milli) => Share::Quota(milli),
            },
        }
    }

    fn group(&self, cgroups: &Cgroups, wanted: Held) -> std::io::Result<Group> {
        let pooled = self.pool().pop();
        if let Some(mut group) = pooled
            && fits(&mut group, wanted)
        {
            return Ok(group);
        }
        let mut group = cgroups.make()?;
        group.hold(wanted)?;
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

/// Holds a group to what is wanted, if it is of use for that, and says whether it is.
fn fits(group: &mut Group, wanted: Held) -> bool {
    let is_clean = wanted.memory.is_none_or(|memory| group.memory() < memory / RESIDUE_PART);
    is_clean && group.hold(wanted).is_ok()
}

/// Kills and removes what a start before this one recorded, unless that one still lives.
fn clear_recorded(record: &Path) {
    let dirs = fs::read_to_string(record).unwrap_or_default();
    let n_killed = kahn_platform::clear_stale(dirs.lines().map(PathBuf::from));
    if n_killed > 0 {
        tracing::warn!(n_killed, "killed processes in control groups that an earlier boot left");
    }
}
