//! The values available to an expression.

use std::collections::BTreeMap;

use cel::Value as Cel;
use cel::objects::{Key, Map};
use kahn_model::{Outputs, TaskState};
use serde_json::Value;

use super::ExprError;
use super::bindings::Bindings;
use super::references::References;

/// A task as seen by expressions of later tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskView {
    /// The state; `tasks.name.status` is its name, such as `succeeded`.
    pub status: TaskState,
    /// The outputs.
    pub outputs: Outputs,
    /// The exit code of the process of the last attempt, if there is one.
    pub exit_code: Option<i32>,
}

/// A run as seen by expressions of its tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunView {
    /// The id of the run.
    pub id: String,
    /// The name of the DAG.
    pub name: String,
    /// The namespace of the run.
    pub namespace: String,
}

/// The values available to an expression. Values bound by the compiler take precedence over the
/// parameters and matrix values given here, which may then be empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// `params.name`.
    pub params: BTreeMap<String, Value>,
    /// `matrix.name`.
    pub matrix: BTreeMap<String, Value>,
    /// `tasks.name`, by the names in the DAG. Only the tasks that the expression refers to are
    /// needed.
    pub tasks: BTreeMap<String, TaskView>,
    /// `run.id`, `run.name`, `run.namespace`.
    pub run: RunView,
    /// `response`, in the `until` condition of a request.
    pub response: Option<Value>,
}

impl Scope {
    /// Returns the CEL variables for an expression with these references.
    pub(super) fn variables(
        &self,
        bindings: &Bindings,
        references: &References,
        largest: &mut usize,
    ) -> Result<Vec<(&'static str, Cel)>, ExprError> {
        let params = self.params.iter().chain(&bindings.params);
        let matrix = self.matrix.iter().chain(&bindings.matrix);
        let mut out = Vec::new();
        if references.uses_all_params || !references.params.is_empty() {
            out.push(("params", map(params.map(|(k, v)| (k.as_str(), to_cel(v, largest))))));
        }
        if references.uses_all_matrix || !references.matrix.is_empty() {
            out.push(("matrix", map(matrix.map(|(k, v)| (k.as_str(), to_cel(v, largest))))));
        }
        if references.uses_run {
            let RunView { id, name, namespace } = &self.run;
            let fields = [("id", id), ("name", name), ("namespace", namespace)];
            out.push(("run", map(fields.map(|(k, v)| (k, Cel::from(v.as_str()))))));
        }
        if references.uses_response {
            let Some(response) = &self.response else {
                return Err(ExprError::UnknownName { name: "response".into(), hint: None });
            };
            out.push(("response", to_cel(response, largest)));
        }
        let mut tasks = Vec::new();
        for name in references.tasks.keys() {
            tasks.push((name.as_str(), self.task(name, bindings, largest)?));
        }
        if !tasks.is_empty() {
            out.push(("tasks", map(tasks)));
        }
        Ok(out)
    }

    fn task(&self, name: &str, bindings: &Bindings, largest: &mut usize) -> Result<Cel, ExprError> {
        let view = |name: &str, largest: &mut usize| {
            let task = self.tasks.get(name);
            task.map(|task| view(task, largest))
                .ok_or_else(|| ExprError::UnknownName { name: format!("tasks.{name}"), hint: None })
        };
        let Some(instances) = bindings.instances.get(name) else {
            return view(name, largest);
        };
        *largest = (*largest).max(instances.len());
        let views: Result<Vec<Cel>, ExprError> =
            instances.iter().map(|instance| view(instance, largest)).collect();
        Ok(Cel::List(views?.into()))
    }
}

fn view(task: &TaskView, largest: &mut usize) -> Cel {
    let outputs = task.outputs.0.iter().map(|(name, value)| {
        // A value that is not valid JSON is passed as a string.
        let json =
            serde_json::from_str(value.as_json()).unwrap_or_else(|_| Value::from(value.as_json()));
        (&**name, to_cel(&json, largest))
    });
    let outputs = map(outputs);
    map([
        ("status", Cel::from(task.status.as_str())),
        ("outputs", outputs),
        ("exit_code", task.exit_code.map_or(Cel::Null, |code| Cel::Int(code.into()))),
    ])
}

fn map<'a>(entries: impl IntoIterator<Item = (&'a str, Cel)>) -> Cel {
    let entries = entries.into_iter().map(|(key, value)| (Key::from(key), value));
    Cel::Map(Map { map: std::sync::Arc::new(entries.collect()) })
}

/// Converts JSON to a CEL value and updates the length of the longest collection or string.
/// Recursive: the depth is bounded by the parser.
fn to_cel(value: &Value, largest: &mut usize) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Cel::Int(value),
            (None, Some(value)) => Cel::UInt(value),
            (None, None) => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Cel::from(text.as_str()),
        Value::Array(items) => {
            *largest = (*largest).max(items.len());
            let items: Vec<Cel> = items.iter().map(|item| to_cel(item, largest)).collect();
            Cel::List(items.into())
        }
        Value::Object(fields) => {
            *largest = (*largest).max(fields.len());
            map(fields.iter().map(|(key, value)| (key.as_str(), to_cel(value, largest))))
        }
    }
}
