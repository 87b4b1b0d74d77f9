//! The limits of one attempt, from before its first process starts until its last one is dead.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kahn_model::{Cause, CauseKind, Failure, Resource, Resources};
use rustix::io::Errno;

use super::{LimitMode, Limits};
use kahn_platform::{Controller, Counted, Group, GroupLimits, Membership, PreExecLimits};

/// The initial and maximum delay between checks whether killed processes are dead.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LOOK_PERIOD_MAX: Duration = Duration::from_millis(50);
/// After this time an undead process is logged, since it is probably stuck in the kernel.
const STUCK_AFTER: Duration = Duration::from_secs(10);

const AT_THE_END: &str = "killed where the worker's memory ended";
const KILL: i32 = 9;

/// Enforces the limits of one attempt. Dropping it kills the processes left in its group.
#[derive(Debug)]
pub(crate) struct LimitGuard {
    limits: Arc<Limits>,
    group: Option<Group>,
    wanted: GroupLimits,
    /// Whether the limits change while processes are alive.
    is_changeable: bool,
    /// The number of OOM kills in the group: before the attempt, and as of the last update.
    n_kills_before: u64,
    n_kills: u64,
}

/// A thread's membership of an otherwise empty group.
#[derive(Debug)]
pub(crate) struct ReusableGroup {
    pub(super) membership: Membership,
    pub(super) group: Group,
}

impl LimitGuard {
    pub(super) fn new(
        limits: Arc<Limits>,
        group: Option<Group>,
        wanted: GroupLimits,
        is_changeable: bool,
    ) -> Self {
        let n_kills = group.as_ref().map_or(0, Group::last_kill_count);
        let n_kills_before = n_kills;
        Self { limits, group, wanted, is_changeable, n_kills_before, n_kills }
    }

    /// Returns the group that the attempt's memory is charged to.
    fn counted(&self) -> Counted {
        let groups = self.limits.cgroups.as_ref();
        let Some(groups) = groups.filter(|g| g.version(Controller::Memory).is_some()) else {
            return Counted::Not;
        };
        if self.wanted.memory.is_some() || self.is_changeable {
            Counted::Alone
        } else if !groups.is_memory_bounded() {
            Counted::Not
        } else if groups.has_common() {
            Counted::WithAll
        } else {
            Counted::Alone
        }
    }

    fn has_memory(&self) -> bool {
        self.counted() == Counted::Alone
    }

    fn n_common_kills(&self) -> u64 {
        self.limits.cgroups.as_ref().map_or(0, kahn_platform::Cgroups::n_common_kills)
    }

    /// Reads the number of OOM kills of the group.
    pub(crate) fn update_kill_count(&mut self) {
        if self.has_memory()
            && let Some(group) = &mut self.group
        {
            self.n_kills = group.update_kill_count();
        }
    }

    /// Moves the calling thread into the group until the return value is dropped. Processes that it
    /// starts are members too.
    pub(crate) fn enter(&self) -> io::Result<Option<Membership>> {
        let (memory, with_cpu) = (self.counted(), self.is_changeable);
        self.group.as_ref().map(|group| group.enter(memory, with_cpu)).transpose()
    }

    /// Moves the calling thread into the group unless it is there already.
    ///
    /// Must be followed by [`LimitGuard::leave`] or [`LimitGuard::into_reusable`].
    pub(crate) fn ensure_entered(
        &mut self,
        from: Option<Membership>,
    ) -> io::Result<Option<Membership>> {
        let (memory, with_cpu) = (self.counted(), self.is_changeable);
        if memory == Counted::WithAll {
            self.n_kills_before = self.n_common_kills();
        }
        let Some(group) = &mut self.group else { return Ok(None) };
        group.set_has_own_thread(true);
        match from {
            Some(membership) if group.is_entered(&membership, memory, with_cpu) => {
                Ok(Some(membership))
            }
            elsewhere => {
                drop(elsewhere);
                group.enter(memory, with_cpu).map(Some)
            }
        }
    }

    /// Removes the calling thread from the group. The processes that it started stay.
    pub(crate) fn leave(&mut self, membership: Option<Membership>) {
        if let Some(group) = &mut self.group {
            group.set_has_own_thread(false);
        }
        drop(membership);
    }

    /// Keeps the calling thread in the empty group, for its next attempt.
    ///
    /// Returns `None` for a group with a memory limit, which would be charged for the thread's own
    /// memory.
    pub(crate) fn into_reusable(mut self, membership: Option<Membership>) -> Option<ReusableGroup> {
        if self.wanted.memory.is_some() {
            self.leave(membership);
            return None;
        }
        Some(ReusableGroup { membership: membership?, group: self.group.take()? })
    }

    /// Moves living processes to their CPU share.
    ///
    /// Done late, because a short attempt ends before the share matters, and moving a process costs
    /// a large part of what starting it costs.
    pub(crate) fn share_processors(&self) {
        if !self.is_changeable
            && let Some(group) = &self.group
        {
            group.move_to_cpu_group();
        }
    }

    /// Returns what a process of the attempt must do itself at its start, because the calling
    /// thread cannot do it on its behalf.
    pub(crate) fn pre_exec_limits(&self) -> PreExecLimits {
        let settings = &self.limits.settings;
        let cgroups = self.limits.cgroups.as_ref();
        // Without a group, each process is limited individually.
        let is_alone = |controller| {
            settings.mode != LimitMode::Off
                && cfg!(target_os = "linux")
                && cgroups.is_none_or(|cgroups| cgroups.version(controller).is_none())
        };
        PreExecLimits {
            cgroup_procs: self.group.as_ref().and_then(Group::cgroup_procs),
            address_space: self.wanted.memory.filter(|_| is_alone(Controller::Memory)),
            pids: settings.pids.filter(|_| is_alone(Controller::Pids)).map(|_| self.wanted.pids),
        }
    }

    /// Changes the limits of living processes.
    ///
    /// # Errors
    ///
    /// Returns an error if the group uses more memory than `resources` allow. It must not be used
    /// for them.
    pub(crate) fn change(&mut self, resources: &Resources) -> io::Result<()> {
        let wanted = self.limits.wanted(resources);
        let Some(group) = self.group.as_mut().filter(|_| wanted != self.wanted) else {
            return Ok(());
        };
        if wanted.memory.is_some_and(|memory| memory <= group.memory()) {
            return Err(Errno::NOMEM.into());
        }
        group.set_limits(wanted)?;
        self.wanted = wanted;
        Ok(())
    }

    /// Returns the failure for a failed start, if the limits caused it.
    pub(crate) fn explain(&self, error: &io::Error) -> Option<Failure> {
        let is_held = self.has_memory() || self.pre_exec_limits().address_space.is_some();
        let memory = self.wanted.memory.filter(|_| is_held)?;
        let is_memory = error.raw_os_error() == Some(Errno::NOMEM.raw_os_error());
        is_memory.then(|| out_of_memory(&format!("{} is too little to start", bytes(memory))))
    }

    /// Returns a failure if the kernel OOM-killed a process of the attempt between the start, or
    /// the last [`LimitGuard::forget_kills`], and the last [`LimitGuard::update_kill_count`].
    pub(crate) fn ran_out_of_memory(&self) -> Option<Failure> {
        if self.n_kills <= self.n_kills_before {
            return None;
        }
        Some(out_of_memory(&match self.wanted.memory {
            Some(memory) => format!("killed at {}", bytes(memory)),
            None => AT_THE_END.to_owned(),
        }))
    }

    /// Returns the out-of-memory failure that explains `failure`, if there is one.
    ///
    /// If the memory of several attempts is counted together, the attempt ran out of memory if
    /// there was an OOM kill during it and it ended like a killed process.
    pub(crate) fn explain_end(&self, failure: &Failure) -> Option<Failure> {
        match self.counted() {
            Counted::Not => None,
            Counted::Alone => self.ran_out_of_memory(),
            Counted::WithAll => {
                let is_it = was_killed(failure) && self.n_kills_before < self.n_common_kills();
                is_it.then(|| out_of_memory(AT_THE_END))
            }
        }
    }

    /// Returns a lower bound for the peak memory of an attempt that ran out of memory, in bytes:
    /// its limit. Samples of single processes do not show their simultaneous total.
    pub(crate) fn memory_reached(&self) -> u64 {
        self.wanted.memory.filter(|_| self.n_kills > self.n_kills_before).unwrap_or(0)
    }

    /// Restarts the count of OOM kills.
    pub(crate) fn forget_kills(&mut self) {
        self.update_kill_count();
        self.n_kills_before = self.n_kills;
    }

    /// Returns whether the group, if there is one, is empty.
    pub(crate) fn is_clear(&self) -> bool {
        self.group.as_ref().is_none_or(Group::is_empty)
    }

    /// Kills all processes left in the group and waits until they are dead.
    pub(crate) async fn kill_rest(&mut self) {
        let Some(group) = &mut self.group else { return };
        let mut pause = FIRST_LOOK;
        let mut waited = Duration::ZERO;
        while !group.is_empty() {
            group.kill();
            tokio::time::sleep(pause).await;
            if waited < STUCK_AFTER && STUCK_AFTER <= waited + pause {
                tracing::warn!(?group, "processes of an attempt do not die");
            }
            waited += pause;
            pause = (pause * 2).min(LOOK_PERIOD_MAX);
        }
    }
}

impl Drop for LimitGuard {
    fn drop(&mut self) {
        // The kills must not be attributed to the next attempt in this group.
        self.update_kill_count();
        self.leave(None);
        let Some(mut group) = self.group.take() else { return };
        if group.is_empty() {
            self.limits.put_back(group);
        } else {
            group.kill();
        }
    }
}

/// Returns whether a process was killed by SIGKILL, or a shell reports that its child was.
fn was_killed(failure: &Failure) -> bool {
    let cause = failure.cause;
    cause == Cause::signal(KILL) || cause == Cause::exit_code(128 + KILL)
}

fn out_of_memory(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::OutOfMemory), message)
}

/// Formats bytes for humans, such as `64Mi`.
fn bytes(amount: u64) -> String {
    let text = Resources::none().with(&Resource::Memory, amount).to_string();
    text.trim_start_matches("memory=").to_owned()
}
