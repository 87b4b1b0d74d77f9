//! Appends over a dedicated connection, driven by the task that waits for the replies.

mod confirm;

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
use crate::redis::keys::{self, Keys};
use crate::redis::link::{Link, Pending, Route};
use crate::redis::replicate::wait_count;
use crate::redis::reply::{append_reply, is_broken, reply_to};
use crate::redis::scripts::SCRIPTS;
use crate::store::{AppendPipe, AppendReply, Batch};
use confirm::Replies;

type Connecting = Pin<Box<dyn Future<Output = Result<Link, StoreError>> + Send>>;

enum State {
    Down,
    Connecting(Connecting),
    Up(Link),
}

/// What a request in flight was for.
#[derive(Clone, Copy)]
enum Request {
    /// An append, by its number.
    Append(u64),
    /// The replication of all appends before it.
    Wait,
}

/// The append requests of one owner to one log.
pub(super) struct RedisPipe {
    shared: Arc<Shared>,
    partition: Partition,
    slot: u16,
    keys: Keys,
    fence: String,
    state: State,
    /// The server to connect to next, if it is not the one that is known as the master.
    redirection: Option<Route>,
    /// Accepted, but not yet sent on a connection.
    queued: VecDeque<Append<Batch>>,
    in_flight: VecDeque<(Request, Pending)>,
    replies: Replies,
}

impl fmt::Debug for RedisPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisPipe").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl RedisPipe {
    pub(super) fn new(shared: Arc<Shared>, partition: Partition, term: Term) -> Self {
        let replies = Replies::new(shared.access.replicas.wanted != 0);
        Self {
            shared,
            partition,
            slot: keys::slot(partition),
            keys: Keys::new(partition),
            fence: term.to_string(),
            state: State::Down,
            redirection: None,
            queued: VecDeque::new(),
            in_flight: VecDeque::new(),
            replies,
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

    fn connect(&mut self) {
        let (shared, partition) = (Arc::clone(&self.shared), self.partition);
        let redirection = self.redirection.take();
        self.state = State::Connecting(Box::pin(async move {
            shared.access.link(partition, shared.meta.id, redirection).await
        }));
    }

    fn on_connected(&mut self, connected: Result<Link, StoreError>) {
        match connected {
            Ok(link) => self.state = State::Up(link),
            Err(error) => {
                self.state = State::Down;
                let mut cause = Some(error);
                for append in self.queued.drain(..) {
                    let (send, reply) = (append.send, Reply::Refused);
                    self.replies.add(AppendReply { send, reply, cause: cause.take() });
                }
                // Nothing was sent, so there is nothing to replicate.
                self.replies.confirm();
            }
        }
    }

    /// Starts all queued requests on the connection, and one wait for the replicas after them.
    ///
    /// More waits would only block the connection: they do not end earlier.
    fn start_queued(&mut self) {
        if self.queued.is_empty() {
            return;
        }
        let State::Up(link) = &self.state else { return };
        if !self.shared.access.is_current(self.slot, &link.route) {
            self.give_up();
            return;
        }
        while let Some(append) = self.queued.pop_front() {
            let pending = link.start(self.call(&append));
            self.in_flight.push_back((Request::Append(append.send), pending));
        }
        if self.replies.must_wait() {
            let pending = link.start_wait(self.shared.access.replicas.wait());
            self.in_flight.push_back((Request::Wait, pending));
        }
    }

    /// Polls all requests in the order in which they were made: the first poll sends them.
    fn poll_in_flight(&mut self, cx: &mut Context<'_>) {
        let mut ix = 0;
        while let Some((request, pending)) = self.in_flight.get_mut(ix) {
            let request = *request;
            let Poll::Ready(done) = pending.as_mut().poll(cx) else {
                ix += 1;
                continue;
            };
            self.in_flight.remove(ix);
            match request {
                Request::Append(send) => self.on_append_done(send, done),
                Request::Wait => self.on_wait_done(done),
            }
        }
    }

    fn on_append_done(&mut self, send: u64, done: RedisResult<Value>) {
        match done.map_err(StoreError::from).and_then(append_reply) {
            Ok(reply) => self.replies.add(AppendReply { send, reply, cause: None }),
            Err(error) => {
                let reply = reply_to(&error);
                let must_reconnect = self.on_error(&error);
                self.replies.add(AppendReply { send, reply, cause: Some(error) });
                if must_reconnect {
                    self.give_up();
                }
            }
        }
    }

    fn on_wait_done(&mut self, done: RedisResult<Value>) {
        let replicas = self.shared.access.replicas;
        let done = done.map_err(StoreError::from).and_then(wait_count);
        match done.and_then(|count| replicas.check(count)) {
            Ok(()) => self.replies.confirm(),
            Err(error) => {
                let must_reconnect = self.on_error(&error);
                self.replies.doubt(Some(error));
                if must_reconnect {
                    self.give_up();
                }
            }
        }
    }

    /// Learns from an error. Returns whether the connection is of no more use.
    fn on_error(&mut self, error: &StoreError) -> bool {
        let State::Up(link) = &self.state else { return false };
        self.redirection = self.shared.access.on_error(self.slot, &link.route, error);
        let is_broken = matches!(error, StoreError::Redis(error) if is_broken(error));
        let is_error_of_asking = link.route.is_asking && matches!(error, StoreError::Redis(_));
        is_broken || is_error_of_asking || self.redirection.is_some()
    }

    /// Drops the connection, and with it all pending replies.
    fn give_up(&mut self) {
        self.state = State::Down;
        self.replies.doubt(None);
        for (request, _) in self.in_flight.drain(..) {
            if let Request::Append(send) = request {
                self.replies.add(AppendReply { send, reply: Reply::Unknown, cause: None });
            }
        }
        self.replies.confirm();
    }

    /// Makes progress. Returns `false` if nothing more can be done for now.
    fn advance(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.state {
            State::Down => {
                if self.queued.is_empty() {
                    return false;
                }
                self.connect();
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
            let ended = link.dialed.driver.as_mut().poll(cx).is_ready();
            self.poll_in_flight(cx);
            if ended {
                self.give_up();
                return true;
            }
        }
        !self.replies.is_empty() || matches!(self.state, State::Down) && !self.queued.is_empty()
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
            if let Some(reply) = self.replies.next() {
                return Poll::Ready(reply);
            }
            if !self.advance(cx) {
                return Poll::Pending;
            }
        }
    }
}
