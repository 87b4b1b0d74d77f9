//! Topological order, and what stands in its way.

use super::Adjacency;
use crate::ids::TaskIx;

/// Kahn's algorithm: tasks leave in the order in which their last dependency did. Shorter than
/// the number of tasks exactly when there is a cycle.
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

/// One cycle among the tasks that `order` could not place: each depends on the next, the last on
/// the first.
pub(super) fn find_cycle(dependencies: &Adjacency, order: &[TaskIx]) -> Vec<TaskIx> {
    let n = dependencies.starts.len() - 1;
    let mut is_placed = vec![false; n];
    for task in order {
        is_placed[task.index()] = true;
    }
    // Every task left has a dependency that is left too, so following them must meet itself.
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
