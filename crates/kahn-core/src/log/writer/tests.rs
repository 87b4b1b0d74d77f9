//! Tests every reply of the protocol.

use super::LogWriter;
use crate::log::{Append, Hash, Head, Reply, Verdict};

fn hash(seq: u64) -> Hash {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&seq.to_le_bytes());
    Hash(bytes)
}

fn head(seq: u64) -> Head {
    Head { seq, hash: hash(seq) }
}

/// Creates a writer with entries `1..=n` pushed; each payload is its number.
fn writer(n: u64) -> LogWriter<u64> {
    let mut writer = LogWriter::new(Head::GENESIS);
    for seq in 1..=n {
        assert_eq!(writer.push(seq, hash(seq)), seq);
    }
    writer
}

/// Sends everything that may be sent, checks the order, and returns the numbers of the sends.
#[track_caller]
fn check_sends(writer: &mut LogWriter<u64>, expected: &[u64]) -> Vec<u64> {
    let sends: Vec<Append<u64>> = std::iter::from_fn(|| writer.next_send()).collect();
    let seqs: Vec<u64> = sends.iter().map(|append| append.payload).collect();
    assert_eq!(seqs, expected);
    for append in &sends {
        assert_eq!((append.prev, append.next), (head(append.payload - 1), head(append.payload)));
    }
    sends.into_iter().map(|append| append.send).collect()
}

#[test]
fn two_appends_are_in_flight_and_no_more() {
    let mut writer = writer(3);
    let sends = check_sends(&mut writer, &[1, 2]);
    assert_eq!(writer.on_reply(sends[0], Reply::Applied), Verdict::Committed { through: 1 });
    check_sends(&mut writer, &[3]);
}

#[test]
fn a_duplicate_counts_as_committed() {
    let mut writer = writer(1);
    let sends = check_sends(&mut writer, &[1]);
    assert_eq!(writer.on_reply(sends[0], Reply::Duplicate), Verdict::Committed { through: 1 });
    assert!(writer.is_settled());
}

#[test]
fn a_later_success_commits_what_lies_below_it() {
    let mut writer = writer(2);
    let sends = check_sends(&mut writer, &[1, 2]);
    assert_eq!(writer.on_reply(sends[1], Reply::Applied), Verdict::Committed { through: 2 });
    assert_eq!(writer.on_reply(sends[0], Reply::Applied), Verdict::Late);
}

#[test]
fn a_refused_first_append_takes_the_second_back_with_it() {
    let mut writer = writer(2);
    let sends = check_sends(&mut writer, &[1, 2]);
    assert_eq!(writer.on_reply(sends[0], Reply::Refused), Verdict::Resend);
    assert_eq!(writer.on_reply(sends[1], Reply::Behind(Head::GENESIS)), Verdict::Late);
    check_sends(&mut writer, &[1, 2]);
}

#[test]
fn a_refused_second_append_leaves_the_first_in_flight() {
    let mut writer = writer(2);
    let sends = check_sends(&mut writer, &[1, 2]);
    assert_eq!(writer.on_reply(sends[1], Reply::Refused), Verdict::Resend);
    check_sends(&mut writer, &[2]);
    assert_eq!(writer.on_reply(sends[0], Reply::Applied), Verdict::Committed { through: 1 });
}

#[test]
fn unknown_appends_that_arrived_are_found_by_sending_again() {
    let mut writer = writer(3);
    let sends = check_sends(&mut writer, &[1, 2]);
    assert_eq!(writer.on_reply(sends[0], Reply::Unknown), Verdict::Resend);
    assert_eq!(writer.on_reply(sends[1], Reply::Unknown), Verdict::Late);
    let again = check_sends(&mut writer, &[1, 2]);
    let ahead = Reply::Behind(head(2));
    assert_eq!(writer.on_reply(again[0], ahead), Verdict::Committed { through: 2 });
    assert_eq!(writer.on_reply(again[1], Reply::Duplicate), Verdict::Late);
    check_sends(&mut writer, &[3]);
    assert_eq!(writer.lost_tail(), 0);
}

#[test]
fn a_late_reply_is_ignored() {
    let mut writer = writer(2);
    let first = check_sends(&mut writer, &[1, 2]);
    assert_eq!(writer.on_reply(first[0], Reply::Unknown), Verdict::Resend);
    let second = check_sends(&mut writer, &[1, 2]);
    for reply in [Reply::Applied, Reply::Fenced, Reply::Refused, Reply::Behind(head(9))] {
        assert_eq!(writer.on_reply(first[0], reply), Verdict::Late);
    }
    assert_eq!(writer.committed(), 0);
    assert_eq!(writer.on_reply(second[0], Reply::Duplicate), Verdict::Committed { through: 1 });
}

#[test]
fn a_lost_tail_is_appended_again_in_order_and_counted() {
    let mut writer = writer(3);
    for seq in 1..=3 {
        let send = writer.next_send().expect("room").send;
        assert_eq!(writer.on_reply(send, Reply::Applied), Verdict::Committed { through: seq });
    }
    writer.push(4, hash(4));
    let sends = check_sends(&mut writer, &[4]);
    let verdict = writer.on_reply(sends[0], Reply::Behind(head(1)));
    assert_eq!(verdict, Verdict::Rewound { missing: 2 });
    assert_eq!((writer.lost_tail(), writer.committed()), (2, 3));
    let again = check_sends(&mut writer, &[2, 3]);
    assert_eq!(writer.on_reply(again[0], Reply::Applied), Verdict::Progressed);
    assert_eq!(writer.on_reply(again[1], Reply::Applied), Verdict::Progressed);
    let sends = check_sends(&mut writer, &[4]);
    assert_eq!(writer.on_reply(sends[0], Reply::Applied), Verdict::Committed { through: 4 });
}

#[test]
fn a_log_that_fell_back_while_idle_is_found_by_a_probe() {
    let mut writer = writer(2);
    for send in check_sends(&mut writer, &[1, 2]) {
        assert_eq!(writer.probe(), None);
        writer.on_reply(send, Reply::Applied);
    }
    let probe = writer.probe().expect("idle");
    assert_eq!(writer.on_probe(probe, head(2)), Verdict::Progressed);
    assert_eq!(writer.on_probe(probe, head(1)), Verdict::Rewound { missing: 1 });
    check_sends(&mut writer, &[2]);
    assert_eq!(writer.on_probe(probe, head(1)), Verdict::Late);
}

#[test]
fn a_foreign_head_ends_the_writer() {
    let foreign = Head { seq: 1, hash: hash(99) };
    let mut writer = writer(2);
    let sends = check_sends(&mut writer, &[1, 2]);
    assert_eq!(writer.on_reply(sends[0], Reply::Behind(foreign)), Verdict::Diverged(foreign));
    assert_eq!(writer.next_send(), None);
    assert_eq!(writer.on_reply(sends[1], Reply::Applied), Verdict::Late);
}

#[test]
fn a_head_beyond_ours_ends_the_writer() {
    let mut writer = writer(1);
    let sends = check_sends(&mut writer, &[1]);
    assert_eq!(writer.on_reply(sends[0], Reply::Behind(head(5))), Verdict::Diverged(head(5)));
}

#[test]
fn a_fenced_writer_sends_nothing_more() {
    let mut writer = writer(3);
    let sends = check_sends(&mut writer, &[1, 2]);
    assert_eq!(writer.on_reply(sends[0], Reply::Fenced), Verdict::Fenced);
    assert_eq!(writer.next_send(), None);
    assert_eq!(writer.probe(), None);
}

#[test]
fn a_loss_below_the_checkpoint_cannot_be_mended() {
    let mut writer = writer(3);
    let sends = check_sends(&mut writer, &[1, 2]);
    assert_eq!(writer.on_reply(sends[1], Reply::Applied), Verdict::Committed { through: 2 });
    writer.checkpointed(2);
    let sends = check_sends(&mut writer, &[3]);
    assert_eq!(writer.on_reply(sends[0], Reply::Behind(head(1))), Verdict::Diverged(head(1)));
}

#[test]
fn an_answer_overtaken_by_a_checkpoint_is_no_loss() {
    let mut writer = writer(2);
    let sends = check_sends(&mut writer, &[1, 2]);
    assert_eq!(writer.on_reply(sends[0], Reply::Applied), Verdict::Committed { through: 1 });
    writer.checkpointed(1);
    let verdict = writer.on_reply(sends[1], Reply::Behind(Head::GENESIS));
    assert_eq!(verdict, Verdict::Rewound { missing: 0 });
    check_sends(&mut writer, &[2]);
    assert_eq!(writer.lost_tail(), 0);
}

#[test]
fn a_checkpoint_keeps_what_is_not_committed() {
    let mut writer = writer(2);
    writer.checkpointed(2);
    check_sends(&mut writer, &[1, 2]);
}

#[test]
fn a_writer_goes_on_from_the_head_it_was_given() {
    let mut writer = LogWriter::new(head(41));
    writer.push(42, hash(42));
    let sends = check_sends(&mut writer, &[42]);
    assert_eq!(writer.on_reply(sends[0], Reply::Applied), Verdict::Committed { through: 42 });
    assert_eq!(writer.head(), head(42));
}
