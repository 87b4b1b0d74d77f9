//! The format of a spool record: length, checksum, body.
//!
//! ```text
//! u32 length of the body │ u64 first 8 bytes of its SHA-256 │ body
//! body: u8 kind │ 16 bytes run │ u32 task │ u32 attempt │ result (a put only)
//! ```
//!
//! All numbers are little-endian.

use bytes::Bytes;
use kahn_model::{AttemptId, RunId, TaskIx};
use sha2::{Digest as _, Sha256};

const HEAD_LEN: usize = 12;
const KEY_LEN: usize = 25;
const PUT: u8 = 1;
const ACK: u8 = 2;

/// A record of the spool.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// Adds a result.
    Put(AttemptId, &'a [u8]),
    /// Removes the result of an attempt.
    Ack(AttemptId),
}

/// Returns the length of a put record, in bytes.
pub(super) fn put_len(result: &Bytes) -> u64 {
    u64::try_from(HEAD_LEN + KEY_LEN + result.len()).unwrap_or(u64::MAX)
}

/// Appends a put record.
pub(super) fn write_put(out: &mut Vec<u8>, attempt: AttemptId, result: &[u8]) {
    write(out, PUT, attempt, result);
}

/// Appends an ack record.
pub(super) fn write_ack(out: &mut Vec<u8>, attempt: AttemptId) {
    write(out, ACK, attempt, &[]);
}

fn write(out: &mut Vec<u8>, kind: u8, attempt: AttemptId, result: &[u8]) {
    let mut body = Vec::with_capacity(KEY_LEN + result.len());
    body.push(kind);
    body.extend_from_slice(attempt.run.as_bytes());
    body.extend_from_slice(&attempt.task.0.to_le_bytes());
    body.extend_from_slice(&attempt.number.to_le_bytes());
    body.extend_from_slice(result);
    let len = u32::try_from(body.len()).expect("invariant: results are far below 4 GiB");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&checksum(&body));
    out.extend_from_slice(&body);
}

/// Reads the first record and returns it with the remaining bytes, or `None` if it is incomplete
/// or damaged.
pub(super) fn read(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<8>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let (body, rest) = rest.split_at_checked(len)?;
    if checksum(body) != *sum {
        return None;
    }
    let (kind, body) = body.split_first()?;
    let (run, body) = body.split_at_checked(16)?;
    let (task, body) = body.split_first_chunk()?;
    let (number, result) = body.split_first_chunk()?;
    let attempt = AttemptId {
        run: RunId::from_slice(run)?,
        task: TaskIx(u32::from_le_bytes(*task)),
        number: u32::from_le_bytes(*number),
    };
    match *kind {
        PUT => Some((Record::Put(attempt, result), rest)),
        ACK => Some((Record::Ack(attempt), rest)),
        _ => None,
    }
}

fn checksum(body: &[u8]) -> [u8; 8] {
    let digest = Sha256::digest(body);
    let (first, _) = digest.split_first_chunk().expect("invariant: a digest has 32 bytes");
    *first
}
