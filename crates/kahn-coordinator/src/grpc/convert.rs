//! Converts results of the service layer into messages.

use kahn_core::{Explanation, PoolDemand};
use kahn_model::{RunState, TaskState};
use kahn_proto::api;
use tonic::Status;

use crate::service::{
    EventView, LogPart, RunView, TaskView, UsageView, WaitingView, WatchUpdate, WorkerView,
};

fn run_state(state: RunState) -> api::RunState {
    match state {
        RunState::Active => api::RunState::Active,
        RunState::Paused => api::RunState::Paused,
        RunState::Cancelling => api::RunState::Cancelling,
        RunState::Succeeded => api::RunState::Succeeded,
        RunState::Failed => api::RunState::Failed,
        RunState::Cancelled => api::RunState::Cancelled,
    }
}

fn task_state(state: TaskState) -> api::TaskState {
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

/// Converts the run states of a filter.
pub(super) fn run_states(
    states: impl Iterator<Item = api::RunState>,
) -> Result<Vec<RunState>, Status> {
    states
        .map(|wanted| {
            let found = RunState::ALL.into_iter().find(|state| run_state(*state) == wanted);
            found.ok_or_else(|| Status::invalid_argument("states: there is no such state of a run"))
        })
        .collect()
}

/// Converts the task states of a filter.
pub(super) fn task_states(
    states: impl Iterator<Item = api::TaskState>,
) -> Result<Vec<TaskState>, Status> {
    states
        .map(|wanted| {
            let found = TaskState::ALL.into_iter().find(|state| task_state(*state) == wanted);
            found
                .ok_or_else(|| Status::invalid_argument("states: there is no such state of a task"))
        })
        .collect()
}

pub(super) fn run(run: RunView) -> api::Run {
    let tasks = run.tasks.into_iter();
    api::Run {
        run: run.run.to_string(),
        namespace: run.namespace,
        dag: run.dag,
        state: run_state(run.state).into(),
        submitted_at: run.submitted_at.0,
        finished_at: run.finished_at.map_or(0, |at| at.0),
        tasks: tasks.map(|(state, n_tasks)| (task_state(state).into(), n_tasks)).collect(),
        reason: run.reason.unwrap_or_default(),
        labels: run.labels.into_iter().collect(),
        critical_path_done: run.critical_path_done,
        critical_path: run.critical_path,
        events: run.events,
        waiting: run.waiting.into_iter().map(waiting).collect(),
        is_archived: run.is_archived,
    }
}

fn waiting(waiting: WaitingView) -> api::Waiting {
    api::Waiting {
        tasks: small(waiting.n_tasks),
        first: waiting.first,
        code: waiting.code.to_owned(),
        message: waiting.message,
        remedy: waiting.remedy.to_owned(),
    }
}

pub(super) fn task(task: TaskView) -> api::Task {
    api::Task {
        name: task.name,
        state: task_state(task.state).into(),
        attempt: task.attempt,
        worker: task.worker.unwrap_or_default(),
        ready_at: task.ready_at.0,
        leased_at: task.leased_at.0,
        started_at: task.started_at.0,
        finished_at: task.finished_at.0,
        cause: task.cause.map(|cause| cause.kind.as_str().to_owned()).unwrap_or_default(),
        cause_code: task.cause.map_or(0, |cause| cause.code),
        message: task.message,
        outputs: task.outputs.into_iter().collect(),
        dependencies: task.dependencies,
        exception: task.exception,
        usage: task.usage.map(usage),
    }
}

fn event(event: EventView) -> api::Event {
    api::Event {
        seq: event.seq,
        time: event.time.0,
        r#type: event.kind.as_str().to_owned(),
        task: event.task.unwrap_or_default(),
        attempt: event.attempt,
        worker: event.worker.unwrap_or_default(),
        cause: event.cause.map(|cause| cause.kind.as_str().to_owned()).unwrap_or_default(),
        cause_code: event.cause.map_or(0, |cause| cause.code),
        message: event.message,
        elapsed_micros: event.elapsed_micros,
        usage: event.usage.map(usage),
    }
}

fn usage(usage: UsageView) -> api::Usage {
    api::Usage {
        cpu_micros: usage.cpu_micros,
        memory_peak: usage.memory_peak,
        read_bytes: usage.read_bytes,
        written_bytes: usage.written_bytes,
    }
}

pub(super) fn update(update: WatchUpdate) -> api::WatchResponse {
    api::WatchResponse {
        events: update.events.into_iter().map(event).collect(),
        run: Some(run(update.run)),
    }
}

pub(super) fn log_part(part: LogPart) -> api::LogsResponse {
    match part {
        LogPart::Data { attempt, offset, data } => {
            api::LogsResponse { attempt, offset, data, ..Default::default() }
        }
        LogPart::Sealed { attempt, offset, cut } => api::LogsResponse {
            attempt,
            offset,
            is_sealed: true,
            is_cut: cut.is_some(),
            note: cut.unwrap_or_default(),
            ..Default::default()
        },
        LogPart::End => api::LogsResponse { is_end: true, ..Default::default() },
    }
}

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

pub(super) fn worker(worker: WorkerView) -> api::Worker {
    api::Worker {
        worker: worker.worker,
        status: worker.status.as_str().to_owned(),
        is_cordoned: worker.is_cordoned,
        is_draining: worker.is_draining,
        capacity: worker.capacity,
        used: worker.used,
        labels: worker.labels.into_iter().collect(),
        executors: worker.executors,
        leases: small(worker.leases),
        leases_ahead: small(worker.leases_ahead),
        heard_at: worker.heard_at.0,
        accepts_permille: worker.accepts_permille,
        pressure: worker.pressure.map(|pressure| api::Pressure {
            kind: pressure.kind.as_str().to_owned(),
            measured_permille: pressure.measured,
            limit_permille: pressure.limit,
        }),
        throttled_since: worker.throttled_since.map_or(0, |since| since.0),
    }
}

pub(super) fn pool(pool: PoolDemand) -> api::Pool {
    api::Pool {
        name: pool.name.to_string(),
        workers: pool.n_workers,
        workers_busy: pool.n_busy,
        workers_wanted: u32::try_from(pool.n_wanted).unwrap_or(u32::MAX),
        workers_max: pool.n_max,
        leases: pool.n_leases,
        tasks_waiting: pool.n_waiting,
    }
}

fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
