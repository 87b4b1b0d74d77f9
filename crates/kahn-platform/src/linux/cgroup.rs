//! Control groups, which enforce the memory, process and CPU limits of an attempt, and which
//! contain all of its processes.
//!
//! Each controller that this process may use is used, in version 1 or 2, or a mix of both. A parent
//! group is created in the group of this process, and in that a group for each attempt. Empty
//! groups are reused.
//!
//! How a process joins its group depends on the version. In version 1, groups contain threads, and
//! a child starts in the groups of the thread that forked it. So the thread that starts a program
//! joins the group, starts the program, and leaves, which takes a few microseconds. In version 2,
//! all threads of a process share a group, so the child has to join before it executes its program,
//! see [`Group::cgroup_procs`].
//!
//! A thread that starts several attempts in a row stays in the group between them.
//!
//! It is safe that the thread is in the group. The kernel never chooses a thread that is not a main
//! thread for an OOM kill, nor a child that has not executed its program yet. And this process is
//! skipped when the processes of a group are killed.

mod detect;
mod parent;
mod sweep;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::str;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Controller, Counted, GroupLimits, Share};
pub use detect::probe;
use parent::Parent;
pub use sweep::clear_stale;
use sweep::processes;

/// The cgroup version of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// One hierarchy per controller, with groups of threads.
    V1,
    /// One hierarchy for all controllers, with groups of processes.
    V2,
}

impl Version {
    /// Returns the version number.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

/// The control groups of one worker. They are removed when this and all its groups are dropped.
#[derive(Debug)]
pub struct Cgroups {
    parent: Arc<Parent>,
    n_made: AtomicU64,
}

impl Cgroups {
    /// Creates the parent group of a worker whose attempts may use `memory` bytes and `cpu_milli`
    /// thousandths of a CPU in total. Also returns why each unusable controller cannot be used.
    pub fn open(
        worker: &str,
        memory: Option<u64>,
        cpu_milli: u64,
    ) -> (Self, Vec<(Controller, String)>) {
        let (parent, refused) = Parent::make(worker, memory, cpu_milli);
        (Self { parent: Arc::new(parent), n_made: AtomicU64::new(0) }, refused)
    }

    /// Returns the version of a controller, or `None` if it is not used.
    pub fn version(&self, controller: Controller) -> Option<u8> {
        self.parent.place(controller).map(|place| place.version.number())
    }

    /// Returns the directories of the parent groups.
    pub fn dirs(&self) -> BTreeSet<&Path> {
        self.parent.dirs()
    }

    /// Returns whether the total memory of all attempts is limited.
    pub fn is_memory_bounded(&self) -> bool {
        self.parent.is_memory_bounded
    }

    /// Returns whether there is a group shared by all attempts.
    pub fn has_common(&self) -> bool {
        self.parent.common.is_some()
    }

    /// Returns the number of OOM kills in the shared group.
    pub fn n_common_kills(&self) -> u64 {
        self.parent.common.as_ref().map_or(0, |common| n_kills(&common.kills))
    }

    /// Creates a group.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel does not allow another group.
    pub fn make(&self) -> io::Result<Group> {
        let number = self.n_made.fetch_add(1, Ordering::Relaxed).to_string();
        let mut parts = Vec::new();
        for controller in Controller::ALL {
            let Some(place) = self.parent.place(controller) else { continue };
            let dir = place.dir.join(&number);
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                // The controllers of version 2 share a directory.
                Ok(()) | Err(_) => {}
            }
            parts.push(Part::open(controller, place.version, dir)?);
        }
        let parent = Arc::clone(&self.parent);
        let mut group = Group::new(parts, parent);
        group.apply_fixed_settings()?;
        Ok(group)
    }
}

/// One controller of a group.
#[derive(Debug)]
struct Part {
    controller: Controller,
    version: Version,
    dir: PathBuf,
    /// Version 1: the file through which threads join, if they join often.
    tasks: Option<File>,
    /// The number of tasks, if the controller counts them.
    current: Option<File>,
    /// The number of OOM kills, if the controller counts them.
    kills: Option<File>,
}

impl Part {
    fn open(controller: Controller, version: Version, dir: PathBuf) -> io::Result<Self> {
        let tasks = match version {
            // Files that are rarely used are opened on demand, because every new process inherits
            // all descriptors and has to close them.
            Version::V1 if controller != Controller::Cpu => {
                Some(OpenOptions::new().write(true).open(dir.join("tasks"))?)
            }
            Version::V1 | Version::V2 => None,
        };
        let current = match controller {
            Controller::Pids => Some(File::open(dir.join("pids.current"))?),
            Controller::Memory | Controller::Cpu => None,
        };
        let kills = match (controller, version) {
            (Controller::Memory, Version::V1) => Some(File::open(dir.join("memory.oom_control"))?),
            (Controller::Memory, Version::V2) => Some(File::open(dir.join("memory.events"))?),
            (Controller::Pids | Controller::Cpu, _) => None,
        };
        Ok(Self { controller, version, dir, tasks, current, kills })
    }

    /// Moves the calling thread into the group.
    fn join(&self) -> io::Result<()> {
        match &self.tasks {
            Some(tasks) => tasks.write_at(b"0", 0).map(drop),
            None => self.write("tasks", 0),
        }
    }

    fn write(&self, file: &str, value: impl ToString) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(self.dir.join(file))?;
        file.write_all(value.to_string().as_bytes())
    }

    fn read_number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.dir.join(file)).ok()?.trim().parse().ok()
    }

    fn limit_memory(&self, max: Option<u64>, before: Option<u64>) -> io::Result<()> {
        if self.version == Version::V2 {
            return self.write("memory.max", max.map_or("max".to_owned(), |max| max.to_string()));
        }
        // The limit of memory plus swap must never be lower than that of memory alone.
        let max_text = max.map_or("-1".to_owned(), |max| max.to_string());
        let mut order = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"];
        if before.unwrap_or(u64::MAX) < max.unwrap_or(u64::MAX) {
            order.reverse();
        }
        for file in order {
            match self.write(file, &max_text) {
                // Swap accounting may be disabled.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                written => written?,
            }
        }
        Ok(())
    }

    fn limit_cpu(&self, share: Share) -> io::Result<()> {
        match (self.version, share) {
            (Version::V1, Share::Weight(milli)) => self.write("cpu.shares", shares(milli)),
            (Version::V2, Share::Weight(milli)) => self.write("cpu.weight", weight(milli)),
            (Version::V1, Share::Quota(milli)) => {
                self.write("cpu.cfs_period_us", QUOTA_PERIOD_MICROS)?;
                self.write("cpu.cfs_quota_us", quota(milli))
            }
            (Version::V2, Share::Quota(milli)) => {
                self.write("cpu.max", format!("{} {QUOTA_PERIOD_MICROS}", quota(milli)))
            }
        }
    }
}

const QUOTA_PERIOD_MICROS: u64 = 100_000;

fn shares(milli: u64) -> u64 {
    (milli.saturating_mul(1024) / 1000).clamp(2, 262_144)
}

fn weight(milli: u64) -> u64 {
    (milli / 10).clamp(1, 10_000)
}

fn quota(milli: u64) -> u64 {
    (milli.saturating_mul(QUOTA_PERIOD_MICROS) / 1000).max(1000)
}

/// Reads the number of OOM kills from a file with several counters.
fn n_kills(file: &File) -> u64 {
    let mut buffer = [0; 512];
    let n_read = file.read_at(&mut buffer, 0).unwrap_or(0);
    let text = str::from_utf8(&buffer[..n_read]).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// The control group of one attempt.
#[derive(Debug)]
pub struct Group {
    parts: Vec<Part>,
    parent: Arc<Parent>,
    /// The limits that were last applied.
    limits: Option<GroupLimits>,
    /// Whether a thread of this process is a member.
    has_own_thread: bool,
    /// The number of OOM kills when last read.
    last_kill_count: u64,
}

/// The membership of a thread in the groups of an attempt. Must be dropped by the same thread,
/// which then leaves them.
#[derive(Debug)]
pub struct Membership {
    memory: Counted,
    with_cpu: bool,
    joined: Vec<Controller>,
    parent: Arc<Parent>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        for controller in &self.joined {
            if let Err(error) = self.parent.enter_original_group(*controller) {
                // Further work of this thread would be subject to the limits of an attempt.
                tracing::error!(%error, ?controller, "thread cannot leave a group");
            }
        }
    }
}

impl Group {
    fn new(parts: Vec<Part>, parent: Arc<Parent>) -> Self {
        Self { parts, parent, limits: None, has_own_thread: false, last_kill_count: 0 }
    }

    /// Applies settings that never change.
    fn apply_fixed_settings(&mut self) -> io::Result<()> {
        for part in &self.parts {
            if part.controller == Controller::Memory && part.version == Version::V2 {
                // If one process of a task is OOM-killed, the others are useless.
                part.write("memory.oom.group", 1)?;
                match part.write("memory.swap.max", 0) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Applies limits to all present and future processes of the group. Writes only the
    /// differences.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel rejects a limit, such as less memory than is in use. The
    /// group must not be used any more then.
    pub fn set_limits(&mut self, wanted: GroupLimits) -> io::Result<()> {
        let before = self.limits;
        for part in &self.parts {
            let is_new = |same: fn(&GroupLimits) -> Option<u64>| {
                before.as_ref().is_none_or(|before| same(before) != same(&wanted))
            };
            match part.controller {
                Controller::Memory if is_new(|limits| limits.memory) => {
                    part.limit_memory(wanted.memory, before.and_then(|before| before.memory))?;
                }
                Controller::Pids if is_new(|limits| Some(limits.pids)) => {
                    // Plus the thread that starts them.
                    part.write("pids.max", wanted.pids.saturating_add(1))?;
                }
                Controller::Cpu if before.is_none_or(|before| before.share != wanted.share) => {
                    part.limit_cpu(wanted.share)?;
                }
                _ => {}
            }
        }
        self.limits = Some(wanted);
        Ok(())
    }

    fn part(&self, controller: Controller) -> Option<&Part> {
        self.parts.iter().find(|part| part.controller == controller)
    }

    /// Version 1: moves the calling thread into the group until the return value is dropped.
    /// Processes that it starts meanwhile are members. The CPU controller may be omitted if
    /// [`Group::move_to_cpu_group`] is called later.
    ///
    /// # Errors
    ///
    /// Returns an error if it is not permitted. The thread has not moved then.
    pub fn enter(&self, memory: Counted, with_cpu: bool) -> io::Result<Membership> {
        let joined = Vec::with_capacity(3);
        let mut membership =
            Membership { memory, with_cpu, joined, parent: Arc::clone(&self.parent) };
        for part in self.parts.iter().filter(|part| part.version == Version::V1) {
            match part.controller {
                Controller::Memory if memory == Counted::Not => continue,
                Controller::Memory if memory == Counted::WithAll => {
                    let Some(common) = &self.parent.common else { continue };
                    common.tasks.write_at(b"0", 0)?;
                }
                Controller::Cpu if !with_cpu && self.can_move_to_cpu_group() => continue,
                Controller::Memory | Controller::Pids | Controller::Cpu => part.join()?,
            }
            membership.joined.push(part.controller);
        }
        Ok(membership)
    }

    /// Returns whether [`Group::enter`] with these arguments would result in the same membership.
    pub fn is_entered(&self, membership: &Membership, memory: Counted, with_cpu: bool) -> bool {
        (membership.memory, membership.with_cpu) == (memory, with_cpu)
    }

    /// Sets whether a thread of this process is a member.
    pub fn set_has_own_thread(&mut self, has_own_thread: bool) {
        self.has_own_thread = has_own_thread;
    }

    /// Returns whether the processes are known even if they have not joined the CPU group.
    fn can_move_to_cpu_group(&self) -> bool {
        self.tracker().is_some_and(|part| part.controller == Controller::Pids)
    }

    /// Version 1: moves all processes of the attempt into the CPU group if they were started
    /// without it.
    pub fn move_to_cpu_group(&self) {
        let (Some(tracker), Some(cpu)) = (self.tracker(), self.part(Controller::Cpu)) else {
            return;
        };
        if cpu.version == Version::V2 || !self.can_move_to_cpu_group() {
            return;
        }
        let mut taken = BTreeSet::new();
        loop {
            // Processes forked meanwhile by one that had not joined are found in the next round.
            let new = processes(&tracker.dir).into_iter().map(|pid| pid.as_raw_pid());
            let new: Vec<i32> = new.filter(|pid| taken.insert(*pid)).collect();
            if new.is_empty() {
                return;
            }
            for pid in new {
                if let Err(error) = cpu.write("cgroup.procs", pid) {
                    // It has probably ended.
                    tracing::debug!(%error, pid, "process cannot be moved to its CPU group");
                }
            }
        }
    }

    /// Version 2: returns the file to which a process writes 0 to join.
    pub fn cgroup_procs(&self) -> Option<PathBuf> {
        let part = self.parts.iter().find(|part| part.version == Version::V2)?;
        Some(part.dir.join("cgroup.procs"))
    }

    /// Returns the number of OOM kills since the group was created, as of the last update.
    pub fn last_kill_count(&self) -> u64 {
        self.last_kill_count
    }

    /// Updates and returns the number of OOM kills.
    pub fn update_kill_count(&mut self) -> u64 {
        self.last_kill_count = self.n_memory_kills().max(self.last_kill_count);
        self.last_kill_count
    }

    fn n_memory_kills(&self) -> u64 {
        self.part(Controller::Memory).and_then(|part| part.kills.as_ref()).map_or(0, n_kills)
    }

    /// Returns the memory usage in bytes, including page cache.
    pub fn memory(&self) -> u64 {
        let Some(part) = self.part(Controller::Memory) else { return 0 };
        let file = match part.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        };
        part.read_number(file).unwrap_or(0)
    }

    /// Returns whether the group has no processes. Zombies do not count.
    pub fn is_empty(&self) -> bool {
        let Some(part) = self.tracker() else { return true };
        // In version 2, threads of this process cannot be members.
        let has_own_thread = self.has_own_thread && part.version == Version::V1;
        let none: &[u8] = if has_own_thread { b"1\n" } else { b"0\n" };
        let is_none = |file: &File| {
            let mut digits = [0; 2];
            matches!(file.read_at(&mut digits, 0), Ok(n) if digits[..n] == *none)
        };
        part.current.as_ref().is_some_and(is_none) || processes(&part.dir).is_empty()
    }

    /// Returns a part that contains every process of the attempt.
    fn tracker(&self) -> Option<&Part> {
        let order = [Controller::Pids, Controller::Cpu, Controller::Memory];
        order.into_iter().find_map(|controller| self.part(controller))
    }

    /// Kills all processes and prevents new ones. Must be repeated until the group is empty.
    pub fn kill(&mut self) {
        if let Some(pids) = self.part(Controller::Pids) {
            // A fork bomb might otherwise create processes faster than they are killed.
            if let Err(error) = pids.write("pids.max", 0) {
                tracing::debug!(%error, "cannot prevent new processes while a group is killed");
            }
        }
        if let Some(limits) = &mut self.limits {
            limits.pids = 0;
        }
        if let Some(part) = self.tracker() {
            sweep::kill(&part.dir);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for part in &self.parts {
            // The controllers of version 2 share a directory. If it cannot be removed now, it is
            // removed with the parent or by the next start.
            let _ = fs::remove_dir(&part.dir);
        }
    }
}

#[cfg(test)]
mod tests;
