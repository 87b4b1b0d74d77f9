//! The frames between the worker and an interpreter, as `worker.py` describes them.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net;
use std::time::Duration;

use kahn_model::limits::OUTPUT_BYTES_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Longest JSON of a result that is sent at all. What is within the limit of outputs has, with
/// quotes and separators, no more than this.
pub(super) const RESULT_BYTES_MAX: usize = 4 * OUTPUT_BYTES_MAX;
const HEAD_BYTES: usize = 10;
const REPLY_BYTES_MAX: usize = RESULT_BYTES_MAX + (64 << 10);

/// What an interpreter says.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) kind: Kind,
    /// Whether the interpreter is not fit for another call.
    pub(super) is_spent: bool,
    /// Processor time of the interpreter and its dead children since its start.
    pub(super) cpu: Duration,
    pub(super) text: String,
}

/// What a reply is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It has started; the text is the version of Python.
    Hello,
    /// It lives.
    Pong,
    /// The function returned; the text is JSON.
    Result,
    /// The function raised; the text is the type, NUL, and what and where.
    Exception,
    /// The function asked for an exit with the code in the text, which is not zero.
    Exit,
    /// The working directory cannot be entered; the text says why.
    BadDirectory,
}

/// The worker's end.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Connection {
    /// A connection, and the end for the interpreter.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let stream = UnixStream::from_std(ours)?;
        Ok((Self { stream, received: Vec::with_capacity(4 << 10) }, theirs.into()))
    }

    /// Sends a frame and waits for the reply. When it is dropped before its end, the connection
    /// cannot be used any more.
    pub(super) async fn exchange(&mut self, frame: &[u8]) -> io::Result<Reply> {
        self.stream.write_all(frame).await?;
        self.receive().await
    }

    /// Asks for a sign of life.
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
