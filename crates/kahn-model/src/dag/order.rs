//! Topological order and cycle detection.

use super::Adjacency;
use crate::ids::TaskIx;

/// Kahn's algorithm: tasks are ordered by when their last dependency was placed. The result is
/// shorter than the number of tasks exactly if there is a cycle.
pub(super) fn kahn(dependencies: &Adjacency, dependents: &Adjacency) -> Vec<TaskIx> {
    let n = dependencies.starts.len() - 1;
    let mut waiting: Vec<usize> =
        (0..n).map(|i| dependencies.of(TaskIx::from_index(i)).len()).collect();
    let mut order = Vec::with_capacity(n);
    order.extend((0..n).filter(|i| waiting[*i] == 0).map(TaskIx::from_index));
    let mut next = 0;
    while let Some(task) = order.get(next).copied() {
        next += 1;
        for edge in dependents.of(task) {
            let dependent = TaskIx(edge.task);
            waiting[dependent.index()] -= 1;
            if waiting[dependent.index()] == 0 {
                order.push(dependent);
            }
        }
    }
    order
}

/// Returns a cycle among the tasks that are missing from `order`. Each task depends on the next,
/// the last on the first.
pub(super) fn find_cycle(dependencies: &Adjacency, order: &[TaskIx]) -> Vec<TaskIx> {
    let n = dependencies.starts.len() - 1;
    let mut is_placed = vec![false; n];
    for task in order {
        is_placed[task.index()] = true;
    }
    // Every remaining task has a remaining dependency, so following them must revisit a task.
    let mut path = Vec::new();
    let mut position = vec![usize::MAX; n];
    let mut at = is_placed.iter().position(|placed| !placed).map(TaskIx::from_index);
    while let Some(task) = at {
        if position[task.index()] != usize::MAX {
            return path.split_off(position[task.index()]);
        }
        position[task.index()] = path.len();
        path.push(task);
        let left = |edge: &&super::Edge| !is_placed[TaskIx(edge.task).index()];
        at = dependencies.of(task).iter().find(left).map(|edge| TaskIx(edge.task));
    }
    Vec::new()
}
