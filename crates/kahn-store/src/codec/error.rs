//! Errors of decoding.

use kahn_proto::convert::ConvertError;

use super::FORMAT_VERSION;

/// Why a document or a blob cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not the expected kind of document, or not a document at all.
    #[error("not a valid {expected}")]
    NotA {
        /// The expected kind.
        expected: &'static str,
    },
    /// The document has a newer format.
    #[error(
        "the log was written by a newer version: its format is {found}, and this version knows \
         formats up to {known}",
        known = FORMAT_VERSION
    )]
    NewerFormat {
        /// The format.
        found: u8,
    },
    /// The document contains a required record of an unknown kind.
    #[error("the log was written by a newer version: record kind {kind} is unknown")]
    NewerKind {
        /// The number of the kind.
        kind: u8,
    },
    /// The document is too short or too long.
    #[error("{found} bytes follow the header instead of {expected}")]
    Length {
        /// The number of bytes found.
        found: usize,
        /// The number of bytes according to the header.
        expected: usize,
    },
    /// The message is not valid protobuf.
    #[error("malformed message: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A field has an invalid value.
    #[error(transparent)]
    Invalid(#[from] ConvertError),
    /// A column has fewer entries than the records need.
    #[error("column {column} has too few entries")]
    ColumnShort {
        /// The name of the column.
        column: &'static str,
    },
    /// A column has more entries than the records need.
    #[error("column {column} has too many entries")]
    ColumnLong {
        /// The name of the column.
        column: &'static str,
    },
    /// The content of an archive is not what was stored.
    #[error("the content of the archive is not what was stored")]
    DamagedArchive,
    /// Parts of one document contradict each other.
    #[error("{0}")]
    Inconsistent(&'static str),
    /// A blob that the document refers to does not exist.
    #[error("blob {0} is missing")]
    MissingBlob(String),
    /// The content of a blob does not match its name.
    #[error("the content of blob {0} does not match its name")]
    DamagedBlob(String),
}
