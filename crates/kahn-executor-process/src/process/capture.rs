//! From the pipe of a task into its log.
//!
//! Why a pipe, and not the log file itself as the task's standard output: making a file costs as
//! much as starting a process, and most tasks print nothing; the cap on a log is kept to the
//! byte, where a file could only be cut after the fact; and `echo x > /dev/stderr`, common in
//! scripts, would empty the file. One pipe serves both streams, which keeps their order and
//! gives up telling them apart. The price is that bytes are copied once, and that tasks do not
//! outlive their worker, which they would not anyway.
//!
//! A task that prints faster than the disk takes it, or than the rate, has to wait, as in any pipe.
//! What it prints beyond the cap is read and dropped.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use tokio::net::unix::pipe::Receiver;
use tokio_util::sync::CancellationToken;

use super::RunsOn;
use kahn_executor::logs::LogWriter;

/// The first read; later ones grow while they are filled, up to the usual size of a pipe.
const READ_BYTES_MIN: usize = 4 << 10;
const READ_BYTES_MAX: usize = 64 << 10;
/// After a read that found less than it could, how long output may gather before the next: a
/// chatty task then costs a few hundred writes a second, not one for each of its lines.
const GATHER: Duration = Duration::from_millis(5);
/// Reads after the end of the attempt: all that a pipe can hold (1 MiB without privilege).
const N_FINAL_READS_MAX: usize = 17;

/// A pipe from a task to [`pump`]; its read end does not block.
pub(super) fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok((reader, writer))
}

/// What a read found.
enum Found {
    Bytes(Vec<u8>),
    Nothing,
    End,
}

/// Copies into the log what a task prints, until no process holds the pipe, or `ended` says that
/// all that matter are dead and the pipe is empty. Then seals the log. On a lane, which nothing
/// comes to before it is over, the pipe is read once all are dead.
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
        tracing::warn!(?log, %error, "output is lost");
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
                    () = log.keep_pace(n_bytes) => {}
                    () = ended.cancelled() => {}
                }
                if is_filled {
                    read_bytes = (read_bytes * 4).min(READ_BYTES_MAX);
                } else {
                    let _ = tokio::time::timeout(GATHER, ended.cancelled()).await;
                }
            }
        }
    }
}

/// Copies what the pipe holds. The runtime may not have heard of all of it, so it is not asked.
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
