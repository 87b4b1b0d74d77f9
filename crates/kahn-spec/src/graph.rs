//! Renders a DAG as DOT, Mermaid or SVG.

mod dot;
mod mermaid;
mod svg;

use std::collections::BTreeMap;

use kahn_model::{Dag, DependencyKind, DependencyRef, TaskIx, When};

pub use dot::dot;
pub use mermaid::mermaid;
pub use svg::svg;

/// Maximum number of tasks in a drawing. For a larger DAG, the first tasks of each phase are drawn
/// and the others are counted.
pub const TASKS_SHOWN_MAX: usize = 3000;

/// The part of a DAG that is drawn.
struct View {
    /// The visible tasks by phase.
    phases: Vec<Vec<TaskIx>>,
    /// The number of hidden tasks of each phase.
    hidden: Vec<usize>,
}

impl View {
    fn of(dag: &Dag) -> Self {
        let phase = kahn_model::levels(dag, |_| std::time::Duration::ZERO).phase;
        let n_phases = phase.iter().max().map_or(0, |last| index(*last) + 1);
        let mut phases = vec![Vec::new(); n_phases];
        for task in dag.tasks() {
            phases[index(phase[task.index()])].push(task);
        }
        let mut hidden = vec![0; n_phases];
        if dag.n_tasks() > TASKS_SHOWN_MAX {
            let share = (TASKS_SHOWN_MAX / n_phases.max(1)).max(1);
            for (tasks, hidden) in phases.iter_mut().zip(&mut hidden) {
                *hidden = tasks.len().saturating_sub(share);
                tasks.truncate(share);
            }
            phases.truncate(TASKS_SHOWN_MAX);
            hidden.truncate(TASKS_SHOWN_MAX);
        }
        Self { phases, hidden }
    }

    fn tasks(&self) -> impl Iterator<Item = TaskIx> + '_ {
        self.phases.iter().flatten().copied()
    }

    /// Returns the dependencies between visible tasks as (from, to, dependency).
    fn edges(&self, dag: &Dag) -> Vec<(TaskIx, TaskIx, DependencyRef)> {
        let shown: BTreeMap<TaskIx, ()> = self.tasks().map(|task| (task, ())).collect();
        let mut out = Vec::new();
        for task in self.tasks() {
            for dependency in dag.dependencies(task) {
                if shown.contains_key(&dependency.task) {
                    out.push((dependency.task, task, dependency));
                }
            }
        }
        out
    }

    /// Returns a note about hidden tasks, if there are any.
    fn note(&self, dag: &Dag) -> Option<String> {
        let n_shown = self.tasks().count();
        (n_shown < dag.n_tasks())
            .then(|| format!("{} of {} tasks are shown", n_shown, dag.n_tasks()))
    }
}

fn index(phase: u32) -> usize {
    usize::try_from(phase).expect("invariant: usize holds u32")
}

/// Returns the label of an edge; empty for the default kind of dependency.
fn label(dependency: &DependencyRef) -> &'static str {
    match (dependency.kind, dependency.when) {
        (DependencyKind::Soft, _) => "soft",
        (DependencyKind::Optional, When::Succeeded) => "optional",
        (_, When::Succeeded) => "",
        (_, When::Completed) => "completed",
        (_, When::Failed) => "failed",
        (_, When::Started) => "started",
        (_, When::Ready) => "ready",
    }
}
