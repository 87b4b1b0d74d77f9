//! WfFormat 1.5, the format of recorded workflows of the WfCommons project (Coleman et al.,
//! "WfCommons: A framework for enabling scientific workflow research and development", FGCS 2022).
//!
//! The import keeps tasks, their order, run times, processors and memory. It ignores files and
//! machines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kahn_model::{
    Action, Dag, DagBuilder, DagError, Name, NewTask, Resource, Resources, RunPolicy, TaskIx, Text,
    Work, limits,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::compile::sanitised;

/// Options for converting a recording into a DAG.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImportOptions {
    /// Factor applied to all run times; 0 or greater.
    pub time_scale: f64,
    /// Whether tasks start a `sleep` process instead of waiting inside the worker.
    pub starts_processes: bool,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self { time_scale: 1.0, starts_processes: false }
    }
}

/// The error of a failed import.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Not JSON, or not in this format.
    #[error("not a WfFormat file: {0}")]
    Format(#[from] serde_json::Error),
    /// A task refers to a task that does not exist.
    #[error("task `{task}` names `{other}`, which does not exist")]
    UnknownTask {
        /// The task.
        task: String,
        /// The missing task.
        other: String,
    },
    /// Two tasks have the same id.
    #[error("two tasks have the id `{0}`")]
    DuplicateId(String),
    /// An invalid time or amount.
    #[error("task `{task}`: {what} is {value}")]
    Amount {
        /// The task.
        task: String,
        /// The name of the field.
        what: &'static str,
        /// The value.
        value: f64,
    },
    /// The tasks do not form a DAG.
    #[error(transparent)]
    Dag(#[from] DagError),
}

/// An imported recording.
#[derive(Clone, Debug)]
pub struct Imported {
    name: Name,
    tasks: Vec<Task>,
    options: ImportOptions,
}

#[derive(Clone, Debug)]
struct Task {
    name: Name,
    length: Duration,
    resources: Resources,
    /// The sorted positions of the tasks that it needs.
    needs: Vec<usize>,
}

#[derive(Deserialize)]
struct File {
    name: Option<String>,
    workflow: Workflow,
}

#[derive(Deserialize)]
struct Workflow {
    specification: Specification,
    #[serde(default)]
    execution: Option<Execution>,
}

#[derive(Deserialize)]
struct Specification {
    tasks: Vec<SpecTask>,
}

#[derive(Deserialize)]
struct SpecTask {
    id: String,
    #[serde(default)]
    parents: Vec<String>,
    #[serde(default)]
    children: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Execution {
    #[serde(default)]
    tasks: Vec<ExecTask>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecTask {
    id: String,
    runtime_in_seconds: Option<f64>,
    core_count: Option<f64>,
    memory_in_bytes: Option<f64>,
}

/// Reads a WfFormat 1.5 file.
///
/// Cycles are detected later, by [`Imported::dag`].
///
/// # Errors
///
/// Returns an [`ImportError`] that names the invalid task.
pub fn wfcommons(source: &[u8], options: ImportOptions) -> Result<Imported, ImportError> {
    let file: File = serde_json::from_slice(source)?;
    let specified = file.workflow.specification.tasks;
    let mut positions = BTreeMap::new();
    for (position, task) in specified.iter().enumerate() {
        if positions.insert(task.id.as_str(), position).is_some() {
            return Err(ImportError::DuplicateId(task.id.clone()));
        }
    }
    let executed = file.workflow.execution.unwrap_or_default().tasks;
    let executed: BTreeMap<&str, &ExecTask> =
        executed.iter().map(|task| (task.id.as_str(), task)).collect();
    let needs = dependencies(&specified, &positions)?;
    let mut taken = BTreeSet::new();
    let mut tasks = Vec::with_capacity(specified.len());
    for (task, needs) in specified.iter().zip(needs) {
        let record = executed.get(task.id.as_str()).copied();
        tasks.push(Task {
            name: unique(&task.id, &mut taken),
            length: length(task, record, options)?,
            resources: resources(task, record)?,
            needs: needs.into_iter().collect(),
        });
    }
    let name = sanitised(file.name.as_deref().unwrap_or("imported"), "imported");
    Ok(Imported { name, tasks, options })
}

/// Returns the dependencies of each task: its parents, and the tasks that list it as a child.
fn dependencies(
    tasks: &[SpecTask],
    positions: &BTreeMap<&str, usize>,
) -> Result<Vec<BTreeSet<usize>>, ImportError> {
    let mut out = vec![BTreeSet::new(); tasks.len()];
    for (position, task) in tasks.iter().enumerate() {
        let find = |other: &String| {
            positions.get(other.as_str()).copied().ok_or_else(|| ImportError::UnknownTask {
                task: task.id.clone(),
                other: other.clone(),
            })
        };
        for parent in &task.parents {
            out[position].insert(find(parent)?);
        }
        for child in &task.children {
            out[find(child)?].insert(position);
        }
    }
    Ok(out)
}

fn unique(id: &str, taken: &mut BTreeSet<Name>) -> Name {
    let mut name = sanitised(id, "task");
    let mut number = 2u64;
    while !taken.insert(name.clone()) {
        let stem: String = id.chars().take(limits::NAME_BYTES_MAX - 24).collect();
        name = sanitised(&format!("{stem}-{number}"), "task");
        number += 1;
    }
    name
}

fn length(
    task: &SpecTask,
    record: Option<&ExecTask>,
    options: ImportOptions,
) -> Result<Duration, ImportError> {
    let seconds =
        record.and_then(|record| record.runtime_in_seconds).unwrap_or(0.0) * options.time_scale;
    let wrong = || ImportError::Amount {
        task: task.id.clone(),
        what: "the run time in seconds",
        value: seconds,
    };
    let length = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    // DAG files have microsecond resolution.
    let micros = u64::try_from(length.as_micros()).map_err(|_| wrong())?;
    Some(Duration::from_micros(micros)).filter(|l| *l <= limits::SPAN_MAX).ok_or_else(wrong)
}

fn resources(task: &SpecTask, record: Option<&ExecTask>) -> Result<Resources, ImportError> {
    let whole = |value: f64, what: &'static str| {
        let text = format!("{:.0}", value.round());
        let is_possible = value.is_finite() && value >= 0.0;
        text.parse::<u64>().ok().filter(|_| is_possible).ok_or_else(|| ImportError::Amount {
            task: task.id.clone(),
            what,
            value,
        })
    };
    let cores = record.and_then(|record| record.core_count).unwrap_or(1.0);
    let memory = record.and_then(|record| record.memory_in_bytes).unwrap_or(0.0);
    let milli = whole(cores * 1000.0, "the number of processors")?;
    let bytes = whole(memory, "the memory in bytes")?;
    Ok(Resources::cpu_milli(milli).with(&Resource::Memory, bytes))
}

impl Imported {
    /// Builds the DAG.
    ///
    /// # Errors
    ///
    /// Returns a [`DagError`] for a dependency cycle, and for no or too many tasks.
    pub fn dag(&self) -> Result<Dag, DagError> {
        let mut builder = DagBuilder::new(self.name.clone(), RunPolicy::default());
        for task in &self.tasks {
            let mut new = NewTask::new(task.name.clone(), Work::new(self.action(task)));
            new.profile.resources = task.resources.clone();
            new.estimate = Some(task.length);
            builder.task(new)?;
        }
        for (position, task) in self.tasks.iter().enumerate() {
            for need in &task.needs {
                builder.after(TaskIx::from_index(position), TaskIx::from_index(*need));
            }
        }
        builder.build()
    }

    fn action(&self, task: &Task) -> Action {
        if !self.options.starts_processes {
            return Action::Sleep { duration: task.length };
        }
        let argv = ["sleep".to_owned(), seconds(task.length)].map(Text::new);
        Action::Exec { argv: argv.to_vec() }
    }

    /// Returns a DAG file with the same tasks as JSON. The output is deterministic.
    #[must_use]
    pub fn file(&self) -> String {
        let tasks = self.tasks.iter().map(|task| (task.name.to_string(), self.task_json(task)));
        let mut out = format!("{{\n  \"name\": {},\n  \"tasks\": {{", json!(self.name.as_str()));
        for (position, (name, task)) in tasks.enumerate() {
            let comma = if position > 0 { "," } else { "" };
            out.push_str(&format!("{comma}\n    {}: {task}", json!(name)));
        }
        out.push_str("\n  }\n}\n");
        out
    }

    fn task_json(&self, task: &Task) -> Value {
        let mut out = Map::new();
        if !task.needs.is_empty() {
            let needs = task.needs.iter().map(|need| self.tasks[*need].name.as_str());
            out.insert("needs".into(), needs.collect::<Vec<_>>().into());
        }
        let text = seconds(task.length);
        if self.options.starts_processes {
            out.insert("exec".into(), json!(["sleep", text]));
            out.insert("estimate".into(), format!("{text}s").into());
        } else {
            out.insert("sleep".into(), format!("{text}s").into());
        }
        let printed = task.resources.to_string();
        let pairs = printed.split(' ').filter_map(|pair| pair.split_once('='));
        let pairs: Map<String, Value> = pairs.map(|(k, v)| (k.into(), v.into())).collect();
        let resources = if pairs.is_empty() { json!({ "cpu": 0 }) } else { Value::Object(pairs) };
        out.insert("resources".into(), resources);
        Value::Object(out)
    }
}

/// Formats seconds with up to six decimals, without trailing zeros.
fn seconds(length: Duration) -> String {
    let micros = format!("{:06}", length.subsec_micros());
    let fraction = micros.trim_end_matches('0');
    if fraction.is_empty() {
        return length.as_secs().to_string();
    }
    format!("{}.{fraction}", length.as_secs())
}
