//! Compiles a file into a DAG. All checks happen here, before anything runs.

mod cycles;
mod exprs;
mod groups;
mod matrix;
mod needs;
mod params;
mod policy;
mod profile;
mod shortage;
mod work;

use std::collections::BTreeMap;

use kahn_model::{Dag, DagBuilder, DagError, Name, NewTask, Trigger, limits};
use serde_json::{Map, Value};

use crate::diagnostic::{Code, Diagnostic, Diagnostics, Sink};
use crate::document;
use crate::expr::{Engine, on_large_stack};
use crate::raw::{RawFile, RawTrigger};
use exprs::Exprs;
use groups::Groups;

pub(crate) use groups::sanitised;
pub use params::ParamValue;
pub use shortage::{Shortage, diagnose_shortages};

/// A valid DAG file.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The self-contained DAG.
    pub dag: Dag,
    /// The values of all declared parameters, including defaults.
    pub params: BTreeMap<String, Value>,
    /// Warnings, if there are any.
    pub warnings: Option<Diagnostics>,
}

/// Compiles a DAG file: YAML, or JSON if it starts with `{`. `origin` is the file name for
/// messages, `params` are the parameter values for this run.
///
/// # Errors
///
/// Returns [`Diagnostics`] with everything that is wrong with the file.
pub fn compile(
    source: impl AsRef<[u8]>,
    origin: &str,
    params: &BTreeMap<String, ParamValue>,
) -> Result<Compiled, Diagnostics> {
    let bytes = source.as_ref();
    on_large_stack(|| compile_here(bytes, origin, params)).unwrap_or_else(|error| {
        let mut sink = Sink::default();
        sink.push(Diagnostic::error(Code::Limit, error.to_string()));
        Err(Diagnostics::new(origin, "", sink))
    })
}

fn compile_here(
    bytes: &[u8],
    origin: &str,
    params: &BTreeMap<String, ParamValue>,
) -> Result<Compiled, Diagnostics> {
    let mut sink = Sink::default();
    let Some(source) = document::text(bytes, &mut sink) else {
        return Err(Diagnostics::new(origin, "", sink));
    };
    let mut placeless = None;
    if let Some(file) = document::fast(source) {
        let mut found = Sink::default();
        let dag = assemble(&file, origin, source, params, &mut found);
        if found.is_empty()
            && let Some((dag, params)) = dag
        {
            return Ok(Compiled { dag, params, warnings: None });
        }
        placeless = Some((found, dag));
    }
    let file = document::spanned(source, &mut sink);
    let (sink, dag) = match (file, placeless) {
        (Some(file), _) if !sink.has_errors() => {
            let dag = assemble(&file, origin, source, params, &mut sink);
            (sink, dag)
        }
        // The file is too large to be read with locations: return the diagnostics without them.
        (_, Some((found, dag))) => (found, dag),
        (_, None) => (sink, None),
    };
    let is_clean = sink.is_empty();
    match dag {
        Some((dag, params)) if !sink.has_errors() => {
            let warnings = (!is_clean).then(|| Diagnostics::new(origin, source, sink));
            Ok(Compiled { dag, params, warnings })
        }
        _ => Err(Diagnostics::new(origin, source, sink)),
    }
}

type Assembled = (Dag, BTreeMap<String, Value>);

fn assemble(
    file: &RawFile,
    origin: &str,
    source: &str,
    given: &BTreeMap<String, ParamValue>,
    sink: &mut Sink,
) -> Option<Assembled> {
    let name = dag_name(file, origin, sink);
    let policy = policy::run_policy(file.policy.as_deref(), sink);
    let params = params::resolve(file.params.as_deref(), given, sink);
    let groups = Groups::build(file, sink)?;
    let needs = needs::resolve(&groups, sink);
    let engine = Engine::new();
    let mut exprs = Exprs::new(&groups, &needs, &params, engine, source);
    // Tasks are added to the builder at once, because it stores equal parts only once: a million
    // intermediate tasks would take more memory than the DAG.
    let fallback = groups::sanitised("", "dag");
    let mut builder = DagBuilder::new(name.clone().unwrap_or(fallback), policy);
    let added = add_tasks(file, &groups, &mut exprs, &params, &mut builder, sink);
    cycles::report(&groups, &needs, sink);
    if sink.has_errors() || name.is_none() {
        return None;
    }
    added.map_err(|error| refuse(&error, sink)).ok()?;
    needs::connect(&groups, &needs, &mut builder);
    let dag = builder.build().map_err(|error| refuse(&error, sink)).ok()?;
    Some((dag, params.into_iter().collect()))
}

/// Adds all tasks in order until the diagnostics are full.
fn add_tasks(
    file: &RawFile,
    groups: &Groups<'_>,
    exprs: &mut Exprs<'_>,
    params: &Map<String, Value>,
    builder: &mut DagBuilder,
    sink: &mut Sink,
) -> Result<(), DagError> {
    let base = profile::Base::new(file.defaults.as_deref(), sink);
    let shared = work::Shared::new(file, params, sink);
    for group in groups.all() {
        if sink.is_full() {
            break;
        }
        let Some(action) = work::action_of(group, sink) else { continue };
        let profile = base.profile(group, &action, sink);
        let trigger = trigger_of(group, sink);
        let estimate = group.raw.estimate.or(base.estimate()).map(|length| length.0);
        for instance in group.instances() {
            let work = shared.work(group, &instance, &action, exprs, sink);
            let condition = match &group.raw.condition {
                Some(text) => exprs.condition(group, &instance, text, sink),
                None => None,
            };
            let Some(work) = work else { continue };
            let (name, mut profile) = (instance.into_owned().name, profile.clone());
            profile.selector.required.extend(work.secret_rules());
            builder.task(NewTask { name, work, profile, trigger, condition, estimate })?;
        }
    }
    Ok(())
}

fn trigger_of(group: &groups::Group<'_>, sink: &mut Sink) -> Trigger {
    let raw = &group.raw;
    let has_needs = raw.needs.as_ref().is_some_and(|needs| !needs.0.is_empty());
    if raw.trigger.is_some() && !has_needs {
        let message = format!("`trigger` of task `{}` has no effect without `needs`", group.name);
        sink.push(Diagnostic::warning(Code::Conflict, message).at(group.span));
    }
    match raw.trigger {
        None | Some(RawTrigger::AllSucceeded) => Trigger::AllSucceeded,
        Some(RawTrigger::AllDone) => Trigger::AllDone,
        Some(RawTrigger::AnySucceeded) => Trigger::AnySucceeded,
        Some(RawTrigger::AnyFailed) => Trigger::AnyFailed,
        Some(RawTrigger::NoneFailed) => Trigger::NoneFailed,
    }
}

/// Returns the name given in the file, or derives one from the file name.
fn dag_name(file: &RawFile, origin: &str, sink: &mut Sink) -> Option<Name> {
    let Some(given) = &file.name else {
        let base = origin.rsplit(['/', '\\']).next().unwrap_or(origin);
        let stem = base.split_once('.').map_or(base, |(stem, _)| stem);
        return Some(groups::sanitised(stem, "dag"));
    };
    match Name::new(given) {
        Ok(name) => Some(name),
        Err(error) => {
            sink.push(Diagnostic::error(Code::InvalidName, error.to_string()).at(given.span));
            None
        }
    }
}

fn refuse(error: &DagError, sink: &mut Sink) {
    let code = match error {
        DagError::Empty => Code::MissingField,
        DagError::TooManyTasks | DagError::TooManyDependencies | DagError::TooMuchWork(_) => {
            Code::Limit
        }
        DagError::DuplicateName(_) | DagError::DuplicateDependency { .. } => Code::InvalidName,
        DagError::UnknownTask(_) => Code::UnknownTask,
        DagError::Cycle(_) => Code::Cycle,
    };
    let help = matches!(error, DagError::TooMuchWork(_)).then(|| {
        "each instance of a matrix has its own action and environment: use `$PARAM_name` and \
         `$MATRIX_name` in a script instead of expressions with long values, or put long values \
         into files"
            .to_owned()
    });
    sink.push(Diagnostic::error(code, error.to_string()).maybe_help(help));
}

/// Reports an error if `n` exceeds `max`. Returns whether it did.
fn exceeds(n: usize, max: usize, what: &str, span: crate::span::Span, sink: &mut Sink) -> bool {
    if n <= max {
        return false;
    }
    let message = format!("{what}: {n}; at most {max} are allowed");
    sink.push(Diagnostic::error(Code::Limit, message).at(span));
    true
}

/// Reports an error if the DAG would have too many tasks. Returns whether it did.
fn too_many_tasks(n_tasks: usize, span: crate::span::Span, sink: &mut Sink) -> bool {
    exceeds(n_tasks, limits::TASKS_MAX, "too many tasks", span, sink)
}
