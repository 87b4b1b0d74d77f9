//! The picture of a run: everything except its submission.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kahn_core::{CellSnapshot, LeaseSnapshot, RunSnapshot, Submission};
use kahn_model::{BootId, Failure, Outputs, TaskIx, Timestamp, Work};
use kahn_proto::convert::{ConvertError, ids, report, state, work};
use kahn_proto::storage as wire;

use super::{cells, history};
use crate::codec::CodecError;

pub(super) fn to_wire(run: &RunSnapshot) -> wire::RunPicture {
    let outputs = |(task, outputs): (&TaskIx, &Arc<Outputs>)| wire::TaskOutputs {
        task: task.0,
        outputs: Some(report::outputs_to_wire(outputs)),
    };
    let failure = |(task, failure): (&TaskIx, &Failure)| wire::TaskFailure {
        task: task.0,
        failure: Some(report::failure_to_wire(failure)),
    };
    let rendered = |(task, rendered): (&TaskIx, &Arc<Work>)| wire::TaskWork {
        task: task.0,
        work: Some(work::to_wire(rendered)),
    };
    let time = |(task, at): (&TaskIx, &Timestamp)| wire::TaskTime { task: task.0, at: at.0 };
    let overruns = |(task, (memory, time)): (&TaskIx, &(u32, u32))| wire::Overruns {
        task: task.0,
        memory: *memory,
        time: *time,
    };
    let ends = |(dependent, dependency): &(TaskIx, TaskIx)| wire::Ends {
        dependent: dependent.0,
        dependency: dependency.0,
    };
    wire::RunPicture {
        state: state::run_state_number(run.state).into(),
        submitted_at: run.submitted_at.0,
        finished_at: run.finished_at.map(|at| at.0),
        cancelled: run.cancelled.as_ref().map(report::failure_to_wire),
        is_halted: run.is_halted,
        n_failures: run.n_failures,
        cells: Some(cells::to_wire(&run.cells)),
        history: Some(history::to_wire(&run.history, &run.spent, &run.messages)),
        workers: run.workers.iter().map(|worker| worker.as_str().to_owned()).collect(),
        outputs: run.outputs.iter().map(outputs).collect(),
        failures: run.failures.iter().map(failure).collect(),
        rendered: run.rendered.iter().map(rendered).collect(),
        backoffs: run.backoffs.iter().map(time).collect(),
        overruns: run.overruns.iter().map(overruns).collect(),
        expired: run.expired.iter().map(ends).collect(),
        waiting_since: run.waiting_since.iter().map(time).collect(),
        leases: run.leases.iter().map(lease_to_wire).collect(),
    }
}

fn lease_to_wire(lease: &LeaseSnapshot) -> wire::Lease {
    wire::Lease {
        task: lease.task.0,
        token: Some(ids::token_to_wire(lease.token)),
        worker: lease.worker.as_str().to_owned(),
        boot: lease.boot.0,
        granted_at: lease.granted_at.0,
        started_at: lease.started_at.map(|at| at.0),
    }
}

pub(super) fn from_wire(
    picture: wire::RunPicture,
    submission: Submission,
) -> Result<RunSnapshot, CodecError> {
    let n_tasks = submission.dag.n_tasks();
    let cells = cells::from_wire(&picture.cells.unwrap_or_default())?;
    if cells.len() != n_tasks {
        let (field, found) = ("picture.cells", cells.len());
        return Err(ConvertError::Length { field, found, expected: n_tasks }.into());
    }
    let worker = |text: &String| ids::worker("picture.workers", text);
    let workers: Vec<_> = picture.workers.iter().map(worker).collect::<Result<_, _>>()?;
    let history = picture.history.unwrap_or_default();
    let by_task = ByTask { n_tasks };
    Ok(RunSnapshot {
        state: state::run_state("picture.state", picture.state)?,
        submitted_at: Timestamp(picture.submitted_at),
        finished_at: picture.finished_at.map(Timestamp),
        cancelled: picture.cancelled.as_ref().map(report::failure_from_wire).transpose()?,
        is_halted: picture.is_halted,
        n_failures: picture.n_failures,
        spent: history::spent_from_wire(&history)?,
        messages: history::messages_from_wire(&history)?,
        history: history::from_wire(&history, n_tasks, workers.len())?,
        outputs: by_task.map("picture.outputs", picture.outputs, outputs_from_wire)?,
        failures: by_task.map("picture.failures", picture.failures, failure_from_wire)?,
        rendered: by_task.map("picture.rendered", picture.rendered, rendered_from_wire)?,
        backoffs: by_task.map("picture.backoffs", picture.backoffs, time_from_wire)?,
        overruns: by_task.map("picture.overruns", picture.overruns, |overruns| {
            Ok((overruns.task, (overruns.memory, overruns.time)))
        })?,
        expired: expired(&picture.expired, n_tasks)?,
        waiting_since: by_task.map(
            "picture.waiting_since",
            picture.waiting_since,
            time_from_wire,
        )?,
        leases: leases(picture.leases, &cells)?,
        submission: Arc::new(submission),
        cells,
        workers,
    })
}

/// Decodes values that are stored for some tasks of a DAG.
struct ByTask {
    n_tasks: usize,
}

impl ByTask {
    fn map<W, T>(
        &self,
        field: &'static str,
        entries: Vec<W>,
        read: impl Fn(W) -> Result<(u32, T), CodecError>,
    ) -> Result<BTreeMap<TaskIx, T>, CodecError> {
        let mut out = BTreeMap::new();
        for entry in entries {
            let (task, value) = read(entry)?;
            if out.insert(ids::task(field, task, self.n_tasks)?, value).is_some() {
                return Err(ConvertError::Repeated { field, key: task.to_string() }.into());
            }
        }
        Ok(out)
    }
}

fn outputs_from_wire(entry: wire::TaskOutputs) -> Result<(u32, Arc<Outputs>), CodecError> {
    let outputs = report::outputs_from_wire(entry.outputs.unwrap_or_default())?;
    Ok((entry.task, Arc::new(outputs)))
}

fn failure_from_wire(entry: wire::TaskFailure) -> Result<(u32, Failure), CodecError> {
    let missing = ConvertError::Missing { field: "picture.failures.failure" };
    Ok((entry.task, report::failure_from_wire(&entry.failure.ok_or(missing)?)?))
}

fn rendered_from_wire(entry: wire::TaskWork) -> Result<(u32, Arc<Work>), CodecError> {
    let missing = ConvertError::Missing { field: "picture.rendered.work" };
    Ok((entry.task, Arc::new(work::from_wire(entry.work.ok_or(missing)?)?)))
}

#[expect(clippy::unnecessary_wraps, reason = "all readers of entries have the same signature")]
fn time_from_wire(entry: wire::TaskTime) -> Result<(u32, Timestamp), CodecError> {
    Ok((entry.task, Timestamp(entry.at)))
}

fn expired(
    entries: &[wire::Ends],
    n_tasks: usize,
) -> Result<BTreeSet<(TaskIx, TaskIx)>, CodecError> {
    let ends = |ends: &wire::Ends| {
        let dependent = ids::task("picture.expired.dependent", ends.dependent, n_tasks)?;
        let dependency = ids::task("picture.expired.dependency", ends.dependency, n_tasks)?;
        Ok((dependent, dependency))
    };
    entries.iter().map(ends).collect()
}

/// Checks that exactly the tasks that are held have a lease, which the state relies on.
fn leases(
    entries: Vec<wire::Lease>,
    cells: &[CellSnapshot],
) -> Result<Vec<LeaseSnapshot>, CodecError> {
    let mut leased = BTreeSet::new();
    let mut out = Vec::with_capacity(entries.len());
    for entry in entries {
        let lease = lease_from_wire(entry, cells.len())?;
        if !cells[lease.task.index()].state.is_held() || !leased.insert(lease.task) {
            return Err(CodecError::Inconsistent("a task is leased twice or not held at all"));
        }
        out.push(lease);
    }
    if cells.iter().filter(|cell| cell.state.is_held()).count() != out.len() {
        return Err(CodecError::Inconsistent("a task is held without a lease"));
    }
    Ok(out)
}

fn lease_from_wire(entry: wire::Lease, n_tasks: usize) -> Result<LeaseSnapshot, CodecError> {
    Ok(LeaseSnapshot {
        task: ids::task("lease.task", entry.task, n_tasks)?,
        token: ids::token_from_wire("lease.token", entry.token)?,
        worker: ids::worker("lease.worker", &entry.worker)?,
        boot: BootId(entry.boot),
        granted_at: Timestamp(entry.granted_at),
        started_at: entry.started_at.map(Timestamp),
    })
}
