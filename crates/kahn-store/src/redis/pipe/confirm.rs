//! Replies that are held back until the replicas have received what they tell.

use std::collections::VecDeque;

use kahn_core::log::Reply;

use crate::error::StoreError;
use crate::store::AppendReply;

/// The replies to appends, in order.
#[derive(Debug)]
pub(super) struct Replies {
    /// Whether replies are held back at all.
    holds: bool,
    held: Vec<AppendReply>,
    ready: VecDeque<AppendReply>,
}

impl Replies {
    pub(super) fn new(holds: bool) -> Self {
        Self { holds, held: Vec::new(), ready: VecDeque::new() }
    }

    /// Returns whether appends must be followed by a wait for the replicas.
    pub(super) fn must_wait(&self) -> bool {
        self.holds
    }

    /// Adds the reply of the master.
    pub(super) fn add(&mut self, reply: AppendReply) {
        if self.holds {
            self.held.push(reply);
        } else {
            self.ready.push_back(reply);
        }
    }

    /// Releases all replies: the replicas have received everything.
    pub(super) fn confirm(&mut self) {
        self.ready.extend(self.held.drain(..));
    }

    /// Releases all replies, but makes the outcome of those unknown that tell what the log holds,
    /// because the master may be replaced by a replica that does not hold it.
    pub(super) fn doubt(&mut self, mut cause: Option<StoreError>) {
        for mut held in self.held.drain(..) {
            if matches!(held.reply, Reply::Applied | Reply::Duplicate | Reply::Behind(_)) {
                held = AppendReply { reply: Reply::Unknown, cause: cause.take(), ..held };
            }
            self.ready.push_back(held);
        }
    }

    pub(super) fn next(&mut self) -> Option<AppendReply> {
        self.ready.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use kahn_core::log::Head;

    use super::*;

    fn add_all(replies: &mut Replies) {
        let all = [Reply::Applied, Reply::Fenced, Reply::Behind(Head::GENESIS), Reply::Refused];
        for (send, reply) in (0..).zip(all) {
            replies.add(AppendReply { send, reply, cause: None });
        }
    }

    fn ready(replies: &mut Replies) -> Vec<(u64, Reply)> {
        std::iter::from_fn(|| replies.next()).map(|one| (one.send, one.reply)).collect()
    }

    #[test]
    fn without_replicas_nothing_is_held_back() {
        let mut replies = Replies::new(false);
        add_all(&mut replies);
        assert_eq!(ready(&mut replies).len(), 4);
    }

    #[test]
    fn replies_wait_for_the_replicas() {
        let mut replies = Replies::new(true);
        add_all(&mut replies);
        assert!(replies.is_empty() && replies.must_wait());
        replies.confirm();
        let sends: Vec<u64> = ready(&mut replies).into_iter().map(|(send, _)| send).collect();
        assert_eq!(sends, [0, 1, 2, 3]);
    }

    #[test]
    fn what_the_replicas_may_lack_is_not_known_to_be_in_the_log() {
        let mut replies = Replies::new(true);
        add_all(&mut replies);
        replies.doubt(None);
        let expected =
            [(0, Reply::Unknown), (1, Reply::Fenced), (2, Reply::Unknown), (3, Reply::Refused)];
        assert_eq!(ready(&mut replies), expected);
    }
}
