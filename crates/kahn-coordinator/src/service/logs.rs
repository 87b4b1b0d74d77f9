//! Reading the output of attempts, whether they still run or have ended.
//!
//! The end of an attempt's output is announced only when it has been received, or when it is known
//! that it will never arrive.

mod late;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use kahn_core::Run;
use kahn_model::{AttemptId, RunId, RunRef, TaskIx, TaskState, WorkerId};
use tokio::sync::{mpsc, watch};

use self::late::{LateEnd, fate};
use super::{ErrorKind, Service, ServiceError};
use crate::logs::Extent;
use crate::watchers::News;

/// Parts that may wait for a reader that does not read.
const PARTS_MAX: usize = 4;
/// News of a busy run are gathered for this long.
const GATHER: Duration = Duration::from_millis(20);
/// How often to check whether a worker that owes the end of an output is still present.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Which output of a task to read.
#[derive(Clone, Debug)]
pub(crate) struct LogRequest {
    pub run: RunRef,
    pub task: String,
    /// The latest attempt when zero.
    pub attempt: u32,
    /// Bytes from this offset on.
    pub offset: u64,
    /// Whether to wait for more until the attempt has ended, and for its start if need be.
    pub is_following: bool,
    /// When not zero, only this many bytes before the end to begin with.
    pub tail_bytes: u64,
    /// Whether to continue with later attempts, when following, until the task has ended.
    pub is_through: bool,
}

/// A part of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogPart {
    /// Bytes of the output of an attempt.
    Data { attempt: u32, offset: u64, data: Bytes },
    /// Nothing more follows of this attempt. `cut` says what is missing, and why.
    Sealed { attempt: u32, offset: u64, cut: Option<String> },
    /// Nothing more follows. A reader that does not receive it was cut off.
    End,
}

impl Service {
    /// Reads the output of a task.
    pub(crate) async fn read_logs(
        &self,
        request: LogRequest,
    ) -> Result<mpsc::Receiver<Result<LogPart, ServiceError>>, ServiceError> {
        let (run, task) = self.find_task(request.run, request.task.clone()).await?;
        // Watched first: what happens after the question below is then not missed.
        let news = self.watchers.watch(run);
        let stage = self.ask(run.into(), move |_, run| Stage::of(run, task)).await?;
        let may_begin = request.is_following && !stage.is_done;
        if stage.latest < request.attempt && !may_begin {
            let (latest, wanted) = (stage.latest, request.attempt);
            let message = format!("the task has had {latest} attempts, not {wanted}");
            return Err(ServiceError::not_found(message));
        }
        let first = match request.attempt {
            0 if stage.latest == 0 && !may_begin => None,
            0 => Some(stage.latest.max(1)),
            number => Some(number),
        };
        let (tx, parts) = mpsc::channel(PARTS_MAX);
        let reading = Reading { service: self.clone(), run, task, request, news, tx };
        tokio::spawn(reading.run(first));
        Ok(parts)
    }
}

/// How many attempts a task has had and may still have.
#[derive(Clone, Copy)]
struct Stage {
    /// Its latest attempt; zero before the first.
    latest: u32,
    /// Whether a worker holds that attempt.
    is_held: bool,
    /// Whether there will be no other attempt.
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
    /// The reader has gone away.
    ReaderGone,
    /// The output cannot be read.
    Failed(ServiceError),
}

impl From<ServiceError> for Broken {
    fn from(error: ServiceError) -> Self {
        Self::Failed(error)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        let message = format!("output cannot be read: {error}");
        Self::Failed(ServiceError::new(ErrorKind::Unavailable, message))
    }
}

/// How reading the output of one attempt ended.
enum End {
    /// All of it was sent.
    Sealed,
    /// All that exists was sent; this is why there is no more.
    Cut(String),
    /// The attempt still runs, and is not followed.
    Open,
    /// There will be no such attempt.
    Never,
}

struct Reading {
    service: Service,
    run: RunId,
    task: TaskIx,
    request: LogRequest,
    news: watch::Receiver<News>,
    tx: mpsc::Sender<Result<LogPart, ServiceError>>,
}

impl Reading {
    async fn run(mut self, first: Option<u32>) {
        if let Err(Broken::Failed(error)) = self.send_all(first).await {
            // The reader may have gone away.
            drop(self.tx.send(Err(error)).await);
        }
    }

    async fn send_all(&mut self, first: Option<u32>) -> Result<(), Broken> {
        let mut next = first;
        let (mut offset, mut tail) = (self.request.offset, self.request.tail_bytes);
        while let Some(number) = next {
            let end = self.send_attempt(number, &mut offset, tail).await?;
            let attempt = number;
            match end {
                End::Sealed => self.send(LogPart::Sealed { attempt, offset, cut: None }).await?,
                End::Cut(why) => {
                    self.send(LogPart::Sealed { attempt, offset, cut: Some(why) }).await?;
                }
                End::Open | End::Never => {}
            }
            next = self.following(number).await?;
            (offset, tail) = (0, 0);
        }
        self.send(LogPart::End).await
    }

    async fn send(&self, part: LogPart) -> Result<(), Broken> {
        self.tx.send(Ok(part)).await.map_err(|_| Broken::ReaderGone)
    }

    async fn stage(&self) -> Result<Stage, Broken> {
        let task = self.task;
        Ok(self.service.ask(self.run.into(), move |_, run| Stage::of(run, task)).await?)
    }

    /// Waits for the attempt after this one; `None` when there is none to read.
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
            () = tokio::time::sleep(CHECK_EVERY) => Ok(()),
            () = self.tx.closed() => Err(Broken::ReaderGone),
        }
    }

    async fn wait_for_news(&mut self) -> Result<(), Broken> {
        tokio::select! {
            changed = self.news.changed() => match changed {
                Ok(()) => tokio::time::sleep(GATHER).await,
                Err(_) => return Err(Broken::ReaderGone),
            },
            () = self.tx.closed() => return Err(Broken::ReaderGone),
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
        let mut late = LateEnd::default();
        loop {
            printed.mark_unchanged();
            self.news.mark_unchanged();
            let data = logs.read(attempt, *offset).await?;
            if !data.is_empty() {
                let at = *offset;
                *offset += u64::try_from(data.len()).unwrap_or(0);
                self.send(LogPart::Data { attempt: number, offset: at, data }).await?;
                late = LateEnd::default();
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
                    // Output may have arrived before the end was known: read it first.
                    continue;
                }
                if !self.request.is_following {
                    return Ok(End::Open);
                }
                if stage.is_done {
                    return Ok(End::Never);
                }
            } else if let Some(end) = self.end_of_over(attempt, extent, &mut late).await? {
                return Ok(end);
            }
            tokio::select! {
                _ = printed.changed() => {}
                waited = self.wait(is_over) => waited?,
            }
        }
    }

    /// How the output of an attempt ends that is over and whose output is not sealed; `None` while
    /// the rest is still waited for.
    async fn end_of_over(
        &self,
        attempt: AttemptId,
        extent: Option<Extent>,
        late: &mut LateEnd,
    ) -> Result<Option<End>, Broken> {
        if extent.is_none() {
            // Nothing was printed, or all of it was removed.
            if self.service.logs.was_removed(self.run).await {
                let why = "it was removed to make room (limits.total_log_bytes)";
                return Ok(Some(End::Cut(why.into())));
            }
            return Ok(Some(End::Sealed));
        }
        let asked = self.service.handle.query(move |core| fate(core, attempt)).await;
        let Some(fate) = asked.map_err(ServiceError::from)? else {
            return Ok(Some(End::Sealed));
        };
        if !late.is_given_up(&fate, self.request.is_following) {
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
