//! One entry of the log: changes in order, by columns.
//!
//! A column for each part that frequent changes have, so that one of them costs a few bytes and no
//! allocation. What only rare changes have goes into a list of details. Ids are written once and
//! referred to by position; times, tasks and serials are written as steps.

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
use super::{CodecError, Encoded, submission};

/// Kinds from here on are optional: a reader that does not know one passes over it.
const OPTIONAL_FROM: u8 = 128;

/// The number of a kind as it is stored.
fn number(kind: wire::RecordKind) -> u8 {
    u8::try_from(i32::from(kind)).expect("invariant: the kinds fit a byte")
}

/// The entry of the log for changes in the order in which they were decided.
///
/// Large submissions come back as blobs, everything else is in the payload.
#[must_use]
pub fn encode_batch(changes: &[(Timestamp, Change)]) -> Encoded {
    let mut encoder = encode::Encoder::with_capacity(changes.len());
    for (at, change) in changes {
        encoder.push(*at, change);
    }
    let (message, blobs) = encoder.finish();
    Encoded { payload: frame::seal(Document::Batch, &message), blobs }
}

/// Reads an entry of the log. `fetch` gives the content of a blob; see [`blob_names`].
///
/// Optional records that are not known here are left out.
///
/// # Errors
///
/// Those of `fetch`; otherwise [`CodecError`] says why the bytes are not an entry, or that a newer
/// version wrote it.
pub fn decode_batch(
    payload: &[u8],
    fetch: impl FnMut(&str) -> Result<Bytes, CodecError>,
) -> Result<Vec<(Timestamp, Change)>, CodecError> {
    decode::decode(frame::open(Document::Batch, payload)?, fetch)
}

/// The blobs that [`decode_batch`] will ask for, each once.
///
/// # Errors
///
/// When the bytes are not an entry of the log.
pub fn blob_names(payload: &[u8]) -> Result<Vec<String>, CodecError> {
    let message: wire::Batch = frame::open(Document::Batch, payload)?;
    let mut names = BTreeSet::new();
    for detail in &message.details {
        if let Some(Of::Submitted(reference)) = &detail.of {
            names.extend(submission::names(reference));
        }
    }
    Ok(names.into_iter().collect())
}
