//! Expressions: guarded CEL inside `${{ }}` and in `if`.
//!
//! A compiled DAG stores the values of parameters and matrices in its expressions, so at run time a
//! [`Scope`] needs only the tasks and the run.

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

/// The error of a failed evaluation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExprError {
    /// The expression cannot be parsed.
    #[error("{message}")]
    Syntax {
        /// The message of the parser.
        message: String,
        /// The location, in bytes from the start of the expression.
        at: usize,
    },
    /// The expression exceeds the size limits.
    #[error("expression is too large: {0}")]
    TooLarge(String),
    /// The expression would run too many loop iterations.
    #[error("expression would take too long: loops over collections of up to {elements} elements")]
    TooMuchWork {
        /// The size of the largest collection in scope.
        elements: usize,
    },
    /// The expression uses an unknown name.
    #[error("unknown name `{name}`")]
    UnknownName {
        /// The name.
        name: String,
        /// A suggestion.
        hint: Option<String>,
    },
    /// The expression does something that is not allowed.
    #[error("{0}")]
    Refused(String),
    /// The evaluation failed on the given values.
    #[error("{0}")]
    Failed(String),
    /// The value of a condition is not a boolean.
    #[error("a condition must be true or false, this one is of type {0}")]
    NotBoolean(String),
    /// The value cannot be converted to text.
    #[error("the value is of type {0}, which is not text")]
    NotText(String),
    /// The value exceeds the size limit.
    #[error("the rendered value is too large")]
    ResultTooLarge,
    /// The expression could not be evaluated.
    #[error("expression not evaluated: {0}")]
    Unavailable(String),
}

impl ExprError {
    /// Returns how to fix it, if known.
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

/// Evaluates a condition, as stored in a [`kahn_model::Condition`], on a separate thread.
///
/// # Errors
///
/// Returns an [`ExprError`] if the evaluation fails.
pub fn evaluate_condition(condition: &str, scope: &Scope) -> Result<bool, ExprError> {
    on_large_stack(|| Engine::new().condition(condition, scope))?
}

/// Replaces the expressions in a string by their values, on a separate thread. The result contains
/// no expressions.
///
/// # Errors
///
/// Returns an [`ExprError`] if an evaluation fails.
pub fn render(text: &Text, scope: &Scope) -> Result<String, ExprError> {
    if !text.is_dynamic() {
        return Ok(text.as_str().into());
    }
    on_large_stack(|| Engine::new().render(text.as_str(), scope))?
}

/// Replaces the expressions in all strings of `work`, on a separate thread. The result contains no
/// expressions.
///
/// # Errors
///
/// Returns an [`ExprError`] if an evaluation fails.
pub fn render_work(work: &Work, scope: &Scope) -> Result<Work, ExprError> {
    if !work.is_dynamic() {
        return Ok(work.clone());
    }
    on_large_stack(|| Engine::new().work(work, scope))?
}

/// Returns what an expression refers to. A scope with these tasks can evaluate it.
///
/// # Errors
///
/// Returns an [`ExprError`] if the expression cannot be parsed or the guard refuses it.
pub fn references(expression: &str) -> Result<References, ExprError> {
    on_large_stack(|| Engine::new().references(expression))?
}

/// Returns what all expressions of a string refer to.
///
/// # Errors
///
/// Like [`references`].
pub fn text_references(text: &Text) -> Result<References, ExprError> {
    if !text.is_dynamic() {
        return Ok(References::default());
    }
    on_large_stack(|| Engine::new().text_references(text.as_str()))?
}

/// Returns what all expressions of `work` refer to.
///
/// # Errors
///
/// Like [`references`].
pub fn work_references(work: &Work) -> Result<References, ExprError> {
    if !work.is_dynamic() {
        return Ok(References::default());
    }
    on_large_stack(|| Engine::new().work_references(work))?
}
