//! The tasks of the file with their instances, and a lookup by name.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use kahn_model::{InvalidName, Name, limits};
use serde_json::{Map, Value};

use super::matrix;
use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::raw::{RawFile, RawTask};
use crate::span::Span;
use crate::suggest;

/// A task of the DAG: a task of the file, or one combination of its matrix.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) name: Name,
    /// The matrix values; empty for a task without a matrix.
    pub(super) values: Map<String, Value>,
}

/// A task of the file.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) name: &'a str,
    pub(super) span: Span,
    pub(super) raw: &'a RawTask,
    /// Its position in the file.
    pub(super) position: usize,
    /// The position of its first instance in the DAG.
    pub(super) first: usize,
    /// The instances, if it has a matrix.
    matrix: Option<Vec<Instance>>,
}

impl Group<'_> {
    pub(super) fn is_matrix(&self) -> bool {
        self.matrix.is_some()
    }

    pub(super) fn n_instances(&self) -> usize {
        self.matrix.as_ref().map_or(1, Vec::len)
    }

    /// Iterates over the instances; without a matrix, over the task itself.
    pub(super) fn instances(&self) -> impl Iterator<Item = Cow<'_, Instance>> {
        let alone = || {
            let name = Name::new(self.name).expect("invariant: checked when the group was made");
            Cow::Owned(Instance { name, values: Map::new() })
        };
        let single = self.matrix.is_none().then(alone);
        single.into_iter().chain(self.matrix.iter().flatten().map(Cow::Borrowed))
    }

    /// Returns the names of all matrix values of all instances.
    pub(super) fn matrix_keys(&self) -> BTreeSet<&str> {
        let values = self.matrix.iter().flatten().flat_map(|instance| instance.values.keys());
        values.map(String::as_str).collect()
    }
}

/// The meaning of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// A task with all its instances.
    Group(usize),
    /// One instance: the position of its group, and its position within the group.
    Instance(usize, usize),
}

impl Target {
    pub(super) fn group(self) -> usize {
        match self {
            Self::Group(group) | Self::Instance(group, _) => group,
        }
    }
}

/// All tasks of the file.
#[derive(Debug)]
pub(super) struct Groups<'a> {
    groups: Vec<Group<'a>>,
    /// Only used for lookups, so the iteration order does not matter.
    by_name: HashMap<Cow<'a, str>, Target>,
    n_tasks: usize,
}

impl<'a> Groups<'a> {
    /// Checks the names and expands the matrices. Returns `None` if the result would be unusable.
    pub(super) fn build(file: &'a RawFile, sink: &mut Sink) -> Option<Self> {
        let entries = file.tasks.as_ref().map_or(&[][..], |tasks| tasks.0.as_slice());
        if entries.is_empty() {
            let help = "write for example:\n\ntasks:\n  hello:\n    run: echo hello";
            let message = "a DAG file has at least one task under `tasks`";
            sink.push(Diagnostic::error(Code::MissingField, message).help(help));
            return None;
        }
        let mut taken = BTreeSet::new();
        let has_matrix = entries.iter().any(|(_, raw)| raw.matrix.is_some());
        for (name, _) in entries {
            match Name::new(name) {
                Ok(name) if has_matrix => _ = taken.insert(name),
                Ok(_) => {}
                Err(error) => refuse_name(&error, name, name.span, sink),
            }
        }
        if sink.has_errors() {
            return None;
        }
        let by_name = HashMap::with_capacity(entries.len());
        let mut out = Self { groups: Vec::with_capacity(entries.len()), by_name, n_tasks: 0 };
        for (name, raw) in entries {
            out.add(name, name.span, raw, &mut taken, sink);
            if super::too_many_tasks(out.n_tasks, name.span, sink) {
                return None;
            }
        }
        Some(out)
    }

    fn add(
        &mut self,
        name: &'a str,
        span: Span,
        raw: &'a RawTask,
        taken: &mut BTreeSet<Name>,
        sink: &mut Sink,
    ) {
        let position = self.groups.len();
        let matrix = raw.matrix.as_ref().map(|matrix| {
            let combinations = matrix::combinations(name, matrix, sink);
            matrix::instances(name, matrix, combinations, taken)
        });
        for (within, instance) in matrix.iter().flatten().enumerate() {
            let name = Cow::Owned(instance.name.as_str().to_owned());
            self.by_name.insert(name, Target::Instance(position, within));
        }
        self.by_name.insert(Cow::Borrowed(name), Target::Group(position));
        let group = Group { name, span, raw, position, first: self.n_tasks, matrix };
        self.n_tasks += group.n_instances();
        self.groups.push(group);
    }

    pub(super) fn all(&self) -> &[Group<'a>] {
        &self.groups
    }

    pub(super) fn get(&self, position: usize) -> &Group<'a> {
        &self.groups[position]
    }

    pub(super) fn find(&self, name: &str) -> Option<Target> {
        self.by_name.get(name).copied()
    }

    /// Suggests an existing name similar to this one.
    pub(super) fn hint(&self, name: &str) -> Option<String> {
        let instances = self.groups.iter().flat_map(|group| group.matrix.iter().flatten());
        let instances = instances.map(|instance| instance.name.as_str());
        let names = self.groups.iter().map(|group| group.name).chain(instances);
        let near = suggest::nearest(name, names);
        near.map(|near| format!("did you mean `{near}`?"))
    }
}

fn refuse_name(error: &InvalidName, text: &str, span: Span, sink: &mut Sink) {
    let diagnostic = Diagnostic::error(Code::InvalidName, error.to_string()).at(span);
    let better = sanitised(text, "task");
    sink.push(diagnostic.help(format!("use for example `{better}`")));
}

/// Converts `text` to a valid name by replacing characters. Returns `fallback` if nothing is left.
pub(crate) fn sanitised(text: &str, fallback: &str) -> Name {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let mut out: String = text
        .chars()
        .skip_while(|c| matches!(c, '.' | '-'))
        .map(|c| if allowed(c) { c } else { '-' })
        .take(limits::NAME_BYTES_MAX)
        .collect();
    if out.starts_with(['-', '.']) {
        out.replace_range(..1, "_");
    }
    Name::new(&out).unwrap_or_else(|_| Name::new(fallback).expect("invariant: a plain name"))
}
