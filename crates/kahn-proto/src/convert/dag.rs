//! The task graph, encoded in columns: a task without settings of its own takes its name and a few
//! bytes.

mod columns;
mod declared;
mod edges;
mod values;

use kahn_model::{Condition, Dag, DagBuilder, DagError, NewTask, TaskIx, Trigger, limits};
use prost::bytes::Bytes;

use super::{ConvertError, ids, policy, profile, state};
use crate::storage as wire;

/// Encodes a DAG.
#[must_use]
pub fn to_wire(dag: &Dag) -> wire::Dag {
    let name_length = |task| u8::try_from(dag.task_name(task).len()).expect("invariant: a name");
    let condition = |task: TaskIx| {
        let condition = dag.condition(task)?;
        Some(wire::Condition { task: task.0, expression: condition.0.to_string() })
    };
    let triggers = dag.tasks().map(|task| state::trigger_number(dag.trigger(task)));
    let edges = edges::to_wire(dag);
    let (works, shared_values) = values::to_wire(dag.works());
    wire::Dag {
        name: dag.name().as_str().to_owned(),
        policy: Some(policy::to_wire(dag.policy())),
        names: dag.tasks().map(|task| dag.task_name(task)).collect(),
        name_lengths: dag.tasks().map(name_length).collect(),
        profiles: dag.profiles().iter().map(|p| profile::to_wire(p)).collect(),
        task_profiles: columns::sparse(dag.tasks().map(|t| position(dag.profile_index(t))), 0),
        works,
        task_works: columns::sparse(dag.tasks().map(|t| position(dag.work_index(t))), 0),
        triggers: columns::sparse(triggers, state::trigger_number(Trigger::default())).into(),
        estimates_micros: columns::sparse(dag.tasks().map(|t| estimate_micros(dag, t)), 0),
        conditions: dag.tasks().filter_map(condition).collect(),
        dependency_counts: edges.counts,
        dependencies: edges.steps,
        dependency_kinds: Bytes::from(edges.kinds),
        timed_dependencies: edges.timed,
        dependency_timeouts_nanos: edges.timeouts_nanos,
        declared_dependents: edges.declared,
        shared_values,
    }
}

fn position(index: usize) -> u32 {
    TaskIx::from_index(index).0
}

fn estimate_micros(dag: &Dag, task: TaskIx) -> u64 {
    let micros = dag.estimate(task).map_or(0, |span| span.as_micros());
    u64::try_from(micros).unwrap_or(u64::MAX)
}

/// Decodes a DAG, with all checks of [`DagBuilder`].
///
/// Time and memory are proportional to the size of the message. The limits for texts, delays and so
/// on are checked by [`super::limits::check`].
///
/// # Errors
///
/// Returns an error if columns are inconsistent, a part is not valid, or there is a cycle.
pub fn from_wire(dag: wire::Dag) -> Result<Dag, ConvertError> {
    let n_tasks = dag.name_lengths.len();
    if n_tasks > limits::TASKS_MAX {
        return Err(DagError::TooManyTasks.into());
    }
    let policy = dag.policy.as_ref().ok_or(ConvertError::Missing { field: "dag.policy" })?;
    let name = ids::name("dag.name", &dag.name)?;
    let mut builder = DagBuilder::new(name, policy::from_wire(policy)?);
    let edges = edges::Columns {
        counts: dag.dependency_counts,
        steps: dag.dependencies,
        kinds: dag.dependency_kinds.to_vec(),
        timed: dag.timed_dependencies,
        timeouts_nanos: dag.dependency_timeouts_nanos,
        declared: dag.declared_dependents,
    };
    let rows = Rows {
        names: dag.names,
        name_lengths: &dag.name_lengths,
        profiles: convert_all(dag.profiles, profile::from_wire)?,
        task_profiles: &dag.task_profiles,
        works: values::from_wire(dag.works, dag.shared_values)?,
        task_works: &dag.task_works,
        triggers: &dag.triggers,
        estimates_micros: &dag.estimates_micros,
    };
    rows.add_to(&mut builder, dag.conditions)?;
    edges::add_to(&mut builder, n_tasks, &edges)?;
    Ok(builder.build()?)
}

fn convert_all<W, T>(
    messages: Vec<W>,
    convert: impl Fn(W) -> Result<T, ConvertError>,
) -> Result<Vec<T>, ConvertError> {
    messages.into_iter().map(convert).collect()
}

/// The columns with one entry for each task.
struct Rows<'a> {
    names: String,
    name_lengths: &'a [u8],
    profiles: Vec<kahn_model::Profile>,
    task_profiles: &'a [u32],
    works: Vec<kahn_model::Work>,
    task_works: &'a [u32],
    triggers: &'a [u8],
    estimates_micros: &'a [u64],
}

impl Rows<'_> {
    fn add_to(
        &self,
        builder: &mut DagBuilder,
        conditions: Vec<wire::Condition>,
    ) -> Result<(), ConvertError> {
        self.check_lengths()?;
        let mut conditions = columns::Sparse::new(conditions, |condition| condition.task);
        let mut names = columns::Pieces::new("dag.names", &self.names);
        for (at, length) in self.name_lengths.iter().enumerate() {
            let name = names.take(usize::from(*length))?;
            let condition = conditions.take(at).map(|c| Condition(c.expression.into_boxed_str()));
            builder.task(self.task(at, name, condition)?)?;
        }
        conditions.finish("dag.conditions")?;
        names.finish()
    }

    fn task(
        &self,
        at: usize,
        name: &str,
        condition: Option<Condition>,
    ) -> Result<NewTask, ConvertError> {
        let trigger = match self.triggers.get(at) {
            Some(found) => state::numbered("dag.triggers", &Trigger::ALL, *found)?,
            None => Trigger::default(),
        };
        let micros = self.estimates_micros.get(at).copied().unwrap_or(0);
        Ok(NewTask {
            name: ids::name("dag.names", name)?,
            work: columns::pick("dag.task_works", self.task_works, at, &self.works)?.clone(),
            profile: columns::pick("dag.task_profiles", self.task_profiles, at, &self.profiles)?
                .clone(),
            trigger,
            condition,
            estimate: (micros > 0).then(|| std::time::Duration::from_micros(micros)),
        })
    }

    fn check_lengths(&self) -> Result<(), ConvertError> {
        let n_tasks = self.name_lengths.len();
        for (field, found) in [
            ("dag.task_profiles", self.task_profiles.len()),
            ("dag.task_works", self.task_works.len()),
            ("dag.triggers", self.triggers.len()),
            ("dag.estimates_micros", self.estimates_micros.len()),
        ] {
            columns::check_sparse(field, found, n_tasks)?;
        }
        Ok(())
    }
}
