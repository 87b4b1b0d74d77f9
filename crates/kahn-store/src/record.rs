//! The state of a partition as a list of records, which [`Export`](crate::Export) reads from one
//! store and [`Import`](crate::Import) writes to another.

use bytes::{Buf as _, Bytes, BytesMut};
use kahn_core::log::{Hash, Head};
use kahn_proto::storage as wire;
use prost::Message as _;
use wire::backup_record::Of;

/// Where the log of a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The head of the log.
    pub head: Head,
    /// The epoch of the latest term; 0 before the first.
    pub epoch: u64,
}

/// One record. Blobs come before the documents that refer to them, then the checkpoint, the entries
/// after it, and the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A blob.
    Blob {
        /// Its name.
        name: String,
        /// Its content.
        bytes: Bytes,
    },
    /// The checkpoint.
    Checkpoint {
        /// The head of the log that it covers.
        head: Head,
        /// The checkpoint itself.
        manifest: Bytes,
    },
    /// An entry of the log.
    Entry {
        /// The head of the log with this entry.
        head: Head,
        /// The entry itself.
        payload: Bytes,
    },
    /// The end of the partition.
    End(Position),
}

/// Why bytes are not records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A message is not valid protobuf.
    #[error("malformed record: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A record is of a kind that this version does not know.
    #[error("a record is of an unknown kind, and was probably written by a newer version of kahn")]
    UnknownKind,
    /// A hash does not have 16 bytes.
    #[error("a record has a hash of {0} bytes instead of 16")]
    HashLength(usize),
    /// The length of a record is not a number.
    #[error("the length of a record cannot be read")]
    Length,
    /// A record is longer than the bytes that can follow.
    #[error("a record has {found} bytes, and at most {max} can follow")]
    TooLong {
        /// Its length in bytes.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// The bytes end within a record.
    #[error("the last record is not complete")]
    Incomplete,
}

impl Record {
    /// Returns the size of its content, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Blob { bytes, .. } => bytes.len(),
            Self::Checkpoint { manifest, .. } => manifest.len(),
            Self::Entry { payload, .. } => payload.len(),
            Self::End(_) => 0,
        }
    }

    /// Encodes the record after its length.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let message = wire::BackupRecord { of: Some(self.to_wire()) };
        Bytes::from(message.encode_length_delimited_to_vec())
    }

    fn to_wire(&self) -> Of {
        match self {
            Self::Blob { name, bytes } => {
                Of::Blob(wire::BackupBlob { name: name.clone(), content: bytes.clone() })
            }
            Self::Checkpoint { head, manifest } => Of::Checkpoint(wire::BackupCheckpoint {
                head: Some(head_to_wire(*head)),
                manifest: manifest.clone(),
            }),
            Self::Entry { head, payload } => Of::Entry(wire::BackupEntry {
                head: Some(head_to_wire(*head)),
                payload: payload.clone(),
            }),
            Self::End(Position { head, epoch }) => {
                Of::End(wire::BackupEnd { head: Some(head_to_wire(*head)), epoch: *epoch })
            }
        }
    }

    fn from_wire(of: Of) -> Result<Self, RecordError> {
        Ok(match of {
            Of::Blob(wire::BackupBlob { name, content }) => Self::Blob { name, bytes: content },
            Of::Checkpoint(wire::BackupCheckpoint { head, manifest }) => {
                Self::Checkpoint { head: head_from_wire(head)?, manifest }
            }
            Of::Entry(wire::BackupEntry { head, payload }) => {
                Self::Entry { head: head_from_wire(head)?, payload }
            }
            Of::End(wire::BackupEnd { head, epoch }) => {
                Self::End(Position { head: head_from_wire(head)?, epoch })
            }
        })
    }
}

fn head_to_wire(head: Head) -> wire::LogHead {
    let hash = if head == Head::GENESIS { Bytes::new() } else { head.hash.0.to_vec().into() };
    wire::LogHead { seq: head.seq, hash }
}

fn head_from_wire(head: Option<wire::LogHead>) -> Result<Head, RecordError> {
    let wire::LogHead { seq, hash } = head.unwrap_or_default();
    if seq == 0 && hash.is_empty() {
        return Ok(Head::GENESIS);
    }
    let hash = hash.as_ref().try_into().map_err(|_| RecordError::HashLength(hash.len()))?;
    Ok(Head { seq, hash: Hash(hash) })
}

/// Decodes records from pieces of bytes.
#[derive(Debug)]
pub struct RecordDecoder {
    buffer: BytesMut,
    /// The number of bytes that can still come.
    bytes_left: u64,
}

impl RecordDecoder {
    /// Creates a decoder for at most `bytes_max` bytes in total, which also bounds the length of a
    /// record.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { buffer: BytesMut::new(), bytes_left: bytes_max }
    }

    /// Adds the next piece.
    ///
    /// # Errors
    ///
    /// Returns [`RecordError::TooLong`] if there are more bytes in total than agreed.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), RecordError> {
        let n = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        let too_long = RecordError::TooLong { found: n, max: self.bytes_left };
        self.bytes_left = self.bytes_left.checked_sub(n).ok_or(too_long)?;
        self.buffer.extend_from_slice(piece);
        Ok(())
    }

    /// Returns the next record, or `None` if it is not complete yet.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes are not a record.
    pub fn next_record(&mut self) -> Result<Option<Record>, RecordError> {
        let Some((prefix, length)) = self.length()? else { return Ok(None) };
        if self.buffer.len() - prefix < length {
            self.buffer.reserve(prefix + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(prefix);
        let message = wire::BackupRecord::decode(self.buffer.split_to(length).freeze())?;
        message.of.ok_or(RecordError::UnknownKind).and_then(Record::from_wire).map(Some)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    ///
    /// Returns [`RecordError::Incomplete`] if a record has begun.
    pub fn finish(self) -> Result<(), RecordError> {
        if self.buffer.is_empty() { Ok(()) } else { Err(RecordError::Incomplete) }
    }

    /// Returns the number of bytes of the length of the next record, and the length.
    fn length(&self) -> Result<Option<(usize, usize)>, RecordError> {
        /// The longest varint.
        const VARINT_BYTES_MAX: usize = 10;
        let mut rest = &self.buffer[..];
        let has_end = rest.iter().take(VARINT_BYTES_MAX).any(|byte| *byte < 0x80);
        if !has_end && rest.len() < VARINT_BYTES_MAX {
            return Ok(None);
        }
        let length = prost::encoding::decode_varint(&mut rest).map_err(|_| RecordError::Length)?;
        let prefix = self.buffer.len() - rest.len();
        let here = u64::try_from(rest.len()).unwrap_or(u64::MAX);
        let max = here.saturating_add(self.bytes_left);
        let too_long = RecordError::TooLong { found: length, max };
        match usize::try_from(length) {
            Ok(fits) if length <= max => Ok(Some((prefix, fits))),
            _ => Err(too_long),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let head = Head { seq: 300, hash: Hash([7; 16]) };
        vec![
            Record::Blob { name: "content/1".to_owned(), bytes: vec![1; 1000].into() },
            Record::Checkpoint { head, manifest: "manifest".into() },
            Record::Entry { head: Head { seq: 301, ..head }, payload: Bytes::new() },
            Record::End(Position { head: Head::GENESIS, epoch: 0 }),
            Record::End(Position { head, epoch: u64::MAX }),
        ]
    }

    fn decode(bytes: &[u8], piece: usize) -> Result<Vec<Record>, RecordError> {
        let mut decoder = RecordDecoder::new(u64::try_from(bytes.len()).unwrap());
        let mut found = Vec::new();
        for piece in bytes.chunks(piece) {
            decoder.push(piece)?;
            while let Some(record) = decoder.next_record()? {
                found.push(record);
            }
        }
        decoder.finish().map(|()| found)
    }

    #[test]
    fn records_survive_their_bytes_whatever_the_pieces() {
        let bytes: Vec<u8> = records().iter().flat_map(Record::encode).collect();
        for piece in [1, 2, 7, 1000, bytes.len()] {
            assert_eq!(decode(&bytes, piece).unwrap(), records());
        }
    }

    #[test]
    fn a_record_that_is_cut_is_noticed_at_the_end() {
        let bytes = records()[0].encode();
        let mut decoder = RecordDecoder::new(u64::MAX);
        decoder.push(&bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(decoder.next_record(), Ok(None));
        assert_eq!(decoder.finish(), Err(RecordError::Incomplete));
        // If no more bytes can come, it is noticed earlier.
        let cut = decode(&bytes[..bytes.len() - 1], 64);
        assert!(matches!(cut, Err(RecordError::TooLong { .. })), "{cut:?}");
    }

    #[test]
    fn bytes_that_are_no_records_are_refused_without_reserving_memory_for_them() {
        let long = [0xff, 0xff, 0xff, 0xff, 0x7f, 0];
        assert!(matches!(decode(&long, 6), Err(RecordError::TooLong { max: 1, .. })));
        assert_eq!(decode(&[0xff; 12], 12), Err(RecordError::Length));
        assert_eq!(decode(&[0], 1), Err(RecordError::UnknownKind));
        let short_hash = wire::BackupEnd {
            head: Some(wire::LogHead { seq: 1, hash: vec![1].into() }),
            epoch: 1,
        };
        let message = wire::BackupRecord { of: Some(Of::End(short_hash)) };
        let bytes = message.encode_length_delimited_to_vec();
        assert_eq!(decode(&bytes, 100), Err(RecordError::HashLength(1)));
        let mut decoder = RecordDecoder::new(1);
        assert!(decoder.push(&[1, 2]).is_err());
    }
}
