//! Parses the answers of scripts, and derives from an error whether the script ran.

use std::str;

use ::redis::{RedisError, Value};
use bytes::Bytes;
use kahn_core::log::{Hash, Head, Reply};

use crate::error::StoreError;
use crate::record::Position;

/// Error codes that a server returns before a script has had any effect.
const REFUSALS: [&str; 17] = [
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MOVED",
    "ASK",
    "CROSSSLOT",
    "NOSCRIPT",
    "NOREPLICAS",
    "MISCONF",
    "OOM",
    "BUSY",
    "NOAUTH",
    "NOPERM",
    "WRONGPASS",
    "UNKILLABLE",
];

/// Returns whether the request certainly had no effect.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    error.code().is_some_and(|code| REFUSALS.contains(&code))
}

/// Returns whether the scripts must be loaded again.
pub(super) fn is_no_script(error: &RedisError) -> bool {
    error.code() == Some("NOSCRIPT")
}

/// Returns whether the connection must be closed, because a later reply could belong to any
/// request, or because the server is not the master any more.
pub(super) fn is_broken(error: &RedisError) -> bool {
    let code = error.code().unwrap_or_default();
    error.is_io_error()
        || error.is_unrecoverable_error()
        || is_no_script(error)
        || matches!(code, "READONLY" | "MASTERDOWN" | "UNBLOCKED")
}

/// Returns whether another server may be the master.
pub(super) fn is_misdirected(error: &RedisError) -> bool {
    let code = error.code().unwrap_or_default();
    error.is_io_error() || matches!(code, "MOVED" | "CLUSTERDOWN" | "LOADING") || is_broken(error)
}

/// Returns whether the request had no effect and will be accepted soon, there or elsewhere.
pub(super) fn is_refused_for_now(error: &RedisError) -> bool {
    let code = error.code().unwrap_or_default();
    matches!(code, "LOADING" | "READONLY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED")
}

/// Returns whether a script answers that it has changed nothing.
pub(super) fn is_declined(answer: &Value) -> bool {
    let Value::Array(words) = answer else { return false };
    let declined: [&[u8]; 5] = [b"FENCED", b"HELD", b"FOREIGN", b"NOENTRY", b"OCCUPIED"];
    matches!(words.first(), Some(Value::BulkString(word)) if declined.contains(&&word[..]))
}

/// The strings in the answer of a script.
pub(super) struct Answer(std::vec::IntoIter<Value>);

impl Answer {
    pub(super) fn new(value: Value) -> Result<Self, StoreError> {
        match value.extract_error()? {
            Value::Array(values) => Ok(Self(values.into_iter())),
            other => Err(unexpected_reply(&other)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, StoreError> {
        match self.0.next() {
            Some(Value::BulkString(bytes)) => Ok(Bytes::from(bytes)),
            other => Err(unexpected_reply(&other)),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, StoreError> {
        let bytes = self.bytes()?;
        str::from_utf8(&bytes).map(str::to_owned).map_err(|_| unexpected_reply(&bytes))
    }

    /// Reads a sequence number, either plain or as the id of a stream entry.
    pub(super) fn seq(&mut self) -> Result<u64, StoreError> {
        let text = self.text()?;
        let seq = text.split('-').next().unwrap_or_default();
        seq.parse().map_err(|_| unexpected_reply(&text))
    }

    /// Reads a sequence number and a hash, which is empty for an empty log.
    pub(super) fn head(&mut self) -> Result<Head, StoreError> {
        let seq = self.seq()?;
        let bytes = self.bytes()?;
        if bytes.is_empty() && seq == 0 {
            return Ok(Head::GENESIS);
        }
        let hash = bytes.as_ref().try_into().map_err(|_| unexpected_reply(&bytes))?;
        Ok(Head { seq, hash: Hash(hash) })
    }
}

fn unexpected_reply(what: &impl std::fmt::Debug) -> StoreError {
    StoreError::Damaged(format!("redis answered {what:?}"))
}

/// Parses the epoch, the sequence number and the hash of a partition, which has none of them before
/// the first term and the first entry.
pub(super) fn position(values: Value) -> Result<Position, StoreError> {
    let values: Vec<Option<Vec<u8>>> =
        ::redis::from_redis_value(values).map_err(RedisError::from)?;
    let or_empty = |value: Option<Vec<u8>>| match value {
        Some(bytes) => Value::BulkString(bytes),
        None => Value::BulkString(Vec::new()),
    };
    let or_zero = |value: Option<Vec<u8>>| or_empty(value.or_else(|| Some(b"0".to_vec())));
    let mut values = values.into_iter();
    let mut next = || values.next().flatten();
    let answer = vec![or_zero(next()), or_zero(next()), or_empty(next())];
    let mut answer = Answer::new(Value::Array(answer))?;
    Ok(Position { epoch: answer.seq()?, head: answer.head()? })
}

/// Parses the answer of the append script.
pub(super) fn append_reply(value: Value) -> Result<Reply, StoreError> {
    let mut answer = Answer::new(value)?;
    match answer.text()?.as_str() {
        "OK" => Ok(Reply::Applied),
        "DUP" => Ok(Reply::Duplicate),
        "FENCED" => Ok(Reply::Fenced),
        "HEAD" => Ok(Reply::Behind(answer.head()?)),
        other => Err(unexpected_reply(&other)),
    }
}

/// Returns what is known about an append after an error.
pub(super) fn reply_to(error: &StoreError) -> Reply {
    match error {
        StoreError::Redis(error) if is_refusal(error) => Reply::Refused,
        _ => Reply::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_error(code: &str) -> StoreError {
        StoreError::Redis(::redis::make_extension_error(code.to_owned(), None))
    }

    #[test]
    fn errors_given_before_the_script_ran_are_refusals() {
        for code in REFUSALS {
            assert_eq!(reply_to(&server_error(code)), Reply::Refused, "{code}");
        }
    }

    #[test]
    fn every_other_error_leaves_the_outcome_unknown() {
        for code in ["ERR", "WRONGTYPE", "SOMETHINGNEW"] {
            assert_eq!(reply_to(&server_error(code)), Reply::Unknown, "{code}");
        }
        let cut = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(reply_to(&StoreError::Redis(cut)), Reply::Unknown);
    }

    #[test]
    fn a_head_before_the_first_entry_has_no_hash() {
        let text = |s: &str| Value::BulkString(s.as_bytes().to_vec());
        let reply = append_reply(Value::Array(vec![text("HEAD"), text("0"), text("")])).unwrap();
        assert_eq!(reply, Reply::Behind(Head::GENESIS));
        let short = Value::Array(vec![text("HEAD"), text("1"), text("abc")]);
        assert!(append_reply(short).is_err());
    }
}
