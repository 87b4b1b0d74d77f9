//! The oracles: they observe everything, change nothing, and report violations.
//!
//! They observe three things: the log as it becomes safe (the *ledger*), the actual executions (the
//! *journal*, written only by the fake executors), and the outputs of the coordinators.
//!
//! | invariant | where it is checked |
//! |---|---|
//! | I1 no lost submission | [`Oracle::at_rest`]: every acknowledged run exists; the ledger never changes |
//! | I2 exactly-once record | `ledger`: the state of an ended task changes only by a retry; `journal`: one execution per attempt number |
//! | I3 no lost result | [`Oracle::at_rest`]: every acknowledged report is in the ledger with the same outcome |
//! | I4 dependency order | `journal`: when an attempt starts, its dependencies are met in the ledger |
//! | I5 terminates | the world: after the faults, every run ends within a bound |
//! | I6 idempotent submit | `ledger`: one submission per run; the world: a conflicting one is refused |
//! | I7 cancel sticks | `ledger`: no grant and no success after a cancellation |
//! | I8 monotone reads | `exits`: no read goes back, and every read is in the ledger |
//! | I9 one writer | `ledger`: terms form contiguous blocks |
//! | I10 the log is a chain | `ledger`: sequence and hashes; the world: recovered state equals the ledger's |
//! | I11 token uniqueness | `ledger` |
//! | I12 stale never wins | `ledger`: a recorded outcome is the one from the executor of the same lease |
//! | I13 resources | `journal`: executions on a worker fit its capacity; the world: the core's own audit |
//! | I14 no early loss | `ledger`: silence before a loss, and no timeout recorded of a live execution; `journal`: no second execution beside a live one |
//! | I15 containment | `ledger`: losses of a task stay within its crash limit |
//! | I16 bounded | the world: the length of the outbox |
//! | I17 durable before told | `exits`: grants, acknowledgements and answers are in the ledger |
//! | I18 a standby's state is that of the log | the world: at each takeover by a warm standby |
//! | I19 an archived run is complete elsewhere, its summary remains, and it comes back as it was | `archives` |

mod archives;
mod exits;
mod journal;
mod ledger;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kahn_core::log::{Head, Term};
use kahn_core::{Core, RunSnapshot, Settings};
use kahn_model::{AttemptId, BootId, RunId, TaskIx, Timestamp, Token, WorkerId};
use kahn_worker_core::Outcome;

pub(crate) use journal::Start;

use crate::driver::Clock;
use crate::report::Violation;

/// How a lease ended, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ending {
    /// Its worker reported this outcome.
    Reported(Outcome),
    /// It was returned.
    Returned,
    /// Its worker was declared lost.
    GivenUp,
    /// It exceeded its queue or start timeout, and its worker confirmed that it was over.
    TimedOut,
}

#[derive(Debug)]
struct Granted {
    attempt: AttemptId,
    worker: WorkerId,
    boot: BootId,
    at: Timestamp,
    ending: Option<Ending>,
}

/// An execution of a task.
#[derive(Debug)]
struct Execution {
    worker: WorkerId,
    boot: BootId,
    resources: kahn_model::Resources,
    outcome: Option<Outcome>,
    /// It has ended, or its worker process is dead.
    is_over: bool,
}

#[derive(Debug)]
struct Leadership {
    term: Term,
    clock: Clock,
    /// The times at which messages arrived from each worker.
    heard: BTreeMap<WorkerId, Vec<Timestamp>>,
}

#[derive(Debug, Default)]
struct Ledger {
    head: Head,
    term: Option<Term>,
    past_terms: BTreeSet<(u64, u64)>,
    heads: Vec<Head>,
}

/// Observes everything and records the first violation.
#[derive(Debug)]
pub(crate) struct Oracle {
    now: Timestamp,
    lease_ttl: Duration,
    ledgers: Vec<Ledger>,
    /// The state that the ledgers describe.
    shadow: Core,
    granted: BTreeMap<Token, Granted>,
    executions: BTreeMap<Token, Execution>,
    by_attempt: BTreeMap<AttemptId, Token>,
    by_task: BTreeMap<(RunId, TaskIx), Vec<Token>>,
    /// Tasks that ended, and whether they succeeded.
    ended: BTreeMap<(RunId, TaskIx), bool>,
    losses: BTreeMap<(RunId, TaskIx), u32>,
    leaderships: BTreeMap<u64, Leadership>,
    /// Boots of workers that are over.
    dead: BTreeSet<(WorkerId, BootId)>,
    /// Workers that were suspended for so long that they could not stop anything in time.
    suspended_until: BTreeMap<WorkerId, Timestamp>,
    submitted: BTreeSet<RunId>,
    acknowledged: BTreeMap<Token, Outcome>,
    seen: BTreeMap<(usize, RunId), usize>,
    /// What was stored outside of the log, by run and digest.
    archives: BTreeMap<(RunId, [u8; 16]), Arc<RunSnapshot>>,
    /// Numbers of changes that archived and restored a run.
    pub(crate) n_archived: u64,
    pub(crate) n_restored: u64,
    violation: Option<Violation>,
}

impl Oracle {
    pub(crate) fn new(settings: Settings) -> Self {
        let partitions = usize::from(settings.partitions);
        Self {
            now: Timestamp::ZERO,
            lease_ttl: settings.lease_ttl,
            ledgers: (0..partitions).map(|_| Ledger::default()).collect(),
            shadow: Core::new(settings),
            granted: BTreeMap::new(),
            executions: BTreeMap::new(),
            by_attempt: BTreeMap::new(),
            by_task: BTreeMap::new(),
            ended: BTreeMap::new(),
            losses: BTreeMap::new(),
            leaderships: BTreeMap::new(),
            dead: BTreeSet::new(),
            suspended_until: BTreeMap::new(),
            submitted: BTreeSet::new(),
            acknowledged: BTreeMap::new(),
            seen: BTreeMap::new(),
            archives: BTreeMap::new(),
            n_archived: 0,
            n_restored: 0,
            violation: None,
        }
    }

    /// Returns the state that is safe in the log.
    pub(crate) fn shadow(&self) -> &Core {
        &self.shadow
    }

    /// Returns the number of safe entries of a partition.
    pub(crate) fn n_entries(&self, partition: usize) -> usize {
        self.ledgers[partition].heads.len()
    }

    pub(crate) fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Records a violation, unless there already is one.
    pub(crate) fn object(&mut self, invariant: &'static str, message: impl Into<String>) {
        if self.violation.is_none() {
            let message = message.into();
            self.violation = Some(Violation { invariant, at: self.now, message });
        }
    }

    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Records that a coordinator has begun a term.
    pub(crate) fn began(&mut self, term: Term, clock: Clock) {
        let leadership = Leadership { term, clock, heard: BTreeMap::new() };
        self.leaderships.insert(term.nonce, leadership);
    }

    /// Records that a message from a worker has arrived at the coordinator of a term.
    pub(crate) fn note_message(&mut self, nonce: u64, worker: &WorkerId) {
        let now = self.now;
        if let Some(leadership) = self.leaderships.get_mut(&nonce) {
            leadership.heard.entry(worker.clone()).or_default().push(now);
        }
    }

    /// Records that a boot of a worker is over, together with all its executions.
    pub(crate) fn died(&mut self, worker: &WorkerId, boot: BootId) {
        self.dead.insert((worker.clone(), boot));
        for execution in self.executions.values_mut() {
            if execution.boot == boot && execution.worker == *worker {
                execution.is_over = true;
            }
        }
    }

    pub(crate) fn note_suspension(&mut self, worker: &WorkerId, until: Timestamp) {
        self.suspended_until.insert(worker.clone(), until);
    }

    /// Checks the invariants that hold only when nothing is in progress any more.
    pub(crate) fn at_rest(&mut self) {
        for run in self.submitted.clone() {
            if self.shadow.state().summary(run).is_none() {
                self.object("I1", format!("run {run} was acknowledged and is gone"));
            }
        }
        for (token, outcome) in self.acknowledged.clone() {
            match self.granted.get(&token).map(|granted| &granted.ending) {
                Some(Some(Ending::Reported(recorded))) if *recorded != outcome => {
                    self.object("I3", format!("{token}: {outcome:?} was recorded otherwise"));
                }
                Some(Some(Ending::Returned) | None) | None => {
                    self.object("I3", format!("{token}: an acknowledged outcome is not recorded"));
                }
                Some(Some(_)) => {}
            }
        }
        let n_leases = self.shadow.state().n_leases();
        if n_leases > 0 {
            self.object("I13", format!("{n_leases} leases are left when all has ended"));
        }
        let findings = self.shadow.audit();
        if let Some(finding) = findings.first() {
            self.object("I13", finding.clone());
        }
    }
}
