//! The hold on one attempt, from before its first process to after its last.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kahn_model::{Cause, CauseKind, Failure, Resource, Resources};
use rustix::io::Errno;

use super::{LimitMode, Limits};
use crate::platform::{self, Controller, Gate, Group, Held, Inside};

/// How long to wait before looking again whether what was killed is dead.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LOOK_PERIOD_MAX: Duration = Duration::from_millis(50);
/// A process that is not dead by then is stuck in the system, which an operator should know.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// What one attempt is held by. When it is dropped, what is left in its group is killed.
#[derive(Debug)]
pub(in crate::executor) struct Hold {
    limits: Arc<Limits>,
    group: Option<Group>,
    wanted: Held,
    /// Whether the amounts will change while processes live.
    is_changeable: bool,
    n_memory_kills: u64,
}

impl Hold {
    pub(super) fn new(
        limits: Arc<Limits>,
        group: Option<Group>,
        wanted: Held,
        is_changeable: bool,
    ) -> Self {
        let mut hold = Self { limits, group, wanted, is_changeable, n_memory_kills: 0 };
        hold.n_memory_kills = hold.count_memory_kills();
        hold
    }

    /// Whether processes of the attempt are counted in a group of memory.
    fn has_memory(&self) -> bool {
        let cgroups = self.limits.cgroups.as_ref();
        let is_needed = self.wanted.memory.is_some()
            || self.is_changeable
            || cgroups.is_some_and(platform::Cgroups::is_memory_bounded);
        is_needed && cgroups.is_some_and(|c| c.version(Controller::Memory).is_some())
    }

    fn count_memory_kills(&self) -> u64 {
        let group = self.group.as_ref().filter(|_| self.has_memory());
        group.map_or(0, Group::n_memory_kills)
    }

    /// Takes the calling thread along to where what it starts is to be, until what is returned is
    /// dropped.
    pub(in crate::executor) fn enter(&self) -> io::Result<Option<Inside<'_>>> {
        let (with_memory, with_cpu) = (self.has_memory(), self.is_changeable);
        self.group.as_ref().map(|group| group.enter(with_memory, with_cpu)).transpose()
    }

    /// Gives what lives its share of the processors. A short attempt is over before that matters,
    /// and to move a process from one share to another costs a good part of what it costs to
    /// start it.
    pub(in crate::executor) fn share_processors(&self) {
        if !self.is_changeable
            && let Some(group) = &self.group
        {
            group.take_in();
        }
    }

    /// What a process of the attempt goes through by itself, where the calling thread cannot take
    /// it along.
    pub(in crate::executor) fn gate(&self) -> Gate {
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
    pub(in crate::executor) fn change(&mut self, resources: &Resources) -> io::Result<()> {
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
    pub(in crate::executor) fn explain(&self, error: &io::Error) -> Option<Failure> {
        let memory = self.wanted.memory.filter(|_| self.has_memory())?;
        let is_memory = error.raw_os_error() == Some(Errno::NOMEM.raw_os_error());
        is_memory.then(|| out_of_memory(&format!("{} is too little to start", bytes(memory))))
    }

    /// That the system killed any of its processes for want of memory since the hold began, or
    /// since [`Hold::forget_kills`].
    pub(in crate::executor) fn ran_out_of_memory(&self) -> Option<Failure> {
        if self.count_memory_kills() <= self.n_memory_kills {
            return None;
        }
        Some(out_of_memory(&match self.wanted.memory {
            Some(memory) => format!("killed at {}", bytes(memory)),
            None => "killed where the worker's memory ended".to_owned(),
        }))
    }

    /// Memory that the attempt had at least, if it ran out of it, in bytes: no look at single
    /// processes shows what they had together in that moment.
    pub(in crate::executor) fn memory_reached(&self) -> u64 {
        let has_run_out = self.count_memory_kills() > self.n_memory_kills;
        self.wanted.memory.filter(|_| has_run_out).unwrap_or(0)
    }

    /// Begins to count anew.
    pub(in crate::executor) fn forget_kills(&mut self) {
        self.n_memory_kills = self.count_memory_kills();
    }

    /// Kills all that is left, however it hides, and returns when it is dead.
    pub(in crate::executor) async fn kill_rest(&mut self) {
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

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(mut group) = self.group.take() else { return };
        if group.is_empty() {
            self.limits.put_back(group);
        } else {
            group.kill();
        }
    }
}

fn out_of_memory(message: &str) -> Failure {
    Failure::new(Cause::of(CauseKind::OutOfMemory), message)
}

/// As people write it, such as `64Mi`.
fn bytes(amount: u64) -> String {
    let text = Resources::none().with(&Resource::Memory, amount).to_string();
    text.trim_start_matches("memory=").to_owned()
}
