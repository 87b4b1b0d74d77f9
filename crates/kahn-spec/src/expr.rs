//! Expressions: CEL inside `${{ }}` and in `if`, guarded.
//!
//! A DAG that was compiled here carries the values of parameters and matrix in its expressions, so
//! at run time a [`Scope`] needs the tasks and the run only.

mod bindings;
mod evaluate;
mod evaluator;
mod guard;
pub(crate) mod json;
mod references;
mod scope;
mod stack;
pub(crate) mod template;

use kahn_model::{Text, Work};

pub use evaluator::Evaluator;
pub use references::{References, TaskReference};
pub use scope::{RunView, Scope, TaskView};

pub(crate) use bindings::Bindings;
pub(crate) use evaluate::Engine;
pub(crate) use stack::on_large_stack;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExprError {
    /// It cannot be read.
    #[error("{message}")]
    Syntax {
        /// What the parser found.
        message: String,
        /// Where, in bytes from the start of the expression.
        at: usize,
    },
    /// It is larger than expressions may be.
    #[error("expression is too large: {0}")]
    TooLarge(String),
    /// It would loop too often.
    #[error("expression would take too long: loops over collections of up to {elements} elements")]
    TooMuchWork {
        /// The size of the largest collection in sight.
        elements: usize,
    },
    /// It uses a name that does not exist.
    #[error("unknown name `{name}`")]
    UnknownName {
        /// The name.
        name: String,
        /// What might be meant.
        hint: Option<String>,
    },
    /// It does something that is not allowed.
    #[error("{0}")]
    Refused(String),
    /// It failed on the values it was given.
    #[error("{0}")]
    Failed(String),
    /// A condition is neither true nor false.
    #[error("a condition must be true or false, this one is of type {0}")]
    NotBoolean(String),
    /// Its value cannot be written as text.
    #[error("the value is of type {0}, which is not text")]
    NotText(String),
    /// Its value is larger than values may be.
    #[error("the rendered value is too large")]
    ResultTooLarge,
    /// It could not be evaluated at all.
    #[error("expression not evaluated: {0}")]
    Unavailable(String),
}

impl ExprError {
    /// What would mend it, if that can be said.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownName { hint, .. } => hint.clone(),
            Self::Failed(message) if message.contains("no matching overload") => Some(
                "values of different types do not mix; convert with `int()`, `double()` or \
                 `string()`"
                    .into(),
            ),
            Self::Failed(message) if message.contains("No such key") => {
                Some("test with `has()` whether a value is there".into())
            }
            _ => None,
        }
    }

    fn of(error: &cel::ExecutionError) -> Self {
        let mut text = error.to_string();
        let mut end = text.len().min(512);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        Self::Failed(text)
    }
}

/// Evaluates a condition, as [`kahn_model::Condition`] holds it, on a thread of its own.
///
/// # Errors
///
/// [`ExprError`] says why it has no value.
pub fn evaluate_condition(condition: &str, scope: &Scope) -> Result<bool, ExprError> {
    on_large_stack(|| Engine::new().condition(condition, scope))?
}

/// Replaces the expressions of a text by their values, on a thread of its own. The result holds no
/// expression.
///
/// # Errors
///
/// [`ExprError`] says why one has no value.
pub fn render(text: &Text, scope: &Scope) -> Result<String, ExprError> {
    if !text.is_dynamic() {
        return Ok(text.as_str().into());
    }
    on_large_stack(|| Engine::new().render(text.as_str(), scope))?
}

/// Replaces the expressions of all texts of `work`, on a thread of its own. The result holds no
/// expression.
///
/// # Errors
///
/// [`ExprError`] says why one has no value.
pub fn render_work(work: &Work, scope: &Scope) -> Result<Work, ExprError> {
    if !work.is_dynamic() {
        return Ok(work.clone());
    }
    on_large_stack(|| Engine::new().work(work, scope))?
}

/// What an expression refers to; a scope with these tasks can evaluate it.
///
/// # Errors
///
/// When it cannot be read, or the guard refuses it.
pub fn references(expression: &str) -> Result<References, ExprError> {
    on_large_stack(|| Engine::new().references(expression))?
}

/// What all expressions of a text refer to.
///
/// # Errors
///
/// As [`references`].
pub fn text_references(text: &Text) -> Result<References, ExprError> {
    if !text.is_dynamic() {
        return Ok(References::default());
    }
    on_large_stack(|| Engine::new().text_references(text.as_str()))?
}

/// What all expressions of `work` refer to.
///
/// # Errors
///
/// As [`references`].
pub fn work_references(work: &Work) -> Result<References, ExprError> {
    if !work.is_dynamic() {
        return Ok(References::default());
    }
    on_large_stack(|| Engine::new().work_references(work))?
}
