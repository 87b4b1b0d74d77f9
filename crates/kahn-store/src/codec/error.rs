//! Why bytes are not what they should be.

use kahn_proto::convert::ConvertError;

use super::FORMAT_VERSION;

/// Why a document or a blob cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// It is not the kind of document that was expected, or none at all.
    #[error("these bytes are no {expected}")]
    NotA {
        /// What was expected.
        expected: &'static str,
    },
    /// It has a later format.
    #[error(
        "the log was written by a newer version: its format is {found}, and this version knows \
         formats up to {known}",
        known = FORMAT_VERSION
    )]
    NewerFormat {
        /// The format.
        found: u8,
    },
    /// It holds a record that may not be passed over and is not known here.
    #[error("the log was written by a newer version: record kind {kind} is not known here")]
    NewerKind {
        /// The number of the kind.
        kind: u8,
    },
    /// It ends too early or too late.
    #[error("{found} bytes follow the header, which says {expected}")]
    Length {
        /// How many there are.
        found: usize,
        /// How many the header says.
        expected: usize,
    },
    /// It is not protobuf.
    #[error("malformed message: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A field does not hold what it should.
    #[error(transparent)]
    Invalid(#[from] ConvertError),
    /// A column has fewer entries than the records need.
    #[error("column {column} ends too early")]
    ColumnShort {
        /// Which column.
        column: &'static str,
    },
    /// A column has more entries than the records need.
    #[error("column {column} has entries to spare")]
    ColumnLong {
        /// Which column.
        column: &'static str,
    },
    /// Parts of one document contradict each other.
    #[error("{0}")]
    Inconsistent(&'static str),
    /// A blob that the document refers to is not there.
    #[error("blob {0} is missing")]
    MissingBlob(String),
    /// A blob does not hold what its name says.
    #[error("blob {0} does not hold what its name says")]
    DamagedBlob(String),
}
