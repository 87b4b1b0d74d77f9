//! Archived runs, as the service shows, changes and removes them.

use kahn_blob::BlobStore;
use kahn_model::{RunId, RunRef, Uuid};
use kahn_runtime::metrics::Format;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::Retain;
use crate::logs::UploadStats;
use crate::service::{
    ErrorKind, Exports, RetryRequest, RetryWhich, RunFilter, RunView, TaskFilter, WatchRequest,
};

/// A leader with a blob store in a directory.
struct Case {
    store: MemoryStore,
    dir: TempDir,
    leader: Option<Leader>,
    histories: Histories,
    metrics: Metrics,
    service: Service,
}

impl Case {
    async fn new(retention: RetentionConfig) -> Self {
        Self::on(store(), tempfile::tempdir().unwrap(), retention).await
    }

    async fn on(store: MemoryStore, dir: TempDir, retention: RetentionConfig) -> Self {
        let outcome = candidate(&store, 1).campaign().await.unwrap();
        let Outcome::Elected { recovered, asked_at } = outcome else { panic!("another leads") };
        let metrics = Metrics::new();
        let url = dir.path().join("blobs").display().to_string();
        let blobs = BlobStore::open(&kahn_blob::Settings::new(url)).unwrap();
        let caps = Caps { attempt_bytes: 1 << 20, total_bytes: 1 << 30 };
        let logs = Logs::new(dir.path().join("logs"), caps);
        let logs = logs.with_store(blobs.clone(), UploadStats::new(&metrics));
        assert!(logs.claim("cluster", &CancellationToken::new()).await);
        let shared = Shared {
            store: Arc::new(store.clone()),
            limits: Limits::default(),
            retention,
            is_store_shared: true,
            logs,
            histories: Histories::new(blobs),
            archive_stats: ArchiveStats::new(&metrics),
            stats: Stats::new(&metrics, Readiness::new(), &MetricsConfig::default()),
            traces: Traces::off(),
            next_session: Arc::default(),
        };
        let leader = Leader::start(*recovered, asked_at, &shared).unwrap();
        let service = Service::new(
            leader.handle.clone(),
            leader.watchers.clone(),
            shared.logs.clone(),
            shared.histories.clone(),
            Limits::default(),
            Exports::new(Arc::clone(&shared.store), Default::default()),
        );
        let histories = shared.histories.clone();
        Self { store, dir, leader: Some(leader), histories, metrics, service }
    }

    fn leader(&self) -> &Leader {
        self.leader.as_ref().unwrap()
    }

    /// Submits a run and ends it, for want of a worker by cancelling it.
    async fn ended_run(&self, number: u128) -> RunId {
        submit(self.leader(), number).await;
        let run = RunId::new(Uuid::from_u128(number));
        self.service.cancel(run.into(), "enough").await.unwrap();
        run
    }

    async fn counts(&self) -> (usize, usize) {
        let count = |core: &Core| (core.state().n_runs(), core.state().n_archived());
        self.leader().handle.query(count).await.unwrap()
    }

    async fn wait_for(&self, expected: (usize, usize)) {
        let reached = async {
            while self.counts().await != expected {
                tokio::time::sleep(Duration::from_secs(1)).await; // poll
            }
        };
        let waited = tokio::time::timeout(10 * LONG, reached).await;
        waited.unwrap_or_else(|_| panic!("{expected:?} whole and archived runs are awaited"));
    }

    /// Returns whether a run is archived, and everything else that is shown of it.
    async fn shown(&self, run: RunId) -> (bool, String) {
        let run = RunRef::Id(run);
        let view = self.service.get(run).await.unwrap();
        let is_archived = view.is_archived;
        let view = RunView { is_archived: false, ..view };
        let request = WatchRequest { run, after: 0, is_snapshot: true, is_summary: false };
        let mut updates = self.service.watch(request).await.unwrap();
        let mut events = Vec::new();
        while let Some(update) = updates.recv().await {
            events.extend(update.unwrap().events);
        }
        let tasks = self.service.list_tasks(run, TaskFilter::default(), 0, 0).await.unwrap();
        let why = self.service.explain(run, "a".into()).await.unwrap();
        (is_archived, format!("{view:?} {events:?} {tasks:?} {why:?}"))
    }

    async fn listed(&self) -> Vec<RunView> {
        self.service.list_runs(RunFilter::default(), None, 0).await.unwrap().runs
    }
}

fn soon() -> RetentionConfig {
    let check_every = Duration::from_secs(5);
    let archive_after = Duration::from_secs(60);
    RetentionConfig { check_every, archive_after, ..RetentionConfig::default() }
}

#[tokio::test(start_paused = true)]
async fn an_archived_run_is_shown_as_before_by_the_next_leader_too() {
    let mut case = Case::new(soon()).await;
    let run = case.ended_run(1).await;
    let (before, of_list) = (case.shown(run).await, case.listed().await);
    assert!(!before.0);
    case.wait_for((0, 1)).await;
    let after = case.shown(run).await;
    assert_eq!((after.0, &after.1), (true, &before.1));
    let listed = case.listed().await;
    assert!(listed[0].is_archived);
    let whole = |view: &RunView| format!("{:?}", RunView { is_archived: false, ..view.clone() });
    assert_eq!(whole(&listed[0]), whole(&of_list[0]));

    // Everything is in the checkpoints, and another process with the same blob store leads.
    let leader = case.leader.take().unwrap();
    resign_with_checkpoints(leader, &case.store).await;
    let next = Case::on(case.store.clone(), case.dir, soon()).await;
    assert_eq!(next.shown(run).await, after);
    let reference: RunRef = run.to_string()[..8].parse().unwrap();
    assert_eq!(next.service.get(reference).await.unwrap().run, run);
    assert_eq!(next.service.get(RunRef::Last).await.unwrap().run, run);
}

#[tokio::test(start_paused = true)]
async fn an_archived_run_is_brought_back_to_be_retried_and_for_nothing_else() {
    let case = Case::new(soon()).await;
    let run = case.ended_run(1).await;
    case.wait_for((0, 1)).await;
    let refused = case.service.cancel(run.into(), "").await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::WrongState, "{refused}");
    let retry = |which, tasks: &[&str]| {
        let tasks = tasks.iter().map(|task| (*task).to_owned()).collect();
        case.service.retry(RetryRequest { run: run.into(), which, tasks })
    };
    let refused = retry(RetryWhich::Only, &["b"]).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NotFound, "{refused}");
    assert_eq!(case.counts().await, (0, 1));

    let view = retry(RetryWhich::Failed, &[]).await.unwrap();
    assert!(!view.state.is_terminal() && !view.is_archived, "{view:?}");
    assert_eq!(case.counts().await, (1, 0));
    case.service.cancel(run.into(), "enough").await.unwrap();
    case.wait_for((0, 1)).await;
    let (is_archived, shown) = case.shown(run).await;
    assert!(is_archived && shown.contains("RunRetried"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn runs_stay_whole_while_the_blob_store_fails() {
    let case = Case::new(soon()).await;
    let (blobs, aside) = (case.dir.path().join("blobs"), case.dir.path().join("aside"));
    std::fs::rename(&blobs, &aside).unwrap();
    std::fs::write(&blobs, "not a directory").unwrap();
    let run = case.ended_run(1).await;
    let before = case.shown(run).await;
    tokio::time::sleep(LONG).await; // poll: nothing may happen
    assert_eq!(case.counts().await, (1, 0));
    assert_eq!(case.shown(run).await, before);
    let metrics = case.metrics.to_text(Format::Prometheus);
    assert!(metrics.contains("kahn_archive_pending 1"), "{metrics}");
    assert!(!metrics.contains("kahn_archive_failures_total 0"), "{metrics}");

    std::fs::remove_file(&blobs).unwrap();
    std::fs::rename(&aside, &blobs).unwrap();
    case.wait_for((0, 1)).await;
    assert_eq!(case.shown(run).await.1, before.1);
    assert!(case.metrics.to_text(Format::Prometheus).contains("kahn_archive_pending 0"));
}

#[tokio::test(start_paused = true)]
async fn an_archived_run_that_is_not_kept_leaves_nothing() {
    let default = Retain { history_bytes: Some(1), ..Retain::default() };
    let case = Case::new(RetentionConfig { default, ..soon() }).await;
    let run = case.ended_run(1).await;
    case.wait_for((0, 0)).await;
    let removed = async {
        while !case.histories.runs().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await; // poll
        }
    };
    tokio::time::timeout(LONG, removed).await.unwrap();
    let missing = case.service.get(run.into()).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound);
}
