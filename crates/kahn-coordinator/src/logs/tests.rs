//! Tests of stored output.

use super::*;
use kahn_model::{RunId, TaskIx, Uuid};

const AMPLE: Caps = Caps { attempt_bytes: 1 << 20, total_bytes: 1 << 30 };

fn attempt() -> AttemptId {
    AttemptId { run: RunId::new(Uuid::from_u128(1)), task: TaskIx(2), number: 1 }
}

fn token(serial: u64) -> Token {
    Token { epoch: 3, serial, nonce: 7 }
}

fn piece(offset: u64, text: &[u8], is_sealed: bool) -> Piece {
    Piece { offset, data: Bytes::copy_from_slice(text), is_sealed }
}

async fn receipt(logs: &Logs, offset: u64, text: &str, is_sealed: bool) -> Receipt {
    logs.write(attempt(), token(1), piece(offset, text.as_bytes(), is_sealed)).await.unwrap()
}

async fn write(logs: &Logs, offset: u64, text: &str, is_sealed: bool) -> Extent {
    receipt(logs, offset, text, is_sealed).await.received
}

async fn text(logs: &Logs) -> String {
    String::from_utf8(logs.read(attempt(), 0).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn pieces_that_overlap_leave_no_repeat_and_a_gap_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::new(dir.path().to_owned(), AMPLE);
    assert_eq!(write(&logs, 0, "hello ", false).await.len, 6);
    assert_eq!(write(&logs, 3, "lo world", false).await.len, 11);
    assert_eq!(write(&logs, 20, "gap", false).await, Extent { len: 11, is_sealed: false });
    assert_eq!(write(&logs, 20, "", true).await, Extent { len: 11, is_sealed: false });
    assert_eq!(write(&logs, 11, "!", true).await, Extent { len: 12, is_sealed: true });
    assert_eq!(write(&logs, 12, "late", false).await, Extent { len: 16, is_sealed: true });
    assert_eq!(text(&logs).await, "hello world!");
}

#[tokio::test]
async fn the_same_piece_on_two_streams_at_one_time_is_kept_once() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::new(dir.path().to_owned(), AMPLE);
    for at in 0..50 {
        let send = || write(&logs, at * 4, "1234", false);
        tokio::join!(send(), send(), send());
    }
    assert_eq!(text(&logs).await, "1234".repeat(50));
}

#[tokio::test]
async fn a_log_goes_on_after_a_restart_and_knows_its_lease() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::new(dir.path().to_owned(), AMPLE);
    assert_eq!(logs.extent(attempt()).await.unwrap(), None);
    logs.expect(attempt(), token(1)).await.unwrap();
    assert_eq!(logs.extent(attempt()).await.unwrap(), Some(Extent::default()));
    write(&logs, 0, "one", false).await;
    let logs = Logs::new(dir.path().to_owned(), AMPLE);
    assert_eq!(logs.owner(attempt()).await.unwrap(), Some(token(1)));
    write(&logs, 3, "two", true).await;
    let logs = Logs::new(dir.path().to_owned(), AMPLE);
    assert_eq!(logs.owner(attempt()).await.unwrap(), Some(token(1)));
    assert_eq!(logs.extent(attempt()).await.unwrap(), Some(Extent { len: 6, is_sealed: true }));
    assert_eq!(text(&logs).await, "onetwo");
}

#[tokio::test]
async fn what_is_beyond_the_cap_is_dropped_and_the_log_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::new(dir.path().to_owned(), Caps { attempt_bytes: 4, ..AMPLE });
    let long = "x".repeat(2000);
    assert_eq!(write(&logs, 0, &long, false).await.len, 2000);
    assert_eq!(write(&logs, 2000, "more", false).await.len, 2004);
    assert_eq!(write(&logs, 2004, "", true).await, Extent { len: 2004, is_sealed: true });
    let last = text(&logs).await.lines().last().unwrap().to_owned();
    let expected = "[kahn] log cut after 1028 bytes, 976 bytes dropped: limits.log_bytes of the \
                    coordinator is 4";
    assert_eq!(last, expected);
}

#[tokio::test]
async fn the_last_line_of_a_worker_that_cut_at_the_same_cap_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::new(dir.path().to_owned(), Caps { attempt_bytes: 4, ..AMPLE });
    write(&logs, 0, "1234\n[kahn] log cut after 4 bytes, 9 bytes dropped\n", true).await;
    assert!(text(&logs).await.ends_with("9 bytes dropped\n"));
}

#[tokio::test]
async fn all_logs_together_have_a_cap_and_old_ones_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let caps = Caps { total_bytes: 1000, ..AMPLE };
    let logs = Logs::new(dir.path().to_owned(), caps);
    write(&logs, 0, &"x".repeat(990), false).await;
    assert!(logs.is_nearly_full());
    write(&logs, 990, &"z".repeat(100), true).await;
    let kept = text(&logs).await;
    assert_eq!(kept.matches('z').count(), 10);
    assert!(kept.contains("[kahn] log cut after 1000 bytes, 90 bytes dropped: limits.total_log"));

    let logs = Logs::new(dir.path().to_owned(), caps);
    logs.recover().await;
    assert!(logs.is_nearly_full(), "what an earlier start kept does not count");
    assert!(logs.remove_output(attempt().run, NO_ROOM).await.unwrap());
    let why = logs.why_removed(attempt().run).await.unwrap().unwrap();
    assert!(!logs.is_nearly_full() && why.contains("limits.total_log_bytes"), "{why}");
    assert!(!logs.remove_output(attempt().run, NO_ROOM).await.unwrap());
    logs.forget(attempt().run).await.unwrap();
    assert_eq!(logs.why_removed(attempt().run).await.unwrap(), None);
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
}

mod shared;
