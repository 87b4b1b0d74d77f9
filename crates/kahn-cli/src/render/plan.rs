//! The plan of a DAG: phases, critical path, bounds and expected schedule.

use std::fmt::Write as _;
use std::time::Duration;

use kahn_model::duration::{self, LowerBound};
use kahn_model::{Action, Dag, Levels, TaskIx, critical_path, levels};
use serde_json::{Map, Value, json};

use super::json::seconds;
use super::table::table;
use super::text;
use crate::what_if::{Cluster, SimulatedSchedule};

/// Maximum rows and names shown as text.
const ROWS_SHOWN_MAX: usize = 200;
const NAMES_SHOWN_MAX: usize = 12;

/// The plan of a DAG.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    dag: &'a Dag,
    cluster: &'a Cluster,
    schedule: &'a SimulatedSchedule,
    levels: Levels,
    path: Vec<TaskIx>,
    bound: LowerBound,
}

impl<'a> Plan<'a> {
    /// Creates the plan of a DAG from its expected schedule on a cluster.
    pub(crate) fn new(dag: &'a Dag, cluster: &'a Cluster, schedule: &'a SimulatedSchedule) -> Self {
        let expected = duration::expected(dag);
        let levels = levels(dag, |task| expected[task.index()]);
        let path = critical_path(dag, &levels);
        Self { dag, cluster, schedule, path, bound: cluster.lower_bound(dag), levels }
    }

    /// Returns the expected length of the critical path.
    fn path_length(&self) -> Duration {
        Duration::from_micros(self.levels.critical_path_micros())
    }

    /// Returns the number of tasks without an estimate.
    fn n_guessed(&self) -> u64 {
        let is_guessed = |task: &TaskIx| {
            self.dag.estimate(*task).is_none() && self.dag.work(*task).action != Action::Noop
        };
        u64::try_from(self.dag.tasks().filter(is_guessed).count()).unwrap_or(u64::MAX)
    }

    fn phases(&self) -> Vec<Vec<&'a str>> {
        let mut phases: Vec<Vec<&str>> = Vec::new();
        for task in self.dag.tasks() {
            let phase = usize::try_from(self.levels.phase[task.index()]).unwrap_or(usize::MAX);
            if phases.len() <= phase {
                phases.resize(phase + 1, Vec::new());
            }
            phases[phase].push(self.dag.task_name(task));
        }
        phases
    }

    fn path_names(&self) -> Vec<&'a str> {
        self.path.iter().map(|task| self.dag.task_name(*task)).collect()
    }

    /// Formats the plan as JSON; the fields are stable.
    pub(crate) fn to_json(&self) -> Value {
        let dag = self.dag;
        let mut dependencies = Map::new();
        let mut b_levels = Map::new();
        for task in dag.tasks() {
            let names: Vec<&str> =
                dag.dependencies(task).map(|dependency| dag.task_name(dependency.task)).collect();
            let b_level = Duration::from_micros(self.levels.b_level[task.index()]);
            dependencies.insert(dag.task_name(task).to_owned(), names.into());
            b_levels.insert(dag.task_name(task).to_owned(), seconds(b_level).into());
        }
        json!({
            "dag": dag.name().as_str(),
            "tasks": dag.n_tasks(),
            "tasks_without_estimate": self.n_guessed(),
            "dependencies": dependencies,
            "phases": self.phases(),
            "critical_path": self.path_names(),
            "critical_path_expected_seconds": seconds(self.path_length()),
            "critical_path_seconds": seconds(self.bound.chain),
            "area_seconds": seconds(self.bound.area),
            "lower_bound_seconds": seconds(self.bound.larger()),
            "estimated_seconds": seconds(self.schedule.answer.makespan),
            "b_levels": b_levels,
            "workers": self.cluster.workers,
            "capacity": self.cluster.named.to_string(),
            "placement": placement_json(dag, self.schedule),
        })
    }

    /// Formats the plan as text, including line feeds.
    pub(crate) fn to_text(&self) -> String {
        let dag = self.dag;
        let mut out = format!(
            "{} with {} tasks and {} dependencies\n",
            text::bold(dag.name().as_str()),
            dag.n_tasks(),
            dag.n_dependencies()
        );
        let phases = self.phases();
        let _ = writeln!(out, "\n{}", text::bold(&format!("phases ({})", phases.len())));
        for (number, names) in (1_usize..).zip(&phases).take(ROWS_SHOWN_MAX) {
            let _ = writeln!(out, "  {number:>3}  {}", some(names, ", "));
        }
        let length = text::span(self.path_length());
        let _ = writeln!(out, "\n{}", text::bold(&format!("critical path ({length})")));
        let _ = writeln!(out, "  {}", some(&self.path_names(), " -> "));
        let workers = text::plural(u64::from(self.cluster.workers), "worker");
        let heading = format!("on {workers} with {} each", self.cluster.named.rounded());
        let _ = writeln!(out, "\n{}", text::bold(&heading));
        let _ = writeln!(
            out,
            "  expected    {}\n  lower bound {} (critical path {}, area {})",
            text::span(self.schedule.answer.makespan),
            text::span(self.bound.larger()),
            text::span(self.bound.chain),
            text::span(self.bound.area)
        );
        let n_guessed = self.n_guessed();
        if n_guessed > 0 {
            let tasks = text::plural(n_guessed, "task");
            let _ = writeln!(
                out,
                "  {tasks} without `estimate`: the mean of the others is expected, and the lower \
                 bound counts no time"
            );
        }
        out.push('\n');
        out.push_str(&self.course_table());
        out
    }

    fn course_table(&self) -> String {
        let rows = self.schedule.answer.placements.iter().take(ROWS_SHOWN_MAX).map(|placed| {
            let b_level = Duration::from_micros(self.levels.b_level[placed.task.index()]);
            [
                self.dag.task_name(placed.task).to_owned(),
                worker_name(self.schedule, placed.worker).to_owned(),
                text::span(placed.start),
                text::span(placed.end),
                text::span(b_level),
            ]
        });
        let mut out = table(["TASK", "WORKER", "START", "FINISH", "B-LEVEL"], rows.collect());
        let n_more = self.schedule.answer.placements.len().saturating_sub(ROWS_SHOWN_MAX);
        if n_more > 0 {
            let _ = writeln!(out, "and {n_more} more; --output json shows all");
        }
        out
    }
}

fn worker_name(schedule: &SimulatedSchedule, at: usize) -> &str {
    schedule.question.workers.get(at).map_or("", |worker| &worker.name)
}

/// Formats where and when each task is expected to run as JSON; the fields are stable.
pub(crate) fn placement_json(dag: &Dag, schedule: &SimulatedSchedule) -> Value {
    let placed = schedule.answer.placements.iter().map(|placed| {
        json!({
            "task": dag.task_name(placed.task),
            "worker": worker_name(schedule, placed.worker),
            "start_seconds": seconds(placed.start),
            "finish_seconds": seconds(placed.end),
        })
    });
    placed.collect()
}

/// Joins the first of many names.
fn some(names: &[&str], separator: &str) -> String {
    let mut out = names[..names.len().min(NAMES_SHOWN_MAX)].join(separator);
    if names.len() > NAMES_SHOWN_MAX {
        out.push_str(&format!("{separator}and {} more", names.len() - NAMES_SHOWN_MAX));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::what_if::simulate;
    use crate::what_if::tests::{cluster, fork};

    fn parts() -> (Dag, Cluster, SimulatedSchedule) {
        let (dag, cluster) = (fork(), cluster(1, "cpu=2"));
        let schedule = simulate(&dag, &cluster).unwrap();
        (dag, cluster, schedule)
    }

    #[test]
    fn a_plan_is_one_object_with_stable_fields() {
        let (dag, cluster, schedule) = parts();
        let second = |task: &str, start: f64, finish: f64| {
            json!({
                "task": task,
                "worker": "worker-1",
                "start_seconds": start,
                "finish_seconds": finish,
            })
        };
        assert_eq!(
            Plan::new(&dag, &cluster, &schedule).to_json(),
            json!({
                "dag": "fork",
                "tasks": 3,
                "tasks_without_estimate": 0,
                "dependencies": { "a": [], "b": ["a"], "c": ["a"] },
                "phases": [["a"], ["b", "c"]],
                "critical_path": ["a", "c"],
                "critical_path_expected_seconds": 4.0,
                "critical_path_seconds": 4.0,
                "area_seconds": 3.0,
                "lower_bound_seconds": 4.0,
                "estimated_seconds": 4.0,
                "b_levels": { "a": 4.0, "b": 2.0, "c": 3.0 },
                "workers": 1,
                "capacity": "cpu=2",
                "placement": [
                    second("a", 0.0, 1.0),
                    second("b", 1.0, 3.0),
                    second("c", 1.0, 4.0),
                ],
            })
        );
    }

    #[test]
    fn a_plan_can_be_read() {
        let (dag, cluster, schedule) = parts();
        let text = Plan::new(&dag, &cluster, &schedule).to_text();
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "fork with 3 tasks and 2 dependencies\n\
             \n\
             phases (2)\n\
             \x20   1  a\n\
             \x20   2  b, c\n\
             \n\
             critical path (4.0s)\n\
             \x20 a -> c\n\
             \n\
             on 1 worker with cpu=2 each\n\
             \x20 expected    4.0s\n\
             \x20 lower bound 4.0s (critical path 4.0s, area 3.0s)\n\
             \n\
             TASK  WORKER    START  FINISH  B-LEVEL\n\
             a     worker-1  0ms    1.0s    4.0s\n\
             b     worker-1  1.0s   3.0s    2.0s\n\
             c     worker-1  1.0s   4.0s    3.0s\n"
        );
    }

    #[test]
    fn long_lists_of_names_are_cut() {
        let names: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(some(&names, ", "), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, and 8 more");
    }
}
