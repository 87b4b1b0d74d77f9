//! The driver's interface to the logs of all partitions: appends batches, reports progress, and
//! takes checkpoints.
//!
//! After each checkpoint, unreferenced blobs are removed. Since blobs are named by their content, a
//! new batch may refer to a blob that is being removed: such a batch waits until the removal is
//! finished, and then writes the blob again.

mod checkpoint;
mod partition;

use std::sync::Arc;
use std::time::Duration;

use kahn_core::Core;
use kahn_core::log::Term;
use kahn_model::{Partition, Timestamp};
use kahn_store::{AppendEvent, Appender, EndReason, LogStore, codec};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Ended;
use crate::election::FIRST;
use crate::holds::Holds;
use crate::inbox::{Input, Written};
use crate::stats::Stats;
use partition::{InFlight, OnePartition};

/// Log bytes after which a checkpoint is due, unless the last checkpoint was larger.
const CHECKPOINT_BYTES: u64 = 16 << 20;

/// Log bytes by which a checkpoint is late at most because somebody reads the log.
const HELD_BYTES_MAX: u64 = 64 << 20;

/// The consequence of a log event for the outbox.
pub(super) enum Progress {
    Committed { partition: Partition, number: u64 },
    Waiting,
    Ended(Ended),
}

/// The logs of all partitions.
pub(crate) struct Durable {
    store: Arc<dyn LogStore>,
    partitions: Vec<OnePartition>,
    inbox: mpsc::Sender<Input>,
    /// Log bytes after which a checkpoint is due, unless the last checkpoint was larger.
    checkpoint_after: u64,
    /// Until when nobody else can have been elected.
    leads_until: watch::Sender<Instant>,
    /// The partitions that are being read.
    holds: Holds,
}

impl Durable {
    /// Creates the interface without partitions. The first one was acquired by a request that was
    /// sent at `elected_at`.
    pub(crate) fn new(
        store: Arc<dyn LogStore>,
        inbox: mpsc::Sender<Input>,
        elected_at: Instant,
    ) -> Self {
        let leads_until = watch::Sender::new(elected_at + certain_lease(&*store));
        let checkpoint_after = CHECKPOINT_BYTES;
        let (partitions, holds) = (Vec::new(), Holds::default());
        Self { store, partitions, inbox, checkpoint_after, leads_until, holds }
    }

    /// Returns whether this coordinator certainly leads. Otherwise it may have been paused, or cut
    /// off from the store, and must neither answer nor decide that a worker is lost.
    pub(super) fn is_leading(&self) -> bool {
        Instant::now() < *self.leads_until.borrow()
    }

    /// Returns a receiver of the time until which this coordinator certainly leads.
    pub(crate) fn leads_until(&self) -> watch::Receiver<Instant> {
        self.leads_until.subscribe()
    }

    /// Returns the holds, which keep what is in the store of a partition.
    pub(crate) fn holds(&self) -> Holds {
        self.holds.clone()
    }

    /// Adds the next partition, which this coordinator owns under `term`.
    pub(crate) fn add(&mut self, term: Term, appender: Appender, log_bytes: u64) {
        self.partitions.push(OnePartition::new(term, appender, log_bytes));
    }

    pub(super) fn append(
        &mut self,
        batch: kahn_core::Batch,
        now: Timestamp,
        core: &Core,
        stats: &Stats,
    ) {
        let entry = &mut self.partitions[usize::from(batch.partition.0)];
        let encoded = codec::encode_batch(&batch.changes);
        let size = u64::try_from(encoded.payload.len()).unwrap_or(u64::MAX);
        stats.appended(batch.changes.len(), size);
        let encoded = kahn_store::Batch { payload: encoded.payload, blobs: encoded.blobs };
        // A checkpoint makes its blobs unnecessary, too.
        entry.grown += u64::try_from(encoded.size()).unwrap_or(u64::MAX);
        entry.named.extend(encoded.blobs.iter().map(|(name, _)| name.clone()));
        let is_swept = encoded.blobs.iter().any(|(name, _)| entry.sweeping.contains(name));
        if is_swept || !entry.held.is_empty() {
            entry.held.push_back((batch.number, now, encoded));
        } else {
            entry.push(batch.partition, batch.number, now, encoded);
        }
        let mut due = self.checkpoint_after.max(entry.checkpoint_bytes);
        if self.holds.is_held(batch.partition) {
            due = due.saturating_add(HELD_BYTES_MAX);
        }
        if due < entry.grown && !entry.is_checkpointing {
            self.take_checkpoint(batch.partition, core);
        }
    }

    /// Takes a snapshot right after a batch was closed. It covers the log up to that batch, and is
    /// written once the batch is durable.
    fn take_checkpoint(&mut self, partition: Partition, core: &Core) {
        let entry = &mut self.partitions[usize::from(partition.0)];
        let Some(InFlight { seq, .. }) = entry.in_flight.back().copied() else { return };
        entry.is_checkpointing = true;
        entry.grown = 0;
        entry.named.clear();
        let encoded = codec::encode_snapshot(&core.state().snapshot(partition));
        entry.pending = Some((seq, encoded));
    }

    pub(super) fn on_event(
        &mut self,
        now: Timestamp,
        event: AppendEvent,
        stats: &mut Stats,
    ) -> Progress {
        match event {
            AppendEvent::Committed { partition, through_seq } => {
                self.committed(now, partition, through_seq, stats)
            }
            AppendEvent::Troubled { partition, cause } => {
                warn!(%partition, cause, "the store accepts no batches; they are kept in memory");
                stats.store_troubled(partition, Some(&cause));
                Progress::Waiting
            }
            AppendEvent::Recovered { partition } => {
                info!(%partition, "the store accepts batches again");
                stats.store_troubled(partition, None);
                Progress::Waiting
            }
            AppendEvent::Renewed { partition, sent_at } => {
                if partition == FIRST {
                    self.leads_until.send_replace(sent_at + certain_lease(&*self.store));
                }
                Progress::Waiting
            }
            AppendEvent::TailLost { partition, missing } => {
                warn!(%partition, missing, "the store lost committed batches; appending again");
                stats.lost_tail(missing);
                Progress::Waiting
            }
            AppendEvent::Ended { partition, reason } => {
                info!(%partition, ?reason, "the term of this partition has ended");
                Progress::Ended(match reason {
                    EndReason::Fenced => Ended::Deposed,
                    EndReason::Diverged { .. } => Ended::Diverged,
                    EndReason::Closed => Ended::Closed,
                })
            }
        }
    }

    fn committed(
        &mut self,
        now: Timestamp,
        partition: Partition,
        through_seq: u64,
        stats: &Stats,
    ) -> Progress {
        let entry = &mut self.partitions[usize::from(partition.0)];
        let mut number = None;
        while let Some(batch) = entry.in_flight.front().copied()
            && batch.seq <= through_seq
        {
            entry.in_flight.pop_front();
            stats.committed(now.since(batch.handed_over_at));
            number = Some(batch.number);
        }
        if entry.pending.as_ref().is_some_and(|(seq, _)| *seq <= through_seq)
            && let Some((seq, encoded)) = entry.pending.take()
        {
            let term = entry.term;
            let store = Arc::clone(&self.store);
            let inbox = self.inbox.clone();
            tokio::spawn(checkpoint::write(store, partition, term, seq, encoded, inbox));
        }
        match number {
            Some(number) => Progress::Committed { partition, number },
            None => Progress::Waiting,
        }
    }

    pub(super) fn checkpointed(
        &mut self,
        partition: Partition,
        seq: u64,
        written: Option<Written>,
    ) {
        let entry = &mut self.partitions[usize::from(partition.0)];
        let Some(Written { bytes, unnamed }) = written else {
            entry.is_checkpointing = false;
            return;
        };
        entry.checkpoint_bytes = bytes;
        if let Err(error) = entry.appender.checkpointed(seq) {
            warn!(%partition, %error, "appender not notified of a checkpoint");
        }
        let unnamed = unnamed.into_iter().filter(|name| !entry.named.contains(name));
        entry.sweeping = unnamed.collect();
        // What is kept for a reader is found again after the next checkpoint.
        if entry.sweeping.is_empty() || self.holds.is_held(partition) {
            entry.sweeping.clear();
            entry.is_checkpointing = false;
            return;
        }
        let names = entry.sweeping.iter().cloned().collect();
        let (store, inbox) = (Arc::clone(&self.store), self.inbox.clone());
        tokio::spawn(checkpoint::sweep(store, partition, entry.term, names, inbox));
    }

    pub(super) fn swept(&mut self, partition: Partition) {
        let entry = &mut self.partitions[usize::from(partition.0)];
        entry.is_checkpointing = false;
        entry.sweeping.clear();
        for (number, handed_over_at, batch) in std::mem::take(&mut entry.held) {
            entry.push(partition, number, handed_over_at, batch);
        }
    }

    pub(super) async fn close(self) {
        // The first one last: whoever owns it is the leader.
        for entry in self.partitions.into_iter().rev() {
            entry.appender.close().await;
        }
    }
}

/// Returns how long a lease certainly lasts after it was requested, even if the clock of this host
/// runs slower than that of the store by a tenth.
fn certain_lease(store: &dyn LogStore) -> Duration {
    store.lease_ttl() * 9 / 10
}

#[cfg(test)]
mod tests;
