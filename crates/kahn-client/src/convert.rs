//! Converts messages to the types of this crate. Additions of newer coordinators are accepted; what
//! no coordinator may send is an error.

use std::collections::BTreeMap;
use std::time::Duration;

use kahn_model::{RunId, Timestamp};
use kahn_proto::api;
use kahn_proto::convert::state;

use crate::error::Error;
use crate::types::{
    Blocker, Event, Explanation, Pool, Pressure, Run, Task, Usage, Waiting, Worker,
};

pub(crate) fn run_id(text: &str) -> Result<RunId, Error> {
    text.parse().map_err(|_| Error::bug(format!("the coordinator sent the run id `{text}`")))
}

/// Zero stands for `None`.
fn time(micros: u64) -> Option<Timestamp> {
    (micros > 0).then_some(Timestamp(micros))
}

pub(crate) fn run(run: api::Run) -> Result<Run, Error> {
    let mut tasks = BTreeMap::new();
    let counts: BTreeMap<i32, u32> = run.tasks.into_iter().collect();
    for (number, count) in counts {
        if count > 0 {
            tasks.insert(state::task_state("Run.tasks", number)?, count);
        }
    }
    Ok(Run {
        id: run_id(&run.run)?,
        namespace: run.namespace,
        dag: run.dag,
        state: state::run_state("Run.state", run.state)?,
        submitted_at: Timestamp(run.submitted_at),
        finished_at: time(run.finished_at),
        tasks,
        reason: run.reason,
        labels: run.labels.into_iter().collect(),
        critical_path_done: Duration::from_micros(run.critical_path_done),
        critical_path: Duration::from_micros(run.critical_path),
        last_event: run.events,
        waiting: run.waiting.into_iter().map(waiting).collect(),
        is_archived: run.is_archived,
    })
}

fn waiting(waiting: api::Waiting) -> Waiting {
    let api::Waiting { tasks, first, code, message, remedy } = waiting;
    Waiting { n_tasks: tasks, first, code, message, remedy }
}

pub(crate) fn task(task: api::Task) -> Result<Task, Error> {
    Ok(Task {
        state: state::task_state("Task.state", task.state)?,
        name: task.name,
        attempt: task.attempt,
        worker: task.worker,
        ready_at: time(task.ready_at),
        leased_at: time(task.leased_at),
        started_at: time(task.started_at),
        finished_at: time(task.finished_at),
        cause: task.cause,
        cause_code: task.cause_code,
        message: task.message,
        exception: task.exception,
        outputs: task.outputs.into_iter().collect(),
        dependencies: task.dependencies,
        usage: task.usage.map(usage),
    })
}

pub(crate) fn event(run: RunId, event: api::Event) -> Event {
    Event {
        seq: event.seq,
        at: Timestamp(event.time),
        kind: event.r#type,
        run,
        task: event.task,
        attempt: event.attempt,
        worker: event.worker,
        cause: event.cause,
        cause_code: event.cause_code,
        message: event.message,
        elapsed: Some(event.elapsed_micros).filter(|m| *m > 0).map(Duration::from_micros),
        usage: event.usage.map(usage),
    }
}

fn usage(usage: api::Usage) -> Usage {
    Usage {
        cpu: Duration::from_micros(usage.cpu_micros),
        memory_peak: usage.memory_peak,
        read_bytes: usage.read_bytes,
        written_bytes: usage.written_bytes,
    }
}

pub(crate) fn explanation(answer: api::ExplainResponse) -> Result<Explanation, Error> {
    let blocker = |blocker: api::Blocker| Blocker {
        kind: blocker.kind,
        name: blocker.name,
        detail: blocker.detail,
    };
    Ok(Explanation {
        state: state::task_state("ExplainResponse.state", answer.state)?,
        code: answer.code,
        message: answer.message,
        blockers: answer.blockers.into_iter().map(blocker).collect(),
        remedy: answer.remedy,
    })
}

pub(crate) fn pool(pool: api::Pool) -> Pool {
    Pool {
        name: pool.name,
        workers: pool.workers,
        workers_busy: pool.workers_busy,
        workers_wanted: pool.workers_wanted,
        workers_max: pool.workers_max,
        leases: pool.leases,
        tasks_waiting: pool.tasks_waiting,
    }
}

pub(crate) fn worker(worker: api::Worker) -> Worker {
    Worker {
        name: worker.worker,
        status: worker.status,
        is_cordoned: worker.is_cordoned,
        is_draining: worker.is_draining,
        capacity: worker.capacity,
        used: worker.used,
        labels: worker.labels.into_iter().collect(),
        executors: worker.executors,
        leases: worker.leases,
        leases_ahead: worker.leases_ahead,
        heard_at: time(worker.heard_at),
        // Older coordinators do not send the share.
        accepts_permille: if worker.accepts_permille == 0 { 1000 } else { worker.accepts_permille },
        pressure: worker.pressure.map(|pressure| Pressure {
            kind: pressure.kind,
            measured_permille: pressure.measured_permille,
            limit_permille: pressure.limit_permille,
        }),
        throttled_since: time(worker.throttled_since),
    }
}
