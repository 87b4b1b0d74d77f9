//! Control groups: what holds an attempt to its memory, its processes and its share of the
//! processors, and what finds every process of it, however it hides.
//!
//! Each controller is used where this process may use it, in version 1 or 2, one beside the
//! other if need be. Below the group that this process is in, a parent is made for it, and in
//! that a group for each attempt, which serves the next one when it is empty.
//!
//! How a process gets into its group differs. In version 1 a single thread can be in a group of
//! its own, and a child begins in the groups of the thread that forks it: so the thread that
//! starts a program joins the group, starts it, and leaves, which costs a few microseconds. In
//! version 2 threads cannot be told apart: the child has to enter by itself before it becomes
//! the program, see [`Group::entrance`].
//!
//! A thread that starts one attempt after the other stays where it is from one to the next.
//!
//! That the thread is in the group is harmless. The system never chooses a thread
//! that does not lead its process to be killed for want of memory, nor a child that has not
//! begun its program yet; and whoever kills the processes of a group passes over this process.

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

use crate::{Controller, Counted, Held, Share};
pub use detect::probe;
use parent::Parent;
pub use sweep::clear_stale;
use sweep::processes;

/// Which of the two designs a controller is used by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// One hierarchy for each controller, groups of threads.
    V1,
    /// One hierarchy for all controllers, groups of processes.
    V2,
}

impl Version {
    /// Its number.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

/// The groups of one worker. When the last of it is dropped, they are removed.
#[derive(Debug)]
pub struct Cgroups {
    parent: Arc<Parent>,
    n_made: AtomicU64,
}

impl Cgroups {
    /// Makes the parent of the groups of a worker, which may hold `memory` bytes in all and has
    /// `cpu_milli` thousandths of processors. Says of each controller that cannot be used why.
    pub fn open(
        worker: &str,
        memory: Option<u64>,
        cpu_milli: u64,
    ) -> (Self, Vec<(Controller, String)>) {
        let (parent, refused) = Parent::make(worker, memory, cpu_milli);
        (Self { parent: Arc::new(parent), n_made: AtomicU64::new(0) }, refused)
    }

    /// The number of the version by which a controller is used; `None` when it is not.
    pub fn version(&self, controller: Controller) -> Option<u8> {
        self.parent.place(controller).map(|place| place.version.number())
    }

    /// Where the parents are.
    pub fn dirs(&self) -> BTreeSet<&Path> {
        self.parent.dirs()
    }

    /// Whether all attempts together are held to an amount of memory.
    pub fn is_memory_bounded(&self) -> bool {
        self.parent.is_memory_bounded
    }

    /// Whether attempts may be counted together.
    pub fn has_common(&self) -> bool {
        self.parent.common.is_some()
    }

    /// How many of those that are counted together were killed for want of memory.
    pub fn n_common_kills(&self) -> u64 {
        self.parent.common.as_ref().map_or(0, |common| n_kills(&common.kills))
    }

    /// Makes a group.
    ///
    /// # Errors
    ///
    /// Fails when the system does not allow another.
    pub fn make(&self) -> io::Result<Group> {
        let number = self.n_made.fetch_add(1, Ordering::Relaxed).to_string();
        let mut parts = Vec::new();
        for controller in Controller::ALL {
            let Some(place) = self.parent.place(controller) else { continue };
            let dir = place.dir.join(&number);
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                // Controllers of version 2 share one.
                Ok(()) | Err(_) => {}
            }
            parts.push(Part::open(controller, place.version, dir)?);
        }
        let parent = Arc::clone(&self.parent);
        let mut group = Group::new(parts, parent);
        group.arm()?;
        Ok(group)
    }
}

/// One controller of a group.
#[derive(Debug)]
struct Part {
    controller: Controller,
    version: Version,
    dir: PathBuf,
    /// Version 1: where a thread joins, if that is often.
    tasks: Option<File>,
    /// How many tasks there are, where that is counted.
    current: Option<File>,
    /// How many were killed for want of memory, where that is counted.
    kills: Option<File>,
}

impl Part {
    fn open(controller: Controller, version: Version, dir: PathBuf) -> io::Result<Self> {
        let tasks = match version {
            // What is rarely joined is opened when it is: each process that is started inherits
            // all descriptors, to close them.
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

    /// Takes the calling thread in.
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

    fn hold_memory(&self, max: Option<u64>, before: Option<u64>) -> io::Result<()> {
        if self.version == Version::V2 {
            return self.write("memory.max", max.map_or("max".to_owned(), |max| max.to_string()));
        }
        // Memory and swap together may never be less than memory alone.
        let max_text = max.map_or("-1".to_owned(), |max| max.to_string());
        let mut order = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"];
        if before.unwrap_or(u64::MAX) < max.unwrap_or(u64::MAX) {
            order.reverse();
        }
        for file in order {
            match self.write(file, &max_text) {
                // Not every system accounts for swap.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                written => written?,
            }
        }
        Ok(())
    }

    fn hold_cpu(&self, share: Share) -> io::Result<()> {
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

/// The number of processes killed for want of memory, in a file that tells of more than that.
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
    /// What it was last held to.
    held: Option<Held>,
    /// Whether a thread of this process stays in it.
    has_guest: bool,
    /// How many of its processes were killed for want of memory, by the last look.
    last_kill_count: u64,
}

/// The thread that made this is in the groups of an attempt until this is dropped, by the same
/// thread.
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
            if let Err(error) = self.parent.come_home(*controller) {
                // What comes after it on this thread would be held to the limits of an attempt.
                tracing::error!(%error, ?controller, "thread cannot leave a group");
            }
        }
    }
}

impl Group {
    fn new(parts: Vec<Part>, parent: Arc<Parent>) -> Self {
        Self { parts, parent, held: None, has_guest: false, last_kill_count: 0 }
    }

    /// What never changes.
    fn arm(&mut self) -> io::Result<()> {
        for part in &self.parts {
            if part.controller == Controller::Memory && part.version == Version::V2 {
                // A task of which one process is killed is of no use any more.
                part.write("memory.oom.group", 1)?;
                match part.write("memory.swap.max", 0) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Holds what is or will be in it to these limits. Writes only what differs from before.
    ///
    /// # Errors
    ///
    /// Fails when the system refuses, such as less memory than is in use. Then the group is of no
    /// more use.
    pub fn hold(&mut self, wanted: Held) -> io::Result<()> {
        let before = self.held;
        for part in &self.parts {
            let is_new = |same: fn(&Held) -> Option<u64>| {
                before.as_ref().is_none_or(|before| same(before) != same(&wanted))
            };
            match part.controller {
                Controller::Memory if is_new(|held| held.memory) => {
                    part.hold_memory(wanted.memory, before.and_then(|before| before.memory))?;
                }
                Controller::Pids if is_new(|held| Some(held.pids)) => {
                    // And the thread that starts them.
                    part.write("pids.max", wanted.pids.saturating_add(1))?;
                }
                Controller::Cpu if before.is_none_or(|before| before.share != wanted.share) => {
                    part.hold_cpu(wanted.share)?;
                }
                _ => {}
            }
        }
        self.held = Some(wanted);
        Ok(())
    }

    fn part(&self, controller: Controller) -> Option<&Part> {
        self.parts.iter().find(|part| part.controller == controller)
    }

    /// Version 1: takes the calling thread into the group, until what is returned is dropped.
    /// What it starts meanwhile begins there. Processors may be left out where [`Group::take_in`]
    /// is called later.
    ///
    /// # Errors
    ///
    /// Fails when the system does not allow it; then the thread is where it was.
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
                Controller::Cpu if !with_cpu && self.can_take_in() => continue,
                Controller::Memory | Controller::Pids | Controller::Cpu => part.join()?,
            }
            membership.joined.push(part.controller);
        }
        Ok(membership)
    }

    /// Whether a thread that is inside would be where it is if it entered in this way.
    pub fn is_entered(&self, membership: &Membership, memory: Counted, with_cpu: bool) -> bool {
        (membership.memory, membership.with_cpu) == (memory, with_cpu)
    }

    /// Says whether a thread of this process stays in it.
    pub fn set_guest(&mut self, has_guest: bool) {
        self.has_guest = has_guest;
    }

    /// Whether its processes are known without the group that shares out processors.
    fn can_take_in(&self) -> bool {
        self.tracker().is_some_and(|part| part.controller == Controller::Pids)
    }

    /// Version 1: takes into the group that shares out processors what was left out of it when
    /// it was started, and all that has descended from that.
    pub fn take_in(&self) {
        let (Some(tracker), Some(cpu)) = (self.tracker(), self.part(Controller::Cpu)) else {
            return;
        };
        if cpu.version == Version::V2 || !self.can_take_in() {
            return;
        }
        let mut taken = BTreeSet::new();
        loop {
            // What is forked meanwhile, by one that was not in it yet, shows in the next round.
            let new = processes(&tracker.dir).into_iter().map(|pid| pid.as_raw_pid());
            let new: Vec<i32> = new.filter(|pid| taken.insert(*pid)).collect();
            if new.is_empty() {
                return;
            }
            for pid in new {
                if let Err(error) = cpu.write("cgroup.procs", pid) {
                    // Most likely it has ended.
                    tracing::debug!(%error, pid, "process has no share of processors of its own");
                }
            }
        }
    }

    /// Version 2: the file into which a process writes 0 to enter.
    pub fn entrance(&self) -> Option<PathBuf> {
        let part = self.parts.iter().find(|part| part.version == Version::V2)?;
        Some(part.dir.join("cgroup.procs"))
    }

    /// How many of its processes were killed for want of memory since it was made, as far as
    /// anybody looked.
    pub fn last_kill_count(&self) -> u64 {
        self.last_kill_count
    }

    /// How many it is now.
    pub fn update_kill_count(&mut self) -> u64 {
        self.last_kill_count = self.n_memory_kills().max(self.last_kill_count);
        self.last_kill_count
    }

    fn n_memory_kills(&self) -> u64 {
        self.part(Controller::Memory).and_then(|part| part.kills.as_ref()).map_or(0, n_kills)
    }

    /// Memory that it holds now, in bytes: files that were read or written count too.
    pub fn memory(&self) -> u64 {
        let Some(part) = self.part(Controller::Memory) else { return 0 };
        let file = match part.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        };
        part.read_number(file).unwrap_or(0)
    }

    /// Whether no process is left in it. Dead ones that wait to be reaped do not count.
    pub fn is_empty(&self) -> bool {
        let Some(part) = self.tracker() else { return true };
        // In version 2 no thread of ours can be a guest.
        let has_guest = self.has_guest && part.version == Version::V1;
        let none: &[u8] = if has_guest { b"1\n" } else { b"0\n" };
        let is_none = |file: &File| {
            let mut digits = [0; 2];
            matches!(file.read_at(&mut digits, 0), Ok(n) if digits[..n] == *none)
        };
        part.current.as_ref().is_some_and(is_none) || processes(&part.dir).is_empty()
    }

    /// The part in which every process of the attempt is.
    fn tracker(&self) -> Option<&Part> {
        let order = [Controller::Pids, Controller::Cpu, Controller::Memory];
        order.into_iter().find_map(|controller| self.part(controller))
    }

    /// Kills what is in it, and keeps it from starting more. Look afterwards whether it is empty,
    /// and if not, do it again.
    pub fn kill(&mut self) {
        if let Some(pids) = self.part(Controller::Pids) {
            // Else a fork bomb might be faster than whoever kills it.
            if let Err(error) = pids.write("pids.max", 0) {
                tracing::debug!(%error, "group may start processes while it is killed");
            }
        }
        if let Some(held) = &mut self.held {
            held.pids = 0;
        }
        if let Some(part) = self.tracker() {
            sweep::kill(&part.dir);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for part in &self.parts {
            // Controllers of version 2 share one. What cannot be removed now is removed with the
            // parent, or by the next start.
            let _ = fs::remove_dir(&part.dir);
        }
    }
}

#[cfg(test)]
mod tests;
