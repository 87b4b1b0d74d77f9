//! The writer's side of the append protocol: what is sent, what is sent again, what is committed.
//!
//! It neither hashes nor waits nor talks to a store; it decides.

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::{Append, Hash, Head, Reply, Verdict};

/// How many appends may be on their way at once. More only lengthens the queue in the store.
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
    /// What was confirmed when it was sent: the log can answer with less only if it lost entries.
    floor: u64,
    /// Below this the tail had been forgotten when it was sent.
    base: u64,
}

/// Leave to ask the log for its head, void once anything more is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    n_sends: u64,
}

/// Appends entries to one log under one term: in order, each exactly once, whatever is lost.
///
/// Call [`push`](Self::push), then [`next_send`](Self::next_send) until it gives `None`; hand each
/// reply to [`on_reply`](Self::on_reply) and ask `next_send` again. Entries stay in memory until
/// [`checkpointed`](Self::checkpointed), so that a store which lost them can be given them anew.
#[derive(Clone, Debug)]
pub struct LogWriter<P> {
    /// The head just below the tail.
    base: Head,
    /// The entries above `base`, without gaps.
    tail: VecDeque<Entry<P>>,
    /// Up to here the log held our entries when it last spoke.
    confirmed: u64,
    /// The highest `confirmed` ever.
    committed: u64,
    /// The next to be sent is the one above.
    sent: u64,
    in_flight: VecDeque<InFlight>,
    n_sends: u64,
    n_lost: u64,
    is_ended: bool,
}

impl<P: Clone> LogWriter<P> {
    /// A writer on top of `head`, which the store gave when the term began.
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

    /// The last entry pushed. The next one's hash is computed from this one's.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { seq: self.last_seq(), hash: self.tail.back().map_or(self.base.hash, |e| e.hash) }
    }

    /// Takes the next entry, with the chain up to it, and returns its sequence number.
    pub fn push(&mut self, payload: P, hash: Hash) -> u64 {
        self.tail.push_back(Entry { hash, payload });
        self.last_seq()
    }

    /// The next request to send, if one may go out now.
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

    /// Takes what is known of the send numbered `send`.
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

    /// Leave to ask the log for its head; given only while nothing is on its way.
    ///
    /// A log that fell back while nothing was being appended is found out by this alone.
    #[must_use]
    pub fn probe(&self) -> Option<Probe> {
        (self.in_flight.is_empty() && !self.is_ended).then_some(Probe { n_sends: self.n_sends })
    }

    /// Takes the head that the log had after `probe` was given.
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

    /// Forgets the entries up to and including `seq`: a checkpoint covers them.
    ///
    /// From then on a log that has lost them cannot be mended. Entries that are not committed stay.
    pub fn checkpointed(&mut self, seq: u64) {
        let seq = seq.min(self.confirmed);
        if let Some(head) = self.head_at(seq) {
            self.tail.drain(..self.index_of(seq).map_or(0, |ix| ix + 1));
            self.base = head;
        }
    }

    /// The highest sequence number ever confirmed.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Whether every entry pushed is in the log, as far as the log has said.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.confirmed == self.last_seq()
    }

    /// Committed entries that the log lost and that were appended anew, over the whole term.
    #[must_use]
    pub fn lost_tail(&self) -> u64 {
        self.n_lost
    }

    fn on_behind(&mut self, flight: InFlight, head: Head) -> Verdict {
        if head.seq < self.base.seq && flight.base <= head.seq {
            // A checkpoint was made since it was sent, so this may have been said before that.
            // The next reply can tell.
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

    /// Sends again from what is confirmed. What is still on its way comes to nothing or to a
    /// duplicate, and its reply is late.
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

    /// The position in the tail of entry `seq`, if it is there.
    fn index_of(&self, seq: u64) -> Option<usize> {
        let above = seq.checked_sub(self.base.seq)?.checked_sub(1)?;
        usize::try_from(above).ok().filter(|ix| *ix < self.tail.len())
    }

    /// Our head at `seq`, if it is still known.
    fn head_at(&self, seq: u64) -> Option<Head> {
        if seq == self.base.seq {
            return Some(self.base);
        }
        self.index_of(seq).map(|ix| Head { seq, hash: self.tail[ix].hash })
    }
}
