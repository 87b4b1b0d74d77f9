//! An owner that appends without a pause while the servers below it fail.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kahn_core::log::Head;
use kahn_store::{
    Acquired, AppendEvent, Appender, Batch, Claim, LogStore, RedisConfig, StoreError,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout};

use crate::support::{P0, cluster, open, owner, read_all};

/// The number of batches that are pushed ahead of those known to be durable.
const AHEAD: u64 = 8;
/// How often batches are pushed, so that the log stays short enough to be read again.
const PERIOD: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(40);

#[derive(Clone, Copy)]
enum End {
    /// Wait until everything pushed is durable.
    Finish,
    /// Stop at once, as if the process was killed.
    Vanish,
}

/// A running owner.
pub(crate) struct Load {
    committed: watch::Receiver<u64>,
    /// The longest time between two acknowledgements.
    gap: Arc<Mutex<Duration>>,
    end: oneshot::Sender<End>,
    task: JoinHandle<Report>,
}

/// What an owner has pushed, and what of it was acknowledged.
pub(crate) struct Report {
    pub(crate) pushed: Vec<Bytes>,
    pub(crate) committed: u64,
    /// The number of acknowledged batches that the store had lost and was given again.
    pub(crate) lost: u64,
}

impl Load {
    /// Acquires the partition by force and starts to append.
    pub(crate) async fn start(store: &Arc<dyn LogStore>, nonce: u64) -> Self {
        let acquired = acquire(store, nonce).await;
        let (tx, events) = mpsc::channel(10_000);
        // An owner that vanishes does not read what comes afterwards.
        let tell = move |event| drop(tx.try_send(event));
        let (term, head) = (acquired.term, acquired.head);
        let appender = Appender::spawn(Arc::clone(store), P0, term, head, tell);
        let (progress, committed) = watch::channel(head.seq);
        let (end, ended) = oneshot::channel();
        let gap = Arc::new(Mutex::new(Duration::ZERO));
        let progress = Progress { committed: progress, gap: gap.clone(), last: Instant::now() };
        let task = tokio::spawn(append(appender, events, progress, ended, head.seq, nonce));
        Self { committed, gap, end, task }
    }

    /// Waits until more batches are acknowledged.
    pub(crate) async fn progress(&mut self, n_batches: u64) {
        let goal = *self.committed.borrow() + n_batches;
        let reached = timeout(PATIENCE, self.committed.wait_for(|seq| goal <= *seq)).await;
        assert!(matches!(reached, Ok(Ok(_))), "no progress to {goal}: {reached:?}");
    }

    /// Returns the longest time between two acknowledgements since it was asked last.
    pub(crate) fn longest_gap(&self) -> Duration {
        std::mem::take(&mut self.gap.lock().unwrap())
    }

    /// Stops pushing, and waits until everything is acknowledged.
    pub(crate) async fn finish(self) -> Report {
        self.stop(End::Finish).await
    }

    /// Stops the owner without a warning.
    pub(crate) async fn vanish(self) -> Report {
        self.stop(End::Vanish).await
    }

    async fn stop(self, end: End) -> Report {
        assert!(self.end.send(end).is_ok(), "the owner has ended");
        timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }
}

struct Progress {
    committed: watch::Sender<u64>,
    gap: Arc<Mutex<Duration>>,
    last: Instant,
}

impl Progress {
    fn on_committed(&mut self, seq: u64) {
        let now = Instant::now();
        let mut gap = self.gap.lock().unwrap();
        *gap = (*gap).max(now - self.last);
        self.last = now;
        self.committed.send_replace(seq);
    }
}

async fn append(
    mut appender: Appender,
    mut events: mpsc::Receiver<AppendEvent>,
    mut progress: Progress,
    mut ended: oneshot::Receiver<End>,
    first: u64,
    nonce: u64,
) -> Report {
    let mut report = Report { pushed: Vec::new(), committed: first, lost: 0 };
    let (mut pushed, mut is_ending) = (first, false);
    let mut clock = interval(PERIOD);
    while !is_ending || report.committed < pushed {
        tokio::select! {
            _ = clock.tick(), if !is_ending => {
                while pushed < report.committed + AHEAD {
                    let payload = Bytes::from(format!("{nonce} {pushed} {:>100}", ""));
                    report.pushed.push(payload.clone());
                    pushed = appender.push(Batch::new(payload)).unwrap();
                }
            }
            end = &mut ended, if !is_ending => match end.unwrap() {
                End::Finish => is_ending = true,
                End::Vanish => return report,
            },
            event = events.recv() => match event.unwrap() {
                AppendEvent::Committed { through_seq, .. } => {
                    report.committed = through_seq;
                    progress.on_committed(through_seq);
                }
                AppendEvent::TailLost { missing, .. } => report.lost += missing,
                AppendEvent::Ended { reason, .. } => panic!("the owner ended: {reason:?}"),
                AppendEvent::Troubled { .. }
                | AppendEvent::Recovered { .. }
                | AppendEvent::Renewed { .. } => {}
            },
        }
    }
    report
}

/// Opens the store once enough replicas are connected. After a failover, sentinels may configure
/// them again, and they connect again, which may take longer than a coordinator waits for them.
pub(crate) async fn open_whole(config: &RedisConfig) -> Arc<dyn LogStore> {
    let until = Instant::now() + PATIENCE;
    loop {
        match open(config, cluster(1)).await {
            Err(error) if may_pass(&error) && Instant::now() < until => {
                sleep(Duration::from_millis(20)).await; // poll
            }
            opened => return opened.unwrap(),
        }
    }
}

/// Acquires the partition by force, once enough replicas receive it.
pub(crate) async fn acquire(store: &Arc<dyn LogStore>, nonce: u64) -> Acquired {
    let until = Instant::now() + PATIENCE;
    loop {
        match store.acquire(P0, &owner(nonce), Claim::Force).await {
            Err(error) if may_pass(&error) && Instant::now() < until => {
                sleep(Duration::from_millis(20)).await; // poll
            }
            acquired => return acquired.unwrap(),
        }
    }
}

/// Returns whether an error has to do with servers that fail or are slow.
fn may_pass(error: &StoreError) -> bool {
    !matches!(
        error,
        StoreError::Damaged(_)
            | StoreError::Unsafe(_)
            | StoreError::BadConfig(_)
            | StoreError::WrongCluster { .. }
            | StoreError::PartitionCount { .. }
    )
}

/// Reads the log like a new owner, and checks that it is an unbroken chain of batches of `reports`
/// in their order, which contains all that were acknowledged.
pub(crate) async fn check_log(config: &RedisConfig, reports: &[Report]) {
    let store = open_whole(config).await;
    acquire(&store, 0xa11).await;
    let log = read_all(&*store, Head::GENESIS).await;
    let mut rest = &log[..];
    for (n, report) in reports.iter().enumerate() {
        let n_found = rest.iter().zip(&report.pushed).take_while(|(a, b)| a == b).count();
        let first = log.len() - rest.len();
        let n_acknowledged = usize::try_from(report.committed).unwrap().saturating_sub(first);
        assert!(n_acknowledged <= n_found, "owner {n}: {n_acknowledged} > {n_found} found");
        rest = &rest[n_found..];
    }
    assert!(rest.is_empty(), "{} entries that nobody has written", rest.len());
}
