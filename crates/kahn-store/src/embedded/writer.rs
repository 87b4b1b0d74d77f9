//! The writer thread, which commits pending writes in groups.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;

use redb::{Database, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use crate::error::StoreError;

/// The maximum number of queued jobs. Each owner has at most two appends in flight.
const QUEUE_MAX: usize = 1024;

/// The maximum number of jobs per commit.
const GROUP_MAX: usize = 256;

/// One job inside the transaction of its group.
trait Job: Send {
    /// Does the work. If it returns `false`, the transaction must not be committed.
    fn work(&mut self, tx: &WriteTransaction) -> bool;

    /// Sends the result after the commit. `failure` is the error of the commit, if it failed.
    fn answer(self: Box<Self>, failure: Option<StoreError>);
}

struct Task<F, T> {
    work: Option<F>,
    result: Option<Result<T, StoreError>>,
    tx: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Job for Task<F, T>
where
    F: FnOnce(&WriteTransaction) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn work(&mut self, tx: &WriteTransaction) -> bool {
        let Some(work) = self.work.take() else {
            return true;
        };
        let result = work(tx);
        let is_sound = !matches!(result, Err(StoreError::Embedded(_)));
        self.result = Some(result);
        is_sound
    }

    fn answer(self: Box<Self>, failure: Option<StoreError>) {
        let result = match (failure, self.result) {
            (_, Some(Err(error))) | (Some(error), _) => Err(error),
            (None, Some(Ok(value))) => Ok(value),
            (None, None) => Err(StoreError::Closed),
        };
        // The receiver may have been dropped.
        drop(self.tx.send(result));
    }
}

/// The pending result of a job.
#[derive(Debug)]
pub(super) struct Outcome<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> Future for Outcome<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll(cx)).unwrap_or(Err(StoreError::Closed)))
    }
}

/// A handle to the writer thread. The thread ends when the last handle is dropped.
#[derive(Debug)]
pub(super) struct Writer(Option<Handle>);

#[derive(Debug)]
struct Handle {
    queue: mpsc::Sender<Box<dyn Job>>,
    thread: thread::JoinHandle<()>,
}

impl Writer {
    pub(super) fn spawn(database: Arc<Database>) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let builder = thread::Builder::new().name("kahn-store".to_owned());
        let thread = builder.spawn(move || write_all(&database, jobs))?;
        Ok(Self(Some(Handle { queue, thread })))
    }

    /// Runs `work` in a transaction and returns after the commit.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (job, outcome) = job(work);
        self.queue()?.send(job).await.map_err(|_| StoreError::Closed)?;
        outcome.await
    }

    /// Like [`run`](Self::run), but fails instead of waiting if the queue is full.
    pub(super) fn try_start<T: Send + 'static>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<Outcome<T>, StoreError> {
        let (job, outcome) = job(work);
        self.queue()?.try_send(job).map_err(|_| StoreError::Closed)?;
        Ok(outcome)
    }

    fn queue(&self) -> Result<&mpsc::Sender<Box<dyn Job>>, StoreError> {
        self.0.as_ref().map(|handle| &handle.queue).ok_or(StoreError::Closed)
    }
}

impl Drop for Writer {
    /// Joins the thread, so that the file is unlocked once the store is dropped.
    fn drop(&mut self) {
        if let Some(Handle { queue, thread }) = self.0.take() {
            drop(queue);
            drop(thread.join());
        }
    }
}

fn job<T: Send + 'static>(
    work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError> + Send + 'static,
) -> (Box<dyn Job>, Outcome<T>) {
    let (tx, rx) = oneshot::channel();
    (Box::new(Task { work: Some(work), result: None, tx }), Outcome(rx))
}

fn write_all(database: &Database, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
    let mut group = Vec::new();
    while let Some(first) = jobs.blocking_recv() {
        group.push(first);
        while group.len() < GROUP_MAX
            && let Ok(next) = jobs.try_recv()
        {
            group.push(next);
        }
        let failed = commit(database, &mut group).err();
        let text = failed.map(|error| error.to_string());
        for job in group.drain(..) {
            job.answer(text.clone().map(|t| StoreError::embedded(redb::Error::Corrupted(t))));
        }
    }
}

fn commit(database: &Database, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    let tx = database.begin_write().map_err(StoreError::embedded)?;
    if group.iter_mut().all(|job| job.work(&tx)) {
        return tx.commit().map_err(StoreError::embedded);
    }
    tx.abort().map_err(StoreError::embedded)?;
    Err(StoreError::Damaged("work in the same commit failed".to_owned()))
}
