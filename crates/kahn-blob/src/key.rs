//! The names of objects.

use std::fmt;

/// Maximum length of a name in bytes. S3 and GCS allow 1024 bytes, including the prefix of the URL.
const KEY_BYTES_MAX: usize = 768;
/// Maximum length of a part in bytes, so that it can be the name of a file.
const PART_BYTES_MAX: usize = 200;

/// The name of an object, or of a group of objects: parts separated by `/`.
///
/// The parts consist of letters, digits, `.`, `_` and `-`, so that they need no escaping in any
/// store, and a name is never a path to outside the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// A name that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} cannot be the name of an object: use parts of up to {PART_BYTES_MAX} letters, digits, \
     `.`, `_` and `-`, separated by `/`, and up to {KEY_BYTES_MAX} bytes in total"
)]
pub struct InvalidKey(String);

impl Key {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// Returns an error if the name is not valid in every store.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidKey> {
        let name = name.into();
        match name.len() <= KEY_BYTES_MAX && name.split('/').all(is_part) {
            true => Ok(Self(name)),
            false => Err(InvalidKey(name)),
        }
    }

    /// Returns the name of an object or a group within this group.
    ///
    /// # Errors
    ///
    /// Returns an error if the name is not valid in every store.
    pub fn join(&self, name: impl fmt::Display) -> Result<Self, InvalidKey> {
        Self::new(format!("{self}/{name}"))
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the last part of the name.
    #[must_use]
    pub fn last_part(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_part(part: &str) -> bool {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=PART_BYTES_MAX).contains(&part.len())
        && part.bytes().all(is_usual)
        && !part.bytes().all(|byte| byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_the_store_and_needs_no_escaping() {
        for name in ["a", "logs/0192-ab/2.1/0-9.sealed", "..a/b_c"] {
            assert_eq!(Key::new(name).unwrap().as_str(), name);
        }
        let too_long = "x".repeat(PART_BYTES_MAX + 1);
        let too_long_in_total = ["x"; KEY_BYTES_MAX].join("/");
        let unusual = ["", "/", "a/", "/a", "a//b", "../a", "a/..", ".", "a b", "ä", "a#1", "a\\b"];
        for name in unusual.into_iter().chain([&*too_long, &*too_long_in_total]) {
            assert!(Key::new(name).is_err(), "{name}");
        }
        let group = Key::new("logs/run").unwrap();
        assert_eq!(group.join("task").unwrap().last_part(), "task");
        assert!(group.join("../run").is_err());
    }
}
