//! What happened in a run, and what must be true of it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde_json::Value;

use crate::binary::Answer;

/// One event of a run.
#[derive(Clone, Debug)]
pub struct Happening {
    /// Its place, from 1.
    pub seq: u64,
    /// What happened.
    pub kind: String,
    /// To which task; empty for the run.
    pub task: String,
    /// Which attempt; zero where none is meant.
    pub attempt: u64,
    /// Where; empty where that is not known.
    pub worker: String,
    /// Why; empty where there is no why.
    pub cause: String,
}

/// All events of a run, in order.
#[derive(Clone, Debug)]
pub struct History(pub Vec<Happening>);

impl History {
    /// Reads the output of `kahn events --output json`.
    ///
    /// # Errors
    ///
    /// When it is not what `events` prints.
    pub fn read(answer: &Answer) -> anyhow::Result<Self> {
        answer.json_lines()?.iter().map(happening).collect::<anyhow::Result<_>>().map(Self)
    }

    /// Events of one kind.
    pub fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Happening> {
        self.0.iter().filter(move |event| event.kind == kind)
    }

    /// Whether there is an event of this kind.
    #[must_use]
    pub fn has(&self, kind: &str) -> bool {
        self.of(kind).next().is_some()
    }

    /// Checks that sequence numbers have neither gap nor repeat, and that every task has at most
    /// one outcome.
    ///
    /// # Errors
    ///
    /// Names what is wrong.
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

    /// Checks that no task started before all it depends on had succeeded.
    ///
    /// # Errors
    ///
    /// Names the task and the dependency.
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

    /// Attempts that started, by task.
    #[must_use]
    pub fn starts(&self) -> BTreeMap<&str, Vec<&Happening>> {
        let mut starts: BTreeMap<&str, Vec<&Happening>> = BTreeMap::new();
        for event in self.of("task_started") {
            starts.entry(&event.task).or_default().push(event);
        }
        starts
    }
}

fn happening(value: &Value) -> anyhow::Result<Happening> {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    Ok(Happening {
        seq: value["seq"].as_u64().context("an event without seq")?,
        kind: value["type"].as_str().context("an event without type")?.to_owned(),
        task: text("task"),
        attempt: value["attempt"].as_u64().unwrap_or_default(),
        worker: text("worker"),
        cause: text("cause"),
    })
}

/// The dependencies that `kahn plan --output json` lists: task to names.
///
/// # Errors
///
/// When the plan does not list them.
pub fn dependencies(plan: &Value) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    Ok(serde_json::from_value(plan["dependencies"].clone())?)
}
