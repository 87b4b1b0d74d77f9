//! Everything that an attempt started is dead before the attempt is reported.
//!
//! The group of an attempt's first process is killed at once. What left the group, such as a
//! daemon that forked twice and made a session of its own, has lost its parent by then and was
//! handed to the worker, which adopts orphans. Every process of an attempt descends from its
//! first one, so once that one is dead, what is left hangs below an orphan of ours.
//!
//! Whose orphan it is follows from the scratch directory in its environment, or from a process
//! that we killed and that it descended from. One that hides it and was an orphan before is
//! suspected to be of any attempt that lived when it was first seen, and killed when all of these
//! have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use kahn_spawn::Reaped;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::scratch::SCRATCH_VARIABLE;
use kahn_platform::{Adopted, Facts, ProcessGroup, Variable};

/// How long to wait before looking again whether what was killed is dead.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LOOK_PERIOD_MAX: Duration = Duration::from_millis(100);
/// A process that is not dead by then is stuck in the system, which an operator should know.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// How often an orphan is looked at that was told to stop and does not, before it is killed.
const N_STOP_LOOKS_MAX: u32 = 8;
const N_LEFTOVER_ROUNDS_MAX: u32 = 1_000;

/// The process trees of all attempts of this process, whichever executor carries them out: the
/// orphans of all come to one place.
#[derive(Debug)]
pub(crate) struct Trees {
    adopted: Adopted,
    own_group: Pid,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    n_entered: u64,
    /// The directories under which attempts have theirs.
    roots: BTreeSet<PathBuf>,
    /// The attempts, by their scratch directories.
    live: BTreeMap<PathBuf, Live>,
    /// Orphans that hide whose they are, by id and start, with the attempts that are suspected.
    unclaimed: BTreeMap<(i32, u64), BTreeSet<u64>>,
    /// Descendants of what was about to be killed, by id and start, with their attempts: once
    /// their parents are dead, nothing shows whose they are when they hide it.
    claimed: BTreeMap<(i32, u64), u64>,
    /// Orphans that were told to stop, and are killed when they have, with how often they were
    /// looked at since: one that is killed while it starts others leaves some of which nobody took
    /// note.
    stopping: BTreeMap<(i32, u64), u32>,
}

impl Ledger {
    /// Stops an orphan of the attempt in `scratch_dir`, or kills it when it has stopped.
    fn put_down(&mut self, scratch_dir: &Path, pid: Pid, facts: Facts) {
        let Some(serial) = self.live.get(scratch_dir).map(|live| live.serial) else { return };
        let orphan = (pid.as_raw_pid(), facts.started_ticks);
        // It may show whose it is now, and hide it when it starts its next program.
        self.claimed.insert(orphan, serial);
        let n_looks = self.stopping.entry(orphan).or_default();
        *n_looks += 1;
        if *n_looks == 1 {
            send(pid, Signal::STOP);
        } else if facts.is_stopped || *n_looks > N_STOP_LOOKS_MAX {
            self.claim_descendants(serial, pid);
            send(pid, Signal::KILL);
        }
    }

    /// Takes note of all that descends from a process of this attempt.
    fn claim_descendants(&mut self, serial: u64, ancestor: Pid) {
        let mut seen = BTreeSet::new();
        let mut open = vec![ancestor];
        while let Some(pid) = open.pop() {
            for child in kahn_platform::children(pid) {
                let Some(facts) = kahn_platform::facts(child) else { continue };
                let descendant = (child.as_raw_pid(), facts.started_ticks);
                if seen.insert(descendant) {
                    self.claimed.insert(descendant, serial);
                    open.push(child);
                }
            }
        }
    }
}

#[derive(Debug)]
struct Live {
    /// Tells two attempts apart that had one directory, one after the other.
    serial: u64,
    /// The first process, until it is reaped.
    leader: Option<Pid>,
    /// Whether it may start processes. Not when the first process was reaped and what is left is
    /// being killed, and not between the calls of an interpreter.
    is_running: bool,
}

/// What is to be done about an orphan.
enum Verdict {
    /// Nothing: it is another's.
    Leave,
    /// Kill it.
    Kill,
    /// Look again: it does not show yet whose it is.
    Wait,
}

impl Trees {
    /// The trees of this process, attempts under `scratch_root` among them from now on.
    pub(crate) fn shared(scratch_root: &Path) -> &'static Self {
        static SHARED: OnceLock<Trees> = OnceLock::new();
        let trees = SHARED.get_or_init(|| Self {
            adopted: Adopted::open(),
            own_group: rustix::process::getpgrp(),
            ledger: Mutex::default(),
        });
        trees.lock().roots.insert(scratch_root.to_owned());
        trees
    }

    /// Makes an attempt known by its scratch directory, before its first process starts.
    pub(crate) fn enter(&'static self, scratch_dir: PathBuf) -> Tree {
        let mut ledger = self.lock();
        ledger.n_entered += 1;
        let live = Live { serial: ledger.n_entered, leader: None, is_running: true };
        ledger.live.insert(scratch_dir.clone(), live);
        Tree { trees: self, scratch_dir, leader: None }
    }

    /// Reaps dead orphans, and kills those whose attempts have ended, and those of the attempt in
    /// `scratch_dir`, which is ending.
    ///
    /// Returns whether nothing of that attempt can be left: no orphan was seen that was not
    /// another's. Whatever was done, the children of a dead orphan may have come to us since, so
    /// only a look that found nothing to do counts.
    fn sweep(&self, scratch_dir: &Path) -> bool {
        let mut ledger = self.lock();
        let mut seen = BTreeSet::new();
        let mut is_clean = true;
        for pid in self.adopted.pids() {
            if ledger.live.values().any(|live| live.leader == Some(pid)) {
                continue;
            }
            let Some(facts) = kahn_platform::facts(pid) else { continue };
            if facts.group == Some(self.own_group) {
                // No task is in the worker's own group: this child is somebody else's business.
                continue;
            }
            // The first thread of a process may be dead and others not: then it is not reaped.
            if facts.is_dead && reap(pid) {
                is_clean = false;
                continue;
            }
            seen.insert((pid.as_raw_pid(), facts.started_ticks));
            match self.judge(&mut ledger, scratch_dir, pid, facts) {
                Verdict::Leave => {}
                Verdict::Wait => is_clean = false,
                Verdict::Kill => {
                    is_clean = false;
                    ledger.put_down(scratch_dir, pid, facts);
                }
            }
        }
        ledger.unclaimed.retain(|orphan, _| seen.contains(orphan));
        ledger.stopping.retain(|orphan, _| seen.contains(orphan));
        is_clean
    }

    /// Whether an orphan lives that is, or may be, of the attempt in `scratch_dir`.
    fn has_orphans(&self, scratch_dir: &Path) -> bool {
        let mut ledger = self.lock();
        let Some(serial) = ledger.live.get(scratch_dir).map(|live| live.serial) else {
            return false;
        };
        for pid in self.adopted.pids() {
            let is_leader = ledger.live.values().any(|live| live.leader == Some(pid));
            let Some(facts) = kahn_platform::facts(pid).filter(|_| !is_leader) else { continue };
            if facts.group == Some(self.own_group) || (facts.is_dead && reap(pid)) {
                continue;
            }
            let may_be = match self.judge(&mut ledger, scratch_dir, pid, facts) {
                Verdict::Kill | Verdict::Wait => true,
                Verdict::Leave => ledger
                    .unclaimed
                    .get(&(pid.as_raw_pid(), facts.started_ticks))
                    .is_some_and(|suspects| suspects.contains(&serial)),
            };
            if may_be {
                return true;
            }
        }
        false
    }

    fn reap_dead(&self) {
        let ledger = self.lock();
        for pid in self.adopted.pids() {
            let is_leader = ledger.live.values().any(|live| live.leader == Some(pid));
            let is_ours = |facts: &Facts| facts.is_dead && facts.group != Some(self.own_group);
            if !is_leader && kahn_platform::facts(pid).as_ref().is_some_and(is_ours) {
                reap(pid);
            }
        }
    }

    fn judge(&self, ledger: &mut Ledger, ending: &Path, pid: Pid, facts: Facts) -> Verdict {
        let mark = kahn_platform::variable(pid, SCRATCH_VARIABLE);
        if mark == Variable::NotYet {
            return Verdict::Wait;
        }
        if let Some(owner) = owner(ledger, mark, facts) {
            let is_anothers = owner != ending && ledger.live.contains_key(&owner);
            return if is_anothers { Verdict::Leave } else { Verdict::Kill };
        }
        let orphan = (pid.as_raw_pid(), facts.started_ticks);
        if let Some(serial) = ledger.claimed.get(&orphan) {
            let of_another =
                |(dir, live): (&PathBuf, &Live)| live.serial == *serial && dir != ending;
            let is_anothers = ledger.live.iter().any(of_another);
            return if is_anothers { Verdict::Leave } else { Verdict::Kill };
        }
        let running: BTreeSet<u64> =
            ledger.live.values().filter(|live| live.is_running).map(|live| live.serial).collect();
        let suspects = ledger.unclaimed.entry(orphan).or_insert_with(|| running.clone());
        suspects.retain(|serial| running.contains(serial));
        if suspects.is_empty() { Verdict::Kill } else { Verdict::Leave }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The scratch directory of the attempt that an orphan belongs to, if its environment or its
/// group shows it.
fn owner(ledger: &Ledger, mark: Variable, facts: Facts) -> Option<PathBuf> {
    if let Variable::Value(dir) = mark
        && let dir = PathBuf::from(dir)
        && dir.parent().is_some_and(|root| ledger.roots.contains(root))
    {
        return Some(dir);
    }
    let group = facts.group?;
    let is_leader = |live: &Live| live.leader == Some(group);
    ledger.live.iter().find_map(|(dir, live)| is_leader(live).then(|| dir.clone()))
}

/// The process tree of one attempt. When it is dropped before its end, its group is killed.
#[derive(Debug)]
pub(crate) struct Tree {
    trees: &'static Trees,
    scratch_dir: PathBuf,
    /// The first process and its group, until it is reaped; so the id cannot be another's.
    leader: Option<Pid>,
}

impl Tree {
    /// Makes the first process known.
    pub(crate) fn set_leader(&mut self, leader: Pid) {
        self.leader = Some(leader);
        if let Some(live) = self.trees.lock().live.get_mut(&self.scratch_dir) {
            live.leader = Some(leader);
        }
    }

    /// Sends a signal to the group. What may die of it leaves children behind, of which note is
    /// taken first.
    pub(crate) fn signal(&self, signal: Signal) {
        if signal == Signal::KILL {
            self.signal_group(Signal::STOP);
        }
        if let Some(leader) = self.leader.filter(|_| signal != Signal::CONT) {
            let mut ledger = self.trees.lock();
            if let Some(serial) = ledger.live.get(&self.scratch_dir).map(|live| live.serial) {
                ledger.claim_descendants(serial, leader);
            }
        }
        self.signal_group(signal);
    }

    fn signal_group(&self, signal: Signal) {
        if let Some(group) = self.leader.and_then(ProcessGroup::led_by) {
            // The group may be empty but for the dead leader, which is as good.
            let _ = group.signal(signal);
        }
    }

    /// Says whether the first process may start others from now on; while it does not, no orphan
    /// that appears is suspected to be its.
    pub(crate) fn set_running(&self, is_running: bool) {
        if let Some(live) = self.trees.lock().live.get_mut(&self.scratch_dir) {
            live.is_running = is_running;
        }
    }

    /// Whether an orphan lives that is, or may be, of this attempt.
    pub(crate) fn has_orphans(&self) -> bool {
        !self.has_no_orphans() && self.trees.has_orphans(&self.scratch_dir)
    }

    /// Whether there is no orphan at all, of whatever attempt, which is the usual case.
    pub(crate) fn has_no_orphans(&self) -> bool {
        self.trees.adopted.pids().is_empty()
    }

    /// Reaps dead orphans, of whatever attempt, so that they do not pile up while a long one runs.
    pub(crate) fn tidy(&self) {
        if !self.has_no_orphans() {
            self.trees.reap_dead();
        }
    }

    /// Kills what is left of the group of a first process that has died, and reaps that process.
    pub(crate) fn reap_leader(&mut self, leader: Pid) -> std::io::Result<Reaped> {
        // While the leader is unreaped, no other group can have its id.
        self.signal_group(Signal::KILL);
        let reaped = kahn_spawn::reap(leader);
        self.leader = None;
        if let Some(live) = self.trees.lock().live.get_mut(&self.scratch_dir) {
            live.leader = None;
            live.is_running = false;
        }
        reaped
    }

    /// Kills all that is left of the attempt, and returns when it is dead.
    pub(crate) async fn kill_rest(self) {
        let mut pause = FIRST_LOOK;
        let mut waited = Duration::ZERO;
        while !self.is_over().await {
            tokio::time::sleep(pause).await;
            if waited < STUCK_AFTER && STUCK_AFTER <= waited + pause {
                tracing::warn!(dir = %self.scratch_dir.display(), "processes of an attempt do not die");
            }
            waited += pause;
            pause = (pause * 2).min(LOOK_PERIOD_MAX);
        }
    }

    async fn is_over(&self) -> bool {
        if self.has_no_orphans() {
            return true;
        }
        let (trees, dir) = (self.trees, self.scratch_dir.clone());
        tokio::task::spawn_blocking(move || trees.sweep(&dir)).await.unwrap_or(false)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.signal_group(Signal::KILL);
        let mut ledger = self.trees.lock();
        if let Some(live) = ledger.live.remove(&self.scratch_dir) {
            ledger.claimed.retain(|_, serial| *serial != live.serial);
        }
    }
}

/// Kills the processes of attempts of an earlier boot, whose scratch directories were under
/// `scratch_root`, and waits until they are dead. Blocks. Returns how many there were.
pub(crate) fn kill_leftovers(scratch_root: &Path) -> usize {
    let mut killed = BTreeSet::new();
    // Those that were just being forked show up in the next round.
    for _ in 0..N_LEFTOVER_ROUNDS_MAX {
        let leftovers = leftovers(scratch_root);
        if leftovers.is_empty() {
            break;
        }
        for pid in leftovers {
            killed.insert(pid.as_raw_pid());
            send(pid, Signal::KILL);
        }
        std::thread::sleep(FIRST_LOOK);
    }
    killed.len()
}

fn leftovers(scratch_root: &Path) -> Vec<Pid> {
    let own = rustix::process::getpid();
    let is_leftover = |pid: &Pid| match kahn_platform::variable(*pid, SCRATCH_VARIABLE) {
        Variable::Value(dir) => *pid != own && Path::new(&dir).parent() == Some(scratch_root),
        Variable::Hidden | Variable::NotYet => false,
    };
    kahn_platform::all_pids().into_iter().filter(is_leftover).collect()
}

/// An error means that the process is gone already.
fn send(pid: Pid, signal: Signal) {
    let _ = rustix::process::kill_process(pid, signal);
}

/// Whether the process is gone now; an error means that somebody else reaped it.
fn reap(pid: Pid) -> bool {
    !matches!(rustix::process::waitpid(Some(pid), WaitOptions::NOHANG), Ok(None))
}
