//! Runs, tasks, workers and explanations, as JSON and as text.

use std::collections::BTreeMap;

use kahn_client::{Explanation, Run, Task, Waiting};
use kahn_model::{TaskState, Timestamp};
use kahn_runtime::clock;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::json::{cause_code, seconds, word};
use super::table::table;
use super::text;
use super::usage::{self, UsageJson};

fn time(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| clock::format_micros(at.0))
}

/// Returns the task counts with the states as strings.
pub(crate) fn count_words(tasks: &BTreeMap<TaskState, u32>) -> Map<String, Value> {
    tasks.iter().map(|(state, count)| (state.as_str().to_owned(), (*count).into())).collect()
}

/// A run as JSON; the fields are stable.
#[derive(Debug, Serialize)]
pub(crate) struct RunJson<'a> {
    run: String,
    namespace: &'a str,
    dag: &'a str,
    state: &'static str,
    submitted_at: String,
    finished_at: Option<String>,
    tasks: Map<String, Value>,
    reason: Option<&'a str>,
    labels: &'a BTreeMap<String, String>,
    critical_path_seconds: f64,
    critical_path_done_seconds: f64,
    events: u64,
    /// Omitted if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waiting: Vec<Value>,
    /// Omitted if false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    archived: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_list: Option<Vec<TaskJson<'a>>>,
}

impl<'a> RunJson<'a> {
    /// Converts a run, optionally with its tasks.
    pub(crate) fn of(run: &'a Run, tasks: Option<&'a [Task]>) -> Self {
        Self {
            run: run.id.to_string(),
            namespace: &run.namespace,
            dag: &run.dag,
            state: run.state.as_str(),
            submitted_at: clock::format_micros(run.submitted_at.0),
            finished_at: time(run.finished_at),
            tasks: count_words(&run.tasks),
            reason: word(&run.reason),
            labels: &run.labels,
            critical_path_seconds: seconds(run.critical_path),
            critical_path_done_seconds: seconds(run.critical_path_done),
            events: run.last_event,
            waiting: run.waiting.iter().map(waiting_json).collect(),
            archived: run.is_archived,
            task_list: tasks.map(|tasks| tasks.iter().map(TaskJson::of).collect()),
        }
    }
}

fn waiting_json(waiting: &Waiting) -> Value {
    json!({
        "tasks": waiting.n_tasks,
        "first": waiting.first,
        "code": waiting.code,
        "message": waiting.message,
        "remedy": word(&waiting.remedy),
    })
}

/// A task as JSON; the fields are stable.
#[derive(Debug, Serialize)]
pub(crate) struct TaskJson<'a> {
    task: &'a str,
    state: &'static str,
    attempt: u32,
    worker: Option<&'a str>,
    ready_at: Option<String>,
    leased_at: Option<String>,
    started_at: Option<String>,
    finished_at: Option<String>,
    seconds: Option<f64>,
    cause: Option<&'a str>,
    cause_code: Option<i32>,
    message: Option<&'a str>,
    exception: Option<&'a str>,
    outputs: Map<String, Value>,
    #[serde(flatten)]
    usage: UsageJson,
}

impl<'a> TaskJson<'a> {
    fn of(task: &'a Task) -> Self {
        let value = |text: &String| serde_json::from_str(text).unwrap_or(Value::Null);
        Self {
            task: &task.name,
            state: task.state.as_str(),
            attempt: task.attempt,
            worker: word(&task.worker),
            ready_at: time(task.ready_at),
            leased_at: time(task.leased_at),
            started_at: time(task.started_at),
            finished_at: time(task.finished_at),
            seconds: task.elapsed().map(seconds),
            cause: word(&task.cause),
            cause_code: cause_code(&task.cause, task.cause_code),
            message: word(&task.message),
            exception: word(&task.exception),
            outputs: task.outputs.iter().map(|(k, v)| (k.clone(), value(v))).collect(),
            usage: UsageJson::of(task.usage),
        }
    }
}

/// Formats runs as a table.
pub(crate) fn list(runs: &[Run]) -> String {
    let rows = runs.iter().map(|run| {
        let took = run.finished_at.map(|at| text::span(at.since(run.submitted_at)));
        [
            run.id.to_string(),
            text::safe(&run.dag),
            run.state.to_string(),
            format!("{}/{}", run.n_ended(), run.n_tasks()),
            text::time(run.submitted_at),
            took.unwrap_or_default(),
        ]
    });
    table(["RUN", "DAG", "STATE", "TASKS", "SUBMITTED", "TOOK"], rows.collect())
}

/// Formats a run in a few lines.
pub(crate) fn details(run: &Run) -> String {
    let mut out = format!("run        {}\n", run.id);
    let mut add = |name: &str, value: String| out.push_str(&format!("{name:<10} {value}\n"));
    add("dag", text::safe(&run.dag));
    add("namespace", text::safe(&run.namespace));
    add("state", text::run_state(run.state));
    add("submitted", text::time(run.submitted_at));
    if let Some(at) = run.finished_at {
        add("finished", format!("{} ({})", text::time(at), text::span(at.since(run.submitted_at))));
    }
    if run.is_archived {
        add("archived", "yes".to_owned());
    }
    add("tasks", text::counts(&run.tasks));
    for waiting in &run.waiting {
        add("waiting", text::waiting(waiting));
    }
    if !run.reason.is_empty() {
        add("reason", text::safe(&run.reason));
    }
    if !run.labels.is_empty() {
        add("labels", text::labels(&run.labels));
    }
    out
}

/// Formats tasks as a table, with usage columns if known for any task.
pub(crate) fn tasks(tasks: &[Task]) -> String {
    let with_usage = tasks.iter().any(|task| task.usage.is_some());
    let rows = tasks.iter().map(|task| {
        let why = text::why(&task.cause, task.cause_code, &task.message);
        [
            text::safe(&task.name),
            task.state.to_string(),
            Some(task.attempt).filter(|n| *n > 0).map(|n| n.to_string()).unwrap_or_default(),
            text::safe(&task.worker),
            task.elapsed().map(text::span).unwrap_or_default(),
            why,
        ]
    });
    if !with_usage {
        return table(["TASK", "STATE", "ATTEMPT", "WORKER", "TOOK", "WHY"], rows.collect());
    }
    let rows = rows.zip(tasks).map(|([name, state, attempt, worker, took, why], task)| {
        let [cpu, memory, io] = task.usage.as_ref().map(usage::cells).unwrap_or_default();
        [name, state, attempt, worker, took, cpu, memory, io, why]
    });
    let head =
        ["TASK", "STATE", "ATTEMPT", "WORKER", "TOOK", "CPU", "MEMORY", "READ/WRITTEN", "WHY"];
    table(head, rows.collect())
}

/// Formats an explanation as JSON; the fields are stable.
pub(crate) fn explanation_json(run: &str, task: &str, why: &Explanation) -> Value {
    let blockers: Vec<Value> = why
        .blockers
        .iter()
        .map(|b| json!({ "kind": b.kind, "name": b.name, "detail": word(&b.detail) }))
        .collect();
    json!({
        "run": run,
        "task": task,
        "state": why.state.as_str(),
        "code": why.code,
        "message": why.message,
        "blockers": blockers,
        "remedy": word(&why.remedy),
    })
}

/// Formats an explanation in a few lines.
pub(crate) fn explanation(task: &str, why: &Explanation) -> String {
    let mut out = format!(
        "{} is {}: {}\n",
        text::safe(task),
        text::task_state(why.state),
        text::safe_lines(why.message.trim_end()).replace('\n', "\n  ")
    );
    for blocker in &why.blockers {
        out.push_str(&format!("  {} {}", text::safe(&blocker.kind), text::safe(&blocker.name)));
        if !blocker.detail.is_empty() {
            out.push_str(&format!(": {}", text::safe(&blocker.detail)));
        }
        out.push('\n');
    }
    if !why.remedy.is_empty() {
        out.push_str(&format!("{}: {}\n", text::bold("advice"), text::safe(&why.remedy)));
    }
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use kahn_client::Blocker;
    use kahn_model::{RunId, RunState, Uuid};

    use super::*;

    const START: u64 = 1_767_225_600_000_000;

    /// Creates a run of three tasks that failed after 2.5 s.
    pub(crate) fn run() -> Run {
        Run {
            id: RunId::new(Uuid::from_u128(1)),
            namespace: "default".into(),
            dag: "etl".into(),
            state: RunState::Failed,
            submitted_at: Timestamp(START),
            finished_at: Some(Timestamp(START + 2_500_000)),
            tasks: [(TaskState::Succeeded, 2), (TaskState::Failed, 1)].into(),
            reason: String::new(),
            labels: BTreeMap::new(),
            critical_path_done: Duration::from_secs(3),
            critical_path: Duration::from_secs(4),
            last_event: 12,
            waiting: Vec::new(),
            is_archived: false,
        }
    }

    /// Creates a task with start and end times in microseconds.
    pub(crate) fn task(name: &str, state: TaskState, started: u64, finished: u64) -> Task {
        Task {
            name: name.into(),
            state,
            attempt: 1,
            worker: "w-1".into(),
            ready_at: Some(Timestamp(START)),
            leased_at: Some(Timestamp(START)),
            started_at: Some(Timestamp(START + started)),
            finished_at: Some(Timestamp(START + finished)),
            cause: String::new(),
            cause_code: 0,
            message: String::new(),
            exception: String::new(),
            outputs: BTreeMap::new(),
            dependencies: Vec::new(),
            usage: None,
        }
    }

    #[test]
    fn a_run_is_one_object_with_stable_fields() {
        assert_eq!(
            serde_json::to_string(&RunJson::of(&run(), None)).unwrap(),
            "{\"run\":\"00000000-0000-0000-0000-000000000001\",\"namespace\":\"default\",\
             \"dag\":\"etl\",\"state\":\"failed\",\
             \"submitted_at\":\"2026-01-01T00:00:00.000000Z\",\
             \"finished_at\":\"2026-01-01T00:00:02.500000Z\",\
             \"tasks\":{\"failed\":1,\"succeeded\":2},\"reason\":null,\"labels\":{},\
             \"critical_path_seconds\":4.0,\"critical_path_done_seconds\":3.0,\"events\":12}"
        );
    }

    #[test]
    fn a_run_shows_what_its_ready_tasks_wait_for() {
        let waiting = Waiting {
            n_tasks: 2,
            first: "load".into(),
            code: "no_worker".into(),
            message: "no worker takes work".into(),
            remedy: "start a worker".into(),
        };
        let run = Run { waiting: vec![waiting], ..run() };
        let line = "waiting    2 tasks wait, load first: no worker takes work\n";
        assert!(details(&run).contains(line), "{}", details(&run));
        let value = serde_json::to_value(RunJson::of(&run, None)).unwrap();
        assert_eq!(
            value["waiting"],
            json!([{
                "tasks": 2,
                "first": "load",
                "code": "no_worker",
                "message": "no worker takes work",
                "remedy": "start a worker",
            }])
        );
    }

    #[test]
    fn a_task_shows_its_outputs_as_json() {
        let outputs = [("rows".to_owned(), "42".to_owned())].into();
        let exception = "app.Broken".to_owned();
        let task = Task { outputs, exception, ..task("a", TaskState::Succeeded, 0, 1_000_000) };
        let value = serde_json::to_value(TaskJson::of(&task)).unwrap();
        assert_eq!(value["outputs"]["rows"], 42);
        assert_eq!(value["exception"], "app.Broken");
        assert_eq!((&value["seconds"], &value["cause"]), (&json!(1.0), &Value::Null));
    }

    #[test]
    fn runs_and_tasks_are_shown_as_tables() {
        assert_eq!(
            list(&[run()]),
            "RUN                                   DAG  STATE   TASKS  SUBMITTED             TOOK\n\
             00000000-0000-0000-0000-000000000001  etl  failed  3/3    2026-01-01 00:00:00Z  2.5s\n"
        );
        let failed = Task {
            cause: "exit_code".into(),
            cause_code: 3,
            message: "see\nlog".into(),
            ..task("load", TaskState::Failed, 0, 350_000)
        };
        assert_eq!(
            tasks(&[failed]),
            "TASK  STATE   ATTEMPT  WORKER  TOOK   WHY\n\
             load  failed  1        w-1     350ms  exit code 3: see ...\n"
        );
    }

    #[test]
    fn what_tasks_used_is_shown_where_it_is_known() {
        let usage = Some(kahn_client::Usage {
            cpu: Duration::from_millis(1200),
            memory_peak: 64 << 20,
            read_bytes: 0,
            written_bytes: 3 << 20,
        });
        let known = Task { usage, ..task("a", TaskState::Succeeded, 0, 350_000) };
        let value = serde_json::to_value(TaskJson::of(&known)).unwrap();
        assert_eq!(value["memory_peak_bytes"], 64 << 20);
        assert_eq!(
            (&value["cpu_seconds"], &value["written_bytes"]),
            (&json!(1.2), &json!(3 << 20))
        );
        let unknown = task("b", TaskState::Succeeded, 0, 350_000);
        assert!(serde_json::to_value(TaskJson::of(&unknown)).unwrap()["cpu_seconds"].is_null());
        assert_eq!(
            tasks(&[known, unknown]),
            "TASK  STATE      ATTEMPT  WORKER  TOOK   CPU   MEMORY  READ/WRITTEN  WHY\n\
             a     succeeded  1        w-1     350ms  1.2s  64Mi    0/3.0Mi\n\
             b     succeeded  1        w-1     350ms\n"
        );
    }

    #[test]
    fn an_explanation_names_what_is_in_the_way_and_what_would_help() {
        let blocker = Blocker { kind: "task".into(), name: "a".into(), detail: "running".into() };
        let why = Explanation {
            state: TaskState::Pending,
            code: "dependencies".into(),
            message: "waits for 1 dependency".into(),
            blockers: vec![blocker],
            remedy: "wait for it".into(),
        };
        let text = anstream::adapter::strip_str(&explanation("b", &why)).to_string();
        assert_eq!(
            text,
            "b is pending: waits for 1 dependency\n  task a: running\nadvice: wait for it\n"
        );
        assert_eq!(explanation_json("r", "b", &why)["blockers"][0]["name"], "a");
    }
}
