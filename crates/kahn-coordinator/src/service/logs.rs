//! Reads the output of attempts, both running and ended ones.
//!
//! The end of an attempt's output is reported only once it has been received, or once it is certain
//! that it will never arrive.

mod late;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use kahn_core::Run;
use kahn_model::{AttemptId, RunId, RunRef, TaskIx, TaskState, WorkerId};
use tokio::sync::{mpsc, watch};
use tracing::debug;

use self::late::{EndedAttempt, LateEnd, ended_attempt};
use super::{ErrorKind, Service, ServiceError};
use crate::inbox::RequestError;
use crate::logs::Extent;
use crate::watchers::News;

/// Maximum number of parts that wait for a slow reader.
const PARTS_MAX: usize = 4;
/// Delay for combining the news of a busy run.
const GATHER: Duration = Duration::from_millis(20);
/// How often to check whether a worker with pending output is still present.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// How long before a change of leader an attempt must have ended for it to be certain that its
/// output was stored or is still kept by its worker.
const UPLOAD_MAX: Duration = Duration::from_secs(60);

/// Which output of a task to read.
#[derive(Clone, Debug)]
pub(crate) struct LogRequest {
    pub run: RunRef,
    pub task: String,
    /// The number of the attempt, or zero for the latest one.
    pub attempt: u32,
    /// The offset of the first byte to read.
    pub offset: u64,
    /// Whether to wait for more until the attempt has ended, and for its start if necessary.
    pub is_following: bool,
    /// If not zero, starts only this many bytes before the end.
    pub tail_bytes: u64,
    /// Whether to continue with later attempts until the task has ended, when following.
    pub is_through: bool,
}

/// A part of the requested output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogPart {
    /// Bytes of the output of an attempt.
    Data { attempt: u32, offset: u64, data: Bytes },
    /// The attempt has no more output. `cut` names what is missing and the reason.
    Sealed { attempt: u32, offset: u64, cut: Option<String> },
    /// The end of the response. A reader that does not receive it was disconnected.
    End,
}

impl Service {
    /// Reads the output of a task.
    pub(crate) async fn read_logs(
        &self,
        request: LogRequest,
    ) -> Result<mpsc::Receiver<Result<LogPart, ServiceError>>, ServiceError> {
        let (run, task) = self.find_task(request.run, request.task.clone()).await?;
        // Watch before the query below, so that no change is missed.
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

/// The current and possible attempts of a task.
#[derive(Clone, Copy)]
struct Stage {
    /// The latest attempt; zero before the first.
    latest: u32,
    /// Whether a worker holds that attempt.
    is_held: bool,
    /// Whether there will be no further attempt.
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

/// Why reading stopped.
enum Broken {
    /// The reader is gone.
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
    /// All output was sent.
    Sealed,
    /// All existing output was sent; the text is the reason why it is incomplete.
    Cut(String),
    /// The attempt is still running, and it is not followed.
    Open,
    /// The attempt will never exist.
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
            // The reader may be gone.
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

    /// Waits for the attempt after `number`; returns `None` if there is none to read.
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
                Err(_) => return Err(ServiceError::from(RequestError::Stopping).into()),
            },
            () = self.tx.closed() => return Err(Broken::ReaderGone),
        }
        Ok(())
    }

    /// Sends the output of an attempt from `offset` on, and advances `offset`.
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
            let data = match logs.read(attempt, *offset).await {
                Ok(data) => data,
                // Nothing may have come yet that is not at hand.
                Err(error) if self.is_worth_waiting(number, &error).await? => continue,
                Err(error) => return Err(error.into()),
            };
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

    /// Waits after an error if the attempt is being followed and still running; otherwise returns
    /// false.
    async fn is_worth_waiting(&mut self, number: u32, error: &io::Error) -> Result<bool, Broken> {
        if !self.request.is_following || self.stage().await?.is_over(number) {
            return Ok(false);
        }
        debug!(run = %self.run, %error, "output cannot be read for now");
        self.wait(true).await?;
        Ok(true)
    }

    /// Returns how the output of an attempt ends that is over but not sealed, or `None` while
    /// waiting for the rest.
    async fn end_of_over(
        &self,
        attempt: AttemptId,
        extent: Option<Extent>,
        late: &mut LateEnd,
    ) -> Result<Option<End>, Broken> {
        // Nothing was printed, or all output was removed.
        if extent.is_none_or(|extent| extent.len == 0 && !extent.is_sealed)
            && let Some(why) = self.service.logs.why_removed(self.run).await?
        {
            return Ok(Some(End::Cut(why)));
        }
        let asked = self.service.ask(self.run.into(), move |_, run| ended_attempt(run, attempt));
        let ended = match asked.await {
            // The run was removed.
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(Some(End::Sealed)),
            asked => asked?,
        };
        // Of its worker the archived run knows nothing.
        let ended = self.service.handle.query(move |core| ended.with_worker(core)).await;
        let ended = ended.map_err(ServiceError::from)?;
        if extent.is_none() && !self.service.logs.is_expected(attempt) {
            return Ok(self.end_of_silent(&ended));
        }
        if !late.is_given_up(&ended, self.request.is_following) {
            return Ok(None);
        }
        let worker = ended.worker.as_ref().map_or("unknown", WorkerId::as_str);
        let note = match ended.is_lost {
            true => format!("worker {worker} was lost; what was printed last may be missing"),
            false => format!("the end has not come from worker {worker}"),
        };
        Ok(Some(End::Cut(note)))
    }

    /// Returns how the output of an attempt ends of which there is none, or `None` while waiting.
    fn end_of_silent(&self, ended: &EndedAttempt) -> Option<End> {
        let logs = &self.service.logs;
        let since = logs.complete_since();
        // A worker that is present has named the output that it has.
        if since <= ended.leased_at || (logs.is_shared() && ended.is_worker_present) {
            return Some(End::Sealed);
        }
        if !logs.is_shared() {
            return Some(End::Cut("another coordinator has received it, if there was any".into()));
        }
        if logs.term_age() < ended.lease_ttl {
            return None;
        }
        if ended.ended_at + UPLOAD_MAX < since {
            return Some(End::Sealed);
        }
        let worker = ended.worker.as_ref().map_or("unknown", WorkerId::as_str);
        let note = format!(
            "worker {worker} and a coordinator were lost before it was stored, if there was any"
        );
        Some(End::Cut(note))
    }
}
