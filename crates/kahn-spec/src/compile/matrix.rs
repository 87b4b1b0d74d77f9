//! The combinations of a matrix, and the names of its instances.

use std::collections::BTreeSet;

use kahn_model::{Name, limits};
use serde_json::{Map, Value};

use super::groups::{Instance, sanitised};
use super::params::{as_text, is_variable_name};
use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::expr::template;
use crate::raw::RawMatrix;
use crate::span::Spanned;

/// Returns all combinations in the order of the axes. The last axis changes fastest.
pub(super) fn combinations(
    task: &str,
    matrix: &Spanned<RawMatrix>,
    sink: &mut Sink,
) -> Vec<Map<String, Value>> {
    if !check(task, matrix, sink) {
        return Vec::new();
    }
    let axes = &matrix.axes;
    let mut product = if axes.is_empty() { Vec::new() } else { vec![Map::new()] };
    for (name, values) in axes {
        let extend = |base: Map<String, Value>| {
            values.iter().map(move |value| {
                let mut longer = base.clone();
                longer.insert(name.value.to_string(), value.clone());
                longer
            })
        };
        product = product.into_iter().flat_map(extend).collect();
    }
    product.retain(|all| !matrix.exclude.iter().any(|part| contains(all, &part.value)));
    let mut out = product.clone();
    for part in &matrix.include {
        include(&product, &mut out, &part.value, axes);
    }
    if out.is_empty() {
        let message = format!("the matrix of task `{task}` has no combinations");
        sink.push(Diagnostic::error(Code::InvalidValue, message).at(matrix.span));
    }
    out
}

fn contains(all: &Map<String, Value>, part: &Map<String, Value>) -> bool {
    part.iter().all(|(key, value)| all.get(key) == Some(value))
}

/// Adds the values of `part` to every combination with the same values on the axes, like GitHub
/// Actions. If there is none, `part` becomes an additional combination.
fn include(
    product: &[Map<String, Value>],
    out: &mut Vec<Map<String, Value>>,
    part: &Map<String, Value>,
    axes: &[(Spanned<Box<str>>, Vec<Value>)],
) {
    let is_axis = |key: &str| axes.iter().any(|(name, _)| &*name.value == key);
    let agrees = |all: &Map<String, Value>| {
        part.iter().all(|(key, value)| !is_axis(key) || all.get(key) == Some(value))
    };
    let mut is_new = true;
    for (original, extended) in product.iter().zip(out.iter_mut()) {
        if agrees(original) {
            extended.extend(part.iter().map(|(key, value)| (key.clone(), value.clone())));
            is_new = false;
        }
    }
    if is_new {
        out.push(part.clone());
    }
}

fn check(task: &str, matrix: &Spanned<RawMatrix>, sink: &mut Sink) -> bool {
    let mut is_good = true;
    let mut refuse = |code, message: String, span| {
        is_good = false;
        sink.push(Diagnostic::error(code, message).at(span));
    };
    let mut n_combinations: usize = 1;
    for (name, values) in &matrix.axes {
        n_combinations = n_combinations.saturating_mul(values.len());
        if values.is_empty() {
            let message = format!("`{}` of the matrix of task `{task}` is empty", name.value);
            refuse(Code::InvalidValue, message, name.span);
        }
        for value in values {
            if let Some(message) = bad_value(&name.value, value) {
                refuse(Code::InvalidValue, message, name.span);
            }
        }
    }
    let included = matrix.include.iter().flat_map(|part| part.value.keys().map(|k| (k, part.span)));
    let axes = matrix.axes.iter().map(|(name, _)| (&*name.value, name.span));
    for (name, span) in axes.chain(included.map(|(key, span)| (key.as_str(), span))) {
        if !is_variable_name(name) {
            let message = format!("`{name}` cannot be the name of a matrix value");
            refuse(Code::InvalidName, message, span);
        }
    }
    for part in &matrix.include {
        for (key, value) in &part.value {
            if let Some(message) = bad_value(key, value) {
                refuse(Code::InvalidValue, message, part.span);
            }
        }
    }
    for part in &matrix.exclude {
        for key in part.value.keys() {
            if !matrix.axes.iter().any(|(name, _)| &*name.value == key) {
                let message = format!("`exclude` names `{key}`, which the matrix does not have");
                refuse(Code::InvalidValue, message, part.span);
            }
        }
    }
    let work = n_combinations.saturating_mul(1 + matrix.include.len() + matrix.exclude.len());
    if n_combinations > limits::TASKS_MAX || work > 100 * limits::TASKS_MAX {
        let message = format!("the matrix of task `{task}` has {n_combinations} combinations");
        refuse(Code::Limit, message, matrix.span);
    }
    is_good
}

fn bad_value(name: &str, value: &Value) -> Option<String> {
    let text = as_text(value);
    if text.contains('\0') {
        return Some(format!("matrix value `{name}` holds a NUL character"));
    }
    if text.contains(template::OPEN) {
        return Some(format!("expressions are not allowed in matrix values: `{name}`"));
    }
    let max = limits::ENV_VALUE_BYTES_MAX;
    (text.len() > max).then(|| format!("matrix value `{name}` is longer than {max} bytes"))
}

/// Names the instances `task.value1.value2` by the values of the axes, or by all values if an
/// included combination lacks an axis. The names differ from all names in `taken` and are added to
/// it.
pub(super) fn instances(
    task: &str,
    matrix: &RawMatrix,
    combinations: Vec<Map<String, Value>>,
    taken: &mut BTreeSet<Name>,
) -> Vec<Instance> {
    let mut out = Vec::with_capacity(combinations.len());
    for values in combinations {
        let axes: Vec<&Value> =
            matrix.axes.iter().filter_map(|(name, _)| values.get(&*name.value)).collect();
        let is_whole = axes.len() == matrix.axes.len() && !axes.is_empty();
        let is_extra =
            |key: &&String| !is_whole && !matrix.axes.iter().any(|(name, _)| *name.value == ***key);
        let extra = values.keys().filter(is_extra).filter_map(|key| values.get(key));
        let mut text = task.to_owned();
        for value in axes.into_iter().chain(extra) {
            text.push('.');
            text.push_str(&part(value));
        }
        let name = unique(&text, taken);
        out.push(Instance { name, values });
    }
    out
}

fn part(value: &Value) -> String {
    let text: String = as_text(value)
        .chars()
        .take(limits::NAME_BYTES_MAX)
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .collect();
    if text.is_empty() { "-".into() } else { text }
}

fn unique(text: &str, taken: &mut BTreeSet<Name>) -> Name {
    let mut name = sanitised(text, "task");
    let mut number = 2u64;
    while !taken.insert(name.clone()) {
        let suffix = format!("-{number}");
        let room = limits::NAME_BYTES_MAX - suffix.len();
        let stem = &text[..text.len().min(room)];
        name = sanitised(&format!("{stem}{suffix}"), "task");
        number += 1;
    }
    name
}
