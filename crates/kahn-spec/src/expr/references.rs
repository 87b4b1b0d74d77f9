//! The references of an expression: tasks, parameters, matrix values and the run.

use std::collections::{BTreeMap, BTreeSet};

use cel::IdedExpr;
use cel::common::ast::{Expr, LiteralValue, operators};

use super::ExprError;
use super::guard::DEPTH_MAX;
use crate::suggest;

/// The top-level names in expressions.
pub(super) const ROOTS: [&str; 5] = ["params", "matrix", "tasks", "run", "response"];
/// The fields of a task in an expression.
const TASK_FIELDS: [&str; 3] = ["status", "outputs", "exit_code"];
/// The fields of the run in an expression.
const RUN_FIELDS: [&str; 3] = ["id", "name", "namespace"];
/// Names of types, which are also values.
const TYPES: [&str; 11] = [
    "bool",
    "bytes",
    "double",
    "duration",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "timestamp",
    "uint",
];
/// The allowed CEL functions.
const FUNCTIONS: [&str; 29] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "has",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "timestamp",
    "type",
    "uint",
    "all",
    "exists",
    "map",
];

/// A name that users of other tools may try.
const SECRETS: &str = "secrets";
const SECRETS_REFUSED: &str = "secrets are not known in expressions, so that none is ever spliced \
    into a text; name one under `env:` as `TOKEN: { secret: name }` and use `$TOKEN`, or under \
    `headers:` of `http` as `Authorization: { secret: name, prefix: \"Bearer \" }`";

/// How an expression uses a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskReference {
    /// The accessed fields of the task: `status`, `outputs`, `exit_code`.
    pub fields: BTreeSet<String>,
    /// The accessed outputs.
    pub outputs: BTreeSet<String>,
    /// Whether an instance is selected by index.
    pub is_indexed: bool,
}

/// Everything an expression refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Tasks, by name. In a compiled DAG, a matrix task is replaced by its instances.
    pub tasks: BTreeMap<String, TaskReference>,
    /// Parameters.
    pub params: BTreeSet<String>,
    /// Whether `params` is used as a whole.
    pub uses_all_params: bool,
    /// Matrix values.
    pub matrix: BTreeSet<String>,
    /// Whether `matrix` is used as a whole.
    pub uses_all_matrix: bool,
    /// Whether the run is accessed.
    pub uses_run: bool,
    /// Whether the response to a request is accessed.
    pub uses_response: bool,
}

impl References {
    /// Returns whether the value is known before the run starts.
    #[must_use]
    pub fn is_static(&self) -> bool {
        self.tasks.is_empty() && !self.uses_run && !self.uses_response
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (name, reference) in &other.tasks {
            let mine = self.tasks.entry(name.clone()).or_default();
            mine.fields.extend(reference.fields.iter().cloned());
            mine.outputs.extend(reference.outputs.iter().cloned());
            mine.is_indexed |= reference.is_indexed;
        }
        self.params.extend(other.params.iter().cloned());
        self.matrix.extend(other.matrix.iter().cloned());
        self.uses_all_params |= other.uses_all_params;
        self.uses_all_matrix |= other.uses_all_matrix;
        self.uses_run |= other.uses_run;
        self.uses_response |= other.uses_response;
    }
}

/// Collects references while the guard traverses the tree.
#[derive(Default)]
pub(super) struct Finder {
    found: References,
    names: BTreeSet<String>,
    variables: BTreeSet<String>,
}

impl Finder {
    /// Visits a node. Returns whether its children have been handled.
    pub(super) fn visit(&mut self, node: &IdedExpr) -> Result<bool, ExprError> {
        if let Some(path) = path_of(node) {
            if path.len() > DEPTH_MAX {
                return Err(ExprError::TooLarge(format!("a path of more than {DEPTH_MAX} parts")));
            }
            self.path(&path)?;
            return Ok(true);
        }
        match &node.expr {
            Expr::Ident(name) => {
                self.names.insert(name.clone());
            }
            Expr::Comprehension(it) => {
                self.variables.insert(it.accu_var.clone());
                for variable in std::iter::once(&it.iter_var).chain(&it.iter_var2) {
                    if ROOTS.contains(&variable.as_str()) {
                        return Err(ExprError::Refused(format!(
                            "`{variable}` cannot be the name of a loop variable"
                        )));
                    }
                    self.variables.insert(variable.clone());
                }
            }
            Expr::Call(call) => check_function(&call.func_name)?,
            Expr::Struct(it) => {
                return Err(ExprError::Refused(format!("unknown type `{}`", it.type_name)));
            }
            _ => {}
        }
        Ok(false)
    }

    /// Returns the references after the whole tree has been visited.
    pub(super) fn finish(self) -> Result<References, ExprError> {
        let is_known =
            |name: &String| self.variables.contains(name) || TYPES.contains(&name.as_str());
        if self.names.contains(SECRETS) && !is_known(&SECRETS.to_owned()) {
            return Err(ExprError::Refused(SECRETS_REFUSED.to_owned()));
        }
        if let Some(unknown) = self.names.iter().find(|name| !is_known(name)) {
            return Err(ExprError::UnknownName {
                name: unknown.clone(),
                hint: suggest::hint(unknown, ROOTS),
            });
        }
        Ok(self.found)
    }

    fn path(&mut self, path: &[&str]) -> Result<(), ExprError> {
        match path {
            ["params"] => self.found.uses_all_params = true,
            ["params", name, ..] => _ = self.found.params.insert((*name).into()),
            ["matrix"] => self.found.uses_all_matrix = true,
            ["matrix", name, ..] => _ = self.found.matrix.insert((*name).into()),
            ["response", ..] => self.found.uses_response = true,
            ["run", rest @ ..] => {
                self.found.uses_run = true;
                if let Some(field) = rest.first() {
                    check_field("run", field, &RUN_FIELDS)?;
                }
            }
            ["tasks", name, rest @ ..] => {
                let reference = self.found.tasks.entry((*name).into()).or_default();
                // A number selects an instance of a matrix task; a field follows.
                let rest = match rest {
                    [INSTANCE, rest @ ..] => {
                        reference.is_indexed = true;
                        rest
                    }
                    rest => rest,
                };
                if let Some(field) = rest.first() {
                    check_field(&format!("tasks.{name}"), field, &TASK_FIELDS)?;
                    reference.fields.insert((*field).into());
                }
                if let ["outputs", output, ..] = rest {
                    reference.outputs.insert((*output).into());
                }
            }
            _ => {
                return Err(ExprError::Refused(
                    "`tasks` must be followed by the name of a task: `tasks.name` or \
                     `tasks[\"name\"]`"
                        .into(),
                ));
            }
        }
        Ok(())
    }
}

/// Represents a number in square brackets.
const INSTANCE: &str = "[]";

/// Returns the path `root.a["b"].c` below one of the roots, if the node is one.
fn path_of(node: &IdedExpr) -> Option<Vec<&str>> {
    let mut path = Vec::new();
    let mut at = node;
    loop {
        match &at.expr {
            Expr::Ident(name) if ROOTS.contains(&name.as_str()) => {
                path.push(name.as_str());
                path.reverse();
                return Some(path);
            }
            Expr::Select(select) => {
                path.push(&select.field);
                at = &select.operand;
            }
            Expr::Call(call) if call.func_name == operators::INDEX && call.args.len() == 2 => {
                match &call.args[1].expr {
                    Expr::Literal(LiteralValue::String(text)) => path.push(text.inner()),
                    Expr::Literal(LiteralValue::Int(_)) => path.push(INSTANCE),
                    _ => return None,
                }
                at = &call.args[0];
            }
            _ => return None,
        }
    }
}

fn check_field(owner: &str, field: &str, known: &'static [&'static str]) -> Result<(), ExprError> {
    if known.contains(&field) {
        return Ok(());
    }
    Err(ExprError::UnknownName {
        name: format!("{owner}.{field}"),
        hint: suggest::hint(field, known.iter().copied()),
    })
}

fn check_function(name: &str) -> Result<(), ExprError> {
    let is_operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
    if is_operator || FUNCTIONS.contains(&name) {
        return Ok(());
    }
    let hint = suggest::nearest(name, FUNCTIONS).map(|near| format!("did you mean `{near}`?"));
    Err(ExprError::UnknownName { name: format!("{name}()"), hint })
}
