//! Strings with expressions.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A string that may contain expressions as `${{ … }}`.
///
/// This type only detects expressions; it does not parse or evaluate them. A clone shares the
/// string, so that a parameter that all instances of a matrix export is in memory once.
#[derive(Clone, Default, Eq)]
pub struct Text(Arc<str>);

impl Text {
    /// Creates a text.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
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

    /// Returns whether both are the same string in memory.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

// A string in memory is equal to itself: it is not read to find that out. When the works of a
// matrix are compared, most of their long texts are the same.

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || self.0 == other.0
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.is_same(other) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
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
