//! Copies an interpreter's output from its pipe into the log of the current call.
//!
//! All calls of an interpreter share one pipe. A call that has replied does not print any more, so
//! the pipe's content at that moment belongs to it. Output between two calls comes from threads
//! left behind by earlier calls, and is discarded.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;

use kahn_executor::logs::LogWriter;

const READ_BYTES: usize = 64 << 10;
/// The maximum number of reads to drain a pipe, enough for the largest unprivileged pipe (1 MiB).
const N_FINAL_READS_MAX: usize = 17;
/// The delay before the next read after one that did not fill its buffer, which batches output.
const GATHER: Duration = Duration::from_millis(5);

/// The worker's end of the pipe.
#[derive(Debug)]
pub(super) struct Output {
    pipe: Receiver,
}

impl Output {
    /// Creates the pipe, and the interpreter's end of it.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = io::pipe()?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let pipe = Receiver::from_owned_fd(ours.into())?;
        Ok((Self { pipe }, theirs.into()))
    }

    /// Discards the pipe's content.
    pub(super) fn discard(&self) {
        let mut n_bytes = 0;
        for _ in 0..N_FINAL_READS_MAX {
            match self.read_now(READ_BYTES) {
                Some(bytes) => n_bytes += bytes.len(),
                None => break,
            }
        }
        if n_bytes > 0 {
            tracing::debug!(n_bytes, "output between two calls is dropped");
        }
    }

    /// Reads up to `n_bytes_max` bytes of the pipe's content.
    pub(super) fn take(&self, n_bytes_max: usize) -> Vec<u8> {
        self.read_now(n_bytes_max).unwrap_or_default()
    }

    /// Reads without consulting the runtime, which may not know yet that the pipe is readable.
    /// Returns `None` if the pipe is empty or closed, and on errors.
    fn read_now(&self, n_bytes_max: usize) -> Option<Vec<u8>> {
        // Most calls print nothing and need no buffer on the heap.
        let mut first = [0u8; 512];
        let n_first = loop {
            match rustix::io::read(&self.pipe, &mut first[..n_bytes_max.min(512)]) {
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => return None,
                Ok(n_bytes) => break n_bytes,
            }
        };
        let mut bytes = Vec::with_capacity(n_bytes_max);
        bytes.extend_from_slice(&first[..n_first]);
        if n_first == first.len() {
            // An error means that the pipe is empty now.
            let _ = rustix::io::read(&self.pipe, spare_capacity(&mut bytes));
        }
        Some(bytes)
    }
}

/// Copies the output of one call into its log.
#[derive(Debug)]
pub(super) struct Copier {
    output: Arc<Output>,
    log: Arc<LogWriter>,
    /// The write in progress. It is always awaited, so that bytes stay in order.
    writing: Option<JoinHandle<()>>,
}

impl Copier {
    pub(super) fn new(output: Arc<Output>, log: Arc<LogWriter>) -> Self {
        Self { output, log, writing: None }
    }

    /// Copies output while it is polled. Cancellation safe.
    pub(super) async fn copy(&mut self) {
        loop {
            self.written().await;
            // After an error, the pipe appears empty at the end of the call.
            if self.output.pipe.readable().await.is_err() {
                return std::future::pending().await;
            }
            let mut bytes = Vec::with_capacity(READ_BYTES);
            match self.output.pipe.try_read_buf(&mut bytes) {
                Ok(0) => return std::future::pending().await,
                Ok(_) => {
                    let (n_bytes, is_filled) = (bytes.len(), bytes.len() == READ_BYTES);
                    self.write(bytes);
                    self.log.throttle(n_bytes).await;
                    if !is_filled {
                        tokio::time::sleep(GATHER).await;
                    }
                }
                Err(_) => {}
            }
        }
    }

    /// Copies the rest of the output and seals the log.
    pub(super) async fn finish(mut self) {
        self.written().await;
        let first = self.output.read_now(READ_BYTES);
        if first.is_none() && self.log.is_empty() {
            return self.log.seal();
        }
        let (output, log) = (Arc::clone(&self.output), Arc::clone(&self.log));
        let finishing = tokio::task::spawn_blocking(move || {
            let rest = std::iter::from_fn(|| output.read_now(READ_BYTES));
            first.into_iter().chain(rest.take(N_FINAL_READS_MAX)).for_each(|b| log.append(&b));
            log.seal();
        });
        if let Err(error) = finishing.await {
            tracing::warn!(log = ?self.log, %error, "log is not sealed");
        }
    }

    fn write(&mut self, bytes: Vec<u8>) {
        if self.log.is_full() {
            return self.log.append(&bytes);
        }
        let log = Arc::clone(&self.log);
        self.writing = Some(tokio::task::spawn_blocking(move || log.append(&bytes)));
    }

    async fn written(&mut self) {
        if let Some(writing) = &mut self.writing {
            if let Err(error) = writing.await {
                tracing::warn!(log = ?self.log, %error, "output cannot be logged");
            }
            self.writing = None;
        }
    }
}
