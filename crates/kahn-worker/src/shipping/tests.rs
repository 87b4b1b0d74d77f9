//! Tests when pieces are sent, with simulated streams and receipts.

use kahn_model::{RunId, TaskIx};

use super::*;
use kahn_executor::logs::LogWriter;

const TOKEN: Token = Token { epoch: 1, serial: 2, nonce: 3 };
const BYTES: u64 = 3 << 20;

fn attempt() -> AttemptId {
    let run = RunId::new(kahn_model::Uuid::from_u128(1));
    AttemptId { run, task: TaskIx(4), number: 1 }
}

/// The worker's side of shipping and a simulated coordinator.
struct Bench {
    dir: tempfile::TempDir,
    log: LogWriter,
    shipping: Shipping,
    streams: watch::Sender<Stream>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let logs = LogDir::open(dir.path(), 16 << 20).unwrap();
        let log = logs.writer_under(attempt(), TOKEN);
        log.append(&vec![b'x'; usize::try_from(BYTES).unwrap()]);
        log.seal();
        let (streams, stream) = watch::channel(None);
        let (n_open, _) = watch::channel(0);
        let (waiting, unstored, n_sent) = Default::default();
        let shipping = Shipping { stream, n_open, waiting, unstored, dir: logs, n_sent };
        Self { dir, log, shipping, streams }
    }

    fn ship(&self) -> Shipment {
        self.shipping.ship(attempt(), TOKEN, self.log.reader(0))
    }

    fn open_stream(&self) -> mpsc::Receiver<LogPiece> {
        let (tx, pieces) = mpsc::channel(PIECES_MAX);
        self.streams.send_replace(Some(tx));
        pieces
    }

    fn receipt(&self, offset: u64, is_sealed: bool, refusal: &str) {
        let refusal = refusal.to_owned();
        self.deliver(LogReceipt { offset, is_sealed, refusal, ..LogReceipt::default() });
    }

    fn deliver(&self, receipt: LogReceipt) {
        let lease = Some(wire::lease_id(attempt(), TOKEN));
        deliver(&self.shipping.waiting, LogReceipt { lease, ..receipt });
    }

    fn has_file(&self) -> bool {
        std::fs::read_dir(self.dir.path()).unwrap().next().is_some()
    }
}

/// Receives pieces until `end` and checks that they are contiguous from `start` on.
async fn expect_pieces(pieces: &mut mpsc::Receiver<LogPiece>, start: u64, end: u64) {
    let mut at = start;
    while at < end {
        let piece = pieces.recv().await.unwrap();
        assert_eq!((piece.offset, piece.is_sealed), (at, false));
        at += u64::try_from(piece.data.len()).unwrap();
    }
    assert_eq!(at, end);
}

#[tokio::test]
async fn a_window_is_sent_ahead_and_a_lost_stream_goes_on_where_the_last_receipt_was() {
    let bench = Bench::new();
    let shipment = bench.ship();
    let mut pieces = bench.open_stream();
    expect_pieces(&mut pieces, 0, WINDOW_BYTES).await;
    tokio::task::yield_now().await;
    assert!(pieces.try_recv().is_err(), "more than the window was sent");
    bench.receipt(65_536, false, "");
    expect_pieces(&mut pieces, WINDOW_BYTES, WINDOW_BYTES + 65_536).await;

    bench.streams.send_replace(None);
    let mut pieces = bench.open_stream();
    expect_pieces(&mut pieces, 65_536, WINDOW_BYTES + 65_536).await;
    drop(shipment);
}

#[tokio::test]
async fn a_coordinator_that_lost_output_gets_it_again_and_the_file_goes_with_the_last_receipt() {
    let bench = Bench::new();
    let shipment = bench.ship();
    let mut pieces = bench.open_stream();
    expect_pieces(&mut pieces, 0, WINDOW_BYTES).await;
    bench.receipt(WINDOW_BYTES, false, "");
    expect_pieces(&mut pieces, WINDOW_BYTES, 2 * WINDOW_BYTES).await;
    bench.receipt(65_536, false, "");
    expect_pieces(&mut pieces, 65_536, 65_536 + WINDOW_BYTES).await;
    // The coordinator has the rest from elsewhere.
    bench.receipt(BYTES, false, "");
    let end = pieces.recv().await.unwrap();
    assert_eq!((end.offset, end.data.len(), end.is_sealed), (BYTES, 0, true));
    assert!(bench.has_file());
    bench.receipt(BYTES, true, "");
    assert!(shipment.wait_until_received(Duration::from_secs(60)).await);
    assert!(!bench.has_file());
    bench.shipping.idle().await;
}

#[tokio::test]
async fn output_that_is_refused_is_given_up() {
    let bench = Bench::new();
    let shipment = bench.ship();
    let mut pieces = bench.open_stream();
    pieces.recv().await.unwrap();
    bench.receipt(0, false, "there is no such run");
    assert!(shipment.wait_until_received(Duration::from_secs(60)).await);
    assert!(!bench.has_file() && bench.shipping.lock_waiting().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_end_is_late_only_when_nothing_is_received_for_long() {
    let bench = Bench::new();
    let shipment = bench.ship();
    let stall_timeout = Duration::from_secs(1);
    let mut pieces = bench.open_stream();
    let waiting = tokio::spawn(shipment.wait_until_received(stall_timeout));
    for offset in 1..=10 {
        tokio::time::advance(Duration::from_millis(900)).await;
        while pieces.try_recv().is_ok() {}
        bench.receipt(offset, false, "");
        // Let every task that this wakes run.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    assert!(!waiting.is_finished(), "it was given up despite progress");
    assert!(!waiting.await.unwrap());
}

#[tokio::test]
async fn output_that_is_received_but_not_stored_is_kept_and_sent_again_to_the_next_leader() {
    let bench = Bench::new();
    let shipment = bench.ship();
    let mut pieces = bench.open_stream();
    for offset in [WINDOW_BYTES, 2 * WINDOW_BYTES, BYTES] {
        expect_pieces(&mut pieces, offset - WINDOW_BYTES, offset).await;
        bench.receipt(offset, false, "");
    }
    assert!(pieces.recv().await.unwrap().is_sealed);
    let received = LogReceipt { offset: BYTES, is_complete: true, ..LogReceipt::default() };
    bench.deliver(received);
    assert!(shipment.wait_until_received(Duration::from_secs(60)).await);
    assert!(bench.has_file(), "the only copy was removed");
    assert_eq!(bench.shipping.unstored(), [wire::lease_id(attempt(), TOKEN)]);

    // Another coordinator leads, which has less.
    bench.streams.send_replace(None);
    let mut pieces = bench.open_stream();
    assert!(pieces.recv().await.unwrap().is_sealed);
    bench.receipt(65_536, false, "");
    expect_pieces(&mut pieces, 65_536, 65_536 + WINDOW_BYTES).await;
    bench.receipt(BYTES, true, "");
    bench.shipping.idle().await;
    assert!(!bench.has_file() && bench.shipping.unstored().is_empty());
}

#[tokio::test]
async fn output_that_was_received_but_will_not_be_stored_is_sent_again_from_its_start() {
    let bench = Bench::new();
    let shipment = bench.ship();
    let mut pieces = bench.open_stream();
    for offset in [WINDOW_BYTES, 2 * WINDOW_BYTES, BYTES] {
        expect_pieces(&mut pieces, offset - WINDOW_BYTES, offset).await;
        bench.receipt(offset, false, "");
    }
    assert!(pieces.recv().await.unwrap().is_sealed);
    // Both arrive before the worker looks at the first one.
    bench.deliver(LogReceipt { offset: BYTES, is_complete: true, ..LogReceipt::default() });
    bench.receipt(0, false, "");
    expect_pieces(&mut pieces, 0, WINDOW_BYTES).await;
    bench.receipt(0, false, "there is no such run");
    assert!(shipment.wait_until_received(Duration::from_secs(60)).await);
    assert!(!bench.has_file() && bench.shipping.unstored().is_empty());
}

#[tokio::test]
async fn a_loss_is_noticed_even_if_nothing_was_known_to_be_received() {
    let bench = Bench::new();
    let shipment = bench.ship();
    let mut pieces = bench.open_stream();
    expect_pieces(&mut pieces, 0, WINDOW_BYTES).await;
    bench.receipt(WINDOW_BYTES, false, "");
    bench.receipt(0, false, "");
    expect_pieces(&mut pieces, 0, WINDOW_BYTES).await;
    drop(shipment);
}
