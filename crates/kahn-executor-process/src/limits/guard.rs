//! The hold on one attempt, from before its first process to after its last.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kahn_model::{Cause, CauseKind, Failure, Resource, Resources};
use rustix::io::Errno;

use super::{LimitMode, Limits};
use kahn_platform::{Controller, Counted, Gate, Group, Held, Membership};

/// How long to wait before looking again whether what was killed is dead.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LOOK_PERIOD_MAX: Duration = Duration::from_millis(50);
/// A process that is not dead by then is stuck in the system, which an operator should know.
const STUCK_AFTER: Duration = Duration::from_secs(10);

const AT_THE_END: &str = "killed where the worker's memory ended";
/// SIGKILL.
const KILL: i32 = 9;

/// What one attempt is held by. When it is dropped, what is left in its group is killed.
#[derive(Debug)]
pub(crate) struct LimitGuard {
    limits: Arc<Limits>,
    group: Option<Group>,
    wanted: Held,
    /// Whether the amounts will change while processes live.
    is_changeable: bool,
    /// How many processes of the group were killed for want of memory, before the attempt and by
    /// the last look.
    n_kills_before: u64,
    n_kills: u64,
}

/// A thread's place in a group in which nothing else is left.
#[derive(Debug)]
pub(crate) struct ReusableGroup {
    pub(super) membership: Membership,
    pub(super) group: Group,
}

impl LimitGuard {
    pub(super) fn new(
        limits: Arc<Limits>,
        group: Option<Group>,
        wanted: Held,
        is_changeable: bool,
    ) -> Self {
        let n_kills = group.as_ref().map_or(0, Group::last_kill_count);
        let n_kills_before = n_kills;
        Self { limits, group, wanted, is_changeable, n_kills_before, n_kills }
    }

    /// Where the memory of the attempt is counted.
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

    /// Looks whether processes were killed for want of memory.
    pub(crate) fn update_kill_count(&mut self) {
        if self.has_memory()
            && let Some(group) = &mut self.group
        {
            self.n_kills = group.update_kill_count();
        }
    }

    /// Takes the calling thread along to where what it starts is to be, until what is returned is
    /// dropped.
    pub(crate) fn enter(&self) -> io::Result<Option<Membership>> {
        let (memory, with_cpu) = (self.counted(), self.is_changeable);
        self.group.as_ref().map(|group| group.enter(memory, with_cpu)).transpose()
    }

    /// Has the calling thread stay where what it starts is to be; it may have stayed there before.
    /// [`LimitGuard::leave`] or [`LimitGuard::into_reusable`] come after it.
    pub(crate) fn settle(&mut self, from: Option<Membership>) -> io::Result<Option<Membership>> {
        let (memory, with_cpu) = (self.counted(), self.is_changeable);
        if memory == Counted::WithAll {
            self.n_kills_before = self.n_common_kills();
        }
        let Some(group) = &mut self.group else { return Ok(None) };
        group.set_guest(true);
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

    /// The calling thread leaves, and what it has started stays.
    pub(crate) fn leave(&mut self, membership: Option<Membership>) {
        if let Some(group) = &mut self.group {
            group.set_guest(false);
        }
        drop(membership);
    }

    /// Once nothing is left in it, the calling thread stays in the group, to which its next attempt
    /// will be held. Not where memory is short: what the thread needs itself would be counted.
    pub(crate) fn into_reusable(mut self, membership: Option<Membership>) -> Option<ReusableGroup> {
        if self.wanted.memory.is_some() {
            self.leave(membership);
            return None;
        }
        Some(ReusableGroup { membership: membership?, group: self.group.take()? })
    }

    /// Gives what lives its share of the processors. A short attempt is over before that matters,
    /// and to move a process from one share to another costs a good part of what it costs to
    /// start it.
    pub(crate) fn share_processors(&self) {
        if !self.is_changeable
            && let Some(group) = &self.group
        {
            group.take_in();
        }
    }

    /// What a process of the attempt goes through by itself, where the calling thread cannot take
    /// it along.
    pub(crate) fn gate(&self) -> Gate {
        let settings = &self.limits.settings;
        let cgroups = self.limits.cgroups.as_ref();
        // Of a group nothing is known where there is none, so each process is held for itself.
        let is_alone = |controller| {
            settings.mode != LimitMode::Off
                && cfg!(target_os = "linux")
                && cgroups.is_none_or(|cgroups| cgroups.version(controller).is_none())
        };
        Gate {
            entrance: self.group.as_ref().and_then(Group::entrance),
            address_space: self.wanted.memory.filter(|_| is_alone(Controller::Memory)),
            pids: settings.pids.filter(|_| is_alone(Controller::Pids)).map(|_| self.wanted.pids),
        }
    }

    /// Holds what lives already to other amounts.
    ///
    /// # Errors
    ///
    /// When it has more memory than that. Then it is of no use for them.
    pub(crate) fn change(&mut self, resources: &Resources) -> io::Result<()> {
        let wanted = self.limits.wanted(resources);
        let Some(group) = self.group.as_mut().filter(|_| wanted != self.wanted) else {
            return Ok(());
        };
        if wanted.memory.is_some_and(|memory| memory <= group.memory()) {
            return Err(Errno::NOMEM.into());
        }
        group.hold(wanted)?;
        self.wanted = wanted;
        Ok(())
    }

    /// What a failed start means, if the hold is to blame.
    pub(crate) fn explain(&self, error: &io::Error) -> Option<Failure> {
        let is_held = self.has_memory() || self.gate().address_space.is_some();
        let memory = self.wanted.memory.filter(|_| is_held)?;
        let is_memory = error.raw_os_error() == Some(Errno::NOMEM.raw_os_error());
        is_memory.then(|| out_of_memory(&format!("{} is too little to start", bytes(memory))))
    }

    /// That the system killed any of its processes for want of memory between the beginning of the
    /// hold, or [`LimitGuard::forget_kills`], and the last [`LimitGuard::update_kill_count`].
    pub(crate) fn ran_out_of_memory(&self) -> Option<Failure> {
        if self.n_kills <= self.n_kills_before {
            return None;
        }
        Some(out_of_memory(&match self.wanted.memory {
            Some(memory) => format!("killed at {}", bytes(memory)),
            None => AT_THE_END.to_owned(),
        }))
    }

    /// That an attempt which ended in this way ran out of memory. Where others are counted with it,
    /// it did if one of them was killed meanwhile and this one looks like it.
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

    /// Memory that the attempt had at least, if it ran out of it, in bytes: no look at single
    /// processes shows what they had together in that moment.
    pub(crate) fn memory_reached(&self) -> u64 {
        self.wanted.memory.filter(|_| self.n_kills > self.n_kills_before).unwrap_or(0)
    }

    /// Begins to count anew.
    pub(crate) fn forget_kills(&mut self) {
        self.update_kill_count();
        self.n_kills_before = self.n_kills;
    }

    /// Whether nothing is left, as far as a group tells.
    pub(crate) fn is_clear(&self) -> bool {
        self.group.as_ref().is_none_or(Group::is_empty)
    }

    /// Kills all that is left, however it hides, and returns when it is dead.
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
        // What happened here is nothing to those who get the group next.
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

/// Whether a process was killed, or a shell says so of one that it started.
fn was_killed(failure: &Failure) -> bool {
    let cause = failure.cause;
    cause == Cause::signal(KILL) || cause == Cause::exit_code(128 + KILL)
}

fn out_of_memory(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::OutOfMemory), message)
}

/// As people write it, such as `64Mi`.
fn bytes(amount: u64) -> String {
    let text = Resources::none().with(&Resource::Memory, amount).to_string();
    text.trim_start_matches("memory=").to_owned()
}
