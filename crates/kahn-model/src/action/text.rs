//! Strings with expressions.

use std::fmt;

/// A string that may contain expressions as `${{ … }}`.
///
/// This type only detects expressions; it does not parse or evaluate them.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Box<str>);

impl Text {
    /// Creates a text.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// Returns the source text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the text contains an expression and must be rendered.
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

/// How expressions in a text of an action are replaced by their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextRole {
    /// Each expression is replaced by its value as text.
    Plain,
    /// The text is JSON. A string that consists of one expression is replaced by the value itself.
    /// In other strings, each expression is replaced by its value as text.
    Json,
}
