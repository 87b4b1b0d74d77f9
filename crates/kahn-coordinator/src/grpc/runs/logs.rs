//! What attempts printed, to whoever reads it: the same for those that run and those that have
//! ended.
//!
//! A reader is told of the end of an attempt's output only when that has been received, or when it
//! is known that it will not come.

use std::io;
use std::time::Duration;

use kahn_core::{Core, RecordKind, Run};
use kahn_model::{AttemptId, CauseKind, RunId, TaskIx, TaskState, WorkerId};
use kahn_proto::api;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Out, RunService, run_id};
use crate::grpc::refuse;
use crate::logs::Extent;
use crate::watchers::News;

/// Pieces that may wait for a reader that does not read.
const PIECES_MAX: usize = 4;
/// News of a busy run come together.
const GATHER: Duration = Duration::from_millis(20);
/// How often to see whether a worker that owes the end of an output is still there.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long an end that is late is waited for, from the last piece on, while its worker is there:
/// by somebody who does not follow, by somebody who does, and that of an attempt that was lost,
/// whose worker is back and may still have it.
const LATE_MAX: Duration = Duration::from_secs(30);
const LATE_MAX_FOLLOWING: Duration = Duration::from_secs(600);
const LATE_MAX_LOST: Duration = Duration::from_secs(3);

impl RunService {
    pub(super) async fn read_logs(
        &self,
        request: api::LogsRequest,
    ) -> Result<Out<api::LogsResponse>, Status> {
        let run = run_id(&request.run)?;
        // Watched first: what happens after the question below is then not missed.
        let news = self.watchers.watch(run);
        let name = request.task.clone();
        let found = self.ask(run, move |run| {
            let Some(task) = run.dag.task_by_name(&name) else { return Err(name) };
            Ok((task, Stage::of(run, task)))
        });
        let (task, stage) = found
            .await?
            .map_err(|task| refuse::status(kahn_core::Refusal::UnknownTask { run, task }.into()))?;
        let may_begin = request.is_following && !stage.is_done;
        if stage.latest < request.attempt && !may_begin {
            let (latest, wanted) = (stage.latest, request.attempt);
            let message = format!("the task has had {latest} attempts, not {wanted}");
            return Err(Status::not_found(message));
        }
        let first = match request.attempt {
            0 if stage.latest == 0 && !may_begin => None,
            0 => Some(stage.latest.max(1)),
            number => Some(number),
        };
        let (tx, pieces) = mpsc::channel(PIECES_MAX);
        let reading = Reading { service: self.clone(), run, task, request, news, tx };
        tokio::spawn(reading.run(first));
        Ok(Box::pin(ReceiverStream::new(pieces)))
    }
}

/// How far a task has come.
#[derive(Clone, Copy)]
struct Stage {
    /// Its latest attempt; zero before the first.
    latest: u32,
    /// Whether a worker holds that.
    is_held: bool,
    /// Whether there will be no other.
    is_done: bool,
}

impl Stage {
    fn of(run: &Run, task: TaskIx) -> Self {
        let cell = run.cell(task);
        let is_held = matches!(cell.state, TaskState::Leased | TaskState::Running);
        let is_done = cell.state.is_terminal() || run.state.is_terminal();
        Self { latest: u32::from(cell.attempt), is_held, is_done }
    }

    fn is_over(self, number: u32) -> bool {
        number < self.latest || (number == self.latest && !self.is_held)
    }
}

/// Why nothing more is sent.
enum Broken {
    /// Whoever read has gone away.
    Left,
    /// Something is in the way.
    Failed(Status),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Failed(Status::unavailable(format!("output cannot be read: {error}")))
    }
}

/// How the reading of one attempt came to its end.
enum End {
    /// All of it was sent.
    Sealed,
    /// All that there is was sent, and that there is no more has this reason.
    Cut(String),
    /// The attempt goes on, and is not followed.
    Open,
    /// There will be no such attempt.
    Never,
}

/// What is known of an attempt that is over and whose output has no end.
struct Fate {
    is_lost: bool,
    worker: Option<WorkerId>,
    is_worker_present: bool,
    lease_ttl: Duration,
}

struct Reading {
    service: RunService,
    run: RunId,
    task: TaskIx,
    request: api::LogsRequest,
    news: watch::Receiver<News>,
    tx: mpsc::Sender<Result<api::LogsResponse, Status>>,
}

impl Reading {
    async fn run(mut self, first: Option<u32>) {
        if let Err(Broken::Failed(status)) = self.send_all(first).await {
            // Whoever read may have gone away.
            drop(self.tx.send(Err(status)).await);
        }
    }

    async fn send_all(&mut self, first: Option<u32>) -> Result<(), Broken> {
        let mut next = first;
        let (mut offset, mut tail) = (self.request.offset, self.request.tail_bytes);
        while let Some(number) = next {
            let end = self.send_attempt(number, &mut offset, tail).await?;
            let (is_sealed, note) = match end {
                End::Sealed => (true, None),
                End::Cut(note) => (true, Some(note)),
                End::Open | End::Never => (false, None),
            };
            if is_sealed {
                self.send(api::LogsResponse {
                    attempt: number,
                    offset,
                    is_sealed,
                    is_cut: note.is_some(),
                    note: note.unwrap_or_default(),
                    ..Default::default()
                })
                .await?;
            }
            next = self.following(number).await?;
            (offset, tail) = (0, 0);
        }
        self.send(api::LogsResponse { is_end: true, ..Default::default() }).await
    }

    async fn send(&self, piece: api::LogsResponse) -> Result<(), Broken> {
        self.tx.send(Ok(piece)).await.map_err(|_| Broken::Left)
    }

    async fn stage(&self) -> Result<Stage, Broken> {
        let task = self.task;
        Ok(self.service.ask(self.run, move |run| Stage::of(run, task)).await?)
    }

    /// Waits for the attempt after this one; `None` when there is none to be read.
    async fn following(&mut self, number: u32) -> Result<Option<u32>, Broken> {
        if !self.request.is_following || !self.request.is_through {
            return Ok(None);
        }
        loop {
            self.news.mark_unchanged();
            let stage = self.stage().await?;
            if stage.latest > number {
                return Ok(Some(number + 1));
            }
            if stage.is_done {
                return Ok(None);
            }
            self.wait_for_news().await?;
        }
    }

    async fn wait(&mut self, is_over: bool) -> Result<(), Broken> {
        if !is_over {
            return self.wait_for_news().await;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => Ok(()),
            () = self.tx.closed() => Err(Broken::Left),
        }
    }

    async fn wait_for_news(&mut self) -> Result<(), Broken> {
        tokio::select! {
            changed = self.news.changed() => match changed {
                Ok(()) => tokio::time::sleep(GATHER).await,
                Err(_) => return Err(Broken::Left),
            },
            () = self.tx.closed() => return Err(Broken::Left),
        }
        Ok(())
    }

    /// Sends what an attempt has printed from `offset` on, which moves on with it.
    async fn send_attempt(
        &mut self,
        number: u32,
        offset: &mut u64,
        tail_bytes: u64,
    ) -> Result<End, Broken> {
        let attempt = AttemptId { run: self.run, task: self.task, number };
        let logs = self.service.logs.clone();
        let mut printed = logs.watch(attempt);
        if tail_bytes > 0 {
            let len = logs.extent(attempt).await?.unwrap_or_default().len;
            *offset = (*offset).max(len.saturating_sub(tail_bytes));
        }
        let mut is_over = false;
        let mut patience = Patience::default();
        loop {
            printed.mark_unchanged();
            self.news.mark_unchanged();
            let data = logs.read(attempt, *offset).await?;
            if !data.is_empty() {
                let at = *offset;
                *offset += u64::try_from(data.len()).unwrap_or(0);
                self.send(api::LogsResponse {
                    attempt: number,
                    offset: at,
                    data,
                    ..Default::default()
                })
                .await?;
                patience = Patience::default();
                continue;
            }
            let extent = logs.extent(attempt).await?;
            if extent.is_some_and(|extent| *offset < extent.len) {
                continue;
            }
            if extent.is_some_and(|extent| extent.is_sealed) {
                return Ok(End::Sealed);
            }
            if !is_over {
                let stage = self.stage().await?;
                is_over = stage.is_over(number);
                if is_over {
                    // What came before that was known is read first.
                    continue;
                }
                if !self.request.is_following {
                    return Ok(End::Open);
                }
                if stage.is_done {
                    return Ok(End::Never);
                }
            } else if let Some(end) = self.end_of_over(attempt, extent, &mut patience).await? {
                return Ok(end);
            }
            tokio::select! {
                _ = printed.changed() => {}
                waited = self.wait(is_over) => waited?,
            }
        }
    }

    /// The end of the output of an attempt that is over and whose output is not sealed, if that is
    /// not to be waited for.
    async fn end_of_over(
        &self,
        attempt: AttemptId,
        extent: Option<Extent>,
        patience: &mut Patience,
    ) -> Result<Option<End>, Broken> {
        if extent.is_none() {
            // Nothing was printed; or all of it is gone.
            if self.service.logs.was_removed(self.run).await {
                let why = "it was removed to make room (limits.total_log_bytes)";
                return Ok(Some(End::Cut(why.into())));
            }
            return Ok(Some(End::Sealed));
        }
        let asked = self.service.handle.query(move |core| fate(core, attempt)).await;
        let Some(fate) = asked.map_err(refuse::status)? else { return Ok(Some(End::Sealed)) };
        if !patience.is_over(&fate, self.request.is_following) {
            return Ok(None);
        }
        let worker = fate.worker.as_ref().map_or("unknown", WorkerId::as_str);
        let note = match fate.is_lost {
            true => format!("worker {worker} was lost; what was printed last may be missing"),
            false => format!("the end has not come from worker {worker}"),
        };
        Ok(Some(End::Cut(note)))
    }
}

/// How long an end has been waited for.
#[derive(Default)]
struct Patience {
    began_at: Option<Instant>,
    /// Since when the worker is not there.
    gone_since: Option<Instant>,
}

impl Patience {
    fn is_over(&mut self, fate: &Fate, is_following: bool) -> bool {
        let now = Instant::now();
        let began_at = *self.began_at.get_or_insert(now);
        let longest = match (fate.is_lost, is_following) {
            (true, _) => LATE_MAX_LOST,
            (false, true) => LATE_MAX_FOLLOWING,
            (false, false) => LATE_MAX,
        };
        if now - began_at > longest || (fate.is_lost && !fate.is_worker_present) {
            return true;
        }
        if fate.is_worker_present {
            self.gone_since = None;
            return false;
        }
        // A coordinator that has just started hears of its workers within a lease.
        now - *self.gone_since.get_or_insert(now) > fate.lease_ttl
    }
}

/// Who had an attempt, and whether it was lost with it; `None` when the run is gone.
fn fate(core: &Core, attempt: AttemptId) -> Option<Fate> {
    let run = core.state().run(attempt.run)?;
    let of_attempt = run.history.iter().rev().filter(|record| {
        record.task == attempt.task.0 && u32::from(record.attempt) == attempt.number
    });
    let (mut is_lost, mut worker) = (false, None);
    for record in of_attempt {
        let is_end = matches!(record.kind, RecordKind::TaskRetried | RecordKind::TaskFailed);
        is_lost |= is_end && record.cause == Some(CauseKind::WorkerLost);
        if record.kind == RecordKind::TaskLeased {
            let position = usize::from(record.worker).checked_sub(1);
            worker = position.and_then(|at| run.workers.get(at)).cloned();
            break;
        }
    }
    let known = worker.as_ref().and_then(|worker| core.state().worker(worker));
    let is_worker_present = known.is_some_and(|worker| worker.status.is_present());
    let lease_ttl = core.state().settings().lease_ttl;
    Some(Fate { is_lost, worker, is_worker_present, lease_ttl })
}
