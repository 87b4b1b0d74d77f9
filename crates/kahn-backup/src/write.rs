//! Writes a backup.

use bytes::{Bytes, BytesMut};
use kahn_blob::{BlobStore, Key};
use kahn_model::Partition;
use kahn_store::RecordDecoder;
use sha2::{Digest as _, Sha256};

use crate::error::BackupError;
use crate::manifest::{MANIFEST, Manifest, Part, PartitionInfo};
use crate::replay::Replay;

/// The size of a part. It has to be written within the time limit of an operation.
const PART_BYTES: usize = 8 << 20;
/// The most bytes of a partition: more than a coordinator can hold.
const PARTITION_BYTES_MAX: u64 = 1 << 40;

/// The cluster that is backed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its id, 32 hexadecimal digits.
    pub cluster: String,
    /// The number of its partitions.
    pub partitions: u16,
    /// The version of its coordinator.
    pub version: String,
}

/// A backup that is being written. Partitions follow one after the other.
#[derive(Debug)]
pub struct Writer {
    store: BlobStore,
    group: Key,
    source: Source,
    manifest: Manifest,
}

impl Writer {
    /// Begins a backup in a group of objects. `began_at` is the time, in RFC 3339.
    ///
    /// # Errors
    ///
    /// Returns an error if there is a backup in this group, or if the store cannot be read.
    pub async fn begin(
        store: BlobStore,
        group: Key,
        source: Source,
        began_at: String,
    ) -> Result<Self, BackupError> {
        let manifest = Manifest::new(source.cluster.clone(), source.version.clone(), began_at);
        let writer = Self { store, group, source, manifest };
        match writer.store.get(&writer.key(MANIFEST)?).await? {
            None => Ok(writer),
            Some(_) => Err(BackupError::Exists(writer.url())),
        }
    }

    /// Returns the URL of the backup, for [`Reader`](crate::Reader).
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/{}", self.store.url().trim_end_matches('/'), self.group)
    }

    /// Returns the cluster that is backed up.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Begins the next partition. May be called again for the same partition if it was not ended.
    ///
    /// # Errors
    ///
    /// Returns an error if `source` is another cluster than at the beginning.
    pub fn partition(&self, source: &Source) -> Result<PartitionWriter<'_>, BackupError> {
        let (found, wanted) = (&source.cluster, &self.source.cluster);
        if found != wanted || source.partitions != self.source.partitions {
            let (found, wanted) = (found.clone(), wanted.clone());
            return Err(BackupError::OtherCluster { found, wanted });
        }
        let number = u16::try_from(self.manifest.partitions.len()).unwrap_or(u16::MAX);
        let partition = Partition(number);
        Ok(PartitionWriter {
            backup: self,
            partition,
            replay: Replay::new(partition, source.partitions),
            decoder: RecordDecoder::new(PARTITION_BYTES_MAX),
            buffer: BytesMut::with_capacity(PART_BYTES),
            parts: Vec::new(),
        })
    }

    /// Adds a partition that was written.
    pub fn add(&mut self, partition: PartitionInfo) {
        self.manifest.partitions.push(partition);
    }

    /// Writes the manifest, with which the backup is complete. `ended_at` is the time, in RFC 3339.
    ///
    /// # Errors
    ///
    /// Returns an error if the store did not confirm it, or if there is a manifest already.
    pub async fn finish(mut self, ended_at: String) -> Result<Manifest, BackupError> {
        self.manifest.ended_at = ended_at;
        let url = self.url();
        let invalid = |error: serde_json::Error| BackupError::Manifest {
            url: url.clone(),
            reason: error.to_string(),
        };
        let bytes = serde_json::to_vec_pretty(&self.manifest).map_err(invalid)?;
        match self.store.put_if_absent(&self.key(MANIFEST)?, bytes.into()).await? {
            true => Ok(self.manifest),
            false => Err(BackupError::Exists(url)),
        }
    }

    fn key(&self, name: &str) -> Result<Key, BackupError> {
        let url = self.url();
        let invalid =
            |error: kahn_blob::InvalidKey| BackupError::Manifest { url, reason: error.to_string() };
        self.group.join(name).map_err(invalid)
    }
}

/// A partition that is being written. Its records are checked before the manifest names them.
#[derive(Debug)]
pub struct PartitionWriter<'a> {
    backup: &'a Writer,
    partition: Partition,
    replay: Replay,
    decoder: RecordDecoder,
    buffer: BytesMut,
    parts: Vec<Part>,
}

impl PartitionWriter<'_> {
    /// Writes the next bytes.
    ///
    /// # Errors
    ///
    /// Returns an error if a part cannot be written, or if the records are not those of a partition.
    pub async fn push(&mut self, piece: &[u8]) -> Result<(), BackupError> {
        self.check(piece)?;
        self.buffer.extend_from_slice(piece);
        while PART_BYTES <= self.buffer.len() {
            let part = self.buffer.split_to(PART_BYTES).freeze();
            self.put(part).await?;
        }
        Ok(())
    }

    /// Ends the partition.
    ///
    /// # Errors
    ///
    /// Returns an error if records are missing, or if the last part cannot be written.
    pub async fn end(mut self) -> Result<PartitionInfo, BackupError> {
        let part = self.buffer.split().freeze();
        if !part.is_empty() {
            self.put(part).await?;
        }
        let partition = self.partition;
        let flawed = |flaw| BackupError::Partition { partition, flaw };
        self.decoder.finish().map_err(|error| flawed(error.into()))?;
        let (seq, counts) = self.replay.finish()?;
        Ok(PartitionInfo { seq, counts, parts: self.parts })
    }

    fn check(&mut self, piece: &[u8]) -> Result<(), BackupError> {
        let partition = self.partition;
        let flawed = |error: kahn_store::RecordError| BackupError::Partition {
            partition,
            flaw: error.into(),
        };
        self.decoder.push(piece).map_err(flawed)?;
        while let Some(record) = self.decoder.next_record().map_err(flawed)? {
            self.replay.take(record)?;
        }
        Ok(())
    }

    async fn put(&mut self, content: Bytes) -> Result<(), BackupError> {
        let name = format!("{}/{:05}", self.partition, self.parts.len());
        let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
        self.parts.push(Part { name: name.clone(), bytes, sha256: sha256(&content) });
        let key = self.backup.key(&name)?;
        Ok(self.backup.store.put(&key, content).await?)
    }
}

/// Returns the SHA-256 in hexadecimal digits.
pub(crate) fn sha256(content: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(content).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
