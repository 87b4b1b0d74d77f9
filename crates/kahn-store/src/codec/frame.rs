//! The header of a document: a magic number, its kind, its format and its length.

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::CodecError;

/// The newest format version. All versions up to it can be read. A document is written in the oldest
/// one that has what it needs, so that an earlier version of Kahn can read it if possible.
///
/// Format 2 has archived runs in checkpoints.
pub const FORMAT_VERSION: u8 = 2;

/// The format of documents that need nothing newer.
const FIRST_FORMAT: u8 = 1;

const MARK: u8 = b'K';
const HEADER_BYTES: usize = 3;

/// The kind of a document. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Document {
    Batch = 1,
    Submission = 2,
    Picture = 3,
    Manifest = 4,
    ArchivedRuns = 5,
    Archive = 6,
}

impl Document {
    fn as_str(self) -> &'static str {
        match self {
            Self::Batch => "batch of changes",
            Self::Submission => "submission",
            Self::Picture => "picture of a run",
            Self::Manifest => "checkpoint",
            Self::ArchivedRuns => "list of archived runs",
            Self::Archive => "archive of a run",
        }
    }
}

pub(super) fn seal(document: Document, message: &impl Message) -> Bytes {
    seal_as(FIRST_FORMAT, document, message)
}

/// Seals a document in a format that is not the first.
pub(super) fn seal_as(format: u8, document: Document, message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out =
        BytesMut::with_capacity(HEADER_BYTES + prost::length_delimiter_len(length) + length);
    out.extend_from_slice(&[MARK, document as u8, format]);
    prost::encode_length_delimiter(length, &mut out).expect("invariant: the buffer grows");
    message.encode_raw(&mut out);
    out.freeze()
}

pub(super) fn open<M: Message + Default>(
    document: Document,
    bytes: &[u8],
) -> Result<M, CodecError> {
    let [MARK, kind, format, rest @ ..] = bytes else {
        return Err(CodecError::NotA { expected: document.as_str() });
    };
    if *kind != document as u8 || *format == 0 {
        return Err(CodecError::NotA { expected: document.as_str() });
    }
    if *format > FORMAT_VERSION {
        return Err(CodecError::NewerFormat { found: *format });
    }
    let mut body = rest;
    let expected = prost::decode_length_delimiter(&mut body)?;
    if body.len() != expected {
        return Err(CodecError::Length { found: body.len(), expected });
    }
    Ok(M::decode(body)?)
}
