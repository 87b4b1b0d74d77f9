//! Preserves the order in which dependencies were declared.
//!
//! A task lists its dependents in the order in which they were declared, and the core relies on
//! that order, so decoding must restore it. Nothing is stored if all dependencies were declared in
//! the order of their dependents. Otherwise any order is sufficient that agrees with each task's
//! list of dependencies and list of dependents. One always exists: the original order.

use kahn_model::{Dag, TaskIx};

use crate::convert::ConvertError;

/// Returns the dependent of each dependency in the merged order, delta-encoded, or nothing if they
/// are in the order of their dependents.
pub(super) fn to_wire(dag: &Dag) -> Vec<i32> {
    let is_sorted = |task| dag.dependents(task).map(|d| d.task).is_sorted();
    if dag.tasks().all(is_sorted) {
        return Vec::new();
    }
    let mut last = 0;
    let step = |dependent: TaskIx| {
        let step = dependent.0.wrapping_sub(last).cast_signed();
        last = dependent.0;
        step
    };
    merge(dag).into_iter().map(step).collect()
}

/// The other ends of all edges of all tasks, with a position in each task's list.
struct Lists {
    starts: Vec<usize>,
    ends: Vec<TaskIx>,
    next: Vec<usize>,
}

impl Lists {
    fn new<I: ExactSizeIterator<Item = TaskIx>>(dag: &Dag, of: impl Fn(TaskIx) -> I) -> Self {
        let mut starts = Vec::with_capacity(dag.n_tasks() + 1);
        let mut ends = Vec::with_capacity(dag.n_dependencies());
        for task in dag.tasks() {
            starts.push(ends.len());
            ends.extend(of(task));
        }
        let next = starts.clone();
        starts.push(ends.len());
        Self { starts, ends, next }
    }

    fn head(&self, task: TaskIx) -> Option<TaskIx> {
        let at = self.next[task.index()];
        (at < self.starts[task.index() + 1]).then(|| self.ends[at])
    }
}

/// Returns an order of the edges that agrees with all lists. An edge is emitted once it is first in
/// both of its lists. The result contains the dependent of each edge.
fn merge(dag: &Dag) -> Vec<TaskIx> {
    let mut dependencies = Lists::new(dag, |task| dag.dependencies(task).map(|d| d.task));
    let mut dependents = Lists::new(dag, |task| dag.dependents(task).map(|d| d.task));
    let mut out = Vec::with_capacity(dag.n_dependencies());
    let mut pending = Vec::new();
    for task in dag.tasks() {
        pending.push(task);
        while let Some(dependent) = pending.pop() {
            let Some(dependency) = dependencies.head(dependent) else { continue };
            if dependents.head(dependency) != Some(dependent) {
                continue;
            }
            out.push(dependent);
            dependencies.next[dependent.index()] += 1;
            dependents.next[dependency.index()] += 1;
            pending.push(dependent);
            pending.extend(dependents.head(dependency));
        }
    }
    debug_assert_eq!(out.len(), dag.n_dependencies(), "the lists come from one order");
    out
}

/// Calls `each` for every dependency in declaration order, with its dependent and its position in
/// the order of dependents.
pub(super) fn in_order(
    steps: &[i32],
    counts: &[u32],
    mut each: impl FnMut(TaskIx, usize),
) -> Result<(), ConvertError> {
    const FIELD: &str = "dag.declared_dependents";
    let mut next = Vec::with_capacity(counts.len());
    let mut total = 0;
    for count in counts {
        let start = total;
        total += TaskIx(*count).index();
        next.push((start, total));
    }
    let mut last = 0u32;
    for step in steps {
        last = last.wrapping_add_signed(*step);
        let dependent = crate::convert::ids::task(FIELD, last, counts.len())?;
        let (at, end) = &mut next[dependent.index()];
        if at == end {
            return Err(ConvertError::Repeated { field: FIELD, key: last.to_string() });
        }
        each(dependent, *at);
        *at += 1;
    }
    Ok(())
}
