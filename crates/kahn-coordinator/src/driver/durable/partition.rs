//! What the driver knows about the log of one partition.

use std::collections::{BTreeSet, VecDeque};

use kahn_core::log::Term;
use kahn_model::{Partition, Timestamp};
use kahn_store::{Appender, codec};
use tracing::error;

/// The log of one partition.
pub(super) struct OnePartition {
    pub(super) term: Term,
    pub(super) appender: Appender,
    /// The batches in flight.
    pub(super) in_flight: VecDeque<InFlight>,
    /// Blobs referenced by batches since the last checkpoint was taken.
    pub(super) named: BTreeSet<String>,
    /// Blobs that are being removed.
    pub(super) sweeping: BTreeSet<String>,
    /// Batches that wait for the removal of blobs, with their numbers and times.
    pub(super) held: VecDeque<(u64, Timestamp, kahn_store::Batch)>,
    /// Log bytes since the last checkpoint.
    pub(super) grown: u64,
    /// Size of the last checkpoint.
    pub(super) checkpoint_bytes: u64,
    /// Whether a checkpoint is in progress, including the removal of unreferenced blobs.
    pub(super) is_checkpointing: bool,
    /// A checkpoint at this sequence number, to be written once that is durable.
    pub(super) pending: Option<(u64, codec::Encoded)>,
}

/// A batch that is not durable yet.
#[derive(Clone, Copy)]
pub(super) struct InFlight {
    pub(super) seq: u64,
    pub(super) number: u64,
    pub(super) handed_over_at: Timestamp,
}

impl OnePartition {
    pub(super) fn new(term: Term, appender: Appender, log_bytes: u64) -> Self {
        Self {
            term,
            appender,
            in_flight: VecDeque::new(),
            named: BTreeSet::new(),
            sweeping: BTreeSet::new(),
            held: VecDeque::new(),
            grown: log_bytes,
            checkpoint_bytes: 0,
            is_checkpointing: false,
            pending: None,
        }
    }

    pub(super) fn push(
        &mut self,
        partition: Partition,
        number: u64,
        handed_over_at: Timestamp,
        batch: kahn_store::Batch,
    ) {
        match self.appender.push(batch) {
            Ok(seq) => self.in_flight.push_back(InFlight { seq, number, handed_over_at }),
            // The end itself is reported by an event.
            Err(error) => error!(%partition, %error, "batch not accepted"),
        }
    }
}
