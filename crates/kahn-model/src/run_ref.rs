//! References to a run: by id, by the first characters of the id, or as the last run.

use std::fmt;
use std::str::FromStr;

use crate::ids::RunId;

/// A reference to a run, as written by a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunRef {
    /// The run with this id.
    Id(RunId),
    /// The only run whose id starts with this prefix.
    Prefix(RunIdPrefix),
    /// The most recently submitted run.
    Last,
}

/// A prefix of a run id: at least four hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunIdPrefix {
    first: RunId,
    last: RunId,
    n_digits: usize,
}

impl RunIdPrefix {
    /// Minimum number of hexadecimal digits of a prefix.
    pub const DIGITS_MIN: usize = 4;
    /// Number of hexadecimal digits of a full id.
    const ID_DIGITS: usize = 32;

    /// Returns the lowest id with this prefix.
    #[must_use]
    pub fn first(&self) -> RunId {
        self.first
    }

    /// Returns the highest id with this prefix.
    #[must_use]
    pub fn last(&self) -> RunId {
        self.last
    }

    /// Returns whether `id` has this prefix.
    #[must_use]
    pub fn matches(&self, id: RunId) -> bool {
        (self.first..=self.last).contains(&id)
    }

    fn parse(text: &str) -> Option<Self> {
        const ID_DIGITS: usize = RunIdPrefix::ID_DIGITS;
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let is_prefix = (Self::DIGITS_MIN..ID_DIGITS).contains(&digits.len())
            && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if !is_prefix {
            return None;
        }
        let first = format!("{digits:0<ID_DIGITS$}").parse().ok()?;
        let last = format!("{digits:f<ID_DIGITS$}").parse().ok()?;
        Some(Self { first, last, n_digits: digits.len() })
    }
}

impl fmt::Display for RunIdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.first.to_string();
        // The hyphens of an id follow its 8th, 12th, 16th and 20th digit.
        let n_hyphens = [8, 12, 16, 20].into_iter().filter(|at| self.n_digits > *at).count();
        f.write_str(id.get(..self.n_digits + n_hyphens).unwrap_or(&id))
    }
}

/// The error for a string that is not a reference to a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not the id of a run; give the id, its first characters (at least {min}), or \
     `last`; `kahn list` shows the ids",
    min = RunIdPrefix::DIGITS_MIN
)]
pub struct ParseRunRefError {
    text: String,
}

impl FromStr for RunRef {
    type Err = ParseRunRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "last" {
            return Ok(Self::Last);
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        match RunIdPrefix::parse(text) {
            Some(prefix) => Ok(Self::Prefix(prefix)),
            None => Err(ParseRunRefError { text: text.chars().take(64).collect() }),
        }
    }
}

impl fmt::Display for RunRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Prefix(prefix) => prefix.fmt(f),
            Self::Last => f.write_str("last"),
        }
    }
}

impl From<RunId> for RunRef {
    fn from(id: RunId) -> Self {
        Self::Id(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";

    fn id(text: &str) -> RunId {
        text.parse().unwrap()
    }

    fn prefix(text: &str) -> RunIdPrefix {
        match text.parse() {
            Ok(RunRef::Prefix(prefix)) => prefix,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_whole_id_is_that_run() {
        assert_eq!(ID.parse(), Ok(RunRef::Id(id(ID))));
        assert_eq!(ID.replace('-', "").parse(), Ok(RunRef::Id(id(ID))));
    }

    #[test]
    fn last_is_the_last_run() {
        assert_eq!("last".parse(), Ok(RunRef::Last));
    }

    #[test]
    fn a_prefix_covers_every_id_that_begins_with_it_and_no_other() {
        let prefix = prefix("0193A1B2C");
        assert_eq!(prefix.first(), id("0193a1b2-c000-0000-0000-000000000000"));
        assert_eq!(prefix.last(), id("0193a1b2-cfff-ffff-ffff-ffffffffffff"));
        assert!(prefix.matches(id(ID)));
        assert!(!prefix.matches(id("0193a1b2-d3d4-7e5f-8a9b-0c1d2e3f4a5b")));
    }

    #[test]
    fn every_prefix_of_an_id_reads_back_as_itself() {
        for end in RunIdPrefix::DIGITS_MIN..ID.len() {
            let text = &ID[..end];
            assert!(prefix(text).matches(id(ID)), "{text}");
            assert_eq!(prefix(text).to_string(), text.trim_end_matches('-'));
        }
    }

    #[test]
    fn any_other_text_is_refused_with_what_is_possible() {
        let long = "é".repeat(100);
        for text in ["", "019", "01-9", "latest", "0193x", &ID.replace('-', "0"), long.as_str()] {
            let message = text.parse::<RunRef>().unwrap_err().to_string();
            assert!(message.contains("at least 4") && message.contains("`last`"), "{message}");
            assert!(message.len() < 400, "{message}");
        }
    }
}
