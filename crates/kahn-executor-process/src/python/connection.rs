//! The protocol between the worker and an interpreter. The frames are documented in `worker.py`.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net;
use std::time::Duration;

use kahn_model::limits::OUTPUT_BYTES_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// The maximum size of a result as JSON. A result within the limit of outputs, including quotes and
/// separators, is never longer.
pub(super) const RESULT_BYTES_MAX: usize = 4 * OUTPUT_BYTES_MAX;
const HEAD_BYTES: usize = 10;
const REPLY_BYTES_MAX: usize = RESULT_BYTES_MAX + (64 << 10);

/// A reply of an interpreter.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) kind: Kind,
    /// Whether the interpreter must not be used for another call.
    pub(super) is_spent: bool,
    /// CPU time of the interpreter and its reaped children since its start.
    pub(super) cpu: Duration,
    pub(super) text: String,
}

/// The kind of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The interpreter has started; the text is the Python version.
    Hello,
    /// The answer to a ping.
    Pong,
    /// The function returned; the text is JSON.
    Result,
    /// The function raised an exception; the text is its type, NUL, and its message and traceback.
    Exception,
    /// The function exited with the code in the text, which is not 0.
    Exit,
    /// The working directory cannot be entered; the text is the error.
    BadDirectory,
}

/// The worker's end of the connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Connection {
    /// Creates a connection, and the interpreter's end of it.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let stream = UnixStream::from_std(ours)?;
        Ok((Self { stream, received: Vec::with_capacity(4 << 10) }, theirs.into()))
    }

    /// Sends a frame and waits for the reply. Not cancellation safe: if the future is dropped
    /// early, the connection must not be used again.
    pub(super) async fn exchange(&mut self, frame: &[u8]) -> io::Result<Reply> {
        self.stream.write_all(frame).await?;
        self.receive().await
    }

    /// Checks that the interpreter responds.
    pub(super) async fn ping(&mut self) -> io::Result<()> {
        match self.exchange(&[0; 4]).await?.kind {
            Kind::Pong => Ok(()),
            kind => Err(io::Error::other(format!("unexpected reply {kind:?}"))),
        }
    }

    pub(super) async fn receive(&mut self) -> io::Result<Reply> {
        self.received.clear();
        while self.received.len() < 4 {
            self.read_some().await?;
        }
        let length = u32::from_le_bytes(self.received[..4].try_into().map_err(io::Error::other)?);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !(HEAD_BYTES..=REPLY_BYTES_MAX).contains(&length) {
            return Err(io::Error::other(format!("reply of {length} bytes")));
        }
        self.received.reserve(4 + length - self.received.len().min(4 + length));
        while self.received.len() < 4 + length {
            self.read_some().await?;
        }
        parse(&self.received[4..4 + length])
    }

    async fn read_some(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn parse(bytes: &[u8]) -> io::Result<Reply> {
    let (head, text) = bytes.split_at(HEAD_BYTES);
    let kind = match head[0] {
        b'H' => Kind::Hello,
        b'P' => Kind::Pong,
        b'R' => Kind::Result,
        b'E' => Kind::Exception,
        b'X' => Kind::Exit,
        b'D' => Kind::BadDirectory,
        other => return Err(io::Error::other(format!("reply of unknown kind {other}"))),
    };
    let cpu_micros = u64::from_le_bytes(head[2..].try_into().map_err(io::Error::other)?);
    Ok(Reply {
        kind,
        is_spent: head[1] != 0,
        cpu: Duration::from_micros(cpu_micros),
        text: String::from_utf8(text.to_vec()).map_err(io::Error::other)?,
    })
}
