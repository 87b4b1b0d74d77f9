//! The protocol between the owner of a partition and the log that keeps its changes.
//!
//! The log is a chain: each entry has a sequence number and a hash over the hash before it and its
//! own bytes. A store appends an entry only on top of the very head the writer named and only under
//! the term in force, so order, repetition and a deposed writer are all settled by one comparison.
//!
//! Here are the words of that protocol; [`LogWriter`] keeps the writer's side of it. Hashing,
//! encoding, sending and waiting belong to the caller.

mod writer;

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

pub use writer::{IN_FLIGHT_MAX, LogWriter, Probe};

/// A link of the chain: a digest over the previous link and the bytes of the entry.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hash(pub [u8; 16]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A place in the log: the sequence number of its last entry and the chain up to there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Entries are numbered from 1 without gaps; 0 is the empty log.
    pub seq: u64,
    /// The chain up to and including `seq`.
    pub hash: Hash,
}

impl Head {
    /// The head of an empty log.
    pub const GENESIS: Self = Self { seq: 0, hash: Hash([0; 16]) };
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.seq, self.hash)
    }
}

/// One reign of a coordinator over a partition; its text is the fence that a store compares.
///
/// Terms are compared for equality, not order: a store that lost its last writes may hand out an
/// epoch twice, and the nonce still tells the two reigns apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Grows by one with each take-over that the store remembers.
    pub epoch: u64,
    /// Drawn at random by the coordinator when it starts.
    pub nonce: u64,
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:016x}", self.epoch, self.nonce)
    }
}

/// Why a text is not a [`Term`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseTermError {
    /// There is no colon.
    #[error("term {0:?} has no colon between epoch and nonce")]
    NoColon(String),
    /// One of the two numbers does not parse.
    #[error("term {term:?} is not a decimal epoch and a hexadecimal nonce")]
    BadNumber {
        /// The whole text.
        term: String,
        /// What the number lacks.
        source: ParseIntError,
    },
}

impl FromStr for Term {
    type Err = ParseTermError;

    fn from_str(text: &str) -> Result<Self, ParseTermError> {
        let bad = |source| ParseTermError::BadNumber { term: text.to_owned(), source };
        let (epoch, nonce) =
            text.split_once(':').ok_or_else(|| ParseTermError::NoColon(text.to_owned()))?;
        Ok(Self {
            epoch: epoch.parse().map_err(bad)?,
            nonce: u64::from_str_radix(nonce, 16).map_err(bad)?,
        })
    }
}

/// A request to put one entry on top of `prev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append<P> {
    /// Numbers the sends of one writer, so that a late reply is told from the awaited one.
    ///
    /// The store does not see it: the same entry sent again has the same `prev` and `next`.
    pub send: u64,
    /// The head that the log must have.
    pub prev: Head,
    /// The head that the log then has.
    pub next: Head,
    /// The entry.
    pub payload: P,
}

/// What is known of one [`Append`] after it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is in the log now.
    Applied,
    /// It was the head of the log already: an earlier send of it had arrived.
    Duplicate,
    /// Another term is in force.
    Fenced,
    /// The log's head is neither the entry's `prev` nor its `next`.
    Behind(Head),
    /// It was refused before it had any effect.
    Refused,
    /// Nobody knows: the request or its reply was lost, or the store failed midway.
    Unknown,
}

/// What one reply means for the writer. After each, ask [`LogWriter::next_send`] again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything up to and including `through` is in the log; more than was known before.
    Committed {
        /// A sequence number.
        through: u64,
    },
    /// The send is settled, and nothing is committed that was not before.
    Progressed,
    /// The entry goes out again; the caller waits a little first.
    Resend,
    /// The writer starts again from what the log holds; no wait is needed.
    Rewound {
        /// Committed entries that the log has lost and that are now appended anew.
        missing: u64,
    },
    /// Not an answer to anything awaited: nothing changes.
    Late,
    /// Another term is in force: this writer is at its end.
    Fenced,
    /// The log holds a history that is not ours, or one too old to be mended from the tail: this
    /// writer is at its end, and a person must look.
    Diverged(Head),
}

#[cfg(test)]
mod tests {
    use super::{Head, ParseTermError, Term};

    #[test]
    fn a_term_survives_its_text() {
        for term in [Term { epoch: 0, nonce: 0 }, Term { epoch: u64::MAX, nonce: 0xbeef }] {
            assert_eq!(term.to_string().parse(), Ok(term));
        }
        assert_eq!(Term { epoch: 7, nonce: 255 }.to_string(), "7:00000000000000ff");
    }

    #[test]
    fn a_malformed_term_is_refused() {
        assert_eq!("7".parse::<Term>(), Err(ParseTermError::NoColon("7".to_owned())));
        for text in ["x:1", "1:g", ":", "1:1:1"] {
            assert!(matches!(text.parse::<Term>(), Err(ParseTermError::BadNumber { .. })));
        }
    }

    #[test]
    fn a_head_shows_sequence_and_chain() {
        assert_eq!(Head::GENESIS.to_string(), format!("0@{}", "0".repeat(32)));
    }
}
