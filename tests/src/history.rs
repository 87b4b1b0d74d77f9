//! The events of a run, and checks of their invariants.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde_json::Value;

use crate::binary::Answer;

/// One event of a run.
#[derive(Clone, Debug)]
pub struct RunEvent {
    /// The sequence number, starting at 1.
    pub seq: u64,
    /// The kind of event.
    pub kind: String,
    /// The task; empty for events of the run itself.
    pub task: String,
    /// The attempt; zero where not applicable.
    pub attempt: u64,
    /// The worker; empty if unknown.
    pub worker: String,
    /// The cause; empty where not applicable.
    pub cause: String,
}

/// All events of a run, in order.
#[derive(Clone, Debug)]
pub struct History(pub Vec<RunEvent>);

impl History {
    /// Parses the output of `kahn events --output json`.
    ///
    /// # Errors
    ///
    /// Returns an error if the output has another format.
    pub fn read(answer: &Answer) -> anyhow::Result<Self> {
        answer.json_lines()?.iter().map(parse_event).collect::<anyhow::Result<_>>().map(Self)
    }

    /// Iterates over events of one kind.
    pub fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a RunEvent> {
        self.0.iter().filter(move |event| event.kind == kind)
    }

    /// Returns whether there is an event of this kind.
    #[must_use]
    pub fn has(&self, kind: &str) -> bool {
        self.of(kind).next().is_some()
    }

    /// Checks that sequence numbers have no gaps or duplicates, and that every task has at most one
    /// outcome.
    ///
    /// # Errors
    ///
    /// Returns an error that describes the first violation.
    pub fn check_outcomes(&self) -> anyhow::Result<()> {
        for (expected, event) in (1..).zip(&self.0) {
            anyhow::ensure!(event.seq == expected, "event {} stands at {expected}", event.seq);
        }
        let mut outcomes = BTreeSet::new();
        let is_outcome = |kind: &str| {
            matches!(kind, "task_succeeded" | "task_failed" | "task_skipped" | "task_cancelled")
        };
        for event in self.0.iter().filter(|event| is_outcome(&event.kind)) {
            anyhow::ensure!(outcomes.insert(&event.task), "{} has two outcomes", event.task);
        }
        Ok(())
    }

    /// Checks that no task started before all its dependencies had succeeded.
    ///
    /// # Errors
    ///
    /// Returns an error that names the task and the dependency.
    pub fn check_order(&self, dependencies: &BTreeMap<String, Vec<String>>) -> anyhow::Result<()> {
        let mut succeeded = BTreeSet::new();
        for event in &self.0 {
            match event.kind.as_str() {
                "task_succeeded" => {
                    succeeded.insert(event.task.as_str());
                }
                "task_leased" | "task_started" => {
                    for dependency in dependencies.get(&event.task).into_iter().flatten() {
                        let is_done = succeeded.contains(dependency.as_str());
                        anyhow::ensure!(is_done, "{} before {dependency}", event.task);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the started attempts, by task.
    #[must_use]
    pub fn starts(&self) -> BTreeMap<&str, Vec<&RunEvent>> {
        let mut starts: BTreeMap<&str, Vec<&RunEvent>> = BTreeMap::new();
        for event in self.of("task_started") {
            starts.entry(&event.task).or_default().push(event);
        }
        starts
    }
}

fn parse_event(value: &Value) -> anyhow::Result<RunEvent> {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    Ok(RunEvent {
        seq: value["seq"].as_u64().context("an event without seq")?,
        kind: value["type"].as_str().context("an event without type")?.to_owned(),
        task: text("task"),
        attempt: value["attempt"].as_u64().unwrap_or_default(),
        worker: text("worker"),
        cause: text("cause"),
    })
}

/// Returns the dependencies in the output of `kahn plan --output json`, by task name.
///
/// # Errors
///
/// Returns an error if the plan does not contain them.
pub fn dependencies(plan: &Value) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    Ok(serde_json::from_value(plan["dependencies"].clone())?)
}
