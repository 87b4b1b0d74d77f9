//! Appends over the writer thread.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use kahn_core::log::{Append, Reply, Term};
use kahn_model::Partition;

use super::writer::Outcome;
use super::{EmbeddedStore, tables};
use crate::error::StoreError;
use crate::store::{AppendPipe, AppendReply, Batch};

/// Appends in flight to the writer thread.
pub(super) struct EmbeddedPipe {
    store: EmbeddedStore,
    partition: Partition,
    term: Term,
    sent: VecDeque<(u64, Result<Outcome<Reply>, StoreError>)>,
}

impl EmbeddedPipe {
    pub(super) fn new(store: EmbeddedStore, partition: Partition, term: Term) -> Self {
        Self { store, partition, term, sent: VecDeque::new() }
    }
}

impl fmt::Debug for EmbeddedPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedPipe").field("partition", &self.partition).finish_non_exhaustive()
    }
}

impl AppendPipe for EmbeddedPipe {
    fn send(&mut self, append: Append<Batch>) {
        let (send, partition, term) = (append.send, self.partition, self.term);
        let begun = self.store.0.meta.check(partition).and_then(|()| {
            self.store.0.writer.try_start(move |tx| tables::append(tx, partition, term, &append))
        });
        self.sent.push_back((send, begun));
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<AppendReply> {
        let Some((_, front)) = self.sent.front_mut() else {
            return Poll::Pending;
        };
        let done = match front {
            Ok(outcome) => match Pin::new(outcome).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(done) => done.map_err(|error| (Reply::Unknown, error)),
            },
            Err(_) => Err((Reply::Refused, StoreError::Closed)),
        };
        let (send, begun) = self.sent.pop_front().expect("invariant: it was at the front");
        Poll::Ready(match (done, begun) {
            (Ok(reply), _) => AppendReply { send, reply, cause: None },
            (Err((reply, _)), Err(error)) => AppendReply { send, reply, cause: Some(error) },
            (Err((reply, error)), Ok(_)) => AppendReply { send, reply, cause: Some(error) },
        })
    }
}
