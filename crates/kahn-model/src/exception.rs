//! Patterns for exception types in retry policies.

use std::fmt;
use std::str::FromStr;

use crate::limits;

/// A pattern for exception types: a qualified name (`requests.exceptions.Timeout`), the end of one
/// (`Timeout`), or all types below a module (`requests.exceptions.*`). In Rust names, `::` takes
/// the place of the dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExceptionPattern(Box<str>);

impl ExceptionPattern {
    /// Returns the pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the pattern matches the qualified type `name`.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if let Some(modules) = self.0.strip_suffix('*') {
            return name.len() > modules.len() && name.starts_with(modules);
        }
        let modules = name.strip_suffix(&*self.0);
        modules.is_some_and(|modules| modules.is_empty() || modules.ends_with(['.', ':']))
    }
}

impl fmt::Display for ExceptionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ExceptionPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The error for an invalid pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` does not name exceptions: write a type, such as `TimeoutError` or \
     `requests.exceptions.Timeout`, or all of a module, such as `requests.exceptions.*`"
)]
pub struct InvalidExceptionPattern(pub String);

impl FromStr for ExceptionPattern {
    type Err = InvalidExceptionPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = text.replace("::", ".");
        let named = plain.strip_suffix(".*").unwrap_or(&plain);
        let is_word =
            |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_');
        if named.split('.').all(is_word) && text.len() <= limits::EXCEPTION_BYTES_MAX {
            return Ok(Self(text.into()));
        }
        Err(InvalidExceptionPattern(text.chars().take(limits::NAME_BYTES_MAX).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_a_type_the_end_of_its_name_or_a_module() {
        for (pattern, name, expected) in [
            ("TimeoutError", "TimeoutError", true),
            ("TimeoutError", "asyncio.exceptions.TimeoutError", true),
            ("TimeoutError", "MyTimeoutError", false),
            ("Timeout", "TimeoutError", false),
            ("exceptions.Timeout", "requests.exceptions.Timeout", true),
            ("requests.exceptions.Timeout", "exceptions.Timeout", false),
            ("requests.exceptions.*", "requests.exceptions.Timeout", true),
            ("requests.*", "requests.exceptions.Timeout", true),
            ("requests.*", "requests_other.Timeout", false),
            ("Full", "disk::Error::Full", true),
            ("disk::*", "disk::Error", true),
            ("TimeoutError", "", false),
        ] {
            let parsed: ExceptionPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(name), expected, "{pattern} and {name}");
        }
    }

    #[test]
    fn what_names_no_type_is_refused() {
        for text in ["", "*", ".*", "a b", "a..b", "a.*.b", "Time*", "a:b", "a."] {
            assert!(text.parse::<ExceptionPattern>().is_err(), "{text}");
        }
        assert!("x".repeat(257).parse::<ExceptionPattern>().is_err());
    }
}
