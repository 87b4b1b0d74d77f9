//! Keeps one partition's log for its owner: order, retries, renewal, repair of a lost tail.
//!
//! The decisions are those of [`kahn_core::log::LogWriter`]; here are the hashing, the waiting and
//! the sending, all in one task.

mod backoff;
mod task;

use std::sync::Arc;

use kahn_core::log::{Head, Term};
use kahn_model::Partition;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::store::{Batch, LogStore};
use task::{Command, Task};

/// Commands that may wait for the task. An owner keeps far fewer batches open.
const QUEUE_MAX: usize = 256;

/// What the owner of a partition learns about its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendEvent {
    /// All batches up to and including this one are durable.
    Committed {
        /// Whose log.
        partition: Partition,
        /// A sequence number, as given by [`Appender::push`].
        through_seq: u64,
    },
    /// The store does not take batches for now; they are kept and tried again. Once per outage.
    Troubled {
        /// Whose log.
        partition: Partition,
        /// What is wrong, for people.
        cause: String,
    },
    /// The store takes batches again.
    Recovered {
        /// Whose log.
        partition: Partition,
    },
    /// The store had lost committed batches. They are being appended again, from memory.
    TailLost {
        /// Whose log.
        partition: Partition,
        /// How many.
        missing: u64,
    },
    /// Nothing more will be appended under this term. The last event.
    Ended {
        /// Whose log.
        partition: Partition,
        /// Why.
        reason: EndReason,
    },
}

/// Why an appender came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Another coordinator has taken over.
    Fenced,
    /// The log holds a history that is not ours, or has lost more than memory still holds: the
    /// partition must be left alone until a person has looked.
    Diverged {
        /// Where the log stands.
        store: Head,
    },
    /// [`Appender::close`]: everything pushed is durable and the partition is released.
    Closed,
}

/// A batch that was not taken; it is lost with the term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The appender has ended.
    #[error("the appender has ended")]
    Ended,
    /// Far more batches are waiting than an owner may have open.
    #[error("more than {QUEUE_MAX} batches are waiting")]
    Full,
}

/// The owner's handle on one log. Dropping it stops at once, without releasing the partition.
#[derive(Debug)]
pub struct Appender {
    commands: mpsc::Sender<Command>,
    task: Option<JoinHandle<()>>,
    last_seq: u64,
}

impl Appender {
    /// Starts a task on the current runtime that appends on top of `head` under `term`.
    ///
    /// `events` is called from that task and must not block.
    ///
    /// # Panics
    ///
    /// Outside a runtime.
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

    /// Takes the next batch and returns its sequence number; never waits.
    ///
    /// # Errors
    ///
    /// When the appender has ended, or the owner does not wait for its batches to be committed.
    pub fn push(&mut self, batch: Batch) -> Result<u64, PushError> {
        self.command(Command::Push(batch))?;
        self.last_seq += 1;
        Ok(self.last_seq)
    }

    /// Tells that the store has taken a checkpoint at `seq`, so that memory can be freed.
    ///
    /// Batches are kept until the checkpoint after this one: a store that loses its last writes
    /// may lose the checkpoint with them.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    pub fn checkpointed(&mut self, seq: u64) -> Result<(), PushError> {
        self.command(Command::Checkpointed(seq))
    }

    /// Waits until everything pushed is durable, then releases the partition.
    ///
    /// Waits for as long as the store is away; drop the future to leave without it.
    pub async fn close(mut self) {
        let sent = self.commands.send(Command::Close).await;
        if let (Ok(()), Some(task)) = (sent, self.task.as_mut()) {
            // It ends by itself, or has been aborted with its runtime.
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
