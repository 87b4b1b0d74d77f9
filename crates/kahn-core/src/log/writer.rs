//! The writer's side of the append protocol: decides what to send, what to resend, and what is
//! committed.
//!
//! It does not hash, wait or communicate with a store.

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::{Append, Hash, Head, Reply, Verdict};

/// Maximum number of appends in flight. A larger number only lengthens the queue in the store.
pub const IN_FLIGHT_MAX: usize = 2;

#[derive(Clone, Debug)]
struct Entry<P> {
    hash: Hash,
    payload: P,
}

#[derive(Clone, Copy, Debug)]
struct InFlight {
    send: u64,
    seq: u64,
    /// The confirmed sequence number at the time of sending. A reply with a smaller head means that
    /// the log lost entries.
    floor: u64,
    /// The base of the tail at the time of sending.
    base: u64,
}

/// Permission to read the log's head; invalid once anything else is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    n_sends: u64,
}

/// Appends entries to one log under one term: in order, and each exactly once despite lost
/// messages.
///
/// Call [`push`](Self::push), then [`next_send`](Self::next_send) until it returns `None`. Pass
/// each reply to [`on_reply`](Self::on_reply), then call `next_send` again. Entries stay in memory
/// until [`checkpointed`](Self::checkpointed), so that they can be appended again if the store
/// loses them.
#[derive(Clone, Debug)]
pub struct LogWriter<P> {
    /// The head just below the tail.
    base: Head,
    /// The entries above `base`, without gaps.
    tail: VecDeque<Entry<P>>,
    /// The log contained our entries up to here as of its last reply.
    confirmed: u64,
    /// The maximum of all values of `confirmed`.
    committed: u64,
    /// The last sequence number sent.
    sent: u64,
    in_flight: VecDeque<InFlight>,
    n_sends: u64,
    n_lost: u64,
    is_ended: bool,
}

impl<P: Clone> LogWriter<P> {
    /// Creates a writer after `head`, as reported by the store at the start of the term.
    #[must_use]
    pub fn new(head: Head) -> Self {
        Self {
            base: head,
            tail: VecDeque::new(),
            confirmed: head.seq,
            committed: head.seq,
            sent: head.seq,
            in_flight: VecDeque::with_capacity(IN_FLIGHT_MAX),
            n_sends: 0,
            n_lost: 0,
            is_ended: false,
        }
    }

    /// Returns the head after the last entry pushed, from which the next hash is computed.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { seq: self.last_seq(), hash: self.tail.back().map_or(self.base.hash, |e| e.hash) }
    }

    /// Adds an entry with the hash of the chain up to it, and returns its sequence number.
    pub fn push(&mut self, payload: P, hash: Hash) -> u64 {
        self.tail.push_back(Entry { hash, payload });
        self.last_seq()
    }

    /// Returns the next request to send, if one may be sent now.
    pub fn next_send(&mut self) -> Option<Append<P>> {
        if self.is_ended || IN_FLIGHT_MAX <= self.in_flight.len() || self.last_seq() <= self.sent {
            return None;
        }
        let prev = self.head_at(self.sent).expect("invariant: what was sent is in the tail");
        let seq = self.sent + 1;
        let entry = &self.tail[self.index_of(seq).expect("invariant: seq is at most the last")];
        let append = Append {
            send: self.n_sends,
            prev,
            next: Head { seq, hash: entry.hash },
            payload: entry.payload.clone(),
        };
        let (send, floor, base) = (self.n_sends, self.confirmed, self.base.seq);
        self.in_flight.push_back(InFlight { send, seq, floor, base });
        self.n_sends += 1;
        self.sent = seq;
        Some(append)
    }

    /// Handles the reply to the send numbered `send`.
    pub fn on_reply(&mut self, send: u64, reply: Reply) -> Verdict {
        let awaited = self.in_flight.iter().find(|flight| flight.send == send).copied();
        let Some(flight) = awaited.filter(|_| !self.is_ended) else {
            return Verdict::Late;
        };
        match reply {
            Reply::Applied | Reply::Duplicate => self.confirm(flight.seq),
            Reply::Refused | Reply::Unknown => {
                self.in_flight.retain(|other| other.seq < flight.seq);
                self.sent = flight.seq - 1;
                Verdict::Resend
            }
            Reply::Behind(head) => self.on_behind(flight, head),
            Reply::Fenced => self.end(Verdict::Fenced),
        }
    }

    /// Returns permission to read the log's head, if nothing is in flight.
    ///
    /// A log that lost entries while nothing was being appended is detected only by this.
    #[must_use]
    pub fn probe(&self) -> Option<Probe> {
        (self.in_flight.is_empty() && !self.is_ended).then_some(Probe { n_sends: self.n_sends })
    }

    /// Handles the head that the log had after `probe` was returned.
    pub fn on_probe(&mut self, probe: Probe, head: Head) -> Verdict {
        if self.probe() != Some(probe) {
            return Verdict::Late;
        }
        if self.head_at(head.seq) != Some(head) {
            return self.end(Verdict::Diverged(head));
        }
        if head.seq < self.confirmed {
            return self.lose_above(head.seq);
        }
        self.confirm(head.seq)
    }

    /// Drops the entries up to and including `seq`, because a checkpoint covers them.
    ///
    /// If the log loses these entries later, it cannot be repaired. Uncommitted entries are kept.
    pub fn checkpointed(&mut self, seq: u64) {
        let seq = seq.min(self.confirmed);
        if let Some(head) = self.head_at(seq) {
            self.tail.drain(..self.index_of(seq).map_or(0, |ix| ix + 1));
            self.base = head;
        }
    }

    /// Returns the highest sequence number ever confirmed.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Returns whether every entry pushed is in the log, according to its last reply.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.confirmed == self.last_seq()
    }

    /// Returns the number of committed entries that the log lost and that were appended again
    /// during the term.
    #[must_use]
    pub fn lost_tail(&self) -> u64 {
        self.n_lost
    }

    fn on_behind(&mut self, flight: InFlight, head: Head) -> Verdict {
        if head.seq < self.base.seq && flight.base <= head.seq {
            // A checkpoint was made after this was sent, so the reply may predate it. The next
            // reply decides.
            return self.rewind(0);
        }
        if self.head_at(head.seq) != Some(head) {
            return self.end(Verdict::Diverged(head));
        }
        if flight.seq <= head.seq {
            return self.confirm(head.seq);
        }
        if head.seq < flight.floor {
            return self.lose_above(head.seq);
        }
        let verdict = self.confirm(head.seq);
        match (verdict, self.rewind(0)) {
            (committed @ Verdict::Committed { .. }, _) => committed,
            (_, rewound) => rewound,
        }
    }

    fn lose_above(&mut self, seq: u64) -> Verdict {
        let missing = self.confirmed - seq;
        self.n_lost += missing;
        self.confirmed = seq;
        self.rewind(missing)
    }

    fn confirm(&mut self, seq: u64) -> Verdict {
        self.in_flight.retain(|flight| seq < flight.seq);
        self.confirmed = self.confirmed.max(seq);
        self.sent = self.sent.max(seq);
        if self.committed < seq {
            self.committed = seq;
            Verdict::Committed { through: seq }
        } else {
            Verdict::Progressed
        }
    }

    /// Sends again everything after the confirmed entry. Sends that are still in flight fail or
    /// become duplicates, and their replies are late.
    fn rewind(&mut self, missing: u64) -> Verdict {
        self.in_flight.clear();
        self.sent = self.confirmed;
        Verdict::Rewound { missing }
    }

    fn end(&mut self, verdict: Verdict) -> Verdict {
        self.is_ended = true;
        self.in_flight.clear();
        verdict
    }

    fn last_seq(&self) -> u64 {
        self.base.seq + u64::try_from(self.tail.len()).expect("invariant: a length fits in 64 bits")
    }

    /// Returns the index in the tail of entry `seq`, if it is there.
    fn index_of(&self, seq: u64) -> Option<usize> {
        let above = seq.checked_sub(self.base.seq)?.checked_sub(1)?;
        usize::try_from(above).ok().filter(|ix| *ix < self.tail.len())
    }

    /// Returns the head of our chain at `seq`, if it is still known.
    fn head_at(&self, seq: u64) -> Option<Head> {
        if seq == self.base.seq {
            return Some(self.base);
        }
        self.index_of(seq).map(|ix| Head { seq, hash: self.tail[ix].hash })
    }
}
