//! Runs, tasks and events as they are shown.

use std::collections::HashMap;

use kahn_core::{Core, Explanation, Record, RecordKind, Run, Spent, Worker};
use kahn_model::{RunId, RunState, TaskIx, TaskState, Timestamp};
use kahn_proto::api;

/// The state as it travels.
pub(super) fn run_state(state: RunState) -> api::RunState {
    match state {
        RunState::Active => api::RunState::Active,
        RunState::Paused => api::RunState::Paused,
        RunState::Cancelling => api::RunState::Cancelling,
        RunState::Succeeded => api::RunState::Succeeded,
        RunState::Failed => api::RunState::Failed,
        RunState::Cancelled => api::RunState::Cancelled,
    }
}

/// The state as it travels.
pub(super) fn task_state(state: TaskState) -> api::TaskState {
    match state {
        TaskState::Pending => api::TaskState::Pending,
        TaskState::Ready => api::TaskState::Ready,
        TaskState::Leased => api::TaskState::Leased,
        TaskState::Running => api::TaskState::Running,
        TaskState::BackingOff => api::TaskState::BackingOff,
        TaskState::Succeeded => api::TaskState::Succeeded,
        TaskState::Failed => api::TaskState::Failed,
        TaskState::Skipped => api::TaskState::Skipped,
        TaskState::Cancelled => api::TaskState::Cancelled,
    }
}

/// A run without its tasks. The critical path costs a look at every task and is left out of lists.
pub(super) fn run(run: &Run, with_critical_path: bool) -> api::Run {
    let (critical_path_done, critical_path) =
        if with_critical_path { critical_path(run) } else { (0, 0) };
    let tasks = TaskState::ALL
        .into_iter()
        .filter(|state| run.count(*state) > 0)
        .map(|state| (i32::from(task_state(state)), run.count(state)))
        .collect();
    let labels = run.submission.labels.iter();
    api::Run {
        run: run.id().to_string(),
        namespace: run.submission.namespace.to_string(),
        dag: run.dag.name().to_string(),
        state: run_state(run.state).into(),
        submitted_at: run.submitted_at.0,
        finished_at: run.finished_at.map_or(0, |at| at.0),
        tasks,
        reason: run.cancelled.as_ref().map(ToString::to_string).unwrap_or_default(),
        labels: labels.map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        critical_path_done,
        critical_path,
        events: count(run.history.len()),
        waiting: Vec::new(),
    }
}

/// A run without its tasks, with what its ready tasks wait for.
pub(super) fn run_with_waiting(core: &Core, id: RunId) -> Option<api::Run> {
    let known = core.state().run(id)?;
    let waiting = core.waiting(id).unwrap_or_default();
    let waiting = waiting.into_iter().map(|waiting| api::Waiting {
        tasks: u32::try_from(waiting.n_tasks).unwrap_or(u32::MAX),
        first: known.dag.task_name(waiting.first).to_owned(),
        code: waiting.code.to_owned(),
        message: waiting.message,
        remedy: waiting.remedy.to_owned(),
    });
    Some(api::Run { waiting: waiting.collect(), ..run(known, true) })
}

fn critical_path(run: &Run) -> (u64, u64) {
    let longest = |is_counted: &dyn Fn(TaskIx) -> bool| {
        run.dag.tasks().filter(|task| is_counted(*task)).map(|task| run.b_level(task)).max()
    };
    let whole = longest(&|_| true).unwrap_or(0);
    let left = longest(&|task| !run.cell(task).state.is_terminal()).unwrap_or(0);
    (whole - left, whole)
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Events of a run with sequence numbers above `after`, at most `max`.
pub(super) fn events(run: &Run, after: u64, max: usize) -> Vec<api::Event> {
    let skip = usize::try_from(after).unwrap_or(usize::MAX);
    (skip..)
        .zip(run.history.iter().skip(skip).take(max))
        .map(|(position, record)| event(run, position, record))
        .collect()
}

fn event(run: &Run, position: usize, record: &Record) -> api::Event {
    let worker = usize::from(record.worker).checked_sub(1).and_then(|at| run.workers.get(at));
    api::Event {
        seq: count(position) + 1,
        time: record.at.0,
        r#type: record.kind.as_str().to_owned(),
        task: record.task().map(|t| run.dag.task_name(t).to_owned()).unwrap_or_default(),
        attempt: u32::from(record.attempt),
        worker: worker.map(ToString::to_string).unwrap_or_default(),
        cause: record.cause.map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
        cause_code: record.code,
        message: event_message(run, record),
        usage: run.spent_at(position).map(usage),
    }
}

fn usage(spent: &Spent) -> api::Usage {
    api::Usage {
        cpu_micros: spent.cpu_micros,
        memory_peak: spent.memory_peak,
        read_bytes: spent.read_bytes,
        written_bytes: spent.written_bytes,
    }
}

/// What is still known of why it happened.
fn event_message(run: &Run, record: &Record) -> String {
    let of_run = || match &run.cancelled {
        Some(failure) if Some(failure.cause) == record.cause() => failure.message.to_string(),
        _ => String::new(),
    };
    let Some(task) = record.task() else { return of_run() };
    let cell = run.cell(task);
    let is_latest = record.attempt == cell.attempt;
    match record.kind {
        RecordKind::TaskFailed | RecordKind::TaskRetried if is_latest => match run.failure(task) {
            Some(failure) if Some(failure.cause) == record.cause() => failure.message.to_string(),
            _ => String::new(),
        },
        RecordKind::TaskSkipped if cell.state == TaskState::Skipped => run.why(task),
        RecordKind::TaskCancelled if cell.state == TaskState::Cancelled => run.why(task),
        _ => String::new(),
    }
}

/// When the latest attempt of each task came to each point.
pub(super) struct Times(Vec<TaskTimes>);

#[derive(Clone, Copy, Default)]
struct TaskTimes {
    ready: Timestamp,
    leased: Timestamp,
    started: Timestamp,
    finished: Timestamp,
    worker: u16,
    cause: Option<kahn_model::Cause>,
    /// Position of the record of its end, plus one.
    ended: u32,
}

impl Times {
    pub(super) fn of(run: &Run) -> Self {
        let mut times = vec![TaskTimes::default(); run.dag.n_tasks()];
        for (number, record) in (1..).zip(&run.history) {
            let Some(task) = record.task() else { continue };
            let entry = &mut times[task.index()];
            match record.kind {
                RecordKind::TaskReady => *entry = TaskTimes { ready: record.at, ..*entry },
                RecordKind::TaskLeased => {
                    *entry = TaskTimes {
                        ready: entry.ready,
                        leased: record.at,
                        worker: record.worker,
                        ..TaskTimes::default()
                    };
                }
                RecordKind::TaskStarted => entry.started = record.at,
                RecordKind::TaskReturned => entry.leased = Timestamp::ZERO,
                _ => {
                    entry.finished = record.at;
                    entry.cause = record.cause();
                    entry.ended = number;
                }
            }
        }
        Self(times)
    }
}

/// A task with what is known of its latest attempt.
pub(super) fn task(run: &Run, task: TaskIx, times: &Times, with_dependencies: bool) -> api::Task {
    let cell = run.cell(task);
    let at = times.0[task.index()];
    let worker = usize::from(at.worker).checked_sub(1).and_then(|at| run.workers.get(at));
    let has_own_failure = !matches!(cell.state, TaskState::Cancelled | TaskState::Skipped);
    let failure = run.failure(task).filter(|_| has_own_failure);
    let cause = failure.map(|failure| failure.cause).or(at.cause);
    let mut outputs = HashMap::new();
    for (name, value) in run.outputs(task).iter().flat_map(|outputs| &outputs.0) {
        outputs.insert(name.to_string(), value.as_json().to_owned());
    }
    let dependencies = if with_dependencies {
        run.dag.dependencies(task).map(|d| run.dag.task_name(d.task).to_owned()).collect()
    } else {
        Vec::new()
    };
    api::Task {
        name: run.dag.task_name(task).to_owned(),
        state: task_state(cell.state).into(),
        attempt: u32::from(cell.attempt),
        worker: worker.map(ToString::to_string).unwrap_or_default(),
        ready_at: at.ready.0,
        leased_at: at.leased.0,
        started_at: at.started.0,
        finished_at: if cell.state.is_terminal() { at.finished.0 } else { 0 },
        cause: cause.map(|cause| cause.kind.as_str().to_owned()).unwrap_or_default(),
        cause_code: cause.map_or(0, |cause| cause.code),
        message: run.why(task),
        outputs,
        dependencies,
        exception: failure.map(|failure| failure.exception.to_string()).unwrap_or_default(),
        usage: spent_until(run, at.ended).map(usage),
    }
}

/// What the attempt used whose end is the record with this number, from 1.
fn spent_until(run: &Run, number: u32) -> Option<&Spent> {
    run.spent_at(usize::try_from(number).ok()?.checked_sub(1)?)
}

/// A worker as it is shown.
pub(super) fn worker(worker: &Worker) -> api::Worker {
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    api::Worker {
        worker: worker.id.to_string(),
        status: worker.status.as_str().to_owned(),
        is_cordoned: worker.is_cordoned,
        is_draining: worker.is_draining,
        capacity: worker.capacity.to_string(),
        used: worker.used().to_string(),
        labels: worker.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        executors: worker.executors.iter().map(ToString::to_string).collect(),
        leases: small(worker.n_leases()),
        leases_ahead: small(worker.n_ahead()),
        heard_at: worker.heard_at.0,
        accepts_permille: worker.admission.share.permille(),
        pressure: worker.admission.pressure.map(|pressure| api::Pressure {
            kind: pressure.kind.as_str().to_owned(),
            measured_permille: pressure.measured,
            limit_permille: pressure.limit,
        }),
        throttled_since: worker.throttled_since.map_or(0, |since| since.0),
    }
}

/// An explanation as it is shown.
pub(super) fn explanation(explanation: Explanation) -> api::ExplainResponse {
    let blockers = explanation.blockers.into_iter().map(|blocker| api::Blocker {
        kind: blocker.kind.to_owned(),
        name: blocker.name,
        detail: blocker.detail,
    });
    api::ExplainResponse {
        state: task_state(explanation.state).into(),
        code: explanation.code.to_owned(),
        message: explanation.message,
        blockers: blockers.collect(),
        remedy: explanation.remedy.to_owned(),
    }
}
