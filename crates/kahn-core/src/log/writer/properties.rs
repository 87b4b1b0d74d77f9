//! Tests a writer with a network that loses, delays, repeats and reorders, and a log that loses
//! entries.

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::test_runner::Config as ProptestConfig;
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::LogWriter;
use crate::log::{Append, Hash, Head, Reply, Verdict};

#[derive(Clone, Debug)]
enum Act {
    Push,
    Send,
    /// A request arrives; with `true` a copy of it stays in flight.
    Arrive(usize, bool),
    /// A reply arrives; with `true` a copy of it stays in flight.
    Answer(usize, bool),
    /// A request is refused, and the writer receives that reply.
    Refuse(usize),
    /// A reply is lost.
    Forget(usize),
    /// The writer times out; the request may still arrive.
    TimeOut(usize),
    /// The log loses up to this many of its last entries.
    Crash(usize),
    Probe,
    /// The lower half of what is committed is checkpointed.
    Checkpoint,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let at = 0..8_usize;
    let act = prop_oneof![
        3 => proptest::strategy::Just(Act::Push),
        6 => proptest::strategy::Just(Act::Send),
        6 => (at.clone(), any::<bool>()).prop_map(|(ix, stays)| Act::Arrive(ix, stays)),
        6 => (at.clone(), any::<bool>()).prop_map(|(ix, stays)| Act::Answer(ix, stays)),
        1 => at.clone().prop_map(Act::Refuse),
        1 => at.clone().prop_map(Act::Forget),
        1 => at.clone().prop_map(Act::TimeOut),
        1 => (1..4_usize).prop_map(Act::Crash),
        1 => proptest::strategy::Just(Act::Probe),
        1 => proptest::strategy::Just(Act::Checkpoint),
    ];
    vec(act, 0..200)
}

/// A small hash chain: any function of the previous hash and the entry is sufficient.
fn link(prev: Hash, payload: u64) -> Hash {
    let before = u128::from_le_bytes(prev.0);
    Hash(before.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u128::from(payload)).to_le_bytes())
}

struct World {
    writer: LogWriter<u64>,
    pushed: Vec<u64>,
    /// The contents of the log, and the number of entries covered by a checkpoint, which it never
    /// loses.
    log: Vec<(Head, u64)>,
    floor: usize,
    crashed: u64,
    requests: Vec<Append<u64>>,
    replies: Vec<(u64, Reply)>,
}

impl World {
    fn new() -> Self {
        Self {
            writer: LogWriter::new(Head::GENESIS),
            pushed: Vec::new(),
            log: Vec::new(),
            floor: 0,
            crashed: 0,
            requests: Vec::new(),
            replies: Vec::new(),
        }
    }

    fn log_head(&self) -> Head {
        self.log.last().map_or(Head::GENESIS, |(head, _)| *head)
    }

    fn push(&mut self) {
        let payload = 1000 + u64::try_from(self.pushed.len()).expect("small");
        let hash = link(self.writer.head().hash, payload);
        self.writer.push(payload, hash);
        self.pushed.push(payload);
    }

    fn send(&mut self) {
        self.requests.extend(self.writer.next_send());
    }

    fn judge(&mut self, append: &Append<u64>) -> Reply {
        let head = self.log_head();
        if head == append.prev {
            self.log.push((append.next, append.payload));
            return Reply::Applied;
        }
        if head == append.next { Reply::Duplicate } else { Reply::Behind(head) }
    }

    fn arrive(&mut self, ix: usize, stays: bool) {
        let request = self.requests[ix].clone();
        let reply = self.judge(&request);
        self.replies.push((request.send, reply));
        if !stays {
            self.requests.remove(ix);
        }
    }

    fn checkpoint(&mut self) {
        let held = u64::try_from(self.log.len()).expect("small");
        let seq = (self.writer.committed() / 2).min(held);
        self.writer.checkpointed(seq);
        self.floor = self.floor.max(usize::try_from(seq).expect("small"));
    }

    fn crash(&mut self, n: usize) {
        let kept = self.log.len().saturating_sub(n).max(self.floor.min(self.log.len()));
        self.crashed += u64::try_from(self.log.len() - kept).expect("small");
        self.log.truncate(kept);
    }

    /// Performs an act if it is possible now, and returns the writer's verdict.
    fn act(&mut self, act: &Act) -> Option<Verdict> {
        let n_requests = self.requests.len();
        let n_replies = self.replies.len();
        match *act {
            Act::Push => self.push(),
            Act::Send => self.send(),
            Act::Arrive(ix, stays) if ix < n_requests => self.arrive(ix, stays),
            Act::Answer(ix, stays) if ix < n_replies => {
                let (send, reply) = self.replies[ix];
                if !stays {
                    self.replies.remove(ix);
                }
                return Some(self.writer.on_reply(send, reply));
            }
            Act::Refuse(ix) if ix < n_requests => {
                let request = self.requests.remove(ix);
                return Some(self.writer.on_reply(request.send, Reply::Refused));
            }
            Act::Forget(ix) if ix < n_replies => {
                let (send, _) = self.replies.remove(ix);
                return Some(self.writer.on_reply(send, Reply::Unknown));
            }
            Act::TimeOut(ix) if ix < n_requests => {
                let send = self.requests[ix].send;
                return Some(self.writer.on_reply(send, Reply::Unknown));
            }
            Act::Crash(n) => self.crash(n),
            Act::Probe => {
                let probe = self.writer.probe()?;
                return Some(self.writer.on_probe(probe, self.log_head()));
            }
            Act::Checkpoint => self.checkpoint(),
            Act::Arrive(..) | Act::Answer(..) | Act::Refuse(_) => {}
            Act::Forget(_) | Act::TimeOut(_) => {}
        }
        None
    }

    /// Stops all faults: everything arrives, and the writer finishes.
    fn stop_faults(&mut self) -> Option<Verdict> {
        // Another append reveals whether the last entries were lost.
        self.push();
        for _ in 0..10_000 {
            if self.writer.is_settled() && self.log_head() == self.writer.head() {
                return None;
            }
            let verdict = if let Some(append) = self.writer.next_send() {
                let reply = self.judge(&append);
                Some(self.writer.on_reply(append.send, reply))
            } else if !self.requests.is_empty() {
                self.act(&Act::Arrive(0, false))
            } else if !self.replies.is_empty() {
                self.act(&Act::Answer(0, false))
            } else {
                self.act(&Act::Probe)
            };
            if let Some(Verdict::Diverged(_) | Verdict::Fenced) = verdict {
                return verdict;
            }
        }
        Some(Verdict::Late)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_holds_what_was_pushed_once_and_in_order(acts in acts()) {
        let mut world = World::new();
        for act in &acts {
            let verdict = world.act(act);
            prop_assert!(!matches!(verdict, Some(Verdict::Diverged(_) | Verdict::Fenced)));
            if world.crashed == 0 {
                let held = u64::try_from(world.log.len()).expect("small");
                prop_assert!(world.writer.committed() <= held, "committed beyond the log");
                prop_assert_eq!(world.writer.lost_tail(), 0);
            }
        }
        prop_assert_eq!(world.stop_faults(), None);
        let held: Vec<u64> = world.log.iter().map(|(_, payload)| *payload).collect();
        prop_assert_eq!(&held, &world.pushed);
    }
}
