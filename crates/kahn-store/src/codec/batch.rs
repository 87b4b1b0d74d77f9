//! One log entry: an ordered list of changes, stored in columns.
//!
//! Each field of a frequent change has a column, so that such a change takes a few bytes and no
//! allocation. Fields of rare changes are stored in a list of details. Ids are written once and
//! then referred to by position. Times, tasks and serials are delta-encoded.

mod column;
mod decode;
mod detail;
mod encode;
mod table;

use std::collections::BTreeSet;

use bytes::Bytes;
use kahn_core::Change;
use kahn_model::Timestamp;
use kahn_proto::storage as wire;
use wire::detail::Of;

use super::frame::{self, Document};
use super::snapshot::RunEntry;
use super::{CodecError, Encoded, submission};

/// Kinds from this number on are optional: a reader skips those that it does not know.
const OPTIONAL_FROM: u8 = 128;

/// Returns the stored number of a kind.
fn number(kind: wire::RecordKind) -> u8 {
    u8::try_from(i32::from(kind)).expect("invariant: the kinds fit a byte")
}

/// Encodes changes, in the order in which they were decided, as a log entry.
///
/// Large submissions are returned as blobs; everything else is in the payload.
#[must_use]
pub fn encode_batch(changes: &[(Timestamp, Change)]) -> Encoded {
    let mut encoder = encode::Encoder::with_capacity(changes.len());
    for (at, change) in changes {
        encoder.push(*at, change);
    }
    let (message, blobs) = encoder.finish();
    Encoded { payload: frame::seal(Document::Batch, &message), blobs }
}

/// Decodes a log entry. `fetch` returns the content of a blob; see [`blob_names`].
///
/// Unknown optional records are skipped.
///
/// # Errors
///
/// Returns the errors of `fetch`, or a [`CodecError`] if the bytes are not a log entry or were
/// written by a newer version.
pub fn decode_batch(
    payload: &[u8],
    fetch: impl FnMut(&str) -> Result<Bytes, CodecError>,
) -> Result<Vec<(Timestamp, Change)>, CodecError> {
    decode::decode(frame::open(Document::Batch, payload)?, fetch)
}

/// Returns the names of the blobs that [`decode_batch`] will fetch, without duplicates.
///
/// # Errors
///
/// Returns an error if the bytes are not an entry of the log.
pub fn blob_names(payload: &[u8]) -> Result<Vec<String>, CodecError> {
    let message: wire::Batch = frame::open(Document::Batch, payload)?;
    let mut names = BTreeSet::new();
    for detail in message.details {
        match detail.of {
            Some(Of::Submitted(reference)) => names.extend(submission::names(&reference)),
            Some(Of::Restored(entry)) => names.extend(RunEntry::from_wire(entry)?.blob_names()),
            _ => {}
        }
    }
    Ok(names.into_iter().collect())
}
