//! What was said, as the attempt's log shows it: `>` before what was sent, `<` before what was
//! answered, then the body as it came, and `[kahn]` before remarks.

use std::fmt::Display;
use std::sync::Arc;

use reqwest::header::HeaderMap;

use super::mask::Header;
use kahn_executor::logs::LogWriter;

/// Bytes that gather before they are written.
const GATHERED_BYTES_MAX: usize = 64 << 10;

/// Writes the log of an attempt without holding up the event loop.
#[derive(Debug)]
pub(super) struct Transcript {
    log: Arc<LogWriter>,
    gathered: Vec<u8>,
}

impl Transcript {
    pub(super) fn new(log: Arc<LogWriter>) -> Self {
        Self { log, gathered: Vec::new() }
    }

    /// Adds a line.
    pub(super) fn line(&mut self, text: impl Display) {
        self.end_line();
        self.gathered.extend_from_slice(text.to_string().as_bytes());
        self.gathered.push(b'\n');
    }

    /// Adds a remark of the worker's own.
    pub(super) fn remark(&mut self, text: impl Display) {
        self.line(format_args!("[kahn] {text}"));
    }

    /// Adds headers, with credentials masked, and the empty line after them.
    pub(super) fn headers(&mut self, sign: char, headers: &HeaderMap) {
        for (name, value) in headers {
            self.line(format_args!("{sign} {}", Header(name, value)));
        }
        self.line(sign);
    }

    /// Adds a part of a body.
    pub(super) async fn body(&mut self, bytes: &[u8]) {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHERED_BYTES_MAX {
            self.flush().await;
        }
    }

    /// Whether what is added from here on is not kept.
    pub(super) fn is_full(&self) -> bool {
        self.log.is_full()
    }

    /// Writes what has gathered.
    pub(super) async fn flush(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        if gathered.is_empty() {
            return;
        }
        if self.log.is_full() {
            return self.log.append(&gathered);
        }
        let log = Arc::clone(&self.log);
        if let Err(error) = tokio::task::spawn_blocking(move || log.append(&gathered)).await {
            tracing::warn!(log = ?self.log, %error, "part of a log is lost");
        }
    }

    /// Writes what has gathered, and ends the log.
    pub(super) async fn seal(mut self) {
        self.end_line();
        self.flush().await;
        self.log.seal();
    }

    /// Bodies often end within a line.
    fn end_line(&mut self) {
        if self.gathered.last().is_some_and(|&byte| byte != b'\n') {
            self.gathered.push(b'\n');
        }
    }
}
