//! Durability levels of a store.

use std::fmt;
use std::str::FromStr;

/// What an acknowledged batch survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Nothing: memory only.
    Ephemeral,
    /// A crash of the process that wrote it, but not of the host.
    Process,
    /// Power loss of the one host that stores it.
    Disk,
    /// Loss of one host.
    Replicated,
}

impl Durability {
    const ALL: [Self; 4] = [Self::Ephemeral, Self::Process, Self::Disk, Self::Replicated];

    /// Returns the level as a number from 0 (lowest) to 3 (highest), which is exported as a metric.
    #[must_use]
    pub fn level(self) -> u8 {
        match self {
            Self::Ephemeral => 0,
            Self::Process => 1,
            Self::Disk => 2,
            Self::Replicated => 3,
        }
    }

    /// Returns the name used in configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ephemeral => "ephemeral",
            Self::Process => "process",
            Self::Disk => "disk",
            Self::Replicated => "replicated",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A string that is not the name of a durability level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown durability {0:?}: one of ephemeral, process, disk, replicated")]
pub struct ParseDurabilityError(String);

impl FromStr for Durability {
    type Err = ParseDurabilityError;

    fn from_str(text: &str) -> Result<Self, ParseDurabilityError> {
        let mut all = Self::ALL.into_iter();
        all.find(|one| one.as_str() == text).ok_or_else(|| ParseDurabilityError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::Durability;

    #[test]
    fn levels_rise_with_the_promise_and_names_read_back() {
        for (level, one) in (0..).zip(Durability::ALL) {
            assert_eq!(one.level(), level);
            assert_eq!(one.to_string().parse(), Ok(one));
        }
        assert!("safe".parse::<Durability>().is_err());
    }
}
