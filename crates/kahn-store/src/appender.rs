//! Appends to the log of one partition for its owner: ordering, retries, lease renewal, and repair
//! of a lost tail.
//!
//! [`kahn_core::log::LogWriter`] makes the decisions. This module hashes, waits and sends, all in
//! one task.

mod backoff;
mod task;

use std::sync::Arc;

use kahn_core::log::{Head, Term};
use kahn_model::Partition;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::store::{Batch, LogStore};
use task::{Command, Task};

/// The maximum number of queued commands. An owner keeps far fewer batches open.
const QUEUE_MAX: usize = 256;

/// An event about the log of a partition, for its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendEvent {
    /// All batches up to and including this one are durable.
    Committed {
        /// The partition of the log.
        partition: Partition,
        /// A sequence number, as given by [`Appender::push`].
        through_seq: u64,
    },
    /// The store does not accept batches at the moment; they are kept and retried. Sent once per
    /// outage.
    Troubled {
        /// The partition of the log.
        partition: Partition,
        /// A human-readable cause.
        cause: String,
    },
    /// The store accepts batches again.
    Recovered {
        /// The partition of the log.
        partition: Partition,
    },
    /// The lease was renewed: nobody else takes the partition within the
    /// [`lease_ttl`](LogStore::lease_ttl) from when the renewal was sent, unless by force.
    Renewed {
        /// The partition of the log.
        partition: Partition,
        /// When the renewal was sent.
        sent_at: Instant,
    },
    /// The store had lost committed batches. They are being appended again from memory.
    TailLost {
        /// The partition of the log.
        partition: Partition,
        /// The number of lost batches.
        missing: u64,
    },
    /// Nothing more will be appended in this term. This is the last event.
    Ended {
        /// The partition of the log.
        partition: Partition,
        /// The reason.
        reason: EndReason,
    },
}

/// Why an appender ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Another coordinator has taken over.
    Fenced,
    /// The log contains a history that this owner did not write, or has lost more than memory still
    /// holds. The partition must not be used until an operator has looked at it.
    Diverged {
        /// The head of the log in the store.
        store: Head,
    },
    /// [`Appender::close`] was called: everything pushed is durable and the partition is released.
    Closed,
}

/// Why a batch was not accepted. The batch is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The appender has ended.
    #[error("the appender has ended")]
    Ended,
    /// Too many batches are waiting: far more than an owner may have open.
    #[error("more than {QUEUE_MAX} batches are waiting")]
    Full,
}

/// The owner's handle to one log. Dropping it stops the task without releasing the partition.
#[derive(Debug)]
pub struct Appender {
    commands: mpsc::Sender<Command>,
    task: Option<JoinHandle<()>>,
    last_seq: u64,
}

impl Appender {
    /// Spawns a task on the current runtime that appends on top of `head` in `term`.
    ///
    /// `events` is called from that task and must not block.
    ///
    /// # Panics
    ///
    /// Panics outside a runtime.
    pub fn spawn(
        store: Arc<dyn LogStore>,
        partition: Partition,
        term: Term,
        head: Head,
        events: impl Fn(AppendEvent) + Send + 'static,
    ) -> Self {
        let (tx, commands) = mpsc::channel(QUEUE_MAX);
        let task = Task::new(store, partition, term, head, commands, Box::new(events));
        let task = Some(tokio::spawn(task.run()));
        Self { commands: tx, task, last_seq: head.seq }
    }

    /// Queues the next batch and returns its sequence number. Never waits.
    ///
    /// # Errors
    ///
    /// Returns an error if the appender has ended, or if the owner pushes without waiting for its
    /// batches to be committed.
    pub fn push(&mut self, batch: Batch) -> Result<u64, PushError> {
        self.command(Command::Push(batch))?;
        self.last_seq += 1;
        Ok(self.last_seq)
    }

    /// Reports that the store has a checkpoint at `seq`, so that memory can be freed.
    ///
    /// Batches are kept until the checkpoint after this one, because a store that loses its last
    /// writes may also lose the checkpoint.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    pub fn checkpointed(&mut self, seq: u64) -> Result<(), PushError> {
        self.command(Command::Checkpointed(seq))
    }

    /// Waits until everything pushed is durable, then releases the partition.
    ///
    /// Waits for as long as the store is unreachable. Drop the future to stop without it.
    pub async fn close(mut self) {
        let sent = self.commands.send(Command::Close).await;
        if let (Ok(()), Some(task)) = (sent, self.task.as_mut()) {
            // It ends by itself, or was aborted with its runtime.
            drop(task.await);
        }
    }

    fn command(&self, command: Command) -> Result<(), PushError> {
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => PushError::Full,
            mpsc::error::TrySendError::Closed(_) => PushError::Ended,
        })
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}
