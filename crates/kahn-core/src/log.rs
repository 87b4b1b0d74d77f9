//! The append protocol between the owner of a partition and its log.
//!
//! The log is a chain: each entry has a sequence number and a hash over the previous hash and its
//! own bytes. A store appends an entry only if the log's head is the one named by the writer and
//! only under the term in force. This one comparison enforces order, detects repetitions and fences
//! deposed writers.
//!
//! This module defines the messages of the protocol; [`LogWriter`] implements the writer's side.
//! The caller is responsible for hashing, encoding, sending and waiting.

mod writer;

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

pub use writer::{IN_FLIGHT_MAX, LogWriter, Probe};

/// A link of the hash chain: a digest over the previous link and the bytes of the entry.
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

/// A position in the log: the sequence number of an entry and the hash of the chain up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Entries are numbered from 1 without gaps; 0 means an empty log.
    pub seq: u64,
    /// The hash of the chain up to and including `seq`.
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

/// The term of a coordinator as owner of a partition; stores compare its text as the fence.
///
/// Terms are compared for equality, not for order: a store that lost its last writes may assign the
/// same epoch twice, and the nonce still distinguishes the two terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Incremented with each takeover that the store remembers.
    pub epoch: u64,
    /// Drawn at random when the coordinator starts.
    pub nonce: u64,
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:016x}", self.epoch, self.nonce)
    }
}

/// An error from parsing a [`Term`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseTermError {
    /// The colon is missing.
    #[error("term {0:?} has no colon between epoch and nonce")]
    NoColon(String),
    /// One of the two numbers is invalid.
    #[error("term {term:?} is not a decimal epoch and a hexadecimal nonce")]
    BadNumber {
        /// The input.
        term: String,
        /// The parse error.
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

/// A request to append one entry after `prev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append<P> {
    /// Numbers the sends of one writer, to match replies to requests.
    ///
    /// It is not sent to the store: if the same entry is sent again, `prev` and `next` are equal.
    pub send: u64,
    /// The head that the log must have before the append.
    pub prev: Head,
    /// The head that the log has after the append.
    pub next: Head,
    /// The entry.
    pub payload: P,
}

/// The outcome of one [`Append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The entry was appended.
    Applied,
    /// The entry is already the head of the log: an earlier send of it has arrived.
    Duplicate,
    /// Another term is in force.
    Fenced,
    /// The log's head is neither the `prev` nor the `next` of the entry.
    Behind(Head),
    /// The request was refused without any effect.
    Refused,
    /// The outcome is unknown: the request or the reply was lost, or the store failed midway.
    Unknown,
}

/// The consequence of a reply for the writer. Call [`LogWriter::next_send`] again after each reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything up to and including `through` is in the log; more than was known before.
    Committed {
        /// The sequence number.
        through: u64,
    },
    /// The send is settled, and nothing new is committed.
    Progressed,
    /// The entry must be sent again; the caller should wait briefly first.
    Resend,
    /// The writer continues from the log's contents; no wait is needed.
    Rewound {
        /// Number of committed entries that the log lost and that are appended again.
        missing: u64,
    },
    /// Not a reply to any awaited send; nothing changes.
    Late,
    /// Another term is in force; this writer has ended.
    Fenced,
    /// The log contains a different history, or one too old to be repaired from the tail. This
    /// writer has ended, and an operator must intervene.
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
