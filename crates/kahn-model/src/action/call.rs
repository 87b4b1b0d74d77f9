//! Functions: what a worker, or an interpreter that it keeps warm, has at hand to be called.

use super::Text;

/// A call of a function that a worker built on the library has registered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionCall {
    /// The name under which it is registered.
    pub name: Box<str>,
    /// Its input: JSON, whose strings may hold expressions.
    pub input: Text,
}

impl FunctionCall {
    /// The label that a worker bears for each function that it has, and that a call asks for.
    #[must_use]
    pub fn label_of(name: &str) -> String {
        format!("function/{name}")
    }
}

/// A call of a function of Python.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PythonCall {
    /// `module:name`.
    pub function: Box<str>,
    /// Its input: JSON, whose strings may hold expressions.
    pub input: Text,
    /// The interpreter, such as that of a virtual environment; the worker's `python3` when not
    /// given.
    pub interpreter: Option<Text>,
}
