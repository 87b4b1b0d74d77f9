//! Decodes columns into changes.

use std::sync::Arc;

use bytes::Bytes;
use kahn_core::{Change, Then};
use kahn_model::{BootId, Outputs, RunId, TaskIx, Timestamp, Token, Usage, WorkerId};
use kahn_proto::convert::{ConvertError, ids, report};
use kahn_proto::storage as wire;
use wire::RecordKind as Kind;
use wire::detail::Of;

use super::column::{Column, entry, optional};
use super::{OPTIONAL_FROM, detail};
use crate::codec::snapshot::{RunEntry, decode_run};
use crate::codec::{CodecError, archive, submission};

/// All columns, and the current values of the delta-encoded ones.
#[derive(Debug)]
struct Decoder {
    at: Column<i64>,
    runs: Column<u32>,
    tasks: Column<i64>,
    numbers: Column<u32>,
    serials: Column<i64>,
    terms: Column<u32>,
    holders: Column<u32>,
    elapsed: Column<u64>,
    cpu: Column<u64>,
    memory: Column<u64>,
    read: Option<Column<u64>>,
    written: Option<Column<u64>>,
    details: Column<wire::Detail>,
    tables: Tables,
    last_at: u64,
    last_task: u32,
    last_serial: u64,
}

#[derive(Debug)]
struct Tables {
    runs: Vec<RunId>,
    terms: Vec<(u64, u64)>,
    holders: Vec<(WorkerId, BootId)>,
}

impl Tables {
    fn new(
        run_ids: &[u8],
        terms: (Vec<u64>, Vec<u64>),
        holders: (Vec<String>, Vec<u64>),
    ) -> Result<Self, CodecError> {
        if terms.0.len() != terms.1.len() || holders.0.len() != holders.1.len() {
            return Err(CodecError::Inconsistent("a table has columns of different lengths"));
        }
        let run = |bytes| ids::run_from_wire("batch.run_ids", bytes);
        let holder = |(id, boot): (String, u64)| {
            ids::worker("batch.holder_ids", &id).map(|worker| (worker, BootId(boot)))
        };
        Ok(Self {
            runs: run_ids.chunks(16).map(run).collect::<Result<_, _>>()?,
            terms: terms.0.into_iter().zip(terms.1).collect(),
            holders: holders.0.into_iter().zip(holders.1).map(holder).collect::<Result<_, _>>()?,
        })
    }
}

pub(super) fn decode(
    batch: wire::Batch,
    mut fetch: impl FnMut(&str) -> Result<Bytes, CodecError>,
) -> Result<Vec<(Timestamp, Change)>, CodecError> {
    let kinds = batch.kinds.clone();
    let mut decoder = Decoder::new(batch)?;
    let mut out = Vec::with_capacity(kinds.len());
    for number in kinds {
        let at = decoder.at()?;
        let run = *entry("batch.runs", &decoder.tables.runs, decoder.runs.take()?)?;
        match Kind::try_from(i32::from(number)) {
            Ok(kind) => out.push((at, decoder.change(kind, run, &mut fetch)?)),
            Err(_) if number >= OPTIONAL_FROM => drop(decoder.details.take()?),
            Err(_) => return Err(CodecError::NewerKind { kind: number }),
        }
    }
    decoder.finish()?;
    Ok(out)
}

impl Decoder {
    fn new(batch: wire::Batch) -> Result<Self, CodecError> {
        Ok(Self {
            at: Column::new("at", batch.at),
            runs: Column::new("runs", batch.runs),
            tasks: Column::new("tasks", batch.tasks),
            numbers: Column::new("numbers", batch.numbers),
            serials: Column::new("serials", batch.serials),
            terms: Column::new("terms", batch.terms),
            holders: Column::new("holders", batch.holders),
            elapsed: Column::new("elapsed_nanos", batch.elapsed_nanos),
            cpu: Column::new("cpu_nanos", batch.cpu_nanos),
            memory: Column::new("memory_peak", batch.memory_peak),
            read: optional("read_bytes", batch.read_bytes),
            written: optional("written_bytes", batch.written_bytes),
            details: Column::new("details", batch.details),
            tables: Tables::new(
                &batch.run_ids,
                (batch.term_epochs, batch.term_nonces),
                (batch.holder_ids, batch.holder_boots),
            )?,
            last_at: 0,
            last_task: 0,
            last_serial: 0,
        })
    }

    fn at(&mut self) -> Result<Timestamp, CodecError> {
        self.last_at = self.last_at.wrapping_add_signed(self.at.take()?);
        Ok(Timestamp(self.last_at))
    }

    fn change(
        &mut self,
        kind: Kind,
        run: RunId,
        fetch: &mut impl FnMut(&str) -> Result<Bytes, CodecError>,
    ) -> Result<Change, CodecError> {
        Ok(match kind {
            Kind::LeaseGranted => self.lease_granted(run)?,
            Kind::LeaseReturned => Change::LeaseReturned { run, task: self.task()? },
            Kind::AttemptStarted => Change::AttemptStarted { run, task: self.task()? },
            Kind::AttemptSucceeded => {
                let outcome = (Ok(Outputs::default()), Then::End);
                self.finished(run, |_| Ok(outcome))?
            }
            Kind::AttemptFinished => self.finished(run, |detail| match detail.take()?.of {
                Some(Of::Finished(finished)) => detail::finished_from_wire(finished),
                _ => Err(wrong_detail()),
            })?,
            Kind::BackoffEnded => Change::BackoffEnded { run, task: self.task()? },
            Kind::RunPaused => Change::RunPaused { run },
            Kind::RunResumed => Change::RunResumed { run },
            Kind::RunRemoved => Change::RunRemoved { run },
            Kind::RunSubmitted
            | Kind::TaskEvaluated
            | Kind::DependencyExpired
            | Kind::TaskFailed
            | Kind::WorkerLost
            | Kind::RunCancelled
            | Kind::RunRetried
            | Kind::RunArchived
            | Kind::RunRestored
            | Kind::WorkerCordoned => self.detailed(kind, run, fetch)?,
            Kind::Unspecified => {
                return Err(ConvertError::UnknownValue { field: "batch.kinds", found: 0 }.into());
            }
        })
    }

    /// Decodes a change that consists of a detail and, for some kinds, a task.
    fn detailed(
        &mut self,
        kind: Kind,
        run: RunId,
        fetch: &mut impl FnMut(&str) -> Result<Bytes, CodecError>,
    ) -> Result<Change, CodecError> {
        let of = self.details.take()?.of.ok_or_else(wrong_detail)?;
        Ok(match (kind, of) {
            (Kind::RunSubmitted, Of::Submitted(reference)) => {
                let submission = submission::get(&reference, fetch)?;
                if submission.run != run {
                    return Err(CodecError::Inconsistent("a submission is of another run"));
                }
                Change::RunSubmitted(Arc::new(submission))
            }
            (Kind::TaskEvaluated, Of::Evaluated(evaluated)) => {
                let verdict = detail::evaluated_from_wire(evaluated)?;
                Change::TaskEvaluated { run, task: self.task()?, verdict }
            }
            (Kind::DependencyExpired, Of::ExpiredDependency(dependency)) => {
                let dependency = TaskIx(dependency);
                Change::DependencyExpired { run, dependent: self.task()?, dependency }
            }
            (Kind::TaskFailed, Of::Failure(failure)) => {
                let failure = report::failure_from_wire(&failure)?;
                Change::TaskFailed { run, task: self.task()?, failure }
            }
            (Kind::WorkerLost, Of::LostWorker(worker)) => {
                Change::WorkerLost { run, worker: ids::worker("detail.lost_worker", &worker)? }
            }
            (Kind::RunCancelled, Of::Failure(failure)) => {
                Change::RunCancelled { run, failure: report::failure_from_wire(&failure)? }
            }
            (Kind::WorkerCordoned, Of::Cordon(cordon)) => Change::WorkerCordoned {
                worker: ids::worker("detail.cordon.worker", &cordon.worker)?,
                is_cordoned: !cordon.is_lifted,
            },
            (Kind::RunRetried, Of::Retried(tasks)) => {
                Change::RunRetried { run, tasks: detail::retried_from_wire(&tasks) }
            }
            (Kind::RunArchived, Of::Archived(archive)) => {
                Change::RunArchived { run, archive: archive::reference_from_wire(&archive)? }
            }
            (Kind::RunRestored, Of::Restored(entry)) => {
                let entry = RunEntry::from_wire(entry)?;
                if entry.run() != run {
                    return Err(CodecError::Inconsistent("a restored run is another one"));
                }
                Change::RunRestored(Arc::new(decode_run(&entry, fetch)?))
            }
            _ => return Err(wrong_detail()),
        })
    }

    fn task(&mut self) -> Result<TaskIx, CodecError> {
        let step = self.tasks.take()?;
        let task = i64::from(self.last_task).checked_add(step).map(u32::try_from);
        let Some(Ok(task)) = task else {
            let (field, limit) = ("batch.tasks", u32::MAX.into());
            return Err(ConvertError::OutOfRange { field, found: step, limit }.into());
        };
        self.last_task = task;
        Ok(TaskIx(task))
    }

    fn lease_granted(&mut self, run: RunId) -> Result<Change, CodecError> {
        let task = self.task()?;
        let number = self.numbers.take()?;
        self.last_serial = self.last_serial.wrapping_add_signed(self.serials.take()?);
        let (epoch, nonce) = *entry("batch.terms", &self.tables.terms, self.terms.take()?)?;
        let token = Token { epoch, serial: self.last_serial, nonce };
        let holder = entry("batch.holders", &self.tables.holders, self.holders.take()?)?;
        let (worker, boot) = holder.clone();
        Ok(Change::LeaseGranted { run, task, number, token, worker, boot })
    }

    fn finished(
        &mut self,
        run: RunId,
        outcome: impl FnOnce(
            &mut Column<wire::Detail>,
        )
            -> Result<(Result<Outputs, kahn_model::Failure>, Then), CodecError>,
    ) -> Result<Change, CodecError> {
        let task = self.task()?;
        let usage = self.usage()?;
        let (outcome, then) = outcome(&mut self.details)?;
        Ok(Change::AttemptFinished { run, task, outcome, usage, then })
    }

    fn usage(&mut self) -> Result<Usage, CodecError> {
        Ok(report::usage_from_wire(&wire::Usage {
            elapsed_nanos: self.elapsed.take()?,
            cpu_nanos: self.cpu.take()?,
            memory_peak: self.memory.take()?,
            read_bytes: self.read.as_mut().map_or(Ok(0), Column::take)?,
            written_bytes: self.written.as_mut().map_or(Ok(0), Column::take)?,
        }))
    }

    /// Checks that every column was consumed completely.
    fn finish(&self) -> Result<(), CodecError> {
        self.at.finish()?;
        self.runs.finish()?;
        self.tasks.finish()?;
        self.numbers.finish()?;
        self.serials.finish()?;
        self.terms.finish()?;
        self.holders.finish()?;
        self.elapsed.finish()?;
        self.cpu.finish()?;
        self.memory.finish()?;
        self.read.iter().chain(&self.written).try_for_each(Column::finish)?;
        self.details.finish()
    }
}

fn wrong_detail() -> CodecError {
    CodecError::Inconsistent("a record has a detail of another kind")
}
