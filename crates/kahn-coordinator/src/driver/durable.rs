//! The logs of all partitions, as the driver sees them: batches in, progress out, checkpoints now
//! and then.

use std::collections::VecDeque;
use std::sync::Arc;

use kahn_core::Core;
use kahn_core::log::Term;
use kahn_model::Partition;
use kahn_store::{AppendEvent, Appender, LogStore, codec};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::inbox::Input;
use crate::stats::Stats;

/// Log bytes after which a checkpoint is due, if the last one was not larger.
const CHECKPOINT_BYTES: u64 = 16 << 20;

/// What an event of a log means for the outbox.
pub(super) enum Progress {
    Committed { partition: Partition, number: u64 },
    Waiting,
    Ended,
}

struct OnePartition {
    term: Term,
    appender: Appender,
    /// Sequence number and batch number of what is under way.
    in_flight: VecDeque<(u64, u64)>,
    /// Log bytes since the last checkpoint.
    grown: u64,
    /// Size of the last checkpoint.
    checkpoint_bytes: u64,
    is_checkpointing: bool,
    /// A checkpoint taken at this sequence number, to be written when that is durable.
    pending: Option<(u64, codec::Encoded)>,
}

/// The logs of all partitions.
pub(crate) struct Durable {
    store: Arc<dyn LogStore>,
    partitions: Vec<OnePartition>,
    inbox: mpsc::Sender<Input>,
}

impl Durable {
    pub(crate) fn new(store: Arc<dyn LogStore>, inbox: mpsc::Sender<Input>) -> Self {
        Self { store, partitions: Vec::new(), inbox }
    }

    /// Adds the next partition, which this coordinator owns under `term`.
    pub(crate) fn add(&mut self, term: Term, appender: Appender, log_bytes: u64) {
        self.partitions.push(OnePartition {
            term,
            appender,
            in_flight: VecDeque::new(),
            grown: log_bytes,
            checkpoint_bytes: 0,
            is_checkpointing: false,
            pending: None,
        });
    }

    pub(super) fn append(&mut self, batch: kahn_core::Batch, core: &Core, stats: &mut Stats) {
        let entry = &mut self.partitions[usize::from(batch.partition.0)];
        let encoded = codec::encode_batch(&batch.changes);
        let size = u64::try_from(encoded.payload.len()).unwrap_or(u64::MAX);
        stats.appended(batch.changes.len(), size);
        entry.grown += size;
        let pushed = entry
            .appender
            .push(kahn_store::Batch { payload: encoded.payload, blobs: encoded.blobs });
        match pushed {
            Ok(seq) => entry.in_flight.push_back((seq, batch.number)),
            // The end itself is told by an event.
            Err(error) => error!(partition = %batch.partition, %error, "batch not taken"),
        }
        let is_due = entry.grown > CHECKPOINT_BYTES.max(entry.checkpoint_bytes);
        if is_due && !entry.is_checkpointing {
            self.take_checkpoint(batch.partition, core);
        }
    }

    /// Takes a picture of the state right after a batch was closed: it stands for the log up to
    /// that batch, and is written when the batch is durable.
    fn take_checkpoint(&mut self, partition: Partition, core: &Core) {
        let entry = &mut self.partitions[usize::from(partition.0)];
        let Some((seq, _)) = entry.in_flight.back().copied() else { return };
        entry.is_checkpointing = true;
        entry.grown = 0;
        let encoded = codec::encode_snapshot(&core.state().snapshot(partition));
        entry.pending = Some((seq, encoded));
    }

    pub(super) fn on_event(&mut self, event: AppendEvent, stats: &mut Stats) -> Progress {
        match event {
            AppendEvent::Committed { partition, through_seq } => {
                self.committed(partition, through_seq)
            }
            AppendEvent::Troubled { partition, cause } => {
                warn!(%partition, cause, "the store takes nothing; batches are kept");
                stats.store_troubled(partition, Some(&cause));
                Progress::Waiting
            }
            AppendEvent::Recovered { partition } => {
                info!(%partition, "the store takes batches again");
                stats.store_troubled(partition, None);
                Progress::Waiting
            }
            AppendEvent::TailLost { partition, missing } => {
                warn!(%partition, missing, "the store had lost committed batches; appending again");
                stats.lost_tail(missing);
                Progress::Waiting
            }
            AppendEvent::Ended { partition, reason } => {
                error!(%partition, ?reason, "the term over this partition has ended");
                Progress::Ended
            }
        }
    }

    fn committed(&mut self, partition: Partition, through_seq: u64) -> Progress {
        let entry = &mut self.partitions[usize::from(partition.0)];
        let mut number = None;
        while let Some((seq, batch)) = entry.in_flight.front().copied()
            && seq <= through_seq
        {
            entry.in_flight.pop_front();
            number = Some(batch);
        }
        if entry.pending.as_ref().is_some_and(|(seq, _)| *seq <= through_seq)
            && let Some((seq, encoded)) = entry.pending.take()
        {
            let term = entry.term;
            let store = Arc::clone(&self.store);
            let inbox = self.inbox.clone();
            tokio::spawn(write_checkpoint(store, partition, term, seq, encoded, inbox));
        }
        match number {
            Some(number) => Progress::Committed { partition, number },
            None => Progress::Waiting,
        }
    }

    pub(super) fn checkpointed(&mut self, partition: Partition, seq: u64, bytes: Option<u64>) {
        let entry = &mut self.partitions[usize::from(partition.0)];
        entry.is_checkpointing = false;
        if let Some(bytes) = bytes {
            entry.checkpoint_bytes = bytes;
            if let Err(error) = entry.appender.checkpointed(seq) {
                warn!(%partition, %error, "the appender was not told of a checkpoint");
            }
        }
    }

    pub(super) async fn close(self) {
        for entry in self.partitions {
            entry.appender.close().await;
        }
    }
}

async fn write_checkpoint(
    store: Arc<dyn LogStore>,
    partition: Partition,
    term: Term,
    seq: u64,
    encoded: codec::Encoded,
    inbox: mpsc::Sender<Input>,
) {
    let size: usize =
        encoded.payload.len() + encoded.blobs.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    let outcome = write(&store, partition, term, seq, encoded).await;
    let bytes = match outcome {
        Ok(()) => Some(u64::try_from(size).unwrap_or(u64::MAX)),
        Err(error) => {
            warn!(%partition, %error, "checkpoint not written; the log is kept instead");
            None
        }
    };
    // Without a driver there is nobody to tell.
    drop(inbox.send(Input::Checkpointed { partition, seq, bytes }).await);
}

/// Writes what the manifest names first, then the manifest. What no manifest names any more is
/// removed when a coordinator starts, since nobody else can be writing it then.
async fn write(
    store: &Arc<dyn LogStore>,
    partition: Partition,
    term: Term,
    seq: u64,
    encoded: codec::Encoded,
) -> Result<(), kahn_store::StoreError> {
    let known = store.list_blobs(partition, "").await?;
    for (name, bytes) in encoded.blobs {
        if known.binary_search(&name).is_err() {
            store.put_blob(partition, &name, bytes).await?;
        }
    }
    store.checkpoint(partition, term, seq, encoded.payload).await
}
