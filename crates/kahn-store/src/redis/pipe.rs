//! Appends over a dedicated connection, driven by the task that waits for the replies.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::redis::{RedisResult, Value};
use kahn_core::log::{Append, Head, Reply, Term};
use kahn_model::Partition;

use crate::error::StoreError;
use crate::redis::Shared;
use crate::redis::keys::Keys;
use crate::redis::link::{Link, Pending};
use crate::redis::reply::{append_reply, is_broken, reply_to};
use crate::redis::scripts::SCRIPTS;
use crate::store::{AppendPipe, AppendReply, Batch};

type Connecting = Pin<Box<dyn Future<Output = Result<Link, StoreError>> + Send>>;

enum State {
    Down,
    Connecting(Connecting),
    Up(Link),
}

/// The append requests of one owner to one log.
pub(super) struct RedisPipe {
    shared: Arc<Shared>,
    partition: Partition,
    keys: Keys,
    fence: String,
    state: State,
    /// Accepted, but not yet sent on a connection.
    queued: VecDeque<Append<Batch>>,
    in_flight: VecDeque<(u64, Pending)>,
    replies: VecDeque<AppendReply>,
}

impl fmt::Debug for RedisPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisPipe").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl RedisPipe {
    pub(super) fn new(shared: Arc<Shared>, partition: Partition, term: Term) -> Self {
        Self {
            shared,
            partition,
            keys: Keys::new(partition),
            fence: term.to_string(),
            state: State::Down,
            queued: VecDeque::new(),
            in_flight: VecDeque::new(),
            replies: VecDeque::new(),
        }
    }

    fn call(&self, append: &Append<Batch>) -> ::redis::Cmd {
        let Batch { payload, blobs } = &append.payload;
        let blob_keys: Vec<String> =
            blobs.iter().map(|(name, _)| Keys::blob(self.partition, name)).collect();
        let mut all = vec![self.keys.m.as_str(), &self.keys.log, &self.keys.blobs];
        all.extend(blob_keys.iter().map(String::as_str));
        let mut call = SCRIPTS.append.on(&all);
        call.arg(&self.fence).arg(append.prev.seq).arg(hash_arg(&append.prev));
        call.arg(append.next.seq).arg(hash_arg(&append.next)).arg(&payload[..]);
        for (name, bytes) in blobs {
            call.arg(name).arg(&bytes[..]);
        }
        call
    }

    /// Starts all queued requests on the connection.
    fn start_queued(&mut self) {
        while let State::Up(link) = &self.state
            && let Some(append) = self.queued.pop_front()
        {
            let pending = link.start(self.call(&append));
            self.in_flight.push_back((append.send, pending));
        }
    }

    fn on_connected(&mut self, connected: Result<Link, StoreError>) {
        match connected {
            Ok(link) => self.state = State::Up(link),
            Err(error) => {
                self.state = State::Down;
                let mut cause = Some(error);
                for append in self.queued.drain(..) {
                    let (send, reply) = (append.send, Reply::Refused);
                    self.replies.push_back(AppendReply { send, reply, cause: cause.take() });
                }
            }
        }
    }

    /// Polls all requests in the order in which they were made: the first poll sends them.
    fn poll_in_flight(&mut self, cx: &mut Context<'_>) {
        let mut ix = 0;
        while let Some((send, pending)) = self.in_flight.get_mut(ix) {
            let send = *send;
            let Poll::Ready(done) = pending.as_mut().poll(cx) else {
                ix += 1;
                continue;
            };
            self.in_flight.remove(ix);
            self.on_done(send, done);
        }
    }

    fn on_done(&mut self, send: u64, done: RedisResult<Value>) {
        match done.map_err(StoreError::from).and_then(append_reply) {
            Ok(reply) => self.replies.push_back(AppendReply { send, reply, cause: None }),
            Err(error) => {
                let breaks = matches!(&error, StoreError::Redis(error) if is_broken(error));
                let reply = reply_to(&error);
                self.replies.push_back(AppendReply { send, reply, cause: Some(error) });
                if breaks {
                    self.give_up();
                }
            }
        }
    }

    /// Drops the connection, and with it all pending replies.
    fn give_up(&mut self) {
        self.state = State::Down;
        for (send, _) in self.in_flight.drain(..) {
            self.replies.push_back(AppendReply { send, reply: Reply::Unknown, cause: None });
        }
    }

    /// Makes progress. Returns `false` if nothing more can be done for now.
    fn advance(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.state {
            State::Down => {
                if self.queued.is_empty() {
                    return false;
                }
                let shared = Arc::clone(&self.shared);
                self.state = State::Connecting(Box::pin(async move { shared.connect().await }));
                true
            }
            State::Connecting(connecting) => match connecting.as_mut().poll(cx) {
                Poll::Pending => false,
                Poll::Ready(connected) => {
                    self.on_connected(connected);
                    true
                }
            },
            State::Up(_) => self.advance_connection(cx),
        }
    }

    fn advance_connection(&mut self, cx: &mut Context<'_>) -> bool {
        self.start_queued();
        self.poll_in_flight(cx);
        if let State::Up(link) = &mut self.state {
            let ended = link.driver.as_mut().poll(cx).is_ready();
            self.poll_in_flight(cx);
            if ended {
                self.give_up();
                return true;
            }
        }
        !self.replies.is_empty()
    }
}

fn hash_arg(head: &Head) -> &[u8] {
    if head.seq == 0 { &[] } else { &head.hash.0 }
}

impl AppendPipe for RedisPipe {
    fn send(&mut self, append: Append<Batch>) {
        self.queued.push_back(append);
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<AppendReply> {
        loop {
            if let Some(reply) = self.replies.pop_front() {
                return Poll::Ready(reply);
            }
            if !self.advance(cx) {
                return Poll::Pending;
            }
        }
    }
}
