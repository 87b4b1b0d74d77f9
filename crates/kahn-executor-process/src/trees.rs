//! Ensures that all processes of an attempt are dead before the attempt is reported.
//!
//! The process group of the attempt's first process is killed at once. Processes that left the
//! group, such as daemons that forked twice and created a session, have lost their parent by then
//! and were adopted by the worker. Every process of an attempt is a descendant of its first one. So
//! once that one is dead, each remaining process is an adopted orphan or the descendant of one.
//!
//! An orphan is attributed to an attempt by the scratch directory in its environment, or because it
//! is a descendant of a process that was killed here. An orphan with neither may belong to any
//! attempt that was running when it was first seen. It is killed when all of these have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use kahn_spawn::Reaped;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::scratch::SCRATCH_VARIABLE;
use kahn_platform::{Adopted, Facts, ProcessGroup, Variable};

/// The initial and maximum delay between checks whether killed processes are dead.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LOOK_PERIOD_MAX: Duration = Duration::from_millis(100);
/// After this time an undead process is logged, since it is probably stuck in the kernel.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// The number of checks after which an orphan is killed although it has not stopped.
const N_STOP_LOOKS_MAX: u32 = 8;
const N_LEFTOVER_ROUNDS_MAX: u32 = 1_000;

/// The process trees of all attempts of this process. Shared by all executors, because all orphans
/// are adopted by the same process.
#[derive(Debug)]
pub(crate) struct Trees {
    adopted: Adopted,
    own_group: Pid,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    n_entered: u64,
    /// The parents of scratch directories.
    roots: BTreeSet<PathBuf>,
    /// The running attempts, by scratch directory.
    live: BTreeMap<PathBuf, LiveAttempt>,
    /// Orphans that cannot be attributed, by id and start time, with the attempts that they may
    /// belong to.
    unclaimed: BTreeMap<(i32, u64), BTreeSet<u64>>,
    /// Descendants of processes that were about to be killed, by id and start time, with their
    /// attempts. Once their parents are dead, they could not be attributed any more.
    claimed: BTreeMap<(i32, u64), u64>,
    /// Orphans that were sent SIGSTOP, with the number of checks since then. They are killed only
    /// when stopped, because a process that is killed while it forks may leave children that were
    /// not recorded.
    stopping: BTreeMap<(i32, u64), u32>,
}

impl Ledger {
    /// Stops an orphan of the attempt in `scratch_dir`, or kills it if it has stopped.
    fn stop_or_kill(&mut self, scratch_dir: &Path, pid: Pid, facts: Facts) {
        let Some(serial) = self.live.get(scratch_dir).map(|live| live.serial) else { return };
        let orphan = (pid.as_raw_pid(), facts.started_ticks);
        // Its next program may not have the variable any more.
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

    /// Records all descendants of a process of this attempt.
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
struct LiveAttempt {
    /// Distinguishes attempts that used the same directory one after the other.
    serial: u64,
    /// The first process, until it is reaped.
    leader: Option<Pid>,
    /// Whether it may start processes. False while the remaining processes are being killed after
    /// the first one was reaped, and between the calls of an interpreter.
    is_running: bool,
}

/// What to do with an orphan.
enum Verdict {
    /// Nothing, because it belongs to another attempt.
    Leave,
    /// Kill it.
    Kill,
    /// Check again, because it cannot be attributed yet.
    Wait,
}

impl Trees {
    /// Returns the trees of this process, and registers `scratch_root` as a parent of scratch
    /// directories.
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

    /// Registers an attempt by its scratch directory, before its first process starts.
    pub(crate) fn enter(&'static self, scratch_dir: PathBuf) -> Tree {
        let mut ledger = self.lock();
        ledger.n_entered += 1;
        let live = LiveAttempt { serial: ledger.n_entered, leader: None, is_running: true };
        ledger.live.insert(scratch_dir.clone(), live);
        Tree { trees: self, scratch_dir, leader: None }
    }

    /// Reaps dead orphans, and kills the orphans of ended attempts and of the attempt in
    /// `scratch_dir`, which is ending.
    ///
    /// Returns whether no process of that attempt can be left, which is the case only if all
    /// orphans belong to other attempts and there was nothing to do: any action may have orphaned
    /// further processes.
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
                // Tasks are never in the worker's own group, so this child was not started by an
                // executor.
                continue;
            }
            // A process is not reaped if its main thread is dead but other threads are alive.
            if facts.is_dead && reap(pid) {
                is_clean = false;
                continue;
            }
            seen.insert((pid.as_raw_pid(), facts.started_ticks));
            match self.classify(&mut ledger, scratch_dir, pid, facts) {
                Verdict::Leave => {}
                Verdict::Wait => is_clean = false,
                Verdict::Kill => {
                    is_clean = false;
                    ledger.stop_or_kill(scratch_dir, pid, facts);
                }
            }
        }
        ledger.unclaimed.retain(|orphan, _| seen.contains(orphan));
        ledger.stopping.retain(|orphan, _| seen.contains(orphan));
        is_clean
    }

    /// Returns whether there is a live orphan that belongs, or may belong, to the attempt in
    /// `scratch_dir`.
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
            let may_be = match self.classify(&mut ledger, scratch_dir, pid, facts) {
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

    fn classify(&self, ledger: &mut Ledger, ending: &Path, pid: Pid, facts: Facts) -> Verdict {
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
                |(dir, live): (&PathBuf, &LiveAttempt)| live.serial == *serial && dir != ending;
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

/// Returns the scratch directory of the attempt that an orphan belongs to, if its environment or
/// process group identifies it.
fn owner(ledger: &Ledger, mark: Variable, facts: Facts) -> Option<PathBuf> {
    if let Variable::Value(dir) = mark
        && let dir = PathBuf::from(dir)
        && dir.parent().is_some_and(|root| ledger.roots.contains(root))
    {
        return Some(dir);
    }
    let group = facts.group?;
    let is_leader = |live: &LiveAttempt| live.leader == Some(group);
    ledger.live.iter().find_map(|(dir, live)| is_leader(live).then(|| dir.clone()))
}

/// The process tree of one attempt. Dropping it kills the process group of the first process.
#[derive(Debug)]
pub(crate) struct Tree {
    trees: &'static Trees,
    scratch_dir: PathBuf,
    /// The first process and leader of the group, until it is reaped. Until then its id is not
    /// reused.
    leader: Option<Pid>,
}

impl Tree {
    /// Registers the first process.
    pub(crate) fn set_leader(&mut self, leader: Pid) {
        self.leader = Some(leader);
        if let Some(live) = self.trees.lock().live.get_mut(&self.scratch_dir) {
            live.leader = Some(leader);
        }
    }

    /// Sends a signal to the process group. Records its descendants first, since those of a process
    /// that dies from the signal cannot be found later.
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
            // The signal may fail if only the dead leader is left in the group.
            let _ = group.signal(signal);
        }
    }

    /// Sets whether the first process may start others. While it may not, new orphans are not
    /// attributed to this attempt.
    pub(crate) fn set_running(&self, is_running: bool) {
        if let Some(live) = self.trees.lock().live.get_mut(&self.scratch_dir) {
            live.is_running = is_running;
        }
    }

    /// Returns whether there is a live orphan that belongs, or may belong, to this attempt.
    pub(crate) fn has_orphans(&self) -> bool {
        !self.has_no_orphans() && self.trees.has_orphans(&self.scratch_dir)
    }

    /// Returns whether there are no orphans of any attempt, which is the usual case.
    pub(crate) fn has_no_orphans(&self) -> bool {
        self.trees.adopted.pids().is_empty()
    }

    /// Reaps dead orphans of all attempts, so that they do not accumulate during a long attempt.
    pub(crate) fn reap_dead_orphans(&self) {
        if !self.has_no_orphans() {
            self.trees.reap_dead();
        }
    }

    /// Kills the rest of the process group after the first process has died, and reaps that
    /// process.
    pub(crate) fn reap_leader(&mut self, leader: Pid) -> std::io::Result<Reaped> {
        // The id of the group cannot be reused before its leader is reaped.
        self.signal_group(Signal::KILL);
        let reaped = kahn_spawn::reap(leader);
        self.leader = None;
        if let Some(live) = self.trees.lock().live.get_mut(&self.scratch_dir) {
            live.leader = None;
            live.is_running = false;
        }
        reaped
    }

    /// Kills all remaining processes of the attempt and waits until they are dead.
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

/// Kills the processes of an earlier boot's attempts, whose scratch directories were in
/// `scratch_root`, and waits until they are dead. Blocks. Returns the number of processes.
pub(crate) fn kill_leftovers(scratch_root: &Path) -> usize {
    let mut killed = BTreeSet::new();
    // A process that was being forked is found in the next round.
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

/// Sends a signal. An error means that the process is gone already.
fn send(pid: Pid, signal: Signal) {
    let _ = rustix::process::kill_process(pid, signal);
}

/// Returns whether the process is gone. An error means that it was reaped elsewhere.
fn reap(pid: Pid) -> bool {
    !matches!(rustix::process::waitpid(Some(pid), WaitOptions::NOHANG), Ok(None))
}
