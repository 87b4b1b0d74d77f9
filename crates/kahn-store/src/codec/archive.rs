//! Archives: documents with everything about one run, which are stored outside of the log.

use std::collections::BTreeMap;

use bytes::Bytes;
use kahn_core::{ArchiveRef, RunSnapshot};
use kahn_proto::convert::ConvertError;
use kahn_proto::storage as wire;

use super::frame::{self, Document};
use super::snapshot::{RunEntry, decode_run, encode_run};
use super::{CodecError, blob};

/// Encodes everything about a run. The same run gives the same document.
#[must_use]
pub fn encode_archive(run: &RunSnapshot) -> (ArchiveRef, Bytes) {
    let (entry, blobs) = encode_run(run, None);
    let pieces = blobs.into_iter().map(|(_, piece)| piece).collect();
    let message = wire::RunArchive { entry: Some(entry.into_wire()), pieces };
    let document = frame::seal(Document::Archive, &message);
    (reference(&document), document)
}

/// Decodes a document that [`encode_archive`] has returned with this reference.
///
/// # Errors
///
/// Returns a [`CodecError`] if it is another document, or was written by a newer version.
pub fn decode_archive(archive: ArchiveRef, document: &[u8]) -> Result<RunSnapshot, CodecError> {
    if reference(document) != archive {
        return Err(CodecError::DamagedArchive);
    }
    let message: wire::RunArchive = frame::open(Document::Archive, document)?;
    let entry = message.entry.ok_or(ConvertError::Missing { field: "run_archive.entry" })?;
    let pieces = message.pieces.into_iter().map(|piece| (blob::name_of(&piece), piece));
    let pieces: BTreeMap<String, Bytes> = pieces.collect();
    let missing = |name: &str| CodecError::MissingBlob(name.to_owned());
    let mut fetch = |name: &str| pieces.get(name).cloned().ok_or_else(|| missing(name));
    decode_run(&RunEntry::from_wire(entry)?, &mut fetch)
}

/// Returns the reference to a document.
pub(crate) fn reference(document: &[u8]) -> ArchiveRef {
    let bytes = u64::try_from(document.len()).expect("invariant: u64 holds usize");
    ArchiveRef { bytes, digest: blob::hash(document) }
}

pub(super) fn reference_to_wire(archive: ArchiveRef) -> wire::ArchiveRef {
    let digest = Bytes::copy_from_slice(&archive.digest);
    wire::ArchiveRef { bytes: archive.bytes, digest }
}

pub(super) fn reference_from_wire(archive: &wire::ArchiveRef) -> Result<ArchiveRef, CodecError> {
    let digest = digest_from_wire("archive_ref.digest", &archive.digest)?;
    Ok(ArchiveRef { bytes: archive.bytes, digest })
}

pub(super) fn digest_from_wire(
    field: &'static str,
    digest: &[u8],
) -> Result<[u8; 16], ConvertError> {
    let wrong_length = |_| ConvertError::Length { field, found: digest.len(), expected: 16 };
    digest.try_into().map_err(wrong_length)
}
