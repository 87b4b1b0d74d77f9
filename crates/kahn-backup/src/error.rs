//! Errors of backups.

use kahn_blob::BlobError;
use kahn_model::Partition;
use kahn_store::codec::CodecError;
use kahn_store::{RecordError, StoreError};

/// Why a backup cannot be written, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The blob store returned an error.
    #[error(transparent)]
    Blob(Box<BlobError>),
    /// There is no complete backup.
    #[error(
        "there is no complete backup in {0}: manifest.json, which is written last, does not exist; \
         `kahn backup` prints where it has written a backup"
    )]
    Missing(String),
    /// The manifest cannot be read.
    #[error("manifest.json of the backup in {url} cannot be read: {reason}")]
    Manifest {
        /// The URL of the backup.
        url: String,
        /// The reason.
        reason: String,
    },
    /// The backup has a newer format.
    #[error(
        "the backup in {url} has format {found}, and this version of kahn reads formats up to \
         {known}: use the version that has written it ({version}) or a later one"
    )]
    NewerFormat {
        /// The URL of the backup.
        url: String,
        /// The format.
        found: u32,
        /// The latest known format.
        known: u32,
        /// The version of the coordinator that was backed up.
        version: String,
    },
    /// A part is not what was written.
    #[error("part {part} of the backup in {url} is damaged: {reason}")]
    Damaged {
        /// The name of the object.
        part: String,
        /// The URL of the backup.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The records of a partition are not the state of a partition.
    #[error("partition {partition}: {flaw}")]
    Partition {
        /// The partition.
        partition: Partition,
        /// What is wrong.
        flaw: Flaw,
    },
    /// The store into which it is restored returned an error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster that is backed up is another one than at the beginning.
    #[error("cluster {found} answers now, and not cluster {wanted}, of which the backup is")]
    OtherCluster {
        /// The cluster that answers.
        found: String,
        /// The cluster from before.
        wanted: String,
    },
    /// There is something where the backup would be written.
    #[error("there is a backup in {0} already")]
    Exists(String),
}

impl From<BlobError> for BackupError {
    fn from(error: BlobError) -> Self {
        Self::Blob(Box::new(error))
    }
}

/// Why records are not the state of a partition.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// The bytes are not records.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A document cannot be decoded.
    #[error("entry {seq}: {source}")]
    Document {
        /// The number of the entry, or that of the last one that a checkpoint covers.
        seq: u64,
        /// The error.
        source: CodecError,
    },
    /// An entry does not continue the chain.
    #[error("the chain of the log is broken at entry {0}")]
    Chain(u64),
    /// The checkpoint does not come first.
    #[error("there is a checkpoint where none can be")]
    Order,
    /// Records follow the end, or the end is missing.
    #[error("the end of the partition is not where the records end")]
    End,
}
