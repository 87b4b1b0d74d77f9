//! Texts with expressions.

use std::fmt;

/// A text in which `${{ … }}` stands for an expression.
///
/// Whether it holds one is seen from the text alone; what the expression means is not known here.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Box<str>);

impl Text {
    /// The text as written.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the text holds an expression, and so is not yet what the task will see.
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        self.0.contains("${{")
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// How the expressions in a text of an action are replaced by their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextRole {
    /// Each by its value as text.
    Plain,
    /// The text is JSON: a string in it that is one expression becomes the value itself, and in
    /// other strings each is replaced by its value as text.
    Json,
}
