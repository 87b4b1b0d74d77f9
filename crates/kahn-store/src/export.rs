//! Reads everything from which the state of a partition can be built, for a backup.
//!
//! The owner goes on writing meanwhile. What is returned is a prefix of its log: the checkpoint, the
//! entries after it up to the head that was found at first, and the blobs to which these refer.
//! Leases, terms and blobs that nothing refers to are left out.

use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use kahn_core::log::Head;
use kahn_model::Partition;

use crate::chain::link;
use crate::codec::{self, CodecError};
use crate::error::StoreError;
use crate::record::{Position, Record};
use crate::store::LogStore;

/// Payload bytes requested at a time. A store that does one thing at a time is not kept for long.
const PAGE_BYTES: usize = 1 << 20;

/// Why a partition cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A checkpoint has replaced what was being read, or the store has lost the tail of the log.
    /// Beginning again may succeed.
    #[error("partition {partition} has changed while it was read, at entry {seq}")]
    Changed {
        /// The partition.
        partition: Partition,
        /// The first entry that could not be read.
        seq: u64,
    },
    /// The store returned an error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document cannot be decoded.
    #[error("partition {partition}, entry {seq}: {source}")]
    Document {
        /// The partition.
        partition: Partition,
        /// The number of the entry, or that of the last one that the checkpoint covers.
        seq: u64,
        /// The error.
        source: CodecError,
    },
}

/// The export of one partition.
#[derive(Debug)]
pub struct Export {
    store: Arc<dyn LogStore>,
    partition: Partition,
    /// Where it ends.
    end: Position,
    /// Up to where the log was read.
    at: Head,
    ahead: VecDeque<Next>,
    /// The blobs that were or will be returned.
    named: BTreeSet<String>,
    has_ended: bool,
}

/// What is returned next.
#[derive(Debug)]
enum Next {
    /// A blob, which has to be read first.
    Blob(String),
    Record(Record),
}

impl Export {
    /// Begins to read a partition. Everything that is durable now will be part of it.
    ///
    /// # Errors
    ///
    /// Returns an error if the store cannot be reached, or if its checkpoint cannot be decoded.
    pub async fn begin(
        store: Arc<dyn LogStore>,
        partition: Partition,
    ) -> Result<Self, ExportError> {
        let end = store.position(partition).await?;
        let checkpoint = store.load_checkpoint(partition).await?;
        let mut export = Self {
            store,
            partition,
            end,
            at: Head::GENESIS,
            ahead: VecDeque::new(),
            named: BTreeSet::new(),
            has_ended: false,
        };
        if let Some((head, manifest)) = checkpoint {
            export.take_checkpoint(head, manifest)?;
        }
        Ok(export)
    }

    /// Returns the next record, or `None` after the end.
    ///
    /// # Errors
    ///
    /// Returns [`ExportError::Changed`] if the rest does not exist any more, and other errors if the
    /// store cannot be reached or is damaged. The export cannot be continued after an error.
    pub async fn next(&mut self) -> Result<Option<Record>, ExportError> {
        loop {
            match self.ahead.pop_front() {
                Some(Next::Record(record)) => return Ok(Some(record)),
                Some(Next::Blob(name)) => return self.blob(name).await.map(Some),
                None if self.at.seq < self.end.head.seq => self.read().await?,
                None if self.at != self.end.head => return Err(self.changed()),
                None if mem::replace(&mut self.has_ended, true) => return Ok(None),
                None => return Ok(Some(Record::End(self.end))),
            }
        }
    }

    fn take_checkpoint(&mut self, head: Head, manifest: Bytes) -> Result<(), ExportError> {
        let names = codec::snapshot_blob_names(&manifest);
        self.expect(names.map_err(|source| self.document(head.seq, source))?);
        self.ahead.push_back(Next::Record(Record::Checkpoint { head, manifest }));
        self.at = head;
        // It may have been taken after the head was read.
        if self.end.head.seq < head.seq {
            self.end.head = head;
        }
        Ok(())
    }

    /// Reads the next page of the log.
    async fn read(&mut self) -> Result<(), ExportError> {
        let page = self.store.read(self.partition, self.at.seq, PAGE_BYTES).await?;
        if page.is_empty() {
            return Err(self.changed());
        }
        for (head, payload) in page {
            if self.at.seq == self.end.head.seq {
                break;
            }
            if head.seq != self.at.seq + 1 || head.hash != link(self.at.hash, &payload) {
                return Err(self.changed());
            }
            let names = codec::blob_names(&payload);
            self.expect(names.map_err(|source| self.document(head.seq, source))?);
            self.ahead.push_back(Next::Record(Record::Entry { head, payload }));
            self.at = head;
        }
        Ok(())
    }

    fn expect(&mut self, names: Vec<String>) {
        for name in names {
            if self.named.insert(name.clone()) {
                self.ahead.push_back(Next::Blob(name));
            }
        }
    }

    async fn blob(&self, name: String) -> Result<Record, ExportError> {
        // A blob is removed only after a checkpoint has made it superfluous.
        let bytes = self.store.get_blob(self.partition, &name).await?;
        bytes.map(|bytes| Record::Blob { name, bytes }).ok_or_else(|| self.changed())
    }

    fn changed(&self) -> ExportError {
        ExportError::Changed { partition: self.partition, seq: self.at.seq.saturating_add(1) }
    }

    fn document(&self, seq: u64, source: CodecError) -> ExportError {
        ExportError::Document { partition: self.partition, seq, source }
    }
}
