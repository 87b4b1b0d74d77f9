//! Calls of functions in a worker or in a Python interpreter.

use super::Text;

/// A call of a function registered by a worker that is built on the library.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionCall {
    /// The registered name.
    pub name: Box<str>,
    /// The input: JSON, whose strings may contain expressions.
    pub input: Text,
}

impl FunctionCall {
    /// Returns the label that a worker has for each registered function, and that a call requires.
    #[must_use]
    pub fn label_of(name: &str) -> String {
        format!("function/{name}")
    }
}

/// A call of a Python function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PythonCall {
    /// `module:name`.
    pub function: Box<str>,
    /// The input: JSON, whose strings may contain expressions.
    pub input: Text,
    /// The interpreter, such as that of a virtual environment. Default: `python3` of the worker.
    pub interpreter: Option<Text>,
}
