//! Content stored outside a document, in content-addressed pieces.

use bytes::{Bytes, BytesMut};
use kahn_proto::storage as wire;
use sha2::{Digest, Sha256};

use super::CodecError;

/// The largest blob, in bytes.
pub const PIECE_BYTES_MAX: usize = 1 << 20;

const HASH_BYTES: usize = 16;

/// Splits `content` into pieces and adds the new ones to `blobs`.
pub(super) fn put(content: &Bytes, blobs: &mut Vec<(String, Bytes)>) -> wire::BlobRef {
    let mut pieces = BytesMut::with_capacity(content.len().div_ceil(PIECE_BYTES_MAX) * HASH_BYTES);
    for start in (0..content.len()).step_by(PIECE_BYTES_MAX) {
        let piece = content.slice(start..content.len().min(start + PIECE_BYTES_MAX));
        let hash = hash(&piece);
        pieces.extend_from_slice(&hash);
        let name = name(&hash);
        if blobs.iter().all(|(known, _)| *known != name) {
            blobs.push((name, piece));
        }
    }
    let length = u64::try_from(content.len()).expect("invariant: u64 holds usize");
    wire::BlobRef { pieces: pieces.freeze(), length }
}

/// Fetches the pieces and joins them.
pub(super) fn get(
    blob: &wire::BlobRef,
    fetch: &mut impl FnMut(&str) -> Result<Bytes, CodecError>,
) -> Result<Bytes, CodecError> {
    let (hashes, rest) = blob.pieces.as_chunks::<HASH_BYTES>();
    if !rest.is_empty() {
        return Err(CodecError::Inconsistent("the name of a piece is incomplete"));
    }
    if let [hash] = hashes {
        return check_length(blob, fetch_piece(hash, fetch)?);
    }
    let mut content = BytesMut::new();
    for hash in hashes {
        content.extend_from_slice(&fetch_piece(hash, fetch)?);
    }
    check_length(blob, content.freeze())
}

fn fetch_piece(
    hash: &[u8; HASH_BYTES],
    fetch: &mut impl FnMut(&str) -> Result<Bytes, CodecError>,
) -> Result<Bytes, CodecError> {
    let name = name(hash);
    let piece = fetch(&name)?;
    if self::hash(&piece) == *hash { Ok(piece) } else { Err(CodecError::DamagedBlob(name)) }
}

fn check_length(blob: &wire::BlobRef, content: Bytes) -> Result<Bytes, CodecError> {
    let found = u64::try_from(content.len()).expect("invariant: u64 holds usize");
    if found == blob.length {
        return Ok(content);
    }
    Err(CodecError::Inconsistent("the pieces and their reference differ in length"))
}

/// Iterates over the names of the pieces. An incomplete trailing digest is ignored.
pub(super) fn names(blob: &wire::BlobRef) -> impl Iterator<Item = String> + '_ {
    blob.pieces.as_chunks::<HASH_BYTES>().0.iter().map(name)
}

/// Returns the name of a piece with this content.
pub(super) fn name_of(content: &[u8]) -> String {
    name(&hash(content))
}

fn name(hash: &[u8; HASH_BYTES]) -> String {
    use std::fmt::Write as _;
    let mut name = String::with_capacity("content/".len() + 2 * HASH_BYTES);
    name.push_str("content/");
    for byte in hash {
        write!(name, "{byte:02x}").expect("invariant: a string takes any text");
    }
    name
}

/// Returns the first half of the SHA-256 of a content.
pub(super) fn hash(content: &[u8]) -> [u8; HASH_BYTES] {
    let digest = Sha256::digest(content);
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(&digest[..HASH_BYTES]);
    hash
}
