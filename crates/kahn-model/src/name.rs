//! Names of tasks, DAGs, workers, namespaces and named resources.

use std::fmt;
use std::str::FromStr;

use crate::limits;

/// A name: 1 to [`limits::NAME_BYTES_MAX`] bytes of `A-Z a-z 0-9 . _ -`, starting with a letter, a
/// digit or `_`.
///
/// Names need no quoting in file names, log fields and command lines.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// Validates a name.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidName`] with the violated rule.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        check(text).map(|()| Self(text.into()))
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(text: &str) -> Result<(), InvalidName> {
    let first = text.chars().next().ok_or(InvalidName::Empty)?;
    if text.len() > limits::NAME_BYTES_MAX {
        return Err(InvalidName::TooLong { found: text.len() });
    }
    if let Some(bad) = text.chars().find(|c| !is_allowed(*c)) {
        return Err(InvalidName::Character { name: text.into(), bad });
    }
    if first == '.' || first == '-' {
        return Err(InvalidName::Start { name: text.into() });
    }
    Ok(())
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

/// The error for an invalid [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The name is empty.
    #[error("a name may not be empty")]
    Empty,
    /// The name is longer than [`limits::NAME_BYTES_MAX`].
    #[error("a name has at most {max} bytes, this one has {found}", max = limits::NAME_BYTES_MAX)]
    TooLong {
        /// The length in bytes.
        found: usize,
    },
    /// The name contains an invalid character.
    #[error("name `{name}` holds {bad:?}; allowed are letters, digits, `.`, `_` and `-`")]
    Character {
        /// The name.
        name: String,
        /// The first invalid character.
        bad: char,
    },
    /// The name starts like an option or a hidden file.
    #[error("name `{name}` may not start with `.` or `-`")]
    Start {
        /// The name.
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_are_taken() {
        for name in ["a", "mProject_ID0000001", "build.x86_64-linux", "_x", "9to5"] {
            assert_eq!(Name::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_would_need_quoting_are_refused() {
        assert_eq!(Name::new(""), Err(InvalidName::Empty));
        assert!(matches!(Name::new("a b"), Err(InvalidName::Character { bad: ' ', .. })));
        assert!(matches!(Name::new("--rm"), Err(InvalidName::Start { .. })));
        assert!(matches!(Name::new(&"x".repeat(129)), Err(InvalidName::TooLong { found: 129 })));
    }
}
