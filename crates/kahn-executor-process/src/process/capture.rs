//! Copies a task's output from a pipe into its log.
//!
//! The log file is not used directly as standard output for three reasons. Creating a file costs as
//! much as starting a process, and most tasks print nothing. The log's size limit is exact to the
//! byte, whereas a file could only be truncated afterwards. And `echo x > /dev/stderr`, common in
//! scripts, would truncate the file.
//!
//! One pipe serves both streams, which preserves their order but does not distinguish them. The
//! costs are one copy of all bytes, and that tasks cannot outlive their worker, which they do not
//! do anyway.
//!
//! A task that prints faster than the disk or the rate limit allows blocks on the pipe. Output
//! beyond the size limit is read and discarded.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use tokio::net::unix::pipe::Receiver;
use tokio_util::sync::CancellationToken;

use super::RunsOn;
use kahn_executor::logs::LogWriter;

/// The size of the first read. Later reads grow, while they are full, up to the usual pipe
/// capacity.
const READ_BYTES_MIN: usize = 4 << 10;
const READ_BYTES_MAX: usize = 64 << 10;
/// Half the usual capacity of a pipe. A full pipe holds more, however its writers filled its pages.
const FILLING_BYTES: usize = 32 << 10;
/// The delays before the next read after one, two and more reads in a row that found little. They
/// batch the output of a task that prints many lines into a few hundred writes a second, and do not
/// hold up one that prints much at once.
const WAITS_FOR_MORE: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(5)];
/// The maximum number of reads after the end of the attempt, enough for the largest unprivileged
/// pipe (1 MiB).
const N_FINAL_READS_MAX: usize = 17;

/// Creates a pipe from a task to [`pump`], with a non-blocking read end.
pub(super) fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok((reader, writer))
}

/// Returns whether so much waits in a pipe that its writers may soon have to wait for a reader.
pub(super) fn is_filling(pipe: &PipeReader) -> bool {
    let n_bytes = rustix::io::ioctl_fionread(pipe).unwrap_or(0);
    usize::try_from(n_bytes).is_ok_and(|n_bytes| FILLING_BYTES <= n_bytes)
}

/// The result of a read.
enum Found {
    Bytes(Vec<u8>),
    Nothing,
    End,
}

/// Copies a task's output into the log until all writers have closed the pipe, or until `ended` is
/// cancelled and the pipe is empty. Then seals the log.
///
/// On a starter thread the pipe is read only after `ended`, since by then all processes of the
/// attempt are dead.
pub(super) async fn pump(
    pipe: PipeReader,
    log: Arc<LogWriter>,
    ended: CancellationToken,
    runs_on: RunsOn,
) {
    let copied = match runs_on {
        RunsOn::Starter => {
            ended.cancelled().await;
            copy_rest(&pipe, &log, runs_on).await
        }
        RunsOn::Runtime => copy(pipe, &log, &ended).await,
    };
    if let Err(error) = copied {
        tracing::warn!(?log, %error, "output cannot be logged");
    }
    let sealing = Arc::clone(&log);
    if log.is_empty() {
        log.seal();
    } else if let Err(error) = runs_on.block(move || sealing.seal()).await {
        tracing::warn!(?log, %error, "log is not sealed");
    }
}

async fn copy(pipe: PipeReader, log: &Arc<LogWriter>, ended: &CancellationToken) -> io::Result<()> {
    let pipe = Receiver::from_owned_fd(pipe.into())?;
    let mut read_bytes = READ_BYTES_MIN;
    let mut n_small = 0;
    loop {
        tokio::select! {
            biased;
            () = ended.cancelled() => return copy_rest(&pipe, log, RunsOn::Runtime).await,
            ready = pipe.readable() => ready?,
        }
        let mut bytes = Vec::with_capacity(read_bytes);
        match found(pipe.try_read_buf(&mut bytes), bytes)? {
            Found::End => return Ok(()),
            Found::Nothing => {}
            Found::Bytes(bytes) => {
                let (n_bytes, is_filled) = (bytes.len(), read_bytes <= bytes.len());
                keep(log, bytes, RunsOn::Runtime).await?;
                tokio::select! {
                    () = log.throttle(n_bytes) => {}
                    () = ended.cancelled() => {}
                }
                if is_filled {
                    read_bytes = (read_bytes * 4).min(READ_BYTES_MAX);
                }
                if is_filled || FILLING_BYTES <= n_bytes {
                    n_small = 0;
                } else {
                    wait_for_more(n_small, ended).await;
                    n_small += 1;
                }
            }
        }
    }
}

/// Waits for more output after a read that found little, as did `n_small` before it.
async fn wait_for_more(n_small: usize, ended: &CancellationToken) {
    let delay = WAITS_FOR_MORE[n_small.min(WAITS_FOR_MORE.len() - 1)];
    if !delay.is_zero() {
        // Whether the attempt has ended is seen by the caller.
        let _ = tokio::time::timeout(delay, ended.cancelled()).await;
    }
}

/// Copies what is left in the pipe. Reads directly, because the runtime may not know yet that the
/// pipe is readable.
async fn copy_rest(pipe: impl AsFd, log: &Arc<LogWriter>, runs_on: RunsOn) -> io::Result<()> {
    let mut read_bytes = READ_BYTES_MIN;
    for _ in 0..N_FINAL_READS_MAX {
        let mut bytes = Vec::with_capacity(read_bytes);
        let read = rustix::io::read(&pipe, spare_capacity(&mut bytes)).map_err(io::Error::from);
        let Found::Bytes(bytes) = found(read, bytes)? else { break };
        keep(log, bytes, runs_on).await?;
        read_bytes = READ_BYTES_MAX;
    }
    Ok(())
}

fn found(read: io::Result<usize>, bytes: Vec<u8>) -> io::Result<Found> {
    match read {
        Ok(0) => Ok(Found::End),
        Ok(_) => Ok(Found::Bytes(bytes)),
        Err(error) if is_for_now(&error) => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}

fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

async fn keep(log: &Arc<LogWriter>, bytes: Vec<u8>, runs_on: RunsOn) -> io::Result<()> {
    if log.is_full() {
        log.append(&bytes);
        return Ok(());
    }
    let log = Arc::clone(log);
    runs_on.block(move || log.append(&bytes)).await
}
