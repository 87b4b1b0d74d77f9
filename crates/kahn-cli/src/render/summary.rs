//! The summary of an ended run: makespan, lower bounds, slowest tasks and failed tasks.

mod bound;

use std::time::Duration;

use kahn_client::{Run, Task, Usage};
use kahn_model::{Dag, Resources, TaskState, Timestamp};
use serde_json::{Value, json};

use super::json::{cause_code, seconds, word};
use super::run::count_words;
use super::text;
use super::usage::{self, UsageJson};
use bound::Observed;

const SLOWEST_MAX: usize = 5;
/// Maximum failed tasks collected.
const FAILED_MAX: usize = 1000;
const FAILED_SHOWN_MAX: usize = 10;

/// A failed task with the last lines of its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedTask {
    /// The task.
    pub task: Task,
    /// The last lines of its output; empty if not requested.
    pub log_tail: Vec<String>,
}

/// The summary of an ended run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Summary {
    /// The run.
    pub run: Run,
    /// Time from the first start to the last end of a task.
    pub makespan: Duration,
    /// Length of the longest chain of tasks, by actual run time; `None` without the DAG.
    pub critical_path: Option<Duration>,
    /// How long all tasks together keep the workers busy; `None` without the DAG.
    pub area: Option<Duration>,
    /// The slowest tasks.
    pub slowest: Vec<(String, Duration)>,
    /// Total usage of the latest attempts of all tasks, if known for any. Memory is the maximum
    /// instead of the total.
    pub used: Option<Usage>,
    /// The failed tasks, up to a maximum.
    pub failed: Vec<FailedTask>,
}

/// Collects tasks, page by page, into a summary.
#[derive(Debug)]
pub(crate) struct Collector<'a> {
    observed: Option<Observed<'a>>,
    first_start: Option<Timestamp>,
    last_end: Option<Timestamp>,
    slowest: Vec<(String, Duration)>,
    used: Option<Usage>,
    failed: Vec<FailedTask>,
}

impl<'a> Collector<'a> {
    /// Creates a collector. The bounds are only computed if the DAG is given.
    pub(crate) fn new(dag: Option<&'a Dag>) -> Self {
        Self {
            observed: dag.map(Observed::new),
            first_start: None,
            last_end: None,
            slowest: Vec::new(),
            used: None,
            failed: Vec::new(),
        }
    }

    /// Adds an ended task.
    pub(crate) fn take(&mut self, task: Task) {
        if let Some(observed) = &mut self.observed {
            observed.take(&task);
        }
        if let (Some(start), Some(end)) = (task.started_at, task.finished_at) {
            self.first_start = Some(self.first_start.map_or(start, |first| first.min(start)));
            self.last_end = Some(self.last_end.map_or(end, |last| last.max(end)));
            self.note_slow(&task.name, end.since(start));
        }
        if let Some(usage) = &task.usage {
            let used = self.used.get_or_insert_default();
            used.cpu += usage.cpu;
            used.memory_peak = used.memory_peak.max(usage.memory_peak);
            used.read_bytes = used.read_bytes.saturating_add(usage.read_bytes);
            used.written_bytes = used.written_bytes.saturating_add(usage.written_bytes);
        }
        if task.state == TaskState::Failed && self.failed.len() < FAILED_MAX {
            self.failed.push(FailedTask { task, log_tail: Vec::new() });
        }
    }

    fn note_slow(&mut self, name: &str, took: Duration) {
        let at = self.slowest.partition_point(|(_, other)| *other >= took);
        if at < SLOWEST_MAX {
            self.slowest.insert(at, (name.to_owned(), took));
            self.slowest.truncate(SLOWEST_MAX);
        }
    }

    /// Returns the summary, given the total capacity of all workers.
    pub(crate) fn finish(self, run: Run, capacity: &Resources) -> Summary {
        let makespan = match (self.first_start, self.last_end) {
            (Some(start), Some(end)) => end.since(start),
            _ => Duration::ZERO,
        };
        Summary {
            run,
            makespan,
            critical_path: self.observed.as_ref().map(Observed::critical_path),
            area: self.observed.as_ref().map(|observed| observed.area(capacity)),
            slowest: self.slowest,
            used: self.used,
            failed: self.failed,
        }
    }
}

impl Summary {
    /// Returns the lower bound on the makespan of any schedule on these workers.
    pub(crate) fn lower_bound(&self) -> Option<Duration> {
        Some(self.critical_path?.max(self.area?))
    }

    /// Formats the summary as JSON; the fields are stable.
    pub(crate) fn to_json(&self) -> Value {
        let failed: Vec<Value> = self.failed.iter().map(failed_json).collect();
        let slowest: Vec<Value> = self
            .slowest
            .iter()
            .map(|(task, took)| json!({ "task": task, "seconds": seconds(*took) }))
            .collect();
        json!({
            "run": self.run.id.to_string(),
            "dag": self.run.dag,
            "state": self.run.state.as_str(),
            "reason": word(&self.run.reason),
            "makespan_seconds": seconds(self.makespan),
            "lower_bound_seconds": self.lower_bound().map(seconds),
            "critical_path_seconds": self.critical_path.map(seconds),
            "area_seconds": self.area.map(seconds),
            "tasks": count_words(&self.run.tasks),
            "slowest": slowest,
            "used": self.used.map(|used| UsageJson::of(Some(used))),
            "failed": failed,
        })
    }

    /// Formats the summary as text, including line feeds.
    pub(crate) fn to_text(&self) -> String {
        let run = &self.run;
        let mut out = format!("run {} {}", run.id, text::run_state(run.state));
        if !run.reason.is_empty() {
            out.push_str(&format!(" ({})", text::safe(&run.reason)));
        }
        out.push_str(&format!("\n  tasks       {}\n", text::counts(&run.tasks)));
        out.push_str(&format!("  makespan    {}\n", text::span(self.makespan)));
        if let (Some(bound), Some(path), Some(area)) =
            (self.lower_bound(), self.critical_path, self.area)
        {
            out.push_str(&format!(
                "  lower bound {} (critical path {}, area {})\n",
                text::span(bound),
                text::span(path),
                text::span(area)
            ));
        }
        if self.slowest.len() > 1 {
            let slowest: Vec<String> = self
                .slowest
                .iter()
                .map(|(task, took)| format!("{} {}", text::safe(task), text::span(*took)))
                .collect();
            out.push_str(&format!("  slowest     {}\n", slowest.join(", ")));
        }
        if let Some(used) = &self.used {
            out.push_str(&format!("  used        {}\n", usage::words(used)));
        }
        out.push_str(&self.failed_text());
        out
    }

    fn failed_text(&self) -> String {
        let mut out = String::new();
        for FailedTask { task, log_tail } in self.failed.iter().take(FAILED_SHOWN_MAX) {
            let name = text::bold_red(&text::safe(&task.name));
            out.push_str(&format!("  failed      {name}"));
            if !task.cause.is_empty() || !task.message.is_empty() {
                let why = text::why(&task.cause, task.cause_code, &task.message);
                out.push_str(&format!(": {why}"));
            }
            if task.attempt > 0 {
                out.push_str(&format!(
                    " (attempt {} on {})",
                    task.attempt,
                    text::safe(&task.worker)
                ));
            }
            out.push('\n');
            for line in log_tail {
                out.push_str(&format!("    | {}\n", text::safe(line)));
            }
        }
        let n_failed = self.run.tasks.get(&TaskState::Failed).copied().unwrap_or(0);
        let shown = u32::try_from(self.failed.len().min(FAILED_SHOWN_MAX)).unwrap_or(u32::MAX);
        if n_failed > shown {
            let n_more = n_failed - shown;
            let all = format!("kahn get {}", self.run.id);
            out.push_str(&format!("              and {n_more} more: {all} lists them\n"));
        }
        out
    }
}

fn failed_json(failed: &FailedTask) -> Value {
    let task = &failed.task;
    json!({
        "task": task.name,
        "attempt": task.attempt,
        "worker": word(&task.worker),
        "cause": word(&task.cause),
        "cause_code": cause_code(&task.cause, task.cause_code),
        "message": word(&task.message),
        "log_tail": failed.log_tail,
    })
}

#[cfg(test)]
mod tests {
    use kahn_model::{Action, DagBuilder, Name, NewTask, RunPolicy, Work};

    use super::super::run::tests::{run, task};
    use super::*;

    fn dag() -> Dag {
        let mut builder = DagBuilder::new(Name::new("etl").unwrap(), RunPolicy::default());
        let mut add = |name: &str| {
            let mut new = NewTask::new(Name::new(name).unwrap(), Work::new(Action::Noop));
            new.profile.resources = "cpu=1".parse().unwrap();
            builder.task(new).unwrap()
        };
        let (a, b, c) = (add("a"), add("b"), add("c"));
        builder.after(c, a);
        builder.after(c, b);
        builder.build().unwrap()
    }

    fn summary() -> Summary {
        let dag = dag();
        let mut collector = Collector::new(Some(&dag));
        collector.take(task("a", TaskState::Succeeded, 0, 1_000_000));
        let usage = |millis, memory_peak| {
            let cpu = Duration::from_millis(millis);
            Some(Usage { cpu, memory_peak, read_bytes: 0, written_bytes: 5 })
        };
        collector
            .take(Task { usage: usage(100, 2048), ..task("b", TaskState::Succeeded, 0, 500_000) });
        collector.take(Task {
            usage: usage(150, 1024),
            cause: "exit_code".into(),
            cause_code: 3,
            ..task("c", TaskState::Failed, 1_250_000, 2_250_000)
        });
        let mut summary = collector.finish(run(), &"cpu=1".parse().unwrap());
        summary.failed[0].log_tail = vec!["about to \u{1b}fail".into()];
        summary
    }

    #[test]
    fn a_summary_ends_a_run_in_words() {
        assert_eq!(
            anstream::adapter::strip_str(&summary().to_text()).to_string(),
            "run 00000000-0000-0000-0000-000000000001 failed\n\
             \x20 tasks       2 succeeded, 1 failed\n\
             \x20 makespan    2.2s\n\
             \x20 lower bound 2.5s (critical path 2.0s, area 2.5s)\n\
             \x20 slowest     a 1.0s, c 1.0s, b 500ms\n\
             \x20 used        cpu 250ms, memory 2.0Ki, read 0, wrote 10\n\
             \x20 failed      c: exit code 3 (attempt 1 on w-1)\n\
             \x20   | about to ?fail\n"
        );
    }

    #[test]
    fn a_summary_is_one_object_with_stable_fields() {
        assert_eq!(
            summary().to_json(),
            json!({
                "run": "00000000-0000-0000-0000-000000000001",
                "dag": "etl",
                "state": "failed",
                "reason": null,
                "makespan_seconds": 2.25,
                "lower_bound_seconds": 2.5,
                "critical_path_seconds": 2.0,
                "area_seconds": 2.5,
                "tasks": { "succeeded": 2, "failed": 1 },
                "slowest": [
                    { "task": "a", "seconds": 1.0 },
                    { "task": "c", "seconds": 1.0 },
                    { "task": "b", "seconds": 0.5 },
                ],
                "used": { "cpu_seconds": 0.25, "memory_peak_bytes": 2048, "read_bytes": 0, "written_bytes": 10 },
                "failed": [{
                    "task": "c",
                    "attempt": 1,
                    "worker": "w-1",
                    "cause": "exit_code",
                    "cause_code": 3,
                    "message": null,
                    "log_tail": ["about to \u{1b}fail"],
                }],
            })
        );
    }

    #[test]
    fn without_the_dag_there_is_no_bound() {
        let mut collector = Collector::new(None);
        collector.take(task("a", TaskState::Succeeded, 0, 1_000_000));
        let summary = collector.finish(run(), &Resources::none());
        assert_eq!(summary.lower_bound(), None);
        assert_eq!(summary.to_json()["lower_bound_seconds"], Value::Null);
    }
}
