//! A leadership: the driver, and the services that depend on it.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use kahn_model::Timestamp;
use kahn_proto::api::backups_server::BackupsServer;
use kahn_proto::api::runs_server::RunsServer;
use kahn_proto::api::workers_server::WorkersServer;
use kahn_proto::worker::sessions_server::SessionsServer;
use kahn_runtime::clock::Clock;
use kahn_runtime::telemetry::Traces;
use kahn_store::{Appender, LogStore, is_restored};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tonic::service::Routes;
use tracing::{error, info};

use crate::config::{Limits, RetentionConfig};
use crate::driver::{Driver, Ended, Log, Parts};
use crate::evaluate::Evaluators;
use crate::grpc::backups::BackupService;
use crate::grpc::runs::RunService;
use crate::grpc::sessions::SessionService;
use crate::grpc::workers::WorkerService;
use crate::histories::{ArchiveStats, Archiving, Histories};
use crate::inbox::{Handle, Input};
use crate::logs::Logs;
use crate::replica::Recovered;
use crate::retention;
use crate::role::Role;
use crate::service::{Exports, Service};
use crate::sessions::Sessions;
use crate::spans::Spans;
use crate::stats::Stats;
use crate::watchers::Watchers;

/// Capacity of the driver's inbox; senders wait if it is full.
const INBOX_MAX: usize = 8192;

/// What a coordinator keeps from one leadership to the next.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub store: Arc<dyn LogStore>,
    pub limits: Limits,
    pub retention: RetentionConfig,
    pub logs: Logs,
    pub histories: Histories,
    pub archive_stats: ArchiveStats,
    /// Whether other coordinators can use the store.
    pub is_store_shared: bool,
    pub stats: Stats,
    pub traces: Traces,
    /// Sessions are numbered over all leaderships.
    pub next_session: Arc<AtomicU64>,
}

/// A leadership. Dropping it ends it immediately, like a crash.
#[derive(Debug)]
pub(crate) struct Leader {
    handle: Handle,
    driver: JoinHandle<Ended>,
    retention: JoinHandle<()>,
    archiving: JoinHandle<()>,
    leads_until: watch::Receiver<Instant>,
    watchers: Watchers,
    routes: Routes,
}

impl Leader {
    /// Starts the driver on the recovered state, and the services.
    ///
    /// `elected_at` is when the request was sent by which this coordinator became the leader.
    pub(crate) fn start(
        recovered: Recovered,
        elected_at: Instant,
        shared: &Shared,
    ) -> io::Result<Self> {
        let Recovered { mut core, owned, latest } = recovered;
        let clock = Arc::new(Clock::starting_after(latest.0));
        let (tx, inbox) = mpsc::channel(INBOX_MAX);
        let handle = Handle::new(tx.clone());
        let mut durable = Log::new(Arc::clone(&shared.store), tx.clone(), elected_at);
        for owned in &owned {
            let (term, head) = (owned.acquired.term, owned.acquired.head);
            let (store, events) = (Arc::clone(&shared.store), forward(tx.clone()));
            let appender = Appender::spawn(store, owned.partition, term, head, events);
            durable.add(term, appender, owned.log_bytes);
        }
        let leads_until = durable.leads_until();
        let exports = Exports::new(Arc::clone(&shared.store), durable.holds());
        let term = owned[0].acquired.term;
        let now = Timestamp(clock.unix_micros());
        let may_be_elsewhere = shared.is_store_shared || is_restored(term);
        if may_be_elsewhere || shared.logs.is_shared() {
            shared.logs.begin_term(term.epoch, now);
        }
        let first = core.begin(now, term);
        let spans = Spans::new(shared.traces.clone(), core.state());
        let watchers = Watchers::default();
        let parts = Parts {
            core,
            clock,
            inbox,
            durable,
            sessions: Sessions::default(),
            watchers: watchers.clone(),
            evaluators: Evaluators::start_thread(tx)?,
            stats: shared.stats.clone(),
            spans,
        };
        let driver = tokio::spawn(Driver::new(parts, first).run());
        let (retention, archiving) = start_archiving_and_retention(&handle, shared);
        let service = Service::new(
            handle.clone(),
            watchers.clone(),
            shared.logs.clone(),
            shared.histories.clone(),
            shared.limits.clone(),
            exports,
        );
        let routes = routes(service, handle.clone(), leads_until.clone(), shared);
        info!(%term, "leading");
        Ok(Self { handle, driver, retention, archiving, leads_until, watchers, routes })
    }

    /// Returns the role of a coordinator with this leadership.
    pub(crate) fn role(&self) -> Role {
        Role::Leader { routes: self.routes.clone(), driver: self.handle.clone() }
    }

    /// Ends the streams of clients that wait for news, which another coordinator may have.
    pub(crate) fn end_watches(&self) {
        self.watchers.end();
    }

    /// Returns whether it is certain that this coordinator leads.
    pub(crate) fn certainty(&self) -> Certainty {
        Certainty { leads_until: self.leads_until.clone(), is_certain: true }
    }

    /// Waits until the leadership ends by itself.
    pub(crate) async fn ended(&mut self) -> Ended {
        match (&mut self.driver).await {
            Ok(ended) => ended,
            Err(failure) => {
                error!(%failure, "the driver has failed");
                Ended::Failed
            }
        }
    }

    /// Makes everything durable, and releases the partitions. Workers continue with the attempts
    /// that they hold.
    pub(crate) async fn resign(mut self) -> Ended {
        self.retention.abort();
        self.archiving.abort();
        // If the driver has already ended, there is nothing to close.
        drop(self.handle.send(Input::Close).await);
        self.ended().await
    }
}

/// Whether it is certain that a coordinator leads. It is not while the coordinator cannot renew its
/// lease, and it is again if no other coordinator has taken over meanwhile.
#[derive(Debug)]
pub(crate) struct Certainty {
    leads_until: watch::Receiver<Instant>,
    is_certain: bool,
}

impl Certainty {
    /// Waits for a change, and returns the new value. Pending after the end of the leadership.
    pub(crate) async fn changed(&mut self) -> bool {
        loop {
            let until = *self.leads_until.borrow_and_update();
            let is_certain = Instant::now() < until;
            if is_certain != self.is_certain {
                self.is_certain = is_certain;
                return is_certain;
            }
            let renewed = tokio::select! {
                renewed = self.leads_until.changed() => renewed.is_ok(),
                () = sleep_until(until), if is_certain => true,
            };
            if !renewed {
                pending::<()>().await;
            }
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.driver.abort();
        self.retention.abort();
        self.archiving.abort();
    }
}

/// Starts to archive runs, and to remove what is not kept.
fn start_archiving_and_retention(
    handle: &Handle,
    shared: &Shared,
) -> (JoinHandle<()>, JoinHandle<()>) {
    let Shared { logs, histories, retention: config, limits, .. } = shared.clone();
    let stats = shared.archive_stats.clone();
    let archiving = Archiving {
        handle: handle.clone(),
        logs: logs.clone(),
        histories: histories.clone(),
        config: config.clone(),
        stats,
    };
    let runs_max = limits.finished_runs;
    let retention = retention::spawn(handle.clone(), logs, histories, config, runs_max);
    (retention, archiving.spawn())
}

/// Forwards the events of a log to the driver. The inbox has more capacity than all logs can fill.
fn forward(tx: mpsc::Sender<Input>) -> impl Fn(kahn_store::AppendEvent) + Send + 'static {
    move |event| {
        if let Err(mpsc::error::TrySendError::Full(input)) = tx.try_send(Input::Log(event)) {
            let tx = tx.clone();
            tokio::spawn(async move { drop(tx.send(input).await) });
        }
    }
}

fn routes(
    service: Service,
    handle: Handle,
    leads_until: watch::Receiver<Instant>,
    shared: &Shared,
) -> Routes {
    let max = shared.limits.message_bytes;
    let sessions = SessionService {
        handle,
        leads_until,
        logs: shared.logs.clone(),
        histories: shared.histories.clone(),
        next_session: Arc::clone(&shared.next_session),
    };
    let runs = RunsServer::new(RunService(service.clone()));
    let backups = BackupsServer::new(BackupService(service.clone()));
    let workers = WorkersServer::new(WorkerService(service));
    let sessions = SessionsServer::new(sessions);
    Routes::new(runs.max_decoding_message_size(max).max_encoding_message_size(max))
        .add_service(workers.max_decoding_message_size(max).max_encoding_message_size(max))
        .add_service(backups.max_decoding_message_size(max).max_encoding_message_size(max))
        .add_service(sessions.max_decoding_message_size(max).max_encoding_message_size(max))
        .prepare()
}

#[cfg(test)]
mod tests;
