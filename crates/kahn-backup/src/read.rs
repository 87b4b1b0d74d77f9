//! Reads a backup: to check it, or to restore it.

use std::mem;

use kahn_blob::{BlobStore, Key};
use kahn_model::Partition;
use kahn_store::{Import, Record, RecordDecoder};

use crate::error::BackupError;
use crate::manifest::{Counts, MANIFEST, MANIFEST_BYTES_MAX, Manifest, Part, PartitionInfo};
use crate::replay::Replay;
use crate::write::sha256;

/// Bytes of records that are written to a store at a time.
const BATCH_BYTES: usize = 1 << 20;
/// Records that are written to a store at a time.
const BATCH_RECORDS: usize = 500;

/// A complete backup.
#[derive(Debug)]
pub struct Reader {
    store: BlobStore,
    manifest: Manifest,
}

impl Reader {
    /// Opens the backup in a store that has nothing else: its URL is that of the backup.
    ///
    /// # Errors
    ///
    /// Returns [`BackupError::Missing`] if there is no complete backup, and other errors if the
    /// manifest cannot be read or is of a newer version.
    pub async fn open(store: BlobStore) -> Result<Self, BackupError> {
        let key = key(&store, MANIFEST)?;
        let bytes = store.get_range(&key, 0..MANIFEST_BYTES_MAX).await?;
        let bytes = bytes.ok_or_else(|| BackupError::Missing(store.url().to_owned()))?;
        let manifest = Manifest::parse(&bytes, store.url())?;
        Ok(Self { store, manifest })
    }

    /// Returns what the backup consists of.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Reads everything, and builds the state of each partition from it. `progress` is told how many
    /// bytes were read in addition.
    ///
    /// # Errors
    ///
    /// Returns an error that names the first part or partition that is damaged.
    pub async fn check(&self, mut progress: impl FnMut(u64)) -> Result<Counts, BackupError> {
        let mut all = Counts::default();
        let partitions = self.manifest.meta().partitions;
        for (partition, info) in self.partitions() {
            let mut replay = Replay::new(partition, partitions);
            let mut records = self.records(partition, info);
            while let Some(record) = records.next(&mut progress).await? {
                replay.take(record)?;
            }
            all = all.plus(replay.finish()?.1);
        }
        Ok(all)
    }

    /// Writes everything to an empty store, and completes it. Check the backup first, so that one
    /// that is damaged leaves nothing behind.
    ///
    /// # Errors
    ///
    /// Returns an error if a part is damaged, or if the store did not confirm a write.
    pub async fn restore(
        &self,
        import: &dyn Import,
        mut progress: impl FnMut(u64),
    ) -> Result<(), BackupError> {
        for (partition, info) in self.partitions() {
            let mut records = self.records(partition, info);
            let (mut batch, mut size) = (Vec::new(), 0);
            while let Some(record) = records.next(&mut progress).await? {
                size += record.size();
                batch.push(record);
                if BATCH_BYTES <= size || BATCH_RECORDS <= batch.len() {
                    import.write(partition, mem::take(&mut batch)).await?;
                    size = 0;
                }
            }
            import.write(partition, batch).await?;
        }
        Ok(import.complete().await?)
    }

    fn partitions(&self) -> impl Iterator<Item = (Partition, &PartitionInfo)> {
        (0..).map(Partition).zip(&self.manifest.partitions)
    }

    fn records<'a>(&'a self, partition: Partition, info: &'a PartitionInfo) -> Records<'a> {
        let bytes = info.parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.bytes));
        let (backup, decoder) = (self, RecordDecoder::new(bytes));
        Records { backup, partition, parts: info.parts.iter(), decoder }
    }

    async fn part(&self, part: &Part) -> Result<bytes::Bytes, BackupError> {
        let damaged = |reason: String| BackupError::Damaged {
            part: part.name.clone(),
            url: self.store.url().to_owned(),
            reason,
        };
        let key = key(&self.store, &part.name)?;
        let content = self.store.get_range(&key, 0..part.bytes).await?;
        let content = content.ok_or_else(|| damaged("it does not exist".to_owned()))?;
        let found = sha256(&content);
        if u64::try_from(content.len()).ok() != Some(part.bytes) {
            let n = content.len();
            return Err(damaged(format!("it has {n} bytes instead of {}", part.bytes)));
        }
        if found != part.sha256 {
            let wanted = &part.sha256;
            return Err(damaged(format!("its SHA-256 is {found} and not {wanted}")));
        }
        Ok(content)
    }
}

fn key(store: &BlobStore, name: &str) -> Result<Key, BackupError> {
    let invalid = |error: kahn_blob::InvalidKey| BackupError::Manifest {
        url: store.url().to_owned(),
        reason: error.to_string(),
    };
    Key::new(name).map_err(invalid)
}

/// The records of one partition.
struct Records<'a> {
    backup: &'a Reader,
    partition: Partition,
    parts: std::slice::Iter<'a, Part>,
    decoder: RecordDecoder,
}

impl Records<'_> {
    async fn next(
        &mut self,
        progress: &mut impl FnMut(u64),
    ) -> Result<Option<Record>, BackupError> {
        let partition = self.partition;
        let flawed = |error: kahn_store::RecordError| BackupError::Partition {
            partition,
            flaw: error.into(),
        };
        loop {
            if let Some(record) = self.decoder.next_record().map_err(flawed)? {
                return Ok(Some(record));
            }
            let Some(part) = self.parts.next() else {
                let rest = mem::replace(&mut self.decoder, RecordDecoder::new(0));
                return rest.finish().map_err(flawed).map(|()| None);
            };
            let content = self.backup.part(part).await?;
            progress(part.bytes);
            self.decoder.push(&content).map_err(flawed)?;
        }
    }
}
