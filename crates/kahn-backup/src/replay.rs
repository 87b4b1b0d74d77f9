//! Builds the state of a partition from its records, to find out whether that is possible.

use std::collections::BTreeMap;

use bytes::Bytes;
use kahn_core::log::Head;
use kahn_core::{Core, Settings};
use kahn_model::Partition;
use kahn_store::codec::{self, CodecError};
use kahn_store::{Record, link};

use crate::error::{BackupError, Flaw};
use crate::manifest::Counts;

/// The state of a partition, as far as its records have come.
#[derive(Debug)]
pub(crate) struct Replay {
    partition: Partition,
    core: Core,
    blobs: BTreeMap<String, Bytes>,
    head: Head,
    is_empty: bool,
    has_ended: bool,
}

impl Replay {
    pub(crate) fn new(partition: Partition, partitions: u16) -> Self {
        Self {
            partition,
            core: Core::new(Settings { partitions, ..Settings::default() }),
            blobs: BTreeMap::new(),
            head: Head::GENESIS,
            is_empty: true,
            has_ended: false,
        }
    }

    /// Takes the next record.
    pub(crate) fn take(&mut self, record: Record) -> Result<(), BackupError> {
        let taken = self.try_take(record);
        taken.map_err(|flaw| BackupError::Partition { partition: self.partition, flaw })
    }

    fn try_take(&mut self, record: Record) -> Result<(), Flaw> {
        if self.has_ended {
            return Err(Flaw::End);
        }
        match record {
            Record::Blob { name, bytes } => drop(self.blobs.insert(name, bytes)),
            Record::Checkpoint { head, manifest } => self.restore(head, &manifest)?,
            Record::Entry { head, payload } => self.replay(head, &payload)?,
            Record::End(end) if end.head == self.head => self.has_ended = true,
            Record::End(_) => return Err(Flaw::End),
        }
        Ok(())
    }

    fn restore(&mut self, head: Head, manifest: &[u8]) -> Result<(), Flaw> {
        if !self.is_empty {
            return Err(Flaw::Order);
        }
        let snapshot = codec::decode_snapshot(manifest, |name| self.blob(name));
        self.core.restore(snapshot.map_err(|source| Flaw::Document { seq: head.seq, source })?);
        self.is_empty = false;
        self.head = head;
        Ok(())
    }

    fn replay(&mut self, head: Head, payload: &[u8]) -> Result<(), Flaw> {
        let is_next = self.head.seq.checked_add(1) == Some(head.seq);
        if !is_next || head.hash != link(self.head.hash, payload) {
            return Err(Flaw::Chain(head.seq));
        }
        let changes = codec::decode_batch(payload, |name| self.blob(name));
        let changes = changes.map_err(|source| Flaw::Document { seq: head.seq, source })?;
        for (at, change) in changes {
            self.core.replay(at, &change);
        }
        self.is_empty = false;
        self.head = head;
        Ok(())
    }

    fn blob(&self, name: &str) -> Result<Bytes, CodecError> {
        let found = self.blobs.get(name).cloned();
        found.ok_or_else(|| CodecError::MissingBlob(name.to_owned()))
    }

    /// Checks that the end has come. Returns the number of the last entry, and what there is.
    pub(crate) fn finish(self) -> Result<(u64, Counts), BackupError> {
        if !self.has_ended {
            return Err(BackupError::Partition { partition: self.partition, flaw: Flaw::End });
        }
        let mut counts = Counts::default();
        for run in self.core.state().runs() {
            match run.state.is_terminal() {
                true => counts.finished_runs += 1,
                false => counts.live_runs += 1,
            }
            counts.tasks += u64::try_from(run.dag.n_tasks()).unwrap_or(u64::MAX);
        }
        counts.archived_runs = u64::try_from(self.core.state().n_archived()).unwrap_or(u64::MAX);
        Ok((self.head.seq, counts))
    }
}
