//! Encodes changes into columns.

use std::hash::{Hash, Hasher};

use bytes::Bytes;
use kahn_core::{Change, Then};
use kahn_model::{BootId, Outputs, RunId, TaskIx, Timestamp, Token, Usage, WorkerId};
use kahn_proto::convert::report;
use kahn_proto::storage as wire;
use wire::RecordKind as Kind;
use wire::detail::Of;

use super::table::Table;
use super::{detail, number};
use crate::codec::{archive, snapshot, submission};

/// The holder of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    boot: BootId,
    worker: WorkerId,
}

impl Hash for Holder {
    /// Hashes only the boot id: it is random, and names are slow to hash.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.boot.hash(state);
    }
}

/// Columns under construction.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// The total number of changes.
    n: usize,
    batch: wire::Batch,
    kinds: Vec<u8>,
    runs: Table<RunId>,
    terms: Table<(u64, u64)>,
    holders: Table<Holder>,
    at: u64,
    task: u32,
    serial: u64,
    blobs: Vec<(String, Bytes)>,
}

impl Encoder {
    pub(super) fn with_capacity(n: usize) -> Self {
        let mut out = Self { n, kinds: Vec::with_capacity(n), ..Self::default() };
        out.batch.at.reserve_exact(n);
        out.batch.runs.reserve_exact(n);
        out.batch.tasks.reserve_exact(n);
        out
    }

    pub(super) fn push(&mut self, at: Timestamp, change: &Change) {
        self.batch.at.push(at.0.wrapping_sub(self.at).cast_signed());
        self.at = at.0;
        self.batch.runs.push(self.runs.position(&change.run().unwrap_or(RunId::NIL)));
        let kind = self.columns(change);
        self.kinds.push(number(kind));
    }

    /// Adds all columns of a record except its time and its run.
    fn columns(&mut self, change: &Change) -> Kind {
        match change {
            Change::LeaseGranted { run: _, task, number, token, worker, boot } => {
                self.task(*task);
                self.lease(*number, *token, worker, *boot)
            }
            Change::AttemptStarted { run: _, task } => {
                self.task(*task);
                Kind::AttemptStarted
            }
            Change::AttemptFinished { run: _, task, outcome, usage, then } => {
                self.task(*task);
                self.usage(usage);
                match (outcome, then) {
                    (Ok(Outputs(values)), Then::End) if values.is_empty() => Kind::AttemptSucceeded,
                    _ => self.detail(Kind::AttemptFinished, detail::finished(outcome, *then)),
                }
            }
            Change::LeaseReturned { run: _, task } => {
                self.task(*task);
                Kind::LeaseReturned
            }
            Change::BackoffEnded { run: _, task } => {
                self.task(*task);
                Kind::BackoffEnded
            }
            Change::RunSubmitted(submission) => {
                let reference = submission::put(submission, &mut self.blobs);
                self.detail(Kind::RunSubmitted, Of::Submitted(reference))
            }
            Change::TaskEvaluated { run: _, task, verdict } => {
                self.task(*task);
                self.detail(Kind::TaskEvaluated, detail::evaluated(verdict))
            }
            Change::DependencyExpired { run: _, dependent, dependency } => {
                self.task(*dependent);
                self.detail(Kind::DependencyExpired, Of::ExpiredDependency(dependency.0))
            }
            Change::TaskFailed { run: _, task, failure } => {
                self.task(*task);
                self.detail(Kind::TaskFailed, Of::Failure(report::failure_to_wire(failure)))
            }
            Change::WorkerLost { run: _, worker } => {
                self.detail(Kind::WorkerLost, Of::LostWorker(worker.as_str().to_owned()))
            }
            Change::RunCancelled { run: _, failure } => {
                self.detail(Kind::RunCancelled, Of::Failure(report::failure_to_wire(failure)))
            }
            Change::RunPaused { run: _ } => Kind::RunPaused,
            Change::RunResumed { run: _ } => Kind::RunResumed,
            Change::RunRetried { run: _, tasks } => {
                self.detail(Kind::RunRetried, detail::retried(tasks))
            }
            Change::RunRemoved { run: _ } => Kind::RunRemoved,
            Change::RunArchived { run: _, archive } => {
                self.detail(Kind::RunArchived, Of::Archived(archive::reference_to_wire(*archive)))
            }
            Change::RunRestored(restored) => {
                let (entry, blobs) = snapshot::encode_run(restored, None);
                self.blobs.extend(blobs);
                self.detail(Kind::RunRestored, Of::Restored(entry.into_wire()))
            }
            Change::WorkerCordoned { worker, is_cordoned } => {
                let worker = worker.as_str().to_owned();
                let cordon = wire::Cordon { worker, is_lifted: !is_cordoned };
                self.detail(Kind::WorkerCordoned, Of::Cordon(cordon))
            }
        }
    }

    fn task(&mut self, task: TaskIx) {
        self.batch.tasks.push(i64::from(task.0) - i64::from(self.task));
        self.task = task.0;
    }

    fn lease(&mut self, number: u32, token: Token, worker: &WorkerId, boot: BootId) -> Kind {
        if self.batch.numbers.is_empty() {
            self.batch.numbers.reserve(self.n);
            self.batch.serials.reserve(self.n);
            self.batch.terms.reserve(self.n);
            self.batch.holders.reserve(self.n);
        }
        self.batch.numbers.push(number);
        self.batch.serials.push(token.serial.wrapping_sub(self.serial).cast_signed());
        self.serial = token.serial;
        self.batch.terms.push(self.terms.position(&(token.epoch, token.nonce)));
        let is = |known: &Holder| known.boot == boot && known.worker == *worker;
        let make = || Holder { boot, worker: worker.clone() };
        self.batch.holders.push(self.holders.position_of(is, make));
        Kind::LeaseGranted
    }

    fn usage(&mut self, usage: &Usage) {
        let wire::Usage { elapsed_nanos, cpu_nanos, memory_peak, read_bytes, written_bytes } =
            report::usage_to_wire(usage);
        if self.batch.elapsed_nanos.is_empty() {
            self.batch.elapsed_nanos.reserve(self.n);
            self.batch.cpu_nanos.reserve(self.n);
            self.batch.memory_peak.reserve(self.n);
        }
        self.batch.elapsed_nanos.push(elapsed_nanos);
        self.batch.cpu_nanos.push(cpu_nanos);
        self.batch.memory_peak.push(memory_peak);
        self.batch.read_bytes.push(read_bytes);
        self.batch.written_bytes.push(written_bytes);
    }

    fn detail(&mut self, kind: Kind, of: Of) -> Kind {
        self.batch.details.push(wire::Detail { of: Some(of) });
        kind
    }

    /// Returns the message and the blobs that it refers to.
    pub(super) fn finish(mut self) -> (wire::Batch, Vec<(String, Bytes)>) {
        self.batch.kinds = self.kinds.into();
        for column in [&mut self.batch.read_bytes, &mut self.batch.written_bytes] {
            if column.iter().all(|bytes| *bytes == 0) {
                column.clear();
            }
        }
        let run_ids = self.runs.into_entries();
        self.batch.run_ids = run_ids.iter().flat_map(|run| *run.as_bytes()).collect();
        (self.batch.term_epochs, self.batch.term_nonces) =
            self.terms.into_entries().into_iter().unzip();
        let holders = self.holders.into_entries().into_iter();
        (self.batch.holder_ids, self.batch.holder_boots) =
            holders.map(|holder| (holder.worker.as_str().to_owned(), holder.boot.0)).unzip();
        (self.batch, self.blobs)
    }
}
