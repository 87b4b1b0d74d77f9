//! Dependencies, encoded in columns.

use std::time::Duration;

use kahn_model::{Dag, DagBuilder, DependencyKind, TaskIx, When};

use super::{columns, declared};
use crate::convert::{ConvertError, span, state};

/// The columns of the message `Dag` with one entry for each dependency.
#[derive(Debug, Default)]
pub(super) struct Columns {
    pub(super) counts: Vec<u32>,
    pub(super) steps: Vec<i32>,
    pub(super) kinds: Vec<u8>,
    pub(super) timed: Vec<u32>,
    pub(super) timeouts_nanos: Vec<u64>,
    pub(super) declared: Vec<i32>,
}

pub(super) fn to_wire(dag: &Dag) -> Columns {
    let mut out = Columns::default();
    if dag.n_dependencies() == 0 {
        return out;
    }
    let usual = state::dependency_number(When::default(), DependencyKind::default());
    let mut is_usual = true;
    let mut last_timed = 0;
    out.counts.reserve_exact(dag.n_tasks());
    out.steps.reserve_exact(dag.n_dependencies());
    out.kinds.reserve_exact(dag.n_dependencies());
    for task in dag.tasks() {
        let dependencies = dag.dependencies(task);
        out.counts.push(super::position(dependencies.len()));
        for dependency in dependencies {
            if dependency.is_timed {
                let at = super::position(out.steps.len());
                let timeout = dag.dependency_timeout(task, dependency.task).unwrap_or_default();
                out.timed.push(at - last_timed);
                out.timeouts_nanos.push(span::to_wire(timeout));
                last_timed = at;
            }
            // Exact, because a DAG has fewer than 2^31 tasks.
            out.steps.push(task.0.wrapping_sub(dependency.task.0).cast_signed());
            let kind = state::dependency_number(dependency.when, dependency.kind);
            is_usual &= kind == usual;
            out.kinds.push(kind);
        }
    }
    if is_usual {
        out.kinds = Vec::new();
    }
    out.declared = declared::to_wire(dag);
    out
}

/// A decoded dependency.
#[derive(Clone, Copy, Debug)]
struct Link {
    dependency: TaskIx,
    when: When,
    kind: DependencyKind,
    timeout: Option<Duration>,
}

/// Adds the decoded dependencies to a DAG of `n_tasks`.
pub(super) fn add_to(
    builder: &mut DagBuilder,
    n_tasks: usize,
    columns: &Columns,
) -> Result<(), ConvertError> {
    check_lengths(columns, n_tasks)?;
    let mut reader = Reader { columns, at: 0, timed: 0, next_timed: first_timed(columns) };
    if columns.declared.is_empty() {
        for (task, count) in columns.counts.iter().enumerate() {
            let dependent = TaskIx::from_index(task);
            for _ in 0..*count {
                depend(builder, dependent, reader.next(dependent)?);
            }
        }
    } else {
        let mut links = Vec::with_capacity(columns.steps.len());
        for (task, count) in columns.counts.iter().enumerate() {
            for _ in 0..*count {
                links.push(reader.next(TaskIx::from_index(task))?);
            }
        }
        declared::in_order(&columns.declared, &columns.counts, |dependent, at| {
            depend(builder, dependent, links[at]);
        })?;
    }
    ConvertError::length("dag.timed_dependencies", columns.timed.len(), reader.timed)
}

fn depend(builder: &mut DagBuilder, dependent: TaskIx, link: Link) {
    builder.depends(dependent, link.dependency, link.when, link.kind, link.timeout);
}

fn check_lengths(columns: &Columns, n_tasks: usize) -> Result<(), ConvertError> {
    let n = columns.steps.len();
    columns::check_sparse("dag.dependency_counts", columns.counts.len(), n_tasks)?;
    columns::check_sparse("dag.dependency_kinds", columns.kinds.len(), n)?;
    columns::check_sparse("dag.declared_dependents", columns.declared.len(), n)?;
    let timeouts = columns.timeouts_nanos.len();
    ConvertError::length("dag.dependency_timeouts_nanos", timeouts, columns.timed.len())?;
    let counted: u64 = columns.counts.iter().map(|count| u64::from(*count)).sum();
    ConvertError::length("dag.dependencies", n, usize::try_from(counted).unwrap_or(usize::MAX))
}

fn first_timed(columns: &Columns) -> Option<u64> {
    columns.timed.first().map(|at| u64::from(*at))
}

/// Decodes dependencies one by one. The lengths of the columns have been checked.
struct Reader<'a> {
    columns: &'a Columns,
    at: usize,
    timed: usize,
    next_timed: Option<u64>,
}

impl Reader<'_> {
    fn next(&mut self, dependent: TaskIx) -> Result<Link, ConvertError> {
        let step = self.columns.steps[self.at];
        let found = i64::from(dependent.0) - i64::from(step);
        let dependency = u32::try_from(found)
            .map_err(|_| ConvertError::out_of_range("dag.dependencies", found, dependent.0))?;
        let (when, kind) = match self.columns.kinds.get(self.at) {
            Some(number) => state::dependency("dag.dependency_kinds", *number)?,
            None => Default::default(),
        };
        let timeout = self.timeout()?;
        self.at += 1;
        Ok(Link { dependency: TaskIx(dependency), when, kind, timeout })
    }

    fn timeout(&mut self) -> Result<Option<Duration>, ConvertError> {
        let Some(next) = self.next_timed else { return Ok(None) };
        if u64::try_from(self.at).is_ok_and(|at| at < next) {
            return Ok(None);
        }
        let nanos = self.columns.timeouts_nanos[self.timed];
        self.timed += 1;
        self.next_timed = match self.columns.timed.get(self.timed) {
            Some(0) => {
                return Err(ConvertError::Repeated {
                    field: "dag.timed_dependencies",
                    key: next.to_string(),
                });
            }
            Some(step) => Some(next + u64::from(*step)),
            None => None,
        };
        Ok(Some(Duration::from_nanos(nanos)))
    }
}
