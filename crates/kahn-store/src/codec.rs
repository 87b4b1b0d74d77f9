//! Encodes changes and snapshots as bytes, for the log, its blobs and its checkpoints.
//!
//! A document is a short header with its kind and format, followed by a protobuf message of the
//! package `kahn.storage.v1`. Decoding returns exactly what was encoded. Any other bytes produce an
//! error. Large content is stored outside the document, in content-addressed blobs of at most
//! [`PIECE_BYTES_MAX`] bytes, which the caller stores and fetches.
//!
//! This module does no IO and does not check whether a change is valid in a state.

mod archive;
mod batch;
mod blob;
mod error;
mod frame;
mod snapshot;
mod submission;

use bytes::Bytes;

pub(crate) use archive::reference as archive_reference;
pub use archive::{decode_archive, encode_archive};
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

/// A document and the blobs that it refers to. The blobs must become durable no later than the
/// document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The document.
    pub payload: Bytes,
    /// Names and contents. Names are derived from the content, so an existing blob need not be
    /// written again.
    pub blobs: Vec<(String, Bytes)>,
}

impl From<Encoded> for Batch {
    fn from(Encoded { payload, blobs }: Encoded) -> Self {
        Self { payload, blobs }
    }
}
