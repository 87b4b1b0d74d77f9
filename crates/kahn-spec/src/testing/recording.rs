//! A WfFormat 1.5 document under construction.

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// The run times of one kind of task, in seconds: shortest, median and longest.
pub(super) type Spread = [f64; 3];

/// A task that was added to a [`Recording`], by its position.
#[derive(Clone, Copy)]
pub(super) struct Added(usize);

/// A recording with tasks in the order in which they were added.
pub(super) struct Recording {
    random: Rng,
    tasks: Vec<RecordedTask>,
}

struct RecordedTask {
    id: String,
    parents: Vec<usize>,
    children: Vec<usize>,
    seconds: f64,
    memory_bytes: Option<u64>,
}

impl Recording {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Rng::with_seed(seed), tasks: Vec::new() }
    }

    pub(super) fn random(&mut self) -> &mut Rng {
        &mut self.random
    }

    /// Adds a task that runs after all `parents`.
    pub(super) fn task(&mut self, kind: &str, spread: Spread, parents: &[Added]) -> Added {
        let position = self.tasks.len();
        for parent in parents {
            self.tasks[parent.0].children.push(position);
        }
        let seconds = self.seconds(spread);
        self.tasks.push(RecordedTask {
            id: format!("{kind}_ID{:07}", position + 1),
            parents: parents.iter().map(|parent| parent.0).collect(),
            children: Vec::new(),
            seconds,
            memory_bytes: None,
        });
        Added(position)
    }

    /// Says how much memory a task used.
    pub(super) fn memory(&mut self, task: Added, bytes: u64) {
        self.tasks[task.0].memory_bytes = Some(bytes);
    }

    /// Draws a run time: as often below the median as above it, and evenly on a logarithmic scale
    /// on either side. Milliseconds, as recordings have.
    fn seconds(&mut self, [shortest, median, longest]: Spread) -> f64 {
        let (from, to) = if self.random.bool() { (shortest, median) } else { (median, longest) };
        let drawn = from * (to / from).powf(self.random.f64());
        (drawn * 1000.0).round() / 1000.0
    }

    /// The document as JSON.
    pub(super) fn document(&self, name: &str) -> String {
        let ids = |positions: &[usize]| -> Vec<&str> {
            positions.iter().map(|position| self.tasks[*position].id.as_str()).collect()
        };
        let specified = self.tasks.iter().map(|task| {
            let [parents, children] = [ids(&task.parents), ids(&task.children)];
            json!({ "name": task.id, "id": task.id, "parents": parents, "children": children })
        });
        let document = json!({
            "name": name,
            "schemaVersion": "1.5",
            "workflow": {
                "specification": { "tasks": specified.collect::<Vec<_>>() },
                "execution": { "tasks": self.tasks.iter().map(executed).collect::<Vec<_>>() },
            },
        });
        document.to_string()
    }
}

fn executed(task: &RecordedTask) -> Value {
    let mut out = Map::new();
    out.insert("id".into(), task.id.as_str().into());
    out.insert("runtimeInSeconds".into(), task.seconds.into());
    if let Some(bytes) = task.memory_bytes {
        out.insert("memoryInBytes".into(), bytes.into());
    }
    Value::Object(out)
}
