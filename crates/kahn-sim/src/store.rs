//! A model of the store. Each partition has a fence, a chained log, checkpoints and the owner's
//! lease. Requests are judged by the same comparisons as in the real scripts, on a server that may
//! lose its latest writes.
//!
//! There are two kinds of server. A replicated one answers only when a replica has a write, so a
//! failover loses nothing that was answered. A single one answers immediately and may lose the tail
//! of its log in a crash; the live owner then restores it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kahn_core::Snapshot;
use kahn_core::log::{Append, Head, Reply, Term};
use kahn_model::Timestamp;

use crate::driver::{OWNER_TTL, Page, Payload};
use crate::mutation::Mutation;

/// How long a server without replicas may still lose an answered write.
const UNSAFE_SPAN: Duration = Duration::from_secs(2);

/// One entry of a log.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) prev: Head,
    pub(crate) next: Head,
    pub(crate) term: Term,
    pub(crate) payload: Payload,
}

/// The state of a partition after one operation.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    op: u64,
    at: Timestamp,
    term: Option<Term>,
    epoch: u64,
    len: usize,
    n_checkpoints: usize,
}

/// All data of one partition.
#[derive(Debug, Default)]
pub(crate) struct PartitionStore {
    now: Mark,
    /// The state that no crash can undo.
    safe: Mark,
    /// The operations after that state.
    unsafe_marks: VecDeque<Mark>,
    log: Vec<Entry>,
    checkpoints: Vec<(Head, Arc<Snapshot>)>,
    lease: Option<(u64, Timestamp)>,
    last_op: u64,
}

impl PartitionStore {
    pub(crate) fn head(&self) -> Head {
        self.log.last().map_or(Head::GENESIS, |entry| entry.next)
    }

    /// Returns the entries that no crash can undo.
    pub(crate) fn safe_entries(&self) -> &[Entry] {
        &self.log[..self.safe.len]
    }

    /// Returns all entries.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.log
    }

    /// Returns the number of the latest operation. A reply that depends on it may be sent once it
    /// is safe.
    pub(crate) fn last_op(&self) -> u64 {
        self.now.op
    }

    pub(crate) fn safe_op(&self) -> u64 {
        self.safe.op
    }

    /// Judges an append with one comparison, which covers ordering, repetition and fencing.
    pub(crate) fn append(
        &mut self,
        now: Timestamp,
        term: Term,
        append: &Append<Payload>,
        mutation: Option<Mutation>,
    ) -> Reply {
        if self.now.term != Some(term) && mutation != Some(Mutation::NoFenceCheck) {
            return Reply::Fenced;
        }
        let head = self.head();
        if head != append.prev && mutation != Some(Mutation::NoSequenceCheck) {
            return if head == append.next { Reply::Duplicate } else { Reply::Behind(head) };
        }
        let (prev, next) = (append.prev, append.next);
        self.log.push(Entry { prev, next, term, payload: Arc::clone(&append.payload) });
        self.now.len = self.log.len();
        self.note_operation(now);
        Reply::Applied
    }

    /// Begins a term, unless another owner has renewed in time and `steal` is false.
    pub(crate) fn acquire(
        &mut self,
        now: Timestamp,
        nonce: u64,
        steal: bool,
    ) -> Option<(Term, Head)> {
        let is_held = self.lease.is_some_and(|(holder, until)| holder != nonce && now < until);
        if is_held && !steal {
            return None;
        }
        self.lease = Some((nonce, now + OWNER_TTL));
        self.now.epoch += 1;
        let term = Term { epoch: self.now.epoch, nonce };
        self.now.term = Some(term);
        self.note_operation(now);
        Some((term, self.head()))
    }

    /// Extends the lease. Returns `None` if another term has begun.
    pub(crate) fn renew(
        &mut self,
        now: Timestamp,
        term: Term,
        mutation: Option<Mutation>,
    ) -> Option<Head> {
        if self.now.term != Some(term) && mutation != Some(Mutation::NoFenceCheck) {
            return None;
        }
        self.lease = Some((term.nonce, now + OWNER_TTL));
        Some(self.head())
    }

    /// Sets a checkpoint. Returns whether it was set.
    pub(crate) fn checkpoint(
        &mut self,
        now: Timestamp,
        term: Term,
        seq: u64,
        snapshot: Arc<Snapshot>,
    ) -> bool {
        let head = self.log.iter().map(|entry| entry.next).find(|head| head.seq == seq);
        let (Some(head), true) = (head, self.now.term == Some(term)) else { return false };
        self.checkpoints.push((head, snapshot));
        self.now.n_checkpoints = self.checkpoints.len();
        self.note_operation(now);
        true
    }

    /// Returns the latest checkpoint and the entries after it.
    pub(crate) fn load(&self) -> (Head, Option<Arc<Snapshot>>, Vec<Payload>) {
        let latest = self.checkpoints.last();
        let from = latest.map_or(Head::GENESIS, |(head, _)| *head);
        let entries = self.entries_after(from).map(|entry| Arc::clone(&entry.payload)).collect();
        (from, latest.map(|(_, snapshot)| Arc::clone(snapshot)), entries)
    }

    /// Returns what a standby needs that has read up to `seq`.
    pub(crate) fn read(&self, seq: u64) -> Page {
        let replaced = self.checkpoints.last().filter(|(head, _)| seq < head.seq);
        let checkpoint = replaced.map(|(head, snapshot)| (*head, Snapshot::clone(snapshot)));
        let from = replaced.map_or(Head { seq, ..Head::GENESIS }, |(head, _)| *head);
        let entries = self.entries_after(from);
        let entries = entries.map(|entry| (entry.next, Arc::clone(&entry.payload))).collect();
        Page { checkpoint, entries }
    }

    fn entries_after(&self, from: Head) -> impl Iterator<Item = &Entry> {
        self.log.iter().filter(move |entry| from.seq < entry.next.seq)
    }

    /// Ends the lease at once.
    pub(crate) fn release(&mut self, term: Term) {
        if self.now.term == Some(term) {
            self.lease = None;
        }
    }

    /// Returns the current term.
    pub(crate) fn term(&self) -> Option<Term> {
        self.now.term
    }

    /// Returns the nonce of the owner of the partition.
    pub(crate) fn holder(&self) -> Option<u64> {
        self.lease.map(|(nonce, _)| nonce)
    }

    /// Records that a replica has everything up to `op`.
    pub(crate) fn replicated(&mut self, op: u64) {
        while self.unsafe_marks.front().is_some_and(|mark| mark.op <= op) {
            self.safe = self.unsafe_marks.pop_front().expect("invariant: there is a front");
        }
    }

    /// Fails over to the replica. Drops everything that the replica does not have.
    pub(crate) fn fail_over(&mut self) -> usize {
        self.truncate_to(self.safe)
    }

    /// Restarts a server without replicas and drops its last `n` writes. Writes of an earlier term
    /// are old enough to be safe.
    pub(crate) fn lose_tail(&mut self, now: Timestamp, n: usize) -> usize {
        self.flush_old(now);
        let keep = self.unsafe_marks.len().saturating_sub(n);
        let target = match keep.checked_sub(1) {
            Some(at) => self.unsafe_marks[at],
            None => self.safe,
        };
        if target.term != self.now.term {
            return 0;
        }
        self.unsafe_marks.truncate(keep);
        self.truncate_to(target)
    }

    /// On a server without replicas, marks everything but the latest writes as safe on disk.
    fn flush_old(&mut self, now: Timestamp) {
        while self.unsafe_marks.front().is_some_and(|mark| mark.at + UNSAFE_SPAN <= now) {
            self.safe = self.unsafe_marks.pop_front().expect("invariant: there is a front");
        }
    }

    fn truncate_to(&mut self, mark: Mark) -> usize {
        let n_lost = self.log.len() - mark.len;
        self.log.truncate(mark.len);
        self.checkpoints.truncate(mark.n_checkpoints);
        self.unsafe_marks.retain(|later| later.op <= mark.op);
        self.now = mark;
        n_lost
    }

    fn note_operation(&mut self, at: Timestamp) {
        self.last_op += 1;
        self.now.at = at;
        self.now.op = self.last_op;
        self.unsafe_marks.push_back(self.now);
    }
}
