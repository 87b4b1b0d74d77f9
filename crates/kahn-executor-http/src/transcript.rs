//! Writes an exchange to the attempt's log: `>` before what was sent, `<` before what was received,
//! then the body unchanged, and `[kahn]` before remarks.

use std::fmt::Display;
use std::sync::Arc;

use reqwest::header::HeaderMap;

use super::mask::Header;
use kahn_executor::logs::LogWriter;

/// The number of bytes that are buffered before they are written.
const GATHERED_BYTES_MAX: usize = 64 << 10;

/// Writes to the log of an attempt without blocking the event loop.
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

    /// Adds a remark by the worker.
    pub(super) fn remark(&mut self, text: impl Display) {
        self.line(format_args!("[kahn] {text}"));
    }

    /// Adds headers, with credentials masked, and an empty line.
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

    /// Returns whether the log is full, so that further bytes are discarded.
    pub(super) fn is_full(&self) -> bool {
        self.log.is_full()
    }

    /// Writes the buffered bytes.
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
            tracing::warn!(log = ?self.log, %error, "part of a log cannot be written");
        }
    }

    /// Writes the buffered bytes and seals the log.
    pub(super) async fn seal(mut self) {
        self.end_line();
        self.flush().await;
        self.log.seal();
    }

    /// Ends the current line, since bodies often end without a line break.
    fn end_line(&mut self) {
        if self.gathered.last().is_some_and(|&byte| byte != b'\n') {
            self.gathered.push(b'\n');
        }
    }
}
