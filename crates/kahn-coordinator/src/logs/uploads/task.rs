//! The task that uploads one output.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use kahn_model::{AttemptId, Token};
use kahn_runtime::backoff::Backoff;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::doubt::Doubt;
use super::{CONCURRENT_BYTES, COUNTED_BYTES_MIN, Upload, Uploads};
use crate::logs::chunks::{self, Next};
use crate::logs::objects::Object;
use crate::logs::{Extent, Logs};

/// How long an output may be idle before its local file is removed.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Upper bounds of the delays after a failed upload.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// The task that uploads one output.
pub(super) struct Uploading {
    uploads: Uploads,
    logs: Logs,
    attempt: AttemptId,
    token: Token,
    extent: watch::Receiver<Extent>,
    is_stored: watch::Sender<bool>,
    doubt: Arc<Doubt>,
    /// The number of bytes in the blob store.
    stored: u64,
    n_small: u32,
    /// Since when there are bytes to upload.
    waiting_since: Instant,
    backoff: Backoff,
}

/// What follows a step.
enum Step {
    Continue,
    /// Nothing is left to do.
    Over,
}

impl Uploading {
    pub(super) fn new(
        uploads: Uploads,
        logs: Logs,
        attempt: AttemptId,
        upload: &Upload,
        base: u64,
    ) -> Self {
        Self {
            uploads,
            logs,
            attempt,
            token: upload.token,
            extent: upload.extent.subscribe(),
            is_stored: upload.is_stored.clone(),
            doubt: Arc::clone(&upload.doubt),
            stored: base,
            n_small: 0,
            waiting_since: Instant::now(),
            backoff: Backoff::new(FIRST_DELAY, LONGEST_DELAY),
        }
    }

    /// Runs until everything is uploaded, or the output is removed.
    pub(super) async fn run(mut self) {
        while self.is_wanted() {
            if !self.uploads.is_allowed() {
                self.uploads.wait_until_allowed().await;
                continue;
            }
            match self.step().await {
                Ok(Step::Continue) => {}
                Ok(Step::Over) => return,
                Err(error) => self.pause(&error).await,
            }
        }
    }

    async fn step(&mut self) -> io::Result<Step> {
        let extent = *self.extent.borrow_and_update();
        if let Some(pending) = self.doubt.pending() {
            let step = self.look().await?;
            self.doubt.settle(pending);
            return Ok(step);
        }
        match chunks::next(self.stored, extent, self.waiting_since.elapsed(), self.n_small) {
            Next::Wait(patience) => self.wait(patience).await,
            Next::Part(range) => {
                let put = self.put(range.start, range.end, false).await;
                self.waiting_since = Instant::now();
                put
            }
            Next::End(range) => self.put(range.start, range.end, true).await,
        }
    }

    /// Returns whether the output still exists.
    fn is_wanted(&self) -> bool {
        let active = self.uploads.lock();
        let upload = active.get(&self.attempt);
        upload.is_some_and(|upload| upload.extent.subscribe().same_channel(&self.extent))
    }

    /// Waits for more output: no longer than `patience` if there is something to upload, and
    /// otherwise until the output is idle.
    async fn wait(&mut self, patience: Option<Duration>) -> io::Result<Step> {
        let longest = patience.unwrap_or(IDLE_MAX);
        let changed = tokio::time::timeout(longest, self.extent.changed()).await;
        if patience.is_some() {
            return Ok(Step::Continue);
        }
        self.waiting_since = Instant::now();
        match changed {
            Ok(_) => Ok(Step::Continue),
            Err(_) => self.retire().await,
        }
    }

    /// Waits until concurrent uploads leave room for `n_bytes`.
    async fn permit(&self, n_bytes: u64) -> io::Result<OwnedSemaphorePermit> {
        let n_bytes = u32::try_from(n_bytes).unwrap_or(CONCURRENT_BYTES);
        let n_bytes = n_bytes.clamp(COUNTED_BYTES_MIN, CONCURRENT_BYTES);
        // The semaphore is never closed.
        let permits = Arc::clone(&self.uploads.permits).acquire_many_owned(n_bytes).await;
        permits.map_err(io::Error::other)
    }

    async fn pause(&mut self, error: &io::Error) {
        self.uploads.stats.failures.inc();
        self.uploads.trouble.begin(error);
        tokio::time::sleep(self.backoff.next_delay()).await;
    }

    /// Looks for what another coordinator has uploaded.
    async fn look(&mut self) -> io::Result<Step> {
        let permit = self.permit(0).await?;
        let found = self.uploads.archive.find(self.attempt).await;
        drop(permit);
        let found = found?;
        self.recovered();
        if found.owner.is_some_and(|owner| owner != self.token) {
            // What is there was printed under the lease that came first.
            self.logs.remove_local(self.attempt).await?;
            return Ok(self.end_if_unchanged());
        }
        if found.extent.is_sealed {
            // First, so that readers turn to the store before the file is gone.
            self.is_stored.send_replace(true);
            self.logs.remove_local(self.attempt).await?;
            return Ok(self.end_if_unchanged());
        }
        self.stored = self.stored.max(found.extent.len);
        if self.logs.drop_shorter(self.attempt, self.stored).await? {
            // The worker continues from where the other coordinator was.
            return Ok(self.end_if_unchanged());
        }
        // More may have been received meanwhile.
        let extent = *self.extent.borrow();
        if extent.is_sealed && extent.len < self.stored {
            // This coordinator has cut the output at a limit. The line that says so is not in the
            // store, so everything that is here is uploaded, which changes nothing else.
            self.stored = self.logs.local_base(self.attempt).unwrap_or(0);
        }
        Ok(Step::Continue)
    }

    async fn put(&mut self, start: u64, end: u64, is_end: bool) -> io::Result<Step> {
        let _permit = self.permit(end.saturating_sub(start)).await?;
        if !self.is_wanted() {
            return Ok(Step::Over);
        }
        let Some(data) = self.logs.read_local(self.attempt, start, end).await? else {
            // The file was removed, and the worker sends again what the blob store does not have.
            return Ok(self.end_if_unchanged());
        };
        let object = Object { token: self.token, start, end, is_end };
        self.uploads.archive.put(self.attempt, object, data).await?;
        self.recovered();
        self.uploads.stats.bytes.inc_by(end - start);
        self.stored = end;
        if !is_end {
            self.n_small = match end - start < chunks::CHUNK_BYTES {
                true => self.n_small.saturating_add(1),
                false => self.n_small,
            };
            return Ok(Step::Continue);
        }
        // First, so that readers turn to the store before the file is gone.
        self.is_stored.send_replace(true);
        self.logs.remove_local(self.attempt).await?;
        Ok(self.end_if_unchanged())
    }

    /// Removes the local file of an output that is idle and completely uploaded so far. An output
    /// of which nothing has come is expected to be late, and is kept in mind.
    async fn retire(&mut self) -> io::Result<Step> {
        if self.stored == 0 || !self.logs.retire(self.attempt, self.stored).await? {
            return Ok(Step::Continue);
        }
        Ok(self.end_if_unchanged())
    }

    fn recovered(&mut self) {
        self.backoff.reset();
        self.uploads.trouble.end();
    }

    fn end_if_unchanged(&self) -> Step {
        match self.uploads.remove_if_unchanged(self.attempt, &self.extent) {
            true => Step::Over,
            false => Step::Continue,
        }
    }
}
