//! What the log, its blobs and its checkpoints say: changes and snapshots as bytes.
//!
//! A document is a short header, which says what it is and in which format, and a protobuf message
//! of the package `kahn.storage.v1`. Whatever is encoded here is decoded here as it was; any other
//! bytes are refused without harm. What is large lies outside the document, in blobs of at most
//! [`PIECE_BYTES_MAX`] that are named after their content; the caller stores and fetches them.
//!
//! Nothing here does IO, and nothing here judges whether a change makes sense in a state.

mod batch;
mod blob;
mod error;
mod frame;
mod snapshot;
mod submission;

use bytes::Bytes;

pub use batch::{blob_names, decode_batch, encode_batch};
pub use blob::PIECE_BYTES_MAX;
pub use error::CodecError;
pub use frame::FORMAT_VERSION;
pub(crate) use snapshot::decode_picture;
pub use snapshot::{
    RunEntry, decode_snapshot, encode_manifest, encode_run, encode_snapshot, manifest_entries,
    snapshot_blob_names,
};
pub use submission::{INLINE_BYTES_MAX, decode_submission, encode_submission};

use crate::store::Batch;

/// A document with the blobs that it refers to. They must be durable no later than it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The document.
    pub payload: Bytes,
    /// Names and contents. A name says the content, so one that exists need not be written again.
    pub blobs: Vec<(String, Bytes)>,
}

impl From<Encoded> for Batch {
    fn from(Encoded { payload, blobs }: Encoded) -> Self {
        Self { payload, blobs }
    }
}
